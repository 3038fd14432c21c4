"""How much memory a Parquet file takes once it is decoded, told from its headers before anything is decoded.

Two kilobytes can stand for gigabytes: compressed zeros, a dictionary of one long text, a run of equal values. What the
footer says of it need not be true. The headers of the pages are what a decoder goes by, so they are what is read here.
They are Thrift structures in its compact form, https://github.com/apache/thrift and apache/parquet-format say how.
"""

from __future__ import annotations

import struct
from typing import Any

FILE_LIMIT = 1 << 26
"""Bytes of a file."""

FOOTER_LIMIT = 1 << 20
"""Bytes of its footer, which holds the schema and the metadata and is read as Python objects."""

VALUES_LIMIT = 1 << 21
"""Numbers, texts and nulls in all columns: as Python objects, they are what takes the memory."""

LISTS_LIMIT = 1 << 22
"""The same times the lists in one another: each value may lie in as many of its own."""

TEXT_LIMIT = 1 << 26
"""Bytes of all pages, and of all texts, once they are decoded."""

COLUMNS_LIMIT = 1 << 12
NESTING_LIMIT = 32
_MAGIC = b"PAR1"
_PLAIN, _DATA, _DICTIONARY, _DATA_V2 = 0, 0, 2, 3
_REPEATED = 2
_BYTES = 6  # the physical type BYTE_ARRAY
_STRUCTURE_DEPTH = 24


class TooLargeError(ValueError):
    """Decoding would take more memory than any record does."""


def check_bounds(content: bytes) -> None:
    """Refuse a file that is not one row of a bounded size.

    Raises:
        ValueError: it is not a whole Parquet file, or not of one row; a `TooLargeError` if it is too large.
    """
    try:
        _check(content)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("its headers are not those of a Parquet file") from error


def _check(content: bytes) -> None:
    footer = _footer(content)
    if b"parquet-mr" in footer.get(6, b""):
        # Readers look for its columns' pages beyond the place where they should end.
        raise ValueError("it was written by parquet-mr, of which old versions misstate the sizes of columns")
    schema = _items(footer.get(2))
    if len(schema) > COLUMNS_LIMIT * 2:
        raise TooLargeError(f"it has {len(schema):,} columns and lists, more than {COLUMNS_LIMIT * 2:,}")
    lists = _most_nested(schema)
    groups = _items(footer.get(4))
    # A record without values has no columns, and then pyarrow counts no row either.
    rows = 1 if len(schema) > 1 else 0
    if footer.get(3) != rows or len(groups) > 1 or len(groups) < rows:
        raise ValueError(f"it has {footer.get(3)} rows in {len(groups)} groups, not one row in one group")
    values = size = 0
    for chunk in (chunk for group in groups for chunk in _items(group.get(1))):
        more_values, more_bytes = _chunk_bounds(content, chunk)
        values, size = values + more_values, size + more_bytes
        if values > VALUES_LIMIT:
            raise TooLargeError(f"it holds {values:,} values, more than {VALUES_LIMIT:,}")
        if values * lists > LISTS_LIMIT:
            raise TooLargeError(f"it holds {values:,} values in {lists} lists each, more than {LISTS_LIMIT:,} lists")
        if size > TEXT_LIMIT:
            raise TooLargeError(f"it would take {size:,} bytes, more than {TEXT_LIMIT:,}")


def _footer(content: bytes) -> dict[int, Any]:
    if len(content) < 12 or content[:4] != _MAGIC or content[-4:] != _MAGIC:
        raise ValueError("it is not a whole Parquet file")
    length = struct.unpack("<I", content[-8:-4])[0]
    if length > min(len(content) - 12, FOOTER_LIMIT):
        raise ValueError("its footer is cut off or too large")
    start = len(content) - 8 - length
    return _Thrift(content, start, start + length).structure()


def _most_nested(schema: list[Any]) -> int:
    """The most lists in one another, which are the nodes that are repeated on the way to a value.

    The schema is a tree, written in depth-first order with the number of children of each node.
    """
    most, open_nodes = 0, list[tuple[int, int]]()  # the children to come, and the lists so far
    for element in schema:
        if len(open_nodes) > 2 * NESTING_LIMIT + 2:
            raise TooLargeError(f"its lists are nested more than {NESTING_LIMIT} times")
        lists = int(element.get(3) == _REPEATED)
        if open_nodes:
            children, above = open_nodes.pop()
            open_nodes.append((children - 1, above))
            lists += above
        most = max(most, lists)
        open_nodes.append((element.get(5, 0), lists))
        while open_nodes and open_nodes[-1][0] <= 0:
            open_nodes.pop()
    return most


def _chunk_bounds(content: bytes, chunk: dict[int, Any]) -> tuple[int, int]:
    """The values of a column's chunk, and the bytes of its pages and its texts."""
    if 1 in chunk:
        raise ValueError("a column lies in another file")
    about = chunk[3]
    starts = [about[field] for field in (9, 11) if about.get(field)]
    position = min(starts)
    end = position + about[7]
    if not 4 <= position <= end <= len(content):
        raise ValueError("a column lies outside the file")
    values = pages = dictionary = packed = 0
    while position < end:
        reader = _Thrift(content, position, end)
        header = reader.structure()
        unpacked, held = header[2], header[3]
        if unpacked < 0 or held < 0 or reader.position + held > end:
            raise ValueError("a page is cut off")
        position = reader.position + held
        pages += unpacked
        kind = header[1]
        if kind == _DICTIONARY:
            dictionary += unpacked
        elif kind in {_DATA, _DATA_V2}:
            about_page = header[5 if kind == _DATA else 8]
            count = about_page[1]
            if count < 0:
                raise ValueError("a page holds less than no values")
            values += count
            if about[1] == _BYTES and about_page[2 if kind == _DATA else 4] != _PLAIN:
                # Each text may be as long as all of the dictionary, or share its beginning with the page's others.
                packed += count * max(dictionary, unpacked)
    return values, pages + packed


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("its footer lacks a list")
    return value


class _Thrift:
    """Reads the compact form of Thrift: structures become dictionaries of the fields' numbers."""

    def __init__(self, content: bytes, position: int, end: int) -> None:
        self._content = content
        self.position = position
        self._end = end

    def structure(self, depth: int = _STRUCTURE_DEPTH) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._signed()
            fields[number] = kind & 15 == 1 if kind & 15 in {1, 2} else self._value(kind & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in {1, 2, 3}:  # a boolean in a list, a byte
            return self._byte()
        if kind in {4, 5, 6}:
            return self._signed()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._unsigned())
        if not depth:
            raise ValueError("a header is nested too deeply")
        if kind in {9, 10}:
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            if count > self._end - self.position:
                raise ValueError("a header is cut off")
            return [self._value(head & 15, depth - 1) for _ in range(count)]
        if kind == 12:
            return self.structure(depth - 1)
        raise ValueError(f"a header holds a field of the unknown type {kind}")

    def _take(self, count: int) -> bytes:
        if count > self._end - self.position:
            raise ValueError("a header is cut off")
        self.position += count
        return self._content[self.position - count : self.position]

    def _byte(self) -> int:
        return self._take(1)[0]

    def _unsigned(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result
            if shift > 63:
                raise ValueError("a header holds an integer of more than 64 bits")

    def _signed(self) -> int:
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)
