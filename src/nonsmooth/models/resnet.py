"""Small residual networks for images of 32×32 pixels, with batch normalisation and ReLU (He et al. 2016, §4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS_BESIDE_BLOCKS = 2
LAYERS_PER_BLOCK = 2


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each normalised, added to a shortcut: ReLU(shortcut(x) + f(x)).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution. Where it or the number of channels changes, the shortcut is a 1×1 convolution
            with normalisation (He et al.'s option B), elsewhere the identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.normalisation1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.normalisation2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """(images, inputs, height, width) to (images, outputs, height/stride, width/stride)."""
        inner = functional.relu(self.normalisation1(self.convolution1(images)))
        return functional.relu(self.shortcut(images) + self.normalisation2(self.convolution2(inner)))


def resnet(
    depth: int = 8,
    *,
    widths: Sequence[int] = (16, 32, 64),
    stem_stride: int = 1,
    classes: int = 10,
    generator: torch.Generator,
    channels_last: bool = True,
) -> nn.Sequential:
    """A residual network: a 3×3 convolution, a stage of blocks per width, global average pooling, a linear layer.

    Each stage after the first halves the image. Convolutions have no bias and start from normal weights of variance
    2/fan_in (He et al. 2015), as the linear layer does; normalisation starts as the identity.

    Args:
        depth: weight layers, not counting those of shortcuts: 2 + 2·stages·n for n ≥ 1 blocks per stage; for three
            stages 8, 14, 20 and so on.
        widths: channels of each stage.
        stem_stride: of the first convolution. 2 makes the network about four times as fast and sees less detail.
        classes: number of outputs.
        generator: of all random numbers drawn; the global one is left alone.
        channels_last: keep the weights in the channels-last format, which is the faster one for these shapes.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: no whole number of blocks per stage gives that depth, a width, the stride or the number of classes
            is below 1, or there are no widths.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}; accepted are one or more numbers of at least 1")
    for name, value in (("stem_stride", stem_stride), ("classes", classes)):
        if value < 1:
            raise ValueError(f"{name} is {value}; accepted are numbers of at least 1")
    per_block = LAYERS_PER_BLOCK * len(widths)
    blocks, left = divmod(depth - LAYERS_BESIDE_BLOCKS, per_block)
    if blocks < 1 or left:
        smallest = [LAYERS_BESIDE_BLOCKS + per_block * count for count in (1, 2, 3)]
        raise ValueError(
            f"depth is {depth}; accepted with {len(widths)} stages are {', '.join(map(str, smallest))} and so on"
        )
    with torch.device("meta"):  # nothing is drawn from the global generator
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(ResidualBlock(channels, width, 2 if stage > 0 and block == 0 else 1))
                channels = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        model = nn.Sequential(*layers)
    model = model.to_empty(device="cpu")
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        if channels_last and isinstance(layer, nn.Conv2d):
            layer.weight = nn.Parameter(layer.weight.detach().contiguous(memory_format=torch.channels_last))
    return model
