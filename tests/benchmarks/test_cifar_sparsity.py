"""The benchmark of accuracy against sparsity: its runs on digits, and its page from records made up for the purpose."""

import dataclasses
import importlib
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy import stats

from nonsmooth.lab import Cell, Context, Record

pytest.importorskip("datasets")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
benchmark = importlib.import_module("cifar_sparsity")
methods = importlib.import_module("cifar_sparsity_methods")
pages = importlib.import_module("cifar_sparsity_page")
DIGITS = Context(data="digits")
TINY = benchmark.Scale(
    train=160, validation=40, test=40, epochs=2, batch=32, seeds=2, strengths=2, stem_stride=2, precision="float32"
)


LONGER = dataclasses.replace(TINY, epochs=40)
"""An adaptive prox moves weights little in its first 50 steps."""


def measured(method, strength, rate=3e-3, network="resnet8", scale=TINY):
    return benchmark.measure(benchmark.training_cell(scale, network, method, rate, strength, 0), DIGITS)


@pytest.mark.parametrize("method", ["prox-adam", "prox-filters", "adam-loss", "softshrink"])
def test_without_a_penalty_every_way_around_adam_is_adam(method):
    dense, other = measured("dense-adam", 0.0), measured(method, 0.0)
    assert other["loss"] == pytest.approx(dense["loss"], rel=1e-6)
    assert other["norm"] == pytest.approx(dense["norm"], rel=1e-6)
    assert other["zeros"] == 0


@pytest.mark.slow
def test_what_a_strong_penalty_does_to_each_way():
    """In the loss it makes no zeros; by a prox on single weights some, on filters whole ones."""
    norm = measured("dense-adam", 0.0, scale=LONGER)["norm"]
    loss, single, filters = (measured(name, 0.03, scale=LONGER) for name in ("adam-loss", "prox-adam", "prox-filters"))
    assert loss["norm"] < norm
    assert max(single["norm"], filters["norm"]) < loss["norm"]
    assert loss["zeros"] == 0
    assert single["zeros"] > 0.01
    stronger = measured("prox-filters", 1.0, scale=LONGER)
    assert stronger["zero_filters"] > 0.2


def test_pruning_leaves_the_share_that_it_is_asked_for():
    pruned = measured("pruning", 0.8)
    assert pruned["zeros"] == pytest.approx(0.8, abs=1e-4)
    assert pruned["rounded_zeros"] >= pruned["zeros"]


@pytest.mark.slow
def test_torchaos_optimiser_runs():
    pytest.importorskip("torchao")
    assert measured("torchao", 0.5)["zeros"] > 0


def test_rounding_takes_the_smallest_weights_and_no_more_accuracy_than_it_may():
    _, validation, _ = benchmark.splits("digits", 160, 40, 40)
    model = benchmark.build("resnet8", 0, 2)
    weights = benchmark.penalised(model)
    before = torch.cat([weight.detach().flatten().clone() for weight in weights])
    reached = benchmark.accuracy(model, validation, "float32")
    benchmark.round_off(model, validation, "float32", reached)
    after = torch.cat([weight.detach().flatten() for weight in weights])
    gone = after == 0
    assert torch.equal(after[~gone], before[~gone])
    if gone.any():
        assert before[gone].abs().max() <= before[~gone].abs().min()
    assert benchmark.accuracy(model, validation, "float32") >= reached - benchmark.ROUNDING_COST
    benchmark.round_off(model, validation, "float32", 2.0)
    assert torch.equal(torch.cat([weight.detach().flatten() for weight in weights]), after)


def made_up(method, strength, tests, zeros, validation, network="vgg13"):
    """Records of one method and λ, a seed for each test accuracy."""
    records = []
    for seed, (test, zero) in enumerate(zip(tests, zeros, strict=True)):
        values = {"test": test, "zeros": zero, "validation": validation}
        values |= {"rounded_test": test - 0.01, "rounded_zeros": min(1.0, zero + 0.1), "rounded_validation": validation}
        values |= {"zero_filters": 0.0, "tiny": zero, "norm": 1.0, "loss": 1.0}
        cell = Cell("cifar-sparsity", {"network": network, "method": method, "strength": strength, "lr": 0.001}, seed)
        records.append(Record(cell, values))
    return records


def evidence():
    return [
        *made_up("dense-adam", 0.0, [0.60, 0.62], [0.0, 0.0], 0.61),
        *made_up("prox-filters", 1e-4, [0.60, 0.60], [0.4, 0.4], 0.60),
        *made_up("prox-filters", 1e-3, [0.58, 0.56], [0.8, 0.6], 0.592),
        *made_up("prox-filters", 1e-2, [0.30, 0.30], [0.9, 0.9], 0.30),
        *made_up("softshrink", 0.1, [0.50, 0.50], [0.2, 0.2], 0.50),
        *made_up("softshrink", 1.0, [0.40, 0.40], [0.3, 0.3], 0.40),
    ]


def test_the_choice_is_the_largest_penalty_that_validation_allows():
    choices = {row.method: (row.strength, reached) for row, reached in pages.chosen(pages.rows_of(evidence()))}
    assert choices == {"prox-filters": (1e-3, True), "softshrink": (0.1, False), "dense-adam": (0.0, True)}


def test_the_interval_is_students():
    samples = [0.5, 0.52, 0.47, 0.55, 0.5]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(samples), scale=stats.sem(samples))
    found = pages.interval(samples)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


def test_accuracy_at_equal_sparsity_lies_between_the_neighbours_of_each_seed():
    rows = [row for row in pages.rows_of(evidence()) if row.method == "prox-filters"]
    found = pages.at_equal_sparsity(rows, 0.5)
    assert found.mean == pytest.approx(((0.60 - 0.02 * 0.1 / 0.4) + (0.60 - 0.04 * 0.1 / 0.2)) / 2)
    assert pages.at_equal_sparsity(rows, 0.2) is None
    assert pages.at_equal_sparsity(rows, 0.95) is None
    pruned = list(pages.rows_of(made_up("pruning", 0.8, [0.5, 0.4], [0.8, 0.8], 0.5)))
    assert pages.at_equal_sparsity(pruned, 0.8).mean == pytest.approx(0.45)


def test_the_findings_follow_the_records():
    rows = pages.rows_of(evidence())
    assert "the most exact zeros has ProxAdam + GroupL1 on filters (70.0" in pages.findings("vgg13", rows)
    assert "With no λ tried does that hold for: Adam, then softshrink" in pages.findings("vgg13", rows)
    better = pages.rows_of([*evidence(), *made_up("pruning", 0.9, [0.6, 0.6], [0.9, 0.9], 0.6)])
    assert "the most exact zeros has dense Adam, magnitude pruning, fine-tuning (90.0" in pages.findings(
        "vgg13", better
    )
    worse = [record for record in evidence() if record.parameters["method"] in ("dense-adam", "softshrink")]
    assert "no method keeps within 2 points" in pages.findings("vgg13", pages.rows_of(worse))


def test_one_penalty_under_adam_is_compared_only_where_all_ways_were_run():
    records = [
        *made_up("prox-adam", 1e-3, [0.5, 0.5], [0.1, 0.1], 0.5),
        *made_up("steady-adam", 1e-3, [0.4, 0.4], [0.6, 0.6], 0.4),
        *made_up("prox-adam", 1e-2, [0.3, 0.3], [0.2, 0.2], 0.3),
    ]
    assert pages.same_problem("vgg13", pages.rows_of(records)) == []
    records += made_up("adam-loss", 1e-3, [0.45, 0.45], [0.0, 0.0], 0.5)
    (line,) = pages.same_problem("vgg13", pages.rows_of(records))
    assert "λ = 0.001: ProxAdam + L1 10.0 % exact zeros at test accuracy 50.0 %; SteadyAdam + L1 60.0 %" in line


def test_the_dense_control_stands_for_no_penalty_at_equal_sparsity():
    rows = pages.rows_of(evidence())
    (line,) = [text for text in pages.sparsity_table(rows, (0.3,)) if "GroupL1" in text]
    first, second = 0.60 + 0.3 / 0.4 * 0.0, 0.62 - 0.3 / 0.4 * 0.02
    assert f"| {50 * (first + second):.1f} ± " in line


def test_the_page_and_its_figure_can_be_read():
    records = [*evidence(), *made_up("prox-adam", 1e-3, [0.5, 0.6], [0.995, 1.0], 0.55, network="resnet8")]
    records += made_up("dense-adam", 0.0, [0.5, 0.6], [0.0, 0.0], 0.55, network="resnet8")
    times = Record(Cell("time", {"network": "vgg13"}), {"dense-adam": 0.1, "prox-filters": 0.15, "softshrink": 0.11})
    page, figure = pages.write(records, [times], benchmark.SCALES["quick"], "quick")
    (line,) = [text for text in page.splitlines() if text.startswith("| **ProxAdam + GroupL1") and "1.50" in text]
    assert "| 0.001 |" in line
    root = ElementTree.fromstring(figure)
    points = [float(e.get("cx")) for e in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert points
    assert all(np.isfinite(points))
    assert "nan" not in figure
    for width in {text.count("|") for text in page.splitlines() if text.startswith("|")}:
        assert width > 5


def test_the_plan_takes_the_step_size_that_validation_liked_and_seeds_before_penalties(tmp_path):
    store = benchmark.Store(tmp_path)
    for cell in benchmark.tuning(TINY):
        best = cell.parameters["lr"] == max(
            methods.METHODS[cell.parameters["method"]].rates(cell.parameters["network"])
        )
        store.save(Record(cell, {"validation": 0.5 if best else 0.4, "test": 0.1 if best else 0.9}))
    rates = benchmark.chosen_rates(TINY, store)
    assert rates["vgg13", "prox-adam"] == max(methods.METHODS["prox-adam"].rates("vgg13"))
    plan = benchmark.stages(TINY, rates)
    assert len(plan) == 2 * len(benchmark.NETWORKS)
    first = [cell for cell in plan[0] if cell.parameters["method"] == "prox-adam"]
    assert [cell.seed for cell in first] == [0, 1]
    assert {cell.parameters["strength"] for cell in first} == {
        methods.METHODS["prox-adam"].middle(benchmark.NETWORKS[0])
    }
    assert {cell.parameters["method"] for cell in plan[0]} == set(methods.METHODS)


def test_a_penalty_whose_seeds_are_not_all_there_is_not_reported():
    records = [*made_up("softshrink", 0.1, [0.5, 0.5], [0.2, 0.2], 0.5), *made_up("softshrink", 1.0, [0.4], [0.3], 0.4)]
    assert {record.parameters["strength"] for record in benchmark.complete(records, TINY)} == {0.1}
