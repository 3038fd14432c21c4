"""A target for the share of zeros: reached under every optimizer and penalty, kept, saved, and said where it is not."""

import copy
import io
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import nonsmooth as ns
from nonsmooth.optim import SparsityTarget, attach, averaged, certify, penalize

STEPS = 240
RATES = {"SGD": 0.1, "Adagrad": 0.03, "RMSprop": 1e-3}


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    inputs, labels = datasets.load_digits(return_X_y=True)
    return torch.tensor(inputs, dtype=torch.float32) / 16, torch.tensor(labels)


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip


def optimizer_of(name, model, penalty, **options):
    rate = next((rate for kind, rate in RATES.items() if kind in name), 3e-3)
    return getattr(ns, name)(penalize(model, penalty), lr=rate, **options)


def batches(digits, first, last):
    inputs, labels = digits
    for step in range(first, last):
        rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(step))[:64]
        yield step, inputs[rows], labels[rows]


def train(model, optimizer, digits, first=0, last=STEPS, *, cosine=True, watch=None):
    rates = [group["lr"] for group in optimizer.param_groups] if first == 0 else None
    for step, inputs, labels in batches(digits, first, last):
        if cosine and rates:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * step / STEPS)) / 2
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        if watch:
            watch(step)


def zeros(model):
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


COMBINATIONS = [
    ("SteadyAdam", ns.L1(1.0), perceptron, 0.9, 0.6),
    ("SteadyAdam", ns.TransformedL1(1.0, shape=0.1), convolutional, 0.95, 0.6),
    ("SteadySGD", ns.MCP(1.0), perceptron, 0.8, 0.6),
    ("SteadyAdamW", ns.ElasticNet(1.0), convolutional, 0.9, 0.5),
    ("ProxAdam", ns.L1(1.0), convolutional, 0.98, 0.6),
    ("ProxSGD", ns.L1(1.0), perceptron, 0.9, 0.7),
    ("ProxRMSprop", ns.SCAD(1.0), perceptron, 0.7, 0.6),
    ("ProxAdagrad", ns.L0(1.0), perceptron, 0.9, 0.6),
    ("ProxNAdam", ns.L1(1.0, weights=torch.tensor(2.0)), convolutional, 0.8, 1.0),
    ("ProxAdam", ns.GroupL1(1.0), convolutional, 0.5, 0.6),
    ("ProxSGD", ns.SparseGroupL1(1.0), perceptron, 0.4, 0.6),
    ("ProxSGD", ns.Nuclear(1.0), perceptron, 0.6, 0.6),
]


@pytest.mark.parametrize(("name", "penalty", "make", "sparsity", "release"), COMBINATIONS)
def test_the_share_of_zeros_arrives(digits, name, penalty, make, sparsity, release):
    model = make()
    optimizer = optimizer_of(name, model, penalty)
    target = SparsityTarget(optimizer, sparsity, STEPS, release=release)
    before = cross_entropy(model(digits[0]), digits[1]).item()
    train(model, optimizer, digits)
    units = sum(penalty.units(weight.shape) for weight in model.parameters() if weight.ndim > 1)
    assert abs(target.share - sparsity) <= max(1e-3, 0.5 / units)
    assert target.released
    assert target.strength == 0
    assert cross_entropy(model(digits[0]), digits[1]).item() < before
    if penalty.separable:
        assert zeros(model) == pytest.approx(target.share)


SETTLING = [
    ("SteadyAdam", ns.L1(1.0), 0.9),
    ("SteadyAdam", ns.TransformedL1(1.0, shape=0.1), 0.9),
    ("ProxAdam", ns.L1(1.0), 0.8),
    ("SteadySGD", ns.L1(1.0), 0.8),
]


@pytest.mark.parametrize(("name", "penalty", "sparsity"), SETTLING)
def test_without_a_release_lambda_settles_and_is_certified(digits, name, penalty, sparsity):
    model = convolutional()
    optimizer = optimizer_of(name, model, penalty)
    target = SparsityTarget(optimizer, sparsity, STEPS, release=None)
    train(model, optimizer, digits)
    assert abs(target.share - sparsity) <= 1e-3
    assert not target.released
    assert target.strength == optimizer.param_groups[0]["penalty"]["strength"] > 0
    certificate = certify(optimizer, lambda: cross_entropy(model(digits[0]), digits[1]))
    assert certificate.zeros == round(target.share * certificate.penalized)
    assert f"{target.share:.1%}" in str(certificate)
    assert f"λ = {target.strength:.4g}" in str(certificate)


def test_a_convex_problem_ends_at_the_solution_for_the_lambda_that_it_settles_at():
    """The oracle is scikit-learn's coordinate descent at that λ."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(80, 40, generator=generator, dtype=torch.float64)
    response = data @ torch.randn(40, generator=generator, dtype=torch.float64)
    weight = torch.zeros(40, dtype=torch.float64, requires_grad=True)
    optimizer = ns.ProxSGD([weight], lr=0.2, penalty=ns.L1(1.0))

    def closure():
        optimizer.zero_grad()
        loss = (response - data @ weight).square().sum() / 160
        loss.backward()
        return loss

    target = SparsityTarget(optimizer, 0.5, 4000, release=None)
    for _ in range(4000):
        optimizer.step(closure)
    assert target.share == 0.5
    assert certify(optimizer, closure).relative_residual < 0.02
    lasso = linear_model.Lasso(alpha=target.strength, fit_intercept=False, tol=1e-12, max_iter=100_000)
    coefficients = torch.tensor(lasso.fit(data.numpy(), response.numpy()).coef_)
    assert torch.allclose(weight.detach(), coefficients, atol=0.02 * float(coefficients.abs().max()))
    assert (coefficients == 0).double().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}])
def test_zeros_stay_after_the_release(digits, options):
    model = convolutional()
    optimizer = optimizer_of("ProxSGD", model, ns.L1(1.0), **options)
    target = SparsityTarget(optimizer, 0.9, STEPS)
    supports = []

    def watch(step):
        if target.released:
            supports.append([weight.detach() != 0 for weight in model.parameters() if weight.ndim > 1])

    train(model, optimizer, digits, last=STEPS + 20, cosine=False, watch=watch)
    assert len(supports) == STEPS - round(0.6 * STEPS) + 21
    assert all(torch.equal(a, b) for each in supports for a, b in zip(each, supports[0], strict=True))


@pytest.mark.parametrize(
    ("name", "penalty", "stop", "release"),
    [
        ("SteadyAdam", ns.L1(1.0), 1, 0.6),
        ("SteadyAdam", ns.L1(1.0), 100, 0.6),
        ("SteadyAdam", ns.L1(1.0), 144, 0.6),
        ("SteadyAdam", ns.L1(1.0), 200, 0.6),
        ("SteadyAdam", ns.L1(1.0), 200, None),
        ("ProxSGD", ns.GroupL1(1.0), 100, 0.6),
        ("ProxSGD", ns.GroupL1(1.0), 145, None),
    ],
)
def test_a_resumed_run_goes_on_bit_for_bit(digits, name, penalty, stop, release):
    def begin():
        model = convolutional()
        optimizer = optimizer_of(name, model, penalty)
        return model, optimizer, SparsityTarget(optimizer, 0.7, STEPS, release=release)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a release so few groups may miss
        whole, optimizer, target = begin()
        train(whole, optimizer, digits, cosine=False)
        first, before, _ = begin()
        train(first, before, digits, last=stop, cosine=False)
        file = io.BytesIO()
        torch.save([first.state_dict(), before.state_dict()], file)
        train(first, before, digits, first=stop, last=stop + 3, cosine=False)  # what was saved stays as it was
        file.seek(0)
        weights, state = torch.load(file, weights_only=True)
        resumed, after, again = begin()
        resumed.load_state_dict(weights)
        after.load_state_dict(state)
        assert again.step == stop
        train(resumed, after, digits, first=stop, cosine=False)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert str(again) == str(target)


@pytest.mark.parametrize("strength", [0.0, 1e-6, 10.0])
def test_the_lambda_of_the_penalty_is_no_setting_but_ratios_are(digits, strength):
    def run(first, second):
        model = perceptron()
        groups = [
            {"params": [model[0].weight], "penalty": ns.L1(first)},
            {"params": [model[2].weight], "penalty": ns.L1(second)},
        ]
        optimizer = ns.SteadyAdam(groups, lr=3e-3)
        target = SparsityTarget(optimizer, 0.8, STEPS)
        train(model, optimizer, digits, last=100, cosine=False)
        found = [group["penalty"]["strength"] for group in optimizer.param_groups]
        assert target.strength == pytest.approx(max(found), rel=1e-6)
        assert max(found) > 0
        return model, found

    model, found = run(strength, strength)
    reference, same = run(1.0, 1.0)
    assert found == pytest.approx(same, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), reference.parameters(), strict=True))
    _, (first, second) = run(1.0, 0.25)
    assert second == pytest.approx(first / 4)


def test_layers_have_targets_of_their_own(digits):
    model = perceptron()
    optimizer = optimizer_of("SteadyAdam", model, ns.L1(1.0))
    first = SparsityTarget(optimizer, 0.9, STEPS, over=["0.*"])
    second = SparsityTarget(optimizer, 0.5, STEPS, over=["2.*"])
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2, 1]
    train(model, optimizer, digits)
    assert float((model[0].weight == 0).double().mean()) == pytest.approx(0.9, abs=1e-3)
    assert float((model[2].weight == 0).double().mean()) == pytest.approx(0.5, abs=1e-3)
    assert (first.released, second.released) == (True, True)
    assert (model[0].bias != 0).all()


def test_a_target_that_cannot_be_reached_is_said(digits):
    model = perceptron()
    optimizer = optimizer_of("SteadyAdam", model, ns.L1(1.0))
    SparsityTarget(optimizer, 0.5, 20, release=None)
    model[0].weight.requires_grad_(False)  # it never moves, and holds most of the weights
    with pytest.warns(UserWarning, match=r"sparsity is 50\.00%, but .*% of 2,960 weights are zero after 20 steps"):
        train(model, optimizer, digits, last=20)


def test_groups_do_not_die_together(digits):
    """All groups of a layer are alike, so that a λ that shrinks all of them would end in a dead network."""
    model = perceptron()
    optimizer = optimizer_of("ProxAdam", model, ns.GroupL1(1.0))
    SparsityTarget(optimizer, 0.4, STEPS)
    train(model, optimizer, digits)
    assert (model(digits[0]).argmax(1) == digits[1]).float().mean() > 0.8


def test_hooks_do_for_an_optimizer_of_a_users_own_what_they_do_for_ours(digits):
    class TheirAdam(torch.optim.Adam):
        pass

    def run(make):
        model = perceptron()
        optimizer = make(model)
        SparsityTarget(optimizer, 0.8, STEPS)
        train(model, optimizer, digits)
        return model

    ours = run(lambda model: optimizer_of("ProxAdam", model, ns.L1(1.0)))
    theirs = run(lambda m: attach(TheirAdam(m.parameters(), lr=3e-3), ns.L1(1.0), model=m))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_the_certificate_is_about_the_weights_that_are_left(digits):
    model = perceptron()
    optimizer = optimizer_of("ProxAdam", model, ns.L1(1.0))
    SparsityTarget(optimizer, 0.8, 60)
    train(model, optimizer, digits, last=60, cosine=False)
    found = certify(optimizer, lambda: cross_entropy(model(digits[0]), digits[1]))
    gradients = torch.autograd.grad(cross_entropy(model(digits[0]), digits[1]), list(model.parameters()))
    largest = max(
        float(gradient[parameter != 0].abs().max())
        for gradient, parameter in zip(gradients, model.parameters(), strict=True)
    )
    assert found.residual == pytest.approx(largest, rel=1e-4)
    assert any("what is zero stays zero" in note for note in found.notes)
    twin, copied = copy.deepcopy((model, optimizer))
    notes = certify(copied, lambda: cross_entropy(twin(digits[0]), digits[1])).notes
    assert any("nothing acts upon it" in note for note in notes)


def test_an_average_has_the_zeros_of_the_release(digits):
    model = perceptron()
    optimizer = optimizer_of("SteadyAdam", model, ns.L1(1.0))
    SparsityTarget(optimizer, 0.8, STEPS)
    average = averaged(model, optimizer, decay=0.99)
    train(model, optimizer, digits, watch=lambda step: average.update_parameters(model))
    assert zeros(average.module) < zeros(model)
    assert zeros(average.sparse()) == zeros(model) == pytest.approx(0.8, abs=1e-3)


def test_the_rank_is_kept_and_the_certificate_is_about_matrices_of_that_rank():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(12, 8))
    optimizer = ns.ProxSGD([weight], lr=0.1, penalty=ns.Nuclear(1.0))
    target = SparsityTarget(optimizer, 0.5, 300)
    goal = torch.randn(12, 8)
    for _ in range(300):
        weight.grad = weight.detach() - goal
        optimizer.step()
        if target.released:
            assert torch.linalg.matrix_rank(weight.detach(), rtol=1e-5) == 4
    found = certify(optimizer, lambda: (weight - goal).square().sum() / 2)
    assert found.residual < 1e-3 * float((weight.detach() - goal).norm())
    # At such a point the matrix is a sum of singular parts of the goal.
    left, _, right = torch.linalg.svd(weight.detach())
    assert torch.allclose(left[:, :4].T @ goal @ right[:4].T, left[:, :4].T @ weight.detach() @ right[:4].T, atol=1e-2)


REFUSED = [
    ({"sparsity": 1.0}, "sparsity is 1.0"),
    ({"sparsity": -0.1}, "sparsity is -0.1"),
    ({"sparsity": float("nan")}, "sparsity is nan"),
    ({"steps": 0}, "steps is 0"),
    ({"steps": 10.5}, "steps is 10.5"),
    ({"sparsity": "0.9"}, "sparsity is '0.9'"),
    ({"release": "0.6"}, "release is '0.6'"),
    ({"over": []}, "over is empty"),
    ({"release": 0.0}, "release is 0.0"),
    ({"release": 1.5}, "release is 1.5"),
    ({"over": ["head.*"]}, "matches none of the parameters with a penalty: 0.weight, 2.weight"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_bad_arguments_are_refused_before_anything_changes(arguments, message):
    optimizer = optimizer_of("ProxAdam", perceptron(), ns.L1(0.3))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        SparsityTarget(optimizer, **{"sparsity": 0.5, "steps": 10, **arguments})
    assert optimizer.state_dict() == before
    assert not optimizer._optimizer_step_post_hooks


def test_optimizers_that_cannot_have_one_are_refused(digits):
    model = perceptron()
    with pytest.raises(ValueError, match="takes no prox"):
        SparsityTarget(torch.optim.Adam(model.parameters()), 0.5, 10)
    with pytest.raises(ValueError, match="no parameter with a penalty"):
        SparsityTarget(ns.ProxAdam(model.parameters()), 0.5, 10)
    with pytest.raises(ValueError, match="RDA computes weights anew"):
        SparsityTarget(ns.RDA(penalize(model, ns.L1(1.0))), 0.5, 10)
    with pytest.raises(TypeError, match="over is the string"):
        SparsityTarget(optimizer_of("ProxAdam", model, ns.L1(1.0)), 0.5, 10, over="0.*")
    optimizer = optimizer_of("ProxAdam", model, ns.L1(1.0))
    SparsityTarget(optimizer, 0.5, 10)
    with pytest.raises(ValueError, match=r"has a sparsity target for 0\.weight, 2\.weight already"):
        SparsityTarget(optimizer, 0.6, 10)
    scheduled = optimizer_of("ProxAdam", model, ns.L1(1.0))
    torch.optim.lr_scheduler.StepLR(scheduled, 10)
    with pytest.raises(ValueError, match="build the target first"):
        SparsityTarget(scheduled, 0.5, 10, over=["0.*"])


def test_a_state_of_other_settings_is_refused_and_one_without_begins(digits):
    model = perceptron()
    plain = optimizer_of("ProxAdam", model, ns.L1(0.3))
    optimizer = optimizer_of("ProxAdam", model, ns.L1(1.0))
    target = SparsityTarget(optimizer, 0.5, 10)
    other = optimizer_of("ProxAdam", model, ns.L1(1.0))
    SparsityTarget(other, 0.6, 10)
    with pytest.raises(ValueError, match="accepted is the same"):
        optimizer.load_state_dict(other.state_dict())
    train(model, optimizer, digits, last=5)
    optimizer.load_state_dict(plain.state_dict())
    assert (target.step, target.strength) == (0, 0.0)
    train(model, optimizer, digits, last=10)
    assert target.share == pytest.approx(0.5, abs=1e-3)


def test_sparse_gradients_are_refused():
    table = nn.Embedding(10, 4, sparse=True)
    optimizer = ns.ProxSGD(table.parameters(), lr=0.1, penalty=ns.L1(1.0))
    SparsityTarget(optimizer, 0.5, 10)
    table(torch.tensor([1, 2])).sum().backward()
    before = table.weight.detach().clone()
    with pytest.raises(ValueError, match="accepts dense ones"):
        optimizer.step()
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("penalty", [ns.L1(1.0), ns.GroupL1(1.0), ns.Nuclear(1.0)], ids=lambda p: type(p).__name__)
def test_what_is_not_a_number_is_not_made_a_zero(digits, penalty):
    model = perceptron()
    optimizer = optimizer_of("ProxSGD", model, penalty)
    target = SparsityTarget(optimizer, 0.5, 20)
    with pytest.warns(UserWarning, match=r"sparsity is 50\.00%"):
        for _, inputs, labels in batches(digits, 0, 20):
            optimizer.zero_grad()
            (cross_entropy(model(inputs), labels) * float("nan")).backward()
            optimizer.step()
    assert model[0].weight.isnan().all()
    assert target.share == 0
    found = certify(optimizer, lambda: cross_entropy(model(digits[0]), digits[1]))
    assert not found.converged
    assert any("not finite" in note for note in found.notes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_equal_size_do_not_go_together(dtype):
    weight = nn.Parameter(torch.ones(20, 10, dtype=dtype))
    optimizer = ns.ProxSGD([weight], lr=0.1, penalty=ns.L1(1.0))
    target = SparsityTarget(optimizer, 0.3, 10)
    for _ in range(10):
        weight.grad = torch.full_like(weight, -0.1)
        optimizer.step()
    assert target.share == 0.3


def test_nothing_to_count_is_refused():
    optimizer = ns.ProxSGD([nn.Parameter(torch.zeros(0, 3))], lr=0.1, penalty=ns.L1(1.0))
    with pytest.raises(ValueError, match="hold no weight"):
        SparsityTarget(optimizer, 0.5, 10)


def test_a_step_in_a_graph_is_refused(digits, monkeypatch):
    model = perceptron()
    optimizer = optimizer_of("ProxAdam", model, ns.L1(1.0))
    SparsityTarget(optimizer, 0.5, 10)
    before = model[0].weight.detach().clone()
    _, inputs, labels = next(batches(digits, 0, 1))
    cross_entropy(model(inputs), labels).backward()
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(RuntimeError, match="CUDA graph"):
            optimizer.step()
    assert torch.equal(model[0].weight, before)


@settings(max_examples=25, deadline=None)
@given(
    sparsity=st.floats(0.02, 0.98),
    steps=st.integers(1, 60),
    release=st.floats(0.05, 1.0),
    kind=st.sampled_from(["SteadyAdam", "ProxSGD", "ProxAdam", "SteadySGD"]),
    penalty=st.sampled_from([ns.L1(1.0), ns.MCP(1.0), ns.L0(1.0), ns.GroupL1(1.0), ns.GroupL1(1.0, dim=1)]),
    seed=st.integers(0, 100),
)
def test_whatever_the_run_there_are_as_many_zeros_as_wanted(sparsity, steps, release, kind, penalty, seed):
    """The zeros are never fewer, and more only where the weights themselves brought more of them."""
    if kind.startswith("Steady") and not isinstance(penalty, ns.MCP):
        penalty = ns.L1(1.0)
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randn(30, 20, generator=generator))
    goal = torch.randn(30, 20, generator=generator)
    optimizer = getattr(ns, kind)([weight], lr=0.05, penalty=penalty)
    target = SparsityTarget(optimizer, sparsity, steps, release=release)
    for _ in range(steps):
        weight.grad = weight.detach() - goal + 0.1 * torch.randn(30, 20, generator=generator)
        optimizer.step()
    units = penalty.units(weight.shape)
    assert target.share * units == pytest.approx(round(sparsity * units))
    assert torch.isfinite(weight).all()
