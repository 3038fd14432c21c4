"""Runs of VGG16 under an L1 penalty, full-size or narrow: what the claims `vgg16-l1` and `vgg16-adam` measure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from nonsmooth.claims.framework import Run
from nonsmooth.data import Images, load_images, resolve_source, shuffled_labels
from nonsmooth.dynamics.device_training import DeviceTraining
from nonsmooth.dynamics.penalized_training import Schedule, Training, magnitudes, train_penalized
from nonsmooth.dynamics.streaming import RULES, StreamedTraining
from nonsmooth.lab import Record
from nonsmooth.lab.estimate import PacedProgress
from nonsmooth.models.vgg16 import (
    PARAMETERS,
    WEIGHTS_FILE,
    WEIGHTS_VARIABLE,
    Vgg16,
    find_pretrained,
    load_pretrained,
    vgg16,
)

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
AT_KINK = "at the kink"
TWIN = "proximal twin"
CONTROLS: dict[str, dict[str, Any]] = {
    "random labels": {"labels": "shuffled"},
    "another initialisation": {"initialisation": "fan-in"},
}
"""What differs from the paper's run."""

FLOOR_SLACK = 1.001
"""|w| ≤ αλ holds on the two-cycle up to rounding."""


SETUP: dict[str, Any] = {
    "rule": "sgd",
    "step_size": STEP_SIZE,
    "penalty": 0.1,
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
"""Parameters of `network` that a cell has unless it says otherwise."""

PAPER_STEPS = 150 * 98
"""The paper's 150 epochs of 98 batches of CIFAR-10."""
PAPER: dict[str, Any] = {
    "steps": PAPER_STEPS,
    "batch": 512,
    "labels": "true",
    "images": "cifar10",
    "measurements": 150,
    "evaluations": 150,
    "checkpoint_every": PAPER_STEPS // 5,
}
"""Parameters of `on_device` for the paper's own run. A checkpoint holds 0.5 GB, with Adam 1.7 GB; the last one is
kept."""
PAPER_MARKS: dict[str, Any] = {"part": "full", "precision": "bfloat16"}
SECONDS_PER_PAPER_STEP = 0.008
"""On an H100, from its arithmetic (1.3 TFLOP) and memory traffic; not measured. The estimate of the time left goes by
the pace of the device that is there."""


@cache
def paper_start() -> str:
    """Where the paper's own run starts: "pretrained", or "torchvision" (fresh) where the weights are not to be had."""
    if find_pretrained() is not None:
        return "pretrained"
    warnings.warn(
        "no pretrained weights of VGG16 are at hand, so the runs at scale paper start from fresh ones; where there is "
        "torchvision, torchvision.models.vgg16(weights='IMAGENET1K_V1') gets them once, or set "
        f"{WEIGHTS_VARIABLE} to its file {WEIGHTS_FILE}",
        stacklevel=3,
    )
    return "torchvision"


def network(
    run: Run,
    *,
    part: str,
    rule: str,
    step_size: float,
    penalty: float,
    steps: int,
    batch: int,
    initialisation: str,
    labels: str,
    images: str,
    train_images: int | None,
    test_images: int | None,
    measurements: int,
    evaluations: int,
    checkpoint_every: int,
) -> Mapping[str, Any]:
    """Train one network and say how large its weights are along the way and at the end.

    Args:
        run: seed of the start, of the order of the images and of dropout.
        part: "full" for the network of the paper, "narrow" for one of 1/16 its width with ten outputs.
        rule: of `RULES`.
        step_size: α.
        penalty: λ, on every parameter.
        steps: number of them.
        batch: images per step.
        initialisation: of `vgg16`, or "pretrained", or "at the kink": uniform on ±αλ of the paper's larger λ.
        labels: "true" or "shuffled".
        images: name of the data set.
        train_images: how many, or None for all.
        test_images: likewise.
        measurements: of the L1 norm along the run.
        evaluations: on the test images.
        checkpoint_every: steps between checkpoints; 0 for none.
    """
    model = _start(part, initialisation, run.seed).to(run.context.device)
    schedule = Schedule(steps, batch, measurements, evaluations, checkpoint_every)
    training = StreamedTraining(model, RULES[rule](step_size, penalty))
    data = _images(run, images, labels, train_images, test_images)
    return _trained(run, training, data, schedule, step_size * penalty, run.context.progress)


def on_device(
    run: Run,
    *,
    rule: str,
    step_size: float,
    penalty: float,
    steps: int,
    batch: int,
    initialisation: str,
    labels: str,
    images: str,
    measurements: int,
    evaluations: int,
    checkpoint_every: int,
) -> Mapping[str, Any]:
    """The full network on all images, by `DeviceTraining` with products in bfloat16; parameters as for `network`.

    On one GPU `--workers 3` runs three such cells at once, each in 4 to 5 GB of its memory.
    """
    progress = PacedProgress(run.context.progress, steps)
    model = _start("full", initialisation, run.seed).to(run.context.device)
    schedule = Schedule(steps, batch, measurements, evaluations, checkpoint_every)
    training = DeviceTraining(model, rule, step_size, penalty, PAPER_MARKS["precision"])
    data = _images(run, images, labels, None, None)
    return _trained(run, training, data, schedule, step_size * penalty, progress)


def _images(run: Run, images: str, labels: str, train: int | None, test: int | None) -> tuple[Images, Images]:
    """To train on, shuffled labels and all, and to test on."""
    source = resolve_source(images, run.context.data)
    training = load_images(source, "train", train)
    return shuffled_labels(training, run.seed) if labels == "shuffled" else training, load_images(source, "test", test)


def _trained(
    run: Run,
    training: Training,
    data: tuple[Images, Images],
    schedule: Schedule,
    width: float,
    progress: Callable[[float], None],
) -> Mapping[str, Any]:
    """Train, and say how large the weights are along the way and at the end; `width` is αλ."""
    history = train_penalized(
        training,
        (data[0].inputs, data[0].labels),
        (data[1].inputs, data[1].labels),
        schedule,
        seed=run.seed,
        device=run.context.device,
        scratch=run.context.scratch,
        owner=run.key,
        progress=progress,
    )
    end = magnitudes(training.model, (*THRESHOLDS, SMALL, width * FLOOR_SLACK))
    return {
        "parameters": end.parameters,
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


def _start(part: str, initialisation: str, seed: int) -> Vgg16:
    """The network before its first step."""
    if initialisation == "pretrained":
        return load_pretrained(find_pretrained())
    drawn = "torchvision" if initialisation == AT_KINK else initialisation
    shape: dict[str, Any] = {} if part == "full" else {"width": NARROW, "classes": 10}
    model = vgg16(seed, initialization=drawn, **shape)
    if initialisation == AT_KINK:
        width, generator = STEP_SIZE * max(PENALTIES), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-width, width, generator=generator)
    return model


def role(record: Record) -> str:
    """What a run is for: "trained" as in the paper, or one of the controls."""
    p: Mapping[str, Any] = record.parameters
    if p["rule"] == "proximal-sgd":
        return TWIN
    if p["initialisation"] == AT_KINK:
        return AT_KINK
    return next((name for name, change in CONTROLS.items() if change.items() <= p.items()), "trained")


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


def start_of(record: Record) -> float:
    """Mean |w| before the first step."""
    return float(record["l1_norms"][0] / record["parameters"])


def norm_at(record: Record, share: float) -> float:
    """The L1 norm after a share of the run; the last measurement before, or at, that step."""
    norms = record["l1_norms"]
    return float(norms[int(share * (len(norms) - 1))])


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


def settled_norm(record: Record, tail: float = 0.2) -> float:
    """Mean of the L1 norm over the last part of the run, a fifth unless said otherwise."""
    norms = record["l1_norms"]
    last = norms[-max(1, int(len(norms) * tail)) :]
    return float(sum(last) / len(last))


def laws_of(records: Sequence[Record]) -> dict[tuple[str, float, float], Record]:
    """The simulated laws by optimiser, step size and penalty."""
    laws = [r for r in records if r.parameters["part"] == "law"]
    return {(r.parameters["rule"], r.parameters["step_size"], r.parameters["penalty"]): r for r in laws}
