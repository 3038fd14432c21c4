"""Where the random number generators stand, so that a computation can draw the same numbers again."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn


class RandomState:
    """The states of Python's, NumPy's and PyTorch's generators, and of those that modules have as attributes.

    Args:
        modules: whose generators are meant; their submodules have to be named as well.
    """

    def __init__(self, modules: Iterable[nn.Module] = ()) -> None:
        self._cpu = torch.get_rng_state()
        # Of all devices: a closure may draw on one that no parameter lies on.
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        self._python, self._numpy = random.getstate(), np.random.get_state(legacy=False)
        self._own: list[tuple[torch.Generator, torch.Tensor]] = []
        for module in modules:
            self.add(module)

    def add(self, module: nn.Module) -> None:
        """Note the generators of one more module."""
        self._own += [
            (value, value.get_state()) for value in vars(module).values() if isinstance(value, torch.Generator)
        ]

    def restore(self) -> None:
        """Put all of them back."""
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        for generator, state in self._own:
            generator.set_state(state)
