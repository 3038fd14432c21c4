"""Where "probability 1" meets finite precision: starts on a dtype's lattice, and eq. (8) in its arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}
SAMPLERS = ("rand", "rounded")
"""How β₀ ~ U[-1, 1] is drawn: 2·torch.rand - 1 in the dtype, or in float64 and then rounded to the dtype.

`torch.rand` draws multiples of 2⁻⁵³ in float64 and of 2⁻²⁴ in float32. In the two 16-bit types it draws in float32,
rounds, and replaces 1 by 0.
"""
RANDOM_BITS = {"float32": 24, "float64": 53}
CHUNK = 1 << 16
"""Coordinates that are walked together: they fit the second-level cache."""


def spacing_at(number: float, dtype: str) -> float:
    """The distance from a positive number, rounded to the dtype, to the next larger number of the dtype."""
    rounded = torch.tensor(number, dtype=DTYPES[dtype])
    above = torch.nextafter(rounded, torch.tensor(torch.inf, dtype=DTYPES[dtype]))
    return float(above.double() - rounded.double())


def draw_starts(dtype: str, sampler: str, count: int, generator: torch.Generator) -> Tensor:
    """Random starts from U[-1, 1], shape (count,), of that dtype.

    Raises:
        ValueError: an unknown sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; accepted are {', '.join(SAMPLERS)}")
    if sampler == "rand":
        return torch.rand(count, dtype=DTYPES[dtype], generator=generator) * 2 - 1
    return (torch.rand(count, dtype=torch.float64, generator=generator) * 2 - 1).to(DTYPES[dtype])


def all_starts(dtype: str, sampler: str) -> tuple[Tensor, Tensor]:
    """Every value of β₀ that a sampler can give, up to its sign, with its probability (float64).

    The recursion is odd, so the fate of β₀ is that of -β₀, and one of the two is listed where both occur alike.

    Raises:
        ValueError: there are too many to list: float64, or float32 by rounding.
    """
    if dtype in ("bfloat16", "float16"):
        values, weights = _rounded_uniform(DTYPES[dtype])
        if sampler == "rounded":
            return values, weights  # |β₀| is uniform on [0, 1] before it is rounded
        weights[0] += weights[-1]
        return values[:-1] * 2 - 1, weights[:-1]
    if dtype == "float32" and sampler == "rand":
        half = 1 << (RANDOM_BITS[dtype] - 1)
        weights = torch.full((half + 1,), 1 / half, dtype=torch.float64)
        weights[0] = weights[-1] = 0.5 / half  # 0 has no mirror image, and +1 is never drawn
        return (torch.arange(half + 1, dtype=torch.float64) / half).to(DTYPES[dtype]), weights
    raise ValueError(f"dtype is {dtype!r} with sampler {sampler!r}; accepted are lattices of at most 2²³ + 1 values")


def _rounded_uniform(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All numbers of a 16-bit type in [0, 1], and the probability that a number from U[0, 1] rounds to each."""
    one = int(torch.tensor(1.0, dtype=dtype).view(torch.int16).item())
    values = torch.arange(one + 1, dtype=torch.int16).view(dtype)
    exact = values.double()
    edges = torch.cat([exact[:1], (exact[1:] + exact[:-1]) / 2, exact[-1:]])
    return values, edges.diff()


def multiples_probability(dtype: str, sampler: str, travel: float) -> float:
    """The probability that β₀ is an integer multiple of αλ, for αλ a power of two that the starts' spacing divides.

    Then all arithmetic of eq. (8) is exact, and these are the starts that become zero: eq. (9).

    Args:
        dtype: "float32" or "float64".
        sampler: how the starts are drawn.
        travel: αλ.
    """
    if sampler == "rand" or dtype == "float64":
        return float(2.0 ** (1 - RANDOM_BITS[dtype])) / travel
    multiples = (torch.arange(round(1 / travel) + 1, dtype=torch.float64) * travel).to(DTYPES[dtype])
    above = torch.nextafter(multiples, torch.full_like(multiples, 2)).double()
    below = torch.nextafter(multiples, torch.full_like(multiples, -2)).double()
    edges = torch.stack([(multiples.double() + below) / 2, (multiples.double() + above) / 2]).clamp(0, 1)
    return float((edges[1] - edges[0]).sum())


def walk(start: Tensor, travel: float, steps: int, proximal: bool = False, at_zero: float = 0.0) -> Tensor:
    """Eq. (8) in the arithmetic of the dtype, as `torch.optim.SGD` does it; the start is left as it is.

    Args:
        start: β₀, shape (coordinates,).
        travel: α, with λ = 1: the length αλ of a step.
        steps: number of steps.
        proximal: soft-threshold at αλ instead of taking the subgradient step.
        at_zero: the subgradient of |β| used at 0, in [-1, 1]; PyTorch's is 0.

    Returns:
        The coordinates after the last step, same shape and dtype.
    """
    point = start.clone()
    for first in range(0, len(point), CHUNK):
        part = point[first : first + CHUNK]
        for _ in range(steps):
            if proximal:
                part.copy_(torch.nn.functional.softshrink(part, travel))
            elif at_zero:
                part.add_(torch.where(part == 0, at_zero, part.sign()), alpha=-travel)
            else:
                part.add_(part.sign(), alpha=-travel)
    return point
