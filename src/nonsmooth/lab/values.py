"""The values of a record: which are accepted, their Arrow types, and their canonical text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nonsmooth.lab.cell import Cell

_ACCEPTED = "accepted are str, int, float, bool, None, and (nested) lists or numpy arrays of one of these"
_ARROW_TYPES = {
    type(None): pa.null(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
}
LONGEST = 1e10
"""Seconds that a measurement may have taken: three centuries."""

_SHOWN = 60
_INT64 = range(-(2**63), 2**63)


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values as Python scalars and lists, which is how they come back from a file.

    Args:
        values: name to scalar or (nested) sequence of scalars of one type; numpy scalars and arrays are converted.

    Raises:
        TypeError: a name is not a string, or a value is of a type that is not accepted, or mixes types.
        ValueError: an integer does not fit into 64 bits, or a string cannot be written as UTF-8.
    """
    plain = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a value is {name!r}; accepted are strings")
        plain[name] = _plain(name, value)
        arrow_type(name, plain[name])
    return plain


def _plain(name: str, value: object) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        # Long lists are of floats, as a rule: these need no look at each item.
        return list(value) if _item_types(value) <= {float, bool} else [_plain(name, item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value not in _INT64:
            raise ValueError(f"value {name!r} holds the integer {value}; accepted are integers of 64 bits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        text = str(value)
        text.encode()  # a lone surrogate has no UTF-8 form: better refused here than when it is written
        return text
    raise TypeError(f"value {name!r} holds {value!r}, a {type(value).__name__}; {_ACCEPTED}")


def _item_types(items: Sequence[object]) -> set[type]:
    return set(map(type, items))


def arrow_type(name: str, value: object) -> pa.DataType:
    """The Arrow type of a plain value. An empty list and None fit any type, and stay what they are.

    Raises:
        TypeError: a list holds scalars of more than one type, or scalars beside lists.
    """
    if not isinstance(value, list):
        return _ARROW_TYPES[type(value)]
    common = pa.null()
    types = _item_types(value)
    if list in types:
        for item in value:
            if isinstance(item, list):
                common = _unify(name, common, arrow_type(name, item))
    for scalar in sorted(types - {list}, key=lambda one: one.__name__):
        common = _unify(name, common, _ARROW_TYPES[scalar])
    return pa.list_(common)


def _unify(name: str, first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(_unify(name, first.value_type, second.value_type))
    raise TypeError(f"value {name!r} mixes {first} with {second} in one list; accepted is one type")


def checksum(cell: Cell, values: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of what the cell is and of its plain values: equal sums mean equal results.

    The text that is hashed is canonical JSON, in which `repr` writes every float so that it reads back bit for bit,
    and in which 1, 1.0 and true differ.

    Args:
        cell: what was measured.
        values: what came out.
        beside: what else the sum vouches for, such as the seconds and the origin of a record.
    """
    content = {**(beside or {}), "cell": cell.describe(), "values": dict(values)}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def checked_seconds(seconds: object) -> float:
    """The wall time of a measurement.

    Raises:
        ValueError: it is not a number from 0 to `LONGEST`, so no sum or print of it would make sense.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST:
        raise ValueError(f"its seconds are {_short(seconds)}; accepted are numbers from 0 to {LONGEST:.0e}")
    return float(seconds)


def checked_origin(origin: object) -> dict[str, Any]:
    """Where a record was measured: names to texts, numbers, booleans and None, as `merged_origins` compares them.

    Raises:
        ValueError: it is anything else, such as a list or a mapping within a mapping.
    """
    if not isinstance(origin, Mapping):
        raise ValueError(f"its origin is {_short(origin)}; accepted is a mapping")  # noqa: TRY004  of a file's content
    for name, value in origin.items():
        finite = isinstance(value, float) and math.isfinite(value)
        if not _is_text(name) or not (value is None or finite or _is_text(value) or isinstance(value, int)):
            raise ValueError(
                f"its origin holds {_short(name)}: {_short(value)}; accepted are texts, numbers, booleans and None"
            )
    return dict(origin)


def _is_text(value: object) -> bool:
    """Whether a value is a string that can be written: a lone surrogate, which JSON can spell, has no UTF-8 form."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
