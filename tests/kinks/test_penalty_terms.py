"""Penalties in losses written by hand: which, on what, and λ, which is known because the test writes it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nonsmooth.kinks import penalty_terms

LAMBDA = 0.0375


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def network(request):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to(request.param)
    data = torch.randn(8, 4, dtype=request.param)
    target = torch.tensor([0, 1] * 4)
    return model, lambda: F.cross_entropy(model(data), target)


W, B, V = "0.weight", "0.bias", "2.weight"
ALL = (W, B, V, "2.bias")

WRITTEN = {
    "sum of absolute values": (lambda m: LAMBDA * m[0].weight.abs().sum(), [("l1", (W,), LAMBDA)]),
    "loop over all": (
        lambda m: LAMBDA * sum(p.abs().sum() for p in m.parameters()),
        [("l1", (name,), LAMBDA) for name in ALL],
    ),
    "λ inside the loop": (
        lambda m: sum(k * LAMBDA * p.norm(1) for k, p in enumerate(m.parameters(), 1)),
        [("l1", (name,), k * LAMBDA) for k, name in enumerate(ALL, 1)],
    ),
    "one vector of all": (
        lambda m: LAMBDA * torch.cat([p.view(-1) for p in m.parameters()]).abs().sum(),
        [("l1", ALL, LAMBDA)],
    ),
    "mean": (lambda m: 12 * LAMBDA * m[0].weight.abs().mean(), [("l1", (W,), LAMBDA)]),
    "vector norm": (lambda m: m[0].weight.norm(p=1) * LAMBDA, [("l1", (W,), LAMBDA)]),
    "linalg": (lambda m: LAMBDA * torch.linalg.vector_norm(m[0].weight, 1), [("l1", (W,), LAMBDA)]),
    "loss against zero": (
        lambda m: LAMBDA * F.l1_loss(m[0].weight, torch.zeros_like(m[0].weight), reduction="sum"),
        [("l1", (W,), LAMBDA)],
    ),
    "factor inside": (lambda m: (2 * LAMBDA * m[0].weight / -2).abs().sum(), [("l1", (W,), LAMBDA)]),
    "factor inside, a part": (lambda m: (LAMBDA * m[0].weight[:2]).abs().sum(), [("l1", (W,), LAMBDA)]),
    "several factors": (lambda m: (m[0].weight.abs().sum() * 4 + 1) / 8 * (2 * LAMBDA), [("l1", (W,), LAMBDA)]),
    "rows": (lambda m: LAMBDA * m[0].weight.norm(dim=1).sum(), [("group", (W,), LAMBDA)]),
    "rows written out": (lambda m: LAMBDA * m[0].weight.square().sum(1).sqrt().sum(), [("group", (W,), LAMBDA)]),
    "columns": (lambda m: LAMBDA * m[0].weight.T.norm(dim=1).sum(), [("group", (W,), LAMBDA)]),
    "largest entries": (lambda m: LAMBDA * m[0].weight.norm(float("inf"), dim=1).sum(), [("max", (W,), LAMBDA)]),
    "elastic net": (
        lambda m: LAMBDA * m[0].weight.abs().sum() + 0.5 * m[0].weight.square().sum(),
        [("l1", (W,), LAMBDA)],
    ),
    "two terms": (
        lambda m: LAMBDA * m[0].weight.abs().sum() + 2 * LAMBDA * m[2].weight.norm(dim=0).sum(),
        [("l1", (W,), LAMBDA), ("group", (V,), 2 * LAMBDA)],
    ),
    # None of these is an L1-type term.
    "none": (lambda m: torch.zeros(()), []),
    "ridge": (lambda m: LAMBDA * m[0].weight.square().sum(), []),
    "ridge by a norm": (lambda m: LAMBDA * m[0].weight.norm() ** 2, []),
    "positive weights": (lambda m: F.linear(torch.ones(5, 4).to(m[0].weight), m[0].weight.abs()).exp().mean(), []),
    "activations": (lambda m: LAMBDA * m[0](torch.ones(5, 4).to(m[0].weight)).abs().sum(), []),
    "a product of two weights": (lambda m: (m[0].weight.abs() * m[0].weight.exp()).sum(), []),
    "smoothed": (lambda m: LAMBDA * (m[0].weight.square() + 1e-6).sqrt().sum(), []),
}  # fmt: skip


def summary(terms):
    return [(term.kind, term.parameters) for term in terms]


@pytest.mark.parametrize("name", WRITTEN)
def test_the_terms_of_a_graph_are_those_that_were_written(network, name):
    model, loss = network
    penalty, expected = WRITTEN[name]
    total = loss() + penalty(model)
    terms = penalty_terms(total, model)
    assert sorted(summary(terms)) == sorted((kind, names) for kind, names, _ in expected)
    strengths = {(kind, names): strength for kind, names, strength in expected}
    for term in terms:
        assert term.strength == pytest.approx(strengths[term.kind, term.parameters], rel=1e-5)
        assert term.uniform and term.centred and term.has_gradient
    total.backward()  # the graph can still be used
    if len(expected) == len(terms) and terms and "elastic" not in name:
        value = sum(term.strength * term.value for term in terms)
        constant = 2 * LAMBDA / 8 if name == "several factors" else 0.0
        assert value + constant == pytest.approx(penalty(model).item(), rel=1e-5)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_closure_gives_the_same_terms(network, name):
    model, loss = network
    penalty, expected = WRITTEN[name]
    terms = penalty_terms(lambda: loss() + penalty(model), dict(model.named_parameters()))
    assert sorted(summary(terms)) == sorted((kind, names) for kind, names, _ in expected)
    assert all(term.has_gradient for term in terms)


def without_graph(penalty, model):
    with torch.no_grad():
        return penalty(model)


SILENT = {
    ".data": lambda m: LAMBDA * m[0].weight.data.abs().sum(),
    ".detach()": lambda m: LAMBDA * m[0].weight.detach().norm(1),
    "no_grad": lambda m: without_graph(lambda n: LAMBDA * n[0].weight.abs().sum(), m),
    ".item()": lambda m: LAMBDA * m[0].weight.detach().abs().sum().item(),
    "mean": lambda m: 12 * LAMBDA * m[0].weight.data.abs().mean(),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_penalty_without_gradient_is_found_with_its_strength(network, name):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + SILENT[name](model), model)
    assert (term.kind, term.parameters, term.has_gradient) == ("l1", (W,), False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)
    assert term.value == pytest.approx(model[0].weight.abs().sum().item(), rel=1e-5)
    assert __file__ in term.source
    assert "no gradient" in str(term)
    assert penalty_terms(loss() + SILENT[name](model), model) == ()  # the graph alone cannot show it


def test_the_same_penalty_with_a_gradient_is_not_called_silent(network):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + LAMBDA * model[0].weight.abs().sum(), model)
    assert term.has_gradient and "no gradient" not in str(term)


def test_one_line_over_all_parameters_is_one_term_if_one_strength_explains_it(network):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + LAMBDA * sum(p.data.abs().sum() for p in model.parameters()), model)
    assert term.parameters == ALL
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)
    terms = penalty_terms(
        lambda: loss() + sum(k * LAMBDA * p.data.abs().sum() for k, p in enumerate(model.parameters(), 1)), model
    )
    assert summary(terms) == [("l1", (name,)) for name in ALL]
    assert [term.strength / LAMBDA for term in terms] == pytest.approx([1, 2, 3, 4], rel=1e-3)


def test_what_is_only_logged_is_no_penalty(network):
    model, loss = network
    logged = []

    def closure():
        logged.append(float(model[0].weight.detach().abs().sum()))
        return loss()

    assert penalty_terms(closure, model) == ()
    assert logged


def test_a_silent_term_that_is_squared_has_no_strength(network):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + model[0].weight.data.abs().sum() ** 2, model)
    assert term.strength is None


def test_a_frozen_parameter_has_no_gradient_on_purpose(network):
    model, loss = network
    model[0].weight.requires_grad_(False)
    assert penalty_terms(lambda: loss() + model[0].weight.abs().sum(), model) == ()


def test_a_closure_that_draws_new_data_each_time_cannot_be_measured():
    weight = nn.Parameter(torch.ones(3))
    batches = iter(torch.arange(100.0))
    (term,) = penalty_terms(lambda: next(batches) * weight.sum() + weight.data.abs().sum(), {"w": weight})
    assert term.strength is None and not term.has_gradient


def test_weights_that_differ_are_said_to_differ():
    weight = nn.Parameter(torch.randn(3))
    (term,) = penalty_terms((torch.tensor([1.0, 2.0, 3.0]) * weight.abs()).sum(), {"w": weight})
    assert (term.strength, term.uniform) == (3.0, False)


def test_a_distance_from_another_point_is_not_about_the_weight_itself():
    weight, start = nn.Parameter(torch.randn(3)), torch.ones(3)
    (term,) = penalty_terms(0.5 * F.l1_loss(weight, start, reduction="sum"), {"w": weight})
    assert (term.strength, term.centred) == (0.5, False)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (3.0, TypeError, "loss is 3.0"),
        (torch.ones(()), ValueError, "one number with its graph"),
        (lambda: 3.0, ValueError, "loss returned 3.0"),
    ],
)
def test_bad_input_is_named(loss, error, message):
    with pytest.raises(error, match=message):
        penalty_terms(loss, {"w": nn.Parameter(torch.ones(2))})


def test_a_graph_that_was_freed_is_said_to_be_so():
    weight = nn.Parameter(torch.randn(3))
    loss = weight.abs().sum()
    loss.backward()
    with pytest.raises(ValueError, match="freed"):
        penalty_terms(loss, {"w": weight})
