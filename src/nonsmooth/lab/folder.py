"""A folder that may be a stranger's: no link in it is followed, and nothing is opened that is not a plain file.

A results folder is shared, unpacked and copied between machines, so what lies in it need not be what we put there.
A symbolic link in the place of a subfolder would let cleaning and writing reach the files of the user; a FIFO in the
place of a file would wait for ever. Every entry is therefore reached by its name within a folder that is held open, so
that nothing can be exchanged between the look at it and its use. The folder itself may be a link: its user named it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_HELD_OPEN = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_TREE_DEPTH = 16
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotOursError(OSError):
    """In the place of a file or a folder that we would make stands something else. It is left as it is."""

    def __init__(self, path: Path, mode: int, wanted: str) -> None:
        self.place = path
        kind = _KINDS.get(stat.S_IFMT(mode), "a file")
        super().__init__(errno.EINVAL, f"{path} is {kind}, not {wanted}", str(path))


class Folder:
    """A folder that is read, written and cleaned without leaving it.

    Args:
        root: the folder. It is made when something is first written; it may be a symbolic link to a folder.

    Entries are named by their parts, the last one being the file. Every method may raise an `OSError`, which is a
    `NotOursError` where a link or another thing stands in the place of what was asked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def make(self, *parts: str) -> None:
        """Make the subfolder, and the folder itself, where they are missing."""
        with self._at(parts, make=True):
            pass

    def check(self, *parts: str) -> None:
        """Raise an error if something else stands in the place of the subfolder, which may be missing."""
        with contextlib.suppress(FileNotFoundError), self._at(parts):
            pass

    def mode(self, *parts: str) -> int | None:
        """The type of what has this name, as in `stat`, without following it; None where nothing has."""
        try:
            with self._at(parts[:-1]) as place:
                return place.mode(parts[-1])
        except FileNotFoundError:
            return None

    def has_file(self, *parts: str) -> bool:
        """Whether a plain file has this name; never an error."""
        try:
            mode = self.mode(*parts)
        except OSError:
            return False
        return mode is not None and stat.S_ISREG(mode)

    def names(self, *parts: str) -> list[str]:
        """The names in the subfolder, in order; none where it is missing."""
        try:
            with self._at(parts) as place:
                return place.names()
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def reading(self, *parts: str) -> Iterator[BinaryIO]:
        """The open file. Only a plain file is opened; nothing else is waited for."""
        with self._at(parts[:-1]) as place, os.fdopen(place.open_file(parts[-1]), "rb") as file:
            yield file

    def read(self, *parts: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes."""
        with self.reading(*parts) as file:
            # One byte more than is accepted, and not the size that is told: the file may be growing.
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes")
        return content

    @contextlib.contextmanager
    def writing(self, *parts: str, flush: bool = True) -> Iterator[BinaryIO]:
        """A new file, which takes its name when the block ends; if the block raises, nothing is left behind.

        Args:
            parts: the name; missing subfolders are made.
            flush: whether the file is on the disk before it takes its name, and the name before this returns.
        """
        *folders, name = parts
        # An unpredictable name, opened only if it is new: no link and no second name leads elsewhere.
        temporary = f".{name}.{secrets.token_hex(4)}.tmp"
        with self._at(folders, make=True) as place:
            present = place.mode(name)
            if present is not None and stat.S_ISDIR(present):
                raise NotOursError(place.path / name, present, "a file")
            try:
                with os.fdopen(place.create_file(temporary), "w+b") as file:
                    yield file
                    file.flush()
                    if flush:
                        os.fsync(file.fileno())
                place.rename(temporary, name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    place.unlink(temporary)
            if flush:
                place.flush()

    def write(self, content: bytes, *parts: str, flush: bool = True) -> None:
        """Write a file as a whole, in place of an earlier one; a link that has its name is replaced, not followed."""
        with self.writing(*parts, flush=flush) as file:
            file.write(content)

    def remove_file(self, *parts: str) -> None:
        """Remove a plain file. What is missing or is anything else stays as it is."""
        with contextlib.suppress(FileNotFoundError), self._at(parts[:-1]) as place:
            mode = place.mode(parts[-1])
            if mode is not None and stat.S_ISREG(mode):
                place.unlink(parts[-1])

    def set_aside(self, *parts: str) -> str | None:
        """Give a file another name beside its own, and return that. What is missing or is a folder stays as it is."""
        with contextlib.suppress(FileNotFoundError), self._at(parts[:-1]) as place:
            mode = place.mode(parts[-1])
            if mode is not None and not stat.S_ISDIR(mode):
                names = (f"{parts[-1]}.before-{number}" for number in itertools.count(1))
                free = next(name for name in names if place.mode(name) is None)
                place.rename(parts[-1], free)
                return free
        return None

    def remove_tree(self, *parts: str) -> None:
        """Remove a subfolder with all that is in it; of a link in it, the link. Anything but a folder stays."""
        with contextlib.suppress(FileNotFoundError), self._at(parts[:-1]) as place:
            mode = place.mode(parts[-1])
            if mode is not None and stat.S_ISDIR(mode):
                _remove_tree(place, parts[-1], _TREE_DEPTH)

    @contextlib.contextmanager
    def _at(self, parts: Sequence[str], *, make: bool = False) -> Iterator[_Place]:
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(_root(self.root))
            for part in parts:
                if make:
                    place.make_folder(part)
                place = stack.enter_context(place.inner(part))
            yield place


class _Place:
    """A folder held open, and what is done to the entries in it; where the system cannot hold one, its path."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def _name(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    @contextlib.contextmanager
    def inner(self, name: str) -> Iterator[_Place]:
        """The subfolder, unless a link or something else has its name."""
        mode = self.mode(name)
        if mode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / name))
        if not stat.S_ISDIR(mode):
            raise NotOursError(self.path / name, mode, "a folder")
        if self._descriptor is None:
            yield _Place(self.path / name, None)
            return
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)
        try:
            yield _Place(self.path / name, descriptor)
        finally:
            os.close(descriptor)

    def mode(self, name: str) -> int | None:
        try:
            return os.stat(self._name(name), dir_fd=self._descriptor, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path if self._descriptor is None else self._descriptor))  # noqa: PTH208

    def open_file(self, name: str) -> int:
        mode = self.mode(name)
        if mode is not None and not stat.S_ISREG(mode):
            raise NotOursError(self.path / name, mode, "a file")
        # Not blocking, because a FIFO may have come since the look; it is refused below, once it is open.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._name(name), flags, dir_fd=self._descriptor)
        opened = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(opened):
            os.close(descriptor)
            raise NotOursError(self.path / name, opened, "a file")
        return descriptor

    def create_file(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.open(self._name(name), flags, 0o666, dir_fd=self._descriptor)

    def make_folder(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._name(name), dir_fd=self._descriptor)

    def rename(self, old: str, new: str) -> None:
        os.replace(self._name(old), self._name(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def unlink(self, name: str) -> None:
        os.unlink(self._name(name), dir_fd=self._descriptor)

    def remove_folder(self, name: str) -> None:
        os.rmdir(self._name(name), dir_fd=self._descriptor)

    def flush(self) -> None:
        """A new name is on the disk only once its folder is."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)


@contextlib.contextmanager
def _root(path: Path) -> Iterator[_Place]:
    if not _HELD_OPEN:
        yield _Place(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _Place(path, descriptor)
    finally:
        os.close(descriptor)


def _remove_tree(place: _Place, name: str, depth: int) -> None:
    if not depth:
        raise OSError(errno.ELOOP, f"{place.path / name} lies deeper than anything that a measurement makes")
    with place.inner(name) as inner:
        for entry in inner.names():
            mode = inner.mode(entry)
            if mode is not None and stat.S_ISDIR(mode):
                _remove_tree(inner, entry, depth - 1)
            else:
                inner.unlink(entry)
    place.remove_folder(name)
