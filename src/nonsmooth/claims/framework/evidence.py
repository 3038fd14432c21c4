"""Evidence: the records of a claim by experiment, as arrays over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nonsmooth.lab import Cell, Record

if TYPE_CHECKING:
    from nonsmooth.claims.framework.experiment import Experiment


class NotStoredError(ValueError):
    """The records do not hold what an alternative asks for; the message completes "... cannot be judged: "."""


def known(values: Any) -> np.ndarray:
    """The values as an array, for a comparison, in which NaN would read as "no".

    Raises:
        NotStoredError: one of them is not a number.
    """
    array = np.asarray(values, dtype=np.float64)
    if np.isnan(array).any():
        raise NotStoredError("a measured value is not a number")
    return array


class Runs(Sequence[Record]):
    """Records of one experiment, in their order; each holds one seed, or several along an axis of its values."""

    def __init__(self, records: Sequence[Record], name: str) -> None:
        self._records, self._name = tuple(records), name

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def where(self, **parameters: Any) -> Runs:
        """Those whose cells have these parameters."""
        wanted = (r for r in self._records if all(r.parameters.get(k) == v for k, v in parameters.items()))
        return Runs(tuple(wanted), self._name)

    def some(self, **parameters: Any) -> Runs:
        """Those with these parameters.

        Raises:
            NotStoredError: there are none.
        """
        found = self.where(**parameters)
        if not found:
            wanted = ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "any parameters"
            raise NotStoredError(f"no record of {self._name} has {wanted}")
        return found

    def one(self, **parameters: Any) -> Record:
        """The only one with these parameters.

        Raises:
            NotStoredError: none or several have them.
        """
        found = self.where(**parameters)
        if len(found) != 1:
            wanted = ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "any parameters"
            raise NotStoredError(f"{len(found)} records of {self._name} have {wanted}; accepted is exactly one")
        record: Record = found[0]
        return record

    def joined(self, value: str) -> np.ndarray:
        """A value that each record holds a list of, one after the other: shape (seeds of all, ...)."""
        return np.concatenate([np.asarray(r[value]) for r in self._records]) if self._records else np.empty(0)

    def stacked(self, value: str) -> np.ndarray:
        """A value of each record, one above the other: shape (records, ...)."""
        return np.array([r[value] for r in self._records])

    def by(self, parameter: str) -> dict[Any, Runs]:
        """The records by a parameter, in the order in which its values come."""
        values = dict.fromkeys(r.parameters[parameter] for r in self._records)
        return {value: self.where(**{parameter: value}) for value in values}

    @property
    def seeds(self) -> int:
        """How many runs there are: seeds of all cells."""
        return sum(_seeds_in(r.cell) for r in self._records)


class Evidence:
    """The records of a study, by experiment: `evidence[kink].where(dtype="float64")`.

    Args:
        records: all of them.
        experiments: of the study.
    """

    def __init__(self, records: Sequence[Record], experiments: Sequence[Experiment]) -> None:
        self.records, self._experiments = tuple(records), tuple(experiments)

    def __getitem__(self, experiment: Experiment) -> Runs:
        return Runs([r for r in self.records if experiment.measures(r.cell)], experiment.name)

    def groups(self) -> int:
        """In how many groups of seeds it can be divided so that each can be left out: at most `GROUPS`."""
        seeds = [n for e in self._experiments if (n := self._divisible(e)) > 1]
        return min(GROUPS, *seeds, GROUPS) if seeds else 0

    def _divisible(self, experiment: Experiment) -> int:
        """How many seeds of an experiment can be told apart."""
        runs = self[experiment]
        if experiment.seed_axes:
            return max((_seeds_in(r.cell) for r in runs), default=0)
        return 0 if any(_seeds_in(r.cell) > 1 for r in runs) else len({r.seed for r in runs})

    def without(self, group: int, groups: int) -> Evidence:
        """All records but for the seeds of one group: every `groups`-th seed, beginning with `group`.

        What has fewer seeds than there are groups is kept whole, so that nothing is left empty.
        """
        kept: list[Record] = []
        for record in self.records:
            experiment = next((e for e in self._experiments if e.measures(record.cell)), None)
            if experiment is None or self._divisible(experiment) < groups:
                kept.append(record)
            elif experiment.seed_axes:
                few = _seeds_in(record.cell) < groups
                kept.append(record if few else _without(record, experiment.seed_axes, group, groups))
            else:
                order = sorted({r.seed for r in self[experiment]})
                if order.index(record.seed) % groups != group:
                    kept.append(record)
        return Evidence(kept, self._experiments)


GROUPS = 5
"""Of seeds, each of which is left out once."""


def _seeds_in(cell: Cell) -> int:
    count = cell.parameters.get("seeds", 1)
    return count if isinstance(count, int) and not isinstance(count, bool) else 1


def _without(record: Record, axes: Mapping[str, int], group: int, groups: int) -> Record:
    """A record that holds several seeds, without those of a group."""
    kept = [i for i in range(_seeds_in(record.cell)) if i % groups != group]
    values = {name: _take(value, kept, axes[name]) if name in axes else value for name, value in record.values.items()}
    parameters = {**record.parameters, "seeds": len(kept)}
    cell = Cell(record.cell.claim, parameters, record.seed, record.cell.version, record.cell.cost)
    return Record(cell, values, record.seconds, record.origin)


def _take(value: Any, kept: Sequence[int], axis: int) -> Any:
    """Entries of a nested list along an axis; the levels above it may be ragged."""
    return [value[i] for i in kept] if axis == 0 else [_take(item, kept, axis - 1) for item in value]
