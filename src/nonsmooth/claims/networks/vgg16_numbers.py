"""What `vgg16-l1` lists beside its verdict: the paper's numbers, the runs', the law's, and notes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nonsmooth.claims.framework import Finding, Value
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.dynamics.stationary import subgradient_law
from nonsmooth.lab import Record
from nonsmooth.models.vgg16 import PARAMETERS

PAPER_NORMS = {0.1: 69178.44, 0.001: 2113.83}
PAPER_BELOW = {0.1: 0.0001, 0.001: 0.997}


def values_of(record: Record, suffix: str, label: str) -> list[Finding]:
    """What was measured of a full-size network; `suffix` ends the names, `label` the texts."""
    return [
        Value(f"{name}{suffix}", f"{text}, {label}", value)
        for name, text, value in (
            ("l1_norm", "L1 norm", record["l1_norm"]),
            ("below_small", "fraction below 1e-5", record["below_small"]),
            ("exact_zeros", "weights at exactly 0", record["exact_zeros"]),
            ("at_floor", "fraction within αλ of 0", record["at_floor"]),
            ("accuracy", "accuracy on test images", record["accuracy"][-1]),
            ("cross_entropy", "cross-entropy on test images", record["test_cross_entropy"][-1]),
            ("classes_named", "different classes named", record["classes_named"][-1]),
            ("steps", "steps", record.parameters["steps"]),
        )
    ]


def control_values(record: Record) -> tuple[Finding, Finding]:
    """A control's norm over P·αλ/2, and its exact zeros."""
    p, name = record.parameters, runs.role(record)
    size = f"{'full-size' if runs.is_full_size(record) else 'narrow'}, λ = {p['penalty']:g}, seed {record.seed}"
    key = f"{name}_{p['part']}_{p['penalty']:g}_{p['initialisation']}_{record.seed}".replace(" ", "_")
    zeros = record["exact_zeros"] / record["parameters"]
    return (
        Value(f"{key}_ratio", f"{name}, {size}: L1 norm over P·αλ/2", record["l1_norm"] / runs.floor_of(record)),
        Value(f"{key}_zeros", f"{name}, {size}: share of exact zeros", zeros),
    )


def predicted() -> list[Finding]:
    """By the law P·αλ/2, with 95 % of the sum of independent uniform weights, at both λ of the paper."""
    values: list[Finding] = []
    for penalty, suffix in ((0.1, ""), (0.001, "_weak")):
        law = subgradient_law(runs.STEP_SIZE, penalty)
        norm, half = law.l1_norm(PARAMETERS), 1.96 * runs.STEP_SIZE * penalty * math.sqrt(PARAMETERS / 12)
        values.append(Value(f"l1_norm{suffix}", f"P·αλ/2, λ = {penalty:g}", norm, norm - half, norm + half))
        values.append(Value(f"below_small{suffix}", f"τ/(αλ), λ = {penalty:g}", law.fraction_below(runs.SMALL)))
    return values


def notes_on(main: Record | None) -> list[str]:
    """The paper's two norms against the law, λ in use, and what became of the full-size network."""
    strong, weak = (subgradient_law(runs.STEP_SIZE, penalty).l1_norm(PARAMETERS) for penalty in (0.1, 0.001))
    spread = runs.STEP_SIZE * 0.1 * math.sqrt(PARAMETERS / 12)
    notes = [
        f"The paper's own {PAPER_NORMS[0.1]:,.2f} lies {abs(PAPER_NORMS[0.1] - strong) / spread:.1f} standard "
        f"deviations of such a sum ({spread:.1f}) from P·αλ/2 = {strong:,.2f}.",
        f"The paper's {PAPER_NORMS[0.001]:,.2f} at λ = 0.001 is {PAPER_NORMS[0.001] / weak:.1f} times P·αλ/2 = "
        f"{weak:,.2f}: there, not every weight has arrived.",
        "Both λ are far above those in use: NVIDIA's sample specification of YOLOv4-tiny (TAO Toolkit 5.3) has an L1 "
        "weight of 3e-5, with Adam at α up to 1e-4, and prunes whole filters by their norm.",
    ]
    if main is None:
        return notes
    dead = main["classes_named"][-1] == 1 and main["test_cross_entropy"][-1] >= 0.99 * math.log(10)
    left = main["parameters"] * (1 - main["at_floor"])
    says = "names one class for every test image" if dead else "still tells test images apart"
    notes.append(
        f"At the end the full-size network {says}: cross-entropy {main['test_cross_entropy'][-1]:.3f} (guessing among "
        f"the ten classes gives {math.log(10):.3f}), accuracy {main['accuracy'][-1]:.1%}. It has one seed; "
        "networks that learn are the claim live-law."
    )
    if left >= 1:
        excess = (main["l1_norm"] - runs.floor_of(main)) / left
        notes.append(
            f"{left:,.0f} of its weights have not come within αλ of 0; at {excess:.2g} each, on average, they would be "
            "all of the distance from P·αλ/2."
        )
    if main.parameters["initialisation"] != "pretrained":
        notes.append(
            f"The full-size run starts from fresh weights, not pretrained ones, and takes {main.parameters['steps']} "
            f"steps on batches of {main.parameters['batch']}."
        )
    return notes


def left_out(controls: Sequence[Record]) -> list[str]:
    """Where a control lies outside the law's range, or has not arrived, what it did there."""
    return [
        f"{runs.role(r).capitalize()} at λ = {r.parameters['penalty']:g} ends at {r['l1_norm'] / runs.floor_of(r):.3f} "
        f"of P·αλ/2 and is left out: {r['at_floor']:.2%} of its weights have arrived, and αλ is "
        f"{r.parameters['step_size'] * r.parameters['penalty'] / runs.start_of(r):.2f} of the mean |w| of the start."
        for r in controls
    ]
