"""The benchmark of the host's side of a step: what it patches, and its page."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from nonsmooth import kernels

pytest.importorskip("triton")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
benchmark = importlib.import_module("host_step")


def test_a_step_takes_kernels_way_and_launches_nothing():
    made = benchmark.parameters([(4, 3), (5,)])
    before = [parameter.detach().clone() for parameter in made]
    case = next(case for case in benchmark.cases(made) if case.name == "ProxSGD, L1, fused=True")
    benchmark.step(case)
    assert torch.equal(made[0], before[0])  # a kernel was to take the whole step
    assert not torch.equal(made[1], before[1])  # torch's own, since there is no penalty
    assert not kernels.runs_on(torch.device("cpu"))  # all is as before
    case.optimizer.step()
    assert not torch.equal(made[0], before[0])


def test_parts_of_a_step_are_its_whole():
    made = benchmark.parameters([(4, 3), (5,)])
    cases = {case.name: case for case in benchmark.cases(made)}
    for name in ("ProxAdam, L1, fused=True", "ProxAdam, GroupL1, fused=None"):
        benchmark.step(cases[name])
        shares = benchmark.parts(cases[name], 5)
        assert sum(shares.values()) == pytest.approx(1)
        assert all(0 <= share < 1 for share in shares.values())
        assert shares["tables and launches"] > 0.01
        assert shares["numbers"] > 0.01
        assert shares["torch's own step"] > 0.01
        assert (shares["masks of zeros"] > 0.01) == ("None" in name)


def test_the_page_has_a_row_for_each_step():
    page = benchmark.page(benchmark.parameters([(4, 3), (5,)]), repeats=2)
    assert page.count("\n| ProxAdam, L1, fused=True |") == 2
    assert "2 tensors of GPT-2 small, 1 of them with a penalty" in page
