"""Sets of leaves, of records and of norms: bits of one integer, and a type of its own for each."""

from __future__ import annotations

from typing import NewType, TypeVar, cast

LeafSet = NewType("LeafSet", int)
"""Inputs and parameters: bit 0 stands for all inputs together, bit k + 1 for parameter k."""

RecordSet = NewType("RecordSet", int)
"""Operations that a recording has found, in that order."""

NormSet = NewType("NormSet", int)
"""Norms, by the number of the call that computed them."""

AnySet = TypeVar("AnySet", LeafSet, RecordSet, NormSet)

INPUTS = LeafSet(1)
NO_LEAVES, NO_RECORDS, NO_NORMS = LeafSet(0), RecordSet(0), NormSet(0)
ALL_LEAVES, ALL_RECORDS = LeafSet(-1), RecordSet(-1)


def union(*sets: AnySet) -> AnySet:
    """What is in any of the sets."""
    total = 0
    for each in sets:
        total |= each
    return cast("AnySet", total)


def without(first: AnySet, second: AnySet) -> AnySet:
    """What is in the first set and not in the second."""
    return cast("AnySet", first & ~second)
