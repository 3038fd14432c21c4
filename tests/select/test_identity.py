"""What makes a function another one, and what does not."""

from __future__ import annotations

import functools
import linecache
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nonsmooth.penalties import L1, MCP, GroupL1
from nonsmooth.select.identity import code_digest, penalty_text

TEMPLATE = """
import functools, torch
import numpy as np
from types import SimpleNamespace
EPOCHS = {epochs}
CONFIG = {{"lr": {lr}}}
OPTIONS = SimpleNamespace(batch={batch})
DATA = torch.arange({count})
ARRAY = np.ones(3, dtype={dtype!r})
LOG = [{logged}]
MODEL = torch.nn.Linear(2, 2)
CRITERION = torch.nn.CrossEntropyLoss(label_smoothing={smoothing})

class Net:
    width = {width}
    def forward(self):
        return {forward}

def helper(x):
    return x {sign} 1

def fit(seed, momentum={momentum}):  {comment}
    def step():
        return EPOCHS
    LOG.append(seed)
    return Net(), helper(DATA), ARRAY, CONFIG["lr"], OPTIONS.batch, MODEL, CRITERION, step
"""
PLAIN = {
    "epochs": 3, "lr": 0.1, "batch": 32, "count": 5, "dtype": "float64", "logged": "", "smoothing": 0.0, "width": 4,
    "forward": "1", "sign": "+", "momentum": 0.9, "comment": "",
}  # fmt: skip


def defined(folder, **changes):
    """`fit` of a module with some of its text changed, read from a file as a user's is."""
    path = folder / "experiment.py"
    path.write_text(TEMPLATE.format(**{**PLAIN, **changes}))
    namespace = {"__name__": "experiment"}
    sys.modules.pop("experiment", None)
    linecache.checkcache(str(path))
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace["fit"]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4}, {"lr": 0.2}, {"batch": 64}, {"count": 6}, {"dtype": "float32"}, {"smoothing": 0.1},
        {"width": 5}, {"forward": "2"}, {"sign": "-"}, {"momentum": 0.8},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_function_does_and_reads_counts(tmp_path, change):
    assert code_digest(defined(tmp_path)) != code_digest(defined(tmp_path, **change))


@pytest.mark.parametrize("change", [{"comment": "# another comment"}, {"logged": "1, 2"}], ids=str)
def test_comments_and_logs_do_not_count(tmp_path, change):
    assert code_digest(defined(tmp_path)) == code_digest(defined(tmp_path, **change))


def test_training_does_not_make_it_another_function(tmp_path):
    fit = defined(tmp_path)
    before = code_digest(fit)
    fit(1)
    with torch.no_grad():
        fit.__globals__["MODEL"].weight.zero_()
    fit.__globals__["CRITERION"].eval()
    assert code_digest(fit) == before


@pytest.mark.processes
def test_the_digest_is_the_same_in_another_process(tmp_path):
    defined(tmp_path)
    code = "from experiment import fit; from nonsmooth.select.identity import code_digest; print(code_digest(fit))"
    printed = {
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(printed) == 1


def test_functions_of_every_kind_are_told_apart():
    def make(factor):
        return lambda x: factor * x

    class Scorer:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return self.factor * x

        def method(self, x):
            return x

    both = [
        (make(1), make(2)),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (functools.partial(make, factor=1), functools.partial(make, factor=2)),
        (Scorer(1), Scorer(2)),
        (make(np.arange(3)), make(np.arange(1, 4))),
        (make(torch.zeros(3)), make(torch.zeros(1, 3))),
        (make(SimpleNamespace(a=1)), make(SimpleNamespace(a=2))),
        (make((1, (2, 3))), make((1, (2, 4)))),
        (max, min),
        (Scorer(1).method, make(1)),
    ]
    for first, second in both:
        assert code_digest(first) == code_digest(first)
        assert code_digest(first) != code_digest(second)
    assert code_digest(make(1)) == code_digest(make(1))


def test_functions_without_a_source_are_told_apart():
    namespaces = []
    for constant in (1, 2, 1):
        namespace = {"__name__": "console"}
        exec(textwrap.dedent(f"def f(x):\n    return [y + {constant} for y in x]"), namespace)
        namespaces.append(code_digest(namespace["f"]))
    assert namespaces[0] != namespaces[1]
    assert namespaces[0] == namespaces[2]


@pytest.mark.parametrize(
    "value",
    [
        nn.Parameter(torch.ones(2)),
        torch.ones(3, 3).to_sparse(),
        torch.ones(3, device="meta"),
        np.array([object()]),
        torch.empty(0),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, 3).T,
        torch.ones(2, dtype=torch.complex64),
    ],
    ids="parameter sparse meta objects empty half turned complex".split(),
)
def test_arrays_of_every_kind_can_be_read(value):
    assert code_digest(lambda: value)


def test_penalties_are_told_apart_but_not_by_lambda():
    texts = [
        penalty_text(penalty) for penalty in (L1(1.0), L1(1.0, weights=torch.ones(3)), MCP(1.0, 2.0), GroupL1(1.0))
    ]
    assert len(set(texts)) == 4
    assert penalty_text(L1(2.0)) == texts[0]
    assert penalty_text(L1(1.0, weights=torch.tensor([1.0, 1.0, 2.0]))) != texts[1]
    assert penalty_text(MCP(1.0, 3.0)) != texts[2]
