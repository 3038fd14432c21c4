"""Whether the penalty that lies in an optimiser's groups is acted upon, and whether what the prox left still stands.

A penalty in `param_groups` is a name and numbers: a plain optimiser that loads them from a checkpoint carries them
along and does nothing about them. And what a wrapper, a hook or a training loop writes into the weights after the step
takes the zeros away again. Neither changes any number that a user looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.optim.evaluation import layers, unwrapped
from nonsmooth.optim.parameter_groups import named_parameters, penalty_of
from nonsmooth.optim.penalized import PenalizedOptimizer
from nonsmooth.optim.penalty_reader import is_off
from nonsmooth.optim.target_state import TARGET, is_active

VERSIONS_AFTER_PROX = "_nonsmooth_versions"
SAMPLE_AFTER_PROX = "_nonsmooth_sample"
ATTACHED = "_nonsmooth_attached"

TRANSPARENT = ("accelerate", "lightning", "pytorch_lightning", "lightning_fabric", "nonsmooth")
"""Packages whose wrappers leave gradients and weights to the optimiser inside."""


def takes_prox(optimizer: Optimizer) -> bool:
    """Whether the steps of an optimiser end with the prox of the penalties in its groups.

    False for a plain optimiser, also for one that has loaded penalties from a checkpoint, and for the copy of one whose
    hooks `attach` had registered.

    Args:
        optimizer: any optimiser, or a wrapper with one in an attribute.
    """
    inner = unwrapped(optimizer)
    return isinstance(inner, PenalizedOptimizer) or bool(getattr(inner, ATTACHED, False))


def remember_weights(optimizer: Optimizer) -> None:
    """Keep what tells whether the weights that a step has just left are written to; nothing waits for a device.

    Version counters count what is written in place, but not what is written through a parameter's `.data`, as many
    wrappers do. These write to all parameters, so a few entries of a single one, the first with a penalty, are enough.
    """
    if not torch.compiler.is_compiling():
        first = next(
            (group["params"][0] for group in optimizer.param_groups if group.get("penalty") and group["params"]), None
        )
        optimizer.__dict__[SAMPLE_AFTER_PROX] = None if first is None else (first, _sample(first))
        optimizer.__dict__[VERSIONS_AFTER_PROX] = {
            parameter: parameter._version
            for group in optimizer.param_groups
            for parameter in group["params"]
            if not parameter.is_inference()
        }


@contextmanager
def writing(optimizer: Optimizer, parameter: Tensor) -> Iterator[None]:
    """Within, the optimizer writes what belongs to its last steps: what others have written meanwhile stays known."""
    before = None if parameter.is_inference() else parameter._version
    sampled, sample = optimizer.__dict__.get(SAMPLE_AFTER_PROX) or (None, None)
    as_it_was = parameter is sampled and sample is not None and not _is_another(parameter, sample)
    yield
    versions = optimizer.__dict__.get(VERSIONS_AFTER_PROX, {})
    if before is not None and parameter in versions:
        versions[parameter] += parameter._version - before
    if as_it_was:
        optimizer.__dict__[SAMPLE_AFTER_PROX] = (parameter, _sample(parameter))


def _sample(parameter: Tensor) -> Tensor:
    """A copy of some of a parameter's entries, spread over each of its dimensions."""
    part = parameter.detach()
    part = part.to_local() if hasattr(part, "to_local") else part
    return part[tuple(slice(None, None, max(1, size // 8)) for size in part.shape)].clone()


def _is_another(parameter: Tensor, before: Tensor) -> bool:
    """Whether a parameter has not the entries it had; another place or precision alone does not count."""
    now = _sample(parameter)
    return now.shape != before.shape or not torch.allclose(now, before.to(now), rtol=0, atol=0, equal_nan=True)


def prox_notes(optimizer: Optimizer) -> tuple[str, ...]:
    """What a certificate has to say about the prox of the optimiser's penalties.

    Args:
        optimizer: as the user has it, wrapped or not.
    """
    *wrappers, inner = layers(optimizer)
    idle = [group for group in inner.param_groups if TARGET in group and not is_active(inner, group)]
    without_target = (
        "a sparsity target lies in the groups, as from a checkpoint or in a copy, and nothing acts upon it; build "
        "SparsityTarget for this optimizer, then load the checkpoint",
    )
    penalized = [(index, group) for index, group in enumerate(inner.param_groups) if not is_off(penalty_of(group))]
    if not penalized:
        return without_target if idle else ()
    notes = list(without_target) if idle else []
    if not takes_prox(inner):
        notes.append(
            f"no prox is taken: {type(inner).__name__} has a penalty in its groups, as from a checkpoint, and does not "
            "act upon it; load the checkpoint into an optimiser of nonsmooth.optim, or attach(optimizer, None)"
        )
    notes += [
        f"{type(outer).__name__} wraps {type(inner).__name__}: where it changes gradients before the step or "
        "weights after it, λ does not mean what is certified here"
        for outer in wrappers
        if type(outer).__module__.split(".")[0] not in TRANSPARENT
    ]
    before = inner.__dict__.get(VERSIONS_AFTER_PROX, {})
    sampled, sample = inner.__dict__.get(SAMPLE_AFTER_PROX) or (None, None)
    written = [
        name
        for index, group in penalized
        for name, parameter in named_parameters(index, group)
        if (parameter in before and before[parameter] != parameter._version)
        or (parameter is sampled and sample is not None and _is_another(parameter, sample))
    ]
    if written:
        notes.append(
            f"written to since the prox of the last step, so exact zeros may be gone: {', '.join(written[:5])}"
            + (f" and {len(written) - 5} more" if len(written) > 5 else "")
        )
    return tuple(notes)
