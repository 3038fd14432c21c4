"""One training run of the `depth` experiment: when it leaves the plateau at chance, and how fast it goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nonsmooth.data import load_images, resolve_source
from nonsmooth.dynamics.training import History, OptimiserFactory, evaluate, sgd, train
from nonsmooth.lab import Cell, Context
from nonsmooth.models import vgg

CLASSES = 10
CHANCE = math.log(CLASSES)
"""ln 10: the cross-entropy of a network that knows nothing about the image."""
LEAVING = 0.95
"""A run has left the plateau where its smoothed loss is below this share of `CHANCE`."""
WINDOW = 20
"""Steps of the trailing mean that smooths the loss."""
CURVE_POINTS = 50

MOMENTUM = 0.9


def _adam(learning_rate: float) -> OptimiserFactory:
    return lambda parameters: torch.optim.Adam(parameters, lr=learning_rate)


OPTIMISERS = {"sgd": lambda learning_rate: sgd(learning_rate, MOMENTUM), "adam": _adam}
OPTIMISER_LABELS = {"sgd": f"SGD with momentum {MOMENTUM}", "adam": "Adam"}


def run(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network and describe the run.

    Returns:
        What `describe` returns, and the test loss and accuracy at the end.
    """
    p: Mapping[str, Any] = cell.parameters
    source = resolve_source(p["images"], context.data)
    model = vgg(
        p["depth"],
        p["activation"],
        classes=CLASSES,
        initialisation=p["initialisation"],
        generator=torch.Generator().manual_seed(cell.seed),
    )
    history = train(
        model,
        load_images(source, "train", p["limit"]),
        optimiser=OPTIMISERS[p["optimiser"]](p["learning_rate"]),
        batch_size=p["batch_size"],
        steps=p["steps"],
        seed=cell.seed,
        checkpoint=context.scratch,
        owner=cell.key,
        device=context.device,
        progress=context.progress,
    )
    loss, accuracy = evaluate(model, load_images(source, "test", p["test_limit"]), device=context.device)
    return {**describe(history, p["steps"]), "test_loss": loss, "test_accuracy": accuracy}


def describe(history: History, steps: int) -> dict[str, Any]:
    """The numbers of a run, from the training loss of every step.

    Args:
        history: with the loss of every step.
        steps: how many steps the run should have.

    Returns:
        left_at: the first step at which the mean of the last `WINDOW` losses was below `LEAVING`·ln 10, or None.
        mean_loss: mean over all steps of min(loss, ln 10), so that a spike costs as much as knowing nothing; the
            steps after a divergence count as ln 10.
        loss_after: the same mean over the quarter of the run that follows `left_at`, or None where that quarter is
            not complete.
        final_loss: mean of the last `WINDOW` losses, infinite for a run that diverged.
        diverged_at: the step at which the loss was no longer finite, or None.
        curve_step, curve_loss: means of the loss over at most `CURVE_POINTS` equal pieces of the run.
    """
    losses = np.asarray(history.losses, dtype=np.float64)
    diverged = history.diverged_at is not None
    capped = np.full(steps, CHANCE)
    seen = losses[:-1] if diverged else losses
    capped[: len(seen)] = np.minimum(seen, CHANCE)

    windows = np.lib.stride_tricks.sliding_window_view(seen, WINDOW) if len(seen) >= WINDOW else np.empty((0, WINDOW))
    below = np.flatnonzero(windows.mean(axis=1) < LEAVING * CHANCE)
    left_at = int(below[0]) + WINDOW if len(below) else None
    quarter = steps // 4
    follows = left_at is not None and left_at + quarter <= steps
    piece = math.ceil(steps / CURVE_POINTS)
    starts = range(0, len(seen), piece)
    return {
        "left_at": left_at,
        "mean_loss": float(capped.mean()),
        "loss_after": float(capped[left_at : left_at + quarter].mean()) if left_at is not None and follows else None,
        "final_loss": math.inf if diverged else float(seen[-WINDOW:].mean()),
        "diverged_at": history.diverged_at,
        "curve_step": [min(start + piece, len(seen)) for start in starts],
        "curve_loss": [float(seen[start : start + piece].mean()) for start in starts],
    }
