"""Names and texts that others wrote reach no terminal with their control characters."""

import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nonsmooth.curvature import optimizer_sharpness, sharpness
from nonsmooth.foreign_text import visible
from nonsmooth.kinks import crossings, penalty_terms, scan
from nonsmooth.optim import ProxSGD, certify, penalize
from nonsmooth.penalties import L1

HOSTILE = "w\x1b[2J\x07\r\n\u202egnp\u2066\u2028\x9b31m\x7f[red]"
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def acting(text, but=""):
    return [character for character in text if unicodedata.category(character) in ACTING and character not in but]


@given(st.text())
def test_nothing_that_acts_is_left_and_nothing_that_is_seen_is_changed(text):
    shown = visible(text)
    assert acting(shown) == []
    shown.encode("utf-8")
    assert visible(shown) == shown
    if not acting(text) and all(unicodedata.category(c) not in ("Cn", "Co") for c in text):
        assert shown == text
    assert visible(text, lines=True).count("\n") == text.count("\n")
    assert acting(visible(text, lines=True), but="\n\t") == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\x9b"),
        ("\x7f", "\\x7f"),
        ("a\u202eb", "a\\u202eb"),
        ("\u2066\u2069", "\\u2066\\u2069"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("a\r\nb", "a\\r\\nb"),
        ("αλ‖w‖₁ ≤ 1\N{NO-BREAK SPACE}%", "αλ‖w‖₁ ≤ 1\N{NO-BREAK SPACE}%"),
        (ValueError("no\x1b"), "no\\x1b"),
    ],
)
def test_characters_by_name(text, shown):
    assert visible(text) == shown


class Hostile(nn.Module):
    """A module whose parameter, child and class have names that act."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_parameter(HOSTILE, nn.Parameter(torch.randn(3, 3)))
        self.register_parameter(HOSTILE + "unused", nn.Parameter(torch.randn(3)))
        self.add_module(HOSTILE + "relu", type(HOSTILE, (nn.ReLU,), {})())
        self.add_module(
            HOSTILE + "own", type(HOSTILE, (nn.Linear,), {"forward": lambda s, x: s.weight @ x.abs()})(3, 3)
        )

    def forward(self, x):
        inner = dict(self.named_children())
        return inner[HOSTILE + "own"](inner[HOSTILE + "relu"](x @ getattr(self, HOSTILE)))


@pytest.fixture
def model():
    return Hostile()


@pytest.fixture
def inputs():
    return torch.ones(3, 3)


def check(text):
    assert acting(text, but="\n") == []
    assert "\n" + HOSTILE.partition("\n")[2][:3] not in text  # a name begins no line of its own
    return text


def test_certificates(model, inputs):
    optimizer = ProxSGD(penalize(model, L1(0.1), include=["*"]), lr=0.1)
    text = check(str(certify(optimizer, lambda: model(inputs).square().sum())))
    assert "w\\x1b[2J" in text
    assert "without a gradient" in text


def test_scans_and_their_operations(model, inputs):
    for found in (scan(model, inputs), scan(model), scan(model(inputs).sum(), named_parameters=model)):
        assert "w\\x1b[2J" in check(str(found))
        for operation in found.operations:
            check(str(operation))
            check(operation.location)


def test_penalty_terms(model):
    terms = penalty_terms(sum(0.1 * p.abs().sum() for p in model.parameters()), model)
    assert terms
    for term in terms:
        assert "w\\x1b[2J" in check(str(term))


def test_crossings(model, inputs):
    first = {name: value.clone() for name, value in model.state_dict().items()}
    second = {name: -value for name, value in first.items()}
    found = crossings(model, inputs, first, second)
    assert "w\\x1b[2J" in check(str(found))
    for layer in found.layers:
        check(str(layer))


def test_sharpness(model, inputs):
    def closure():
        return model(inputs).square().sum()

    parameters = [p for name, p in model.named_parameters() if not name.endswith("unused")]
    check(str(sharpness(closure, parameters, model=model, mode="train")))
    check(str(optimizer_sharpness(torch.optim.SGD(parameters, lr=0.1), closure, model=model, mode="train")))


def test_errors_that_name_parameters(model):
    with pytest.raises(ValueError, match="matches none") as told:
        penalize(model, L1(0.1), include=["nothing"])
    check(str(told.value))
    model.register_parameter(HOSTILE + "whole", nn.Parameter(torch.ones(2, dtype=torch.int32), requires_grad=False))
    named = [(name, parameter) for name, parameter in model.named_parameters() if name.endswith("whole")]
    with pytest.raises(ValueError, match="floating-point") as told:
        ProxSGD([{"params": named, "penalty": L1(0.1)}], lr=0.1)
    check(str(told.value))
