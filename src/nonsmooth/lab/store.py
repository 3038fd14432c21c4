"""Records on disk: one Parquet file per cell, named by the cell's hash, whole and checked or not there at all."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from nonsmooth.foreign_text import visible
from nonsmooth.lab.cell import KEY, SCRATCH, Cell, Record
from nonsmooth.lab.errors import LabError
from nonsmooth.lab.folder import Folder, NotOursError
from nonsmooth.lab.parquet_bounds import FILE_LIMIT, NESTING_LIMIT, check_bounds
from nonsmooth.lab.values import arrow_type, checked_origin, checked_seconds, checksum, plain_values

FORMAT = 2
"""The version of the file format. Version 1, whose checksum left out the seconds and the origin, is still read."""

PROGRESS_SUFFIX = ".progress"
"""Ends the name, beside a cell's scratch folder, of the file that holds the fraction of the cell that is done."""

CELLS, LOCK = "cells", "lock"
"""The names of what the store makes in its folder, beside `SCRATCH`."""

_RECORD = re.compile(rf"({KEY})\.parquet")
_HALF_WRITTEN = re.compile(rf"(\.{KEY}\.parquet|{KEY})\.[0-9a-f]{{8}}\.tmp")
_PROGRESS = re.compile(rf"{KEY}\.progress(\.tmp)?|\.{KEY}\.progress\.[0-9a-f]{{8}}\.tmp")
_SCALARS = frozenset({pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()})


class UnreadableRecordError(ValueError):
    """A record's file is there, but it is not a whole record of the cell that was asked for."""


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


class Store:
    """A folder of records.

    A record is written to a temporary name, flushed to the disk and renamed, so a file under its final name is whole.
    Its checksum is verified on each reading: what was cut off or edited counts as not measured.

    The folder may come from a stranger. No link in it is followed, only plain files are opened, only files of a bounded
    size are decoded, and only names that the store makes are removed.

    Args:
        folder: where the records, the checkpoints and the lock lie; made when something is first written. It may be a
            symbolic link to a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._folder = Folder(self.folder)
        self._lock = filelock.FileLock(self.folder / LOCK, timeout=0)

    def path(self, cell: Cell) -> Path:
        """Where the cell's record lies once it is stored."""
        return self.folder / CELLS / f"{cell.key}.parquet"

    def has(self, cell: Cell) -> bool:
        """Whether a file lies where the cell's record would; only `load` tells whether it is whole."""
        return self._folder.has_file(CELLS, f"{cell.key}.parquet")

    def scratch(self, cell: Cell) -> Path:
        """The cell's folder for checkpoints. The worker that measures the cell makes it; `save` removes it."""
        return self.folder / SCRATCH / cell.key

    def load(self, cell: Cell) -> Record | None:
        """The cell's record, or None where there is none.

        A file that is cut off, of another cell, edited, of another format, too large or no plain file is reported by a
        warning and counts as absent, so that the cell is measured again.
        """
        try:
            return self.read(cell)
        except UnreadableRecordError as error:
            warnings.warn(visible(error), stacklevel=2)
            return None

    def read(self, cell: Cell) -> Record | None:
        """As `load`, for callers that report by other means than warnings.

        Raises:
            UnreadableRecordError: there is something, but not a whole record of this cell.
        """
        try:
            content = self._folder.read(CELLS, f"{cell.key}.parquet", limit=FILE_LIMIT)
            return _decode(content, cell)
        except FileNotFoundError:
            return None
        # A foreign file can make a decoder raise anything; whatever it is, the file is not a record.
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise UnreadableRecordError(
                f"{self.path(cell)} is not a whole record ({reason}); it will be measured again"
            ) from error

    def save(self, record: Record) -> None:
        """Store a record, in place of an earlier one of the same cell, and remove the cell's scratch folder.

        Raises:
            TypeError: a value is of a type that is not accepted.
            ValueError: an integer or a string cannot be stored, the seconds or the origin are of no use, or the record
                is larger than `load` would decode.
            LabError: the disk refuses; nothing is left behind.
        """
        content = _encode(record)
        try:
            self._folder.write(content, CELLS, f"{record.cell.key}.parquet")
        except OSError as error:
            raise LabError(
                f"cannot store {self.path(record.cell)}: {_reason(error)}. The records stored so far are kept"
            ) from error
        self._drop_scratch(record.cell.key)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run. The operating system releases the lock of a process that was killed.

        Raises:
            LabError: another run holds it, or the folder cannot be written, or a link or another thing stands in the
                place of the lock or of one of the store's folders.
        """
        try:
            self._folder.make()
            self.check()
            self._check_lock()
            self._lock.acquire()
        except filelock.Timeout as error:
            raise LabError(
                f"another run is using {self.folder}; wait until it has finished, or choose another folder"
            ) from error
        except OSError as error:
            raise LabError(f"cannot use {self.folder}: {_reason(error)}") from error
        try:
            yield
        finally:
            self._lock.release()

    def check(self) -> None:
        """Make sure that the store's folders are folders, if they are there.

        Raises:
            LabError: a link or another thing stands in the place of one.
        """
        with _told_as_lab_error(self.folder):
            self._folder.check(CELLS)
            self._folder.check(SCRATCH)

    def _check_lock(self) -> None:
        """Refuse a lock that is a link or holds something: older versions of filelock empty what they open."""
        with contextlib.suppress(FileNotFoundError), self._folder.reading(LOCK) as file:
            if file.read(1):
                raise OSError(
                    errno.EEXIST, f"{self.folder / LOCK} is not empty: another run holds it, or no run has made it"
                )

    def prepare(self, cells: Iterable[Cell]) -> None:
        """Make sure, before hours of work, that there is a place for these cells' records. Call it under the lock.

        Raises:
            LabError: there is not.
        """
        with _told_as_lab_error(self.folder):
            for name in (CELLS, SCRATCH):
                self._folder.make(name)
            for cell in cells:
                mode = self._folder.mode(CELLS, f"{cell.key}.parquet")
                if mode is not None and stat.S_ISDIR(mode):
                    raise NotOursError(self.path(cell), mode, "a file")
                self._folder.check(SCRATCH, cell.key)

    def clean(self) -> None:
        """Remove what killed runs left behind, except checkpoints of unfinished cells. Call it under the lock.

        Only plain files and folders with names that the store makes are removed.

        Raises:
            LabError: the system refuses.
        """
        with _told_as_lab_error(self.folder):
            for name in self._folder.names(CELLS):
                if _HALF_WRITTEN.fullmatch(name):
                    self._folder.remove_file(CELLS, name)
            for name in self._folder.names(SCRATCH):
                if _PROGRESS.fullmatch(name):
                    self._folder.remove_file(SCRATCH, name)
            for name in self._folder.names(CELLS):
                if (match := _RECORD.fullmatch(name)) and self._folder.has_file(CELLS, name):
                    self._drop_scratch(match[1])

    def discard(self, cells: Iterable[Cell]) -> None:
        """Remove the cells' records and checkpoints.

        Raises:
            LabError: the system refuses.
        """
        with _told_as_lab_error(self.folder):
            for cell in cells:
                self._folder.remove_file(CELLS, f"{cell.key}.parquet")
                self._drop_scratch(cell.key)

    def progress_file(self, cell: Cell) -> Path:
        """Where the worker that measures the cell writes the fraction that is done."""
        return self.folder / SCRATCH / (cell.key + PROGRESS_SUFFIX)

    def in_progress(self) -> set[str]:
        """The keys of the cells of which something may tell how far they are."""
        try:
            names = self._folder.names(SCRATCH)
        except OSError:
            return set()
        return {name.removesuffix(PROGRESS_SUFFIX) for name in names if name.endswith(PROGRESS_SUFFIX)}

    def progress(self, cell: Cell) -> float | None:
        """The fraction of the cell that is done; None where nothing tells it."""
        try:
            fraction = float(self._folder.read(SCRATCH, cell.key + PROGRESS_SUFFIX, limit=64))
        except (OSError, ValueError):
            return None
        return fraction if 0 <= fraction <= 1 else None

    def forget_progress(self, cells: Iterable[Cell]) -> None:
        """Remove what says how far these cells are; what cannot be removed now is removed by the next run."""
        for cell in cells:
            with contextlib.suppress(OSError):
                self._folder.remove_file(SCRATCH, cell.key + PROGRESS_SUFFIX)

    def _drop_scratch(self, key: str) -> None:
        # A checkpoint that cannot be removed now is removed at the start of the next run.
        with contextlib.suppress(OSError):
            self._folder.remove_tree(SCRATCH, key)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _told_as_lab_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"cannot use {folder}: {_reason(error)}") from error


def _encode(record: Record) -> bytes:
    """The bytes of a record's file: one row, a column for each value."""
    values = plain_values(record.values)
    seconds, origin = checked_seconds(record.seconds), checked_origin(record.origin)
    metadata = {
        "nonsmooth.format": str(FORMAT),
        "nonsmooth.cell": _canonical(record.cell.describe()),
        "nonsmooth.checksum": checksum(record.cell, values, {"seconds": seconds, "origin": origin}),
        "nonsmooth.seconds": repr(seconds),
        "nonsmooth.origin": _canonical(origin),
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
    if len(content) > FILE_LIMIT:
        raise ValueError(f"the record of {record.cell.claim} takes {len(content):,} bytes, more than {FILE_LIMIT:,}")
    try:
        check_bounds(content)
    except ValueError as error:
        raise ValueError(f"the record of {record.cell.claim} could not be read back: {error}") from error
    return content


def _decode(content: bytes, cell: Cell) -> Record:
    """Decode and verify a record; any exception means that it is not a record of the cell."""
    # Before pyarrow sees it, because pyarrow takes the memory that a file asks for.
    check_bounds(content)
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    metadata = {key.decode(): text.decode() for key, text in (file.schema_arrow.metadata or {}).items()}
    if "nonsmooth.format" not in metadata:
        raise ValueError("it was not written by this program")
    version = metadata["nonsmooth.format"]
    if version not in {"1", str(FORMAT)}:
        raise ValueError(f"its format is {version[:20]}, not {FORMAT}")
    if metadata["nonsmooth.cell"] != _canonical(cell.describe()):
        raise ValueError("it is of another cell")
    _check_types(file.schema_arrow)
    seconds = checked_seconds(float(metadata["nonsmooth.seconds"]))
    origin = checked_origin(json.loads(metadata["nonsmooth.origin"]))
    table = file.read(use_threads=False)
    values = {name: table.column(place)[0].as_py() for place, name in enumerate(table.column_names)}
    beside = {} if version == "1" else {"seconds": seconds, "origin": origin}
    if checksum(cell, values, beside) != metadata["nonsmooth.checksum"]:
        raise ValueError("its values, seconds or origin do not match its checksum")
    return Record(cell, values, seconds, origin)


def _check_types(schema: pa.Schema) -> None:
    if len(set(schema.names)) < len(schema.names):
        raise ValueError("two of its columns have one name")
    for field in schema:
        kind, depth = field.type, 0
        while pa.types.is_list(kind) and depth <= NESTING_LIMIT:
            kind, depth = kind.value_type, depth + 1
        if kind not in _SCALARS:
            raise ValueError(f"its column {field.name[:60]!r} is of the type {str(kind)[:60]}, which no record holds")
