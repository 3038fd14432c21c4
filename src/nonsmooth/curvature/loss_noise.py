"""How far rounding moves a loss, measured."""

from __future__ import annotations

import torch

from nonsmooth.curvature.probe import Probe

EVALUATIONS = 7
SPACING = 4.0
"""Units in the last place between the points, on average."""
THIRD = 20.0
"""Variance of a third difference of independent numbers of variance 1: the squares of 1, 3, 3, 1."""


def loss_noise(probe: Probe) -> float:
    """The standard deviation of the rounding in a loss at the present weights (Moré & Wild 2011, "ECnoise").

    The loss at points in a row that lie a few units in the last place apart: what the loss itself does over such a
    distance is a straight line, and third differences take away much more than that.

    Args:
        probe: closure and parameters, in its block `preserve_state`.

    Returns:
        The standard deviation, in the units of the loss; NaN where the loss is.
    """
    weights = probe.weights()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(probe.size, generator=generator, dtype=probe.dtype).to(probe.device)
    move = noise * weights.abs().clamp(min=weights.abs().mean()) * (SPACING * probe.precision)
    losses = []
    for count in range(EVALUATIONS):
        with probe.moved(move * count):
            losses.append(probe.loss())
    third = torch.tensor(losses, dtype=torch.float64).diff(n=3)
    return float((third.square().mean() / THIRD).sqrt())
