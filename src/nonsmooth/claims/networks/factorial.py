"""The 2×2 factorial of activations: blocks of four twins, contrasts between them, and intervals over seeds.

A block holds the four activations at the same optimiser, step size, depth and seed: the same first weights and the
same order of images. A contrast is a weighted sum over a block, so whatever the four share drops out. Blocks of one
seed share it at every depth and step size, so they are summed before the interval over seeds is made.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nonsmooth.claims.framework import Estimate, Missing, Quantity
from nonsmooth.lab import Record
from nonsmooth.models import ACTIVATIONS

RELU, SMOOTH_RELU, PIECEWISE_GELU, GELU = ACTIVATIONS
CONTRASTS: dict[str, dict[str, float]] = {
    "gap": {RELU: 1, GELU: -1},
    "smoothness": {RELU: 0.5, SMOOTH_RELU: -0.5, PIECEWISE_GELU: 0.5, GELU: -0.5},
    "shape": {RELU: 0.5, SMOOTH_RELU: 0.5, PIECEWISE_GELU: -0.5, GELU: -0.5},
    "interaction": {RELU: 0.5, SMOOTH_RELU: -0.5, PIECEWISE_GELU: -0.5, GELU: 0.5},
    "excess": {PIECEWISE_GELU: 1, SMOOTH_RELU: -1},
}
"""Weights of the activations. gap = smoothness + shape, and excess = smoothness - shape, which tells which is larger.

Each is positive where the function with kinks (for shape, the one like ReLU) has the larger number.
"""

Outcome = Callable[[Record], float | None]
"""Of a run; None where it has none."""
Units = Mapping[int, Mapping[int, float]]
"""A contrast by depth and seed: the mean over step sizes."""


@dataclass(frozen=True)
class Block:
    """Twins: up to four.

    Attributes:
        depth: of the network, as in its name.
        learning_rate: of the optimiser; None where each activation has its own.
        seed: of the weights and the order of images.
        runs: activation to record.
    """

    depth: int
    learning_rate: float | None
    seed: int
    runs: Mapping[str, Record]

    @property
    def left(self) -> int:
        """How many left the plateau."""
        return sum(run["left_at"] is not None for run in self.runs.values())

    @property
    def complete(self) -> bool:
        """Whether all four are there."""
        return len(self.runs) == len(ACTIVATIONS)


def blocks_of(records: Iterable[Record]) -> list[Block]:
    """The blocks of one optimiser's runs from one initialisation, in the order of the records."""
    found: dict[tuple[int, float, int], dict[str, Record]] = defaultdict(dict)
    for record in records:
        p = record.parameters
        found[p["depth"], p["learning_rate"], record.seed][p["activation"]] = record
    return [Block(*key, runs) for key, runs in found.items()]


def own_best(blocks: Sequence[Block]) -> list[Block]:
    """Blocks in which each activation runs at its own best step size: one per depth and seed.

    The best has the lowest mean of `mean_loss` over the seeds. It is chosen on the runs that are then compared, which
    flatters all four activations alike.
    """
    chosen: dict[tuple[int, int], dict[str, Record]] = defaultdict(dict)
    for depth in dict.fromkeys(block.depth for block in blocks):
        for activation in ACTIVATIONS:
            runs: dict[float | None, list[Record]] = defaultdict(list)
            for block in blocks:
                if block.depth == depth and activation in block.runs:
                    runs[block.learning_rate].append(block.runs[activation])
            means = {rate: float(np.mean([run["mean_loss"] for run in found])) for rate, found in runs.items()}
            # A mean that is not a number is not the best, wherever it stands.
            best = min(means, key=lambda rate: (math.isnan(means[rate]), means[rate]), default=None)
            for run in runs[best]:
                chosen[depth, run.seed][activation] = run
    return [Block(depth, None, seed, runs) for (depth, seed), runs in chosen.items()]


def contrast(block: Block, name: str, outcome: Outcome) -> float | None:
    """The weighted sum of an outcome over a block; None where a run that it needs is not there, or has no outcome."""
    weights = CONTRASTS[name]
    found = {activation: outcome(run) for activation, run in block.runs.items() if activation in weights}
    if len(found) < len(weights) or None in found.values():
        return None
    return sum(weight * value for a, weight in weights.items() if (value := found[a]) is not None)


def units_of(blocks: Iterable[Block], name: str, outcome: Outcome) -> Units:
    """The contrast per depth and seed."""
    found: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for block in blocks:
        value = contrast(block, name, outcome)
        if value is not None:
            found[block.depth][block.seed].append(value)
    return {depth: {seed: float(np.mean(values)) for seed, values in of.items()} for depth, of in found.items()}


def weighted(quantity: Quantity, units: Units, weights: Mapping[int, float]) -> Estimate | Missing:
    """Σ weight · contrast over depths within each seed, and the mean and its t interval over the seeds.

    Seeds that lack one of the depths are left out.
    """
    seeds = sorted(set.intersection(*(set(units[depth]) for depth in weights))) if weights else []
    return quantity.mean([sum(weights[depth] * units[depth][seed] for depth in weights) for seed in seeds])


def average(quantity: Quantity, units: Units) -> Estimate | Missing:
    """The mean over depths, all with the same weight."""
    return weighted(quantity, units, dict.fromkeys(units, 1 / len(units)) if units else {})


def growth(quantity: Quantity, units: Units, abscissa: Mapping[int, float]) -> Estimate | Missing:
    """How much a contrast grows from the shallowest to the deepest network, along the least-squares line.

    Args:
        quantity: what it is called.
        units: contrasts by depth and seed.
        abscissa: of each depth.
    """
    if len(units) < 2:
        return quantity.missing("needs networks of two depths")
    positions = {depth: abscissa[depth] for depth in units}
    centre = float(np.mean(list(positions.values())))
    spread = sum((position - centre) ** 2 for position in positions.values())
    span = max(positions.values()) - min(positions.values())
    return weighted(quantity, units, {d: span * (at - centre) / spread for d, at in positions.items()})


def as_factor(estimate: Estimate | Missing) -> Estimate | Missing:
    """Of a difference of logarithms: the factor."""
    if isinstance(estimate, Missing):
        return estimate
    value, low, high = (float(np.exp(end)) for end in (estimate.value, estimate.lower, estimate.upper))
    return Estimate(estimate.name, estimate.label, value, low, high, estimate.count, "×")
