"""Checkpoints: the state of a measurement, whole and checked or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from nonsmooth.lab.cell import KEY, SCRATCH
from nonsmooth.lab.folder import Folder

_MAGIC = b"nonsmooth checkpoint 1\n"
_LIMIT = 1 << 34
_DIGEST_SIZE = hashlib.sha256().digest_size
_HEAD = len(_MAGIC) + _DIGEST_SIZE

_remarks: ContextVar[list[str] | None] = ContextVar("_remarks", default=None)


@contextlib.contextmanager
def collected_remarks() -> Iterator[list[str]]:
    """Collect what is said of checkpoints in this block, which may run in a process without a watcher."""
    remarks: list[str] = []
    token = _remarks.set(remarks)
    try:
        yield remarks
    finally:
        _remarks.reset(token)


def say_unusable(path: Path, reason: object) -> None:
    """Tell that a checkpoint counts as absent: to whoever collects remarks, else as a warning."""
    first = (str(reason).splitlines() or [""])[0] or type(reason).__name__
    message = f"the checkpoint {path} is not used ({first}); the measurement starts anew"
    collected = _remarks.get()
    if collected is None:
        warnings.warn(message, stacklevel=3)
    else:
        collected.append(message)


def save_checkpoint(path: Path, state: dict[str, Any], owner: str = "") -> None:
    """Write a checkpoint: all of it, flushed to the disk, or nothing.

    Args:
        path: of the file. Its folder is made where it is missing; no link in its place is followed.
        state: what `torch.save` writes and `torch.load(..., weights_only=True)` reads.
        owner: whose state it is, such as the key of a cell; it cannot be loaded for another one.

    Raises:
        OSError: the disk refuses.
    """
    torch = importlib.import_module("torch")
    folder, parts = _place(path)
    with folder.writing(*parts) as file:
        file.write(_MAGIC + bytes(_DIGEST_SIZE))
        hashing = _Hashing(file, owner)
        torch.save(state, hashing)
        file.seek(len(_MAGIC))
        file.write(hashing.digest())


def load_checkpoint(path: Path, owner: str = "", device: str = "cpu") -> dict[str, Any] | None:
    """The state in a checkpoint, or None where there is none.

    One that is cut off or damaged, or that is of another owner or another version, counts as absent, and is said.

    Args:
        path: of the file.
        owner: as it was saved with.
        device: a torch device string, of the tensors in the state.
    """
    folder, parts = _place(path)
    try:
        with folder.reading(*parts) as file:
            return _load(file, owner, device)
    except FileNotFoundError:
        return None
    # As with records: whatever a foreign file makes a decoder raise, the file is not a checkpoint.
    except Exception as error:
        say_unusable(path, error)
        return None


def _place(path: Path) -> tuple[Folder, tuple[str, ...]]:
    """The folder below which no link is followed, and the way from there.

    It is the results folder of a cell's checkpoint, and the folder above the checkpoint's own of any other.
    """
    *root, shelf, own, name = path.absolute().parts
    if shelf == SCRATCH and re.fullmatch(KEY, own):
        return Folder(Path(*root)), (shelf, own, name)
    return Folder(Path(*root, shelf)), (own, name)


def _load(file: BinaryIO, owner: str, device: str) -> dict[str, Any]:
    head = file.read(_HEAD)
    if not head.startswith(_MAGIC):
        raise ValueError("it has no checksum: it was cut off, or written by another version or another program")
    if os.fstat(file.fileno()).st_size > _LIMIT:
        raise ValueError(f"it is larger than {_LIMIT:,} bytes")
    hashing = _Hashing(None, owner)
    shutil.copyfileobj(file, hashing, 1 << 20)
    if hashing.digest() != head[len(_MAGIC) :]:
        raise ValueError("it does not match its checksum: it was cut off or damaged, or belongs to another measurement")
    size = file.tell()
    with zipfile.ZipFile(file) as archive:
        # torch never compresses; what is compressed could take any amount of memory.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed")
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise ValueError("it claims to hold more than it does")
    file.seek(_HEAD)
    torch = importlib.import_module("torch")
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError:  # torch would advise to load it anyway
        raise ValueError("it holds other things than tensors, numbers, texts and lists of them") from None
    if not isinstance(state, dict):
        raise TypeError(f"it holds {type(state).__name__}, not the state of a measurement")
    return state


class _Hashing:
    """A file for writing that hashes what passes, and passes it on if there is somewhere to."""

    def __init__(self, file: BinaryIO | None, owner: str) -> None:
        self._file = file
        self._hash = hashlib.sha256(f"{len(owner.encode())}:{owner}".encode())

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        if self._file is not None:
            self._file.write(content)
        return len(content)

    def flush(self) -> None:
        """The file is flushed once it is whole."""

    def digest(self) -> bytes:
        return self._hash.digest()
