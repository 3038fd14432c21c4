"""Results as tables, in notebooks and data frames."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import nonsmooth as ns
from nonsmooth.lab import Cell, Context, Store, run
from nonsmooth.lab.notebook import NotebookProgress, watcher_here
from nonsmooth.tables import MOST_ROWS, Tabular


class Result(Tabular):
    def __init__(self, rows):
        self._rows = rows

    def rows(self):
        return self._rows

    def __str__(self):
        return "a <result>\nsecond line"


def measure(cell, context):
    return {"double": 2.0 * cell.parameters["n"], "walk": [0.0, 1.0]}


def results():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    inputs = torch.randn(5, 3)
    optimizer = ns.ProxAdam(ns.penalize(model, ns.L1(0.1)), lr=0.1)
    model(inputs).square().mean().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    yield ns.scan(model, inputs), 1
    yield ns.certify(optimizer, lambda: model(inputs).square().mean()), 4
    yield ns.crossings(model, inputs, before, model.state_dict()), 1
    yield ns.ProxRegressor("L1").path(inputs.numpy(), inputs[:, 0].numpy(), strengths=[0.1, 0.2]), 2


def test_every_result_has_a_row_for_each_part_in_html_and_in_a_frame():
    for result, rows in results():
        frame = result.to_frame()
        assert len(frame) == rows
        page = result._repr_html_()
        assert page.count("<tr>") == rows + 1
        assert all(f"<th>{name}</th>" in page for name in frame.columns)


def test_a_run_as_a_frame_has_parameters_seeds_and_what_was_measured(tmp_path):
    cells = [Cell("own", {"n": n}, seed=seed) for n in (1, 2) for seed in range(25)]
    frame = run(cells, measure, Store(tmp_path), context=Context()).to_frame()
    assert list(frame.columns) == ["claim", "seed", "n", "double", "walk", "seconds"]
    assert list(frame["double"]) == [2.0] * 25 + [4.0] * 25
    assert list(frame["seed"]) == [*range(25), *range(25)]


def test_what_foreign_text_says_is_shown_and_not_obeyed():
    page = Result([{"<b>": "<script>\x1b[31m", "many": ("a", "b"), "none": None}])._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "\x1b" not in page
    assert "a &lt;result&gt;" in page
    assert "<td>a, b</td><td></td>" in page


def test_a_notebook_shows_the_first_rows_and_how_many_more_there_are():
    page = Result([{"n": n} for n in range(MOST_ROWS + 7)])._repr_html_()
    assert page.count("<td>") == MOST_ROWS
    assert "and 7 more rows" in page
    assert "more rows" not in Result([{"n": n} for n in range(MOST_ROWS)])._repr_html_()
    assert "<table>" not in Result([])._repr_html_()


def test_without_pandas_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        Result([]).to_frame()


def test_only_a_notebook_gets_a_progress_bar(monkeypatch):
    assert not isinstance(watcher_here(), NotebookProgress)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=SimpleNamespace))
    assert not isinstance(watcher_here(), NotebookProgress)  # a terminal


def test_a_progress_bar_tells_cells_done_failed_and_the_time_left(tmp_path):
    shown = []
    handle = SimpleNamespace(update=shown.append)

    def display(first, display_id):
        shown.append(first)
        return handle

    cells = [Cell("own", {"n": n}, seed=0) for n in (1, 2)] + [Cell("own", {"other": 1}, seed=0)]
    run(cells, measure, Store(tmp_path), context=Context(), watcher=NotebookProgress(display, str))
    assert "0 of 3 cells" in shown[1]
    assert shown[-1].endswith("3 of 3 cells, 1 failed")
