"""Conditions for a recording: every operation runs where it is seen, and the state of the model is preserved.

Tensors that are written in place are put back by the recorder, which sees every write before it happens.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import CheckpointFunction

from nonsmooth.preserve_state import preserve_state


@contextmanager
def run_eagerly(parameters: Iterable[Tensor], modules: Iterable[nn.Module] = ()) -> Iterator[None]:
    """A block without compilation, fused layers and reentrant checkpoints, after which the state is as before.

    Args:
        parameters: those whose `.grad` a closure might touch.
        modules: those whose training flags, attributes and generators it might change.
    """
    with (
        preserve_state(parameters, modules, contents=False) as state,
        _uncompiled(),
        _checkpoints_opened(),
        _UnfusedLayers(),
        state.random.watched(),
    ):
        yield


def ordinary(inputs: Any) -> Any:
    """The inputs, with a clone of each tensor that was made in inference mode: autograd refuses to work with those."""
    with torch.inference_mode(False):
        return tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor.is_inference() else tensor, inputs)


class _UnfusedLayers(TorchFunctionMode):
    """Transformer layers do not take their fused kernel, which would hide the activation: it refuses any such mode.

    `torch.backends.mha` would keep it from other threads as well.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@contextmanager
def _checkpoints_opened() -> Iterator[None]:
    """Reentrant checkpoints run their function where it stands, so that the graph and the gradients inside are seen.

    Those of other threads stay as they are.
    """
    here, inherited = threading.get_ident(), "apply" not in vars(CheckpointFunction)
    before: Callable[..., Any] = CheckpointFunction.apply

    def apply(*args: Any) -> Any:
        return _in_place_of_a_checkpoint(*args) if threading.get_ident() == here else before(*args)

    CheckpointFunction.apply = staticmethod(apply)  # type: ignore[method-assign]
    try:
        yield
    finally:
        if inherited:
            del CheckpointFunction.apply
        else:
            CheckpointFunction.apply = before  # type: ignore[method-assign]


def _in_place_of_a_checkpoint(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
    del preserve_rng_state
    # Where none of the inputs requires a gradient, a reentrant checkpoint gives none to what is inside.
    reached = any(isinstance(argument, Tensor) and argument.requires_grad for argument in args)
    with torch.set_grad_enabled(torch.is_grad_enabled() and reached):
        return function(*args)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Compiled modules run their Python code; the compiler is not loaded where nothing was compiled.

    Only in this thread, which `torch.compiler.set_stance` cannot say.
    """
    here = threading.get_ident()
    if "torch._dynamo" in sys.modules:
        dynamo: Any = sys.modules["torch._dynamo.eval_frame"]
        before, eager = dynamo._stance, _EagerHere(dynamo._stance)
        dynamo._stance = eager
        try:
            yield
        finally:
            eager.over()
            if dynamo._stance is eager:
                dynamo._stance = before
        return
    compiler: Any = torch.compile

    def as_it_is(model: Any = None, **options: Any) -> Any:
        if threading.get_ident() != here:
            return compiler(model, **options)
        return as_it_is if model is None else model

    torch.compile = as_it_is
    try:
        yield
    finally:
        torch.compile = compiler


class _EagerHere:
    """The compiler's stance: nothing is compiled in the thread that made this, and others keep theirs."""

    def __init__(self, before: Any) -> None:
        self._before, self._here = before, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return (
            "force_eager" if name == "stance" and threading.get_ident() == self._here else getattr(self._before, name)
        )

    def over(self) -> None:
        """Let this thread have the stance of before, too: another may have kept this object, to put it back."""
        self._here = -1
