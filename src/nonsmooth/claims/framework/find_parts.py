"""Finding records among the evidence of a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nonsmooth.lab import Record


def find_parts(records: Sequence[Record], part: str, **parameters: Any) -> list[Record]:
    """The records of a part of an experiment, in their order.

    Args:
        records: a claim's records, whose cells have a parameter "part".
        part: the part wanted.
        **parameters: further parameters, with the values wanted.
    """
    wanted = {"part": part, **parameters}
    return [r for r in records if all(r.parameters.get(name) == value for name, value in wanted.items())]


def find_part(records: Sequence[Record], part: str, **parameters: Any) -> Record:
    """The one record of a part.

    Raises:
        ValueError: none or several records fit.
    """
    found = find_parts(records, part, **parameters)
    if len(found) != 1:
        wanted = ", ".join(f"{name}={value!r}" for name, value in {"part": part, **parameters}.items())
        raise ValueError(f"{len(found)} records have {wanted}; accepted is exactly one")
    return found[0]
