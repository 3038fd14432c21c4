"""Weights that are zero stay zero: what an optimizer's own step moves away from it is put back.

Nothing is remembered from one step to the next: what is zero before a step is zero after it, so that the weights are
all the state there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from nonsmooth.optim.evaluation import add_whole_, whole
from nonsmooth.optim.launch_operands import local
from nonsmooth.penalties import Penalty

Member = tuple[Penalty, Tensor]
"""A parameter, and the penalty that says what of it is a zero: coordinates, groups or singular values."""


def zero_keepers(members: Iterable[Member]) -> list[Callable[[], None]]:
    """What keeps the zeros of each parameter through the step that is about to be taken, to be called after it."""
    return [_keeper(penalty, parameter) for penalty, parameter in members]


def _keeper(penalty: Penalty, parameter: Tensor) -> Callable[[], None]:
    # Coordinates that are zero are so on every process by itself.
    in_parts = type(penalty).zero_keeper is Penalty.zero_keeper
    keep = penalty.zero_keeper(local(parameter) if in_parts else whole(parameter))

    def put_back() -> None:
        if in_parts:
            keep(local(parameter))
        else:
            _change(parameter, keep)

    return put_back


def cut_smallest_(members: Sequence[Member], zeros: int) -> None:
    """Set the smallest parts to zero, in place, until so many are zero; of equal ones the first. NaN stays.

    Args:
        members: the parameters.
        zeros: at most the number of parts.
    """
    parts = [penalty.unit_sizes(whole(parameter)).float() for penalty, parameter in members]
    sizes = torch.cat([part.cpu() for part in parts])
    limit = sizes.kthvalue(zeros).values
    chosen = sizes < limit
    ties = (sizes == limit).nonzero().flatten()
    chosen[ties[: zeros - int(chosen.sum())]] = True
    for (penalty, parameter), own in zip(members, torch.split(chosen, [len(part) for part in parts]), strict=True):

        def cut(point: Tensor, penalty: Penalty = penalty, own: Tensor = own) -> None:
            penalty.cut_(point, own.to(point.device))

        _change(parameter, cut)


def _change(parameter: Tensor, change: Callable[[Tensor], object]) -> None:
    """Change a parameter in place, of which this process may hold a part."""
    if not hasattr(parameter, "device_mesh"):
        change(parameter)
        return
    before = whole(parameter)
    after = before.clone()
    change(after)
    add_whole_(parameter, after - before)
