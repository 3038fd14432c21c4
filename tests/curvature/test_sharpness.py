"""Sharpness against eigenvalues of dense float64 Hessians, closed forms, and spectra that are traps."""

from functools import cache

import pytest
import torch
from cases import CASES, dense_hessian, quadratic
from torch import nn

from nonsmooth.curvature import largest_eigenpair, sharpness


@cache
def spectrum(name):
    return torch.linalg.eigvalsh(dense_hessian(CASES[name]()))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_at_most_fifteen_products_give_one_percent(name, seed):
    case, eigenvalues = CASES[name](), spectrum(name)
    found = sharpness(case.closure, case.parameters, mode=case.mode, seed=seed)
    assert found.products <= 15
    assert found.value == pytest.approx(float(eigenvalues[-1]), rel=0.01)
    assert found.lowest >= float(eigenvalues[0]) - 1e-9
    assert float((eigenvalues - found.value).abs().min()) <= found.residual + 1e-9
    assert found.method == "double backward"
    assert found.mode == case.mode
    assert found.converged


@pytest.mark.parametrize("name", CASES)
def test_one_millionth_when_asked(name):
    case, eigenvalues = CASES[name](), spectrum(name)
    found = sharpness(case.closure, case.parameters, mode=case.mode, tolerance=1e-6, max_products=150)
    assert found.converged
    assert found.value == pytest.approx(float(eigenvalues[-1]), rel=1e-6)
    assert abs(float(eigenvalues[-1]) - found.value) <= max(found.error, 1e-12)


def test_training_and_evaluation_of_batch_norm_are_two_functions():
    assert float(spectrum("batch norm, training")[-1]) != pytest.approx(
        float(spectrum("batch norm, evaluation")[-1]), rel=0.05
    )


def test_the_eigenvector_is_one():
    case = CASES["gelu"]()
    found = sharpness(case.closure, case.parameters, tolerance=1e-9, max_products=150)
    image = dense_hessian(CASES["gelu"]()) @ found.eigenvector
    torch.testing.assert_close(image, found.value * found.eigenvector, rtol=0, atol=1e-4 * found.value)
    assert float((image - found.value * found.eigenvector).norm()) == pytest.approx(found.residual, rel=1e-3)


def test_the_most_negative_eigenvalue_is_not_the_largest():
    case = CASES["negative-dominant"]()
    found = sharpness(case.closure, case.parameters)
    assert found.value == pytest.approx(20, rel=0.01)
    assert found.lowest == pytest.approx(-100, rel=0.05)


def test_a_hessian_below_zero_has_its_least_negative_value():
    case = quadratic(torch.linspace(-5.0, -1.0, 10))
    assert sharpness(case.closure, case.parameters).value == pytest.approx(-1, rel=1e-9)


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_a_zero_hessian_is_zero_and_converged(slope):
    weight = torch.ones(30, requires_grad=True)
    found = sharpness(lambda: slope * weight.sum() + 0 * weight.square().sum(), [weight])
    assert (found.value, found.lowest, found.residual, found.converged) == (0, 0, 0, True)
    linear = sharpness(lambda: slope * weight.sum(), [weight])
    assert (linear.value, linear.converged, linear.products) == (0, True, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_fewer_coordinates_than_products_are_exact(size):
    case = quadratic(torch.linspace(-3.0, 2.0, size) if size > 1 else torch.tensor([2.0]))
    found = sharpness(case.closure, case.parameters, tolerance=1e-12, max_products=50)
    assert found.value == pytest.approx(2, rel=1e-12)
    assert found.products <= size
    assert found.converged


def test_few_distinct_eigenvalues_end_the_search_with_the_exact_one():
    eigenvalues = torch.cat([torch.full((40,), -7.0), torch.zeros(40), torch.full((20,), 4.0)])
    case = quadratic(eigenvalues)
    found = sharpness(case.closure, case.parameters, tolerance=1e-9)
    assert found.value == pytest.approx(4, rel=1e-9)
    assert found.products <= 4
    assert found.converged


@pytest.mark.parametrize("where", ["loss", "gradient", "hessian"])
def test_numbers_that_are_not_finite_end_the_search_at_once(where):
    weight = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    losses = {
        "loss": lambda: torch.nan * weight.sum(),
        "gradient": lambda: weight.sqrt().sum(),
        "hessian": lambda: weight.abs().pow(1.5).sum(),
    }
    found = sharpness(losses[where], [weight])
    assert found.value != found.value
    assert not found.converged
    assert found.eigenvector is None
    assert found.products <= 1


def test_a_search_that_stops_early_says_so():
    case = quadratic(torch.linspace(0.0, 1.0, 400))
    short = sharpness(case.closure, case.parameters, tolerance=1e-6, max_products=5)
    assert not short.converged
    assert short.products == 5
    assert short.error > 1e-6


@pytest.mark.parametrize("started", [lambda found: found, lambda found: found.eigenvector], ids=["measured", "vector"])
def test_a_warm_start_is_nearer_after_few_products(started):
    case = CASES["tanh, trained"]()
    before = sharpness(case.closure, case.parameters)
    with torch.no_grad():
        for parameter in case.parameters:
            parameter.mul_(1.001)
    exact = sharpness(case.closure, case.parameters, tolerance=1e-9, max_products=50).value
    cold = sharpness(case.closure, case.parameters, max_products=3)
    warm = sharpness(case.closure, case.parameters, max_products=3, start=started(before))
    assert warm.value == pytest.approx(exact, rel=1e-3)
    assert warm.error < cold.error / 10
    assert cold.value < 0.999 * exact


def spiked(*largest, size=1000):
    """The loss of a diagonal Hessian: a bulk from -1 to 5, and a few eigenvalues above."""
    spikes = torch.tensor([20.0, 30.0, 40.0, 50.0, *largest], dtype=torch.float64)
    scales = torch.cat([torch.linspace(-1, 5, size - len(spikes), dtype=torch.float64), spikes])
    weight = torch.ones(size, dtype=torch.float64, requires_grad=True)
    weight.data += torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (lambda: (scales * weight.square()).sum() / 2), weight, scales


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-6])
@pytest.mark.parametrize("second", [0.99, 0.997, 0.999])
def test_of_two_eigenvalues_that_are_close_the_larger_is_found(second, tolerance):
    """A start with little of its eigenvector sees the other one first, and knows that one exactly."""
    closure, weight, _ = spiked(60.0 * second, 60.0)
    for seed in range(60):
        found = sharpness(closure, [weight], tolerance=tolerance, max_products=150, seed=seed)
        assert found.converged
        assert found.value == pytest.approx(60.0, rel=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_an_eigenvalue_that_overtakes_is_found_by_the_next_measurement(seed):
    closure, weight, scales = spiked(58.0, 60.0, size=20_000)
    start = None
    for step in range(25):
        scales[-2] = 54.0 + step / 2  # is the largest from the 13th measurement on
        start = sharpness(closure, [weight], start=start, seed=seed + step)
        assert start.value == pytest.approx(float(scales.max()), rel=0.01), step


@pytest.mark.parametrize("seed", range(5))
def test_a_warm_start_does_not_hide_an_eigenvalue_that_has_overtaken_by_much(seed):
    """The start is exactly the eigenvector of the second largest one."""
    scales = torch.linspace(0.0, 1.0, 500, dtype=torch.float64)
    scales[7], scales[8] = 5.0, 9.0
    weight = torch.ones(500, dtype=torch.float64, requires_grad=True)
    start = torch.zeros(500, dtype=torch.float64)
    start[7] = 1
    found = sharpness(lambda: (scales * weight.square()).sum() / 2, [weight], start=start, seed=seed)
    assert found.value == pytest.approx(9, rel=0.01)


def test_a_measurement_of_a_loss_that_was_not_finite_is_no_start():
    weight = torch.ones(20, dtype=torch.float64, requires_grad=True)
    lost = sharpness(lambda: weight.sum() / 0 * 0, [weight])
    assert lost.eigenvector is None
    assert sharpness(lambda: weight.square().sum(), [weight], start=lost).value == pytest.approx(2)


def test_a_loss_that_computes_in_coarser_numbers_says_so():
    """Lanczos converges to an eigenvalue of what bfloat16 makes of the Hessian."""
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), torch.randn(64, 8)

    def loss():
        return model(rows).float().square().mean()

    def coarse():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss()

    exact = sharpness(loss, model.parameters(), tolerance=1e-4, max_products=100)
    fine = sharpness(coarse, model.parameters(), tolerance=1e-4, max_products=100)
    assert exact.converged
    assert not fine.converged
    assert abs(fine.value - exact.value) <= fine.error <= 0.01 * exact.value
    assert sharpness(coarse, model.parameters()).converged


def test_a_preconditioner_makes_the_eigenvalue_its_own():
    case = quadratic(torch.linspace(-1.0, 3.0, 12))
    metric = torch.linspace(0.1, 5.0, 12, dtype=torch.float64)
    dense = dense_hessian(case) / metric.sqrt() / metric.sqrt()[:, None]
    found = sharpness(case.closure, case.parameters, preconditioner=metric, tolerance=1e-10)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-9)
    by_tensor = sharpness(case.closure, case.parameters, preconditioner=[metric], tolerance=1e-10)
    assert by_tensor.value == found.value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_agrees_as_far_as_it_reaches(dtype):
    case = CASES["gelu"]()
    model = case.modules[0].to(dtype)
    inputs, targets = torch.randn(50, 1, 8, 8).to(dtype), torch.arange(50) % 10
    found = sharpness(lambda: nn.functional.cross_entropy(model(inputs), targets), model.parameters())
    assert found.eigenvector.dtype == torch.float32
    model, inputs = model.double(), inputs.double()
    expected = sharpness(lambda: nn.functional.cross_entropy(model(inputs), targets), model.parameters())
    assert found.value == pytest.approx(expected.value, rel=0.01 if dtype == torch.float32 else 0.1)


def test_the_same_seed_gives_the_same_bits():
    case = CASES["relu"]()
    first, second = (sharpness(case.closure, case.parameters, seed=3) for _ in range(2))
    assert first.value == second.value
    assert torch.equal(first.eigenvector, second.eigenvector)


def test_lanczos_is_scale_free():
    """An eigenvalue far below the rounding of 1 is found as well."""
    matrix = 1e-20 * torch.diag(torch.linspace(-1.0, 2.0, 100, dtype=torch.float64))
    start = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = largest_eigenpair(lambda v: matrix @ v, start, tolerance=1e-8, max_products=100)
    assert found.value == pytest.approx(2e-20, rel=1e-8)
    assert found.converged


def test_bad_input_is_named():
    weight = torch.ones(3, requires_grad=True)

    def loss():
        return weight.square().sum()

    for options, message in (
        ({"tolerance": 0.0}, "tolerance is 0"),
        ({"max_products": 0}, "max_products is 0"),
        ({"mode": "trian"}, "mode is 'trian'"),
        ({"method": "exact"}, "method is 'exact'"),
        ({"start": torch.ones(4)}, r"start has shape \(4,\)"),
        ({"preconditioner": torch.tensor([1.0, 0.0, 1.0])}, "preconditioner has the entry 0"),
        ({"preconditioner": torch.ones(2)}, r"\(2,\); accepted is \(3,\)"),
        ({"preconditioner": [torch.ones(2)]}, "shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            sharpness(loss, [weight], **options)
    with pytest.raises(ValueError, match="one element"):
        sharpness(lambda: weight, [weight])
    with pytest.raises(ValueError, match="depends on no parameter"):
        sharpness(lambda: torch.ones(1), [weight])
    with pytest.raises(ValueError, match="no entry that requires"):
        sharpness(loss, [])
    with pytest.raises(TypeError, match="closure is 3"):
        sharpness(3, [weight])
    with pytest.raises(TypeError, match="a list of them"):
        sharpness(loss, weight)
    with pytest.raises(TypeError, match="leaves"):
        sharpness(loss, [weight * 2])
    with pytest.raises(TypeError, match="complex"):
        sharpness(loss, [torch.ones(2, dtype=torch.complex64, requires_grad=True)])
