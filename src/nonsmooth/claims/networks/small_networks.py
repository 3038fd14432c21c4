"""Small networks that learn, several seeds of one side by side: what `live-law` and `pruning` measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from nonsmooth import extremes
from nonsmooth.claims.framework import Choice, Estimate, Finding, Quantity, Run
from nonsmooth.data import Images, load_images, resolve_source
from nonsmooth.dynamics.network_stack import NetworkStack
from nonsmooth.models.resnet import resnet
from nonsmooth.models.vgg import vgg

HIDDEN, PIXELS = 100, 8


def _perceptron(generator: torch.Generator) -> nn.Module:
    """One hidden layer of ReLUs on the 8×8 digits, from PyTorch's default start."""
    layers = nn.Linear(PIXELS**2, HIDDEN, device="meta"), nn.Linear(HIDDEN, 10, device="meta")
    for layer in (layer.to_empty(device="cpu") for layer in layers):
        bound = layer.in_features**-0.5
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1])


NETWORKS: Mapping[str, Callable[[torch.Generator], nn.Module]] = {
    "mlp": _perceptron,
    "vgg11": lambda generator: vgg(11, initialization="kaiming", generator=generator, channels_last=False),
    "resnet8": lambda generator: resnet(8, generator=generator, channels_last=False),
}
PENALTIES: Mapping[str, tuple[float, ...]] = {
    "mlp": (1e-4, 1e-3, 1e-2),
    "vgg11": (1e-6, 1e-5, 1e-4),
    "resnet8": (1e-5, 1e-4, 1e-3),
}
"""λ: three decades, the last one the largest at which λ‖w‖₁ at the start (‖w‖₁ is 455, 8,270 and 5,510) is at most
three times the loss of guessing, ln 10. A sample specification of NVIDIA's has 3e-5."""
LR: Mapping[str, float] = {"mlp": 0.1, "vgg11": 0.05, "resnet8": 0.1}
"""α; the paper's 0.01 takes ten times as many steps."""
BATCH = 32
SECONDS_PER_STEP: Mapping[str, float] = {"mlp": 0.0016, "vgg11": 0.15, "resnet8": 0.6}
"""Of all seeds, on one core."""

LEARNT = Choice(
    "learnt",
    0.5,
    (0.3, 0.8),
    "accuracy from which on a network has learnt",
    "Five times that of guessing among ten classes.",
)
NETWORK = Choice(
    "network",
    "mlp",
    ("vgg11", "resnet8"),
    "networks:",
    "The one that every scale has; the others are trained at scale standard.",
    condition="for the network {value}",
)


def load(run: Run, network: str, images: str, split: str, count: int | None) -> Images:
    """A split as a network takes it: the perceptron sees the digits at their own 8×8 pixels, in one channel."""
    source = resolve_source(images, run.context.data)
    if network != "mlp":
        return load_images(source, split, count)
    loaded = load_images(source, split, count, PIXELS)
    return replace(loaded, inputs=loaded.inputs[:, :1].contiguous())


def stack(
    run: Run, network: str, images: str, train_images: int | None, penalty: float, rule: str, seeds: int
) -> NetworkStack:
    """Networks of all seeds before their first step, which `rule` ("subgradient" or "proximal") will take."""
    return NetworkStack(
        NETWORKS[network],
        range(run.seed, run.seed + seeds),
        load(run, network, images, "train", train_images),
        batch=BATCH,
        lr=LR[network],
        strength=penalty,
        proximal=rule == "proximal",
        device=run.context.device,
    )


def worst(quantity: Quantity, samples: Sequence[Sequence[float] | np.ndarray], *, largest: bool = True) -> Finding:
    """Of several samples over seeds the one whose median is the largest, or the smallest, with its interval.

    The interval of a single seed is the whole line: it decides nothing.
    """
    found = [quantity.median(one) for one in samples]
    numbers = [one for one in found if isinstance(one, Estimate)]
    if not numbers or len(numbers) < len(found):
        return quantity.missing()
    one = (extremes.largest if largest else extremes.smallest)(numbers, key=lambda each: float(each.value))
    return one if (one.count or 0) > 1 else quantity.estimate(one.value, -math.inf, math.inf, one.count)
