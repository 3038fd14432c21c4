"""What one module holds: its attributes, its registered names, the content of its buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

TABLES = ("_buffers", "_modules")
"""What a module registers, by name: dictionaries that assignments write to. Not its parameters, which FSDP exchanges
for gathered ones and back as it sees fit."""

WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel"}
"""Modules that note in their attributes what other processes know of them."""


ABSENT = object()


class ModuleState:
    """Attributes and buffers of a module, without its submodules; not what is inside an attribute, such as a list.

    Args:
        module: the module.
        contents: keep what the buffers hold, too.
    """

    def __init__(self, module: nn.Module, *, contents: bool) -> None:
        self._names: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._passing: list[tuple[set[str], set[str]]] = []
        if not isinstance(module, torch.jit.ScriptModule):
            is_wrapper = any(kind.__name__ in WRAPPERS for kind in type(module).__mro__)
            tables = [vars(module)[table] for table in TABLES]
            self._names = [(names, dict(names)) for names in ([] if is_wrapper else [vars(module)]) + tables]
            self._passing = [(module._non_persistent_buffers_set, set(module._non_persistent_buffers_set))]
        buffers = module.named_buffers(recurse=False) if contents else ()
        self._contents = [(tensor, tensor.detach().clone()) for _, tensor in buffers if not tensor.is_meta]

    def restore(self) -> None:
        """The same objects under the same names, and the same numbers in the buffers."""
        for names, kept in self._names:
            if list(names) != list(kept):
                names.clear()
            # Only what changed: another thread may run the module meanwhile.
            names.update((name, value) for name, value in kept.items() if names.get(name, ABSENT) is not value)
        for passing, before in self._passing:
            if passing != before:
                passing.clear()
                passing.update(before)
        for tensor, content in self._contents:
            # Written only where it changed, and unseen by autograd: a graph of the user's may hold the buffer.
            if not torch.equal(tensor, content):
                with torch.no_grad(), _unsafe_preserve_version_counter(tensor):
                    tensor.copy_(content)
