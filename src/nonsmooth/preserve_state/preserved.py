"""The state that a closure may change besides its result: kept, and put back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from nonsmooth.preserve_state.lock import measurement_lock
from nonsmooth.preserve_state.module_state import ModuleState
from nonsmooth.preserve_state.random_state import RandomState


class PreservedState:
    """Gradients, flags, training modes, attributes, buffers and random number generators, as they were.

    Attributes:
        random: the generators; only what is drawn in its blocks `watched` is put back.
        modes: the training flag of each module.
    """

    def __init__(self) -> None:
        self.random = RandomState()
        self.modes: dict[nn.Module, bool] = {}
        self._gradients: dict[Tensor, tuple[Tensor | None, bool]] = {}
        self._modules: list[ModuleState] = []

    def add_parameters(self, parameters: Iterable[Tensor]) -> None:
        """Keep `.grad` and `requires_grad` of leaves, and set their `.grad` to None."""
        for parameter in parameters:
            if parameter.is_leaf and parameter not in self._gradients:  # others have no `.grad`
                self._gradients[parameter] = parameter.grad, parameter.requires_grad
                parameter.grad = None

    def add_modules(self, modules: Iterable[nn.Module], *, contents: bool = True) -> list[nn.Module]:
        """Keep what modules hold, and return those that are new; their submodules have to be named as well.

        A lazy module is left alone until it has its parameters: its first pass makes another module of it.

        Args:
            modules: the modules.
            contents: keep the numbers in their buffers, too.
        """
        new = [module for module in modules if module not in self.modes and not _is_lazy(module)]
        for module in new:
            self.modes[module] = module.training
            self._modules.append(ModuleState(module, contents=contents))
            self.random.add(module)
        return new

    def add_called(self, module: nn.Module) -> list[nn.Module]:
        """Keep what a module, all that it contains, and their parameters hold; return the modules that are new."""
        if torch.compiler.is_compiling() or module in self.modes:  # Dynamo would trace what follows
            return []
        self.add_parameters(module.parameters())
        return self.add_modules(module.modules())

    def rewind(self) -> None:
        """Random numbers, attributes and buffers as at first, so that another evaluation computes the same."""
        self.random.restore()
        for module in self._modules:
            module.restore()

    def restore(self) -> None:
        """Put everything back."""
        self.rewind()
        for module, training in self.modes.items():  # a scripted module keeps it elsewhere than in its attributes
            module.training = training
        for parameter, (gradient, trained) in self._gradients.items():
            parameter.grad = gradient
            if parameter.requires_grad is not trained:
                parameter.requires_grad_(trained)


@contextmanager
def preserve_state(
    parameters: Iterable[Tensor] = (), modules: Iterable[nn.Module] = (), *, contents: bool = True
) -> Iterator[PreservedState]:
    """A block after which all that a forward or backward pass changes is as before, except in weights.

    Inside, gradients are recorded, and `.grad` of the parameters is None at first. One thread at a time is in it.

    Args:
        parameters: whose `.grad` and `requires_grad` are kept.
        modules: whose modes, attributes, buffers and generators are kept, without their submodules. More can be added
            to the state.
        contents: keep what the buffers hold, too; False where something else puts back what is written to tensors.
    """
    with measurement_lock():
        state = PreservedState()
        try:
            state.add_parameters(parameters)
            state.add_modules(modules, contents=contents)
            with torch.inference_mode(False), torch.enable_grad():
                yield state
        finally:
            state.restore()


def _is_lazy(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()
