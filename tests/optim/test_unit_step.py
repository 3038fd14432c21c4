"""D, the step for a unit of constant gradient, against what torch's optimisers do when they are given one."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop

from nonsmooth.torch_optimizers import AdaptiveStep, rule_of

GRADIENT = 0.7


def step_and_state(kind, options, gradients):
    """The last step from w = 0 per unit of gradient, by torch alone, and the optimiser that took it.

    The weight is put back to zero each time, so that weight decay of either kind adds nothing.
    """
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kind([weight], **options)
    for gradient in gradients:
        weight.data.zero_()
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    sign = 1 if options.get("maximize") else -1
    return sign * float(weight.detach()) / gradients[-1], optimizer, weight


def read(optimizer, weight):
    step = rule_of(type(optimizer)).step(optimizer.param_groups[0], optimizer.state[weight])
    return float(step()) if isinstance(step, AdaptiveStep) else float(step)


def options_of(**choices):
    """Every combination of the choices."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


IMPLEMENTATIONS = {"maximize": (False, True), "foreach": (False, True)}
CASES = [
    *((SGD, case) for case in options_of(lr=(0.3,), momentum=(0.0, 0.5, 0.9), dampening=(0.0, 0.4), **IMPLEMENTATIONS)),
    *((SGD, case) for case in options_of(lr=(0.3,), momentum=(0.5, 0.9), nesterov=(True,), weight_decay=(0.0, 0.2))),
    (SGD, {"lr": 0.3, "momentum": 0.9, "fused": True}),
    (SGD, {"lr": torch.tensor([0.3], dtype=torch.float64), "momentum": 0.9}),
    *(
        (kind, case)
        for kind in (Adam, AdamW)
        for case in options_of(betas=((0.9, 0.999), (0.5, 0.9)), eps=(1e-8, 0.1), amsgrad=(False, True))
    ),
    (Adam, {"lr": 0.05, "weight_decay": 0.3, "fused": True}),
    (AdamW, {"lr": 0.05, "weight_decay": 0.3, "foreach": True, "maximize": True}),
    (
        Adam,
        {
            "lr": torch.tensor(0.05, dtype=torch.float64),
            "betas": (torch.tensor([0.9]).double(), torch.tensor(0.99).double()),
        },
    ),
    *((NAdam, case) for case in options_of(betas=((0.9, 0.999), (0.5, 0.9)), momentum_decay=(4e-3, 0.1))),
    (NAdam, {"weight_decay": 0.3, "decoupled_weight_decay": True, "foreach": True, "maximize": True}),
    *(
        (RMSprop, case)
        for case in options_of(alpha=(0.9,), momentum=(0.0, 0.5, 0.9), eps=(1e-8, 0.1), **IMPLEMENTATIONS)
    ),
    *((Adagrad, case) for case in options_of(lr=(0.3,), lr_decay=(0.0, 0.5), initial_accumulator_value=(0.0, 2.0))),
    (Adagrad, {"eps": 0.1, "weight_decay": 0.3, "fused": True, "maximize": True}),
]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_it_is_the_step_that_torch_takes_once_its_averages_have_settled(kind, options):
    taken, optimizer, weight = step_and_state(kind, options, [GRADIENT] * 400)
    assert read(optimizer, weight) == pytest.approx(taken, rel=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100, 1000])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Adam, {}),
        (Adam, {"fused": True, "amsgrad": True}),
        (NAdam, {}),
        (NAdam, {"betas": (0.6, 0.99), "momentum_decay": 0.05, "foreach": True}),
        (RMSprop, {}),
        (Adagrad, {"lr_decay": 0.3}),
    ],
)
def test_it_is_that_step_from_the_first_one_on_where_torch_corrects_its_averages(kind, options, steps):
    taken, optimizer, weight = step_and_state(kind, options, [GRADIENT] * steps)
    assert read(optimizer, weight) == pytest.approx(taken, rel=1e-10)


def test_nadams_answer_is_not_adams():
    """Otherwise the agreement above would show nothing about NAdam's momentum schedule."""
    taken, _, _ = step_and_state(NAdam, {"lr": 1e-3, "betas": (0.9, 0.99)}, [GRADIENT] * 3)
    adam, _, _ = step_and_state(Adam, {"lr": 1e-3, "betas": (0.9, 0.99)}, [GRADIENT] * 3)
    assert abs(taken / adam - 1) > 0.05


def test_amsgrad_remembers_the_largest_square():
    gradients = [50.0] * 3 + [GRADIENT] * 400
    taken, optimizer, weight = step_and_state(Adam, {"amsgrad": True, "betas": (0.9, 0.99)}, gradients)
    without, _, _ = step_and_state(Adam, {"betas": (0.9, 0.99)}, gradients)
    assert read(optimizer, weight) == pytest.approx(taken, rel=1e-10)
    assert taken < 0.5 * without


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_centred_rmsprop_divides_by_epsilon_once_the_gradient_is_constant(momentum):
    """√(v - m²) vanishes; with a gradient that binary numbers hold exactly no rounding is left over."""
    options = {"lr": 0.3, "alpha": 0.5, "eps": 1e-2, "centered": True, "momentum": momentum}
    taken, optimizer, weight = step_and_state(RMSprop, options, [0.5] * 400)
    assert taken == pytest.approx(0.3 / 1e-2 / (1 - momentum), rel=1e-10)
    assert read(optimizer, weight) == pytest.approx(taken, rel=1e-10)


@pytest.mark.parametrize("foreach", [False, True])
def test_centred_rmsprop_before_that(foreach):
    gradients = [0.3, -0.8, 1.7, 0.2, 0.9]
    taken, optimizer, weight = step_and_state(RMSprop, {"centered": True, "foreach": foreach}, gradients)
    assert read(optimizer, weight) == pytest.approx(taken, rel=1e-10)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Adam, {"amsgrad": True}),
        (NAdam, {}),
        (RMSprop, {"centered": True}),
        (RMSprop, {}),
        (Adagrad, {"lr_decay": 0.1}),
    ],
)
def test_a_complex_parameter_has_the_steps_of_its_two_real_ones(kind, options):
    generator = torch.Generator().manual_seed(2)
    gradients = torch.randn(5, 4, dtype=torch.complex128, generator=generator)
    steps = []
    for view in (lambda tensor: tensor, torch.view_as_real):
        weight = torch.nn.Parameter(torch.zeros_like(view(gradients[0])))
        optimizer = kind([weight], **options)
        for gradient in gradients:
            weight.grad = view(gradient).clone()
            optimizer.step()
        steps.append(rule_of(kind).step(optimizer.param_groups[0], optimizer.state[weight])())
    torch.testing.assert_close(torch.view_as_real(steps[0]), steps[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_has_the_digits_of_float32(dtype):
    square = torch.tensor([1e-3, 0.7, 3.0, 0.0], dtype=dtype)
    step = AdaptiveStep(0.1, 1e-3, square)()
    assert step.dtype == torch.float32
    torch.testing.assert_close(step.double(), 0.1 / (square.double().sqrt() + 1e-3), rtol=1e-6, atol=0)


def test_an_optimiser_whose_step_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"optimizer is a Rprop; .* SGD, Adam"):
        rule_of(torch.optim.Rprop)
