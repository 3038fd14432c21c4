"""The methods of `sparsity_record.py`: how each comes to a share of zeros, and what is tried for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sparsity_record_ways as ways
from sparsity_record_ways import Settings

TOLD, ROUNDED, FOUND = "told", "rounded", "found"
"""How a method comes to a share of zeros: it is told; its small weights are set to zero at the end; its λ is found."""


def grid(**values: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """All combinations, the last name varying fastest."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


@dataclass(frozen=True)
class Method:
    """A line of the tables.

    Attributes:
        label: in tables.
        way: what trains, from a network, settings, the level, the number of steps and the family of optimizers.
        kind: "ours", "peer" or "control".
        arrives: how it comes to a level: `TOLD`, `ROUNDED` or `FOUND`.
        settings: the combinations to choose from, those worth trying first at the front.
        strengths: the range of λ, or of whatever makes more zeros, for each network, or for all others under "": the
            numbers there are from about 70 to 99 % zeros. Empty if there is no such number.
        tone: of the figure.
        marker: of the figure.
    """

    label: str
    way: type[ways.Dense]
    kind: str
    arrives: str
    settings: tuple[Settings, ...]
    strengths: Mapping[str, tuple[float, float]]
    tone: str
    marker: str

    def range(self, network: str) -> tuple[float, float]:
        """Of λ."""
        return self.strengths.get(network, self.strengths.get("", (1.0, 1.0)))


RATES = (10, 3, 1)
LARGE = {"resnet18": (1e-5, 1e-3), "vgg19": (1e-5, 1e-3)}
"""Ranges of λ; there are more weights, each pulled at by less."""
SCHEDULES = (
    *grid(start=(0.1,), end=(0.7,), every=(0.01,), rate=(10, 3)),
    *grid(start=(0.05,), end=(0.5,), every=(0.01,), rate=(10, 3)),
    {"start": 0.2, "end": 0.9, "every": 0.01, "rate": 10},
    {"start": 0.1, "end": 0.7, "every": 0.04, "rate": 10},
)
"""Of gradual magnitude pruning: start, end and update period in shares of the training."""
METHODS = {
    "dense": Method("dense", ways.Dense, "control", ROUNDED, grid(rate=RATES), {}, "neutral", "circle-open"),
    "target": Method(
        "SparsityTarget",
        ways.Target,
        "ours",
        TOLD,
        grid(release=(0.6, 0.75, 0.5), rate=(10, 3)),
        {},
        "ours",
        "circle",
    ),
    "lambda": Method(
        "λ alone",
        ways.Steady,
        "ours",
        FOUND,
        grid(rate=RATES),
        {"": (2e-3, 6e-2), **LARGE},
        "theory",
        "triangle",
    ),
    "gradual": Method(
        "gradual magnitude pruning",
        ways.GradualMagnitude,
        "peer",
        TOLD,
        SCHEDULES,
        {},
        "paper",
        "star",
    ),
    "rounding": Method(
        "rounded dense", ways.Dense, "control", ROUNDED, grid(rate=RATES), {}, "neutral", "diamond-open"
    ),
    "str": Method(
        "STR",
        ways.LearnedThresholds,
        "peer",
        FOUND,
        ({"threshold": -10.0, "rate": 10}, {"threshold": -10.0, "rate": 3}, {"threshold": -30.0, "rate": 10}),
        {"": (6e-3, 4e-2), "resnet18": (1e-3, 1e-2), "vgg19": (1e-3, 1e-2)},
        "c",
        "diamond",
    ),
    "spred": Method(
        "spred",
        ways.RedundantFactors,
        "peer",
        ROUNDED,
        grid(rate=(10,), start=(0.0, 1.0)) + grid(rate=(3,), start=(1.0,)),
        {"": (4e-4, 1.5e-2), **LARGE},
        "d",
        "cross",
    ),
    "torchao": Method(
        "torchao ProxLasso",
        ways.Torchao,
        "peer",
        FOUND,
        ({"healing": 1.0, "rate": 10}, {"healing": 0.6, "rate": 10}, {"healing": 1.0, "rate": 3}),
        {"": (5e-2, 8e-1), "resnet18": (3e-3, 1e-1), "vgg19": (3e-3, 1e-1)},
        "b",
        "plus",
    ),
    "torchao-target": Method(
        "torchao sparsity constraint",
        ways.TorchaoTarget,
        "peer",
        TOLD,
        grid(healing=(0.8, 0.6, 0.5), rate=(10, 3), every=(0.01,)),
        {},
        "e",
        "square-open",
    ),
}
"""By name, in the order of the tables. Another variant of ours is another entry."""

PRIMARY = "target"
"""What the others are compared with, seed by seed."""
