"""Give an optimiser that somebody else built a penalty: Lightning, transformers' Trainer, accelerate, a config file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.optim import optimisers
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.optim.first_momentum import awaiting_momentum, forget_unwritten
from nonsmooth.optim.metric import unit_step_of
from nonsmooth.optim.optimisers import Proximal
from nonsmooth.optim.penalised import PenalisedOptimizer, with_penalties
from nonsmooth.optim.penalty_reader import PenaltyReader, specified
from nonsmooth.optim.proximal_step import apply_penalties, check_before_step, check_group, is_adaptive
from nonsmooth.penalties import Penalty

VERSIONS: dict[type[Optimizer], type[Proximal]] = {
    kind.parent: kind
    for kind in vars(optimisers).values()
    if isinstance(kind, type) and issubclass(kind, Proximal) and kind is not Proximal
}
"""The proximal version of each of torch's optimisers."""


def attach(optimizer: Optimizer, penalty: Penalty | None) -> Optimizer:
    """Make every step of an optimiser end with the prox of a penalty, in the optimiser's own metric.

    A plain optimiser of torch becomes its proximal version, in place: `attach(Adam(...), penalty)` is a `ProxAdam`, in
    copies, pickles and checkpoints too. A subclass of one, or an optimiser whose `step` a learning-rate scheduler has
    already wrapped, gets hooks instead, which `copy.deepcopy` and `pickle` drop: attach again after these. A wrapper
    with the optimiser in its attribute `optimizer`, such as accelerate's or Lightning's, is looked through.

    Args:
        optimizer: torch's SGD, Adam, AdamW, NAdam, RMSprop or Adagrad, or a subclass of one.
        penalty: λR, for each group that has no `penalty` of its own. None leaves such groups without one.

    Returns:
        The optimiser that was given.

    Raises:
        TypeError: not an optimiser, or not a penalty.
        ValueError: the optimiser's step for a constant gradient is not known, or it has a penalty already, or the
            penalty does not fit a parameter; nothing has been changed then.
    """
    inner = unwrapped(optimizer)
    if isinstance(inner, PenalisedOptimizer) or getattr(inner, "_nonsmooth_attached", False):
        raise ValueError(
            f"optimizer is a {type(inner).__name__} that has a penalty already; change it in its "
            "param_groups[i]['penalty']"
        )
    unit_step_of(type(inner))
    specification = specified(penalty)
    new = [specified(group["penalty"]) if "penalty" in group else specification for group in inner.param_groups]
    for group, own in zip(inner.param_groups, new, strict=True):
        check_group({**group, "penalty": own}, adaptive=is_adaptive(inner))
    for group, own in zip(inner.param_groups, new, strict=True):
        group["penalty"] = None if own is None else dict(own)
    inner.defaults["penalty"] = specification
    if type(inner) in VERSIONS and "step" not in vars(inner):
        inner.__class__ = VERSIONS[type(inner)]
        # As when it is built: this class calls the hooks.
        inner._patch_step_function()
    else:
        _hook(inner)
    return optimizer


def _hook(optimizer: Optimizer) -> None:
    """Take the prox in a hook that runs before all others, so that these see the final weights."""
    reader = PenaltyReader()
    awaiting: list[Tensor] = []

    def look(stepping: Optimizer) -> None:
        check_before_step(stepping, reader)
        awaiting[:] = awaiting_momentum(stepping)

    def check(stepping: Optimizer, arguments: Any, options: Any) -> Any:
        awaiting.clear()
        closure = options.get("closure", arguments[1] if len(arguments) > 1 else None)
        if closure is None:
            look(stepping)
            return None
        check_before_step(stepping, reader, ahead=True)

        def checked() -> Any:
            loss = closure()
            look(stepping)  # once there are gradients
            return loss

        if "closure" in options:
            return arguments, {**options, "closure": checked}
        return (arguments[0], checked, *arguments[2:]), options

    def threshold(stepping: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        forget_unwritten(stepping, awaiting)
        awaiting.clear()
        with torch.no_grad():
            apply_penalties(stepping, reader)

    optimizer.register_step_pre_hook(check)
    handle = optimizer.register_step_post_hook(threshold)
    optimizer._optimizer_step_post_hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
    optimizer.register_load_state_dict_pre_hook(lambda loading, state: with_penalties(state, loading))
    optimizer._nonsmooth_attached = True  # type: ignore[attr-defined]
