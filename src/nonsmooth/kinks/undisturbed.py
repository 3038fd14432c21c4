"""Measure without leaving a trace: what a forward pass changes is put back, also after an exception.

Tensors that are written in place are put back by the recorder, which sees every write before it happens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(parameters: Iterable[Tensor], modules: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Put back what is not the content of a tensor: random number generators, `.grad`, modes, names of buffers.

    Inside, parameters have no gradient, and gradients are recorded.

    Args:
        parameters: those whose `.grad` a closure might touch.
        modules: those whose training flags and buffers it might replace.
    """
    kept = [(parameter, parameter.grad) for parameter in parameters]
    # A scripted module cannot replace its buffers, and they are no dictionary.
    flags = [(m, m.training, dict(m._buffers) if isinstance(m._buffers, dict) else None) for m in modules]
    devices = sorted({parameter.device.index for parameter, _ in kept if parameter.device.type == "cuda"})
    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        for parameter, _ in kept:
            parameter.grad = None
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel would hide the activation
        with torch.random.fork_rng(devices=devices), torch.enable_grad(), _uncompiled():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for parameter, gradient in kept:
            parameter.grad = gradient
        for module, training, buffers in flags:
            module.training = training
            if buffers is not None:
                module._buffers.clear()
                module._buffers.update(buffers)


def _uncompiled() -> AbstractContextManager[Any]:
    """Compiled modules run their Python code; the compiler is not loaded where nothing was compiled."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
