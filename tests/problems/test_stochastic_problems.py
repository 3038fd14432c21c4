"""Sampled rows and networks: unbiased gradients, and gradients as autograd finds them."""

import pytest
import torch
from torch.nn import functional

from nonsmooth.problems import lasso
from nonsmooth.problems.perceptron import Perceptrons
from nonsmooth.problems.sampled_rows import SampledRows


def uniform(seed, *shape):
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def test_gradients_from_rows_are_unbiased():
    whole = lasso(uniform(0, 2, 6, 4), uniform(1, 2, 6), torch.tensor([[0.1, 0.7]]))
    sampled = SampledRows(whole, 2, torch.Generator().manual_seed(0))
    point = uniform(2, 2, 2, 4)
    draws = torch.stack([sampled.evaluate(point).subgradient for _ in range(4000)])
    error = draws.std(0) / 4000**0.5
    assert bool(((draws.mean(0) - whole.evaluate(point).subgradient).abs() < 5 * error).all())
    assert bool((draws.std(0) > 0.01).all())


def test_a_row_drawn_alone_is_the_problem_of_that_row():
    data, response = uniform(0, 1, 5, 3), uniform(1, 1, 5)
    sampled, point = SampledRows(lasso(data, response, 0.2), 1, torch.Generator().manual_seed(7)), uniform(2, 1, 1, 3)
    row = int(torch.randint(5, (1,), generator=torch.Generator().manual_seed(7)))
    expected = (response[0, row] - data[0, row] @ point[0, 0]) ** 2 + 0.2 * point.abs().sum()
    torch.testing.assert_close(sampled.evaluate(point).value, expected.view(1, 1))


def networks(rows=None, generator=None):
    labels = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    return Perceptrons(uniform(0, 7, 4), labels, 5, 3, torch.tensor([0.0, 0.3]), rows, generator), labels


def test_a_networks_gradient_is_autograds():
    problem, labels = networks()
    point = uniform(3, 2, 2, problem.features).requires_grad_()
    evaluation = problem.evaluate(point.detach())
    values = []
    for network, strength in zip(point.flatten(0, 1), [0.0, 0.3] * 2, strict=True):
        first, first_bias = network[:20].view(5, 4), network[20:25]
        second, second_bias = network[25:40].view(3, 5), network[40:]
        logits = functional.linear(functional.linear(uniform(0, 7, 4), first, first_bias).relu(), second, second_bias)
        penalty = strength * (first.abs().sum() + second.abs().sum())
        values.append(functional.cross_entropy(logits, labels) + penalty)
    (expected,) = torch.autograd.grad(sum(values), point)
    torch.testing.assert_close(evaluation.value.flatten(), torch.stack(values).detach())
    torch.testing.assert_close(evaluation.subgradient, expected)
    torch.testing.assert_close(evaluation.gradient[:, 0], expected[:, 0])


def test_a_networks_batches_are_drawn_and_its_whole_is_not():
    problem, _ = networks(3, torch.Generator().manual_seed(0))
    point = problem.start(2, torch.Generator().manual_seed(1))
    assert not torch.equal(problem.evaluate(point).value, problem.evaluate(point).value)
    torch.testing.assert_close(problem.whole().value(point), networks()[0].value(point))
    assert torch.equal(point[:, 0], point[:, 1])
    assert not torch.equal(point[0], point[1])
    assert point[..., :25].abs().max() <= 0.5


def test_accuracy_counts_the_right_answers():
    problem, labels = networks()
    point = torch.zeros(1, 2, problem.features, dtype=torch.float64)
    point[..., 40 + 2] = 1.0  # the bias of class 2 decides
    assert problem.accuracy(point, uniform(0, 7, 4), labels).tolist() == [[3 / 7, 3 / 7]]


def test_rows_without_a_generator_are_refused():
    with pytest.raises(ValueError, match="both or neither"):
        networks(rows=3)
    with pytest.raises(ValueError, match="rows is 0"):
        SampledRows(lasso(uniform(0, 1, 5, 3), uniform(1, 1, 5), 0.2), 0, torch.Generator())
