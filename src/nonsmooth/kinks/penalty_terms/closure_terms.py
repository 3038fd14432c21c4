"""Penalties that a loss contains and its gradient does not: on `.data`, on `.detach()`, under `no_grad`, by `.item()`.

Candidates are the norms of parameters that are not in the graph of the loss. The closure runs again with one made
larger: if the loss grows and its gradient stays, the term is in the loss and training does not see it. If the gradient
changes too, the norm is no penalty but part of the model, as the scale of a quantisation is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.kinks.findings import PenaltyTerm
from nonsmooth.kinks.penalty_terms.candidates import Candidate
from nonsmooth.kinks.penalty_terms.experiment import Experiment, ExperimentResult, Unit
from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.recording.sets import LeafSet, union

Found = tuple[list[Unit], float | None]
"""Norms that have a term in common, and its λ if it could be measured."""


def closure_terms(
    closure: Callable[[], Any], pairs: list[tuple[str, Tensor]], modules: list[nn.Module]
) -> tuple[PenaltyTerm, ...]:
    """The terms of a closure: those in the graph of its loss, then those without a gradient."""
    experiment = Experiment(closure, pairs, modules)
    found, candidates = experiment.record()
    lines: dict[Any, list[Unit]] = {}
    for unit in _units(candidates, experiment.leaves):
        lines.setdefault((unit.one.kind, unit.one.source), []).append(unit)
    if not lines:
        return found
    if experiment.repeats():
        silent = _silent(lines, experiment)
        return (*found, *(_term(units, strength) for units, strength in silent))
    # The closure draws new data each time, so nothing can be measured: only what is seen to be added is named.
    added = ([unit for unit in units if unit.flow & experiment.visible] for units in lines.values())
    return (*found, *(_term(units, None) for units in added if units))


def _units(candidates: dict[int, Candidate], leaves: Leaves) -> list[Unit]:
    alike: dict[Any, list[int]] = {}
    for call, candidate in candidates.items():
        alike.setdefault((candidate.kind, candidate.source, candidate.numbers), []).append(call)
    trainable = leaves.parameters(trainable=True)
    return [
        Unit(
            tuple(calls),
            candidates[calls[0]],
            leaves.names_of(LeafSet(candidates[calls[0]].numbers.bits & trainable)),
            union(*(candidates[call].flow for call in calls)),
            frozenset(within for call in calls if (within := candidates[call].within) is not None),
        )
        for calls in alike.values()
    ]


def _silent(lines: dict[Any, list[Unit]], experiment: Experiment) -> list[Found]:
    """The terms of all lines, in the order in which they were computed."""
    found: list[Found] = []
    explained: set[int] = set()
    for (kind, _), line in sorted(lines.items(), key=lambda item: item[0][0] != "max"):
        # What makes absolute values larger makes the largest larger, too.
        units = [unit for unit in line if kind != "l1" or not explained & {*unit.calls}]
        for together, strength in _silent_on_line(units, experiment):
            found.append((together, strength))
            explained.update(*(unit.within for unit in together))
    return sorted(found, key=lambda term: term[0][0].calls)


def _silent_on_line(units: list[Unit], experiment: Experiment) -> list[Found]:
    """The terms of one source line: together if one λ explains two runs, else one by one."""
    if _growth(experiment.run(units, uneven=True), experiment) == 0:  # computed, and not in the loss
        return []
    return _measured(_additive(units, experiment), experiment)


def _additive(units: list[Unit], experiment: Experiment) -> list[Unit]:
    """The units that leave the gradient as it is, by halving."""
    if experiment.keeps_gradient(units):
        return units
    if len(units) == 1:
        return []
    half = len(units) // 2
    return [*_additive(units[:half], experiment), *_additive(units[half:], experiment)]


def _measured(units: list[Unit], experiment: Experiment) -> list[Found]:
    if not units:
        return []
    even, uneven = experiment.run(units), experiment.run(units, uneven=True)
    first, second = _growth(even, experiment), _growth(uneven, experiment)
    if first == second == 0:
        return []
    strength, other = (_over(growth, units, run) for growth, run in ((first, even), (second, uneven)))
    if _agree(strength, other, units):
        return [(units, strength)]
    if len(units) == 1:  # the loss is not linear in it, or has another λ for each of its entries
        return [(units, None)]
    strengths = [
        _alone(unit, experiment) if strength is None else strength
        for unit, strength in zip(units, experiment.derivatives(units), strict=True)
    ]
    predicted = sum(s * size for s, size in zip(strengths, _sizes(units, uneven), strict=True))
    if _agree(predicted, second, units):
        return [([unit], s) for unit, s in zip(units, strengths, strict=True) if s != 0]
    return [term for unit in units for term in _measured([unit], experiment)]


def _growth(outcome: ExperimentResult, experiment: Experiment) -> float:
    """By how much the loss grew; 0 below its rounding errors."""
    growth = outcome.loss - experiment.loss
    return 0.0 if abs(growth) <= 1e-6 * abs(experiment.loss) else growth


def _alone(unit: Unit, experiment: Experiment) -> float:
    """λ of one unit, from one run."""
    outcome = experiment.run([unit])
    return _over(_growth(outcome, experiment), [unit], outcome)


def _over(growth: float, units: list[Unit], outcome: ExperimentResult) -> float:
    """The growth of the loss over that of R(w)."""
    return growth / sum(_sizes(units, outcome)) if growth else 0.0


def _sizes(units: list[Unit], outcome: ExperimentResult) -> list[float]:
    """By how much R(w) of each unit grew; not a number where it was not computed, if a branch depends on it."""
    return [outcome.grown.get(unit.calls[0], math.nan) / abs(unit.one.numbers.factor) for unit in units]


def _agree(first: float, second: float, units: list[Unit]) -> bool:
    tolerance = max(1e-3, *(2 * torch.finfo(unit.one.dtype).eps for unit in units))
    return abs(first - second) <= tolerance * max(abs(first), abs(second))


def _term(units: list[Unit], strength: float | None) -> PenaltyTerm:
    return PenaltyTerm(
        kind=units[0].one.kind,
        parameters=tuple(dict.fromkeys(name for unit in units for name in unit.names)),
        strength=strength,
        uniform=strength is not None,
        value=sum(unit.value for unit in units),
        centered=all(unit.one.numbers.centered for unit in units),
        has_gradient=False,
        source=units[0].one.source,
    )
