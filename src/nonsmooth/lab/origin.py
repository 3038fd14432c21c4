"""Where a record was measured: versions, processor, device, threads."""

from __future__ import annotations

import functools
import importlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import nonsmooth


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The processor's name as its maker writes it, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def describe_origin(device: str) -> dict[str, Any]:
    """What may explain a difference between two records of one cell, as plain JSON types.

    Args:
        device: the torch device string that measurements run on.
    """
    torch = importlib.import_module("torch")  # here, because it is slow to load and only workers need it
    return {
        "python": platform.python_version(),
        "nonsmooth": nonsmooth.__version__,
        **{package: metadata.version(package) for package in ("torch", "numpy", "scipy")},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
    }
