"""What the arguments of an estimator mean: checked when `fit` is called, before anything is changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import Penalty, from_specification
from nonsmooth.penalties.names import named_class

# Without AdamW: it is Adam with a weight decay, and the penalty on weights is what these estimators are told.
OPTIMIZERS: dict[str, Any] = {
    "sgd": ProxSGD,
    "adam": ProxAdam,
    "nadam": ProxNAdam,
    "rmsprop": ProxRMSprop,
    "adagrad": ProxAdagrad,
}
WITH_MOMENTUM = ("sgd", "rmsprop")
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SCHEDULES = ("auto", "constant", "cosine")

DEFAULT_STRENGTH = 0.01
"""λ of a penalty that is given by name, without a strength."""

LEARNING_RATES = {"sgd": 0.1, "adam": 0.01, "nadam": 0.01, "rmsprop": 0.01, "adagrad": 0.1}
"""Step sizes where no curvature is known; that of SGD is for a unit of constant gradient."""

TOLERANCES = {"float64": 1e-8, "float32": 1e-4}
"""Residual/λ that is well above the rounding of the gradient in each precision."""


@dataclass(frozen=True)
class Choices:
    """The arguments of an estimator with every "auto" but the step size and the momentum resolved.

    Attributes:
        penalty: λR, None without.
        hidden_layer_sizes: numbers of units; empty for a linear model.
        activation: the class of the activation.
        fit_intercept: whether layers have intercepts.
        optimizer: name of the optimiser.
        lr: α, None for "auto".
        momentum: μ, None for "auto".
        lr_schedule: "constant" or "cosine".
        batch_size: None for the full batch.
        max_iter: the most passes over the data, those of a head start included.
        tol: the largest residual/λ that counts as converged.
        dtype: of weights and data in training.
        device: where to train.
        automatic: whether optimiser, step size, momentum and schedule were all left to "auto".
    """

    penalty: Penalty | None
    hidden_layer_sizes: tuple[int, ...]
    activation: type[nn.Module]
    fit_intercept: bool
    optimizer: str
    lr: float | None
    momentum: float | None
    lr_schedule: str
    batch_size: int | None
    max_iter: int
    tol: float
    dtype: torch.dtype
    device: torch.device
    automatic: bool

    @property
    def linear(self) -> bool:
        """Whether there are no hidden layers."""
        return not self.hidden_layer_sizes

    @property
    def convex_penalty(self) -> bool:
        """Whether λR is convex."""
        return self.penalty is None or self.penalty.convex

    @property
    def accelerated(self) -> bool:
        """Whether this is a convex loss on its full batch under SGD, for which good step sizes are known."""
        return self.linear and self.batch_size is None and self.optimizer == "sgd"

    @property
    def has_head_start(self) -> bool:
        """Whether a solver for convex problems comes before the optimiser."""
        exact = self.dtype == torch.float64 and self.device.type == "cpu"
        return self.accelerated and self.convex_penalty and self.automatic and exact


def resolve(estimator: Any) -> Choices:
    """Read and check the arguments of an estimator.

    Raises:
        TypeError: `penalty` is not a Penalty.
        ValueError: an argument is out of its range.
    """
    layers = _layers(estimator.hidden_layer_sizes)
    _one_of("optimizer", estimator.optimizer, ("auto", *OPTIMIZERS))
    _one_of("activation", estimator.activation, ACTIVATIONS)
    _one_of("lr_schedule", estimator.lr_schedule, SCHEDULES)
    _one_of("dtype", estimator.dtype, DTYPES)
    optimizer = ("adam" if layers else "sgd") if estimator.optimizer == "auto" else estimator.optimizer
    batch_size = None if estimator.batch_size is None else _whole("batch_size", estimator.batch_size, 1)
    lr = None if _is_auto(estimator.lr) else _number("lr", estimator.lr, 0, above=True)
    momentum = None if _is_auto(estimator.momentum) else _number("momentum", estimator.momentum, 0)
    if momentum is not None and momentum >= 1:
        raise ValueError(f"momentum is {momentum}; accepted is a number in [0, 1), or 'auto'")
    if momentum and optimizer not in WITH_MOMENTUM:
        raise ValueError(f"momentum is {momentum}, but optimizer {optimizer!r} has none; accepted there is 'auto'")
    exact = not layers and batch_size is None and optimizer == "sgd"
    most = estimator.max_iter
    schedule = estimator.lr_schedule
    tolerance = TOLERANCES[estimator.dtype] if _is_auto(estimator.tol) else _number("tol", estimator.tol, 0)
    return Choices(
        penalty=chosen_penalty(estimator.penalty, estimator.strength),
        hidden_layer_sizes=layers,
        activation=ACTIVATIONS[estimator.activation],
        fit_intercept=bool(estimator.fit_intercept),
        optimizer=optimizer,
        lr=lr,
        momentum=momentum,
        lr_schedule=("constant" if exact else "cosine") if schedule == "auto" else schedule,
        batch_size=batch_size,
        max_iter=(50_000 if exact else 2_000 if batch_size is None else 200)
        if _is_auto(most)
        else _whole("max_iter", most, 1),
        tol=tolerance,
        dtype=DTYPES[estimator.dtype],
        device=_device(estimator.device),
        automatic=all(map(_is_auto, (estimator.optimizer, estimator.lr, estimator.momentum, schedule))),
    )


def chosen_penalty(penalty: Any, strength: Any) -> Penalty | None:
    """The penalty that `penalty` and `strength` stand for together.

    Args:
        penalty: a penalty, the name of one in upper or lower case, or None.
        strength: λ in place of the penalty's own; None for its own.

    Raises:
        TypeError: the penalty is something else.
        ValueError: no penalty has the name, λ is negative, or there is no penalty that it could belong to.
    """
    if strength is not None:
        strength = _number("strength", strength, 0)
    if penalty is None:
        if strength is not None:
            raise ValueError(f"strength is {strength}, but penalty is None; accepted there is strength=None")
        return None
    if isinstance(penalty, str):
        kind: type[Penalty] = named_class(Penalty, penalty, any_case=True)
        return kind(strength=DEFAULT_STRENGTH if strength is None else strength)  # type: ignore[call-arg]
    if not isinstance(penalty, Penalty):
        raise TypeError(
            f"penalty is {penalty!r}; accepted is a nonsmooth.penalties.Penalty, the name of one such as 'L1', or None"
        )
    return penalty if strength is None else with_strength(penalty, strength)


def with_strength(penalty: Penalty, strength: float) -> Penalty:
    """The same penalty with another λ.

    Raises:
        ValueError: its λ is a tensor, of which one number would leave nothing.
    """
    if isinstance(penalty.strength, Tensor) and penalty.strength.numel() > 1:
        raise ValueError(
            f"strength is {strength}, but that of the penalty is a tensor of shape {tuple(penalty.strength.shape)}; "
            "accepted is a penalty with a number as its strength, and weights per coordinate"
        )
    return from_specification({**penalty.specification(), "strength": strength})


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _one_of(name: str, value: Any, accepted: Any) -> None:
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(repr, accepted))}")


def _number(name: str, value: Any, least: float, *, above: bool = False) -> float:
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < least or (above and value == least):
        raise ValueError(
            f"{name} is {value!r}; accepted is a finite number {'above' if above else 'of at least'} {least}"
        )
    return float(value)


def _whole(name: str, value: Any, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; accepted is a whole number of at least {least}")
    return int(value)


def _layers(sizes: Any) -> tuple[int, ...]:
    several = (sizes,) if isinstance(sizes, Integral) else sizes
    try:
        return tuple(_whole("hidden_layer_sizes", size, 1) for size in several)
    except (TypeError, ValueError):
        raise ValueError(
            f"hidden_layer_sizes is {sizes!r}; accepted are whole numbers of at least 1, () for a linear model"
        ) from None


def _device(device: Any) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device is {device!r}; accepted is a device of torch, such as 'cpu' or 'cuda'") from None
