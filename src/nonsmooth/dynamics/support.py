"""Which coordinates are exactly zero, and how often that changes: what a sparse method is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth.dynamics.recording import Accumulator, State


def zeros(state: State) -> Tensor:
    """How many coordinates of β_t are exactly zero."""
    return (state.point == 0).sum(-1)


@dataclass(frozen=True)
class Flicker:
    """How many coordinates change their sign, or become zero, or leave it, per step: the mean from step `since` on.

    On an optimum that is reached it is 0; under sampled gradients it says how much of a support is noise.
    """

    since: int = 0

    def start(self) -> Accumulator:
        """A fresh accumulator."""
        return _Flicker(self.since)


class _Flicker:
    def __init__(self, since: int) -> None:
        self._since, self._steps = since, 0
        self._last: Tensor | None = None
        self._changes: Tensor | None = None

    def update(self, state: State) -> None:
        if state.step < self._since:
            return
        signs = torch.sign(state.point)
        if self._last is not None:
            changed = (signs != self._last).sum(-1)
            self._changes = changed if self._changes is None else self._changes + changed
            self._steps += 1
        self._last = signs

    def result(self) -> Tensor:
        if self._changes is None:
            raise ValueError(f"the run had fewer than two states from step {self._since} on; changes need two")
        return self._changes.to(torch.float64) / self._steps
