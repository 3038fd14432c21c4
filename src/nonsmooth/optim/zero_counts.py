"""How many zeros there are, counted where the weights lie, without the host waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from nonsmooth.optim.evaluation import whole
from nonsmooth.optim.held_support import Member


def count_units(members: Iterable[Member]) -> int:
    """How many coordinates, groups or singular values there are."""
    return sum(penalty.units(parameter.shape) for penalty, parameter in members)


def count_zeros(members: Iterable[Member]) -> Callable[[], int]:
    """Begin to count the coordinates, groups or singular values that are zero.

    Returns:
        What waits for the count and returns it.
    """
    counts: dict[torch.device, list[torch.Tensor]] = {}
    for penalty, parameter in members:
        found = penalty.zero_units(whole(parameter))
        counts.setdefault(found.device, []).append(found)
    parts = [_on_the_way(torch.stack(each).sum()) for each in counts.values()]
    return lambda: sum(part() for part in parts)


def _on_the_way(count: torch.Tensor) -> Callable[[], int]:
    """A number that travels to the host while the device goes on."""
    if count.device.type == "cpu":
        value = int(count)
        return lambda: value
    if count.device.type != "cuda":
        return lambda: int(count)
    there = torch.empty((), dtype=count.dtype, pin_memory=True)
    there.copy_(count, non_blocking=True)
    arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrival.record(torch.cuda.current_stream(count.device))

    def wait() -> int:
        arrival.synchronize()
        return int(there)

    return wait
