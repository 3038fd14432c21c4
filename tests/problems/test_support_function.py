"""Support functions against brute force over the polytope's vertices and against their laws."""

import math

import pytest
import torch

from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, loss
from nonsmooth.problems import SupportFunction


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_and_subgradient_are_those_of_brute_force():
    vertices, point = draw(3, 5, 4), draw(3, 6, 4, seed=1)
    evaluation = SupportFunction(vertices).evaluate(point)
    for i in range(3):
        for j in range(6):
            products = [float(vertex @ point[i, j]) for vertex in vertices[i]]
            assert float(evaluation.value[i, j]) == pytest.approx(max(products))
            assert torch.equal(evaluation.subgradient[i, j], vertices[i, products.index(max(products))])


def test_it_is_sublinear_and_its_subgradients_support_it():
    problem = SupportFunction(draw(2, 7, 3))
    x, y = draw(2, 50, 3, seed=1), draw(2, 50, 3, seed=2)
    assert (problem.value(x + y) <= problem.value(x) + problem.value(y) + 1e-12).all()
    torch.testing.assert_close(problem.value(3 * x), 3 * problem.value(x))
    tangent = problem.value(x) + (problem.subgradient(x) * (y - x)).sum(-1)
    assert (problem.value(y) >= tangent - 1e-12).all()


def test_the_constant_is_the_longest_vertex_and_bounds_all_quotients():
    problem = SupportFunction(draw(2, 7, 3))
    x, y = draw(2, 500, 3, seed=1), draw(2, 500, 3, seed=2)
    quotient = (problem.value(x) - problem.value(y)).abs() / torch.linalg.vector_norm(x - y, dim=-1)
    assert (quotient <= problem.lipschitz).all()
    assert problem.lipschitz[0].item() == pytest.approx(max(float(v.norm()) for v in problem.vertices[0]))


def test_selecting_an_instance_and_sharing_one_among_many():
    vertices, point = draw(3, 5, 4), draw(3, 2, 4, seed=1)
    problem = SupportFunction(vertices)
    torch.testing.assert_close(problem.select(slice(1, 2)).value(point[1:2]), problem.value(point)[1:2])
    shared = SupportFunction(vertices[:1]).evaluate(point)
    assert shared.subgradient.shape == point.shape


@pytest.mark.parametrize("tilt", [0.1, 0.25])
def test_the_last_iterate_exceeds_the_printed_bound_for_good_in_the_plane(tilt):
    # x goes one step up the shallow side, at the bottom of the valley, and then across it: 1 + ε - 2ε² > αL² = 1.
    steep = math.sqrt(1 - tilt**2)
    vertices = torch.tensor([[[0.0, -1.0], [steep, tilt], [-steep, tilt]]], dtype=torch.float64)
    start = torch.tensor([[[1e-9, -1e-6]]], dtype=torch.float64)
    problem = SupportFunction(vertices)
    largest = iterate(problem, start, Constant(1.0), 1000, {"late": Largest(loss, 900)})["late"].item()
    assert float(problem.lipschitz) == pytest.approx(1.0)
    assert largest == pytest.approx(1 + tilt - 2 * tilt**2, abs=1e-5)


def test_another_number_of_dimensions_is_named():
    with pytest.raises(ValueError, match="vertices has shape"):
        SupportFunction(torch.zeros(3, 4))
