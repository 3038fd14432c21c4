"""Run a closure as often as it takes to measure the norms in it: as it is, and with some of them larger."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.casts import forget_casts
from nonsmooth.kinks.findings import PenaltyTerm
from nonsmooth.kinks.penalty_terms.candidates import Candidate, KeptGraphs, Listener, Replay
from nonsmooth.kinks.penalty_terms.graph_terms import graph_terms
from nonsmooth.kinks.recording.eager import run_eagerly
from nonsmooth.kinks.recording.graph import nodes_below
from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.recording.out_of_sight import reported
from nonsmooth.kinks.recording.sets import NO_NORMS, NormSet

FACTOR = 1e6
"""How many times larger a term is made: far above the rounding errors of a loss in single precision."""


@dataclass(frozen=True)
class Unit:
    """The calls that compute the same norms of the same numbers at one line.

    Attributes:
        calls: their numbers.
        one: one of them.
        names: of the parameters.
        flow: their set.
        within: the calls that computed absolute values of which these are the largest.
    """

    calls: tuple[int, ...]
    one: Candidate
    names: tuple[str, ...]
    flow: NormSet
    within: frozenset[int]

    @property
    def value(self) -> float:
        """R(w)."""
        return self.one.total / abs(self.one.numbers.factor)


@dataclass(frozen=True)
class ExperimentResult:
    """What came out of a run.

    Attributes:
        loss: its value.
        grown: by how much each call's result was made larger.
        gradient: of the loss, if it was asked for and can be had.
    """

    loss: float
    grown: dict[int, float]
    gradient: tuple[Tensor | None, ...] | None


class Experiment:
    """A closure that runs as often as needed, without a trace.

    Attributes:
        leaves: the parameters.
        loss: its value.
        visible: the norms that it is seen to be linear in.
    """

    def __init__(self, closure: Callable[[], Any], pairs: list[tuple[str, Tensor]], modules: list[nn.Module]) -> None:
        self.leaves = Leaves(pairs, complete=True)
        self.loss, self.visible, self._calls = 0.0, NO_NORMS, 0
        self._closure, self._modules = closure, modules
        self._trained = [tensor for tensor in self.leaves.tensors if tensor.requires_grad]
        self._gradient: tuple[Tensor | None, ...] | None = None

    def record(self) -> tuple[tuple[PenaltyTerm, ...], dict[int, Candidate]]:
        """The terms in the graph, and the norms that are not in it."""
        # They remember nodes of the graph, which has to go when this is over.
        leaves = Leaves(list(zip(self.leaves.names, self.leaves.tensors, strict=True)), complete=True)
        listener = Listener(leaves)
        with self._run_eagerly():
            try:
                with reported(listener.leave), KeptGraphs(), listener:
                    loss = self._closure()
                self._calls = listener.calls
                if not isinstance(loss, Tensor) or loss.numel() != 1:
                    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
                    raise ValueError(f"loss returned {found}; accepted is a tensor of one element")
                self.loss, self.visible = float(loss.detach()), listener.flows_into(loss)
                if loss.grad_fn is None:
                    return (), listener.candidates
                terms = graph_terms(loss, leaves, listener.lines)
                seen = {node._sequence_nr() for node in nodes_below(loss.grad_fn) if leaves.of_node(node)}
                silent = {call: c for call, c in listener.candidates.items() if c.sequence not in seen}
                return terms, silent
            finally:
                listener.restore()

    def repeats(self) -> bool:
        """Whether the closure does the same when it is called again."""
        replay = Replay({})
        with self._again(replay) as loss:
            return replay.calls == self._calls and float(loss.detach()) == self.loss

    def run(self, units: Sequence[Unit] = (), *, uneven: bool = False, gradient: bool = False) -> ExperimentResult:
        """Run with the norms of some units made larger, all by as much or each by another amount."""
        growth = {
            call: _room(unit, len(units)) / (2 + k if uneven else 1)
            for k, unit in enumerate(units)
            for call in unit.calls
        }
        replay = Replay(growth, slope=1.0 if uneven else 0.0)
        with self._again(replay) as loss:
            slopes = _slopes(loss, self._trained) if gradient else None
            return ExperimentResult(float(loss.detach()), replay.grown, slopes)

    def derivatives(self, units: Sequence[Unit]) -> list[float | None]:
        """λ of each unit in one run; None where PyTorch cannot differentiate, as behind `.item()`."""
        replay = Replay({}, probed={call for unit in units for call in unit.calls})
        try:
            with warnings.catch_warnings(), self._again(replay) as loss:
                warnings.simplefilter("ignore")  # numbers that leave now seem to take a gradient with them
                calls = list(replay.probes)
                slopes = _slopes(loss, list(replay.probes.values())) or (None,) * len(calls)
        except RuntimeError:  # an operation in place on what is a leaf now
            return [None] * len(units)
        by_call = dict(zip(calls, slopes, strict=True))
        return [_common([by_call.get(call) for call in unit.calls], unit) for unit in units]

    @contextmanager
    def _again(self, replay: Replay) -> Iterator[Tensor]:
        with self._run_eagerly():
            try:
                with reported(replay.leave), KeptGraphs(), replay:
                    yield self._closure()
            finally:
                replay.restore()

    def _run_eagerly(self) -> AbstractContextManager[None]:
        forget_casts()  # each run casts the parameters anew
        leaf_tensors = [tensor for tensor in self.leaves.tensors if tensor.is_leaf]  # others have no `.grad`
        return run_eagerly(leaf_tensors, self._modules)

    def keeps_gradient(self, units: Sequence[Unit]) -> bool:
        """Whether the gradient of the loss stays as it is when norms become larger."""
        if self._gradient is None:
            self._gradient = self.run(gradient=True).gradient
        changed = self.run(units, gradient=True).gradient
        if self._gradient is None or changed is None:
            return all(unit.flow & self.visible for unit in units)
        return all(_close(before, after) for before, after in zip(self._gradient, changed, strict=True))


def _slopes(loss: Tensor, tensors: list[Tensor]) -> tuple[Tensor | None, ...] | None:
    """The gradient of a loss; None if PyTorch refuses."""
    if loss.grad_fn is None or not tensors:
        return (None,) * len(tensors)
    try:
        slopes = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    except RuntimeError:  # reentrant checkpoints refuse, and so does a graph that the closure has freed
        return None
    return tuple(None if slope is None else slope.to_dense() for slope in slopes)


def _common(slopes: list[Tensor | None], unit: Unit) -> float | None:
    """λ, if all entries have the same."""
    total = 0.0
    for slope in slopes:
        if slope is None or float(slope.max() - slope.min()) > 1e-5 * float(slope.abs().max()):
            return None
        total += float(slope.max())
    return total * abs(unit.one.numbers.factor)


def _room(unit: Unit, together: int) -> float:
    """By how much the sum of a unit's norms is made larger: half precision has not much room."""
    room = (torch.finfo(unit.one.dtype).max - unit.one.total) / 4
    return min(FACTOR * max(unit.one.total, 1.0), room / together)


def _close(before: Tensor | None, after: Tensor | None) -> bool:
    if before is None or after is None:
        there = before if after is None else after
        return there is None or not bool(there.any())
    return bool((before - after).abs().max() <= 1e-4 * before.abs().max()) if before.numel() else True
