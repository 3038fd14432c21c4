"""VGG16 as torchvision publishes it: the network of §3 and appendix B, with the same parameter names and shapes.

The architecture is configuration D of Simonyan & Zisserman (2015) without batch normalisation. A state_dict of
torchvision's pretrained `vgg16` loads into `Vgg16()` as it is.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nonsmooth.deprecation import renamed_arguments, renamed_names

CONVOLUTIONS: tuple[int | None, ...] = (
    *(64, 64, None),
    *(128, 128, None),
    *(256, 256, 256, None),
    *(512, 512, 512, None),
    *(512, 512, 512, None),
)
"""Output channels of the 3×3 convolutions; None is a 2×2 max pooling."""

HIDDEN = 4096
"""Units of the two hidden fully connected layers."""

POOLED = 7
"""Height and width to which the last feature map is averaged."""

CLASSES = 1000
"""Outputs of the network: ImageNet's classes, which appendix B keeps although CIFAR-10 has ten."""

PARAMETERS = 138_357_544
"""Number of parameters at full width with 1,000 classes."""

WEIGHTS_VARIABLE = "NONSMOOTH_VGG16_WEIGHTS"
"""Environment variable with a file that holds torchvision's pretrained weights."""

WEIGHTS_FILE = "vgg16-397923af.pth"
"""The name under which torchvision keeps them (528 MB) in torch's cache."""

Initialization = Callable[["Vgg16", torch.Generator], None]


class Vgg16(nn.Module):
    """VGG16; at `width` 1 the network of the paper, 138,357,544 parameters.

    Args:
        classes: number of outputs.
        width: factor on every number of channels and hidden units, rounded down, at least 1 each.
        dropout: probability of dropping a hidden unit in training.

    Shapes:
        images (N, 3, height, width), each side at least 32 → logits (N, classes).

    The parameters are allocated but not initialised: use `vgg16` or `load_pretrained`.

    Raises:
        ValueError: `classes` or `width` is not positive, or `dropout` is not a probability below 1.
    """

    def __init__(self, classes: int = CLASSES, width: float = 1.0, dropout: float = 0.5) -> None:
        if classes < 1:
            raise ValueError(f"classes is {classes}; accepted is a number of at least 1")
        if not width > 0:
            raise ValueError(f"width is {width}; accepted is a positive factor, 1 for the full network")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; accepted is a probability of at least 0 and below 1")
        super().__init__()

        def scaled(units: int) -> int:
            return max(1, int(units * width))

        # Layers made on the meta device draw no random numbers, neither slow ones nor from the global generator.
        with torch.device("meta"):
            layers: list[nn.Module] = []
            channels = 3
            for output in CONVOLUTIONS:
                if output is None:
                    layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                    continue
                layers += [nn.Conv2d(channels, scaled(output), kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = scaled(output)
            hidden = scaled(HIDDEN)
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d((POOLED, POOLED))
            self.classifier = nn.Sequential(
                nn.Linear(channels * POOLED * POOLED, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, classes),
            )
        self.to_empty(device="cpu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, height, width)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
        return logits


@torch.no_grad()
def torchvision_initialization(model: Vgg16, generator: torch.Generator) -> None:
    """Start as torchvision does: convolutions N(0, 2/fan_out), linear layers N(0, 0.01²), biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            module.weight.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(module, nn.Linear):
            module.weight.normal_(0.0, 0.01, generator=generator)
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def fan_in_initialization(model: Vgg16, generator: torch.Generator) -> None:
    """PyTorch's default for a layer made on its own: weights and biases uniform within ±1/√fan_in."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters():
                parameter.uniform_(-bound, bound, generator=generator)


INITIALIZATIONS: dict[str, Initialization] = {
    "torchvision": torchvision_initialization,
    "fan-in": fan_in_initialization,
}
"""Starts of an untrained network."""

__getattr__ = renamed_names(
    __name__,
    INITIALISATIONS="INITIALIZATIONS",
    fan_in_initialisation="fan_in_initialization",
    torchvision_initialisation="torchvision_initialization",
)


@renamed_arguments(initialisation="initialization")
def vgg16(
    seed: int,
    *,
    width: float = 1.0,
    classes: int = CLASSES,
    dropout: float = 0.5,
    initialization: str = "torchvision",
) -> Vgg16:
    """A freshly initialised VGG16: the same bits for the same arguments.

    Raises:
        ValueError: `initialization` is not one of `INITIALIZATIONS`, or what `Vgg16` raises.
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"initialization is {initialization!r}; accepted are {', '.join(INITIALIZATIONS)}")
    model = Vgg16(classes, width, dropout)
    INITIALIZATIONS[initialization](model, torch.Generator().manual_seed(seed))
    return model


def find_pretrained() -> Path | None:
    """The file of pretrained weights that is at hand: the one that `WEIGHTS_VARIABLE` names, or torch's cached one."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    places = [Path(named)] if named else [Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE]
    return next((place for place in places if place.is_file()), None)


def load_pretrained(path: str | Path | None = None) -> Vgg16:
    """The full VGG16 with torchvision's weights trained on ImageNet, where the paper's fine-tuning starts.

    Args:
        path: a file that holds the state_dict of torchvision's pretrained `vgg16`; without one, torchvision itself is
            asked, which downloads the file once.

    Raises:
        FileNotFoundError: there is no file at `path`.
        RuntimeError: no path was given and torchvision cannot be imported, or the file holds another network.
    """
    model = Vgg16()
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"path is {str(path)!r}; accepted is a file with the state_dict of VGG16")
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return model
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:  # a build that does not fit torch fails with RuntimeError
        raise RuntimeError(
            "pretrained weights need a state_dict file or an importable torchvision (pip install torchvision, "
            f"matching torch {torch.__version__})"
        ) from error
    model.load_state_dict(models.vgg16(weights=models.VGG16_Weights.IMAGENET1K_V1).state_dict())
    return model
