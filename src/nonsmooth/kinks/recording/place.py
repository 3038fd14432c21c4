"""Where in the user's code a call stands: the module, the line, and what in PyTorch it went through."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

TORCH = str(Path(torch.__file__).parent) + os.sep
HERE = str(Path(__file__).parents[1]) + os.sep
"""Folders, so that packages whose names begin alike, as torchvision's does, count as the user's code."""
FUNCTIONAL = str(Path(torch.nn.functional.__file__ or ""))
AUTOGRAD_FUNCTION = str(Path(TORCH) / "autograd" / "function.py")
TRANSPARENT = {"CheckpointFunction"}
"""Custom functions that only run others' code again in their backward pass."""


@dataclass(frozen=True)
class Place:
    """Where a call stands.

    Attributes:
        module: path of the innermost module; None outside modules.
        source: "file:line" of the innermost frame that is not PyTorch's; None if there is none.
        functional: the function of `torch.nn.functional` that it went through.
        custom: the class of a user's `torch.autograd.Function` around it.
        replayed: inside a function that runs again in the backward pass, with a gradient that is not recorded now.
    """

    module: str | None
    source: str | None
    functional: str | None
    custom: type | None
    replayed: bool = False


class Modules:
    """Paths of modules; those of a model that was not named start with the name of its class."""

    def __init__(self, root: nn.Module | None) -> None:
        self._paths: dict[int, str] = {}
        self.seen: list[nn.Module] = []
        if root is not None:
            self._add(root, "")

    def _add(self, root: nn.Module, prefix: str) -> None:
        for path, module in root.named_modules(prefix=prefix):
            self._paths.setdefault(id(module), path)
            self.seen.append(module)

    def path(self, inside_out: Iterable[nn.Module]) -> str | None:
        """The path of the innermost of the modules whose frames are on the stack."""
        stack = list(inside_out)
        if not stack:
            return None
        if id(stack[0]) not in self._paths:
            outermost = next((module for module in reversed(stack) if id(module) not in self._paths), stack[0])
            self._add(outermost, type(outermost).__name__)
        return self._paths.get(id(stack[0]), type(stack[0]).__name__)


def here(modules: Modules) -> Place:
    """The place of the call that is running, as seen from a dispatch mode."""
    frame: FrameType | None = sys._getframe(2)
    stack: list[nn.Module] = []
    source = functional = custom = None
    replayed = False
    while frame is not None:
        code = frame.f_code
        name = code.co_filename
        if name.startswith(TORCH):
            if name == FUNCTIONAL and source is None:
                functional = code.co_name.lstrip("_")
            elif name == AUTOGRAD_FUNCTION and code.co_name == "apply":
                function: Any = frame.f_locals.get("cls")
                if isinstance(function, type) and function.__name__ not in TRANSPARENT:
                    custom, source, functional, stack = function, None, None, []
                replayed = replayed or (isinstance(function, type) and function.__name__ in TRANSPARENT)
        elif source is None and not name.startswith(HERE) and not name.startswith("<frozen"):
            source = f"{name}:{frame.f_lineno}"
        if code.co_argcount and code.co_varnames[0] == "self":
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                stack.append(owner)
        frame = frame.f_back
    return Place(modules.path(stack), source, functional, custom, replayed)
