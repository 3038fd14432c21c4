"""Where the programs for Triton are tried: on a device if there is one, else interpreted on the CPU.

Triton decides at each program's definition whether it is interpreted. So the environment says so only while the modules
with programs are imported here; afterwards, and for all other tests that run in this process, everything is as before:
`nonsmooth.kernels.INTERPRETED` stays False, and is set for the tests of this folder alone.
"""

from __future__ import annotations

import importlib
import os

import pytest
import torch

import nonsmooth.kernels

PROGRAMS = ("arithmetic", "separable", "steps", "groups")
DEVICE = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")

pytest.importorskip("triton")
if DEVICE.type == "cpu":
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        for program in PROGRAMS:
            if importlib.util.find_spec(f"nonsmooth.kernels.{program}") is not None:
                importlib.import_module(f"nonsmooth.kernels.{program}")
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before


@pytest.fixture(autouse=True, scope="module")
def interpreted():
    """The package's programs run on the CPU, unless there is a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nonsmooth.kernels, "INTERPRETED", DEVICE.type == "cpu")
        yield


@pytest.fixture(scope="module")
def device():
    """Where programs run."""
    assert nonsmooth.kernels.runs_on(DEVICE)
    return DEVICE
