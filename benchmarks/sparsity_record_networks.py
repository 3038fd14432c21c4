"""The networks of `sparsity_record.py`: a small one for a CPU, and ResNet-18 and VGG-19 at full width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nonsmooth.models.resnet import resnet

POOL = "M"
SMALL = ((32, 2), (48, 2), (96, 2), (128, 1))
VGG19 = (
    *((64, 1), (64, 1), POOL),
    *((128, 1), (128, 1), POOL),
    *((256, 1),) * 4,
    POOL,
    *((512, 1),) * 4,
    POOL,
    *((512, 1),) * 4,
    POOL,
)
"""Configuration E of Simonyan & Zisserman (2015), with one linear layer as is usual for images of 32×32 pixels."""


def plain(
    entries: Sequence[tuple[int, int] | str], generator: torch.Generator, *, last_pooling: bool = True
) -> nn.Sequential:
    """Convolutions 3×3, each normalised by batch and followed by a ReLU; then a linear layer to ten classes.

    Args:
        entries: channels and stride of each convolution, or "M" for 2×2 max pooling.
        generator: of the weights, normal with variance 2/fan_in (He et al. 2015).
        last_pooling: whether the mean over the image is taken before the linear layer, which else sees one pixel.
    """
    layers: list[nn.Module] = []
    channels = 3
    with torch.device("meta"):  # nothing is drawn from the global generator
        for entry in entries:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(2))
                continue
            width, stride = entry
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers += [nn.AdaptiveAvgPool2d(1)] if last_pooling else []
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 10))
    model = model.to_empty(device="cpu")
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


@dataclass(frozen=True)
class Network:
    """A name in tables, and what builds the network from a generator."""

    label: str
    build: Callable[[torch.Generator], nn.Sequential]


NETWORKS = {
    "cnn": Network("CNN of four convolutions", lambda generator: plain(SMALL, generator)),
    "resnet18": Network(
        "ResNet-18", lambda generator: resnet(18, widths=(64, 128, 256, 512), generator=generator, channels_last=False)
    ),
    "vgg19": Network("VGG-19", lambda generator: plain(VGG19, generator, last_pooling=False)),
    "tiny": Network("two convolutions", lambda generator: plain(((8, 2), (16, 2)), generator)),
}


def build(network: str, seed: int, device: torch.device) -> nn.Sequential:
    """A network with its starting weights, channels last, which are the same on every device."""
    model = NETWORKS[network].build(torch.Generator().manual_seed(seed))
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model.to(device)
