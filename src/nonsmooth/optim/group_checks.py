"""What a group's options and parameters must be for a penalty to be on them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Optimizer

from nonsmooth.foreign_text import visible
from nonsmooth.optim.embeddings.sparse_gradients import ACCEPTED_BY_ROWS, ALL_MOVE, reason_against
from nonsmooth.optim.penalty_reader import Bound, PenaltyReader, is_off
from nonsmooth.penalties import from_specification
from nonsmooth.penalties.penalty import check_not_negative
from nonsmooth.torch_optimizers import AdaptiveStep, number, rule_of

Active = list[tuple[MutableMapping[str, Any], Bound]]
"""The groups of an optimizer whose λ is not 0, with their penalties."""

NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
"""The types of parameters that a penalty can be on."""


def check_group(group: Mapping[str, Any], *, adaptive: bool = False) -> None:
    """Raise unless the penalty of a group fits each of its parameters.

    Args:
        group: parameters, penalty and options.
        adaptive: whether the optimiser has a step for each coordinate, and for real and imaginary parts.

    Raises:
        ValueError: a parameter is not made of real or complex numbers, or has a shape that the penalty cannot be on, or
            none yet, or an option leaves no step for a constant gradient.
    """
    penalty = None if group.get("penalty") is None else from_specification(group["penalty"])
    if penalty is None:
        return
    if not is_off(penalty):
        check_options(group)
    names = group.get("param_names") or range(len(group["params"]))
    for name, parameter in zip(names, group["params"], strict=True):
        if is_lazy(parameter):
            raise ValueError(
                f"parameter {visible(name)} belongs to a lazy module, which does not know its shape yet; run one "
                "forward pass first"
            )
        if parameter.dtype not in NUMBERS:
            raise ValueError(
                f"parameter {visible(name)} has dtype {parameter.dtype}; a penalty accepts floating-point and complex "
                "parameters"
            )
        try:
            penalty.check_shape(parameter.shape)
            if adaptive and parameter.is_complex():
                penalty.check_metric(by_parts=True)
        except ValueError as error:
            raise ValueError(
                f"penalty {type(penalty).__name__} does not fit parameter {visible(name)}: {error}"
            ) from None


def is_adaptive(optimizer: Optimizer) -> bool:
    """Whether an optimiser is one of torch's, or a subclass, that has a step for each coordinate."""
    try:
        return rule_of(type(optimizer)).adaptive
    except ValueError:  # an optimizer of another kind, such as dual averaging
        return False


def check_before_step(
    optimizer: Optimizer,
    reader: PenaltyReader,
    *,
    ahead: bool = False,
    against_sparse: str | None = ALL_MOVE,
) -> Active:
    """Raise, before anything is changed, where a step with a penalty would be wrong.

    What costs more than a look is checked once for each kind of penalty, options, shape and type.

    Args:
        optimizer: before its step.
        reader: of its penalties.
        ahead: whether gradients are not there yet, so that every parameter counts.
        against_sparse: why no sparse gradient is accepted; None where rows without a gradient may take the prox later.

    Returns:
        The groups whose λ is not 0, with their penalties.

    Raises:
        TypeError: a penalty is none.
        ValueError: a gradient is sparse where that is not accepted, an option is out of its range, a penalty has
            invalid numbers or does not fit, or a step is too large for a penalty that is not convex.
    """
    active = reader.active(optimizer.param_groups)
    for group, bound in active:
        options = number(group.get("lr", 0.0)), group.get("momentum", 0), group.get("dampening", 0)
        if options != bound.checked or any(isinstance(option, Tensor) for option in options):
            check_options(group)
            bound.checked = options
            step = rule_of(SGD).step(group, {}) if isinstance(optimizer, SGD) else 0.0
            if not isinstance(step, Tensor | AdaptiveStep):
                bound.penalty.check_step(step)
        for parameter in group["params"]:
            if is_lazy(parameter) if ahead else parameter.grad is None:
                continue
            if (parameter.shape, parameter.dtype, parameter.device) not in bound.fits:
                own_check = getattr(optimizer, "check_group", partial(check_group, adaptive=is_adaptive(optimizer)))
                own_check(group)
                for each in group["params"]:
                    bound.on(each.device)
                    bound.fits.add((each.shape, each.dtype, each.device))
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                reason = against_sparse or reason_against(optimizer, group, bound.penalty, parameter)
                if reason is not None:
                    refuse_sparse(parameter, reason)
    return active


def check_options(group: Mapping[str, Any]) -> None:
    """Raise unless the options of a group leave a step for a unit of constant gradient.

    Raises:
        ValueError: the step size is no number of at least 0, the momentum is 1 or more, or the dampening above 1.
    """
    rate = number(group.get("lr", 0.0))
    if not isinstance(rate, Tensor):
        check_not_negative("lr", rate)
    for name, accepted in (("momentum", "below 1"), ("dampening", "of at most 1")):
        value = group.get(name, 0)
        if value > 1 or (value == 1 and name == "momentum"):
            raise ValueError(
                f"{name} is {value!r}; accepted with a penalty are numbers {accepted}, for which a constant gradient "
                "leads to a constant step forward"
            )


def refuse_sparse(parameter: Tensor, reason: str, way_out: str = ", or put it in a group with penalty=None") -> None:
    """Raise for a gradient that is not dense.

    Args:
        parameter: with its gradient.
        reason: why a dense one is needed.
        way_out: what helps beside a dense gradient.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"grad of a parameter of shape {tuple(parameter.shape)} has layout {parameter.grad.layout}; {reason}. "  # type: ignore[union-attr]
        f"{ACCEPTED_BY_ROWS}; else build the embedding with sparse=False{way_out}"
    )
