"""Train a model until its certificate says that it is optimal, or until the passes over the data are used up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nonsmooth.estimators.choices import LEARNING_RATES, OPTIMIZERS, WITH_MOMENTUM, Choices
from nonsmooth.estimators.head_start import head_start
from nonsmooth.estimators.task import Task, is_usable
from nonsmooth.optim.certificate import Certificate, certify
from nonsmooth.optim.parameter_groups import penalize
from nonsmooth.optim.penalty_reader import is_off
from nonsmooth.penalties import Penalty

FIRST_MOMENTUM = 0.9
"""Only for convex penalties: with others momentum can end in a cycle, where steps of 1/L without it always descend."""

MOMENTUM_STEPS = 500
"""After so many steps, and whenever their number has doubled since, "auto" halves 1 - μ on a convex full batch.

Momentum μ suits condition numbers up to about 1/(1-μ)², which are not known in advance where there are more features
than samples. Within a period of k steps in which μ is large enough already, the error falls by exp(-k(1-μ)/2): with
k(1-μ) = 50 throughout, by eleven digits.
"""

BELOW_LIMIT = 0.9
"""What part of the largest step that a penalty allows "auto" takes, where the penalty is not convex."""


@dataclass(frozen=True)
class TrainingResult:
    """What training came to.

    Attributes:
        certificate: of the loss on all the data, plus penalty.
        passes: over the data, the steps of a head start and that in which the start was found to be optimal included.
    """

    certificate: Certificate
    passes: int


def train(network: nn.Sequential, task: Task, choices: Choices, generator: torch.Generator) -> TrainingResult:
    """Minimise loss + penalty, in place.

    Args:
        network: the model, where training starts.
        task: data and loss.
        choices: the arguments of the estimator.
        generator: of the order of samples in batches.

    Raises:
        ValueError: the objective does not stay finite.
    """
    network.to(choices.device, choices.dtype)
    inputs = task.inputs.to(choices.device, choices.dtype)
    numbers = task.targets.is_floating_point()
    targets = task.targets.to(choices.device, choices.dtype if numbers else None)
    weights = None if task.weights is None else task.weights.to(choices.device, choices.dtype)

    def loss(rows: Tensor | slice = slice(None)) -> Tensor:
        return task.loss(network(inputs[rows]), targets[rows], None if weights is None else weights[rows])

    optimizer = _optimizer(network, task, choices)
    # Without a penalty there is no gap: the dual asks for a gradient that vanishes exactly.
    has_gap = choices.linear and task.loss.quadratic and not is_off(choices.penalty)
    pace = _Pace(optimizer, choices)
    passes = head_start(network, task, choices) if choices.has_head_start else 0
    # Where λR is not convex, the start at 0 may be stationary and still no minimum, as it always is under L0.
    next_look = passes if choices.convex_penalty else 10
    while True:
        if passes in (next_look, choices.max_iter):
            # After a head start the first look is usually the last.
            certificate = _look(optimizer, loss, choices, passes, quadratic=has_gap and choices.has_head_start)
            if certificate.converged or passes == choices.max_iter:
                break
            next_look = passes + max(10, passes // 20)
        pace.before(passes)
        for rows in _batches(len(inputs), choices, generator):
            optimizer.zero_grad()
            loss(rows).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        passes += 1
    if has_gap and not choices.has_head_start:
        certificate = certify(optimizer, loss, tolerance=choices.tol, quadratic=True)
    return TrainingResult(certificate, max(passes, 1))


def _look(
    optimizer: Optimizer, loss: Callable[[], Tensor], choices: Choices, passes: int, *, quadratic: bool
) -> Certificate:
    certificate = certify(optimizer, loss, tolerance=choices.tol, quadratic=quadratic)
    if not math.isfinite(certificate.objective):
        rates = ", ".join(f"{group['lr']:.3g}" for group in optimizer.param_groups)
        raise ValueError(
            f"lr is {'auto' if choices.lr is None else choices.lr}, which made step sizes of {rates}, and the "
            f"objective is {certificate.objective} after {passes} passes; accepted is one at which it stays finite"
        )
    return certificate


def _batches(count: int, choices: Choices, generator: torch.Generator) -> list[Any]:
    if choices.batch_size is None or choices.batch_size >= count:
        return [slice(None)]
    return list(torch.split(torch.randperm(count, generator=generator), choices.batch_size))


def _optimizer(network: nn.Sequential, task: Task, choices: Choices) -> Optimizer:
    """The optimiser, with the penalty on the weights, and a step size for weights and one for intercepts."""
    penalty: Penalty | None = choices.penalty
    if penalty is None:
        named = list(network.named_parameters())
        parts = [[pair for pair in named if (pair[1].ndim > 1) is weights] for weights in (True, False)]
        groups: list[dict[str, Any]] = [{"params": part} for part in parts if part]
    else:
        groups = penalize(network, penalty)
    momentum = _first_momentum(choices)
    rates = _learning_rates(task, choices, momentum)
    for group in groups:
        group["lr"] = rates[0 if group["params"][0][1].ndim > 1 else 1]
    options: dict[str, Any] = {"momentum": momentum} if choices.optimizer in WITH_MOMENTUM else {}
    if choices.optimizer == "sgd":
        options["nesterov"] = momentum > 0
    optimizer: Optimizer = OPTIMIZERS[choices.optimizer](groups, **options)
    return optimizer


def _first_momentum(choices: Choices) -> float:
    if choices.momentum is not None:
        return choices.momentum
    return FIRST_MOMENTUM if choices.optimizer == "sgd" and choices.convex_penalty else 0.0


def _learning_rates(task: Task, choices: Choices, momentum: float) -> tuple[float, float]:
    """α for weights and for intercepts."""
    if choices.lr is not None:
        return choices.lr, choices.lr
    if choices.optimizer != "sgd":
        rate = LEARNING_RATES[choices.optimizer]
        return rate, rate
    if not choices.linear:
        weights = intercepts = LEARNING_RATES["sgd"] * (1 - momentum)
    elif choices.batch_size is None:
        weights, intercepts = (1 / bound if is_usable(bound) else 1.0 for bound in task.smoothness)
    else:
        weights, intercepts = (
            (1 - momentum) / (2 * bound) if is_usable(bound) else 1.0
            for bound in task.expected_smoothness(choices.batch_size)
        )
    limit = math.inf if choices.penalty is None else BELOW_LIMIT * choices.penalty.largest_step * (1 - momentum)
    return min(weights, limit), intercepts


class _Pace:
    """Step sizes and momentum in the course of training."""

    def __init__(self, optimizer: Optimizer, choices: Choices) -> None:
        self._optimizer = optimizer
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._cosine = choices.max_iter if choices.lr_schedule == "cosine" else None
        grows = choices.momentum is None and choices.accelerated and choices.convex_penalty
        self._next = MOMENTUM_STEPS if grows else None

    def before(self, passes: int) -> None:
        """Set what the coming pass over the data is to have."""
        if self._cosine is not None:
            share = (1 + math.cos(math.pi * passes / self._cosine)) / 2
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * share
        if self._next is not None and passes == self._next:
            self._next *= 2
            self._halve_distance_from_one()

    def _halve_distance_from_one(self) -> None:
        for group in self._optimizer.param_groups:
            group["momentum"] = (1 + group["momentum"]) / 2
            for parameter in group["params"]:
                # A buffer of a steady gradient is g/(1-μ): so scaled, a fixed point stays one.
                self._optimizer.state[parameter]["momentum_buffer"].mul_(2)
