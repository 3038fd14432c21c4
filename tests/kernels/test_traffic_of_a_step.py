"""What a whole step of an optimizer launches, and the tensors of the parameters' size that it moves beside torch's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
cases = importlib.import_module("gpu_cases")
pages = importlib.import_module("gpu_page")
LISTED = {case.name: case for family in ("SGD", "Adam") for case in cases.families("eager")[family]}


class Passes(TorchDispatchMode):
    """Bytes that operations on tensors with as many elements as a parameter read and write."""

    def __init__(self, sizes):
        super().__init__()
        self._sizes, self.read, self.written, self.operations = sizes, 0, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        result = function(*args, **(kwargs or {}))
        if not function.is_view and not function.overloadpacket.__name__.startswith(("detach", "empty")):
            into = [each for each in tree_leaves(result) if self._is_large(each)]
            places = {each.data_ptr() for each in into}
            inputs = [each for each in tree_leaves((args, kwargs)) if self._is_large(each)]
            overwritten = str(function).split(".")[1].startswith(("copy_", "fill_", "zero_"))
            self.read += sum(each.nbytes for each in inputs if not (overwritten and each.data_ptr() in places))
            self.written += sum(each.nbytes for each in into)
            self.operations += bool(into)
        return result

    def _is_large(self, each):
        return isinstance(each, torch.Tensor) and each.numel() in self._sizes


def parameters(device):
    """Two matrices of whole blocks."""
    made = [torch.nn.Parameter(torch.randn(64, 128, device=device)) for _ in range(2)]
    for parameter in made:
        parameter.grad = torch.randn_like(parameter)
    return made


def moved(name, device, launched, monkeypatch):
    """Launches, and tensors read and written, of a step after the first, but for what torch's own step does."""
    made = parameters(device)
    step = LISTED[name].make(made)
    optimizer = step.__self__
    step()
    if "fused=None" in name:
        monkeypatch.setattr(optimizer.parent, "step", lambda self: None)
    with Passes({made[0].numel()}) as passes:
        found = launched(step)
    size = sum(parameter.nbytes for parameter in made)
    read, written = (found.bytes_read + passes.read) / size, (found.bytes_written + passes.written) / size
    return found.launches, read, written


@pytest.mark.parametrize("name", pages.TRAFFIC)
def test_a_step_moves_what_the_page_says(name, device, launched, monkeypatch):
    assert moved(name, device, launched, monkeypatch) == pytest.approx(pages.TRAFFIC[name], rel=0.02)


def test_passes_sees_what_an_operation_reads_and_writes():
    some, others = torch.zeros(10), torch.zeros(10)
    with Passes({10}) as passes:
        torch.eq(some, others)
        some.copy_(others)
        some.add_(others)
    assert (passes.read, passes.written) == (80 + 40 + 80, 10 + 40 + 40)
