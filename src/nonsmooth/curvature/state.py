"""Leave no trace: random numbers, `.grad`, modes, buffers and autocast are after a measurement as before it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
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
    version: int

    def put_back(self) -> None:
        self.module._buffers[self.name] = self.tensor
        # Written only where it was written to: a graph of the user's may need it unchanged.
        if self.tensor._version != self.version:
            with torch.no_grad():
                self.tensor.copy_(self.content)
            self.version = self.tensor._version


class State:
    """What a closure may change besides its result, kept so that every evaluation starts from it, and put back.

    Modules are found as the closure calls them, each with all that it contains, or are those of `model`: a compiled
    model has to be named, since its modules are not called one by one.

    Args:
        parameters: whose `.grad` is kept.
        model: whose modules are meant; None for those that the closure calls.
        mode: "train", "eval", "current" (each module as it is), or None where it makes no difference.
    """

    def __init__(self, parameters: Sequence[Tensor], model: nn.Module | None, mode: str | None) -> None:
        self._parameters, self._model, self._mode = parameters, model, mode
        self._devices = sorted({p.device.index for p in parameters if p.device.type == "cuda"})
        self._modes: dict[nn.Module, bool] = {}
        self._buffers: list[_Buffer] = []
        self._synchronised: list[tuple[DistributedDataParallel, bool]] = []

    @property
    def process_group(self) -> Any:
        """The process group of the closure's DistributedDataParallel; None without one."""
        return self._synchronised[0][0].process_group if self._synchronised else None

    @contextmanager
    def kept(self) -> Iterator[State]:
        """A block after which everything is as before, also after an exception."""
        gradients = [parameter.grad for parameter in self._parameters]
        self._random = _random_state(self._devices)
        caching, hook = torch.is_autocast_cache_enabled(), None
        try:
            # A cached cast would be that of other weights where weights are moved, and would keep the graph alive.
            torch.set_autocast_cache_enabled(False)
            for parameter in self._parameters:
                parameter.grad = None
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
            for wrapper, synchronised in self._synchronised:
                wrapper.require_backward_grad_sync = synchronised
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            torch.set_autocast_cache_enabled(caching)

    def rewind(self) -> None:
        """Random numbers and buffers as at first, so that dropout draws the same mask in every evaluation."""
        _set_random_state(self._random, self._devices)
        for buffer in self._buffers:
            buffer.put_back()

    def _enter(self, module: nn.Module) -> None:
        if module in self._modes:
            return
        found = [inner for inner in module.modules() if inner not in self._modes]
        if self._mode is None and (names := sorted({type(inner).__name__ for inner in found if _has_modes(inner)})):
            raise ValueError(
                f"mode is None, but {', '.join(names)} compute different things in training and in evaluation; "
                f"accepted are {', '.join(map(repr, MODES))}"
            )
        for inner in found:
            self._modes[inner] = inner.training
            if self._mode in ("train", "eval"):
                inner.training = self._mode == "train"
            self._buffers.extend(
                _Buffer(inner, name, tensor, tensor.detach().clone(), tensor._version)
                for name, tensor in inner._buffers.items()
                if tensor is not None
            )
            if isinstance(inner, DistributedDataParallel):
                # Its reducer waits for a backward pass that does not come.
                self._synchronised.append((inner, inner.require_backward_grad_sync))
                inner.require_backward_grad_sync = False


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
