"""The closed form of the subgradient method on λ‖β‖₁ with a constant step (Proposition 3.2).

Every coordinate moves by αλ a step, towards zero. After n steps it lies at γ in (0, αλ) (or at -γ), and from then on
it alternates between γ and γ - αλ.
"""

from __future__ import annotations

import torch
from torch import Tensor


def settling_steps(start: Tensor, travel: float | Tensor) -> Tensor:
    """How many steps a coordinate takes until |β| < αλ: n = ⌊|β₀|/αλ⌋, of Proposition 3.2.

    Args:
        start: β₀, any shape.
        travel: αλ, the length of a step; broadcasts to the shape of `start`.

    Returns:
        Whole numbers in the dtype of `start`, of its shape. N₀ of a vector is their maximum.
    """
    return torch.floor(start.abs() / travel)


def median_settling_steps(features: int, travel: float) -> int:
    """The median of N₀ over starts β₀ ~ U[-1, 1]: the least n with ((n+1)αλ)^P ≥ 1/2.

    Args:
        features: P.
        travel: αλ.
    """
    n = 0
    while ((n + 1) * travel) ** features < 0.5:
        n += 1
    return n
