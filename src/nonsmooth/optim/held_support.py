"""Weights that are zero stay zero: what an optimizer's own step moves away from it is put back.

Nothing is remembered from one step to the next: what is zero before a step is zero after it, so that the weights are
all the state there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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


def cut_smallest_(members: Iterable[Member], size: float) -> None:
    """Set to zero the parts whose sizes are at most `size`, in place."""
    for penalty, parameter in members:

        def cut(point: Tensor, penalty: Penalty = penalty) -> None:
            penalty.cut_(point, size)

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
