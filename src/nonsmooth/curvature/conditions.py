"""The conditions of an evaluation: the mode that was asked for, no cached casts, and the same start each time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nonsmooth.casts import forget_casts
from nonsmooth.curvature.modes import WatchedFunctions, has_modes
from nonsmooth.foreign_text import visible
from nonsmooth.preserve_state import modules_seen, preserve_state

MODES = ("train", "eval", "current")


class EvaluationConditions:
    """What a closure may change besides its result, kept so that every evaluation starts from it, and put back.

    Modules are found as the closure calls them in this thread, each with all that it contains, or are those of `model`:
    a compiled model has to be named, since its modules are not called one by one. Other modules and other threads are
    not touched.

    Args:
        parameters: whose `.grad` is kept.
        model: whose modules are meant; None for those that the closure calls.
        mode: "train", "eval", "current" (each module as it is), or None where it makes no difference.

    Attributes:
        precision: relative rounding error of the coarsest parameter, or of the coarsest numbers that were seen.
    """

    def __init__(self, parameters: Sequence[Tensor], model: nn.Module | None, mode: str | None) -> None:
        self._parameters, self._model, self._mode = parameters, model, mode
        self._wrappers: list[_Wrapper] = []
        self.precision = max(torch.finfo(parameter.dtype).eps for parameter in parameters)

    @property
    def process_group(self) -> Any:
        """The process group of the closure's DistributedDataParallel; None without one."""
        return self._wrappers[0].module.process_group if self._wrappers else None

    @contextmanager
    def kept(self) -> Iterator[EvaluationConditions]:
        """A block after which everything is as before, also after an exception. One thread at a time is in it."""
        with preserve_state(self._parameters) as self._preserved:
            caching = torch.is_autocast_cache_enabled()
            try:
                # A cached cast would be that of other weights where weights are moved, and would keep the graph alive.
                torch.set_autocast_cache_enabled(False)
                self._notice_autocast()
                if self._model is not None:
                    self._enter(self._model)
                yield self
            finally:
                forget_casts()
                for wrapper in self._wrappers:
                    wrapper.module.require_backward_grad_sync = wrapper.backward
                    wrapper.module.require_forward_param_sync = wrapper.forward
                self._wrappers = []
                torch.set_autocast_cache_enabled(caching)

    def rewind(self) -> None:
        """Everything as at first, so that dropout draws the same mask in every evaluation."""
        self._preserved.rewind()
        forget_casts()
        for module, training in self._preserved.modes.items():
            module.training = self._training(training)
        for wrapper in self._wrappers:
            wrapper.module.require_forward_param_sync = wrapper.forward

    def evaluate(self, closure: Callable[[], Any], *, first: bool) -> Any:
        """Call a closure with everything as at first; the first time, notice what it draws and how it computes."""
        called = self._enter if self._model is None else None
        with modules_seen(called=called, switching=self._enter, switched=self._hold_mode):
            self._begin()
            if not first:
                return closure()
            with self._preserved.random.watched(by_operator=False), self._functions_watched():
                result = closure()
            if not self._preserved.random.doubtful or _is_distributed():  # processes have to call alike
                return result
            del result
            self._preserved.random.doubt()
            self._begin()
            with self._preserved.random.watched():
                closure()
            self._begin()
            return closure()

    def _begin(self) -> None:
        self.rewind()
        for parameter in self._parameters:
            parameter.grad = None

    @contextmanager
    def _functions_watched(self) -> Iterator[None]:
        """A block for one evaluation, which tells the precision, and whether a mode is missing.

        Raises:
            ValueError: at its end, where no mode was given and a function in a module goes by one.
        """
        if self._mode is not None and "torch._dynamo" in sys.modules:
            yield  # it would be traced with a compiled model, and tracing batch normalisation under it fails
            return
        with WatchedFunctions() as found:
            yield
        self.precision = max(self.precision, found.precision)
        if self._mode is None and self._preserved.modes and found.with_modes:
            self._refuse(found.with_modes)

    def _refuse(self, names: Iterable[str]) -> None:
        raise ValueError(
            f"mode is None, but {', '.join(map(visible, sorted(names)))} compute different things in training and in "
            f"evaluation; accepted are {', '.join(map(repr, MODES))}"
        )

    def _training(self, before: bool) -> bool:
        """The flag of a module during evaluations."""
        return self._mode == "train" if self._mode in ("train", "eval") else before

    def _hold_mode(self, module: nn.Module) -> None:
        """Where the closure calls `train` or `eval`: the mode that was asked for stays."""
        if self._mode in ("train", "eval"):
            for inner in module.modules():
                inner.training = self._training(inner.training)

    def _notice_autocast(self) -> None:
        for device in {parameter.device.type for parameter in self._parameters}:
            if torch.is_autocast_enabled(device):
                self.precision = max(self.precision, torch.finfo(torch.get_autocast_dtype(device)).eps)

    def _enter(self, module: nn.Module) -> None:
        # Dynamo would trace what follows; a compiled model comes here itself, before it is traced.
        if torch.compiler.is_compiling() or module in self._preserved.modes:
            return
        self._notice_autocast()
        found = [inner for inner in module.modules() if inner not in self._preserved.modes]
        if self._mode is None and (names := {type(inner).__name__ for inner in found if has_modes(inner)}):
            self._refuse(names)
        # A closure that calls backward itself writes to all of them, whichever are asked about.
        for inner in self._preserved.add_called(module):
            inner.training = self._training(inner.training)
            if isinstance(inner, DistributedDataParallel):
                flags = inner.require_backward_grad_sync, inner.require_forward_param_sync
                self._wrappers.append(_Wrapper(inner, *flags))
                # Else its reducer would wait for a backward pass that does not come.
                inner.require_backward_grad_sync = False


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


@dataclass
class _Wrapper:
    """A DistributedDataParallel and its flags, the second of which a forward pass without the first changes."""

    module: DistributedDataParallel
    backward: bool
    forward: bool
