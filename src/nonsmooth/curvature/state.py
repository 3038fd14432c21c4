"""Leave no trace: random numbers, `.grad`, modes, buffers and autocast are after a measurement as before it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

MODES = ("train", "eval", "current")


@dataclass
class _Buffer:
    """A buffer of a module and what it held."""

    module: nn.Module
    name: str
    tensor: Tensor
    content: Tensor

    def put_back(self) -> None:
        self.module._buffers[self.name] = self.tensor
        # Written only where it changed, since a graph of the user's may need it untouched. Its version does not tell:
        # batch normalisation updates its statistics without counting.
        if not torch.equal(self.tensor, self.content):
            with torch.no_grad():
                self.tensor.copy_(self.content)


class State:
    """What a closure may change besides its result, kept so that every evaluation starts from it, and put back.

    Modules are found as the closure calls them, each with all that it contains, or are those of `model`: a compiled
    model has to be named, since its modules are not called one by one.

    Args:
        parameters: whose `.grad` is kept.
        model: whose modules are meant; None for those that the closure calls.
        mode: "train", "eval", "current" (each module as it is), or None where it makes no difference.

    Attributes:
        precision: relative rounding error of the coarsest parameter, or of autocast where it was seen to be on.
    """

    def __init__(self, parameters: Sequence[Tensor], model: nn.Module | None, mode: str | None) -> None:
        self._parameters, self._model, self._mode = parameters, model, mode
        self._devices = sorted({p.device.index for p in parameters if p.device.type == "cuda"})
        self._gradients: dict[Tensor, Tensor | None] = {}
        self._modes: dict[nn.Module, bool] = {}
        self._buffers: list[_Buffer] = []
        self._wrappers: list[_Wrapper] = []
        self.precision = max(torch.finfo(parameter.dtype).eps for parameter in parameters)

    @property
    def process_group(self) -> Any:
        """The process group of the closure's DistributedDataParallel; None without one."""
        return self._wrappers[0].module.process_group if self._wrappers else None

    @contextmanager
    def kept(self) -> Iterator[State]:
        """A block after which everything is as before, also after an exception."""
        self._random = _random_state(self._devices)
        caching, hook = torch.is_autocast_cache_enabled(), None
        try:
            # A cached cast would be that of other weights where weights are moved, and would keep the graph alive.
            torch.set_autocast_cache_enabled(False)
            self._set_aside_gradients(self._parameters)
            self._notice_autocast()
            if self._model is not None:
                self._enter(self._model)
            else:
                hook = register_module_forward_pre_hook(lambda module, _: self._enter(module))
            with torch.inference_mode(False), torch.enable_grad():
                yield self
        finally:
            if hook is not None:
                hook.remove()
            self.rewind()
            for module, training in self._modes.items():
                module.training = training
            for wrapper in self._wrappers:
                wrapper.module.require_backward_grad_sync = wrapper.backward
            for parameter, gradient in self._gradients.items():
                parameter.grad = gradient
            self._gradients, self._modes, self._buffers, self._wrappers = {}, {}, [], []
            torch.set_autocast_cache_enabled(caching)

    def rewind(self) -> None:
        """Random numbers and buffers as at first, so that dropout draws the same mask in every evaluation."""
        _set_random_state(self._random, self._devices)
        for buffer in self._buffers:
            buffer.put_back()
        for wrapper in self._wrappers:
            wrapper.module.require_forward_param_sync = wrapper.forward

    def _set_aside_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if parameter not in self._gradients:
                self._gradients[parameter], parameter.grad = parameter.grad, None

    def _notice_autocast(self) -> None:
        for device in {parameter.device.type for parameter in self._parameters}:
            if torch.is_autocast_enabled(device):
                self.precision = max(self.precision, torch.finfo(torch.get_autocast_dtype(device)).eps)

    def _enter(self, module: nn.Module) -> None:
        if module in self._modes:
            return
        self._notice_autocast()
        found = [inner for inner in module.modules() if inner not in self._modes]
        if self._mode is None and (names := sorted({type(inner).__name__ for inner in found if _has_modes(inner)})):
            raise ValueError(
                f"mode is None, but {', '.join(names)} compute different things in training and in evaluation; "
                f"accepted are {', '.join(map(repr, MODES))}"
            )
        # A closure that calls backward itself writes to all of them, whichever are asked about.
        self._set_aside_gradients(module.parameters())
        for inner in found:
            self._modes[inner] = inner.training
            if self._mode in ("train", "eval"):
                inner.training = self._mode == "train"
            self._buffers.extend(
                _Buffer(inner, name, tensor, tensor.detach().clone())
                for name, tensor in inner._buffers.items()
                if tensor is not None
            )
            if isinstance(inner, DistributedDataParallel):
                flags = inner.require_backward_grad_sync, inner.require_forward_param_sync
                self._wrappers.append(_Wrapper(inner, *flags))
                # Else its reducer would wait for a backward pass that does not come.
                inner.require_backward_grad_sync = False


@dataclass
class _Wrapper:
    """A DistributedDataParallel and its flags, the second of which a forward pass without the first changes."""

    module: DistributedDataParallel
    backward: bool
    forward: bool


def _has_modes(module: nn.Module) -> bool:
    """Whether a module of torch computes something else in training than in evaluation."""
    if isinstance(module, (_BatchNorm, _InstanceNorm)):
        return bool(module.track_running_stats)
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)


def _random_state(devices: Sequence[int]) -> tuple[Any, ...]:
    cuda = [torch.cuda.get_rng_state(device) for device in devices]
    return torch.get_rng_state(), cuda, random.getstate(), np.random.get_state()


def _set_random_state(state: tuple[Any, ...], devices: Sequence[int]) -> None:
    torch.set_rng_state(state[0])
    for device, kept in zip(devices, state[1], strict=True):
        torch.cuda.set_rng_state(kept, device)
    random.setstate(state[2])
    np.random.set_state(state[3])
