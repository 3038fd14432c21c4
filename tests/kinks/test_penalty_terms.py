"""Penalties in losses written by hand: which, on what, and λ, which is known because the test writes it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from penalised import ALL, LAMBDA, V, W
from torch import nn

from nonsmooth.kinks import penalty_terms


def times_itself(tensor):
    return tensor * tensor


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
    "as a root": (lambda m: LAMBDA * m[0].weight.square().sqrt().sum(), [("l1", (W,), LAMBDA)]),
    "as a maximum": (lambda m: LAMBDA * torch.maximum(m[0].weight, -m[0].weight).sum(), [("l1", (W,), LAMBDA)]),
    "as a maximum of negatives": (
        lambda m: LAMBDA * torch.max(-m[0].weight, m[0].weight).sum(),
        [("l1", (W,), LAMBDA)],
    ),
    "distance": (
        lambda m: LAMBDA * torch.dist(m[0].weight, torch.zeros_like(m[0].weight), 1),
        [("l1", (W,), LAMBDA)],
    ),
    "rows, by a power": (lambda m: LAMBDA * (m[0].weight ** 2).sum(-1).pow(0.5).sum(), [("group", (W,), LAMBDA)]),
    "largest entry": (lambda m: LAMBDA * m[0].weight.abs().max(), [("max", (W,), LAMBDA)]),
    "largest entries of rows": (lambda m: LAMBDA * m[0].weight.abs().amax(-1).sum(), [("max", (W,), LAMBDA)]),
    "largest entries, with their places": (
        lambda m: LAMBDA * m[0].weight.abs().max(dim=0).values.sum(),
        [("max", (W,), LAMBDA)],
    ),
    "used five times": (lambda m: LAMBDA * m[0].weight.expand(5, 3, 4).abs().sum(), [("l1", (W,), 5 * LAMBDA)]),
    "stacked": (
        lambda m: LAMBDA * torch.stack([m[0].weight, m[0].weight]).abs().sum(),
        [("l1", (W,), 2 * LAMBDA)],
    ),
    "microbatches": (
        lambda m: sum(LAMBDA * m[0].weight.abs().sum() / 5 for _ in range(5)),
        [("l1", (W,), LAMBDA)],
    ),
    "by halves": (
        lambda m: LAMBDA * m[0].weight[:, :2].abs().sum() + LAMBDA * m[0].weight[:, 2:].abs().sum(),
        [("l1", (W,), LAMBDA)],
    ),
    "rows used five times": (
        lambda m: LAMBDA * m[0].weight.expand(5, 3, 4).norm(dim=2).sum(),
        [("group", (W,), 5 * LAMBDA)],
    ),
    "rows with their copies": (  # ‖(w, w)‖ = √2·‖w‖
        lambda m: LAMBDA * torch.cat([m[0].weight, m[0].weight], 1).norm(dim=1).sum(),
        [("group", (W,), 2**0.5 * LAMBDA)],
    ),
    "factor inside a group": (lambda m: (-3 * LAMBDA * m[0].weight).norm(dim=1).sum(), [("group", (W,), 3 * LAMBDA)]),
    "a reward": (lambda m: -LAMBDA * m[0].weight.abs().sum(), [("l1", (W,), -LAMBDA)]),
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
    "square of a norm, as a product": (lambda m: times_itself(m[0].weight.abs().sum()), []),
    "over a norm": (lambda m: m[0].weight.new_tensor(3.0) / m[0].weight.abs().sum(), []),
    "over the weights": (lambda m: (m[0].weight.new_tensor(3.0) / m[0].weight).abs().sum(), []),
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
        assert term.uniform and term.centered and term.has_gradient
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


# Absolute values that are computed once and used in several ways. What has slope 0 at 0 leaves λ as it is; what has not
# adds to it, or takes all of it away: then there is no λ to be found.
SHARED = {
    "elastic net": (lambda a: LAMBDA * a.sum() + 0.5 * a.square().sum(), [("l1", 1)]),
    "elastic net, multiplied": (lambda a: LAMBDA * a.sum() + (a * a).mean() + (3 * a).pow(3).sum(), [("l1", 1)]),
    "all and the largest": (lambda a: LAMBDA * (a.sum() + 3 * a.amax(1).sum()), [("l1", 1), ("max", 3)]),
    "the largest only": (lambda a: LAMBDA * a.max(), [("max", 1)]),
    "the largest of rows and columns": (
        lambda a: LAMBDA * (a.amax(0).sum() + 3 * a.amax(1).sum()),
        [("max", 1), ("max", 3)],
    ),
    "parts, of which one is squared": (
        lambda a: LAMBDA * sum(p.sum() for p in a.split(2)) + a.unbind()[1].square().sum(),
        [("l1", 1)],
    ),
    "a sum beside its square": (lambda a: LAMBDA * a.sum() + a.sum() ** 2, []),
    "a sum that is a factor, too": (lambda a: LAMBDA * a.sum() + a.sum() * a.mean() / (1 + a.max()), []),
    "a square only": (lambda a: LAMBDA * a.sum() ** 2, []),
    "shifted, then squared": (lambda a: (a + (1 - a).square()).sum(), []),
    "log cosh, which is smooth": (lambda a: (a + F.softplus(-2 * a)).sum(), []),
    "fair loss, which is smooth": (lambda a: (a - torch.log1p(a)).sum(), []),
    "Huber, which is smooth": (lambda a: (0.5 * a.clamp(max=1).square() + a - a.clamp(max=1)).sum(), []),
}


@pytest.mark.parametrize("at_zero", [False, True], ids=["anywhere", "at 0"])
@pytest.mark.parametrize("name", SHARED)
def test_absolute_values_that_are_used_otherwise_too_count_where_that_adds_nothing_at_zero(network, name, at_zero):
    model, loss = network
    penalty, expected = SHARED[name]
    if at_zero:
        nn.init.zeros_(model[0].weight)
    total = loss() + penalty(model[0].weight.abs())
    for terms in (penalty_terms(total, model), penalty_terms(lambda: loss() + penalty(model[0].weight.abs()), model)):
        found = sorted((term.kind, term.strength / LAMBDA) for term in terms)
        assert [kind for kind, _ in found] == [kind for kind, _ in expected]
        assert [multiple for _, multiple in found] == pytest.approx([multiple for _, multiple in expected], rel=1e-5)
        assert all(term.uniform and term.parameters == (W,) for term in terms)
    total.backward()  # the graph can still be used


# λ of each entry is what the penalty is worth where this entry is 1 and all others are 0.
UNEVEN = {
    "one row twice": lambda w: LAMBDA * w[[0, 0, 1]].abs().sum(),
    "factors inside": lambda w: LAMBDA * (w.new_tensor([1.0, 2.0, -3.0, 4.0]) * w).abs().sum(),
    "factors outside": lambda w: LAMBDA * (w.new_tensor([4.0, 3.0, 2.0, 1.0]) * w.abs()).sum(),
    "factors on both sides": lambda w: (w.new_tensor([4.0, 3.0, 2.0, 1.0]) * (LAMBDA * w[:2]).abs() * 3).sum(),
    "one part scaled": lambda w: LAMBDA * torch.cat([w[0], -2 * w[1], w[2] / 4]).abs().sum(),
    "two terms": lambda w: LAMBDA * w.abs().sum() + 2 * LAMBDA * w[1:].abs().sum(),
}


@pytest.mark.parametrize("at_zero", [False, True], ids=["anywhere", "at 0"])
@pytest.mark.parametrize("name", UNEVEN)
def test_a_strength_is_that_of_single_entries(name, at_zero):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(3, 4) if at_zero else torch.randn(3, 4))
    single = torch.stack([UNEVEN[name](one.view(3, 4)) for one in torch.eye(12)])
    (term,) = penalty_terms(UNEVEN[name](weight), {"w": weight})
    assert term.strength == pytest.approx(single.max().item(), rel=1e-5)
    assert (term.kind, term.uniform, term.centered) == ("l1", False, True)
    used = weight.detach().flatten()[single > 0]
    assert term.value == pytest.approx(used.abs().sum().item(), rel=1e-5)


def test_the_strength_of_a_group_is_that_of_single_groups():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(300, 4))
    factors = torch.linspace(1, 2, 300)

    def penalty(w):
        return (factors * w.norm(dim=1)).sum() * LAMBDA

    (term,) = penalty_terms(penalty(weight), {"w": weight})
    assert (term.kind, term.uniform) == ("group", False)
    assert term.strength == pytest.approx(2 * LAMBDA, rel=1e-5)
    assert term.value == pytest.approx(weight.norm(dim=1).sum().item(), rel=1e-5)


@pytest.mark.parametrize("norm", [torch.abs, torch.norm, lambda w: w.norm(1, dim=0), lambda w: w.abs().amax(0)])
def test_a_single_number_has_norms(norm):
    weight = nn.Parameter(torch.tensor(-2.0))
    (term,) = penalty_terms(3 * norm(weight), {"w": weight})
    assert (term.strength, term.value, term.uniform) == (3.0, 2.0, True)


@pytest.mark.parametrize("centre", [0.0, 0.5])
def test_rows_and_columns_are_two_terms(centre):
    weight = nn.Parameter(torch.randn(3, 3))
    moved = weight - centre
    terms = penalty_terms(moved.norm(dim=1).sum() + 2 * moved.norm(dim=0).sum(), {"w": weight})
    assert [(term.kind, term.uniform) for term in terms] == [("group", True)] * 2
    assert [term.strength for term in terms] == pytest.approx([1, 2], rel=1e-5)
    assert all(term.centered is (centre == 0) for term in terms)
    sizes = [moved.norm(dim=dim).sum().item() for dim in (1, 0)]
    assert [term.value for term in terms] == pytest.approx(sizes, rel=1e-5)


@pytest.mark.parametrize("kind", ["l1", "group", "max"])
def test_a_weight_that_is_zero_is_penalised_like_others(kind):
    norms = {
        "l1": lambda w: (-2 * w).abs().sum(),
        "group": lambda w: (-2 * w).norm(dim=1).sum(),
        "max": lambda w: (-2 * w).abs().amax(1).sum(),
    }
    weight = nn.Parameter(torch.zeros(3, 4))
    (term,) = penalty_terms(LAMBDA * norms[kind](weight), {"w": weight})
    assert (term.kind, term.uniform, term.value) == (kind, True, 0.0)
    assert term.strength == pytest.approx(2 * LAMBDA, rel=1e-5)


def test_the_size_of_a_complex_number_counts():
    weight = nn.Parameter(torch.tensor([3 + 4j, 1j]))
    (term,) = penalty_terms(LAMBDA * (2j * weight).abs().sum(), {"w": weight})
    assert (term.value, term.uniform) == (6.0, True)
    assert term.strength == pytest.approx(2 * LAMBDA)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_groups_apart(dtype):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(500, 4, dtype=dtype))
    (term,) = penalty_terms(2 * weight.norm(dim=1).sum(), {"w": weight})
    assert (term.kind, term.uniform) == ("group", True)
    assert term.strength == pytest.approx(2, rel=4 * torch.finfo(dtype).eps)


def test_an_empty_parameter_is_not_penalised(network):
    model, loss = network
    model.register_parameter("empty", nn.Parameter(torch.empty(0)))
    terms = penalty_terms(lambda: loss() + LAMBDA * sum(p.abs().sum() for p in model.parameters()), model)
    assert summary(terms) == [("l1", (name,)) for name in ALL]
    total = sum(p.data.abs().sum() for p in model.parameters())
    assert penalty_terms(lambda: loss() + LAMBDA * model.empty.data.abs().sum(), model) == ()
    assert total > 0


def test_weights_that_differ_are_said_to_differ():
    weight = nn.Parameter(torch.randn(3))
    (term,) = penalty_terms((torch.tensor([1.0, 2.0, 3.0]) * weight.abs()).sum(), {"w": weight})
    assert (term.strength, term.uniform) == (3.0, False)


def test_a_distance_from_another_point_is_not_about_the_weight_itself():
    weight, start = nn.Parameter(torch.randn(3)), torch.ones(3)
    (term,) = penalty_terms(0.5 * F.l1_loss(weight, start, reduction="sum"), {"w": weight})
    assert (term.strength, term.centered) == (0.5, False)


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


@pytest.mark.parametrize("norm", [torch.abs, lambda w: w.norm(1)], ids=["abs", "norm"])
@pytest.mark.parametrize("beside", [0.0, 1.0], ids=["alone", "beside something"])
def test_a_graph_that_was_freed_is_said_to_be_so(norm, beside):
    weight = nn.Parameter(torch.randn(3))

    def closure():
        loss = beside * weight.sigmoid().sum() + 0.1 * norm(weight).sum()
        torch.autograd.backward(loss)
        return loss

    for loss in (closure(), closure):
        with pytest.raises(ValueError, match="freed"):
            penalty_terms(loss, {"w": weight})
