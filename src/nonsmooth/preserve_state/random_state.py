"""Where the random number generators stand, so that a computation can draw the same numbers again.

The global generators belong to the whole process. Another thread may draw from them meanwhile, and to put them back
would give it numbers that it has had. So only what the computation itself has drawn from is put back.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

OUTSIDE_TORCH = {"python", "numpy"}
SWITCHES = {"dropout_p", "dropout", "train", "training"}
"""Arguments that, where they are 0 or False, keep an operator that may draw from drawing."""


class RandomState:
    """The states of Python's, NumPy's and PyTorch's generators, and of those that modules have as attributes.

    Who drew from a generator of PyTorch is seen by operator, in the thread that runs `watched`. Who drew from Python's
    or NumPy's cannot be seen: a draw while `watched` is open counts as one of the block.

    Args:
        modules: whose generators are meant; their submodules have to be named as well.
    """

    def __init__(self, modules: Iterable[nn.Module] = ()) -> None:
        self._kept = _states()
        self._drawn: set[str] = set()
        self._beside = False
        self._own: list[tuple[torch.Generator, torch.Tensor]] = []
        for module in modules:
            self.add(module)

    def add(self, module: nn.Module) -> None:
        """Note the generators of one more module."""
        self._own += [
            (value, value.get_state()) for value in vars(module).values() if isinstance(value, torch.Generator)
        ]

    @property
    def drew_from_torch(self) -> bool:
        """Whether blocks of `watched` drew from a generator of PyTorch."""
        return bool(self._drawn - OUTSIDE_TORCH)

    @property
    def doubtful(self) -> bool:
        """Whether a generator of PyTorch moved in a block that did not look at operators, beside other threads."""
        return self.drew_from_torch and self._beside

    def doubt(self) -> None:
        """Let the next `watched` decide which generators of PyTorch are drawn from."""
        self._drawn &= OUTSIDE_TORCH

    @contextmanager
    def watched(self, *, by_operator: bool = True) -> Iterator[None]:
        """A block whose draws `restore` takes back.

        Args:
            by_operator: look at each operator where other threads may draw too; compiled code then runs uncompiled.
        """
        # Asked before the states are read, for a thread may draw and end in between. Alone, what moves is moved here.
        self._beside = threading.active_count() > 1
        before = _states()
        draws = _Draws() if by_operator and self._beside else None
        try:
            with draws or nullcontext():
                yield
        finally:
            moved = {name for name, now in _states().items() if name in before and not _same(now, before[name])}
            self._beside = self._beside or threading.active_count() > 1
            self._drawn |= moved if draws is None or draws.found else moved & OUTSIDE_TORCH

    def restore(self) -> None:
        """Put back all that was drawn from in blocks of `watched`, and the generators of modules."""
        now = _states()
        for name in self._drawn & self._kept.keys():
            if not _same(now[name], self._kept[name]):
                _set(name, self._kept[name])
        for generator, state in self._own:
            generator.set_state(state)


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether the operators of this thread draw from a global generator.

    Attributes:
        found: whether one did.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would load its whole compiler to keep it out of this class; under a mode it compiles nothing."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.found or torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
            return func(*args, **kwargs)
        # An argument at its default is not handed on.
        arguments = func._schema.arguments
        given = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
        given |= {argument.name: value for argument, value in zip(arguments, args, strict=False)} | kwargs
        off = any(given[name] is not None and not given[name] for name in SWITCHES & given.keys())
        if off or given.get("generator") is not None:
            return func(*args, **kwargs)
        before = _torch_states()
        result = func(*args, **kwargs)
        self.found = not _same(_torch_states(), before)
        return result


def _torch_states() -> dict[str, Any]:
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        # Of all devices: a closure may draw on one that no parameter lies on.
        states |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _states() -> dict[str, Any]:
    return {**_torch_states(), "python": random.getstate(), "numpy": np.random.get_state(legacy=False)}


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[name], second[name]) for name in first)
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return bool(first == second)


def _set(name: str, state: Any) -> None:
    if name == "python":
        random.setstate(state)
    elif name == "numpy":
        np.random.set_state(state)
    elif name == "cpu":
        torch.set_rng_state(state)
    else:
        torch.cuda.set_rng_state(state, name)
