"""The narrow VGG networks of Figure 2 (App. A): no batch normalisation, average pooling, a choice of activation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nonsmooth.deprecation import renamed_arguments, renamed_names
from nonsmooth.models.activations import ACTIVATIONS

POOL = "M"
CONFIGURATIONS: dict[int, tuple[int | str, ...]] = {
    11: (16, "M", 32, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"),
    13: (16, 16, "M", 32, 32, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"),
    19: (16, 16, "M", 32, 32, "M", 32, 32, 32, 32, "M", 64, 64, 64, 64, "M", 64, 64, 64, 64, "M"),
}
"""Output channels of the convolutions, and "M" where kuangliu's code has a pooling layer, as App. A prints them."""

WEIGHT_LAYERS = {
    depth: 1 + sum(entry != POOL for entry in configuration) for depth, configuration in CONFIGURATIONS.items()
}
"""Layers that have weights, which is what really grows: VGG11, 13 and 19 have 9, 11 and 17, not 11, 13 and 19."""


def _default(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """PyTorch's own: weights and biases uniform on ±1/√fan_in, which shrinks the signal from layer to layer."""
    bound = layer.weight[0].numel() ** -0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    if layer.bias is not None:
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _kaiming(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """He et al. (2015): normal weights of variance 2/fan_in and zero biases, which keeps ReLU's signal alive."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


INITIALIZATIONS: dict[str, Callable[[nn.Conv2d | nn.Linear, torch.Generator], None]] = {
    "default": _default,
    "kaiming": _kaiming,
}


__getattr__ = renamed_names(__name__, INITIALISATIONS="INITIALIZATIONS")


@renamed_arguments(initialisation="initialization")
def vgg(
    depth: int,
    activation: str = "relu",
    *,
    classes: int = 10,
    initialization: str = "default",
    generator: torch.Generator,
    channels_last: bool = True,
) -> nn.Sequential:
    """A network of Figure 2, for images of 32×32 pixels with three channels.

    Convolutions 3×3 with padding 1 and bias, each followed by the activation; 2×2 average pooling; one linear layer
    from 64 features. Networks that differ in the activation alone start from the same weights.

    Args:
        depth: 11, 13 or 19 (9, 11 and 17 weight layers).
        activation: a name in `ACTIVATIONS`.
        classes: number of outputs.
        initialization: "default" (PyTorch's) or "kaiming" (He et al. 2015, zero biases).
        generator: of all random numbers drawn; the global one is left alone.
        channels_last: keep the weights in the channels-last format, which is the faster one for these shapes.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: an unknown depth, activation or initialization, or fewer than one class.
    """
    for name, value, accepted in (
        ("depth", depth, CONFIGURATIONS),
        ("activation", activation, ACTIVATIONS),
        ("initialization", initialization, INITIALIZATIONS),
    ):
        if value not in accepted:
            raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(str, accepted))}")
    if classes < 1:
        raise ValueError(f"classes is {classes}; accepted are numbers of at least 1")
    layers: list[nn.Module] = []
    channels = 3
    for entry in CONFIGURATIONS[depth]:
        if isinstance(entry, str):
            layers.append(nn.AvgPool2d(2))
            continue
        layers += [
            nn.Conv2d(channels, entry, kernel_size=3, padding=1, device="meta"),
            ACTIVATIONS[activation].make(),
        ]
        channels = entry
    layers += [nn.Flatten(), nn.Linear(channels, classes, device="meta")]
    model = nn.Sequential(*layers).to_empty(device="cpu")  # from "meta": nothing was drawn from the global generator
    initialize = INITIALIZATIONS[initialization]
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            initialize(layer, generator)
        if channels_last and isinstance(layer, nn.Conv2d):
            layer.weight = nn.Parameter(layer.weight.detach().contiguous(memory_format=torch.channels_last))
    return model
