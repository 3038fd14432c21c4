"""What the runs of the `depth` experiment say, optimiser by optimiser: effects, finding, values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from nonsmooth.claims.framework.claim import Value, format_number
from nonsmooth.claims.framework.statistics import proportion_value
from nonsmooth.claims.networks.factorial import (
    CONTRASTS,
    GELU,
    RELU,
    Block,
    Estimate,
    average,
    by_stratum,
    growth,
    own_best,
)
from nonsmooth.claims.networks.plateau import LEAVING, OPTIMISER_LABELS
from nonsmooth.lab import Record
from nonsmooth.models import ACTIVATIONS, WEIGHT_LAYERS

NATS = "nats"
RELEVANT = 0.05
"""Nats of mean training loss below which a difference counts as none; chance is at 2.30."""
CONTRAST_LABELS = {
    "gap": "ReLU - GELU",
    "smoothness": "main effect of smoothness (kinks - smooth)",
    "shape": "main effect of shape (ReLU's - GELU's)",
    "interaction": "interaction of smoothness and shape",
    "excess": "smoothness effect minus shape effect",
}


class Finding(Enum):
    """What one optimiser's runs say of the claim."""

    SMOOTHNESS = "GELU trains faster, more so with depth, and smoothness carries it"
    SHAPE = "GELU trains faster, more so with depth, but shape carries it"
    ABSENT = "GELU does not train faster"
    NOT_WIDER = "GELU trains faster, but the gap does not widen with depth"
    OPEN = "undecided"


@dataclass(frozen=True)
class Effects:
    """Contrasts of one optimiser's runs, on equal footing: same step size, weights and order of images.

    Attributes:
        optimiser: name in `plateau.OPTIMISERS`.
        blocks: all blocks of four twins.
        overall: contrast of the mean training loss, from blocks in which at least one of the four left the plateau.
        by_depth: the same per depth.
        widening: growth of the gap from the shallowest to the deepest network, along a line over the weight layers.
    """

    optimiser: str
    blocks: Sequence[Block]
    overall: Mapping[str, Estimate]
    by_depth: Mapping[int, Mapping[str, Estimate]]
    widening: Estimate | None

    @property
    def informative(self) -> list[Block]:
        """Blocks in which at least one of the four left the plateau."""
        return [block for block in self.blocks if block.left > 0]

    @property
    def complete(self) -> list[Block]:
        """Blocks in which all four left it."""
        return [block for block in self.blocks if block.left == len(ACTIVATIONS)]

    @property
    def finding(self) -> Finding:
        """The rule of the claim, for this optimiser."""
        return self._decide()[0]

    @property
    def undecided(self) -> tuple[str, Estimate] | None:
        """The question that is open, if one is, and its estimate; None also where there is no estimate at all."""
        return self._decide()[1]

    def _decide(self) -> tuple[Finding, tuple[str, Estimate] | None]:
        """Question by question, in the order of the rule."""
        if not self.overall:
            return Finding.OPEN, None
        gap, excess, smoothness = (self.overall[name] for name in ("gap", "excess", "smoothness"))
        if gap.low <= 0:
            return (
                (Finding.ABSENT, None)
                if gap.high < RELEVANT
                else (Finding.OPEN, ("the gap between ReLU and GELU", gap))
            )
        if self.widening is None:
            return Finding.OPEN, None
        if self.widening.low <= 0:
            return (
                (Finding.NOT_WIDER, None)
                if self.widening.high < RELEVANT
                else (Finding.OPEN, ("whether the gap widens with depth", self.widening))
            )
        if excess.high < 0:
            return Finding.SHAPE, None
        if excess.low <= 0:
            return Finding.OPEN, ("whether smoothness or shape is larger", excess)
        if smoothness.low <= 0:
            return Finding.OPEN, ("the effect of smoothness", smoothness)
        return Finding.SMOOTHNESS, None


def mean_loss(record: Record) -> float:
    """Mean training loss over the run."""
    return float(record["mean_loss"])


def log_time(record: Record) -> float:
    """Logarithm of the steps on the plateau."""
    return math.log(record["left_at"])


def loss_after(record: Record) -> float:
    """Mean training loss over a quarter of the run after leaving."""
    return float(record["loss_after"])


def contrasts_of(blocks: Iterable[Block], outcome: Callable[[Record], float]) -> dict[str, Estimate]:
    """Every contrast, averaged over depths and initialisations; empty without blocks."""
    members = list(blocks)
    estimates = {name: average(by_stratum(members, name, outcome)) for name in CONTRASTS}
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def effects_of(optimiser: str, blocks: Sequence[Block]) -> Effects:
    """The effects in one optimiser's blocks."""
    informative = [block for block in blocks if block.left > 0]
    depths = sorted({block.depth for block in informative})
    return Effects(
        optimiser=optimiser,
        blocks=blocks,
        overall=contrasts_of(informative, mean_loss),
        by_depth={d: contrasts_of([b for b in informative if b.depth == d], mean_loss) for d in depths},
        widening=growth(by_stratum(informative, "gap", mean_loss), lambda depth: WEIGHT_LAYERS[depth]),
    )


def measured_values(effects: Effects) -> list[Value]:
    """The paper's comparison, ReLU against GELU, in one optimiser's runs."""
    o, label = effects.optimiser, OPTIMISER_LABELS[effects.optimiser]
    values = []
    if effects.overall:
        values.append(effects.overall["gap"].as_value(f"gap_{o}", f"{label}: mean training loss, ReLU - GELU", NATS))
    if effects.widening is not None:
        values.append(
            effects.widening.as_value(f"widening_{o}", f"{label}: its growth from shallowest to deepest", NATS)
        )
    for depth, contrasts in effects.by_depth.items():
        values.append(contrasts["gap"].as_value(f"gap_{o}_vgg{depth}", f"{label}: gap at VGG{depth}", NATS))
    rates = sorted({block.setting[1] for block in effects.informative})
    for rate in rates if len(rates) > 1 else ():
        part = contrasts_of([b for b in effects.informative if b.setting[1] == rate], mean_loss)
        values.append(part["gap"].as_value(f"gap_{o}_{rate:g}", f"{label}: gap at step size {rate:g}", NATS))
    values += [left_value(effects, activation) for activation in (RELU, GELU)]
    return values + two_numbers(effects, ("gap",))


def control_values(effects: Effects) -> list[Value]:
    """The factorial, and other ways to compare, in one optimiser's runs."""
    o, label = effects.optimiser, OPTIMISER_LABELS[effects.optimiser]
    values = [
        effects.overall[name].as_value(f"{name}_{o}", f"{label}: {CONTRAST_LABELS[name]}", NATS)
        for name in ("smoothness", "shape", "interaction", "excess")
        if effects.overall
    ]
    values += two_numbers(effects, ("smoothness", "shape"))
    tuned = own_best(effects.blocks) if len({block.setting for block in effects.blocks}) > 1 else ()
    for suffix, text, blocks in (
        ("tuned", "each at its own best step size", tuned),
        ("all_left", "only where all four left the plateau", effects.complete),
    ):
        found = contrasts_of(blocks, mean_loss)
        for name in ("gap", "smoothness", "shape") if found else ():
            values.append(
                found[name].as_value(f"{name}_{o}_{suffix}", f"{label}, {text}: {CONTRAST_LABELS[name]}", NATS)
            )
    return values + [left_value(effects, activation) for activation in ACTIVATIONS if activation not in (RELU, GELU)]


def two_numbers(effects: Effects, names: Iterable[str]) -> list[Value]:
    """Steps to leave the plateau and loss after it, from the blocks in which all four have the number."""
    o, label = effects.optimiser, OPTIMISER_LABELS[effects.optimiser]
    times = contrasts_of(effects.complete, log_time)
    followed = [b for b in effects.complete if all(run["loss_after"] is not None for run in b.runs.values())]
    after = contrasts_of(followed, loss_after)
    values = []
    for name in names:
        if times:
            text = f"{label}: factor on the steps to leave the plateau, {CONTRAST_LABELS[name]}"
            values.append(times[name].as_value(f"time_{name}_{o}", text, "×", math.exp))
        wider = growth(by_stratum(effects.complete, name, log_time), lambda depth: WEIGHT_LAYERS[depth])
        if wider is not None:
            text = f"{label}: growth of that factor from the shallowest to the deepest, {CONTRAST_LABELS[name]}"
            values.append(wider.as_value(f"time_widening_{name}_{o}", text, "×", math.exp))
        if after:
            text = f"{label}: mean loss after leaving it, {CONTRAST_LABELS[name]}"
            values.append(after[name].as_value(f"after_{name}_{o}", text, NATS))
    return values


def plateau_sentence(effects: Effects) -> str | None:
    """How much longer ReLU stays on the plateau than GELU, where all four activations left it; None if none did."""
    factor = next((value for value in two_numbers(effects, ("gap",)) if value.name.startswith("time_gap")), None)
    if factor is None:
        return None
    text = f"{OPTIMISER_LABELS[effects.optimiser]}: where all four activations left the plateau, ReLU took {factor} the"
    growths = [value for value in two_numbers(effects, ("gap",)) if value.name.startswith("time_widening")]
    grown = "".join(f", a factor that grew by {value} with depth" for value in growths)
    return f"{text} steps of GELU{grown}."


def left_value(effects: Effects, activation: str) -> Value:
    """The share of runs that left the plateau, with its exact interval."""
    runs = [block.runs[activation] for block in effects.blocks]
    left = sum(run["left_at"] is not None for run in runs)
    label = (
        f"{OPTIMISER_LABELS[effects.optimiser]}: share of {ACTIVATIONS[activation].label} runs below {LEAVING:g} ln 10"
    )
    return proportion_value(f"left_{activation.replace('-', '_')}_{effects.optimiser}", label, left, len(runs))


def sentence(effects: Effects) -> str:
    """What one optimiser's runs say, in one sentence."""
    label = OPTIMISER_LABELS[effects.optimiser]
    if not effects.overall:
        return f"{label}: none of {len(effects.blocks) * len(ACTIVATIONS)} runs left the plateau."
    gap = effects.overall["gap"]
    direction = "higher" if gap.value > 0 else "lower"
    text = f"{label}: the training loss with ReLU is {direction} than with GELU, difference {_shown(gap)} nats"
    if effects.widening is not None:
        text += f", growing by {_shown(effects.widening)} from the shallowest to the deepest network"
    text += (
        f"; smoothness makes {_shown(effects.overall['smoothness'])} of it, shape {_shown(effects.overall['shape'])}"
    )
    if effects.undecided is not None:
        return f"{text}: undecided is {effects.undecided[0]}."
    if effects.finding is Finding.OPEN:
        return f"{text}: only one depth left the plateau, so that widening is undecided."
    return f"{text}: {effects.finding.value}."


def _shown(estimate: Estimate) -> str:
    return str(estimate.as_value("", "")) if math.isfinite(estimate.low) else format_number(estimate.value)
