"""What one optimiser's runs of the claim `depth` say: contrasts, times on the plateau and shares that left it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nonsmooth.claims.framework import Estimate, Finding, Missing, Quantity
from nonsmooth.claims.networks.factorial import (
    GELU,
    RELU,
    Block,
    as_factor,
    average,
    growth,
    own_best,
    units_of,
)
from nonsmooth.claims.networks.plateau import CHANCE, LEAVING, OPTIMISER_LABELS
from nonsmooth.lab import Record
from nonsmooth.models import ACTIVATIONS, WEIGHT_LAYERS

CONTRAST_LABELS = {
    "gap": "ReLU - GELU",
    "smoothness": "main effect of smoothness (kinks - smooth)",
    "shape": "main effect of shape (ReLU's - GELU's)",
    "interaction": "interaction of smoothness and shape",
    "excess": "smoothness effect minus shape effect",
}


def mean_loss(record: Record) -> float:
    """Mean training loss over the run."""
    return float(record["mean_loss"])


def early_loss(record: Record) -> float:
    """Mean training loss over the first half of the run, from its thinned curve; what is missing counts as chance."""
    half = record.parameters["steps"] / 2
    points = [(step, min(loss, CHANCE)) for step, loss in zip(record["curve_step"], record["curve_loss"], strict=True)]
    total, last = 0.0, 0
    for step, loss in points:
        if step > half:
            break
        total, last = total + (step - last) * loss, step
    return total / last if last else CHANCE


def log_time(record: Record) -> float | None:
    """Logarithm of the steps on the plateau; None for a run that stayed there."""
    return None if record["left_at"] is None else math.log(record["left_at"])


def loss_after(record: Record) -> float | None:
    """Mean training loss over a quarter of the run after leaving; None where that quarter is not complete."""
    return None if record["loss_after"] is None else float(record["loss_after"])


AFTER = "loss after leaving"
OUTCOMES = {
    "mean loss": mean_loss,
    "mean loss of the first half": early_loss,
    "steps to leave": log_time,
    AFTER: loss_after,
}


@dataclass(frozen=True)
class Effects:
    """Contrasts of one optimiser's runs, on equal footing: same step size, weights and order of images.

    Attributes:
        optimiser: as whose they are listed.
        blocks: all blocks of twins.
        choices: `outcome`, and `blocks`: "one" or "all four".
    """

    optimiser: str
    blocks: Sequence[Block]
    choices: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Of the optimiser."""
        return OPTIMISER_LABELS[self.optimiser]

    @property
    def complete(self) -> list[Block]:
        """Blocks all of whose runs left the plateau."""
        return [block for block in self.blocks if block.left == len(block.runs)]

    @property
    def counting(self) -> list[Block]:
        """The blocks that enter the means: those in which the outcome says something."""
        of_all = self.choices["blocks"] == "all four" or self.choices["outcome"] in ("steps to leave", AFTER)
        return self.complete if of_all else [block for block in self.blocks if block.left > 0]

    def measured(self) -> list[Finding]:
        """The paper's comparison, ReLU against GELU."""
        blocks, label = self.counting, "mean training loss, ReLU - GELU"
        found: list[Finding] = [
            self._average("gap", "", label, blocks),
            self._growth("widening", blocks, "gap", "its growth from"),
        ]
        depths = sorted({block.depth for block in blocks})
        found += [
            self._average("gap", f"_vgg{d}", f"gap at VGG{d}", [b for b in blocks if b.depth == d]) for d in depths
        ]
        rates = sorted({block.learning_rate for block in blocks if block.learning_rate is not None})
        for rate in rates if len(rates) > 1 else ():
            at_rate = [block for block in blocks if block.learning_rate == rate]
            found.append(self._average("gap", f"_{rate:g}", f"gap at step size {rate:g}", at_rate))
        found += [self.left(activation) for activation in (RELU, GELU)]
        return found + self._two_numbers(("gap",))

    def control(self) -> list[Finding]:
        """The factorial, and other ways to compare."""
        names = ("smoothness", "shape", "interaction", "excess")
        found: list[Finding] = [self._average(name, "", CONTRAST_LABELS[name], self.counting) for name in names]
        found += self._two_numbers(("smoothness", "shape"))
        tuned = own_best(self.blocks) if len({block.learning_rate for block in self.blocks}) > 1 else ()
        for suffix, text, blocks in (
            ("_tuned", "each at its own best step size", tuned),
            ("_all_left", "only where all four left the plateau", self.complete),
        ):
            for name in ("gap", "smoothness", "shape") if blocks else ():
                found.append(self._average(name, suffix, f"{text}: {CONTRAST_LABELS[name]}", blocks))
        return found + [self.left(activation) for activation in ACTIVATIONS if activation not in (RELU, GELU)]

    def matched(self) -> list[Finding]:
        """The gap and its growth where every activation starts with the signal of ReLU."""
        text = "at equal signals: ReLU - GELU"
        blocks = self.counting
        return [
            self._average("gap", "_matched", text, blocks),
            self._growth("widening_matched", blocks, "gap", f"{text}, its growth from"),
            self.left(GELU, "_matched", ", at equal signals"),
        ]

    def notes(self) -> Iterable[str]:
        """How many blocks say nothing, and the plateau in words."""
        blocks = [block for block in self.blocks if block.complete]
        silent = sum(not block.left for block in blocks)
        yield (
            f"{self.label}: in {silent} of {len(blocks)} blocks none of the four runs left the plateau; they are "
            "counted in the shares, and enter no mean."
        )

    def left(self, activation: str, suffix: str = "", text: str = "") -> Finding:
        """The share of runs that left the plateau, with its exact interval."""
        runs = [block.runs[activation] for block in self.blocks if activation in block.runs]
        label = f"share of {ACTIVATIONS[activation].label} runs below {LEAVING:g} ln 10{text}"
        quantity = self._quantity(f"left_{activation.replace('-', '_')}", suffix, label)
        return quantity.share(sum(run["left_at"] is not None for run in runs), len(runs))

    def _quantity(self, name: str, suffix: str, label: str, unit: str = "") -> Quantity:
        return Quantity(f"{name}_{self.optimiser}{suffix}", f"{self.label}: {label}", unit)

    def _average(self, name: str, suffix: str, label: str, blocks: Sequence[Block]) -> Estimate | Missing:
        units = units_of(blocks, name, OUTCOMES[self.choices["outcome"]])
        return average(self._quantity(name, suffix, label, "nats"), units)

    def _growth(self, name: str, blocks: Sequence[Block], contrast: str, text: str) -> Estimate | Missing:
        units = units_of(blocks, contrast, OUTCOMES[self.choices["outcome"]])
        return growth(self._quantity(name, "", f"{text} shallowest to deepest", "nats"), units, WEIGHT_LAYERS)

    def _two_numbers(self, names: Iterable[str]) -> list[Finding]:
        """Steps to leave the plateau and loss after it, from the blocks in which all four have the number."""
        found: list[Finding] = []
        for name in names:
            followed = [b for b in self.complete if None not in map(loss_after, b.runs.values())]
            times, after = units_of(self.complete, name, log_time), units_of(followed, name, loss_after)
            text = f"factor on the steps to leave the plateau, {CONTRAST_LABELS[name]}"
            found.append(as_factor(average(self._quantity(f"time_{name}", "", text), times)))
            text = f"growth of that factor from the shallowest to the deepest, {CONTRAST_LABELS[name]}"
            found.append(as_factor(growth(self._quantity(f"time_widening_{name}", "", text), times, WEIGHT_LAYERS)))
            text = f"mean loss after leaving it, {CONTRAST_LABELS[name]}"
            found.append(average(self._quantity(f"after_{name}", "", text, "nats"), after))
        return found
