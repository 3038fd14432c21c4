"""Attach a penalty to an existing optimizer, as from Lightning, transformers' Trainer, accelerate or a config file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nonsmooth.optim import optimizers
from nonsmooth.optim.embeddings.missed_steps import catch_up, catch_up_before_loading
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.optim.group_checks import check_group, is_adaptive
from nonsmooth.optim.optimizers import Proximal
from nonsmooth.optim.parameter_groups import (
    check_model,
    choose,
    dimensions,
    part_of_group,
    penalty_of,
    warn_of_vectors,
)
from nonsmooth.optim.penalized import with_own_penalties, with_penalties
from nonsmooth.optim.penalty_reader import PenaltyReader, is_off, to_specification
from nonsmooth.optim.prox_taken import ATTACHED, takes_prox
from nonsmooth.optim.proximal_step import ProximalStep
from nonsmooth.penalties import Penalty
from nonsmooth.torch_optimizers import rule_of

VERSIONS: dict[type[Optimizer], type[Proximal]] = {
    kind.parent: kind
    for kind in vars(optimizers).values()
    if isinstance(kind, type) and issubclass(kind, Proximal) and kind is not Proximal
}
"""The proximal version of each of torch's optimisers."""


def attach(
    optimizer: Optimizer,
    penalty: Penalty | None,
    *,
    model: nn.Module | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Optimizer:
    """Make every step of an optimiser end with the prox of a penalty, in the optimiser's own metric.

    With `model` the penalty is on its weights only, as with `penalize`: a group that has others as well is split in
    place, its penalised parameters first, and the others in a new group with the same options at the end; the
    optimiser's state, hooks and wrappers stay. So a checkpoint with one group can be continued with weights penalised
    and biases not: load it into the plain optimiser, then attach. Without `model` everything is penalised.

    A plain optimiser of torch becomes its proximal version, in place: `attach(Adam(...), penalty)` is a `ProxAdam`, in
    copies, pickles and checkpoints too. A subclass of one, or an optimiser whose `step` a learning-rate scheduler has
    already wrapped, gets hooks instead, which `copy.deepcopy` and `pickle` drop: attach again after these, with
    `penalty=None` to keep what lies in the groups; `takes_prox` tells. A wrapper with the optimiser in an attribute,
    such as accelerate's or Lightning's, is looked through.

    Args:
        optimizer: torch's SGD, Adam, AdamW, NAdam, RMSprop or Adagrad, or a subclass of one.
        penalty: λR, for each group that has no `penalty` of its own. None leaves such groups without one.
        model: the network whose parameters the optimiser has; None to penalise everything, with a warning where that
            is weights and vectors alike.
        include: as for `penalize`, with `model`.
        exclude: as for `penalize`, with `model`.

    Returns:
        The optimiser that was given.

    Raises:
        TypeError: not an optimiser, not a penalty, or not a model.
        ValueError: the optimiser's step for a constant gradient is not known, or it has a penalty already, the penalty
            does not fit a parameter, `model` and the patterns do not fit the optimiser, or a learning-rate scheduler
            counts on the groups that would be split; nothing has been changed then.
    """
    inner = unwrapped(optimizer)
    if takes_prox(inner):
        raise ValueError(
            f"optimizer is a {type(inner).__name__} that has a penalty already; change it in its "
            "param_groups[i]['penalty']"
        )
    rule_of(type(inner))
    specification = to_specification(penalty)
    include, exclude = (patterns if isinstance(patterns, str) else list(patterns) for patterns in (include, exclude))
    if model is not None:
        check_model(model)
        groups = _split(inner, specification, model, include, exclude)
    elif include or exclude:
        raise ValueError("model is None; include and exclude are patterns of its parameters' names, so give it as well")
    else:
        groups = [{"penalty": specification, **group} for group in inner.param_groups]
    groups = [{**group, "penalty": to_specification(group["penalty"])} for group in groups]
    for group in groups:
        check_group(group, adaptive=is_adaptive(inner))
    if model is None and not is_off(penalty):
        unnamed = [(i, group) for i, group in enumerate(inner.param_groups) if "penalty" not in group]
        warn_of_vectors(each for i, group in unnamed for each in dimensions(i, group))
    for group, changed in zip(inner.param_groups, groups, strict=False):
        group.update(changed)
    inner.param_groups += groups[len(inner.param_groups) :]
    inner.defaults["penalty"] = specification
    if type(inner) in VERSIONS and "step" not in vars(inner):
        inner.__class__ = VERSIONS[type(inner)]
        # As when it is built: this class calls the hooks.
        inner._patch_step_function()
    else:
        _hook(inner)
    return optimizer


def _split(
    optimizer: Optimizer,
    specification: dict[str, Any] | None,
    model: nn.Module,
    include: Iterable[str],
    exclude: Iterable[str],
) -> list[dict[str, Any]]:
    """The optimiser's groups with penalties, those with parameters of both kinds divided, the new ones at the end.

    Raises:
        TypeError: there is no penalty to put on weights.
        ValueError: model and optimiser do not fit, or a scheduler counts on the groups.
    """
    if specification is None:
        raise TypeError("penalty is None; accepted with model is a nonsmooth.penalties.Penalty")
    unnamed = [group for group in optimizer.param_groups if "penalty" not in group]
    ours = {parameter for group in unnamed for parameter in group["params"]}
    if not ours:
        raise ValueError(
            "model is given, but each group of optimizer has a penalty of its own; accepted is model=None, or delete "
            "group['penalty'] first"
        )
    named = {name: parameter for name, parameter in model.named_parameters() if parameter in ours}
    if foreign := len(ours) - len(named):
        raise ValueError(
            f"model has no name for {foreign} of the {len(ours)} parameters in optimizer; accepted is the module that "
            "holds them all"
        )
    chosen = {named[name] for name in choose(model, named, include, exclude)}
    groups, added = [], []
    for group in optimizer.param_groups:
        kinds = [parameter in chosen for parameter in group["params"]]
        if "penalty" in group:
            groups.append(group)
            continue
        if all(kinds) or not any(kinds):
            groups.append({**group, "penalty": specification if all(kinds) else None})
            continue
        groups.append({**part_of_group(group, kinds), "penalty": specification})
        rest = {**part_of_group(group, [not kind for kind in kinds]), "penalty": None}
        added.append({k: v.clone() if isinstance(v, Tensor) else v for k, v in rest.items()})
    if added and getattr(optimizer.step, "_wrapped_by_lr_sched", False):
        raise ValueError(
            "optimizer has a learning-rate scheduler, which keeps a rate for each of its "
            f"{len(optimizer.param_groups)} groups, and model would have them split; attach first, then build the "
            "scheduler"
        )
    return groups + added


def _hook(optimizer: Optimizer) -> None:
    """Take the prox in a hook that runs before all others, so that these see the final weights."""
    prox = ProximalStep(type(optimizer), PenaltyReader())

    def check(stepping: Optimizer, arguments: Any, options: Any) -> Any:
        closure = options.get("closure", arguments[1] if len(arguments) > 1 else None)
        if closure is None:
            prox.before(stepping)
            return None
        prox.check(stepping)

        def checked() -> Any:
            loss = closure()
            prox.before(stepping)  # once there are gradients
            return loss

        if "closure" in options:
            return arguments, {**options, "closure": checked}
        return (arguments[0], checked, *arguments[2:]), options

    def threshold(stepping: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        prox.after(stepping)

    def load(loading: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        catch_up_before_loading(loading)
        return with_penalties(state, loading)

    def specify(saving: Optimizer) -> None:
        catch_up(saving)
        for group in saving.param_groups:
            prox.reader(group)

    optimizer.register_step_pre_hook(check)
    handle = optimizer.register_step_post_hook(threshold)
    optimizer._optimizer_step_post_hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
    optimizer.register_load_state_dict_pre_hook(load)
    optimizer.register_state_dict_pre_hook(specify)
    optimizer.register_state_dict_post_hook(lambda saving, state: with_own_penalties(state))
    # torch gives this to groups that come later as it is, and they would share a dictionary.
    optimizer.defaults["penalty"] = penalty_of(optimizer.defaults)
    setattr(optimizer, ATTACHED, True)
