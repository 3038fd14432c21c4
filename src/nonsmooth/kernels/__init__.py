"""Steps of optimisers as single passes over memory, for a whole group of parameters at once, written in Triton.

This package knows neither penalties nor optimisers: it is given lists of tensors, and the numbers of each parameter as
columns of one tensor. Triton is imported by `separable`, `steps` and `groups`, and by what they import: import those
only where `runs_on` says yes.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton's programs are interpreted, on the tensors of a CPU; read once, as Triton reads it."""


def runs_on(device: torch.device) -> bool:
    """Whether the programs here run on a device: those that Triton compiles for, or a CPU where they are interpreted.

    A warning says, once for each device, if Triton is there and fails, as without a C compiler or on an old GPU.

    Args:
        device: where the parameters lie.
    """
    # The interpreter follows addresses on the host, where those of a device mean nothing.
    return device.type in (("cpu",) if INTERPRETED else ("cuda", "xpu")) and _works_on(device)


@cache
def _works_on(device: torch.device) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    if device.type == "cpu":
        warnings.warn(
            "TRITON_INTERPRET is 1, so proximal steps on the CPU interpret the kernels, which is slow; without it, "
            "or with fused=False, they are eager PyTorch",
            RuntimeWarning,
            stacklevel=2,
        )
        return True
    try:
        from nonsmooth.kernels.separable import mark_zeros_  # noqa: PLC0415  needs Triton
        from nonsmooth.kernels.tables import Table  # noqa: PLC0415  imports what is here

        point = torch.zeros(1, device=device)
        mark_zeros_([point], [torch.empty_like(point, dtype=torch.uint8)], table=Table(device))
    except Exception as error:
        warnings.warn(
            f"Triton cannot run on {device} ({type(error).__name__}: {error}), so proximal steps take the eager path "
            "there, which is slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
