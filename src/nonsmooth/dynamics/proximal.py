"""The proximal gradient step, the control of every claim about a step across a kink."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.recording import State


def proximal_step(strength: float | Tensor) -> Method:
    """The proximal gradient step of f + λ‖β‖₁: a gradient step of f, then the soft threshold at αλ.

    Args:
        strength: λ, a number, a tensor of shape (variants,), or one of three dimensions that broadcasts against points
            of shape (instances, variants, features).
    """
    weight = torch.as_tensor(strength)
    if weight.ndim < 3:
        weight = weight.to(torch.float64).reshape(1, -1, 1)

    def step(state: State, step_size: Tensor) -> Tensor:
        moved = state.point - step_size * state.evaluation.gradient
        threshold = step_size * weight.to(moved.dtype)
        return moved - torch.maximum(torch.minimum(moved, threshold), -threshold)

    return step
