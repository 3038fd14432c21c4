"""Steps of optimisers as single passes over memory, for a whole group of parameters at once, written in Triton.

This package knows neither penalties nor optimisers: it is given lists of tensors, and the numbers of each parameter as
columns of one tensor. Triton is imported by `separable`, `steps` and `groups`, and by what they import: import those
only where `runs_on` says yes.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton's programs are interpreted, on the tensors of a CPU; read once, as Triton reads it."""


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def runs_on(device: torch.device) -> bool:
    """Whether the programs here run on a device: those that Triton compiles for, or a CPU where they are interpreted.

    Args:
        device: where the parameters lie.
    """
    # The interpreter follows addresses on the host, where those of a device mean nothing.
    return device.type in (("cpu",) if INTERPRETED else ("cuda", "xpu")) and _has_triton()
