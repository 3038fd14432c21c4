"""The 2×2 factorial of activations: blocks of four twins, contrasts between them, and intervals over seeds.

A block holds the four activations at the same optimiser, step size, depth, initialisation and seed: the same first
weights and the same order of images. A contrast is a weighted sum over a block, so whatever the four share drops out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nonsmooth.claims.framework.claim import Value
from nonsmooth.claims.framework.statistics import CONFIDENCE
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

Stratum = tuple[int, str]
"""Depth and initialisation."""


@dataclass(frozen=True)
class Estimate:
    """A weighted mean with its t interval over seeds.

    Attributes:
        value: the estimate.
        low: lower end; -∞ where the seeds are too few for an interval.
        high: upper end; +∞ likewise.
        seeds: seeds behind it.
    """

    value: float
    low: float
    high: float
    seeds: int

    def seeds_to_see(self, difference: float) -> int | None:
        """About how many seeds make the interval reach no further than `difference` to each side; None if unknown."""
        half = (self.high - self.low) / 2
        if not math.isfinite(half):
            return None
        return max(self.seeds + 1, math.ceil(self.seeds * (half / difference) ** 2))

    def as_value(self, name: str, label: str, unit: str = "", transform: Callable[[float], float] = float) -> Value:
        """The estimate as a claim's value; `transform` is increasing and is applied to all three numbers."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        low, high = (transform(self.low), transform(self.high)) if known else (None, None)
        return Value(name, label, transform(self.value), low, high, self.seeds, unit)


@dataclass(frozen=True)
class Block:
    """Four twins.

    Attributes:
        depth: of the network, as in its name.
        initialisation: of the network.
        setting: optimiser and step size.
        seed: of the weights and the order of images.
        runs: activation to record.
    """

    depth: int
    initialisation: str
    setting: tuple[str, float]
    seed: int
    runs: Mapping[str, Record]

    @property
    def left(self) -> int:
        """How many of the four left the plateau."""
        return sum(run["left_at"] is not None for run in self.runs.values())


def blocks_of(records: Iterable[Record]) -> list[Block]:
    """The blocks that have all four activations, in the order of the records."""
    found: dict[tuple[int, str, tuple[str, float], int], dict[str, Record]] = defaultdict(dict)
    for record in records:
        p = record.parameters
        setting = (p["optimiser"], p["learning_rate"])
        found[p["depth"], p["initialisation"], setting, record.seed][p["activation"]] = record
    return [Block(*key, runs) for key, runs in found.items() if len(runs) == len(ACTIVATIONS)]


def own_best(blocks: Sequence[Block]) -> list[Block]:
    """Blocks in which each activation runs at its own best setting: one per depth, initialisation and seed.

    The best setting has the lowest mean of `mean_loss` over the seeds. It is chosen on the runs that are then
    compared, which flatters all four activations alike.
    """
    strata: dict[Stratum, list[Block]] = defaultdict(list)
    for block in blocks:
        strata[block.depth, block.initialisation].append(block)
    chosen = []
    for (depth, initialisation), members in strata.items():
        seeds: dict[int, dict[str, Record]] = defaultdict(dict)
        for activation in ACTIVATIONS:
            losses: dict[tuple[str, float], list[float]] = defaultdict(list)
            for block in members:
                losses[block.setting].append(block.runs[activation]["mean_loss"])
            means = {setting: float(np.mean(found)) for setting, found in losses.items()}
            # A mean that is not a number is not the best, wherever it stands.
            best = min(means, key=lambda setting: (math.isnan(means[setting]), means[setting]))
            for block in members:
                if block.setting == best:
                    seeds[block.seed][activation] = block.runs[activation]
        chosen += [
            Block(depth, initialisation, ("own best", 0.0), seed, runs)
            for seed, runs in seeds.items()
            if len(runs) == len(ACTIVATIONS)
        ]
    return chosen


def contrast(block: Block, name: str, outcome: Callable[[Record], float]) -> float:
    """The weighted sum of an outcome over a block."""
    return sum(weight * outcome(block.runs[activation]) for activation, weight in CONTRASTS[name].items())


def by_stratum(
    blocks: Iterable[Block], name: str, outcome: Callable[[Record], float]
) -> dict[Stratum, dict[int, float]]:
    """The contrast per depth and initialisation, and per seed: the mean over step sizes, which share the seed."""
    found: dict[Stratum, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for block in blocks:
        found[block.depth, block.initialisation][block.seed].append(contrast(block, name, outcome))
    return {
        stratum: {seed: float(np.mean(values)) for seed, values in seeds.items()} for stratum, seeds in found.items()
    }


def weighted(units: Mapping[Stratum, Mapping[int, float]], weights: Mapping[Stratum, float]) -> Estimate | None:
    """Σ weight · (mean over seeds in the stratum), with the t interval of the pooled variance between seeds.

    Returns:
        None if a stratum with a weight has no seeds.
    """
    if not weights or any(not units.get(stratum) for stratum in weights):
        return None
    samples = {stratum: np.array(list(units[stratum].values())) for stratum in weights}
    value = sum(weights[stratum] * float(sample.mean()) for stratum, sample in samples.items())
    seeds = len({seed for stratum in weights for seed in units[stratum]})
    freedom = sum(len(sample) - 1 for sample in samples.values())
    if freedom == 0:
        return Estimate(value, -math.inf, math.inf, seeds)
    variance = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples.values()) / freedom
    error = math.sqrt(variance * sum(weights[stratum] ** 2 / len(sample) for stratum, sample in samples.items()))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Estimate(value, value - half, value + half, seeds)


def average(units: Mapping[Stratum, Mapping[int, float]]) -> Estimate | None:
    """The mean over depths and initialisations, all with the same weight."""
    return weighted(units, dict.fromkeys(units, 1 / len(units))) if units else None


def growth(units: Mapping[Stratum, Mapping[int, float]], abscissa: Callable[[int], float]) -> Estimate | None:
    """How much the contrast grows from the shallowest to the deepest network, along the least-squares line.

    Args:
        units: contrasts by stratum and seed.
        abscissa: of a depth.

    Returns:
        None with fewer than two depths.
    """
    if len({depth for depth, _ in units}) < 2:
        return None
    positions = {stratum: abscissa(stratum[0]) for stratum in units}
    centre = float(np.mean(list(positions.values())))
    spread = sum((position - centre) ** 2 for position in positions.values())
    span = max(positions.values()) - min(positions.values())
    return weighted(units, {stratum: span * (position - centre) / spread for stratum, position in positions.items()})
