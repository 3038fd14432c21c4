"""The benchmark of steps on a GPU, where there is none: its page, and the whole of it in miniature, interpreted."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
pages = importlib.import_module("gpu_page")
cases = importlib.import_module("gpu_cases")
training = importlib.import_module("gpu_training")
PAGE = REPOSITORY / "docs" / "benchmarks" / "gpu.md"


def run(folder, **environment):
    """The script, which writes to a folder."""
    script = REPOSITORY / "benchmarks" / "gpu_step.py"
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, script, "--output", folder / "gpu.md"],
        capture_output=True,
        check=True,
        text=True,
        env={**inherited, **environment},
    ).stdout


def row_of(page, name):
    """The cells of the row of a step."""
    (row,) = re.findall(rf"^\| \*{{0,2}}{re.escape(name)}\*{{0,2}} \|(.*)\|$", page, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


@pytest.mark.processes
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_device_it_says_so_and_writes_nothing(tmp_path):
    assert run(tmp_path) == "No GPU on which Triton's programs run: nothing is measured, and nothing written.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_in_miniature_it_runs_to_the_end(tmp_path):
    pytest.importorskip("triton")
    run(tmp_path, TRITON_INTERPRET="1")
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [line for line in found["left_out"] if "PruneOptimizer" not in line] == []
    steps = {(record["model"], record["step"]) for record in found["records"]}
    listed = cases.families("eager")
    own = {(model, c.name) for model in pages.MODELS for each in listed.values() for c in each if not c.compiled}
    assert {(model, name) for model, name in own if "PruneOptimizer" not in name} <= steps
    assert {("VGG16", case.name) for each in listed.values() for case in each if case.compiled} <= steps
    assert {(network, "SteadyAdam") for network in training.NETWORKS} <= steps
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") == pages.page(found)


def test_the_page_is_made_of_what_was_measured_and_of_nothing_else():
    records = PAGE.with_suffix(".json")
    found = json.loads(records.read_text(encoding="utf-8")) if records.exists() else None
    assert PAGE.read_text(encoding="utf-8") == pages.page(found)


def test_a_page_without_measurements_has_aims_and_no_figures():
    page = pages.page()
    assert "nothing has been measured" in page.lower()
    tables = page.split("## VGG16")[1]
    assert "met" not in re.findall(r"\((met|missed)\)", tables)
    cells = [cell for row in re.findall(r"^\| .*\|$", tables, re.MULTILINE) for cell in row.split("|")[2:-1]]
    assert not [cell for cell in cells if re.fullmatch(r"\s*[\d.]+\s*", cell)]


MADE_UP = {"torch": "3", "triton": "4", "device": "a GPU", "left_out": ["something (slow)"]}
STEP = {"section": "steps", "model": "VGG16", "family": "SGD", "step": "ProxSGD, L1, fused=None", "host_ms": 0.5}


@pytest.mark.parametrize(("ratio", "verdict"), [(1.45, "met"), (1.46, "missed")])
def test_a_step_meets_its_aim_or_misses_it(ratio, verdict):
    records = [{**STEP, "ms": 1.0, "ratio": ratio, "over_own": 1.2, "memory": 0.25}]
    page = pages.page({**MADE_UP, "records": records}).split("## ")[2]
    cells = row_of(page, "ProxSGD, L1, fused=None")
    assert cells == ["1.00", f"{ratio:.2f}", f"≤ 1.45 ({verdict})", "1.20", "0.50", "0.25"]
    assert row_of(page, "ProxSGD, MCP, fused=None")[:3] == ["", "", "≤ 1.45"]


@pytest.mark.parametrize(("share", "verdict"), [(0.8, "met"), (0.79, "missed")])
def test_a_kernel_meets_its_aim_or_misses_it(share, verdict):
    record = {"section": "kernels", "model": "VGG16", "step": "prox", "passes": 2, "ms": 1.0, "rate": 5.0}
    page = pages.page({**MADE_UP, "records": [{**record, "share": share}]})
    assert row_of(page, "prox")[-1] == f"≥ 0.8 ({verdict})"


def test_what_was_left_out_is_on_the_page():
    page = pages.page({**MADE_UP, "records": []})
    assert "Left out: something (slow)." in page
    assert "a GPU" in page
    assert "nothing has been measured" not in page.lower()


@pytest.mark.parametrize("network", training.NETWORKS)
def test_a_network_is_trained(network):
    torch.manual_seed(0)
    model, loss = training.NETWORKS[network](training.MINIATURE, torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    first = float(loss().detach())
    step = training.training_steps(model, loss)["ProxAdam"]
    for _ in range(20):
        step()
    assert float(loss().detach()) < first
    assert all(bool((old != new).any()) for old, new in zip(before, model.parameters(), strict=True))


def test_the_resnet_is_resnet18():
    """He et al.'s for images of 32×32 pixels has 11,173,962 parameters at ten classes."""
    model, _ = training.resnet18(training.FULL, torch.device("cpu"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_173_962
