"""Thresholds against torch's own optimisers: on a quadratic just below one they converge, just above it they do not."""

import math

import pytest
import torch
from torch import nn

from nonsmooth.curvature import optimizer_sharpness, sharpness, stability_threshold
from nonsmooth.optim import RDA, ProxAdam, ProxSGD
from nonsmooth.penalties import L1

RATE = 0.1


class Slow(torch.optim.SGD):
    """A subclass inherits its parent's threshold."""


LINEAR = {
    "gradient descent": lambda w, **o: torch.optim.SGD(w, lr=RATE, **o),
    "heavy ball": lambda w, **o: torch.optim.SGD(w, lr=RATE, momentum=0.9, **o),
    "dampened": lambda w, **o: torch.optim.SGD(w, lr=RATE, momentum=0.6, dampening=0.3, **o),
    "nesterov": lambda w, **o: torch.optim.SGD(w, lr=RATE, momentum=0.9, nesterov=True, **o),
    "subclass": lambda w, **o: Slow(w, lr=torch.tensor(RATE), momentum=0.5, **o),
    "proximal": lambda w, **o: ProxSGD(w, lr=RATE, momentum=0.9, **o),
}


def amplitude(make, curvature, steps=4000, **options):
    """How far from 0 a run from 1 on h·w²/2 is in its last steps, log10."""
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = make([weight], **options)
    largest = 0.0
    for step in range(steps):
        weight.grad = curvature * weight.detach()
        if options.get("maximize"):
            weight.grad = -weight.grad
        optimizer.step()
        if step >= steps - 10:
            largest = max(largest, abs(weight.item()))
        if abs(weight.item()) > 1e6:
            return 6.0
    return math.log10(largest + 1e-300)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("decay", [0.0, 3.0])
def test_a_linear_optimiser_is_stable_below_its_threshold_and_not_above(name, decay):
    make = LINEAR[name]
    weight = torch.ones(1, requires_grad=True)
    limit = stability_threshold(make([weight], weight_decay=decay)).for_loss
    assert amplitude(make, 0.99 * limit, weight_decay=decay) < -3
    assert amplitude(make, 1.01 * limit, weight_decay=decay) > 3


SQUARE = 0.04
ADAPTIVE = {
    "rmsprop": (torch.optim.RMSprop, {}, "square_avg"),
    "rmsprop with momentum": (torch.optim.RMSprop, {"momentum": 0.7}, "square_avg"),
    "centred rmsprop": (torch.optim.RMSprop, {"centered": True}, "square_avg"),
    "adam": (torch.optim.Adam, {}, "exp_avg_sq"),
    "adam, other moments": (torch.optim.Adam, {"betas": (0.5, 0.999)}, "exp_avg_sq"),
    "proximal adam": (ProxAdam, {}, "exp_avg_sq"),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}, "max_exp_avg_sq"),
    "adamw": (torch.optim.AdamW, {"weight_decay": 2.0}, "exp_avg_sq"),
    "coupled adam": (torch.optim.Adam, {"weight_decay": 0.5}, "exp_avg_sq"),
    "nadam": (torch.optim.NAdam, {}, "exp_avg_sq"),
    "adagrad": (torch.optim.Adagrad, {}, "sum"),
}


def settled(name):
    """An optimiser late in a run, so close to the minimum that its gradients do not move its preconditioner."""
    kind, options, square = ADAPTIVE[name]
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = kind([weight], lr=RATE, **options)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = optimizer.state[weight]
    state["step"].fill_(100_000)
    if "mu_product" in state:
        state["mu_product"].fill_(0.0)
    state[square].fill_(SQUARE)
    weight.data.fill_(1e-12)
    return weight, optimizer, state[square]


def growth(name, curvature, steps=3000):
    """How much a run from so close has grown, log10."""
    weight, optimizer, square = settled(name)
    largest = 0.0
    for step in range(steps):
        square.fill_(SQUARE)
        weight.grad = curvature * weight.detach()
        optimizer.step()
        if step >= steps - 10:
            largest = max(largest, abs(weight.item()))
        if abs(weight.item()) > 1e-6:
            return 6.0
    return math.log10(largest + 1e-300) + 12


@pytest.mark.parametrize("name", ADAPTIVE)
def test_an_adaptive_optimiser_is_stable_below_its_threshold_and_not_above(name):
    threshold = stability_threshold(settled(name)[1])
    (metric,) = threshold.preconditioner
    assert float(metric) == pytest.approx(math.sqrt(SQUARE), rel=1e-6)
    limit = threshold.value * float(metric) - threshold.weight_decay[0]
    assert growth(name, 0.99 * limit) < -2
    assert growth(name, 1.01 * limit) > 2


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_metric_of_early_steps_has_both_corrections(steps):
    """Against the step that torch takes: with the gradient g in every step, Adam's first moment is g(1 - β₁ᵗ)."""
    weight = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=RATE)
    gradient = torch.tensor([0.1, -2.0, 30.0], dtype=torch.float64)
    for _ in range(steps):
        before, weight.grad = weight.detach().clone(), gradient.clone()
        optimizer.step()
    (metric,) = stability_threshold(optimizer).preconditioner
    moment = gradient * (1 - 0.9**steps)
    torch.testing.assert_close(weight.detach() - before, -RATE * moment / metric, rtol=1e-9, atol=0)


def test_known_thresholds():
    weight = torch.ones(2, requires_grad=True)
    assert stability_threshold(torch.optim.SGD([weight], lr=0.1)).value == pytest.approx(20)
    optimizer = torch.optim.Adam([weight], lr=0.01)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert stability_threshold(optimizer).value == pytest.approx(3800)
    assert stability_threshold(optimizer).for_loss is None


def quadratic(weights, curvatures):
    return sum((h * w.square()).sum() / 2 for h, w in zip(curvatures, weights, strict=True))


def test_groups_with_step_sizes_of_their_own_are_measured_in_the_metric_that_they_make():
    first, second = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    groups = [{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    read = optimizer_sharpness(optimizer, lambda: quadratic([first, second], [15.0, 3.5]))
    assert read.threshold.value == pytest.approx(4)
    assert read.ratio == pytest.approx(0.5 * 3.5 / 2)
    groups = [{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.0}]
    still = torch.optim.SGD(groups, lr=0.1)
    assert optimizer_sharpness(still, lambda: quadratic([first, second], [15.0, 99.0])).ratio == pytest.approx(0.75)


def test_weight_decay_adds_to_the_curvature_and_maximising_turns_it_round():
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, weight_decay=4.0)
    read = optimizer_sharpness(optimizer, lambda: quadratic([weight], [6.0]))
    assert read.sharpness.value == pytest.approx(10)
    assert read.ratio == pytest.approx(0.5)
    assert read.threshold.for_loss == pytest.approx(16)
    climbing = torch.optim.SGD([weight], lr=0.1, weight_decay=4.0, maximize=True)
    assert optimizer_sharpness(climbing, lambda: -quadratic([weight], [6.0])).ratio == pytest.approx(0.5)
    assert optimizer_sharpness(climbing, lambda: quadratic([weight], [6.0])).sharpness.value == pytest.approx(-2)


def test_the_metric_is_that_of_the_live_state():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    data, target = torch.randn(30, 4).double(), torch.randn(30, 1).double()

    def loss():
        return nn.functional.mse_loss(model(data), target)

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    parameters = list(model.parameters())
    states = [optimizer.state[p] for p in parameters]
    by_hand = torch.cat([(1 - 0.9**20) * ((s["exp_avg_sq"] / (1 - 0.999**20)).sqrt() + 1e-8).flatten() for s in states])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), parameters, create_graph=True)])
    rows = [
        torch.cat([r.flatten() for r in torch.autograd.grad(e, parameters, retain_graph=True, materialize_grads=True)])
        for e in gradient
    ]
    dense = torch.stack(rows) / by_hand.sqrt() / by_hand.sqrt()[:, None]
    expected = float(torch.linalg.eigvalsh(dense)[-1])
    read = optimizer_sharpness(optimizer, loss, tolerance=1e-9, max_products=100)
    assert read.sharpness.value == pytest.approx(expected, rel=1e-9)
    assert read.ratio == pytest.approx(expected / (38 / 0.01), rel=1e-9)
    plain = sharpness(loss, parameters, preconditioner=by_hand, tolerance=1e-9, max_products=100)
    assert plain.value == pytest.approx(expected, rel=1e-9)


def test_a_parameter_without_a_gradient_does_not_count():
    used, unused = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.RMSprop([used, unused], lr=0.1)
    used.grad = torch.ones_like(used)
    optimizer.step()
    before = len(optimizer.state)
    read = optimizer_sharpness(optimizer, lambda: quadratic([used], [3.0]))
    assert read.ratio == pytest.approx(3 / (math.sqrt(0.01) + 1e-8) / 20)
    assert len(optimizer.state) == before


def test_an_optimiser_inside_a_wrapper_is_found():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    weight = torch.ones(1, requires_grad=True)
    assert stability_threshold(Wrapper(torch.optim.SGD([weight], lr=0.1))).value == pytest.approx(20)


def test_what_is_not_known_is_refused():
    weight = torch.ones(1, requires_grad=True)
    other = torch.ones(1, requires_grad=True)
    with pytest.raises(TypeError, match=r"Adadelta.*SGD, Adam"):
        stability_threshold(torch.optim.Adadelta([weight]))
    with pytest.raises(TypeError, match="RDA"):
        stability_threshold(RDA([weight], lr=0.1, penalty=L1(0.1)))
    with pytest.raises(TypeError, match="accepted is a torch"):
        stability_threshold(object())
    with pytest.raises(ValueError, match="no step yet"):
        stability_threshold(torch.optim.Adam([weight]))
    with pytest.raises(ValueError, match="differ in maximize"):
        stability_threshold(torch.optim.SGD([{"params": [weight], "maximize": True}, {"params": [other]}], lr=0.1))
    with pytest.raises(ValueError, match=r"lr·weight_decay is 3"):
        decaying = torch.optim.AdamW([weight], lr=1.0, weight_decay=3.0)
        weight.grad = torch.zeros_like(weight)
        decaying.step()
        stability_threshold(decaying)
    with pytest.raises(ValueError, match="lr is 0"):
        stability_threshold(torch.optim.SGD([weight], lr=0.0))


def test_a_key_of_the_users_own_in_a_group_is_not_read():
    weight = torch.ones(1, requires_grad=True)
    groups = [{"params": [weight], "lr_decay": 0.9}]
    assert stability_threshold(torch.optim.SGD(groups, lr=0.1)).value == pytest.approx(20)


def test_what_an_alternating_gradient_does_not_move_bears_everything():
    weight = torch.ones(1, requires_grad=True)
    threshold = stability_threshold(torch.optim.SGD([weight], lr=0.1, momentum=0.9, dampening=1.0))
    assert threshold.value == math.inf


GROUPS = {
    "momentum": (torch.optim.SGD, [{"momentum": 0.9}, {"momentum": 0.2, "lr": 0.3}], {}),
    "nesterov and not": (torch.optim.SGD, [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.9}], {}),
    "decoupled decay": (torch.optim.AdamW, [{"weight_decay": 5.0}, {"weight_decay": 0.0}], {"eps": 1e8}),
    "betas": (torch.optim.Adam, [{"betas": (0.9, 0.999)}, {"betas": (0.5, 0.999)}], {"eps": 1e8}),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_differ_are_stable_together_below_the_threshold_and_not_above(name):
    """A curvature that couples a weight of each group; a large ε makes P a constant."""
    kind, options, shared = GROUPS[name]
    start = 1e-9  # so that gradients are far below ε
    shape = torch.tensor([[2.0, 1.0], [1.0, 1.5]], dtype=torch.float64)

    def run(scale, steps=3000):
        weights = [torch.full((1,), start, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        groups = [{"params": [w], **each} for w, each in zip(weights, options, strict=True)]
        optimizer = kind(groups, lr=RATE, **shared)
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        for state in optimizer.state.values():
            if "step" in state:
                state["step"].fill_(100_000)  # the corrections of the first steps are over
        for _ in range(steps):
            gradient = scale * shape @ torch.cat([w.detach() for w in weights])
            for weight, part in zip(weights, gradient, strict=True):
                weight.grad = part.view(1)
            optimizer.step()
            largest = max(float(w.detach().abs()) for w in weights) / start
            if largest > 1e4:
                break
        return largest, optimizer, weights

    def ratio(scale):
        _, optimizer, weights = run(scale, steps=1)

        def loss():
            both = torch.cat(weights)
            return scale / 2 * both @ shape @ both

        return optimizer_sharpness(optimizer, loss).ratio

    unit = 1e8 if shared else 1.0  # of the curvature, as ε is
    limit = unit / ratio(unit)
    assert ratio(limit) == pytest.approx(1, rel=1e-3)
    assert run(0.99 * limit)[0] < 1e-2
    assert run(1.01 * limit)[0] > 1e4


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.NAdam])
def test_parameters_that_have_taken_unequal_numbers_of_steps_have_thresholds_of_their_own(kind):
    """Two coordinates that do not meet are at the edge where the nearer one is, each measured on its own."""
    curvatures = {"first": 30.0, "second": 2.0}

    def run(names):
        weights = {name: torch.ones(1, dtype=torch.float64, requires_grad=True) for name in names}
        optimizer = kind([{"params": [weight]} for weight in weights.values()], lr=RATE)
        for step in range(7):
            for name, weight in weights.items():
                late = name == "second" and step < 5  # takes two steps only
                weight.grad = None if late else curvatures[name] * weight.detach() / (1 + step)
            optimizer.step()
        values = [curvatures[name] for name in names]
        return optimizer_sharpness(optimizer, lambda: quadratic(list(weights.values()), values)).ratio

    alone = [run([name]) for name in curvatures]
    assert run(list(curvatures)) == pytest.approx(max(alone), rel=1e-6)
    assert min(alone) > 0
    assert max(alone) / min(alone) != pytest.approx(1, rel=0.01)


def test_readings_say_what_they_are():
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    read = optimizer_sharpness(torch.optim.SGD([weight], lr=0.1), lambda: quadratic([weight], [5.0]))
    assert str(read).startswith("0.250 of the threshold: sharpness 5 ± ")
    assert "double backward" in str(read)
    assert "stable up to 20 (" in str(read)


@pytest.mark.parametrize("rate", [math.nan, math.inf, torch.tensor(math.nan)])
@pytest.mark.parametrize("first", [True, False])
def test_step_sizes_that_are_no_numbers_are_refused(rate, first):
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [weight], "lr": RATE} for weight in weights]
    optimizer = torch.optim.SGD(groups)
    optimizer.param_groups[not first]["lr"] = rate
    with pytest.raises(ValueError, match=r"lr is (nan|inf); accepted are finite numbers"):
        stability_threshold(optimizer)
