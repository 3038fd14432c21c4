"""Sparse gradients of embeddings: after catching up, everything is as in the dense run on the same data."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdagrad,
    SteadySGD,
    attach,
    averaged,
    catch_up,
    certify,
    follow,
)
from nonsmooth.optim.embeddings import missed_steps, row_steps
from nonsmooth.optim.embeddings.missed_steps import MISSED
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, Penalty, SparseGroupL1, TransformedL1

ROWS, WIDTH = 24, 3
KINDS = [ProxSGD, ProxAdagrad]
BY_ROW = torch.linspace(0.5, 2, ROWS).double()
PENALTIES = {
    "L1": L1(0.02),
    "L1, λ by row": L1(0.02 * BY_ROW.unsqueeze(1)),
    "L1, λ a tensor": L1(torch.tensor(0.02)),
    "L1, weights by coordinate": L1(0.02, weights=torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(3))),
    "L1, weights by column": L1(0.02, weights=torch.tensor([0.0, 1.0, 2.0])),
    "elastic net": ElasticNet(0.05, 0.3),
    "elastic net, weights by row": ElasticNet(0.05, weights=BY_ROW.unsqueeze(1)),
    "MCP": MCP(0.03),
    "SCAD": SCAD(0.03),
    "transformed L1": TransformedL1(0.02),
    "L0": L0(0.3),
    "rows": GroupL1(0.03),
    "rows, weights": GroupL1(0.05, weights=BY_ROW),
    "coordinates as groups": GroupL1(0.03, dim=(0, 1)),
    "sparse groups": SparseGroupL1(0.03),
    "sparse groups, weights": SparseGroupL1(0.03, weights=BY_ROW),
}


class Bags(nn.Module):
    """Two embeddings and a bag, one of which two modules share."""

    def __init__(self, sparse):
        super().__init__()
        self.words = nn.Embedding(ROWS, WIDTH, sparse=sparse)
        self.context = nn.Embedding(ROWS, WIDTH, sparse=sparse)
        self.shared = nn.Embedding(ROWS, WIDTH, sparse=sparse)
        self.shared.weight = self.words.weight
        self.bag = nn.EmbeddingBag(ROWS, WIDTH, sparse=sparse, mode="sum")
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, indices):
        first, second, third = indices
        seen = self.words(first) * self.context(second) + self.shared(third)
        return self.head(torch.tanh(seen + self.bag(input=indices.T))).squeeze(1)


class Run:
    """A training run, on the same data whether its gradients are sparse or not."""

    def __init__(self, kind, penalty, *, sparse, model=Bags, dtype=torch.float64, followed=True, **options):
        torch.manual_seed(0)
        self.model = model(sparse).to(dtype)
        self.embeddings = [m.weight for m in self.model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        rest = [p for p in self.model.parameters() if not any(p is e for e in self.embeddings)]
        self.embeddings = list(dict.fromkeys(self.embeddings))
        groups = [{"params": self.embeddings, "penalty": penalty}, {"params": rest}]
        self.optimizer = kind([group for group in groups if group["params"]], lr=0.2, **options)
        self.sparse, self.time, self.data = sparse, 0, torch.Generator().manual_seed(1)
        if sparse and followed:
            follow(self.optimizer, self.model)

    @property
    def group(self):
        return self.optimizer.param_groups[0]

    def loss(self, lowest=0):
        indices = torch.randint(lowest, ROWS, (3, 4), generator=self.data)
        target = torch.randn(4, generator=self.data, dtype=torch.float64).to(self.embeddings[0].dtype)
        return F.mse_loss(self.model(indices), target)

    def train(self, steps, change=lambda run: None, lowest=0):
        for _ in range(steps):
            change(self)
            self.optimizer.zero_grad()
            self.loss(lowest).backward()
            assert all(weight.grad.is_sparse == self.sparse for weight in self.embeddings)
            self.optimizer.step()
            self.time += 1
        return self

    def is_behind(self):
        return any(MISSED in state for state in self.optimizer.state.values())

    def weights(self):
        catch_up(self.optimizer)
        assert not self.is_behind()
        return [parameter.detach().clone() for parameter in self.model.parameters()]

    def states(self):
        state = self.optimizer.state_dict()["state"]
        return [value for key in state for _, value in sorted(state[key].items())]


def distance(first, second):
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(first, second, strict=True))


def assert_alike(sparse, dense, tolerance=1e-12):
    behind = [weight.detach().clone() for weight in sparse.embeddings]
    assert sparse.is_behind()
    assert distance(sparse.weights(), dense.weights()) < tolerance
    assert distance(sparse.states(), dense.states()) < tolerance if dense.states() else not sparse.states()
    # There was something to catch up with.
    assert distance(behind, sparse.embeddings) > 1e-4


def schedule(run):
    """The step size falls and rises and is 0 for a while; λ changes at every other step, and is 0 for a while."""
    t = run.time
    run.group["lr"] = 0.0 if 12 <= t < 14 else 0.1 * (1 + 3 * t % 5) / (1 + 0.05 * t)
    strength = run.group["penalty"]["strength"]
    factor = 0.0 if 8 <= t < 10 else 1 + t // 2 % 3
    if isinstance(strength, torch.Tensor):
        if t == 0:
            run.original = strength.clone()
        strength.copy_(run.original * factor)
    else:
        run.original = getattr(run, "original", strength)
        run.group["penalty"]["strength"] = run.original * factor


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_dense_run(kind, name):
    options = {"lr_decay": 0.01, "eps": 1e-3} if kind is ProxAdagrad else {}
    sparse, dense = (
        Run(kind, copy.deepcopy(PENALTIES[name]), sparse=sparse, **options).train(5, schedule)
        for sparse in (True, False)
    )
    assert_alike(sparse, dense)
    for run in (sparse, dense):
        run.train(20, schedule)
    assert distance(sparse.weights(), dense.weights()) < 1e-12


@pytest.mark.parametrize("name", ["L1", "rows"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_dense_run_has_zeros_of_its_own(kind, name):
    """Else that zeros agree would say nothing."""
    stronger = {"L1": L1(0.1), "rows": GroupL1(0.2 if kind is ProxAdagrad else 0.06)}[name]
    sparse, dense = (Run(kind, stronger, sparse=sparse).train(60) for sparse in (True, False))
    patterns = [[weight == 0 for weight in run.weights()] for run in (sparse, dense)]
    assert all(torch.equal(a, b) for a, b in zip(*patterns, strict=True))
    share = float(torch.cat([pattern.flatten() for pattern in patterns[1]]).double().mean())
    assert 0.05 < share < 0.95


@given(
    kind=st.sampled_from(KINDS),
    events=st.lists(
        st.tuples(
            st.sampled_from(["step", "step", "step", "λ", "lr", "no gradient", "penalty", "evaluate", "catch up"]),
            st.floats(0, 0.1),
            st.integers(0, len(PENALTIES) - 1),
        ),
        min_size=3,
        max_size=25,
    ),
)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_between_steps(kind, events):
    runs = [Run(kind, L1(0.05), sparse=sparse) for sparse in (True, False)]
    for run in runs:
        for what, number, which in events:
            if what == "λ":
                run.group["penalty"]["strength"] = number
            elif what == "lr":
                run.group["lr"] = 5 * number
            elif what == "penalty":
                run.group["penalty"] = list(PENALTIES.values())[which].specification()
            elif what == "no gradient":
                run.optimizer.zero_grad()
                run.optimizer.step()
            elif what == "evaluate":
                with torch.no_grad():
                    run.loss()
            elif what == "catch up":
                catch_up(run.optimizer)
            else:
                run.train(1)
    assert distance(runs[0].weights(), runs[1].weights()) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_a_forward_pass_gives_is_that_of_the_dense_run(kind):
    """Rows are up to date before they are read, not after."""
    sparse, dense = (Run(kind, L1(0.1), sparse=sparse).train(10) for sparse in (True, False))
    assert sparse.is_behind()
    for inference in (torch.no_grad, torch.inference_mode):
        with inference():
            assert abs(float(sparse.loss()) - float(dense.loss())) < 1e-12
    assert_alike(sparse.train(5), dense.train(5))


@pytest.mark.parametrize("penalty", [L1(0.05), SparseGroupL1(0.05)], ids=["L1", "sparse groups"])
@pytest.mark.parametrize("kind", KINDS)
def test_rounding_of_other_types(kind, penalty):
    """Half precision rounds at every step, which catching up does as well."""
    assert_alike(*(Run(kind, penalty, sparse=s, dtype=torch.float32).train(25) for s in (True, False)), 2e-5)
    weights = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    dense, lazy = (nn.Parameter(weights.clone()) for _ in range(2))
    optimizers = [kind([weight], lr=0.1, penalty=penalty) for weight in (dense, lazy)]
    for _ in range(12):
        dense.grad = torch.zeros_like(dense)
        lazy.grad = torch.sparse_coo_tensor(torch.zeros(1, 0).long(), lazy.new_zeros(0, WIDTH), lazy.shape)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(lazy.detach(), weights)
    catch_up(optimizers[1])
    assert torch.equal(lazy, dense)
    assert not torch.equal(lazy.detach(), weights)


@pytest.mark.parametrize("kind", KINDS)
def test_maximize(kind):
    assert_alike(*(Run(kind, L1(0.05), sparse=s, maximize=True).train(8) for s in (True, False)))


@dataclass(frozen=True, eq=False)
class AroundOne(Penalty):
    """λ‖w - 1‖₁, of whose prox 0 is no fixed point."""

    convex: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    strength: float
    scales: torch.Tensor | None = None

    def value(self, point, dim=None):
        terms = self.strength * (point - 1).abs()
        return terms.sum() if dim is None else terms.sum(dim)

    def proximal_map(self, point, step):
        return L1(self.strength).proximal_map(point - 1, step) + 1

    def subdiff_distance(self, point, gradient):
        return L1(self.strength).subdiff_distance(point - 1, gradient)

    def subgradient(self, point):
        return L1(self.strength).subgradient(point - 1)

    def lam_max(self, gradient_at_zero):
        return gradient_at_zero.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_of_a_users_own(kind):
    """Its prox may move weights that are 0 as far as it likes, also where no gradient has arrived yet."""
    runs = [Run(kind, AroundOne(0.1), sparse=sparse) for sparse in (True, False)]
    for run in runs:
        with torch.no_grad():
            for weight in run.embeddings:
                weight[::2] = 0
    assert_alike(*(run.train(9) for run in runs))
    with pytest.raises(ValueError, match="AroundOne ties rows together"):
        Run(kind, AroundOne(0.1, torch.ones(ROWS)), sparse=True).train(1)


def test_complex_weights_under_sgd():
    start = torch.randn(ROWS, WIDTH, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    for penalty in (L1(0.1), ElasticNet(0.1, complex_rule="components"), GroupL1(0.1)):
        dense, lazy = (nn.Parameter(start.clone()) for _ in range(2))
        optimizers = [ProxSGD([weight], lr=0.3, penalty=penalty) for weight in (dense, lazy)]
        for step in range(9):
            lazy.grad = torch.sparse_coo_tensor([[0, 1]], start[step : step + 2], start.shape)
            dense.grad = lazy.grad.to_dense()
            for optimizer in optimizers:
                optimizer.step()
        assert distance([torch.view_as_real(lazy.detach())], [torch.view_as_real(dense.detach())]) > 0.01
        catch_up(optimizers[1])
        assert distance([torch.view_as_real(lazy.detach())], [torch.view_as_real(dense.detach())]) < 1e-13


class Normed(nn.Module):
    """An embedding with a row that has no gradient, and rows that are scaled when they are read."""

    def __init__(self, sparse):
        super().__init__()
        self.words = nn.Embedding(ROWS, WIDTH, sparse=sparse, padding_idx=3, max_norm=1.2)

    def forward(self, indices):
        return self.words(indices).sum((0, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_norms_that_a_forward_pass_bounds(kind):
    sparse, dense = (Run(kind, L1(0.05), sparse=sparse, model=Normed).train(20) for sparse in (True, False))
    assert float(dense.embeddings[0].detach().norm(dim=1).max()) > 0.9
    assert_alike(sparse, dense)


class Tied(nn.Module):
    """A decoder that reads all rows of the weight which an embedding reads by row."""

    def __init__(self, sparse):
        super().__init__()
        del sparse
        self.embedding = nn.Embedding(ROWS, WIDTH, sparse=True)
        self.decoder = nn.Linear(WIDTH, ROWS, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, indices, decode):
        seen = self.embedding(indices)
        return self.decoder(seen).square().mean() if decode else seen.square().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_that_is_tied_to_an_embedding(kind):
    """Its gradient is dense, so the same parameter has a gradient of one kind and then of the other."""
    found = []
    for lazy in (True, False):
        torch.manual_seed(0)
        model = Tied(sparse=True).double()
        optimizer = kind(model.parameters(), lr=0.2, penalty=L1(0.1))
        if lazy:
            optimizer.follow(model)
        weight, layouts = model.embedding.weight, set()
        for step in range(12):
            optimizer.zero_grad()
            model(torch.tensor([step, step + 5]), decode=step % 4 == 3).backward()
            layouts.add(weight.grad.layout)
            if not lazy:
                weight.grad = weight.grad.to_dense()
            optimizer.step()
        assert layouts == {torch.strided, torch.sparse_coo}
        optimizer.step()
        optimizer.catch_up()
        found.append(weight.detach())
    assert distance(*([each] for each in found)) < 1e-13


@pytest.mark.parametrize("kind", KINDS)
def test_a_dense_gradient_of_a_few_rows_brings_the_others_up_to_date(kind):
    runs = [Run(kind, L1(0.1), sparse=sparse).train(6) for sparse in (True, False)]
    for run in runs:
        run.optimizer.zero_grad()
        run.loss().backward()
        for weight in run.embeddings:
            weight.grad = weight.grad.to_dense()
        run.optimizer.step()
    assert not runs[0].is_behind()
    assert distance(runs[0].weights(), runs[1].weights()) < 1e-13


@pytest.mark.parametrize("later", [None, L1(0.0), MCP(0.1)], ids=["no penalty", "λ = 0", "MCP"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_behind_when_the_penalty_changes(kind, later):
    def change(run):
        if run.time == 6:
            run.group["penalty"] = later

    sparse, dense = (Run(kind, L1(0.1), sparse=sparse).train(12, change) for sparse in (True, False))
    assert_alike(sparse, dense)


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_of_its_own_that_comes_later(kind):
    runs = [Run(kind, L1(0.1), sparse=sparse).train(6) for sparse in (True, False)]
    for run in runs:
        extra = nn.Embedding(ROWS, WIDTH, sparse=run.sparse).double()
        torch.manual_seed(5)
        nn.init.normal_(extra.weight)
        run.model.extra = extra
        run.optimizer.add_param_group({"params": [extra.weight], "penalty": GroupL1(0.1), "lr": 0.2})
        if run.sparse:
            run.optimizer.follow(run.model)
        for step in range(6):
            run.optimizer.zero_grad()
            (run.loss() + extra(torch.tensor([step, 1])).square().sum()).backward()
            run.optimizer.step()
    assert_alike(*runs)


def saved(run, model_first):
    buffer = io.BytesIO()
    parts = [run.model, run.optimizer] if model_first else [run.optimizer, run.model]
    torch.save([part.state_dict() for part in parts], buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    return loaded if model_first else loaded[::-1]


@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_has_missed_nothing(kind, model_first):
    dense = Run(kind, L1(0.1), sparse=False).train(20)
    first = Run(kind, L1(0.1), sparse=True).train(9)
    assert first.is_behind()
    states = saved(first, model_first)
    assert MISSED not in str(states[1])
    resumed = Run(kind, L1(0.7), sparse=True)
    for part, state in zip((resumed.model, resumed.optimizer), states, strict=True):
        part.load_state_dict(state)
    resumed.data.set_state(first.data.get_state())
    assert_alike(resumed.train(11), dense)
    assert_alike(first.train(11), dense)


@pytest.mark.parametrize("followed", [True, False])
@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_going_back_to_a_checkpoint_in_the_middle_of_a_run(kind, model_first, followed):
    """What is missed at that time belongs to weights that are given up."""
    run = Run(kind, L1(0.1), sparse=True, followed=followed)
    run.train(1)
    catch_up(run.optimizer)
    kept = copy.deepcopy((run.model.state_dict(), run.optimizer.state_dict()))
    before = run.weights()
    run.train(1)
    assert run.is_behind()
    parts = list(zip((run.model, run.optimizer), kept, strict=True))
    for part, state in parts if model_first else parts[::-1]:
        part.load_state_dict(state)
    assert not run.is_behind()
    assert distance(run.weights(), before) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_loaded_without_weights(kind):
    runs = [Run(kind, L1(0.1), sparse=sparse) for sparse in (True, False)]
    for run in runs:
        state = copy.deepcopy(run.train(3).optimizer.state_dict())
        run.train(4)
        assert run.is_behind() == run.sparse
        run.optimizer.load_state_dict(state)
        run.train(3)
    assert_alike(*runs)


def by_pickle(parts):
    return pickle.loads(pickle.dumps(parts))


@pytest.mark.parametrize("twin", [copy.deepcopy, by_pickle])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_have_missed_the_same(kind, twin):
    run = Run(kind, ElasticNet(0.1), sparse=True).train(9)
    kept = run.data.get_state()
    model, optimizer = twin((run.model, run.optimizer))
    assert run.is_behind()
    dense = Run(kind, ElasticNet(0.1), sparse=False).train(9)
    other = copy.copy(run)
    other.model, other.optimizer, other.data = model, optimizer, torch.Generator().manual_seed(0)
    other.embeddings = [model.words.weight, model.context.weight, model.bag.weight]
    other.data.set_state(kept)
    # A copy does not follow, and says so.
    with pytest.raises(ValueError, match=r"missed steps.*optimizer\.follow\(model\)"):
        other.train(1)
    other.data.set_state(kept)
    optimizer.follow(model)
    dense.train(5)
    assert_alike(other.train(5), dense)
    assert_alike(run.train(5), dense)  # the copy's steps have left it alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_the_model_alone_is_on_its_own(kind):
    run = Run(kind, L1(0.1), sparse=True).train(5)
    twin = copy.deepcopy(run.model)
    before = [weight.detach().clone() for weight in run.model.parameters()]
    twin(torch.arange(ROWS).reshape(3, -1))
    twin.state_dict()
    assert distance(before, list(run.model.parameters())) == 0
    assert distance(before, list(twin.parameters())) == 0


def plain(kind=ProxSGD, penalty=None, rows=6):
    weight = nn.Parameter(torch.linspace(-1, 1, rows * 2).reshape(rows, 2))
    return weight, kind([weight], lr=0.1, penalty=penalty or L1(0.1))


def give_gradient(weight, rows):
    weight.grad = torch.sparse_coo_tensor(torch.tensor([rows]), torch.ones(len(rows), 2), weight.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_without_hooks_a_gradient_at_rows_that_are_behind_is_refused_before_anything_changes(kind):
    weight, optimizer = plain(kind)
    for _ in range(3):
        give_gradient(weight, [1, 1, 2])  # never behind
        optimizer.step()
    before = copy.deepcopy((weight.detach(), optimizer.state[weight]))
    for layout in ("sparse", "dense"):
        give_gradient(weight, [2, 4])
        weight.grad = weight.grad.to_dense() if layout == "dense" else weight.grad
        with pytest.raises(ValueError, match=r"names 1 rows, such as 4, that have missed.*follow.*catch_up\(\) before"):
            optimizer.step()
        after = (weight.detach(), optimizer.state[weight])
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1][MISSED].seen, after[1][MISSED].seen)
        assert len(before[1][MISSED].events) == len(after[1][MISSED].events) == 3
        assert before[1].get("step") == after[1].get("step")
    optimizer.catch_up()
    give_gradient(weight, [2, 4])
    optimizer.step()


def test_a_functional_read_after_catching_up_is_the_dense_run():
    found = []
    for sparse in (True, False):
        weight, optimizer = plain()
        for step in range(6):
            optimizer.catch_up()
            optimizer.zero_grad()
            F.embedding(torch.tensor([step, 0]), weight, sparse=sparse).square().sum().backward()
            optimizer.step()
        optimizer.catch_up()
        found.append(weight.detach())
    assert distance(*([each] for each in found)) < 1e-6


def test_rows_that_another_process_names_are_brought_up_to_date(monkeypatch):
    """It had them up to date when it read them."""
    run = Run(ProxSGD, L1(0.1), sparse=True)
    run.train(3)
    weight = run.embeddings[0]
    rows = run.optimizer.state[weight][MISSED].behind()
    twin = copy.deepcopy((weight, run.optimizer))
    assert len(rows)
    for parameter in run.embeddings:
        parameter.grad = None
    weight.grad = torch.sparse_coo_tensor(rows[None, :1], torch.ones(1, WIDTH).double(), weight.shape)
    with pytest.raises(ValueError, match="missed steps"):
        run.optimizer.step()
    monkeypatch.setattr(row_steps, "_is_one_of_several", lambda: True)
    run.optimizer.step()
    run.optimizer.catch_up()
    # The same, by hand.
    twin[1].catch_up()
    twin[0].grad = weight.grad.clone()
    for parameter in twin[1].param_groups[0]["params"]:
        parameter.grad = weight.grad.clone() if parameter is twin[0] else None
    twin[1].step()
    twin[1].catch_up()
    assert distance([weight], [twin[0]]) < 1e-13


REFUSED = {
    "Adam": (ProxAdam, {}, L1(0.1), "this optimizer moves every coordinate"),
    "RMSprop": (ProxRMSprop, {}, L1(0.1), "this optimizer moves every coordinate"),
    "steady": (SteadySGD, {}, L1(0.1), "this optimizer moves every coordinate"),
    "steady Adagrad": (SteadyAdagrad, {}, L1(0.1), "this optimizer moves every coordinate"),
    "momentum": (ProxSGD, {"momentum": 0.9}, L1(0.1), "momentum is 0.9, which moves every coordinate"),
    "weight decay": (ProxSGD, {"weight_decay": 0.1}, L1(0.1), "weight_decay is 0.1, which moves"),
    "weight decay, Adagrad": (ProxAdagrad, {"weight_decay": 0.1}, L1(0.1), "weight_decay is 0.1, which moves"),
    "fused": (ProxSGD, {"fused": True}, L1(0.1), "fused is True, which torch does not offer"),
    "differentiable": (ProxAdagrad, {"differentiable": True}, L1(0.1), "differentiable is True"),
    "nuclear": (ProxSGD, {}, Nuclear(0.1), "Nuclear ties rows together"),
    "columns": (ProxAdagrad, {}, GroupL1(0.1, dim=1), "GroupL1 ties rows together"),
    "an index": (ProxSGD, {}, SparseGroupL1(0.1, index=[0, 0, 1, 1, 2, 2]), "SparseGroupL1 ties rows together"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_is_accepted(name):
    kind, options, penalty, reason = REFUSED[name]
    weight = nn.Parameter(torch.ones(3, 2))
    optimizer = kind([weight], lr=0.1, penalty=penalty, **options)
    state = {key: value.clone() for key, value in optimizer.state[weight].items()}
    give_gradient(weight, [1])
    with pytest.raises(
        ValueError, match=rf"layout torch.sparse_coo; {reason}.*SGD without momentum and by Adagrad.*dim=0"
    ):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3, 2))
    assert all(torch.equal(value, state[key]) for key, value in optimizer.state[weight].items())
    optimizer.param_groups[0]["penalty"]["strength"] = 0.0


def test_complex_weights_under_adagrad_are_refused():
    weight = nn.Parameter(torch.ones(3, 2, dtype=torch.complex64))
    optimizer = ProxAdagrad([weight], penalty=L1(0.1))
    weight.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2, dtype=torch.complex64), (3, 2))
    with pytest.raises(ValueError, match="complex numbers"):
        optimizer.step()


class Subclass(torch.optim.SGD):
    """Which `attach` gives hooks."""


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad, Subclass])
def test_an_optimizer_that_a_penalty_was_attached_to(kind):
    def attached(groups, **options):
        penalty = groups[0].pop("penalty")
        groups[1]["penalty"] = None
        return attach(kind(groups, **options), penalty)

    assert_alike(*(Run(attached, L1(0.1), sparse=sparse).train(9) for sparse in (True, False)))
    hooked = Run(attached, L1(0.1), sparse=True, followed=False)
    name = "nonsmooth.optim.follow" if kind is Subclass else "optimizer.follow"
    with pytest.raises(ValueError, match=name):
        hooked.train(9)


def test_following():
    run = Run(ProxSGD, L1(0.1), sparse=True)
    hooks = [dict(module._forward_pre_hooks) for module in run.model.modules()]
    follow(run.optimizer, run.model)
    assert [dict(module._forward_pre_hooks) for module in run.model.modules()] == hooks
    assert [len(each) for each in hooks] == [0, 1, 1, 1, 1, 0]
    for model in (nn.Linear(2, 2), nn.Embedding(3, 2), nn.Embedding(3, 2, sparse=True)):
        with pytest.raises(ValueError, match="nothing to follow"):
            follow(run.optimizer, model)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        follow(run.optimizer, "model")


def test_a_module_that_outlives_the_optimizer():
    run = Run(ProxSGD, L1(0.1), sparse=True).train(3)
    run.optimizer.zero_grad()
    del run.optimizer
    run.model(torch.arange(ROWS).reshape(3, -1))
    run.model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_what_reads_the_weights_has_them_up_to_date(kind):
    sparse, dense = (Run(kind, L1(0.1), sparse=sparse).train(9) for sparse in (True, False))
    indices, expected = torch.arange(12).reshape(3, 4), dense.weights()

    def closure(run):
        return lambda: run.model(indices).square().mean()

    states = sparse.data.get_state()
    certificates = [certify(run.optimizer, closure(run)) for run in (sparse, dense)]
    assert abs(certificates[0].objective - certificates[1].objective) < 1e-12
    assert certificates[0].zeros == certificates[1].zeros
    assert certificates[0].notes == certificates[1].notes
    assert distance(list(sparse.model.parameters()), expected) < 1e-12
    assert states.equal(sparse.data.get_state())
    averages = [averaged(run.model, run.optimizer) for run in (sparse.train(3), dense.train(3))]
    assert distance(list(averages[0].module.parameters()), dense.weights()) < 1e-12
    for run, average in zip((sparse, dense), averages, strict=True):
        for _ in range(6):
            run.train(2)
            average.update_parameters(run.model)
    assert distance(list(averages[0].buffers()), list(averages[1].buffers())) < 1e-12
    assert distance(list(averages[0].sparse().parameters()), list(averages[1].sparse().parameters())) < 1e-12
    assert_alike(sparse.train(3), dense.train(3))


def test_catching_up_is_no_write_of_somebody_else_but_theirs_stays_one():
    run = Run(ProxSGD, L1(0.1), sparse=True).train(5)

    def notes():
        return certify(run.optimizer, lambda: run.model(torch.arange(12).reshape(3, 4)).sum()).notes

    assert run.is_behind()
    assert not any("written to" in note for note in notes())
    run.train(3)
    with torch.no_grad():
        run.embeddings[1].add_(1)
    assert run.is_behind()
    assert any("written to" in note and "0.1" in note for note in notes())


@pytest.mark.parametrize("name", ["L1", "MCP", "L1, λ by row"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_on_what_is_remembered(kind, name, monkeypatch):
    for module in (row_steps, missed_steps):
        monkeypatch.setattr(module, "LONGEST", 4)
    monkeypatch.setattr(missed_steps, "AT_ONCE", 4 * WIDTH)
    sparse, dense = (Run(kind, PENALTIES[name], sparse=sparse) for sparse in (True, False))
    lengths = set()
    for _ in range(10):
        sparse.train(1)
        states = [sparse.optimizer.state.get(weight, {}) for weight in sparse.embeddings]
        lengths |= {len(state[MISSED].events) if MISSED in state else 0 for state in states}
    assert lengths == {0, 1, 2, 3}
    assert_alike(sparse, dense.train(10))


def test_one_copy_of_numbers_by_row_is_kept():
    """Of a λ for each coordinate that changes at every step there would be a thousand."""
    strength, weights = torch.full((ROWS, 1), 0.1).double(), torch.rand(ROWS, WIDTH).double()
    run = Run(ProxSGD, L1(strength, weights=weights), sparse=True)

    def copies():
        missed = [state[MISSED] for state in run.optimizer.state.values()]
        return {len({id(event.penalty.strength) for event in each.events} | {0}) - 1 for each in missed}, {
            len({id(event.penalty.weights) for event in each.events}) for each in missed
        }

    run.train(3)
    assert copies() == ({1}, {1})
    assert {len(state[MISSED].events) for state in run.optimizer.state.values()} == {3}
    for _ in range(3):
        strength.mul_(2)
        run.train(1)
        assert copies() == ({1}, {1})
    run.group["penalty"]["strength"] = 0.3
    run.train(2)
    assert {len(state[MISSED].events) for state in run.optimizer.state.values()} == {3}
