"""Steady optimisers: the recursion, its fixed points, its memory, and a support that minibatch noise does not move."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from sklearn.linear_model import Lasso

from nonsmooth.optim import (
    ProxAdam,
    ProxSGD,
    SteadyAdagrad,
    SteadyAdam,
    SteadyAdamW,
    SteadyNAdam,
    SteadyRMSprop,
    SteadySGD,
    certify,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, TransformedL1

GENERATOR = torch.Generator().manual_seed(5)
ROWS, COLUMNS, LAM = 80, 20, 0.2
X = torch.randn(ROWS, COLUMNS, generator=GENERATOR, dtype=torch.float64)
Y = X[:, :4] @ torch.tensor([2.0, -1.5, 1.0, -0.7], dtype=torch.float64)
Y = Y + 0.5 * torch.randn(ROWS, generator=GENERATOR, dtype=torch.float64)
BEST = torch.from_numpy(Lasso(LAM, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X.numpy(), Y.numpy()).coef_)

KINDS = {
    "SGD": (SteadySGD, {"lr": 0.1}),
    "SGD, momentum": (SteadySGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "Adam": (SteadyAdam, {"lr": 0.02}),
    "AdamW": (SteadyAdamW, {"lr": 0.02, "weight_decay": 0.0}),
    "NAdam": (SteadyNAdam, {"lr": 0.02}),
    "RMSprop": (SteadyRMSprop, {"lr": 0.02, "eps": 1e-2}),
    "Adagrad": (SteadyAdagrad, {"lr": 0.5}),
}
every = pytest.mark.parametrize("name", KINDS)


def make(name, weight, penalty=None, **options):
    kind, own = KINDS[name]
    return kind([weight], penalty=penalty, **own, **options)


def feed(optimizer, weight, gradients):
    """The weights after each of the gradients."""
    path = []
    for gradient in gradients:
        weight.grad = gradient.to(weight.dtype)
        optimizer.step()
        path.append(weight.detach().clone())
    return path


def draws(steps, seed=0, size=8):
    return torch.randn(steps, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start(dtype=torch.float64, size=8):
    return torch.nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64).to(dtype))


@every
def test_a_full_batch_ends_at_the_solution_of_coordinate_descent(name):
    weight = torch.nn.Parameter(torch.full((COLUMNS,), 0.5, dtype=torch.float64))
    optimizer = make(name, weight, L1(LAM))
    for _ in range(2000):
        weight.grad = X.T @ (X @ weight.detach() - Y) / ROWS
        optimizer.step()
    assert ((weight == 0) == (BEST == 0)).all()
    assert (weight - BEST).abs().max() < 1e-7


def test_the_step_is_the_recursion_written_out():
    """SGD and the L1 norm, one weight at a time, by the formulas of dual averaging with a mean that forgets."""
    alpha, lam, p = 0.3, 0.5, 2.0
    weight = start()
    path = feed(SteadySGD([weight], lr=alpha, penalty=L1(lam), forgetting=p), weight, draws(30))
    for j in range(8):
        w, mean = float(start().detach()[j]), 0.0
        for t, g in enumerate(draws(30)[:, j].tolist(), start=1):
            c = (p + 1) / (t + p)
            z = w - alpha * g
            mean = (1 - c) * mean + c * z / alpha
            w = 0.0 if abs(mean) <= lam else math.copysign(max(abs(z) - alpha * lam, 0.0), z)
            mean = max(-lam, min(lam, mean))
            assert float(path[t - 1][j]) == pytest.approx(w, abs=1e-12)


@pytest.mark.parametrize("p", [0.0, 1.0, 4.0])
def test_a_weight_at_zero_leaves_it_when_its_mean_gradient_exceeds_the_threshold(p):
    """The mean in closed form: gradient i has weight proportional to i(i+1)…(i+p-1), for whole p."""
    lam, quiet, loud, quiet_steps = 1.0, 0.5, 2.0, 40
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = SteadySGD([weight], lr=0.1, penalty=L1(lam), forgetting=p)
    gradients = torch.tensor([[quiet]] * quiet_steps + [[loud]] * 200, dtype=torch.float64)
    path = feed(optimizer, weight, gradients)
    left = next(i for i, w in enumerate(path) if w != 0) + 1

    def mean(t):
        weights = [math.prod(range(i, i + int(p))) for i in range(1, t + 1)]
        return sum(w * float(g) for w, g in zip(weights, gradients[:, 0], strict=False)) / sum(weights)

    assert mean(left) > lam
    assert mean(left - 1) <= lam
    # Without memory one such gradient is enough.
    plain = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    assert feed(ProxSGD([plain], lr=0.1, penalty=L1(lam)), plain, gradients)[quiet_steps] != 0


@every
def test_without_a_penalty_it_is_the_parent_bit_for_bit(name):
    kind, options = KINDS[name]
    weight, other = start(), start()
    path = feed(make(name, weight, L1(0.0)), weight, draws(50))
    assert torch.equal(torch.stack(path), torch.stack(feed(kind.parent([other], **options), other, draws(50))))


@every
def test_a_weight_stops_at_zero_where_it_would_cross_it(name):
    """A gradient of size G takes the mean from λ beyond -λ only if c·G > λ(2 - c): here up to step 24.

    Up to step 50 an adaptive optimiser's limit is stricter.
    """
    gradients = 6 * torch.rand(90, 200, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 3
    weight = start(size=200)
    path = torch.stack(feed(make(name, weight, L1(0.3)), weight, gradients))[50:]
    assert (path[1:] * path[:-1] >= 0).all()
    assert 0 < int((path == 0).sum()) < path.numel()


def test_the_plain_step_does_cross_zero():
    gradients = 6 * torch.rand(60, 200, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 3
    weight = start(size=200)
    path = torch.stack(feed(ProxSGD([weight], lr=0.1, penalty=L1(0.3)), weight, gradients))[24:]
    assert (path[1:] * path[:-1] < 0).any()


def noisy(kind, seed, steps=1200, **options):
    """Wrong entries and changes of the support over the last tenth of a run on four rows at a time."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.nn.Parameter(torch.zeros(COLUMNS, dtype=torch.float64))
    optimizer = kind([weight], penalty=L1(LAM), **options)
    wrong, changes, before = 0, 0, None
    for step in range(steps):
        rows = torch.randint(ROWS, (4,), generator=generator)
        weight.grad = X[rows].T @ (X[rows] @ weight.detach() - Y[rows]) / 4
        optimizer.step()
        if step >= steps - steps // 10:
            wrong += int(((weight != 0) != (BEST != 0)).sum())
            if before is not None:
                changes += int((weight.detach().sign() != before).sum())
            before = weight.detach().sign()
    return wrong / (steps // 10), changes / (steps // 10)


@pytest.mark.parametrize(
    ("steady", "plain", "options"),
    [(SteadySGD, ProxSGD, {"lr": 0.01, "momentum": 0.5}), (SteadyAdam, ProxAdam, {"lr": 0.005})],
)
def test_the_support_is_right_and_at_rest_where_that_of_the_plain_step_is_not(steady, plain, options):
    wrong, changes = noisy(steady, 0, **options)
    wrong_without, changes_without = noisy(plain, 0, **options)
    assert wrong <= 0.1
    assert wrong_without >= 0.3
    assert changes <= changes_without / 10


@pytest.mark.parametrize(
    "penalty",
    [ElasticNet(0.2, 0.5), MCP(0.2), SCAD(0.2), TransformedL1(0.2), L1(0.2, weights=torch.tensor([2.0, 0.5] * 4))],
)
def test_other_penalties_end_at_a_stationary_point(penalty):
    quadratic = torch.diag(torch.linspace(0.5, 2, 8, dtype=torch.float64))
    linear = torch.tensor([1.5, -1, 0.3, 0.05, -0.1, 0.7, 2, -0.6], dtype=torch.float64)
    weight = start()
    optimizer = SteadySGD([weight], lr=0.3, penalty=penalty)

    def closure():
        optimizer.zero_grad()
        loss = weight @ quadratic @ weight / 2 - linear @ weight
        loss.backward()
        return loss

    for _ in range(400):
        optimizer.step(closure)
    assert penalty.subdiff_distance(weight.detach(), quadratic @ weight.detach() - linear).max() < 1e-8
    assert 1 <= int((weight == 0).sum()) <= 5
    assert certify(optimizer, closure).converged


@every
def test_a_run_that_is_saved_and_loaded_goes_on_as_if_never_stopped(name):
    weight = start(torch.float32)  # torch casts NAdam's float32 numbers to the dtype of the weights when it loads them
    optimizer = make(name, weight, L1(0.3), forgetting=1.0)
    feed(optimizer, weight, draws(20))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    other = torch.nn.Parameter(weight.detach().clone())
    resumed = make(name, other, L1(0.1))
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert resumed.param_groups[0]["forgetting"] == 1.0
    more = draws(20, seed=1)
    assert torch.equal(feed(optimizer, weight, more)[-1], feed(resumed, other, more)[-1])


@every
def test_copies_and_pickles_go_on_alike(name):
    weight = start()
    optimizer = make(name, weight, L1(0.3))
    feed(optimizer, weight, draws(20))
    more = draws(20, seed=1)
    duplicates = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    expected = feed(optimizer, weight, more)[-1]
    for duplicate in duplicates:
        assert torch.equal(feed(duplicate, duplicate.param_groups[0]["params"][0], more)[-1], expected)


def test_the_forgetting_asked_for_outlives_copies_and_checkpoints_without_one():
    weight = start()
    optimizer = make("Adam", weight, L1(0.3), forgetting=1.0)
    for duplicate in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        duplicate.add_param_group({"params": [start()]})
        assert [group["forgetting"] for group in duplicate.param_groups] == [1.0, 1.0]
    plain = torch.optim.Adam([weight])
    feed(plain, weight, draws(3))
    optimizer.param_groups[0]["forgetting"] = 2.0
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["forgetting"] == 2.0
    optimizer.add_param_group({"params": [start()]})
    assert optimizer.param_groups[1]["forgetting"] == 1.0


def test_the_memory_of_half_precision_weights_is_kept_in_float32_in_checkpoints_too():
    weight = start(torch.bfloat16)
    optimizer = SteadySGD([weight], lr=0.05, penalty=L1(0.3))
    feed(optimizer, weight, draws(30))
    other = torch.nn.Parameter(weight.detach().clone())
    resumed = SteadySGD([other], lr=0.05, penalty=L1(0.3))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.state[other]["pull"].dtype == torch.float32
    assert torch.equal(resumed.state[other]["pull"], optimizer.state[weight]["pull"])
    assert torch.equal(feed(optimizer, weight, draws(9, 1))[-1], feed(resumed, other, draws(9, 1))[-1])


def test_a_step_of_size_zero_leaves_the_weights_alone():
    weight = start()
    optimizer = SteadyAdam([weight], lr=0.0, penalty=L1(0.3))
    feed(optimizer, weight, draws(5))
    assert torch.equal(weight, start())
    optimizer.param_groups[0]["lr"] = 0.05
    assert torch.isfinite(torch.stack(feed(optimizer, weight, draws(50)))).all()
    assert (weight == 0).any()


def test_nan_comes_from_nan_only():
    weight = start()
    gradients = draws(5)
    gradients[2, 3] = math.nan
    feed(SteadySGD([weight], lr=0.05, penalty=L1(0.3)), weight, gradients)
    assert torch.isnan(weight).tolist() == [j == 3 for j in range(8)]


@pytest.mark.parametrize("kind", [SteadyAdam, SteadySGD])
def test_an_overflow_under_a_gradient_scaler_leaves_weights_and_memory_alone(kind):
    weight = start(torch.float32)
    optimizer = kind([weight], lr=0.05, penalty=L1(0.3), fused=True)
    feed(optimizer, weight, draws(10))
    before, pull = weight.detach().clone(), optimizer.state[weight]["pull"].clone()
    scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    optimizer.zero_grad()
    scaler.scale((weight**2).sum() * 1e10).backward()
    scaler.step(optimizer)
    assert torch.equal(weight, before)
    assert torch.equal(optimizer.state[weight]["pull"], pull)


@pytest.mark.parametrize("penalty", [L0(0.1), GroupL1(0.1), Nuclear(0.1)])
def test_a_penalty_without_a_threshold_at_zero_is_refused(penalty):
    weight = torch.nn.Parameter(torch.ones(3, 2))
    with pytest.raises(ValueError, match=f"penalty is {type(penalty).__name__}; a steady optimiser accepts"):
        SteadyAdam([weight], penalty=penalty)
    optimizer = SteadyAdam([weight], penalty=L1(0.1))
    with pytest.raises(ValueError, match=type(penalty).__name__):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3, 2))], "penalty": penalty})
    assert len(optimizer.param_groups) == 1


def test_bad_options_are_refused():
    weight = start()
    with pytest.raises(ValueError, match="forgetting is -1"):
        SteadySGD([weight], lr=0.1, penalty=L1(0.1), forgetting=-1.0)
    with pytest.raises(ValueError, match="forgetting is -2"):
        SteadySGD([{"params": [weight], "forgetting": -2.0}], lr=0.1, penalty=L1(0.1))
    with pytest.raises(ValueError, match="differentiable is True"):
        SteadySGD([weight], lr=0.1, penalty=L1(0.1), differentiable=True)
    with pytest.raises(ValueError, match="complex64"):
        SteadySGD([torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))], lr=0.1, penalty=L1(0.1))
