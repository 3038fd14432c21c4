"""Steps on sparse gradients: rows that a gradient names take the prox at once, the others when they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.optim.embeddings.missed_steps import LONGEST, MISSED, Missed, bring_up, forget, on_rows, with_missed
from nonsmooth.optim.local_prox import local_prox_, mask_of_zeros
from nonsmooth.optim.penalty_reader import Bound, version_of
from nonsmooth.torch_optimizers import AdaptiveStep, Rule

FOLLOWED = "_nonsmooth_followed"
"""What an optimizer calls the parameters whose rows modules bring up to date before they read them."""


class RowStep(NamedTuple):
    """What a step on a sparse gradient needs to know.

    Attributes:
        group: the parameter's.
        bound: its penalty.
        parameter: w.
        rows: those that the gradient names, each once.
        zeros: where they were 0 before, under Adagrad.
    """

    group: MutableMapping[str, Any]
    bound: Bound
    parameter: Tensor
    rows: Tensor
    zeros: Tensor | None


def begin(
    optimizer: Optimizer, active: Iterable[tuple[MutableMapping[str, Any], Bound]], rule: Rule
) -> dict[Tensor, RowStep]:
    """Bring what is about to move up to date, and look at the rows that sparse gradients name.

    Args:
        optimizer: before its own step.
        active: its groups whose λ is not 0, with their penalties; `check_before_step` has accepted their gradients.
        rule: of the optimizer.

    Returns:
        The parameters with a sparse gradient among these groups'.

    Raises:
        ValueError: a gradient was taken at rows that have missed steps; nothing has been changed then.
    """
    named = {p: _named(p.grad) for p, _ in with_missed(optimizer) if p.grad is not None}
    for parameter, rows in named.items():
        _check_up_to_date(optimizer, parameter, rows)
    for parameter, rows in named.items():
        bring_up(optimizer, parameter, rows if parameter.grad.is_sparse else None)  # type: ignore[union-attr]
    steps = {}
    for group, bound in active:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.is_sparse:
                rows = named[parameter] if parameter in named else _named(parameter.grad)
                zeros = mask_of_zeros(parameter.detach().index_select(0, rows)) if rule.adaptive else None
                steps[parameter] = RowStep(group, bound, parameter, rows, zeros)
    return steps


def finish(optimizer: Optimizer, steps: Iterable[RowStep], rule: Rule) -> None:
    """Take the prox of the rows that have moved, and write down that the others have missed it.

    Args:
        optimizer: after its own step.
        steps: what `begin` gave.
        rule: of the optimizer.
    """
    for group, bound, parameter, rows, zeros in steps:
        penalty, state = bound.on(parameter.device), optimizer.state[parameter]
        step = rule.step(group, state)
        here = step
        if isinstance(step, AdaptiveStep):
            here = dataclasses.replace(step, square=step.square.index_select(0, rows))
        part = parameter.detach().index_select(0, rows)
        local_prox_(on_rows(penalty, rows, parameter.shape), part, here, zeros)
        parameter.detach().index_copy_(0, rows, part)
        if len(rows) == parameter.shape[0]:
            forget(optimizer, parameter)
            continue
        if MISSED in state and state[MISSED].copies(penalty):
            bring_up(optimizer, parameter)
            state = optimizer.state[parameter]
        if MISSED not in state:
            state[MISSED] = Missed(parameter)
        missed: Missed = state[MISSED]
        missed.note(penalty, rule.numbers(group, state) if isinstance(step, AdaptiveStep) else step, rows)
        missed.version = version_of(parameter)
        if len(missed.events) >= LONGEST:
            bring_up(optimizer, parameter)


def _named(gradient: Tensor) -> Tensor:
    """The rows that a gradient names, each once; of a dense one those that are not 0."""
    if gradient.is_sparse:
        rows: Tensor = torch.unique(gradient._indices()[0])
        return rows
    return gradient.reshape(len(gradient), -1).any(1).nonzero().reshape(-1)


def _check_up_to_date(optimizer: Optimizer, parameter: Tensor, rows: Tensor) -> None:
    """Raise where a gradient was taken at weights that had missed steps.

    Other processes name rows that this one has not read; under a followed module they were up to date there.

    Raises:
        ValueError: it was.
    """
    if parameter in optimizer.__dict__.get(FOLLOWED, ()) and _is_one_of_several():
        return
    stale = optimizer.state[parameter][MISSED].on(parameter.device).behind(rows)
    if len(stale):
        names = ("optimizer.follow(model)", "optimizer.catch_up()")
        if not hasattr(optimizer, "catch_up"):
            names = ("nonsmooth.optim.follow(optimizer, model)", "nonsmooth.optim.catch_up(optimizer)")
        raise ValueError(
            f"grad of a parameter of shape {tuple(parameter.shape)} names {len(stale)} rows, such as {int(stale[0])}, "
            "that have missed steps in which no gradient named them, so it was taken at weights that are not up to "
            f"date; call {names[0]} once, so that embeddings bring up to date what they are about to read, and "
            f"{names[1]} before you read the weights in another way"
        )


def _is_one_of_several() -> bool:
    """Whether this process shares its work with others."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
