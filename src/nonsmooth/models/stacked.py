"""Many small perceptrons at once: their weights lie in stacks, and each step is one batched product a layer.

Each network draws from a generator of its own, so it is the same whatever it is stacked with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

Layers = list[Tensor]
"""Weights (networks, in, out) and biases (networks, 1, out) of each layer in turn."""
Activate = Callable[[Tensor], Tensor]


def draw_perceptrons(widths: Sequence[int], seeds: Sequence[int], initialisation: str = "kaiming") -> Layers:
    """First weights.

    Args:
        widths: inputs, hidden units of each layer, outputs.
        seeds: one for each network.
        initialisation: "kaiming", normal of variance 2/fan_in with zero biases (He et al. 2015), or "default",
            PyTorch's own: uniform on ±1/√fan_in.
    """
    networks = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        layers: Layers = []
        for inputs, outputs in pairwise(widths):
            if initialisation == "kaiming":
                layers.append(torch.randn(inputs, outputs, generator=generator) * (2 / inputs) ** 0.5)
                layers.append(torch.zeros(1, outputs))
            else:
                bound = inputs**-0.5
                for rows in (inputs, 1):
                    layers.append((torch.rand(rows, outputs, generator=generator) * 2 - 1) * bound)
        networks.append(layers)
    return [torch.stack(parts) for parts in zip(*networks, strict=True)]


def preactivations(layers: Layers, inputs: Tensor, activate: Activate) -> list[Tensor]:
    """What every layer computes before its activation, (networks, rows, width); the last are the outputs.

    Args:
        layers: the networks.
        inputs: (rows, inputs), the same for all networks, or (networks, rows, inputs).
        activate: between the layers.
    """
    signal = inputs if inputs.ndim == 3 else inputs.expand(len(layers[0]), *inputs.shape)
    found: list[Tensor] = []
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        found.append(torch.baddbmm(bias, activate(signal) if found else signal, weight))
        signal = found[-1]
    return found


def cross_entropies(layers: Layers, inputs: Tensor, labels: Tensor, activate: Activate) -> Tensor:
    """Mean cross-entropy of each network, (networks,); labels are (rows,), or (networks, rows)."""
    outputs = preactivations(layers, inputs, activate)[-1]
    rows = labels.expand(len(outputs), -1)
    return functional.cross_entropy(outputs.transpose(1, 2), rows, reduction="none").mean(1)


@torch.no_grad()
def match_perceptrons(layers: Layers, inputs: Tensor, activate: Activate) -> Layers:
    """Scale each layer so that its outputs have the root mean square that those of the same network with ReLU have.

    See `match_scales`.
    """
    matched = [part.clone() for part in layers]
    for layer, signal in enumerate(preactivations(layers, inputs, torch.relu)):
        ours = preactivations(matched, inputs, activate)[layer]
        factor = (signal.square().mean((1, 2)) / ours.square().mean((1, 2))).sqrt()[:, None, None]
        for part in (2 * layer, 2 * layer + 1):
            matched[part] *= factor
    return matched
