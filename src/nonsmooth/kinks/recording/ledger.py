"""The list of what a recording has found: operations at their places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.recording.place import Place
from nonsmooth.kinks.recording.records import RecordedOperation
from nonsmooth.kinks.recording.sets import NO_LEAVES, NO_RECORDS, LeafSet, RecordSet, union
from nonsmooth.kinks.table.rules import unknown
from nonsmooth.kinks.table.smoothness import Classification, Smoothness

OWN_DERIVATIVE = unknown("an autograd.Function of its own")


class Ledger:
    """Records by name, classification and place.

    Args:
        leaves: the parameters.
        known: classes of operations and custom functions that the user states, by name.
    """

    def __init__(self, leaves: Leaves, known: Mapping[str, Smoothness]) -> None:
        self.records: dict[Any, RecordedOperation] = {}
        self.smooth: dict[str, int] = {}
        self.known = known
        self._leaves = leaves

    @property
    def so_far(self) -> RecordSet:
        """Everything that was found so far."""
        return RecordSet((1 << len(self.records)) - 1)

    def stated(self, name: str) -> Classification | None:
        """What the user says of an operation, by the name of its operator or the one that is shown."""
        for key in (name, name.lstrip("_")):
            if key in self.known:
                return Classification(self.known[key], "as stated by the caller")
        return None

    def has(self, name: str) -> bool:
        """Whether an operation of that name was found, anywhere."""
        return any(record.name == name for record in self.records.values())

    def count_smooth(self, name: str) -> None:
        """Count a smooth operation."""
        self.smooth[name] = self.smooth.get(name, 0) + 1

    def add(
        self,
        name: str,
        classification: Classification,
        place: Place,
        reach: LeafSet,
        *,
        arguments: Iterable[Tensor] = (),
        gradient: LeafSet = NO_LEAVES,
        count: int = 1,
    ) -> RecordSet:
        """Note a call, and return its record; none for a smooth one.

        Args:
            name: as it is shown.
            classification: its class.
            place: where it stands.
            reach: what reaches it.
            arguments: what it is called with; their gradients are its own.
            gradient: what reaches it with a gradient that the arguments do not show.
            count: number of calls.
        """
        if classification.smoothness is Smoothness.SMOOTH:
            return NO_RECORDS
        key = (name, classification, place.module, place.source)
        record = self.records.get(key)
        if record is None:
            record = self.records[key] = RecordedOperation(
                name, classification, place, RecordSet(1 << len(self.records))
            )
        record.calls += count
        record.reach = union(record.reach, reach)
        record.gradient = union(record.gradient, gradient)
        if place.replayed or place.custom is not None:  # inside, gradients are not recorded
            record.gradient = union(record.gradient, reach)
        elif torch.is_grad_enabled():
            record.gradient = union(record.gradient, *map(self._leaves.with_gradient, arguments))
        return record.bit

    def add_custom(self, place: Place, inner: str, reach: LeafSet) -> RecordSet:
        """Note a call inside an `autograd.Function` of the user's, which is judged as a whole."""
        name = "" if place.custom is None else place.custom.__name__
        bit = self.add(name, self.stated(name) or OWN_DERIVATIVE, place, reach, count=0)
        if bit:
            record, node = self._of(bit), torch._C._autograd._get_sequence_nr()
            if node != record.node:  # each call has a node of its own, and nothing inside makes one
                record.calls, record.node = record.calls + 1, node
            if inner and inner not in record.inside:
                record.inside.append(inner)
        return bit

    def add_instead(
        self,
        plain: RecordSet,
        name: str,
        classification: Classification,
        place: Place,
        reach: LeafSet,
        arguments: Iterable[Tensor],
    ) -> RecordSet:
        """Note what a call is unless the record `plain` counts."""
        bit = self.add(name, classification, place, reach, arguments=arguments)
        if bit:
            record = self._of(bit)
            record.instead_of = union(record.instead_of, plain)
        return bit

    def _of(self, bit: RecordSet) -> RecordedOperation:
        return next(record for record in self.records.values() if record.bit == bit)
