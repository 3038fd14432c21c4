"""The proxes that the rows of an embedding missed while their gradient was sparse, taken before somebody reads them.

A dense step takes the prox of every row, also of those without a gradient. A step on a sparse gradient touches the
rows that it names, and writes down what the others missed: the penalty with its λ, and D. When such a row is needed,
the proxes that it missed are taken one after the other, which gives what the dense run has. Without a gradient a row
keeps Adagrad's sum, so its D at each missed step is known as well.

What is missed lies in the state of the parameter, where copies and pickles of an optimizer keep it. Checkpoints have
none of it: it is caught up first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.optim.embeddings.composed_prox import Numbers, composed, numbers_of
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.optim.local_prox import local_prox_, mask_of_zeros
from nonsmooth.optim.penalty_reader import version_of
from nonsmooth.optim.prox_taken import writing
from nonsmooth.penalties import GroupL1, Penalty, SeparablePenalty, SparseGroupL1
from nonsmooth.torch_optimizers import AdaptiveStep

MISSED = "missed"
"""What the state of a parameter calls its `Missed`; absent where every row is up to date."""

LONGEST = 1024
"""After as many steps all rows are brought up to date: it bounds what is remembered, and how long a replay can get.

So do numbers by row that change, such as a λ for each coordinate that is scheduled: a single copy of them is kept.
"""

ZERO_STAYS = (SeparablePenalty, GroupL1, SparseGroupL1)
"""Penalties whose prox of 0 is 0, so that it makes no difference whether a weight that is 0 may be held there."""

AT_ONCE = 1 << 20
"""Weights that are brought up to date together, which bounds the size of the buffers."""


class Event(NamedTuple):
    """A prox that rows without a gradient missed.

    Attributes:
        penalty: λR, as it was then.
        step: D, a number or a tensor of one; for Adagrad the numbers of `AdaptiveStep`.
        numbers: what `numbers_of` gives.
    """

    penalty: Penalty
    step: float | Tensor | dict[str, Any]
    numbers: Numbers | None

    def take_(self, part: Tensor, rows: Tensor, size: torch.Size, square: Tensor | None) -> None:
        """Overwrite rows by their prox.

        Args:
            part: these rows, (rows, …).
            rows: their numbers.
            size: the shape of the whole parameter.
            square: Adagrad's sums of these rows; None for SGD.
        """
        step: Any = self.step if square is None else AdaptiveStep(square=square, **self.step)  # type: ignore[arg-type]
        moves_zero = square is not None and not isinstance(self.penalty, ZERO_STAYS)
        local_prox_(on_rows(self.penalty, rows, size), part, step, mask_of_zeros(part) if moves_zero else None)


class Missed:
    """What the rows of a parameter have missed.

    Attributes:
        events: all steps since every row was up to date.
        seen: how many of them each row has had, (rows,), int64.
        version: how often the parameter had been written in place when the last event was over.

    Args:
        parameter: all of whose rows are up to date.
    """

    def __init__(self, parameter: Tensor) -> None:
        self.events: list[Event] = []
        self._size = parameter.shape
        self.seen = torch.zeros(parameter.shape[0], dtype=torch.int64, device=parameter.device)
        self.version = 0
        self._kept: dict[str, tuple[Tensor, int, Tensor]] = {}

    def behind(self, rows: Tensor | None = None) -> Tensor:
        """Those of some rows, or of all, that have missed a step; in no order, and as often as they were given."""
        if rows is None:
            return (self.seen < len(self.events)).nonzero().reshape(-1)
        return rows[self.seen[rows] < len(self.events)]

    def note(self, penalty: Penalty, step: float | Tensor | dict[str, Any], rows: Tensor) -> None:
        """Write down a step which only some rows had.

        Args:
            penalty: λR, whose numbers may change later.
            step: as in `Event`.
            rows: which had it.
        """
        penalty, step = self._as_it_is(penalty), step.clone() if isinstance(step, Tensor) else step
        self.events.append(Event(penalty, step, numbers_of(penalty, step, self._size)))
        self.seen[rows] = len(self.events)

    def copies(self, penalty: Penalty) -> bool:
        """Whether writing a penalty down takes another copy of numbers by row, beside those that are kept."""
        large = [name for name, value in _tensors(penalty) if value.numel() >= len(self.seen)]
        return any(name in self._kept and not self._has(name, getattr(penalty, name)) for name in large)

    def _has(self, name: str, tensor: Tensor) -> bool:
        source, version, _ = self._kept.get(name, (None, 0, None))
        return source is tensor and version == version_of(tensor)

    def _as_it_is(self, penalty: Penalty) -> Penalty:
        """A penalty that keeps its numbers; tensors which have not changed since the last one share its copies."""
        kept = copy.copy(penalty)
        for name, value in _tensors(penalty):
            if value.numel() == 1:  # which somebody may write through `.data`, unseen
                number = name == "strength" and value.device.type == "cpu"
                object.__setattr__(kept, name, float(value) if number else value.detach().clone())
                continue
            if not self._has(name, value):
                self._kept[name] = (value, version_of(value), value.detach().clone())
            object.__setattr__(kept, name, self._kept[name][2])
        return kept

    def on(self, device: torch.device) -> Missed:
        """The same, where the parameter is now."""
        if self.seen.device != device:
            self.seen = self.seen.to(device)
        return self


def _tensors(penalty: Penalty) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in penalty.fields().items() if isinstance(value, Tensor)]


def on_rows(penalty: Penalty, rows: Tensor, size: torch.Size) -> Penalty:
    """The penalty on some rows of a parameter, for one that does not tie rows together.

    Args:
        penalty: λR on the whole.
        rows: their numbers.
        size: the shape of the whole parameter.
    """
    chosen = {
        name: _of_rows(penalty, name, value, rows, size) for name, value in _tensors(penalty) if value.numel() > 1
    }
    if not chosen:
        return penalty
    part = copy.copy(penalty)
    for name, value in chosen.items():
        object.__setattr__(part, name, value)
    return part


def _of_rows(penalty: Penalty, name: str, value: Tensor, rows: Tensor, size: torch.Size) -> Tensor:
    """What a tensor of a penalty is on some rows."""
    rows = rows.to(value.device)
    if penalty.separable:
        each_row = value.ndim == len(size) and value.shape[0] == size[0]
        return value.index_select(0, rows) if each_row else value
    return value.reshape(size[0], -1).index_select(0, rows).reshape(-1)  # weights by group


def take_missed(parameter: Tensor, state: Mapping[str, Any], rows: Tensor) -> None:
    """Take the proxes that rows have missed.

    Args:
        parameter: whose state has a `Missed`.
        state: the parameter's.
        rows: their numbers, each once.
    """
    missed: Missed = state[MISSED].on(parameter.device)
    at_once = AT_ONCE * parameter.shape[0] // (parameter.numel() or 1)
    seen, order = missed.seen[rows].sort()
    rows = rows[order]
    for first in range(0, len(rows), at_once or 1):
        some = slice(first, first + (at_once or 1))
        part = parameter.detach().index_select(0, rows[some])
        _take(part, seen[some], rows[some], missed.events, parameter.shape, state.get("sum"))
        parameter.detach().index_copy_(0, rows[some], part)
    missed.seen[rows] = len(missed.events)


def _take(
    part: Tensor, seen: Tensor, rows: Tensor, events: Sequence[Event], size: torch.Size, square: Tensor | None
) -> None:
    """Overwrite rows, those first that have seen least, by all proxes that they missed."""
    first = int(seen[0])
    events = events[first:]
    if (at_once := composed([event.numbers for event in events], part)) is not None:
        at_once.take_(part, seen - first)
        return
    sums = None if square is None else square.detach().index_select(0, rows)
    # How many rows, the first ones, a step is missing in.
    counts = torch.searchsorted(seen, torch.arange(first, first + len(events), device=seen.device), right=True)
    for event, count in zip(events, counts.tolist(), strict=True):
        event.take_(part[:count], rows[:count], size, None if sums is None else sums[:count])


def with_missed(optimizer: Optimizer) -> Iterator[tuple[Tensor, MutableMapping[str, Any]]]:
    """The parameters, and their states, some of whose rows may have missed steps."""
    return ((parameter, state) for parameter, state in list(optimizer.state.items()) if MISSED in state)


def forget(optimizer: Optimizer, parameter: Tensor) -> None:
    """Say that every row of a parameter is up to date."""
    state = optimizer.state[parameter]
    state.pop(MISSED, None)
    if not state:  # torch's SGD keeps none
        del optimizer.state[parameter]


@torch.no_grad()
def bring_up(optimizer: Optimizer, parameter: Tensor, rows: Tensor | None = None) -> None:
    """Take the proxes that some rows of a parameter have missed, or all; nothing is written where none is behind.

    Args:
        optimizer: with a `Missed` in the parameter's state.
        parameter: w.
        rows: numbers of rows, in any order; None for all.
    """
    state = optimizer.state[parameter]
    behind = state[MISSED].on(parameter.device).behind(rows)
    if rows is not None:
        behind = torch.unique(behind)
    if len(behind):
        before = version_of(parameter)
        with writing(optimizer, parameter):
            take_missed(parameter, state, behind)
        state[MISSED].version += version_of(parameter) - before
    if rows is None:
        forget(optimizer, parameter)


def catch_up(optimizer: Any) -> None:
    """Take the proxes that rows of embeddings missed in steps in which their sparse gradient did not name them.

    Call it before you read the weights of an embedding in another way than through a module that the optimizer follows
    (`follow`), as by `F.embedding`, a copy of the model or an export, and before you write them. `state_dict`,
    `certify` and `averaged` do it by themselves, and so does an optimizer every 1,024 steps. Where proxes are taken one
    after the other, it does the arithmetic that steps on dense gradients would have done; those of `L1`, `ElasticNet`
    and `GroupL1` with `dim=0` and no weights are taken at once under SGD. An optimizer that has had no sparse gradients
    is left as it is.

    Args:
        optimizer: any optimizer, or a wrapper with one in an attribute.
    """
    inner = unwrapped(optimizer)
    for parameter, _ in with_missed(inner):
        bring_up(inner, parameter)


def catch_up_before_loading(optimizer: Optimizer) -> None:
    """Take the proxes that were missed, before a state is loaded; but not of weights that somebody has loaded already.

    What is loaded misses nothing. Of who writes weights only the counts of writes in place tell.
    """
    for parameter, state in with_missed(optimizer):
        if state[MISSED].version == version_of(parameter):
            bring_up(optimizer, parameter)
        else:
            forget(optimizer, parameter)
