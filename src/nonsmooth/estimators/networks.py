"""The models: a linear layer, or several with an activation between them."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def build(sizes: tuple[int, ...], activation: type[nn.Module], *, bias: bool) -> nn.Sequential:
    """Linear layers with an activation between them, all of their entries 0, in float64.

    Args:
        sizes: numbers of features, of units in each hidden layer, and of outputs.
        activation: its class.
        bias: whether layers have intercepts.
    """
    layers: list[nn.Module] = []
    # Not initialised by torch, which would draw from the generator that all of a program shares.
    for fan_in, fan_out in itertools.pairwise(sizes):
        layer = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, fan_in, fan_out, bias=bias, dtype=torch.float64
        )
        layers += [layer, activation()]
    network = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """The layers with weights, in order."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def initialize(network: nn.Module, generator: torch.Generator, intercept: Tensor) -> None:
    """Draw the weights as in Glorot & Bengio (2010); the last intercept is the best constant, the others are 0.

    A linear model starts at 0 instead, from where no weight that stays out of the support has to be driven back.

    Args:
        network: as `build` gave it.
        generator: of the random numbers.
        intercept: the best constant outputs.
    """
    layers = linear_layers(network)
    if len(layers) > 1:
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight, generator=generator)
    if layers[-1].bias is not None:
        layers[-1].bias.copy_(intercept)


def coefficients(network: nn.Module) -> list[NDArray[np.float64]]:
    """The weights of each layer, (outputs, inputs)."""
    return [layer.weight.detach().numpy().copy() for layer in linear_layers(network)]


def intercepts(network: nn.Module) -> list[NDArray[np.float64]]:
    """The intercepts of each layer, (outputs,); zeros where there are none."""
    return [
        np.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().numpy().copy()
        for layer in linear_layers(network)
    ]
