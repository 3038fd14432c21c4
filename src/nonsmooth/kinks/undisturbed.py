"""Measure without leaving a trace: what a forward pass changes is put back, also after an exception.

Tensors that are written in place are put back by the recorder, which sees every write before it happens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import CheckpointFunction

from nonsmooth.kinks.attributes import Attributes
from nonsmooth.random_state import RandomState
from nonsmooth.turns import turn


@contextmanager
def undisturbed(parameters: Iterable[Tensor], modules: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Put back what is not the content of a tensor: random number generators, `.grad`, modes, attributes of modules.

    Inside, parameters have no gradient, and gradients are recorded. Threads that measure take turns.

    Args:
        parameters: those whose `.grad` a closure might touch.
        modules: those whose training flags, attributes and generators it might change.
    """
    with turn():
        kept = [(parameter, parameter.grad) for parameter in parameters if parameter.is_leaf]  # others have no `.grad`
        modules = list(modules)
        modes = [(module, module.training) for module in modules]
        attributes = Attributes(modules, [parameter for parameter, _ in kept])
        random_state = RandomState(modules)
        fastpath = torch.backends.mha.get_fastpath_enabled()
        try:
            for parameter, _ in kept:
                parameter.grad = None
            torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel would hide the activation
            with torch.inference_mode(False), torch.enable_grad(), _uncompiled(), _checkpoints_opened():
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
            random_state.restore()
            for parameter, gradient in kept:
                parameter.grad = gradient
            attributes.restore()
            for module, training in modes:  # a scripted module keeps it elsewhere
                module.training = training


def ordinary(inputs: Any) -> Any:
    """The inputs, with a clone of each tensor that was made in inference mode: autograd refuses to work with those."""
    with torch.inference_mode(False):
        return tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor.is_inference() else tensor, inputs)


@contextmanager
def _checkpoints_opened() -> Iterator[None]:
    """Reentrant checkpoints run their function where it stands, so that the graph and the gradients inside are seen."""
    inherited = "apply" not in vars(CheckpointFunction)
    before = CheckpointFunction.apply
    CheckpointFunction.apply = staticmethod(_in_place_of_a_checkpoint)  # type: ignore[method-assign]
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
    """Compiled modules run their Python code; the compiler is not loaded where nothing was compiled."""
    if "torch._dynamo" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
        return
    compiler = torch.compile
    torch.compile = _as_it_is
    try:
        yield
    finally:
        torch.compile = compiler


def _as_it_is(model: Any = None, **options: Any) -> Any:
    return _as_it_is if model is None else model
