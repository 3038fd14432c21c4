"""What a penalty may cost a step, in numbers that do not depend on the machine: memory, operations, graphs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nonsmooth.optim import ProxAdam, ProxSGD, SteadyAdam, local_prox
from nonsmooth.penalties import L1, ElasticNet, GroupL1

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
step_time = importlib.import_module("step_time")

BLOCK = 1 << 12
SLOW = ("masked_fill", "masked_fill_", "where", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "sqrt")
"""Kernels that take several times as long on a CPU as one pass of arithmetic."""


class Work(TorchDispatchMode):
    """Bytes that operations write, views and the optimiser's own step aside, and the names of all operations."""

    def __init__(self):
        super().__init__()
        self.written, self.names = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if isinstance(result, torch.Tensor) and not function.is_view:
            self.names.add(name)
            self.written += result.nbytes
        return result


def optimiser(penalty, share_of_zeros, monkeypatch):
    """After some steps, at a λ at which the limit is at work in every block."""
    monkeypatch.setattr(local_prox, "CHUNK", BLOCK // torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(64, 4 * BLOCK // 16, generator=generator))
    with torch.no_grad():
        weight.masked_fill_(torch.rand(weight.shape, generator=generator) < share_of_zeros, 0)
    weight.grad = torch.randn(weight.shape, generator=generator)
    made = ProxAdam([weight], penalty=penalty, fused=True)
    for _ in range(3):
        made.step()
    return made, weight


@pytest.mark.parametrize(("penalty", "blocks"), [(L1(1e-2), 3.5), (ElasticNet(1e-2), 4.5), (GroupL1(1e-2), 7)])
def test_a_step_takes_memory_for_some_blocks_not_for_weights(penalty, blocks, monkeypatch):
    """A byte for each weight would be four blocks here, an intermediate result of the weights' size sixteen."""
    made, weight = optimiser(penalty, 1e-4, monkeypatch)
    assert weight.numel() == 16 * BLOCK
    assert step_time.peak(made.step, [weight]) <= blocks * BLOCK * weight.element_size()


@pytest.mark.parametrize("share_of_zeros", [0.0, 0.9])
@pytest.mark.parametrize(("penalty", "passes"), [(L1(1e-2), 12), (ElasticNet(1e-2), 17)])
def test_a_step_makes_few_passes_and_none_of_the_slow_ones(penalty, passes, share_of_zeros, monkeypatch):
    made, weight = optimiser(penalty, share_of_zeros, monkeypatch)
    with Work() as work:
        made.step()
    assert work.written <= passes * weight.nbytes
    assert not work.names & set(SLOW)


def test_work_sees_an_operation():
    weight = torch.zeros(10)
    with Work() as work:
        torch.where(weight.view(2, 5) == 0, 1.0, weight.view(2, 5))
    assert {"eq", "where"} <= work.names
    assert work.written >= 10 + 40  # bytes of the mask and of the numbers


def compiled_steps(count):
    """The graphs made for so many parameters of one shape; later steps may make none."""
    counter = importlib.import_module("torch._dynamo.testing").CompileCounter()
    torch._dynamo.reset()
    weights = [torch.nn.Parameter(torch.randn(6, 5)) for _ in range(count)]
    for weight in weights:
        weight.grad = torch.randn(6, 5)
    made = ProxAdam(weights, penalty=L1(0.1))
    step = torch.compile(made.step, backend=counter)
    for _ in range(4):
        step()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            step()
    return counter.frame_count


@pytest.mark.processes
def test_a_compiled_step_is_compiled_once_for_all_parameters_of_a_shape():
    assert compiled_steps(9) == compiled_steps(3)


@pytest.mark.parametrize(("kind", "most"), [(ProxSGD, 30), (ProxAdam, 39), (SteadyAdam, 43)])
def test_few_functions_run_in_a_step(kind, most):
    """Those of the package, each counted once: 43, 46 and 45 before each idea had one room."""
    weights = [torch.nn.Parameter(torch.randn(6, 5)) for _ in range(2)]
    optimizer = kind(weights, lr=1e-2, penalty=L1(0.1))
    seen = set()

    def note(frame, event, argument):
        del argument
        code = frame.f_code
        if event == "call" and "/nonsmooth/" in code.co_filename and not code.co_name.startswith("<"):
            seen.add((code.co_filename, code.co_firstlineno))

    for step in range(3):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        sys.setprofile(note if step == 2 else None)
        try:
            optimizer.step()
        finally:
            sys.setprofile(None)
    assert 15 < len(seen) <= most
