"""Modules as a thread calls them, without a hook that other threads would run through."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

Seen = Callable[[nn.Module], object]

_CALL = nn.Module._wrapped_call_impl.__code__
_TRAIN = nn.Module.train.__code__


@contextmanager
def modules_seen(*, called: Seen | None, switching: Seen, switched: Seen = lambda module: None) -> Iterator[None]:
    """A block in which each module that this thread calls is seen before it runs, compiled ones too.

    Python's profile function is the one place that belongs to a thread and sees calls. Where a profiler of C is there
    already, which cannot be put back, the process's hooks are used after all, and do nothing in other threads.

    Args:
        called: gets each module before its forward pass; None where that is of no interest.
        switching: gets each module before `train` or `eval` switches it.
        switched: gets it after that.
    """
    before = sys.getprofile()
    if before is not None and not callable(before):
        with _by_hooks(called, switching, switched):
            yield
        return

    def see(frame: FrameType, event: Any, argument: Any) -> None:
        code = frame.f_code
        if code is _CALL and event == "call" and called is not None:
            called(frame.f_locals["self"])
        elif code is _TRAIN and event in ("call", "return"):
            (switching if event == "call" else switched)(frame.f_locals["self"])
        if before is not None:
            before(frame, event, argument)

    sys.setprofile(see)
    try:
        yield
    finally:
        if sys.getprofile() in (see, None):  # an exception in `see` takes it away
            sys.setprofile(before)


@contextmanager
def _by_hooks(called: Seen | None, switching: Seen, switched: Seen) -> Iterator[None]:
    """The same by a hook of all modules and in place of `nn.Module.train`. One thread at a time is in it."""
    here, train = threading.get_ident(), nn.Module.train

    def call(module: nn.Module, inputs: Any) -> None:
        del inputs
        if called is not None and not torch.compiler.is_compiling() and threading.get_ident() == here:
            called(module)

    def switch(module: nn.Module, mode: bool = True) -> nn.Module:
        if threading.get_ident() != here:
            return train(module, mode)
        switching(module)
        train(module, mode)
        switched(module)
        return module

    hook = register_module_forward_pre_hook(call)
    nn.Module.train = switch  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.train = train  # type: ignore[method-assign]
        hook.remove()
