"""The stationary law of an optimiser on λ|w|: where a weight ends when only the penalty pulls on it.

A subgradient method with a constant step does not settle at the kink, it rattles across it. The law of |w| it then
follows, times the number of weights, is the L1 norm at which a penalised network gets stuck, before it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

QUANTILES = 1001
"""Points at which a law's quantile function is kept."""

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class StationaryLaw:
    """The law of |w| of one coordinate.

    Attributes:
        mean_magnitude: E|w|.
        exact_zeros: probability that w is exactly 0.
        flips_per_step: probability that a step changes the sign of w.
        quantiles: of |w| at equally spaced probabilities from 0 to 1, the ends included; linear in between.
    """

    mean_magnitude: float
    exact_zeros: float
    flips_per_step: float
    quantiles: tuple[float, ...]

    def fraction_below(self, threshold: float) -> float:
        """P(|w| < `threshold`)."""
        if threshold <= 0:
            return 0.0
        probabilities = np.linspace(0.0, 1.0, len(self.quantiles))
        return float(np.interp(threshold, self.quantiles, probabilities))

    def quantile(self, probability: float) -> float:
        """The magnitude below which a weight lies with this probability.

        Raises:
            ValueError: `probability` does not lie between 0 and 1.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; accepted are numbers from 0 to 1")
        return float(np.interp(probability, np.linspace(0.0, 1.0, len(self.quantiles)), self.quantiles))

    def l1_norm(self, parameters: int) -> float:
        """The expected L1 norm of that many independent weights: P·E|w|."""
        return parameters * self.mean_magnitude


def subgradient_law(step_size: float, penalty_strength: float) -> StationaryLaw:
    """The law of plain SGD on λ|w|, in closed form.

    Proposition 3.2: w alternates between γ and γ - αλ. From a start whose density hardly changes over a length of αλ,
    γ is uniform on (0, αλ), so |w| is too: E|w| = αλ/2 and P(|w| < τ) = min(1, τ/(αλ)).

    Args:
        step_size: α.
        penalty_strength: λ.

    Raises:
        ValueError: either is not a positive number.
    """
    for name, value in (("step_size", step_size), ("penalty_strength", penalty_strength)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; accepted is a positive number")
    width = step_size * penalty_strength
    return StationaryLaw(width / 2, 0.0, 1.0, (0.0, width))


def simulate_law(
    make_optimizer: MakeOptimizer,
    penalty_strength: float,
    *,
    coordinates: int = 4096,
    burn_in: int = 2000,
    window: int = 200,
    start_deviation: float = 0.01,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> StationaryLaw:
    """The law of any torch optimiser on λ|w|, by running that optimiser on independent copies of the problem.

    Args:
        make_optimizer: makes the optimiser of a list with one parameter, such as
            ``lambda parameters: torch.optim.Adam(parameters, lr=0.01)``; it must act on each coordinate on its own.
        penalty_strength: λ.
        coordinates: independent copies.
        burn_in: steps before the law is recorded; enough to arrive at the kink.
        window: steps over which it is recorded.
        start_deviation: coordinates start from N(0, start_deviation²), as VGG16's fully connected weights do. The law
            of an optimiser with memory depends on it somewhat: it has several cycles, and the start chooses.
        seed: of the starts.
        dtype: of the coordinates; a network's own shows what its precision does to the law.

    Raises:
        ValueError: a count is not positive, or `penalty_strength` or `start_deviation` is not a positive number.
    """
    for name, count in (("coordinates", coordinates), ("window", window)):
        if count < 1:
            raise ValueError(f"{name} is {count}; accepted is a number of at least 1")
    if burn_in < 0:
        raise ValueError(f"burn_in is {burn_in}; accepted is a number of at least 0")
    for name, value in (("penalty_strength", penalty_strength), ("start_deviation", start_deviation)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; accepted is a positive number")
    weight = torch.empty(coordinates, dtype=dtype)
    weight.normal_(0.0, start_deviation, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    optimizer = make_optimizer([weight])

    def step() -> None:
        weight.grad = penalty_strength * torch.sign(weight.detach())
        optimizer.step()

    for _ in range(burn_in):
        step()
    visited = torch.empty(window, coordinates, dtype=dtype)
    flips = 0
    for index in range(window):
        before = torch.sign(weight.detach())
        step()
        visited[index] = weight.detach()
        flips += int((before * torch.sign(visited[index]) < 0).sum())
    magnitudes: npt.NDArray[np.float64] = visited.abs().double().numpy().ravel()
    return StationaryLaw(
        mean_magnitude=float(magnitudes.mean()),
        exact_zeros=float(np.mean(magnitudes == 0)),
        flips_per_step=flips / (window * coordinates),
        quantiles=tuple(float(q) for q in np.quantile(magnitudes, np.linspace(0.0, 1.0, QUANTILES))),
    )
