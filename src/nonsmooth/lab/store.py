"""Records on disk: one Parquet file per cell, named by the cell's hash, whole and checked or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from nonsmooth.foreign_text import visible
from nonsmooth.lab.cell import Cell, Record
from nonsmooth.lab.errors import LabError
from nonsmooth.lab.values import arrow_type, checksum, plain_values

FORMAT = 1
"""The version of the file format; files of another version are not read."""

PROGRESS_SUFFIX = ".progress"
"""Ends the name, beside a cell's scratch folder, of the file that holds the fraction of the cell that is done."""


class UnreadableRecordError(ValueError):
    """A record's file is there, but it is not a whole record of the cell that was asked for."""


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


class Store:
    """A folder of records.

    A record is written to a temporary name, flushed to the disk and renamed, so a file under its final name is whole.
    Its checksum is verified on each reading: what was cut off or edited counts as not measured.

    Args:
        folder: where the records, the checkpoints and the lock lie; made when something is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lock = filelock.FileLock(self.folder / "lock", timeout=0)

    def path(self, cell: Cell) -> Path:
        """Where the cell's record lies once it is stored."""
        return self.folder / "cells" / f"{cell.key}.parquet"

    def scratch(self, cell: Cell) -> Path:
        """The cell's folder for checkpoints. The worker that measures the cell makes it; `save` removes it."""
        return self.folder / "scratch" / cell.key

    def load(self, cell: Cell) -> Record | None:
        """The cell's record, or None where there is none.

        A file that is cut off, of another cell, edited or of another format is reported by a warning and counts as
        absent, so that the cell is measured again.
        """
        try:
            return self.read(cell)
        except UnreadableRecordError as error:
            warnings.warn(visible(error), stacklevel=2)
            return None

    def read(self, cell: Cell) -> Record | None:
        """As `load`, for callers that report by other means than warnings.

        Raises:
            UnreadableRecordError: there is a file, but not a whole record of this cell.
        """
        path = self.path(cell)
        try:
            return _read(path, cell)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnreadableRecordError(
                f"{path} is not a whole record ({reason}); it will be measured again"
            ) from error

    def save(self, record: Record) -> None:
        """Store a record, in place of an earlier one of the same cell, and remove the cell's scratch folder.

        Raises:
            TypeError: a value is of a type that is not accepted.
            ValueError: an integer or a string cannot be stored.
            LabError: the disk refuses; nothing is left behind.
        """
        content = _encode(record)
        path = self.path(record.cell)
        temporary = path.with_name(f"{record.cell.key}.{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_durably(temporary, path, content)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise LabError(f"cannot store {path}: {reason}. The records stored so far are kept") from error
        self._drop_scratch(record.cell.key)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run. The operating system releases the lock of a process that was killed.

        Raises:
            LabError: another run holds it, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise LabError(
                f"another run is using {self.folder}; wait until it has finished, or choose another folder"
            ) from error
        except OSError as error:
            raise LabError(f"cannot use {self.folder}: {error.strerror or error}") from error
        try:
            yield
        finally:
            self._lock.release()

    def clean(self) -> None:
        """Remove what killed runs left behind, except checkpoints of unfinished cells. Call it under the lock."""
        for leftover in (*self.folder.glob("cells/*.tmp"), *self.folder.glob(f"scratch/*{PROGRESS_SUFFIX}*")):
            leftover.unlink(missing_ok=True)
        for scratch in self.folder.glob("scratch/*"):
            if (self.folder / "cells" / f"{scratch.name}.parquet").exists():
                self._drop_scratch(scratch.name)

    def discard(self, cells: Iterable[Cell]) -> None:
        """Remove the cells' records and checkpoints."""
        for cell in cells:
            self.path(cell).unlink(missing_ok=True)
            self._drop_scratch(cell.key)

    def _drop_scratch(self, key: str) -> None:
        # A checkpoint that cannot be removed now is removed at the start of the next run.
        shutil.rmtree(self.folder / "scratch" / key, ignore_errors=True)


def _encode(record: Record) -> bytes:
    """The bytes of a record's file: one row, a column for each value."""
    values = plain_values(record.values)
    metadata = {
        "nonsmooth.format": str(FORMAT),
        "nonsmooth.cell": _canonical(record.cell.describe()),
        "nonsmooth.checksum": checksum(record.cell, values),
        "nonsmooth.seconds": repr(float(record.seconds)),
        "nonsmooth.origin": _canonical(record.origin),
    }
    fields = [pa.field(name, arrow_type(name, value)) for name, value in values.items()]
    columns = [pa.array([value], type=item.type) for item, value in zip(fields, values.values(), strict=True)]
    sink = pa.BufferOutputStream()
    # Without dictionaries, floats are written as they are: a dictionary merges values that compare equal.
    pq.write_table(
        pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=metadata)),
        sink,
        use_dictionary=False,
        compression="zstd",
        write_page_checksum=True,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _read(path: Path, cell: Cell) -> Record:
    """Decode and verify a record's file; any exception means that it is not a record of the cell."""
    content = path.read_bytes()
    table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    metadata = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    if "nonsmooth.format" not in metadata:
        raise ValueError("it was not written by this program")
    if metadata["nonsmooth.format"] != str(FORMAT):
        raise ValueError(f"its format is {metadata['nonsmooth.format']}, not {FORMAT}")
    if metadata["nonsmooth.cell"] != _canonical(cell.describe()):
        raise ValueError("it is of another cell")
    values = {name: table.column(name)[0].as_py() for name in table.column_names}
    if checksum(cell, values) != metadata["nonsmooth.checksum"]:
        raise ValueError("its values do not match its checksum")
    return Record(cell, values, float(metadata["nonsmooth.seconds"]), json.loads(metadata["nonsmooth.origin"]))


def _write_durably(temporary: Path, path: Path, content: bytes) -> None:
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":
        # The new name itself is on the disk only once its folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
