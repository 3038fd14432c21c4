"""Where the programs for Triton are tried: on a device if there is one, else interpreted on the CPU.

Triton decides at each program's definition whether it is interpreted. So the environment says so only while the modules
with programs are imported here; afterwards, and for all other tests that run in this process, everything is as before:
`nonsmooth.kernels.INTERPRETED` stays False, and is set for the tests of this folder alone.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import nonsmooth.kernels
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, TransformedL1

interpreter = pytest.importorskip("triton.runtime.interpreter")
tl = pytest.importorskip("triton.language")
triton = pytest.importorskip("triton")
DEVICE = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")

with pytest.MonkeyPatch.context() as patch:
    if DEVICE.type == "cpu":
        patch.setenv("TRITON_INTERPRET", "1")
    for program in ("separable", "steps", "groups"):
        if importlib.util.find_spec(f"nonsmooth.kernels.{program}") is not None:
            importlib.import_module(f"nonsmooth.kernels.{program}")


def pytest_collection_modifyitems(items):
    """The interpreter is slow, so these tests are run by themselves."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("kernels")


@pytest.fixture(autouse=True, scope="module")
def interpreted():
    """The package's programs run on the CPU, unless there is a device."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE.type == "cpu":
            patch.setattr(nonsmooth.kernels, "INTERPRETED", True)
            patch.setattr(interpreter.InterpreterBuilder, "create_fp_trunc", rounding_cast)
            patch.setattr(interpreter.InterpreterBuilder, "create_fp_ext", rounding_cast)
            # Triton's own sums and maxima were defined when Triton was imported, by whomever.
            for name, function in vars(tl).copy().items():
                if isinstance(function, triton.JITFunction):
                    patch.setattr(tl, name, interpreter.InterpretedFunction(function.fn))
        yield


def rounding_cast(builder, source, target):
    """A cast as a device does it: the interpreter's own cuts bfloat16 off, and has none that are subnormal."""
    if tl.bfloat16 not in (source.dtype.scalar, target.scalar):
        return builder.cast_impl(source, target)
    bits = source.dtype.scalar == tl.bfloat16
    data = torch.from_numpy(source.data.view("int16") if bits else source.data)
    if bits:
        return interpreter.TensorHandle(data.view(torch.bfloat16).float().numpy(), target.scalar)
    return interpreter.TensorHandle(data.bfloat16().view(torch.int16).numpy().view("uint16"), target.scalar)


@pytest.fixture(scope="module")
def device():
    """Where programs run."""
    assert nonsmooth.kernels.runs_on(DEVICE)
    return DEVICE


@dataclass(frozen=True)
class Kind:
    """A penalty that programs know.

    Attributes:
        name: by which they know it.
        make: of λ, and of weights by keyword.
        shape: its other number.
    """

    name: str
    make: Any
    shape: float = 0.0


KINDS = [
    Kind("l1", L1),
    Kind("elastic_net", lambda strength, **rest: ElasticNet(strength, 0.6, **rest), 0.6),
    Kind("mcp", lambda strength, **rest: MCP(strength, 2.5, **rest), 2.5),
    Kind("scad", lambda strength, **rest: SCAD(strength, 3.7, **rest), 3.7),
    Kind("transformed_l1", lambda strength, **rest: TransformedL1(strength, 0.8, **rest), 0.8),
    Kind("l0", L0),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name, scope="module")
def kind(request):
    """Each penalty that programs know."""
    return request.param


@pytest.fixture(params=KINDS[:-1], ids=lambda kind: kind.name, scope="module")
def sloping(request):
    """Each of them that has a slope at zero."""
    return request.param


@pytest.fixture(scope="module")
def launched():
    """The number of launches and the bytes by role of what is called: those of whole blocks, interpreted."""
    return count_traffic


@dataclass
class Traffic:
    """What programs did, in elements and in bytes; single numbers are not counted."""

    launches: int = 0
    read: int = 0
    written: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


def count_traffic(call):
    """The launches, and the elements that they read and wrote, of a call; needs the interpreter."""
    if DEVICE.type != "cpu":
        pytest.skip("counts what the interpreter reads and writes")
    found = Traffic()
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store, launch = builder.create_masked_load, builder.create_masked_store, executor.__call__

    def loading(self, pointers, mask, *rest):
        elements = int(mask.data.sum()) * (mask.data.size > 1)
        found.read += elements
        found.bytes_read += elements * pointers.get_element_ty().primitive_bitwidth // 8
        return load(self, pointers, mask, *rest)

    def storing(self, pointers, value, mask, *rest):
        elements = int(mask.data.sum()) * (mask.data.size > 1)
        found.written += elements
        found.bytes_written += elements * pointers.get_element_ty().primitive_bitwidth // 8
        return store(self, pointers, value, mask, *rest)

    def launching(self, *arguments, **options):
        found.launches += 1
        return launch(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "create_masked_load", loading)
        patch.setattr(builder, "create_masked_store", storing)
        patch.setattr(executor, "__call__", launching)
        call()
    return found
