"""The prox after an optimiser's own step: read the penalty of each group, find its metric, threshold in place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Optimizer

from nonsmooth.foreign_text import visible
from nonsmooth.optim.blocks import blocks_of, everything
from nonsmooth.optim.held_at_zero import Held, lift_, limit_of, mask_of_zeros, places_of_zeros, within_limit
from nonsmooth.optim.metric import (
    UNIT_STEPS,
    AdaptiveStep,
    ReadUnitStep,
    UnitStep,
    check_options,
    sgd_step,
    unit_step_of,
)
from nonsmooth.optim.penalty_reader import PenaltyReader, fit_of
from nonsmooth.penalties import Penalty, from_specification

CHUNK = 1 << 19
"""Elements per block and thread on a CPU: enough to make calls cheap, while the buffers stay in the shared cache."""

DEVICE_CHUNK = 1 << 26
"""Elements per block on an accelerator, where a block only bounds the size of the buffers."""


# C's allocator gives freed memory back to the system beyond twice the size of the largest piece that it has taken back,
# and gets it anew page by page: for the buffers of a block that costs ten times as much as the arithmetic in them.
torch.empty(7 << 22, dtype=torch.uint8, device="cpu")

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
    return isinstance(optimizer, tuple(UNIT_STEPS)) and not isinstance(optimizer, SGD)


def is_off(penalty: Penalty | None) -> bool:
    """Whether a penalty is absent or its λ the number 0; a tensor of zeros is not looked at."""
    return penalty is None or (not isinstance(penalty.strength, Tensor) and penalty.strength == 0)


def moved_parameters(group: Mapping[str, Any]) -> Iterator[Tensor]:
    """The parameters of a group that a step moves: those with a gradient."""
    return (parameter for parameter in group["params"] if parameter.grad is not None)


def check_before_step(
    optimizer: Optimizer,
    reader: PenaltyReader,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    *,
    ahead: bool = False,
) -> None:
    """Raise, before anything is changed, where a step with a penalty would be wrong.

    What costs more than a look is checked once for each kind of penalty, shape and type.

    Args:
        optimizer: before its step.
        reader: of its penalties.
        check: raises unless a group's penalty fits its parameters; None for `check_group`.
        ahead: whether gradients are not there yet, so that every parameter counts.

    Raises:
        TypeError: a penalty is none.
        ValueError: a gradient is sparse, an option is out of its range, a penalty has invalid numbers or does not fit,
            or a step is too large for a penalty that is not convex.
    """
    known_in_advance = isinstance(optimizer, SGD)
    reader.forget_others(optimizer.param_groups)
    for group in optimizer.param_groups:
        penalty = reader(group)
        if penalty is None or is_off(penalty):
            continue
        check_options(group)
        moved = [p for p in group["params"] if not is_lazy(p)] if ahead else list(moved_parameters(group))
        fits = reader.fits(group)
        if any(fit_of(parameter) not in fits for parameter in moved):
            check_group(group, adaptive=is_adaptive(optimizer)) if check is None else check(group)
            for parameter in group["params"]:
                reader.placed(penalty, parameter.device)
                fits.add(fit_of(parameter))
        for parameter in moved:
            check_dense(parameter)
        if known_in_advance:
            step = sgd_step(group, {})
            if not isinstance(step, Tensor | AdaptiveStep):
                penalty.check_step(step)


def check_dense(
    parameter: Tensor, mover: str = "a penalty", way_out: str = ", or put it in a group with penalty=None"
) -> None:
    """Raise if a gradient is sparse.

    Args:
        parameter: with its gradient.
        mover: what needs a dense one.
        way_out: what helps beside a dense gradient.

    Raises:
        ValueError: it is.
    """
    if parameter.grad is not None and parameter.grad.layout != torch.strided:
        raise ValueError(
            f"grad of a parameter of shape {tuple(parameter.shape)} has layout {parameter.grad.layout}; {mover} moves "
            f"every coordinate, so only dense gradients are accepted: build the embedding with sparse=False{way_out}"
        )


def weights_at_zero(optimizer: Optimizer, reader: PenaltyReader) -> dict[Tensor, Held]:
    """Which weights are 0 before a step, by penalised parameter; of none under SGD, whose prox has no limit.

    The limit of an adaptive prox keeps weights that are not zero from being wiped out; those that are may be held.

    Args:
        optimizer: before its own step.
        reader: of its penalties.
    """
    if unit_step_of(type(optimizer)) is sgd_step:
        return {}
    compiled = torch.compiler.is_compiling()
    # Code that torch's compiler makes for a mask takes twenty times as long as PyTorch's own.
    zeros = torch.compiler.disable(_zeros) if compiled else _zeros  # type: ignore[no-untyped-call]
    return {
        parameter: zeros(penalty, parameter.detach(), whole=compiled or group.get("differentiable", False))
        for group in optimizer.param_groups
        if (penalty := reader(group)) is not None and not is_off(penalty)
        for parameter in moved_parameters(group)
    }


def _zeros(penalty: Penalty, parameter: Tensor, *, whole: bool) -> Held:
    """Where a parameter, or this process's shard of it, is 0, by block unless it is to be one mask."""
    shared = hasattr(parameter, "device_mesh")
    part: Tensor = parameter.to_local() if shared else parameter  # type: ignore[attr-defined]
    if whole or part.device.type != "cpu":
        return mask_of_zeros(part)
    blocks = [everything] if shared and not penalty.separable else blocks_of(penalty, part, _block_size(part))
    return [places_of_zeros(block(part)) for block in blocks]


def apply_penalties(optimizer: Optimizer, reader: PenaltyReader, at_zero: Mapping[Tensor, Held]) -> None:
    """Take the prox of every penalised parameter that the optimiser has just moved, in the optimiser's metric.

    Args:
        optimizer: after its own step.
        reader: of its penalties.
        at_zero: what `weights_at_zero` gave before that step.
    """
    unit_step = unit_step_of(type(optimizer))
    if "torch._dynamo" in sys.modules:
        unit_step = torch.compiler.disable(partial(_detached, unit_step))  # type: ignore[no-untyped-call]
    overflow = getattr(optimizer, "found_inf", None)
    for group in optimizer.param_groups:
        penalty = reader(group)
        if penalty is None or is_off(penalty):
            continue
        differentiable = group.get("differentiable", False)
        with torch.set_grad_enabled(differentiable):
            for parameter in moved_parameters(group):
                here = reader.placed(penalty, parameter.device)
                step = unit_step(group, optimizer.state[parameter])
                held = at_zero.get(parameter)
                if differentiable:
                    parameter.copy_(_differentiable_prox(here, parameter, step, held))
                    continue
                # Torch's compiler builds code for each single nn.Parameter, for other tensors by dtype and shape.
                point = parameter.detach()
                if overflow is None:
                    prox_parameter(here, point, step, held)
                else:
                    _prox_unless(overflow, here, point, step, held)


def _detached(unit_step: ReadUnitStep, group: Mapping[str, Any], state: Mapping[str, Any]) -> UnitStep:
    """D for torch's compiler, which would compile these few numbers, and code for each state's tensors, anew."""
    step = unit_step(group, state)
    return step.detached() if isinstance(step, AdaptiveStep) and not torch.is_grad_enabled() else step


def _prox_unless(overflow: Tensor, penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None) -> None:
    """The prox, but none where a fused optimiser found a gradient that is not finite and left the weights alone."""
    overflow = overflow.to(device=parameter.device, non_blocking=True) > 0
    if isinstance(step, AdaptiveStep):
        halted: UnitStep = step.halted_where(overflow)
    else:
        precision = torch.promote_types(parameter.dtype, torch.float32).to_real()
        halted = torch.where(overflow, 0.0, torch.as_tensor(step, dtype=precision, device=overflow.device))
    # Without a step a prox by coordinate returns the very same weights, one with norms or singular values but nearly.
    kept = None if penalty.separable else parameter.clone()
    prox_parameter(penalty, parameter, halted, held)
    if kept is not None:
        parameter.copy_(torch.where(overflow, kept, parameter))


def _differentiable_prox(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None) -> Tensor:
    """The prox of a copy, since autograd keeps what a later step overwrites."""
    point = parameter.clone()
    if not isinstance(step, AdaptiveStep):
        return penalty.proximal_map(point, step)
    whole = step()
    return within_limit(penalty.proximal_map(point, whole), point, limit_of(step, whole, held))


def prox_parameter(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None = None) -> None:
    """Overwrite a parameter by its prox, block by block where the penalty is a sum over coordinates or slices.

    Args:
        penalty: λR.
        parameter: w, of any real or complex dtype.
        step: D.
        held: which weights were 0 before the step; None for none.
    """
    if hasattr(parameter, "device_mesh"):  # a DTensor, of which this process holds a shard
        from nonsmooth.optim.distributed import prox_shard  # noqa: PLC0415  torch.distributed is slow to import

        prox_shard(penalty, parameter, step, held)  # type: ignore[arg-type]
        return
    # Torch's compiler fuses the whole into one pass.
    whole_at_once = torch.compiler.is_compiling() and not isinstance(held, list)
    blocks = [everything] if whole_at_once else blocks_of(penalty, parameter, _block_size(parameter))
    if isinstance(step, AdaptiveStep) and penalty.separable and len(blocks) > 1:
        step = step.laid_out_like(parameter)
    for number, block in enumerate(blocks):
        part = block(parameter)
        # Else the threshold would be rounded to three digits; the result still is.
        precise = part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
        whole = step(block) if isinstance(step, AdaptiveStep) else step
        limit = step.limit(whole, block) if isinstance(step, AdaptiveStep) else None  # type: ignore[arg-type]
        if limit is None:
            penalty.prox_(precise, whole)
        else:
            lift_(limit, held[number] if isinstance(held, list) else None if held is None else block(held))
            penalty.limited_prox_(precise, whole, limit)  # type: ignore[arg-type]
        if precise is not part:
            part.copy_(precise)


def _block_size(parameter: Tensor) -> int:
    return DEVICE_CHUNK if parameter.device.type != "cpu" else CHUNK * torch.get_num_threads()
