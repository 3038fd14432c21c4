"""The prox after an optimiser's own step: read the penalty of each group, find its metric, threshold in place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Optimizer

from nonsmooth.foreign_text import visible
from nonsmooth.optim.local_prox import Held, limit_of, local_prox_, within_limit, zeros_of
from nonsmooth.optim.penalty_reader import Bound, PenaltyReader, is_off
from nonsmooth.penalties import Penalty, from_specification
from nonsmooth.penalties.penalty import check_not_negative
from nonsmooth.torch_optimizers import AdaptiveStep, UnitStep, number, rule_of

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


def written_by(active: Active) -> list[Tensor]:
    """The parameters that the prox overwrites: those with a gradient."""
    return [parameter for group, _ in active for parameter in group["params"] if parameter.grad is not None]


def check_before_step(
    optimizer: Optimizer,
    reader: PenaltyReader,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    *,
    ahead: bool = False,
) -> Active:
    """Raise, before anything is changed, where a step with a penalty would be wrong.

    What costs more than a look is checked once for each kind of penalty, options, shape and type.

    Args:
        optimizer: before its step.
        reader: of its penalties.
        check: raises unless a group's penalty fits its parameters; None for `check_group`.
        ahead: whether gradients are not there yet, so that every parameter counts.

    Returns:
        The groups whose λ is not 0, with their penalties.

    Raises:
        TypeError: a penalty is none.
        ValueError: a gradient is sparse, an option is out of its range, a penalty has invalid numbers or does not fit,
            or a step is too large for a penalty that is not convex.
    """
    active = reader.active(optimizer.param_groups)
    for group, bound in active:
        options = number(group.get("lr", 0.0)), group.get("momentum", 0), group.get("dampening", 0)
        if options != bound.checked or any(isinstance(option, Tensor) for option in options):
            check_options(group)
            bound.checked = options
            if isinstance(optimizer, SGD) and isinstance(step := rule_of(SGD).step(group, {}), float | int):
                bound.penalty.check_step(step)
        for parameter in group["params"]:
            if is_lazy(parameter) if ahead else parameter.grad is None:
                continue
            if (parameter.shape, parameter.dtype, parameter.device) not in bound.fits:
                check_group(group, adaptive=is_adaptive(optimizer)) if check is None else check(group)
                for each in group["params"]:
                    bound.on(each.device)
                    bound.fits.add((each.shape, each.dtype, each.device))
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                refuse_sparse(parameter)
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


def refuse_sparse(
    parameter: Tensor, mover: str = "a penalty", way_out: str = ", or put it in a group with penalty=None"
) -> None:
    """Raise for a gradient that is not dense.

    Args:
        parameter: with its gradient.
        mover: what needs a dense one.
        way_out: what helps beside a dense gradient.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"grad of a parameter of shape {tuple(parameter.shape)} has layout {parameter.grad.layout}; {mover} moves "  # type: ignore[union-attr]
        f"every coordinate, so only dense gradients are accepted: build the embedding with sparse=False{way_out}"
    )


def weights_at_zero(optimizer: Optimizer, active: Active) -> dict[Tensor, Held]:
    """Which weights are 0 before a step, by penalised parameter; of none under SGD, whose prox has no limit.

    The limit of an adaptive prox keeps weights that are not zero from being wiped out; those that are may be held.

    Args:
        optimizer: before its own step.
        active: what `check_before_step` gave.
    """
    if not rule_of(type(optimizer)).adaptive:
        return {}
    compiled = torch.compiler.is_compiling()
    # Code that torch's compiler makes for a mask takes twenty times as long as PyTorch's own.
    zeros = torch.compiler.disable(zeros_of) if compiled else zeros_of  # type: ignore[no-untyped-call]
    held = {}
    for group, bound in active:
        whole = compiled or group.get("differentiable", False)
        for parameter in group["params"]:
            if parameter.grad is not None:
                shared = hasattr(parameter, "device_mesh")  # a DTensor, of which this process holds a shard
                part = parameter.detach().to_local() if shared else parameter.detach()
                whole_part = whole or (shared and not bound.penalty.separable)
                held[parameter] = zeros(bound.penalty, part, whole=whole_part)
    return held


Threshold = Callable[[Mapping[str, Any], Penalty, Tensor, UnitStep, Any], None]
"""What overwrites a parameter that has taken its base step: group, penalty, parameter, D, and where it was 0."""


def apply_penalties(
    optimizer: Optimizer, active: Active, at_zero: Mapping[Tensor, Any], threshold: Threshold | None = None
) -> None:
    """Take the prox of every penalised parameter that the optimiser has just moved, in the optimiser's metric.

    Args:
        optimizer: after its own step.
        active: what `check_before_step` gave.
        at_zero: what `weights_at_zero` gave before that step.
        threshold: what a steady optimiser does instead of `prox_parameter`.
    """
    read_step = rule_of(type(optimizer)).step
    if "torch._dynamo" in sys.modules:
        read_step = torch.compiler.disable(partial(_detached, read_step))  # type: ignore[no-untyped-call]
    for group, bound in active:
        differentiable = group.get("differentiable", False)
        with torch.set_grad_enabled(differentiable):
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                penalty, held = bound.on(parameter.device), at_zero.get(parameter)
                step = read_step(group, optimizer.state[parameter])
                if differentiable:
                    parameter.copy_(_differentiable_prox(penalty, parameter, step, held))
                elif threshold is not None:
                    threshold(group, penalty, parameter, step, held)
                else:
                    # Torch's compiler builds code for each single nn.Parameter, for other tensors by dtype and shape.
                    prox_parameter(penalty, parameter.detach(), step, held)


def _detached(read_step: Callable[..., UnitStep], group: Mapping[str, Any], state: Mapping[str, Any]) -> UnitStep:
    """D for torch's compiler, which would compile these few numbers, and code for each state's tensors, anew."""
    step = read_step(group, state)
    if not isinstance(step, AdaptiveStep) or torch.is_grad_enabled():
        return step
    return step.of_parts(lambda value: value.detach() if isinstance(value, Tensor) and value.ndim else value)


def _differentiable_prox(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None) -> Tensor:
    """The prox of a copy, since autograd keeps what a later step overwrites."""
    point = parameter.clone()
    if not isinstance(step, AdaptiveStep):
        return penalty.proximal_map(point, step)
    whole = step()
    return within_limit(penalty.proximal_map(point, whole), point, limit_of(step, whole, held))


def prox_parameter(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None = None) -> None:
    """Overwrite a parameter by its prox.

    Args:
        penalty: λR.
        parameter: w, of any real or complex dtype.
        step: D.
        held: which weights were 0 before the step; None for none.
    """
    if hasattr(parameter, "device_mesh"):  # a DTensor, of which this process holds a shard
        from nonsmooth.optim.distributed import prox_shard  # noqa: PLC0415  torch.distributed is slow to import

        prox_shard(penalty, parameter, step, held)  # type: ignore[arg-type]
    else:
        local_prox_(penalty, parameter, step, held)
