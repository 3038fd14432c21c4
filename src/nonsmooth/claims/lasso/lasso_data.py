"""The data of §3: W 20×500, y 20 and β₀, all U[-1, 1]; one generator per seed, so a seed's draw stays the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

SAMPLES, FEATURES = 20, 500
RESPONSES = ("paper", "signal", "permuted", "normal", "doubled")


@dataclass(frozen=True)
class LassoData:
    """A batch of draws.

    Attributes:
        data: W, shape (seeds, samples, features).
        response: y, shape (seeds, samples).
        start: β₀, shape (seeds, features).
    """

    data: Tensor
    response: Tensor
    start: Tensor

    def starts(self, variants: int) -> Tensor:
        """β₀ once for each variant, shape (seeds, variants, features)."""
        return self.start.unsqueeze(1).expand(-1, variants, -1).contiguous()


def draw_lasso(first_seed: int, seeds: int, response: str = "paper", start: str = "uniform") -> LassoData:
    """Draw `seeds` instances in float64.

    Args:
        first_seed: seed of the first.
        seeds: how many.
        response: "paper" (y ~ U[-1, 1], which has nothing to do with W), "signal" (y = Wβ with five entries ±1 in β) or
            "permuted" (the same y, in random order); with the paper's y, "normal" (W normal, of the same variance) or
            "doubled" (2W).
        start: "uniform" (β₀ ~ U[-1, 1]) or "zeros".

    Raises:
        ValueError: a word that is not accepted.
    """
    if response not in RESPONSES:
        raise ValueError(f"response is {response!r}; accepted are {', '.join(RESPONSES)}")
    if start not in ("uniform", "zeros"):
        raise ValueError(f"start is {start!r}; accepted are uniform, zeros")
    drawn = [_draw_one(seed, response) for seed in range(first_seed, first_seed + seeds)]
    batch = LassoData(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
    return batch if start == "uniform" else replace(batch, start=torch.zeros_like(batch.start))


def _draw_one(seed: int, response: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

    data, noise, start = uniform(SAMPLES, FEATURES), uniform(SAMPLES), uniform(FEATURES)
    if response == "normal":
        data = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64) / 3**0.5
    if response not in ("signal", "permuted"):
        return data * 2 if response == "doubled" else data, noise, start
    chosen = torch.randperm(FEATURES, generator=generator)[:5]
    signal = data[:, chosen] @ torch.sign(uniform(5))
    if response == "permuted":
        signal = signal[torch.randperm(SAMPLES, generator=generator)]
    return data, signal, start
