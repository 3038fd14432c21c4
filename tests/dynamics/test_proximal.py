"""The proximal step against torch's soft threshold."""

import torch

from nonsmooth.dynamics import Constant, iterate, proximal_step
from nonsmooth.problems import l1_norm


def test_proximal_step_is_softshrink_and_reaches_zero():
    start = torch.tensor([[[0.5053, -0.0049, 0.0]]], dtype=torch.float64)
    run = iterate(l1_norm(3, 1.0), start, Constant(0.01), 1, method=lambda: proximal_step(1.0))
    assert torch.allclose(run.point, torch.nn.functional.softshrink(start, 0.01))
    run = iterate(l1_norm(3, 1.0), start, Constant(0.01), 60, method=lambda: proximal_step(1.0))
    assert bool((run.point == 0).all())
