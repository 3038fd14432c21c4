"""The certified LASSO solution against published coefficients, an independent gap, and the optimality conditions."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import lars_path

from nonsmooth.penalties import L1
from nonsmooth.problems import lasso
from nonsmooth.problems.lasso_reference import duality_gap, largest_useful_strength, lasso_reference

STRENGTHS = torch.tensor([[0.02, 0.1, 0.4]], dtype=torch.float64)


@pytest.fixture(scope="module")
def drawn():
    generator = torch.Generator().manual_seed(5)
    data = 2 * torch.rand(3, 12, 40, generator=generator, dtype=torch.float64) - 1
    return data, 2 * torch.rand(3, 12, generator=generator, dtype=torch.float64) - 1


def test_glmnets_example_has_the_published_coefficients(shared_data):
    path = shared_data / "lasso" / "glmnet_quickstart.npz"
    if not path.is_file():
        pytest.skip("glmnet_quickstart.npz is not among the data")
    with np.load(path) as archive:
        data, response, expected = (torch.from_numpy(archive[k]) for k in ("X", "y", "beta_cvx"))
        # Its objective has 1/(2n) where eq. (11) has 1/N.
        strength = torch.tensor([[2 * float(archive["beta_cvx_lambda"])]], dtype=torch.float64)
    reference = lasso_reference(data.unsqueeze(0), response.unsqueeze(0), strength)
    torch.testing.assert_close(reference.point[0, 0], expected, rtol=0, atol=1e-4)
    assert reference.gap.item() < 1e-12
    published = duality_gap(data.unsqueeze(0), response.unsqueeze(0), strength, expected[None, None])
    assert reference.gap.item() <= published.item() < 1e-3


def test_it_agrees_with_the_homotopy_method(drawn):
    data, response = drawn
    reference = lasso_reference(data, response, STRENGTHS)
    for i, (z, y) in enumerate(zip(data.numpy(), response.numpy(), strict=True)):
        alphas, _, path = lars_path(z, y, method="lasso")
        for j, strength in enumerate(STRENGTHS[0].tolist()):
            expected = [np.interp(strength / 2, alphas[::-1], row[::-1]) for row in path]
            np.testing.assert_allclose(reference.point[i, j], expected, atol=1e-8)


def test_its_subdifferential_contains_zero(drawn):
    data, response = drawn
    reference = lasso_reference(data, response, STRENGTHS)
    gradient = lasso(data, response, STRENGTHS).evaluate(reference.point).gradient
    assert L1(STRENGTHS.unsqueeze(-1)).subdiff_distance(reference.point, gradient).max() < 1e-12
    perturbed = reference.point + 0.01
    gradient = lasso(data, response, STRENGTHS).evaluate(perturbed).gradient
    assert L1(STRENGTHS.unsqueeze(-1)).subdiff_distance(perturbed, gradient).amax(-1).min() > 1e-3


def test_the_gap_bounds_the_distance_to_the_minimum_and_closes_there(drawn):
    data, response = drawn
    problem, reference = lasso(data, response, STRENGTHS), lasso_reference(data, response, STRENGTHS)
    generator = torch.Generator().manual_seed(0)
    assert reference.gap.abs().max() < 1e-13
    for size in (1e-4, 1e-2, 1.0):
        point = reference.point + size * torch.randn(reference.point.shape, generator=generator, dtype=torch.float64)
        above = problem.value(point) - reference.value
        assert bool((duality_gap(data, response, STRENGTHS, point) >= above - 1e-14).all())
        assert bool((above > 0).all())


def test_it_gives_the_same_bits_each_time(drawn):
    first = lasso_reference(*drawn, STRENGTHS)
    for _ in range(20):
        again = lasso_reference(*drawn, STRENGTHS)
        assert torch.equal(again.point, first.point)
        assert torch.equal(again.gap, first.gap)


def test_equal_columns_have_a_certified_solution_though_their_equations_are_singular(drawn):
    data, response = drawn
    doubled = torch.cat([data, data], dim=-1)
    reference = lasso_reference(doubled, response, STRENGTHS)
    torch.testing.assert_close(reference.value, lasso_reference(data, response, STRENGTHS).value, rtol=1e-6, atol=0)
    assert reference.gap.max() < 1e-7


def test_lambda_max_is_where_the_solution_becomes_zero(drawn):
    data, response = drawn
    useful = largest_useful_strength(data, response).unsqueeze(-1)
    reference = lasso_reference(data, response, torch.cat([0.99 * useful, 1.01 * useful], dim=-1))
    assert bool((reference.point[:, 0] != 0).any(-1).all())
    assert bool((reference.point[:, 1] == 0).all())


def test_a_strength_of_zero_is_refused(drawn):
    with pytest.raises(ValueError, match="strength"):
        lasso_reference(*drawn, torch.tensor([[0.0]]))
