"""Where a sparsity target keeps its state: in the groups, as plain data, so that checkpoints of all kinds carry it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

TARGET = "sparsity_target"
"""The option of a group that holds the numbers of its target."""

SPARED = "spared_above"
"""The option of a group that says from which size on, as `Penalty.unit_sizes` gives it, parts take no prox; or None."""

ACTIVE = "_nonsmooth_targets"
"""The attribute of an optimizer that says which targets act; copies and pickles have neither it nor the hooks."""


def patterns_of(state: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names that a target is for, from its numbers; None for all."""
    over = state["over"]
    return None if over is None else tuple(over)


def is_active(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether a group has a target that acts."""
    return TARGET in group and patterns_of(group[TARGET]) in optimizer.__dict__.get(ACTIVE, ())


def keeps_zeros(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether what is zero in a group stays so, its target having let the penalty go."""
    return is_active(optimizer, group) and bool(group[TARGET]["released"])
