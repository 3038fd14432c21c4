"""What the runs at the edge of stability are: networks, linear models, optimisers, and what is read along a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.claims.huber.huber_data import draw_regression, draw_start
from nonsmooth.claims.lasso.lasso_data import draw_lasso
from nonsmooth.curvature import (
    OptimizerSharpness,
    Point,
    Sharpness,
    optimizer_sharpness,
    oscillation_smoothness,
    step_smoothness,
)
from nonsmooth.data import load_images
from nonsmooth.lab import Record

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
OPTIMISERS: Mapping[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "GD": lambda w, lr: torch.optim.SGD(w, lr=lr),
    "Nesterov": lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9, nesterov=True),
    "RMSprop": lambda w, lr: torch.optim.RMSprop(w, lr=lr),
    "Adam": lambda w, lr: torch.optim.Adam(w, lr=lr),
}
IMAGES, WIDTH = 5000, 200
BAND = (0.95, 1.1)
"""Where the ratio of the sharpness to its threshold is to lie after onset."""
READINGS = ("sharpness", "midpoint", "directional", "oscillation")
"""What is read, each over the optimiser's threshold."""
LINEAR = {"huber": (10.0, 0.0), "lasso": (0.01, 10.0)}
"""Step size α and penalty λ of the two linear models, which are those of the paper's Figure 3 and §3."""


@lru_cache(maxsize=1)
def images(source: str, count: int) -> tuple[Tensor, Tensor]:
    """Standardised pixels, (images, 3072), and labels as rows of an identity matrix."""
    loaded = load_images(source, "train", limit=count)
    pixels = loaded.inputs - loaded.inputs.mean((0, 2, 3), keepdim=True)
    pixels = pixels / pixels.std((0, 2, 3), keepdim=True)
    return pixels.flatten(1), functional.one_hot(loaded.labels, loaded.classes).float()


def network(parameters: Mapping[str, Any], source: str) -> tuple[Callable[[], Tensor], nn.Module]:
    """Half the squared error, summed over classes and averaged over images, in float32, and its network."""
    inputs, targets = images(source, parameters["images"])
    activation, width = ACTIVATIONS[parameters["model"]], parameters["width"]
    torch.manual_seed(parameters.get("seed", 0))
    layers = [nn.Linear(inputs.shape[1], width), activation(), nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, targets.shape[1]))
    return lambda: (model(inputs) - targets).square().sum(1).mean() / 2, model


def linear(name: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """The paper's Huber regression of eq. (13), or its LASSO of eq. (11)."""
    if name == "huber":
        problem = draw_regression("uniform", 0, 1)
        data, response, start = problem.data[0], problem.response[0], draw_start("uniform", 0, 1)[0, 0]
        weight = start.clone().requires_grad_()
        return lambda: functional.huber_loss(data @ weight, response), [weight]
    drawn, strength = draw_lasso(0, 1), LINEAR["lasso"][1]
    weight = drawn.start[0].clone().requires_grad_()
    return (
        lambda: (drawn.response[0] - drawn.data[0] @ weight).square().mean() + strength * weight.abs().sum(),
        [weight],
    )


def here_at(weights: list[Tensor], loss: float) -> Point:
    """The point at which backward was just called."""
    flat = torch.cat([weight.detach().flatten() for weight in weights])
    slope = torch.cat([weight.grad.flatten() for weight in weights])
    return Point(flat, slope, loss, torch.finfo(flat.dtype).eps)


@contextmanager
def at_midpoint(points: Sequence[Point], weights: list[Tensor]) -> Iterator[None]:
    """Put (w + 2w' + w'')/4 of three points in a row into the weights, and afterwards what was there.

    In it a period of two cancels: it is where the run is on the average (Cohen et al. 2024, central flows).
    """
    first, second, third = (point.weights for point in points)
    fill(weights, (first + 2 * second + third) / 4)
    try:
        yield
    finally:
        fill(weights, third)


def fill(weights: list[Tensor], flat: Tensor) -> None:
    """Overwrite the weights by the parts of a flat vector."""
    with torch.no_grad():
        for weight, part in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.copy_(part.view_as(weight))


def walk(
    closure: Callable[[], Tensor], weights: list[Tensor], optimizer: torch.optim.Optimizer, steps: int
) -> Iterator[tuple[int, Sequence[Point]]]:
    """Train on the full batch, and stop before every step.

    Yields:
        The number of steps taken and the last three points, fewer at the start; the last is the present one.
    """
    points: deque[Point] = deque(maxlen=3)
    for step in range(steps + 1):
        optimizer.zero_grad()
        loss = closure()
        loss.backward()
        points.append(here_at(weights, float(loss.detach())))
        yield step, tuple(points)
        optimizer.step()


def readings(
    optimizer: torch.optim.Optimizer,
    closure: Callable[[], Tensor],
    weights: list[Tensor],
    points: Sequence[Point],
    start: Sharpness | None,
) -> tuple[dict[str, Any], OptimizerSharpness, OptimizerSharpness]:
    """What is read at the present point, and the sharpness there and at the midpoint with their evidence.

    Args:
        optimizer: before its step.
        closure: the loss.
        weights: its parameters.
        points: the last three.
        start: the measurement before.
    """
    read = optimizer_sharpness(optimizer, closure, start=start)
    limit, metric = read.threshold.value, read.threshold.preconditioner
    with at_midpoint(points, weights):
        middle = optimizer_sharpness(optimizer, closure, start=read.sharpness)
    values = {
        "sharpness": read.ratio,
        "midpoint": middle.ratio,
        "directional": step_smoothness(points[-2], points[-1], metric).directional / limit,
        "oscillation": oscillation_smoothness(*points, metric).value / limit,
        "products": read.sharpness.products,
        "converged": read.sharpness.converged,
    }
    return values, read, middle


def onset(record: Record) -> int | None:
    """The first measurement at which the sharpness is at its threshold or above, None if there is none."""
    return next((i for i, ratio in enumerate(record["sharpness"]) if ratio >= 1), None)


def late(record: Record) -> int:
    """From where on a run is reported: its second half, or its onset where that is later."""
    return max(onset(record) or 0, len(record["step"]) // 2)


def after(record: Record, name: str) -> list[float]:
    """A reading's values in the part of the run that is reported."""
    values: list[float] = record[name][late(record) :]
    return values
