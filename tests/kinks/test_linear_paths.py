"""λ through whatever is linear: against the loss itself, which is worth λ where one entry is 1 and all others are 0."""

from __future__ import annotations

import random
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nonsmooth.kinks import Smoothness, penalty_terms, scan

NORMS = {"l1": torch.abs, "group": lambda w: w.norm(dim=1), "max": lambda w: w.abs().amax(1)}


def positive(rng, *shape):
    return torch.rand(shape, generator=rng) + 0.1


STEPS = {
    "times a number": lambda x, rng: x * 1.7,
    "weights along the last dimension": lambda x, rng: x * positive(rng, x.shape[-1]),
    "weights along a new dimension": lambda x, rng: positive(rng, 2, *[1] * x.dim()) * x,
    "plus numbers along a new dimension": lambda x, rng: x + positive(rng, 2, *[1] * x.dim()),
    "from numbers along a new dimension": lambda x, rng: positive(rng, 2, *[1] * x.dim()) - (-x),
    "over weights": lambda x, rng: x / positive(rng, *x.shape),
    "sum of the first dimension": lambda x, rng: x.sum(0, keepdim=True),
    "mean of the last dimension": lambda x, rng: x.mean(-1, keepdim=True),
    "expanded": lambda x, rng: x.expand(2, *x.shape),
    "twice": lambda x, rng: torch.cat([x, 2 * x]),
    "stacked with its double": lambda x, rng: torch.stack([x, x + x], -1),
    "halves added": lambda x, rng: sum(x.tensor_split(2)[i].sum(0, keepdim=True) for i in range(2)),
    "rows times their number": lambda x, rng: sum(k * row for k, row in enumerate(x.unbind(), 1)).unsqueeze(0),
    "one row twice": lambda x, rng: x[[0, 0]],
    "in double precision": lambda x, rng: x.double(),
    "plus its sum": lambda x, rng: x + x.sum(),
    "flat": lambda x, rng: x.flatten(),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("seed", range(40))
def test_chains_of_linear_operations(kind, seed):
    chosen = random.Random(seed).choices(list(STEPS), k=4)

    def penalty(weight):
        rng, numbers = torch.Generator().manual_seed(seed), NORMS[kind](weight)
        for name in chosen:
            numbers = STEPS[name](numbers, rng) if numbers.dim() < 4 else numbers.flatten()
        return numbers.sum()

    nothing = penalty(torch.zeros(3, 4))
    ones = torch.eye(12).view(12, 3, 4) if kind == "l1" else torch.eye(3).unsqueeze(-1) * torch.eye(4)[0]
    strengths = torch.stack([penalty(one) - nothing for one in ones])
    weight = nn.Parameter(torch.randn(3, 4))
    (term,) = penalty_terms(penalty(weight), {"w": weight})
    assert term.kind == kind
    assert term.strength == pytest.approx(float(strengths.max()), rel=1e-4), chosen
    assert term.uniform == bool(strengths.max() - strengths.min() < 1e-4 * strengths.max())


def test_a_penalty_on_the_loss_of_each_sample_counts_once():
    torch.manual_seed(0)
    weight, data = nn.Parameter(torch.randn(4, 4)), torch.randn(8, 4)
    loss = ((data @ weight).square().mean(1) + 0.1 * weight.abs().sum()).mean()
    (term,) = penalty_terms(loss, {"w": weight})
    assert term.strength == pytest.approx(0.1)


def test_a_graph_that_several_threads_have_built_is_read_in_its_own_order():
    """Autograd numbers nodes by thread."""
    weight, built = nn.Parameter(torch.randn(3, 4)), []
    for _ in range(50):
        weight.exp()
    total = weight.abs().sum()
    thread = threading.Thread(target=lambda: built.append(weight.square().sum() + 0.1 * total))
    thread.start()
    thread.join()
    for loss, strength in ((built[0], 0.1), (0.2 * total + built[0], 0.3)):
        (term,) = penalty_terms(loss, {"w": weight})
        assert term.strength == pytest.approx(strength)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_hooks_do_not_run(norm):
    """They would take made-up gradients for the loss's."""
    weight = nn.Parameter(torch.randn(3, 4))
    numbers = norm(weight)
    seen = []
    for tensor in (weight, numbers):
        tensor.register_hook(lambda gradient: seen.append(gradient) or 0 * gradient)
    (term,) = penalty_terms(weight.exp().sum() + 0.1 * numbers.sum(), {"w": weight})
    assert term.strength == pytest.approx(0.1)
    assert seen == []
    assert weight.grad is None


def test_a_weight_that_is_computed_from_another_is_the_parameter_that_is_named():
    raw = nn.Parameter(torch.randn(3, 4))
    weight = raw.exp() - 1
    (term,) = penalty_terms(0.1 * (2 * weight.T).abs().sum(), {"w": weight})
    assert (term.parameters, term.uniform) == (("w",), True)
    assert term.strength == pytest.approx(0.2)


class Sum(torch.autograd.Function):
    """Not the sum that its name is of."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.sign().sum()

    @staticmethod
    def backward(ctx, slope):
        return slope * torch.ones_like(ctx.saved_tensors[0])


def test_a_function_of_the_user_is_not_the_operation_of_its_name():
    weight = nn.Parameter(torch.randn(3, 4))
    read = scan(Sum.apply(weight), named_parameters={"w": weight})
    assert [operation.smoothness for operation in read.operations] == [Smoothness.UNKNOWN]
    assert penalty_terms(Sum.apply(weight.abs()), {"w": weight}) == ()
    (term,) = penalty_terms(Sum.apply(F.softplus(weight)) + 0.1 * weight.abs().sum(), {"w": weight})
    assert term.strength == pytest.approx(0.1)
