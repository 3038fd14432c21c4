"""The rising chain against its matrix written out, its closed form, and the promise of its minimum."""

import math

import pytest
import torch
from scipy.optimize import linprog

from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Trace, loss
from nonsmooth.problems import RisingChain


def rows(problem):
    size = problem.features
    matrix = torch.zeros(size + 1, size, dtype=torch.float64)
    for i in range(size + 1):
        matrix[i, :i] = problem.weights[:i]
        if i < size:
            matrix[i, i] = -problem.fall
    return matrix


def test_value_and_subgradient_are_those_of_the_matrix():
    problem, generator = RisingChain(7), torch.Generator().manual_seed(0)
    matrix, points = rows(problem), torch.randn(2, 30, 7, generator=generator, dtype=torch.float64)
    products = points @ matrix.T
    evaluation = problem.evaluate(points)
    torch.testing.assert_close(evaluation.value, products.max(-1).values)
    torch.testing.assert_close(evaluation.subgradient, matrix[products.argmax(-1)])
    assert torch.linalg.vector_norm(matrix, dim=-1).max().item() == pytest.approx(1)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_its_minimum_is_zero(size):
    """0 is a convex combination of the rows, so no point has them all negative."""
    matrix = rows(RisingChain(size)).numpy()
    found = linprog([0.0] * (size + 1), A_eq=[*matrix.T, [1.0] * (size + 1)], b_eq=[0.0] * size + [1.0])
    assert found.status == 0


@pytest.mark.parametrize("alpha", [0.01, 1.0, 10.0])
def test_from_the_minimiser_constant_steps_rise_to_the_closed_form(alpha):
    size = 100
    problem, zero = RisingChain(size), torch.zeros(1, 1, size, dtype=torch.float64)
    trace = iterate(problem, zero, Constant(alpha), size, {"loss": Trace(loss, range(size + 1))})["loss"].flatten()
    weights, fall = problem.weights, problem.fall
    waits = torch.arange(size - 1, -1, -1, dtype=torch.float64)
    expected = alpha * (weights * (fall - waits * weights)).sum()
    assert trace[-1].item() == pytest.approx(expected.item(), rel=1e-9)
    assert trace[-1] == trace.max()


def test_it_grows_with_the_logarithm_of_the_steps():
    ends = []
    for size in (256, 1024):
        zero = torch.zeros(1, 1, size, dtype=torch.float64)
        ends.append(RisingChain(size).value(iterate(RisingChain(size), zero, Constant(1.0), size).point).item())
    assert (ends[1] - ends[0]) / math.log(4) == pytest.approx(0.219, abs=0.002)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="ratio"):
        RisingChain(3, 1.0)
