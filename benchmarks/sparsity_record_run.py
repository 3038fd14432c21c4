"""One training run of `sparsity_record.py`: on the CPU or a GPU, from its last checkpoint, judged at its levels."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from cifar_sparsity import Split, accuracy, logits, splits, zeros
from cifar_sparsity_methods import penalised
from sparsity_record_methods import FOUND, METHODS, ROUNDED, TOLD
from sparsity_record_networks import build
from sparsity_record_ways import Dense, Settings, masks_of_largest
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.lab import Cell, Context
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint

EXPERIMENT, TIMING = "sparsity-record", "sparsity-record-time"
VERSION = 1
CHOICE, REPORT = "choice", "report"
"""What a run is for. The test images are looked at in the second kind alone."""
TIMED_LEVEL, TIMED_STEPS, UNTIMED_STEPS = 0.95, 60, 5
PADDING = 4
CHECKPOINT_SECONDS = 30.0
"""At least, between two checkpoints, which for a ResNet-18 are 130 MB."""


@dataclass(frozen=True)
class Scale:
    """How much is trained, and how many runs choose.

    Attributes:
        networks: names in `NETWORKS`.
        levels: shares of zeros.
        train: images to train on.
        validation: images held out from the training set, on which everything is chosen.
        test: images that are looked at once.
        epochs: passes over the training images.
        batch: images of a step.
        augment: whether images are flipped and shifted at random.
        precision: "bfloat16" for autocast, or "float32"; the weights are always float32.
        family: of the optimizers, "adam" or "sgd".
        trials: runs per level, method and tuning seed.
        tuning_seeds: of the runs that choose.
        report_seeds: of those that are reported.
        device: where it is meant to run.
        seconds: a guess for one run, for the estimate of the time that is left.
    """

    networks: tuple[str, ...]
    levels: tuple[float, ...]
    train: int
    validation: int
    test: int
    epochs: int
    batch: int
    augment: bool
    precision: str
    family: str
    trials: int
    tuning_seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]
    device: str
    seconds: float

    @property
    def steps(self) -> int:
        """Of a whole training."""
        return self.epochs * (self.train // self.batch)

    def settings(self) -> dict[str, Any]:
        """What a training run depends on, besides its method."""
        names = ("train", "validation", "test", "epochs", "batch", "augment", "precision", "family")
        return {name: getattr(self, name) for name in names}


def training_cell(
    scale: Scale, network: str, method: str, settings: Settings, level: float, stage: str, seed: int
) -> Cell:
    """One training run: of a method that is told the level for that level, of the others for all levels.

    Methods that are the same training, such as the dense network and its rounding, share their runs.
    """
    way, arrives = METHODS[method].way, METHODS[method].arrives
    levels = {TOLD: (level,), ROUNDED: (0.0, *scale.levels), FOUND: ()}[arrives]
    parameters = {
        "network": network,
        "method": next(name for name, other in METHODS.items() if other.way is way),
        "settings": tuple(sorted(settings.items())),
        "levels": levels,
        "stage": stage,
        **scale.settings(),
    }
    return Cell(EXPERIMENT, parameters, seed, VERSION, scale.seconds)


@lru_cache(maxsize=1)
def splits_on(device: str, data: str, train: int, validation: int, test: int) -> tuple[Split, ...]:
    """Training, validation and test images where they are needed; the lab's worker keeps them from run to run."""
    return tuple(
        replace(split, inputs=split.inputs.to(device), labels=split.labels.to(device))
        for split in splits(data, train, validation, test)
    )


def flipped_and_shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored or not, and cut out of itself with a margin of zeros at a place of its own.

    Args:
        images: (N, C, height, width), channels last.
        generator: on the device of the images.
    """
    count, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
    corner = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
    rows = corner[0] + torch.arange(height, device=device)
    forward = torch.arange(width, device=device)
    columns = corner[1] + torch.where(mirrored, width - 1 - forward, forward)
    chosen = torch.arange(count, device=device)[:, None, None]
    return padded[chosen, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cosine(done: float) -> float:
    """From 1 to 0 as the training goes from 0 to 1, for every method."""
    return (1 + math.cos(math.pi * done)) / 2


def train_epoch(model: nn.Module, way: Dense, split: Split, settings: dict[str, Any], seed: int, epoch: int) -> float:
    """One pass over the images, whose order and changes follow from seed and epoch; the mean loss."""
    device, batch = split.inputs.device, settings["batch"]
    steps = len(split.labels) // batch
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(1000 * seed + epoch)).to(device)
    changes = torch.Generator(device).manual_seed(1000 * seed + epoch)
    total = torch.zeros((), device=device)
    for step in range(steps):
        rows = order[step * batch : (step + 1) * batch]
        images = split.inputs[rows]
        if settings["augment"]:
            images = flipped_and_shifted(images, changes)
        loss = functional.cross_entropy(logits(model, images, settings["precision"]), split.labels[rows])
        model.zero_grad()
        loss.backward()
        way.step(cosine((epoch * steps + step) / (settings["epochs"] * steps)))
        total += loss.detach()
    return float(total) / steps


def judged_at(model: nn.Module, levels: Sequence[float], scores: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """The scores with the largest weights alone kept, at each level; as the model is, where no level is given."""
    weights = penalised(model)
    before = [weight.detach().clone() for weight in weights]
    found: dict[str, list[float]] = {name: [] for name in ("zeros", *scores)}
    for level in levels or (None,):
        if level is not None:
            for weight, value, mask in zip(weights, before, masks_of_largest(before, level), strict=True):
                weight.data.copy_(value * mask)
        found["zeros"].append(zeros(model))
        for name, score in scores.items():
            found[name].append(score())
    return found


def measure(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network, and say how good it is on validation images and, if it is to be reported, on test images."""
    if cell.claim == TIMING:
        return time_steps(cell, context)
    p: Any = cell.parameters
    fitting, validation, test = splits_on(context.device, context.data, p["train"], p["validation"], p["test"])
    method, settings = METHODS[p["method"]], dict(p["settings"])
    model = build(p["network"], cell.seed, torch.device(context.device))
    steps = p["epochs"] * (p["train"] // p["batch"])
    told = p["levels"][0] if method.arrives == TOLD else 0.0
    way = method.way(model, settings, told, steps, p["family"])
    checkpoint = None if context.scratch is None else context.scratch / "training.pt"
    state = None if checkpoint is None else load_checkpoint(checkpoint, cell.key, context.device)
    if state is not None:
        model.load_state_dict(state["model"])
        way.load_state_dict(state["way"])
    loss = 0.0 if state is None else state["loss"]
    saved = time.monotonic()
    for epoch in range(0 if state is None else state["epochs"], p["epochs"]):
        loss = train_epoch(model, way, fitting, p, cell.seed, epoch)
        if checkpoint is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            done = {"model": model.state_dict(), "way": way.state_dict(), "epochs": epoch + 1, "loss": loss}
            save_checkpoint(checkpoint, done, cell.key)
            saved = time.monotonic()
        context.progress((epoch + 1) / p["epochs"])
    way.finish()
    scores = {"validation": lambda: accuracy(model, validation, p["precision"])}
    if p["stage"] == REPORT:
        scores["test"] = lambda: accuracy(model, test, p["precision"])
    return {"loss": loss, **judged_at(model, p["levels"] if method.arrives == ROUNDED else (), scores)}


def timing_cell(scale: Scale, network: str) -> Cell:
    """The run that times a training step of every way to train."""
    ways = {method.way: name for name, method in reversed(METHODS.items())}
    names = tuple(name for name in METHODS if name in ways.values())
    return Cell(TIMING, {"network": network, "methods": names, **scale.settings()}, 0, VERSION)


def time_steps(cell: Cell, context: Context) -> dict[str, Any]:
    """Median seconds of a whole training step of each method, forward and backward included; they take turns.

    Each goes through its whole schedule, so that what it does early, late or now and then has its share.
    """
    p: Any = cell.parameters
    split = splits_on(context.device, context.data, p["train"], p["validation"], p["test"])[0]
    images, labels = split.inputs[: p["batch"]], split.labels[: p["batch"]]
    on_gpu = images.device.type == "cuda"
    running = {}
    for name in p["methods"]:
        model = build(p["network"], cell.seed, images.device)
        method = METHODS[name]
        settings = dict(method.settings[0])
        if method.strengths:
            settings["strength"] = math.sqrt(math.prod(method.range(p["network"])))
        running[name] = model, method.way(model, settings, TIMED_LEVEL, TIMED_STEPS, p["family"])
    times: dict[str, list[float]] = {name: [] for name in running}
    for step in range(TIMED_STEPS):
        for name, (model, way) in running.items():
            if on_gpu:
                torch.cuda.synchronize()
            begin = time.perf_counter()
            loss = functional.cross_entropy(logits(model, images, p["precision"]), labels)
            model.zero_grad()
            loss.backward()
            way.step(cosine(step / TIMED_STEPS))
            if on_gpu:
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[UNTIMED_STEPS:]) for name, values in times.items()}
