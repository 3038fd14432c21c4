"""The parameters of a sparsity target: chosen from an optimizer's groups, with what is done to all of them alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.extremes import largest
from nonsmooth.foreign_text import visible
from nonsmooth.optim.evaluation import whole
from nonsmooth.optim.held_support import Member
from nonsmooth.optim.parameter_groups import named_parameters, part_of_group, penalty_of
from nonsmooth.optim.target_state import SPARED, TARGET
from nonsmooth.penalties import GroupL1, Nuclear, Penalty, SparseGroupL1, from_specification

START = 1e-3
"""The first λ, over the smallest at which the first step's gradient would leave weights at zero where they are."""

SAMPLE = 1 << 17
"""Parts of which a size is estimated: a share is then known to about a tenth of a percent."""

Group = dict[str, Any]


def as_patterns(over: Any) -> tuple[str, ...] | None:
    """Patterns of names as plain data.

    Raises:
        TypeError: they are one string instead of several, or no strings.
        ValueError: there are none.
    """
    if over is None:
        return None
    if isinstance(over, str):
        raise TypeError(f"over is the string {over!r}; accepted are several patterns, such as [{over!r}], or None")
    patterns = tuple(over)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"over is {over!r}; accepted are patterns of names, or None")
    if not patterns:
        raise ValueError("over is empty; accepted are one or more patterns of names, or None for all")
    return patterns


def choose_parameters(optimizer: Optimizer, over: tuple[str, ...] | None) -> set[Tensor]:
    """The parameters with a penalty whose names match.

    Raises:
        ValueError: a pattern matches none, none has a penalty or an entry, or one has a target already.
    """
    named = {
        name: (parameter, group)
        for index, group in enumerate(optimizer.param_groups)
        if group.get("penalty") is not None
        for name, parameter in named_parameters(index, group)
    }
    if not named:
        raise ValueError(
            "optimizer has no parameter with a penalty; accepted is one made with penalize(model, penalty)"
        )
    for pattern in over or ():
        if not any(fnmatchcase(name, pattern) for name in named):
            raise ValueError(
                f"over has {pattern!r}, which matches none of the parameters with a penalty: "
                f"{', '.join(map(visible, named))}"
            )
    chosen = {n: v for n, v in named.items() if over is None or any(fnmatchcase(n, pattern) for pattern in over)}
    if taken := [name for name, (_, group) in chosen.items() if TARGET in group]:
        raise ValueError(
            f"optimizer has a sparsity target for {', '.join(map(visible, taken[:3]))} already; accepted are targets "
            "whose parameters do not overlap, by over"
        )
    if not any(parameter.numel() for parameter, _ in chosen.values()):
        raise ValueError(f"{', '.join(map(visible, chosen))} hold no weight; accepted are parameters with entries")
    return {parameter for parameter, _ in chosen.values()}


def split(optimizer: Optimizer, chosen: set[Tensor]) -> list[Group]:
    """Divide, in place, the groups of which a part is chosen; the chosen ones keep their place.

    Returns:
        The groups of the chosen parameters.

    Raises:
        ValueError: a learning-rate scheduler counts on the groups that would be divided; nothing has been changed then.
    """
    mixed = [g for g in optimizer.param_groups if 0 < sum(p in chosen for p in g["params"]) < len(g["params"])]
    if mixed and getattr(optimizer.step, "_wrapped_by_lr_sched", False):
        raise ValueError(
            "over takes a part of a group, which would be split, but optimizer has a learning-rate scheduler, which "
            "keeps a rate for each group; build the target first, then the scheduler"
        )
    for group in mixed:
        kept = [parameter in chosen for parameter in group["params"]]
        rest = part_of_group(group, [not each for each in kept])
        rest = {name: value.clone() if isinstance(value, Tensor) else value for name, value in rest.items()}
        optimizer.param_groups.append({**rest, "penalty": dict(group["penalty"])})
        group.update(part_of_group(group, kept))
    return [group for group in optimizer.param_groups if any(parameter in chosen for parameter in group["params"])]


def bases(groups: Sequence[Group]) -> list[float | Tensor]:
    """What λ is a multiple of in each group: the λ that its penalty brings, or 1 for all where all bring 0."""
    given = [group["penalty"]["strength"] for group in groups]
    if all(not isinstance(strength, Tensor) and strength == 0 for strength in given):
        return [1.0] * len(groups)
    return given


def set_strengths(pool: Iterable[Group], scale: float) -> None:
    """Write λ, the scale times the base, into the groups."""
    for group in pool:
        group["penalty"]["strength"] = scale * group[TARGET]["base"] if scale else 0.0


def members(pool: Iterable[Group]) -> list[Member]:
    """The parameters with their penalties."""
    found = []
    for group in pool:
        penalty = penalty_of(group)
        assert penalty is not None
        found += [(penalty, parameter.detach()) for parameter in group["params"]]
    return found


def first_scale(optimizer: Optimizer, pool: Iterable[Group]) -> float:
    """What to begin with: a small part of the λ that would keep all weights at zero under the present gradient.

    0 where there is no gradient yet.
    """
    scales = [0.0]
    for group in pool:
        base = group[TARGET]["base"]
        penalty = from_specification({**group["penalty"], "strength": 1.0})
        unit = float(torch.as_tensor(base).max())
        gradients = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        scales += [_largest_pull(penalty, whole(gradient)) / unit for gradient in gradients if unit > 0]
    # A fused optimizer under GradScaler takes gradients that are still scaled.
    scaling = getattr(optimizer, "grad_scale", None)
    found = START * largest(scales) / (1.0 if scaling is None else float(scaling))
    return found if found < float("inf") else 0.0  # NaN or infinite: wait for another gradient


def _largest_pull(penalty: Penalty, gradient: Tensor) -> float:
    """The smallest λ at which weights of zero would stay there; under a penalty without any, the largest entry."""
    if not gradient.numel():
        return 0.0
    if not bool(torch.isfinite(gradient.abs()).all()):
        return math.nan
    return float(penalty.lam_max(gradient)) or float(gradient.abs().max())


def spare(pool: Iterable[Group], share: float) -> None:
    """Leave the penalty on that share of the groups of weights, the smallest, alone; single weights have it all.

    Groups are few and alike, so all of them would shrink together, and die within a few steps. Single weights are many
    and so unlike that they do not; and which of them can go shows better where all have to pay.
    """
    chosen = [group for group in pool if hasattr(penalty_of(group), "groups")]
    if not chosen:
        return
    sizes = [penalty.unit_sizes(whole(parameter)).float() for penalty, parameter in members(chosen)]
    apart = -(-sum(each.numel() for each in sizes) // SAMPLE)
    sample = torch.cat([each[::apart].cpu() for each in sizes])
    rank = round(share * len(sample))
    for group in chosen:
        group[SPARED] = float(sample.kthvalue(rank).values) if rank else 0.0


def unit_name(pool: Iterable[Member]) -> str:
    """What is counted."""
    kinds = {
        "groups" if isinstance(penalty, GroupL1 | SparseGroupL1) else "singular values" if isinstance(penalty, Nuclear)
        else "weights"
        for penalty, _ in pool
    }  # fmt: skip
    return kinds.pop() if len(kinds) == 1 else "weights, groups and singular values"


def check_gradients(pool: Iterable[Group]) -> None:
    """Raise for a sparse gradient: rows that are behind with the prox cannot be counted.

    Raises:
        ValueError: there is one.
    """
    for group in pool:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                raise ValueError(
                    f"grad of a parameter of shape {tuple(parameter.shape)} has layout {parameter.grad.layout}; a "
                    "sparsity target accepts dense ones: build the embedding with sparse=False, or leave it out by over"
                )
