"""Every regression against autograd on the formula as the paper prints it, and against closed forms."""

import itertools
import math

import pytest
import torch

from nonsmooth.problems import (
    Huber,
    Identity,
    QuadraticRelu,
    Regression,
    Relu,
    Softplus,
    Squared,
    huber_regression,
    l1_norm,
    lasso,
    relu_regression,
)

LINKS = {
    "identity": (Identity(), lambda u: u),
    "relu": (Relu(), torch.relu),
    "quadratic relu": (
        QuadraticRelu(0.3),
        lambda u: torch.where(u < -0.3, 0.0 * u, torch.where(u > 0.3, u, (u + 0.3) ** 2 / 1.2)),
    ),
    "softplus": (Softplus(0.2), lambda u: torch.nn.functional.softplus(u, beta=5.0, threshold=1000.0)),
}
LOSSES = {
    "squared": (Squared(), lambda r: r**2),
    "huber": (
        Huber(0.7),
        lambda r: torch.nn.functional.huber_loss(r, torch.zeros_like(r), reduction="none", delta=0.7),
    ),
}


def draw(*shape, seed=0, low=-1.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low


@pytest.mark.parametrize(("link", "loss"), list(itertools.product(LINKS, LOSSES)))
def test_value_and_subgradient_are_those_of_autograd(link, loss):
    data, response, point = draw(3, 6, 9, seed=1), draw(3, 6, seed=2), draw(3, 4, 9, seed=3)
    l1, l2 = draw(1, 4, seed=4, low=0), draw(3, 1, seed=5, low=0)
    problem = Regression(data, response, l1=l1, l2=l2, link=LINKS[link][0], loss=LOSSES[loss][0], scale=0.25)
    free = point.clone().requires_grad_()
    fitted = LINKS[link][1](torch.einsum("ivp,inp->ivn", free, data))
    value = 0.25 * LOSSES[loss][1](response[:, None] - fitted).sum(-1)
    value = value + l1 * free.abs().sum(-1) + l2 * (free**2).sum(-1)
    (expected,) = torch.autograd.grad(value.sum(), free)
    evaluation = problem.evaluate(point)
    torch.testing.assert_close(evaluation.value, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(evaluation.subgradient, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(evaluation.gradient, expected - l1[..., None] * point.sign(), rtol=1e-12, atol=1e-12)


def test_the_choice_at_a_kink_is_pytorchs_and_can_be_made():
    zero = torch.zeros(1, 1, 3, dtype=torch.float64)
    data, response = draw(1, 2, 3), -torch.ones(1, 2, dtype=torch.float64)
    assert torch.equal(relu_regression(data, response, l1=1.0).subgradient(zero), zero)
    chosen = Regression(data, response, l1=1.0, link=Relu(kink_slope=0.5), sign_at_zero=-1.0).subgradient(zero)
    torch.testing.assert_close(chosen[0, 0], 2 * 0.5 * data[0].sum(0) - 1.0)


def test_each_instance_is_its_own_problem():
    data, response, point = draw(5, 4, 6), draw(5, 4), draw(5, 2, 6)
    whole = lasso(data, response, 0.3)
    for i in range(5):
        part = whole.select(slice(i, i + 1))
        torch.testing.assert_close(part.value(point[i : i + 1]), whole.value(point)[i : i + 1])


def test_nonpositive_response_has_its_minimum_at_zero():
    problem = relu_regression(draw(2, 4, 5), draw(2, 4, high=0.0), l1=0.1, l2=0.2)
    assert torch.equal(problem.minimizer, torch.zeros(2, 1, 5, dtype=torch.float64))
    assert (problem.value(draw(2, 500, 5, seed=9) * 0.1) >= problem.minimum).all()


def test_without_data_or_response_the_minimum_is_at_zero():
    assert torch.equal(l1_norm(3, 0.5).minimizer, torch.zeros(1, 1, 3, dtype=torch.float64))
    problem = lasso(draw(2, 4, 5), torch.zeros(2, 4, dtype=torch.float64), 0.1)
    assert (problem.value(draw(2, 500, 5, seed=9) * 0.1) >= problem.minimum).all()
    assert lasso(draw(2, 4, 5), draw(2, 4), 0.1).minimizer is None


def test_a_positive_response_has_no_known_minimiser():
    assert relu_regression(draw(1, 4, 5), draw(1, 4, low=0.5)).minimizer is None


def test_huber_interpolates_when_overparameterised_and_its_constant_is_the_largest_hessian():
    problem = huber_regression(draw(2, 5, 12), draw(2, 5))
    torch.testing.assert_close(problem.minimum, torch.zeros(2, 1, dtype=torch.float64), atol=1e-18, rtol=0)
    for i in range(2):
        single = problem.select(slice(i, i + 1))
        hessian = torch.autograd.functional.hessian(
            lambda b, z=problem.data[i], y=problem.response[i]: torch.nn.functional.huber_loss(z @ b, y),
            problem.minimizer[i, 0],
        )
        assert float(single.gradient_lipschitz) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]))


def test_the_euclidean_constant_of_the_l1_norm_has_the_root_of_the_dimension():
    assert float(l1_norm(49, 0.1).lipschitz) == pytest.approx(0.7)
    assert l1_norm(49, 0.1).gradient_lipschitz is None


def test_a_kink_has_no_gradient_constant_and_a_square_no_constant():
    problem = relu_regression(draw(1, 4, 5), draw(1, 4, high=0.0))
    assert problem.gradient_lipschitz is None
    assert problem.lipschitz is None


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"data": torch.zeros(3, 4)}, "data has shape"),
        ({"response": torch.zeros(1, 9)}, "response has shape"),
        ({"l1": -1.0}, "l1 is -1"),
        ({"l2": math.nan}, "l2 is nan"),
        ({"sign_at_zero": 2.0}, "sign_at_zero is 2"),
        ({"data": torch.zeros(1, 0, 4), "response": torch.zeros(1, 0)}, "data has shape"),
        ({"data": torch.full((1, 3, 4), math.nan)}, "data has entries"),
        ({"response": torch.full((1, 3), math.inf)}, "response has entries"),
        ({"l1": math.inf}, "l1 is inf"),
        ({"scale": math.nan}, "scale is nan"),
    ],
)
def test_bad_arguments_are_named(arguments, match):
    accepted = {"data": torch.zeros(1, 3, 4), "response": torch.zeros(1, 3)}
    with pytest.raises(ValueError, match=match):
        Regression(**(accepted | arguments))
    with pytest.raises(TypeError, match="data is a list"):
        Regression([[[1.0]]], torch.zeros(1, 1))
    with pytest.raises(ValueError, match="kink_slope is 2"):
        Relu(kink_slope=2.0)
