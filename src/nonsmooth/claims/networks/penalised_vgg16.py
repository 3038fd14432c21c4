"""Runs of VGG16 under an L1 penalty, full-size or narrow: what the claims `vgg16-l1` and `vgg16-adam` measure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nonsmooth.data import load_images, resolve_source, shuffled_labels
from nonsmooth.dynamics.penalised_training import Schedule, magnitudes, train_penalised
from nonsmooth.dynamics.streaming import RULES, StreamedTraining
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models.vgg16 import PARAMETERS, Vgg16, load_pretrained, vgg16

NAMES = {"sgd": "SGD", "adam": "Adam"}
"""The optimisers for a reader."""

PENALTIES = (0.001, 0.1)
"""λ of the paper's two runs."""

STEP_SIZE = 0.01
"""α of appendix B."""

SMALL = 1e-5
"""τ: the paper counts the weights below it."""

THRESHOLDS = tuple(float(t) for t in 10.0 ** np.arange(-6, -0.9, 0.5))
"""Thresholds at which the weights below are counted; τ is one of them."""

NARROW = 1 / 16
WEIGHTS_VARIABLE = "NONSMOOTH_VGG16_WEIGHTS"
"""Environment variable with a file that holds torchvision's pretrained weights; without it, torchvision is asked."""

FLOOR_SLACK = 1.001
"""|w| ≤ αλ holds on the two-cycle up to rounding."""


def cell(claim: str, part: str, *, steps: int, seed: int, cost: float, **changes: Any) -> Cell:
    """The cell of one run: what the paper does, but for `changes`.

    Args:
        claim: id of the claim.
        part: "full" for the network of the paper, "narrow" for one of 1/16 its width with ten outputs.
        steps: number of steps.
        seed: of the start, the order of the images and dropout.
        cost: seconds on one core.
        **changes: parameters that differ from the paper's set-up.
    """
    parameters: dict[str, Any] = {
        "part": part,
        "rule": "sgd",
        "step_size": STEP_SIZE,
        "penalty": 0.1,
        "steps": steps,
        "batch": 2,
        "initialisation": "torchvision",
        "labels": "true",
        "images": "digits",
        "train_images": 512,
        "test_images": 100,
        "measurements": 40,
        "evaluations": 1,
        "checkpoint_every": 0,
    }
    return Cell(claim, {**parameters, **changes}, seed, cost=cost)


def run(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network and say how large its weights are along the way and at the end."""
    p: Mapping[str, Any] = cell.parameters
    source = resolve_source(p["images"], context.data)
    train = load_images(source, "train", p["train_images"])
    test = load_images(source, "test", p["test_images"])
    if p["labels"] == "shuffled":
        train = shuffled_labels(train, cell.seed)
    model = _start(cell).to(context.device)
    count = sum(parameter.numel() for parameter in model.parameters())
    training = StreamedTraining(model, RULES[p["rule"]](p["step_size"], p["penalty"]))
    history = train_penalised(
        training,
        (train.inputs, train.labels),
        (test.inputs, test.labels),
        Schedule(p["steps"], p["batch"], p["measurements"], p["evaluations"], p["checkpoint_every"]),
        seed=cell.seed,
        device=context.device,
        scratch=context.scratch,
        owner=cell.key,
        progress=context.progress,
    )
    floor = p["step_size"] * p["penalty"] * FLOOR_SLACK
    end = magnitudes(model, (*THRESHOLDS, SMALL, floor))
    return {
        "parameters": count,
        "l1_norm": end.l1_norm,
        "exact_zeros": end.exact_zeros,
        "below_small": end.below[-2],
        "at_floor": end.below[-1],
        "thresholds": list(THRESHOLDS),
        "below": list(end.below[:-2]),
        "step": history.step,
        "l1_norms": history.l1_norm,
        "train_step": history.train_step,
        "train_cross_entropy": history.train_cross_entropy,
        "test_step": history.test_step,
        "accuracy": history.accuracy,
        "test_cross_entropy": history.test_cross_entropy,
        "classes_named": history.classes_named,
    }


def _start(cell: Cell) -> Vgg16:
    """The network before its first step."""
    p: Mapping[str, Any] = cell.parameters
    if p["initialisation"] == "pretrained":
        return load_pretrained(os.environ.get(WEIGHTS_VARIABLE))
    if p["part"] == "full":
        return vgg16(cell.seed, initialisation=p["initialisation"])
    return vgg16(cell.seed, width=NARROW, classes=10, initialisation=p["initialisation"])


def role(record: Record) -> str:
    """What a run is for: "trained" as in the paper, or one of the controls."""
    p: Mapping[str, Any] = record.parameters
    if p["rule"] == "proximal-sgd":
        return "proximal twin"
    if p["labels"] == "shuffled":
        return "random labels"
    if p["initialisation"] == "fan-in":
        return "another initialisation"
    return "trained"


def select(records: Sequence[Record], **wanted: Any) -> list[Record]:
    """The runs whose role and parameters are as wanted, in order of the step size and the penalty."""
    roles = {"role": role}
    found = [
        r
        for r in records
        if r.parameters["part"] in ("full", "narrow")
        and all((roles[k](r) if k in roles else r.parameters[k]) == v for k, v in wanted.items())
    ]
    return sorted(found, key=lambda r: (r.parameters["step_size"], r.parameters["penalty"], r.seed))


def floor_of(record: Record) -> float:
    """P·αλ/2, the L1 norm of a network all of whose weights follow plain SGD's two-cycle."""
    return float(record["parameters"] * record.parameters["step_size"] * record.parameters["penalty"] / 2)


def has_settled(record: Record, change: float = 0.15) -> bool:
    """Whether the mean L1 norm of the last fifth of the run differs little from that of the fifth before."""
    norms = np.asarray(record["l1_norms"], dtype=np.float64)
    fifth = max(1, len(norms) // 5)
    if len(norms) < 2 * fifth or not np.isfinite(norms[-2 * fifth :]).all():
        return False
    last, before = norms[-fifth:].mean(), norms[-2 * fifth : -fifth].mean()
    return bool(abs(last - before) <= change * before)


def is_full_size(record: Record) -> bool:
    """Whether the run is of the paper's network."""
    return bool(record["parameters"] == PARAMETERS)


def thinned(values: Sequence[float], most: int = 300) -> list[float]:
    """At most `most` evenly spaced values, the last included."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def full_size_run(records: Sequence[Record], penalty: float) -> Record | None:
    """The paper's run at one λ: plain SGD on the full network, from pretrained weights if there is such a run."""
    found = select(records, part="full", role="trained", rule="sgd", penalty=penalty, step_size=STEP_SIZE)
    found = [r for r in found if is_full_size(r)]
    found.sort(key=lambda r: r.parameters["initialisation"] != "pretrained")
    return found[0] if found else None


def settled_norm(record: Record) -> float:
    """Mean of the L1 norm over the last fifth of the run."""
    norms = record["l1_norms"]
    last = norms[-max(1, len(norms) // 5) :]
    return float(sum(last) / len(last))


def laws_of(records: Sequence[Record]) -> dict[tuple[str, float, float], Record]:
    """The simulated laws by optimiser, step size and penalty."""
    laws = [r for r in records if r.parameters["part"] == "law"]
    return {(r.parameters["rule"], r.parameters["step_size"], r.parameters["penalty"]): r for r in laws}
