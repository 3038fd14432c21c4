"""The work of reading a loss grows with its terms, and not with their square."""

import sys

import pytest
import torch
from torch import nn

from nonsmooth.kinks import penalty_terms


def lines_run(function):
    """How many lines of the package a call runs: a count of the work that no clock disturbs."""
    count = 0

    def line(frame, event, argument):
        nonlocal count
        count += event == "line"
        return line

    def call(frame, event, argument):
        return line if "nonsmooth/kinks" in frame.f_code.co_filename.replace("\\", "/") else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        result = function()
    finally:
        sys.settrace(before)
    return count, result


def added(norm):
    def terms(count):
        pairs = [(f"w{k}", nn.Parameter(torch.randn(3))) for k in range(count)]
        loss = sum((0.1 * norm(weight) for _, weight in pairs), torch.zeros(()))
        return lambda: penalty_terms(loss, pairs)

    return terms


def sliced(count):
    weight = nn.Parameter(torch.randn(count, 3))
    loss = sum((0.1 * weight[k].norm() for k in range(count)), torch.zeros(()))
    return lambda: penalty_terms(loss, {"w": weight})


def stacked(count):
    pairs = [(f"w{k}", nn.Parameter(torch.randn(3))) for k in range(count)]
    loss = 0.1 * torch.stack([weight.abs().sum() for _, weight in pairs]).sum()
    return lambda: penalty_terms(loss, pairs)


def shifted(count):
    weight = nn.Parameter(torch.randn(3))
    loss = sum((0.1 * (weight - k).abs().sum() for k in range(1, count + 1)), torch.zeros(()))
    return lambda: penalty_terms(loss, {"w": weight})


def recorded(count):
    pairs = [(f"w{k}", nn.Parameter(torch.randn(3))) for k in range(count)]
    return lambda: penalty_terms(lambda: sum((0.1 * w.abs().sum() for _, w in pairs), torch.zeros(())), pairs)


LOSSES = {
    "l1": added(lambda weight: weight.abs().sum()),
    "group": added(lambda weight: weight.norm()),
    "max": added(lambda weight: weight.abs().max()),
    "of one parameter": sliced,
    "stacked": stacked,
    "around many points": shifted,
    "recorded": recorded,
}


@pytest.mark.parametrize("name", LOSSES)
def test_twice_the_terms_take_twice_the_lines(name):
    few, terms = lines_run(LOSSES[name](60))
    assert len(terms) == 60
    assert all(term.strength == pytest.approx(0.1) for term in terms)
    many, terms = lines_run(LOSSES[name](120))
    assert len(terms) == 120
    assert many < 2.2 * few
