"""The losses against autograd on the formula as it is usually printed, and their constants by brute force."""

import pytest
import torch

from nonsmooth.problems import Absolute, Huber, Power, PseudoHuber, Regression, Squared

LOSSES = {
    "squared": (Squared(), lambda r: r * r),
    "huber": (Huber(0.7), lambda r: torch.where(r.abs() < 0.7, r * r / 2, 0.7 * (r.abs() - 0.35))),
    "pseudo-huber": (PseudoHuber(0.7), lambda r: 0.49 * (torch.sqrt(1 + (r / 0.7) ** 2) - 1)),
    "absolute": (Absolute(), torch.abs),
    "half square": (Power(2.0), lambda r: r * r / 2),
    "quartic": (Power(4.0), lambda r: r**4 / 4),
    "power 1.5": (Power(1.5), lambda r: (r * r) ** 0.75 / 1.5),
}


@pytest.fixture
def residuals():
    return torch.linspace(-30, 30, 12001, dtype=torch.float64)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_slope_are_those_of_autograd(name, residuals):
    loss, formula = LOSSES[name]
    free = residuals[residuals.abs() > 1e-9].clone().requires_grad_()
    value = formula(free)
    (slope,) = torch.autograd.grad(value.sum(), free)
    torch.testing.assert_close(loss.value(free.detach()), value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss.slope(free.detach()), slope, rtol=1e-12, atol=1e-12)
    assert float(loss.value(torch.zeros(1))) == float(loss.slope(torch.zeros(1))) == 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_constants_bound_the_slope_and_its_quotients_and_are_attained(name, residuals):
    loss, _ = LOSSES[name]
    slope = loss.slope(residuals)
    quotients = slope.diff() / residuals.diff()
    for bound, seen in ((loss.slope_bound, slope.abs().max()), (loss.curvature_bound, quotients.max())):
        if bound is not None:
            assert float(seen) <= bound * (1 + 1e-9)
            assert float(seen) >= bound * 0.999
    assert (quotients >= -1e-9).all()


def test_pseudo_huber_keeps_its_digits_near_zero():
    assert float(PseudoHuber().value(torch.tensor(1e-9, dtype=torch.float64))) == pytest.approx(5e-19, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Huber(0.0), "delta is 0"),
        (lambda: PseudoHuber(-1.0), "delta is -1"),
        (lambda: Power(1.0), "exponent is 1"),
    ],
)
def test_bad_arguments_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("loss", [Absolute(), Power(4.0), Power(1.5)])
def test_without_a_curvature_bound_the_regression_has_no_gradient_constant(loss):
    data = torch.ones(1, 2, 3, dtype=torch.float64)
    problem = Regression(data, torch.ones(1, 2, dtype=torch.float64), loss=loss)
    assert problem.gradient_lipschitz is None
    assert (problem.lipschitz is None) == (loss.slope_bound is None)
