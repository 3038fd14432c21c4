"""The data of eq. (13) that the claims of §4 share: 50×200, overparameterised, with an interpolating minimiser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nonsmooth.problems import Absolute, Huber, Loss, Power, PseudoHuber, Regression

SAMPLES, FEATURES = 50, 200
LOSSES: Mapping[str, Loss] = {
    "huber": Huber(),
    "pseudo-huber": PseudoHuber(),
    "squared": Power(2.0),
    "power 3/2": Power(1.5),
    "quartic": Power(4.0),
    "absolute": Absolute(),
}
"""The first three have curvature 1 at zero, hence the same L = σ_max(Z)²/N of eq. (5)."""
TONES = {"huber": "ours", "pseudo-huber": "b", "squared": "control", "power 3/2": "c", "quartic": "d", "absolute": "e"}
EDITION = (
    "February 2024 (arXiv 2401.08426, early version). Versions from November 2024 on turn the conclusion round: from "
    'the edge of stability being "inapplicable" to its "occurring in a broader class of functions"'
)
ENTRIES = ("uniform", "normal")
"""How Z and y are drawn: from U[-1, 1] or N(0, 1). The paper calls both "arbitrary"."""


def draw_entries(kind: str, generator: torch.Generator, *shape: int) -> Tensor:
    """Independent entries from U[-1, 1] or N(0, 1), in float64.

    Raises:
        ValueError: another kind.
    """
    if kind not in ENTRIES:
        raise ValueError(f"entries are {kind!r}; accepted are {', '.join(ENTRIES)}")
    if kind == "normal":
        return torch.randn(*shape, generator=generator, dtype=torch.float64)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1


def draw_regression(
    entries: str, first_seed: int, seeds: int, loss: Loss | None = None, shape: tuple[int, int] = (SAMPLES, FEATURES)
) -> Regression:
    """The mean loss of eq. (13) on data of their own for each of `seeds` seeds, one instance a seed.

    The same seed has the same data whatever the loss.

    Args:
        entries: "uniform" or "normal".
        first_seed: of the first instance; the others follow.
        seeds: number of instances.
        loss: of each residual; by default the paper's, Huber with δ = 1.
        shape: N × P.
    """
    samples, features = shape
    data, response = [], []
    for seed in range(first_seed, first_seed + seeds):
        generator = torch.Generator().manual_seed(seed)
        data.append(draw_entries(entries, generator, samples, features))
        response.append(draw_entries(entries, generator, samples))
    loss = Huber() if loss is None else loss
    return Regression(torch.stack(data), torch.stack(response), loss=loss, scale=1 / samples)


def curvature_of(entries: str, first_seed: int, seeds: int) -> Tensor:
    """L = σ_max(Z)²/N of the Huber regression of each seed, shape (seeds, 1)."""
    constant = draw_regression(entries, first_seed, seeds).gradient_lipschitz
    assert constant is not None
    return constant


def draw_start(kind: str, first_seed: int, seeds: int, features: int = FEATURES) -> Tensor:
    """β_0, shape (seeds, 1, features): "zero", or drawn from U[-1, 1] ("uniform") or N(0, 1) ("normal").

    The paper does not say where Figure 3 starts. The draws are independent of the data's.
    """
    if kind == "zero":
        return torch.zeros(seeds, 1, features, dtype=torch.float64)
    starts = []
    # The other half of the 32 bits that PyTorch's generator keeps of a seed: no start repeats the data's numbers.
    for seed in range(first_seed, first_seed + seeds):
        generator = torch.Generator().manual_seed((1 << 31) + seed)
        starts.append(draw_entries(kind, generator, 1, features))
    return torch.stack(starts)


def interpolant(problem: Regression) -> Tensor:
    """A minimiser without residuals, of shape (instances, 1, features): the one of least norm.

    Raises:
        ValueError: the data are not interpolated by any β.
    """
    minimiser = problem.minimizer
    if minimiser is None:
        raise ValueError(f"data of shape {tuple(problem.data.shape)} are not interpolated by any linear model")
    return minimiser
