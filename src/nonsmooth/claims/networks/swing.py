"""Each weight's own law at the kink, from its drift and noise, against where the weight is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth.dynamics.kink_walk import walk_at_kink
from nonsmooth.dynamics.network_stack import NetworkStack

WINDOW = 200
"""Steps over which drift and noise are measured, and again steps over which the law is put to the test."""
WALK, BURN_IN = 300, 100
"""Steps of the simulated law, recorded and before."""
NOISE_CLASSES = (0.5, 1.0, 2.0)
"""Bounds of the noise σ, in λ."""
LADDER = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0)
"""Thresholds of |w|, in αλ."""
RECORDED = ("norm", "zeros", "held", "size", "law", "sloped", "within", "within_size", "below", "below_law")


def measure_swing(networks: NetworkStack, generator: torch.Generator) -> Mapping[str, Tensor]:
    """What is measured in one window of steps says where the weights are in the next one.

    A weight is held at the kink if it changes sign in the first window and the mean of its gradient there is below λ.

    Returns:
        Of each network, shapes (seeds, ...): `norm`, the L1 norm over P·αλ/2; `zeros`, the share of exact zeros. Sums
        over held weights by class of noise, |w| in αλ/2: `held`, how many there are; `size`, of mean |w|; `law`, the
        same by the law with drift and noise; `sloped`, with the drift's slope too. `within` and `within_size` are over
        the weights that lie within α(λ + mean |gradient|) of 0. `below` and `below_law` are the shares of held weights
        with noise up to λ that lie below each threshold of `LADDER`.
    """
    lr, strength = networks.lr, networks.strength
    unit = lr * strength / 2
    first = _window(networks)
    near = networks.weights.abs() <= lr * (strength + first["pull"])
    second = _window(networks, LADDER)
    held = (first["flips"] > 0) & (first["drift"].abs() < strength)
    drift, noise, slope, centre = (first[name][held] for name in ("drift", "noise", "slope", "centre"))
    left = (noise**2 - slope**2 * first["spread"][held]).clamp(min=0).sqrt()
    timing: dict[str, Any] = {"steps": WALK, "burn_in": BURN_IN, "generator": generator}
    thresholds = [2 * unit * one for one in LADDER]
    law = walk_at_kink(lr, strength, drift, noise, thresholds=thresholds, **timing)
    sloped = walk_at_kink(lr, strength, drift, left, slope, centre, **timing)
    classes = torch.bucketize(first["noise"] / strength, torch.tensor(NOISE_CLASSES))

    def by_class(values: Tensor) -> Tensor:
        """Sums over held weights, shape (seeds, classes)."""
        whole = torch.zeros_like(first["drift"], dtype=torch.float64)
        whole[held] = values.double()
        return torch.stack([(whole * (classes == one)).sum(1) for one in range(len(NOISE_CLASSES) + 1)], dim=1)

    quiet = held & (first["noise"] <= strength)
    share = torch.stack([(second["below"][i] * quiet).sum(1) for i in range(len(LADDER))], dim=1)
    share_law = torch.zeros(len(LADDER), *held.shape)
    share_law[:, held] = law.below
    count = quiet.sum(1, keepdim=True).clamp(min=1)
    return {
        "norm": second["size"].double().sum(1) / (unit * held.shape[1]),
        "zeros": (networks.weights == 0).double().mean(1),
        "held": by_class(torch.ones_like(drift)),
        "size": by_class(second["size"][held] / unit),
        "law": by_class(law.magnitude / unit),
        "sloped": by_class(sloped.magnitude / unit),
        "within": near.sum(1),
        "within_size": (second["size"] * near).double().sum(1) / unit,
        "below": share / count,
        "below_law": (share_law * quiet).sum(2).T / count,
    }


def _window(networks: NetworkStack, ladder: Sequence[float] = ()) -> Mapping[str, Tensor]:
    """Means over `WINDOW` steps: gradient and weight, their spreads, and the slope of the one along the other.

    `below` is the share of steps that each weight spends below each threshold of `ladder`, in αλ.
    """
    names = ("g", "gg", "pull", "w", "ww", "gw", "size", "flips")
    sums = {name: torch.zeros_like(networks.weights) for name in names}
    thresholds = [networks.lr * networks.strength * one for one in ladder]
    inside = torch.zeros(len(thresholds), *networks.weights.shape)
    for _ in range(WINDOW):
        before = networks.weights.clone()
        slope = networks.step()
        for name, value in (("g", slope), ("w", before), ("pull", slope.abs()), ("size", size := before.abs())):
            sums[name] += value
        for name, one, other in (("gg", slope, slope), ("ww", before, before), ("gw", slope, before)):
            sums[name].addcmul_(one, other)
        sums["flips"] += before * networks.weights < 0
        for index, threshold in enumerate(thresholds):
            inside[index] += size < threshold
    mean = {name: one / WINDOW for name, one in sums.items()}
    spread = (mean["ww"] - mean["w"] ** 2).clamp(min=0)
    return {
        "drift": mean["g"],
        "noise": (mean["gg"] - mean["g"] ** 2).clamp(min=0).sqrt(),
        # Held between no curvature and that at which a step of α overshoots.
        "slope": ((mean["gw"] - mean["g"] * mean["w"]) / spread.clamp(min=1e-20)).clamp(0, 1 / networks.lr),
        "centre": mean["w"],
        "spread": spread,
        "pull": mean["pull"],
        "size": mean["size"],
        "flips": sums["flips"],
        "below": inside / WINDOW,
    }
