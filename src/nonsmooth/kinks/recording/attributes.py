"""Attributes of modules and flags of parameters, as they were before a forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

TABLES = ("_buffers", "_modules")
"""What a module registers, by name: dictionaries that assignments write to. Not its parameters, which FSDP exchanges
for gathered ones and back as it sees fit."""


class Attributes:
    """What modules and parameters hold by name; not what is inside of it, as the entries of a list.

    Args:
        modules: those whose attributes a forward pass might replace: a counter, a state that it keeps with its graph.
        parameters: those that it might freeze.
    """

    def __init__(self, modules: Iterable[nn.Module], parameters: Iterable[Tensor]) -> None:
        own = [vars(module) for module in modules if not isinstance(module, torch.jit.ScriptModule)]
        tables = [table for attributes in own for name, table in attributes.items() if name in TABLES]
        self._kept: list[tuple[dict[str, Any], dict[str, Any]]] = [(names, dict(names)) for names in (*own, *tables)]
        self._trained = [(tensor, tensor.requires_grad) for tensor in parameters if tensor.is_leaf]

    def restore(self) -> None:
        """Put everything back."""
        for names, kept in self._kept:
            if names.keys() != kept.keys() or any(names[name] is not kept[name] for name in kept):
                names.clear()
                names.update(kept)
        for tensor, trained in self._trained:
            if tensor.requires_grad is not trained:
                tensor.requires_grad_(trained)
