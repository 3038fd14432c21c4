"""What is trained once is not trained again, and what is another experiment is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_path

import nonsmooth as ns
from nonsmooth.lab import LabError
from nonsmooth.select import sparsity_path, stability_selection

PROGRAM = Path(toy_path.__file__)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A function that tells what was trained."""
    path = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(path))
    return lambda: path.read_text().splitlines() if path.exists() else []


def results(path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in path.rows()]


def weights(path):
    return [p for seed in path.seeds for i in range(len(path)) for p in path.model(i, seed=seed).state_dict().values()]


def test_the_same_call_trains_nothing_again(tmp_path, log):
    first = toy_path.path(tmp_path / "a")
    assert len(log()) == 4
    again = toy_path.path(tmp_path / "a")
    assert len(log()) == 4
    assert again.rows() == first.rows()
    assert str(again) == str(first)


def test_seeds_are_added(tmp_path, log):
    toy_path.path(tmp_path / "a")
    path = toy_path.path(tmp_path / "a", seeds=(0, 1))
    assert len(log()) == 8
    assert [run.seed for run in path.points[0].runs] == [0, 1]


@pytest.mark.parametrize("change", [{"settings": {"data": "half"}}, {"name": "other"}, {"direction": "down"}])
def test_other_experiments_do_not_share_records(tmp_path, log, change):
    toy_path.path(tmp_path / "a", settings={"data": "whole"})
    toy_path.path(tmp_path / "a", **{"settings": {"data": "whole"}, **change})
    assert len(log()) == 8


def test_another_penalty_is_another_experiment(tmp_path, log):
    for penalty in (ns.ElasticNet(1.0, 0.5), ns.ElasticNet(2.0, 0.5), ns.ElasticNet(1.0, 0.9)):
        sparsity_path(
            toy_path.make_model, toy_path.fit, penalty, score=toy_path.score, folder=tmp_path / "a", strengths=[0.1]
        )
    assert len(log()) == 2  # the λ of the penalty is replaced


def test_the_generators_of_the_caller_stay_where_they_are(tmp_path):
    torch.manual_seed(7)
    np.random.seed(7)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(7)
    np.random.seed(7)
    toy_path.path(tmp_path)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


def test_weights_that_are_damaged_are_trained_again(tmp_path, log):
    path = toy_path.path(tmp_path / "a")
    expected = weights(path)
    (third,) = (tmp_path / "a" / "weights").glob("*/002.pt")
    third.write_bytes(third.read_bytes()[:-50])
    with pytest.warns(UserWarning, match="is not used"), pytest.raises(LabError, match="not whole"):
        path.model(1)
    for record in (tmp_path / "a" / "cells").iterdir():
        record.unlink()
    with pytest.warns(UserWarning, match="is not used"):
        again = toy_path.path(tmp_path / "a")
    assert len(log()) == 5
    assert all(torch.equal(a, b) for a, b in zip(expected, weights(again), strict=True))


def test_a_score_that_is_wrong_costs_no_training_of_the_others(tmp_path, log):
    """A chain in which something raises goes on behind its last whole model."""

    def score(model, seed):
        if len(log()) == 3:
            raise ArithmeticError("the disk of the validation data is gone")
        return 0.0

    call = {"score": score, "folder": tmp_path / "a", "strengths": toy_path.STRENGTHS}
    with pytest.raises(LabError, match="validation data is gone"):
        sparsity_path(toy_path.make_model, toy_path.fit, ns.L1(1.0), **call)
    path = sparsity_path(toy_path.make_model, toy_path.fit, ns.L1(1.0), **call)
    assert len(log()) == 5
    assert len(path) == 4


@pytest.mark.processes
def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_bits(tmp_path, log):
    folder = tmp_path / "killed"
    environment = {**os.environ, "TOY_SLEEP": "0.3", "PYTHONPATH": os.pathsep.join([str(PROGRAM.parent), *sys.path])}
    process = subprocess.Popen([sys.executable, PROGRAM, folder], env=environment)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("weights/*/[0-9]*.pt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = len(list(folder.glob("weights/*/[0-9]*.pt")))
    assert kept < 8
    trained = len(log())
    assert trained - kept <= 1
    resumed = toy_path.path(folder, seeds=(0, 1))
    assert len(log()) == trained + 8 - kept
    whole = toy_path.path(tmp_path / "whole", seeds=(0, 1))
    assert results(resumed) == results(whole)
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


@pytest.mark.processes
def test_a_run_that_is_asked_to_stop_keeps_the_model_in_training(tmp_path, log):
    folder = tmp_path / "stopped"
    environment = {**os.environ, "TOY_SLEEP": "0.5", "PYTHONPATH": os.pathsep.join([str(PROGRAM.parent), *sys.path])}
    process = subprocess.Popen([sys.executable, PROGRAM, folder], env=environment, stderr=subprocess.PIPE, text=True)
    while not log():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Interrupted: interrupted. The records stored so far are kept" in errors
    assert len(list(folder.glob("weights/*/[0-9]*.pt"))) == len(log()) < 8


@pytest.mark.processes
def test_processes_and_executors_give_the_same_bits(tmp_path):
    whole = toy_path.path(tmp_path / "here", seeds=(0, 1))
    processes = toy_path.path(tmp_path / "processes", seeds=(0, 1), workers=2)
    with ThreadPoolExecutor(1) as executor:
        executed = toy_path.path(tmp_path / "executor", seeds=(0, 1), executor=executor)
    assert results(whole) == results(processes) == results(executed)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(processes), strict=True))


def test_functions_that_another_process_cannot_import_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"score is <function .*<lambda>.*workers=1"):
        sparsity_path(
            toy_path.make_model, toy_path.fit, ns.L1(1.0), score=lambda model, seed: 0.0, folder=tmp_path,
            strengths=[0.1], seeds=(0, 1), workers=2,
        )  # fmt: skip


def test_subsamples_are_kept_too(tmp_path):
    calls = []

    def select(rows, seed):
        calls.append(seed)  # a list is not looked at
        return np.random.default_rng(seed).random((2, 5)) < 0.3

    def selection(**options):
        return stability_selection(select, 10, subsamples=6, folder=tmp_path, **options)

    first = selection()
    assert len(set(calls)) == 6
    assert selection().rows() == first.rows()
    assert len(calls) == 6
    selection(seed=1)
    assert len(calls) == 12
    without = stability_selection(select, 10, subsamples=6)
    assert without.rows() == first.rows()
