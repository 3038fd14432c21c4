"""Penalties that carry no gradient, written by hand: found with their λ, and norms that are none left alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from penalised import ALL, LAMBDA, V, W
from torch import nn
from torch.utils.checkpoint import checkpoint

from nonsmooth.kinks import penalty_terms


def summary(terms):
    return [(term.kind, term.parameters) for term in terms]


def without_graph(penalty, model):
    with torch.no_grad():
        return penalty(model)


SILENT = {
    ".data": lambda m: LAMBDA * m[0].weight.data.abs().sum(),
    ".detach()": lambda m: LAMBDA * m[0].weight.detach().norm(1),
    "no_grad": lambda m: without_graph(lambda n: LAMBDA * n[0].weight.abs().sum(), m),
    ".item()": lambda m: LAMBDA * m[0].weight.detach().abs().sum().item(),
    "mean": lambda m: 12 * LAMBDA * m[0].weight.data.abs().mean(),
    ".item() of a sum with a gradient": lambda m: LAMBDA * m[0].weight.abs().sum().item(),
    "float() of a sum with a gradient": lambda m: LAMBDA * float(m[0].weight.abs().sum().detach()),
    ".detach() of a norm": lambda m: LAMBDA * m[0].weight.norm(1).detach(),
    ".detach() of absolute values": lambda m: LAMBDA * m[0].weight.abs().detach().sum(),
    "factors inside and outside": lambda m: LAMBDA * (-2 * m[0].weight.data / 4).abs().sum() * 2,
    "loss against zero": lambda m: LAMBDA * F.l1_loss(m[0].weight.data, torch.zeros_like(m[0].weight), reduction="sum"),
    "root of squares": lambda m: LAMBDA * m[0].weight.data.square().sqrt().sum(),
    "a copy of the model": lambda m: LAMBDA * copy.deepcopy(m)[0].weight.abs().sum(),
    "microbatches": lambda m: sum(LAMBDA * m[0].weight.data.abs().sum() / 5 for _ in range(5)),
    "row by row": lambda m: LAMBDA * sum(row.abs().sum() for row in m[0].weight.data),
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


@pytest.mark.parametrize("name", SILENT)
def test_a_silent_penalty_is_found_on_weights_that_start_at_zero(network, name):
    model, loss = network
    nn.init.zeros_(model[0].weight)
    (term,) = penalty_terms(lambda: loss() + SILENT[name](model), model)
    assert (term.kind, term.parameters, term.has_gradient, term.value) == ("l1", (W,), False, 0.0)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)


def test_the_total_norm_of_pytorch_is_silent(network):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + LAMBDA * nn.utils.get_total_norm(model.parameters(), 1.0), model)
    assert (term.kind, term.parameters, term.has_gradient) == ("l1", ALL, False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)
    total = loss() + LAMBDA * nn.utils.get_total_norm(model.parameters(), 1.0)
    for with_term, without in zip(
        *(torch.autograd.grad(value, list(model.parameters())) for value in (total, loss())), strict=True
    ):
        assert torch.equal(with_term, without)


SILENT_GROUPS = {
    "rows": (lambda w: w.norm(dim=1).sum(), "group"),
    "rows written out": (lambda w: w.square().sum(1).sqrt().sum(), "group"),
    "rows, by a power": (lambda w: (w**2).sum(1).pow(0.5).sum(), "group"),
    "largest entry": (lambda w: w.abs().max(), "max"),
    "largest entries": (lambda w: w.abs().amax(1).sum(), "max"),
    "largest, as a norm": (lambda w: w.norm(float("inf")), "max"),
}


@pytest.mark.parametrize("name", SILENT_GROUPS)
def test_the_kind_of_a_silent_norm_is_told(network, name):
    model, loss = network
    norm, kind = SILENT_GROUPS[name]
    (term,) = penalty_terms(lambda: loss() + LAMBDA * norm(model[0].weight.data), model)
    assert (term.kind, term.parameters, term.has_gradient) == (kind, (W,), False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)
    assert term.value == pytest.approx(norm(model[0].weight).item(), rel=1e-5)


@pytest.mark.parametrize("strength", [1e-10, 1e-5, 10.0, -0.1])
def test_a_silent_strength_is_measured_over_many_decades(network, strength):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + strength * model[0].weight.abs().sum().item(), model)
    assert term.strength == pytest.approx(strength, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_silent_strength_in_half_precision(dtype):
    torch.manual_seed(0)
    model = nn.Linear(40, 30).to(dtype)
    data = torch.randn(5, 40, dtype=dtype)
    (term,) = penalty_terms(lambda: model(data).square().mean() + LAMBDA * model.weight.data.abs().sum(), model)
    assert (term.kind, term.parameters, term.has_gradient) == ("l1", ("weight",), False)
    assert term.strength == pytest.approx(LAMBDA, rel=4 * torch.finfo(dtype).eps)


def test_a_largest_entry_that_is_only_logged_hides_no_penalty(network):
    model, loss = network
    logged = []

    def closure():
        sizes = model[0].weight.data.abs()
        logged.append(float(sizes.max()))
        return loss() + LAMBDA * sizes.sum()

    (term,) = penalty_terms(closure, model)
    assert (term.kind, term.parameters) == ("l1", (W,))
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)


def test_the_largest_of_one_entry_is_one_term():
    weight = nn.Parameter(torch.tensor([2.0]))
    (term,) = penalty_terms(lambda: weight.sin().sum() + LAMBDA * weight.data.abs().max(), {"w": weight})
    assert (term.kind, term.strength) == ("max", pytest.approx(LAMBDA, rel=1e-3))


def test_a_copy_that_is_written_to_is_no_copy(network):
    model, loss = network

    def closure():
        changed = model[0].weight.detach().clone()
        changed.exp_()
        return loss() + LAMBDA * changed.abs().sum()

    assert penalty_terms(closure, model) == ()


def test_silent_rows_and_columns_are_two_terms(network):
    model, loss = network

    def closure():
        w = model[0].weight.data
        return loss() + LAMBDA * w.norm(dim=1).sum() + 2 * LAMBDA * w.norm(dim=0).sum()

    terms = penalty_terms(closure, model)
    assert [term.strength for term in terms] == pytest.approx([LAMBDA, 2 * LAMBDA], rel=1e-3)


def test_a_silent_distance_is_not_about_the_weight_itself(network):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + LAMBDA * (model[0].weight.data - 0.5).abs().sum(), model)
    assert (term.kind, term.centered, term.has_gradient) == ("l1", False, False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)


UNEQUAL = {
    "factors": lambda w: (torch.arange(12.0).view(3, 4).to(w) * w.abs()).sum(),
    "the largest three": lambda w: w.abs().flatten().topk(3).values.sum(),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_a_silent_term_with_a_strength_for_each_entry_is_named_without_one(network, name):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + UNEQUAL[name](model[0].weight.data), model)
    assert (term.kind, term.strength, term.has_gradient) == ("l1", None, False)


def test_a_penalty_with_and_one_without_a_gradient_are_told_apart(network):
    model, loss = network
    right, silent = penalty_terms(
        lambda: loss() + LAMBDA * model[0].weight.abs().sum() + 2 * LAMBDA * model[0].weight.abs().sum().item(), model
    )
    assert (right.has_gradient, silent.has_gradient) == (True, False)
    assert [right.strength, silent.strength] == pytest.approx([LAMBDA, 2 * LAMBDA], rel=1e-3)


def quantised(weight, scale):
    """A straight-through estimator."""
    return weight + ((weight / scale).round() * scale - weight).detach()


PARTS_OF_THE_MODEL = {
    "scale of a quantisation": lambda w: quantised(w, w.detach().abs().max() / 7),
    "scale of two values": lambda w: quantised(w, w.detach().abs().mean()),
    "weights over their norm": lambda w: w / w.detach().norm(),
    "the same, by .item()": lambda w: w / w.norm().item(),
}


@pytest.mark.parametrize("name", PARTS_OF_THE_MODEL)
def test_a_norm_that_the_gradient_depends_on_is_no_silent_penalty(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    data, target = torch.randn(8, 4), torch.tensor([0, 1] * 4)

    def loss():
        hidden = F.linear(data, PARTS_OF_THE_MODEL[name](model[0].weight), model[0].bias)
        return F.cross_entropy(F.linear(hidden.relu(), PARTS_OF_THE_MODEL[name](model[2].weight)), target)

    assert penalty_terms(loss, model) == ()
    (term,) = penalty_terms(lambda: loss() + LAMBDA * model[2].weight.data.abs().sum(), model)
    assert (term.parameters, term.has_gradient) == ((V,), False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)


def test_one_line_that_serves_both_the_model_and_a_penalty_is_taken_apart(network):
    model, loss = network

    def size(weight):
        return weight.detach().abs().sum()

    (term,) = penalty_terms(
        lambda: loss() + (model[0].weight / size(model[0].weight)).square().sum() + LAMBDA * size(model[2].weight),
        model,
    )
    assert (term.parameters, term.has_gradient) == ((V,), False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)


def test_reweighted_l1_is_one_term_with_a_gradient(network):
    model, loss = network
    w = model[0].weight

    (term,) = penalty_terms(lambda: loss() + LAMBDA * (w.abs() / (w.detach().abs() + 0.1)).sum(), model)
    assert (term.has_gradient, term.uniform) == (True, False)
    assert term.strength == pytest.approx(LAMBDA / (w.abs().min().item() + 0.1), rel=1e-5)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_hide_no_silent_penalty(reentrant):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    data = torch.randn(8, 4)

    def loss():
        hidden = checkpoint(model[1:], model[0](data), use_reentrant=reentrant)
        return hidden.square().mean() + LAMBDA * model[0].weight.data.abs().sum()

    (term,) = penalty_terms(loss, model)
    assert (term.parameters, term.has_gradient) == ((W,), False)
    assert term.strength == pytest.approx(LAMBDA, rel=1e-3)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_penalty_inside_a_checkpoint_has_the_gradient_that_it_has(reentrant):
    weight = nn.Parameter(torch.randn(3, 4))

    def loss(inputs):
        penalty = checkpoint(lambda _: LAMBDA * weight.abs().sum(), inputs, use_reentrant=reentrant)
        return weight.exp().sum() + penalty

    for needs_gradient in (True, False):
        inputs = torch.ones(2, requires_grad=needs_gradient)
        weight.grad = None
        loss(inputs).backward()
        reached = not torch.allclose(weight.grad, weight.detach().exp())
        assert reached == (needs_gradient or not reentrant)
        (term,) = penalty_terms(lambda inputs=inputs: loss(inputs), {"w": weight})
        assert term.has_gradient == reached
        assert term.strength == pytest.approx(LAMBDA, rel=1e-4)


def test_the_line_of_a_term_with_a_gradient_is_known_too(network):
    model, loss = network

    def closure():
        first = model[0].weight.abs().sum()
        second = model[2].weight.square().sum(1).sqrt().sum()
        return loss() + first + second

    start = closure.__code__.co_firstlineno
    terms = penalty_terms(closure, model)
    assert [term.source for term in terms] == [f"{__file__}:{start + 1}", f"{__file__}:{start + 2}"]


def test_a_closure_may_call_backward(network):
    model, loss = network

    def closure():
        total = loss() + LAMBDA * model[0].weight.abs().sum() + 2 * LAMBDA * model[2].weight.norm(1).item()
        total.backward()
        return total

    right, silent = penalty_terms(closure, model)
    assert (right.parameters, right.has_gradient) == ((W,), True)
    assert (silent.parameters, silent.has_gradient) == ((V,), False)
    assert [right.strength, silent.strength] == pytest.approx([LAMBDA, 2 * LAMBDA], rel=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())


def scaled_in_place(number, factor):
    number *= factor
    return number


MANY = {
    "differentiable": (lambda k, w: k * w.data.abs().sum(), 0),
    "differentiable, a norm": (lambda k, w: k * w.data.norm(1), 0),
    ".item()": (lambda k, w: k * w.abs().sum().item(), 1),
    "no_grad": (lambda k, w: k * without_graph(lambda v: v.abs().sum(), w), 1),
    "in place": (lambda k, w: scaled_in_place(w.data.norm(1), k), 1),
}


def test_a_closure_that_steps_is_refused(network):
    model, loss = network
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def closure():
        total = loss() + LAMBDA * model[0].weight.abs().sum()
        total.backward()
        optimizer.step()
        return total

    with pytest.raises(ValueError, match="overwritten"):
        penalty_terms(closure, model)
    assert all(map(torch.equal, before, model.parameters()))


def test_casts_that_autocast_remembers_do_not_shift_the_runs():
    torch.manual_seed(0)
    model, data = nn.Linear(4, 3), torch.randn(6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (term,) = penalty_terms(lambda: model(data).square().mean() + LAMBDA * model.weight.data.abs().sum(), model)
    assert (term.parameters, term.strength) == (("weight",), pytest.approx(LAMBDA, rel=1e-3))


def test_a_closure_that_keeps_results_for_its_next_call_is_not_measured():
    torch.manual_seed(0)
    weight, kept = nn.Parameter(torch.randn(3)), []

    def closure():
        if not kept:
            kept.append(torch.ones(3).exp().log())
        return (weight * kept[0]).sum() + LAMBDA * weight.data.abs().sum()

    (term,) = penalty_terms(closure, {"w": weight})
    assert (term.kind, term.strength, term.has_gradient) == ("l1", None, False)


def test_a_branch_on_a_penalty_is_no_obstacle(network):
    model, loss = network

    def closure():
        size = model[0].weight.abs().sum().item()
        other = model[2].weight.data.abs().sum() if size < 100 else 0.0
        return loss() + LAMBDA * other + LAMBDA * size

    terms = penalty_terms(closure, model)
    assert summary(terms) == [("l1", (W,)), ("l1", (V,))]
    assert [term.strength for term in terms] == pytest.approx([LAMBDA, LAMBDA], rel=1e-3)

    def capped():
        size = model[0].weight.abs().sum().item()
        return loss() + (LAMBDA * size if size < 100 else 0.0)

    (term,) = penalty_terms(capped, model)
    assert (term.parameters, term.strength) == ((W,), None)


@pytest.mark.parametrize("name", MANY)
def test_many_strengths_on_one_line_take_at_most_one_run_each(network, name):
    _, loss = network
    weights = [nn.Parameter(torch.randn(2)) for _ in range(40)]
    written, each = MANY[name]
    runs = 0

    def closure():
        nonlocal runs
        runs += 1
        return loss() + LAMBDA * sum(written(k, w) for k, w in enumerate(weights, 1))

    terms = penalty_terms(closure, {f"w{k}": weight for k, weight in enumerate(weights)})
    assert [term.strength / LAMBDA for term in terms] == pytest.approx(list(range(1, 41)), rel=2e-3)
    assert runs <= 10 + 40 * each


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


def test_what_is_only_logged_is_no_penalty_with_new_data_each_time_either():
    weight = nn.Parameter(torch.ones(3))
    batches = iter(torch.arange(100.0))
    logged = []

    def closure():
        logged.append(float(weight.detach().abs().sum()))
        return next(batches) * (weight / weight.detach().norm()).sum()

    assert penalty_terms(closure, {"w": weight}) == ()
    assert logged


def test_a_silent_term_that_is_squared_has_no_strength(network):
    model, loss = network
    (term,) = penalty_terms(lambda: loss() + model[0].weight.data.abs().sum() ** 2, model)
    assert term.strength is None


def test_a_frozen_parameter_has_no_gradient_on_purpose(network):
    model, loss = network
    model[0].weight.requires_grad_(False)
    assert penalty_terms(lambda: loss() + model[0].weight.abs().sum(), model) == ()


@pytest.mark.parametrize(
    "penalty",
    [lambda w: w.data.abs().sum(), lambda w: 3 * w.abs().detach().view(3, 1).mean(), lambda w: w.detach().norm(1) / 2],
    ids=[".data", ".detach()", "norm"],
)
def test_a_closure_that_draws_new_data_each_time_cannot_be_measured(penalty):
    weight = nn.Parameter(torch.ones(3))
    batches = iter(torch.arange(100.0))
    (term,) = penalty_terms(lambda: next(batches) * weight.sum() + penalty(weight), {"w": weight})
    assert (term.kind, term.strength, term.has_gradient) == ("l1", None, False)
