"""One training run of the claim `depth`: when it leaves the plateau at chance, and how fast it goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from nonsmooth.claims.framework import Run
from nonsmooth.data import Images, load_images, resolve_source
from nonsmooth.dynamics.training import History, OptimiserFactory, evaluate, sgd, train
from nonsmooth.models import match_scales, vgg

CLASSES = 10
CHANCE = math.log(CLASSES)
"""ln 10: the cross-entropy of a network that knows nothing about the image."""
LEAVING = 0.95
"""A run has left the plateau where its smoothed loss is below this share of `CHANCE`."""
WINDOW = 20
"""Steps of the trailing mean that smooths the loss."""
CURVE_POINTS = 50

MOMENTUM = 0.9
MATCHED = "matched"
"""The initialisation in which every activation carries the signal that ReLU carries under `TWIN`."""
TWIN = "kaiming"
PROBE = 200
"""Images on which signals are matched."""


def _adam(learning_rate: float) -> OptimiserFactory:
    return lambda parameters: torch.optim.Adam(parameters, lr=learning_rate)


OPTIMISERS = {"sgd": lambda learning_rate: sgd(learning_rate, MOMENTUM), "adam": _adam}
OPTIMISER_LABELS = {"sgd": f"SGD with momentum {MOMENTUM}", "adam": "Adam"}


def network(depth: int, activation: str, initialisation: str, seed: int, images: Images) -> nn.Sequential:
    """A network of Figure 2; with `MATCHED` its layers carry the signal of the ReLU network under `TWIN`."""
    model, twin = (
        vgg(
            depth,
            name,
            classes=CLASSES,
            initialisation=TWIN if initialisation == MATCHED else initialisation,
            generator=torch.Generator().manual_seed(seed),
        )
        for name in (activation, "relu")
    )
    if initialisation == MATCHED:
        match_scales(model, twin, images.inputs[:PROBE])
    return model


def measure(
    run: Run,
    *,
    images: str,
    limit: int | None,
    test_limit: int | None,
    activation: str,
    depth: int,
    initialisation: str,
    optimiser: str,
    learning_rate: float,
    batch_size: int,
    steps: int,
) -> Mapping[str, Any]:
    """Train one network and describe the run.

    Returns:
        What `describe` returns, and the test loss and accuracy at the end.
    """
    source, device = resolve_source(images, run.context.data), run.context.device
    data = load_images(source, "train", limit)
    model = network(depth, activation, initialisation, run.seed, data)
    history = train(
        model,
        data,
        optimiser=OPTIMISERS[optimiser](learning_rate),
        batch_size=batch_size,
        steps=steps,
        seed=run.seed,
        checkpoint=run.context.scratch,
        owner=run.key,
        device=device,
        progress=run.context.progress,
    )
    loss, accuracy = evaluate(model, load_images(source, "test", test_limit), device=device)
    return {**describe(history, steps), "test_loss": loss, "test_accuracy": accuracy}


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
