"""Training steps of a ResNet-18 and a small GPT: forward, backward and the optimizer's step, on random data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from step_time import STRENGTH
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.models.resnet import resnet
from nonsmooth.optim import ProxAdam, ProxSGD, SteadyAdam, SteadySGD, penalize
from nonsmooth.penalties import L1

AIM = 1.05
"""For a training step with SteadyAdam over that with Adam."""

LEARNING_RATE = 1e-4
"""Small, since all optimizers move the same network in turns."""


@dataclass(frozen=True)
class Size:
    """How large a problem is.

    Attributes:
        widths: channels of the stages of the ResNet.
        images: of a batch.
        tokens: in the vocabulary.
        width: of the GPT.
        blocks: of the GPT.
        context: tokens of a text.
        texts: of a batch.
    """

    widths: tuple[int, ...]
    images: int
    tokens: int
    width: int
    blocks: int
    context: int
    texts: int


FULL = Size((64, 128, 256, 512), images=256, tokens=16384, width=512, blocks=8, context=256, texts=32)
MINIATURE = Size((4, 4, 4, 4), images=2, tokens=17, width=8, blocks=1, context=8, texts=2)


class Block(nn.Module):
    """Attention to what came before, then two layers, each after a normalisation and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self._heads = max(1, width // 64)

    def forward(self, inputs: Tensor) -> Tensor:
        """(texts, context, width), and the same shape again."""
        queries, keys, values = (
            part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for part in self.attention(self.before_attention(inputs)).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        inputs = inputs + self.projection(seen.transpose(1, 2).flatten(2))
        return inputs + self.layers(self.before_layers(inputs))


class SmallGPT(nn.Module):
    """A decoder after Radford et al. (2019), with as many blocks as its size says."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(size.tokens, size.width), nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*(Block(size.width) for _ in range(size.blocks)))
        self.normalisation, self.head = nn.LayerNorm(size.width), nn.Linear(size.width, size.tokens, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        """(texts, context) to (texts, context, tokens)."""
        places = torch.arange(text.shape[1], device=text.device)
        return self.head(self.normalisation(self.blocks(self.tokens(text) + self.places(places))))


def resnet18(size: Size, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network for images of 32×32 pixels, channels last, and its loss on a batch."""
    generator = torch.Generator().manual_seed(0)
    network = resnet(18, widths=size.widths, generator=generator).to(device, memory_format=torch.channels_last)
    images = torch.randn(size.images, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    classes = torch.randint(10, (size.images,), device=device)
    return network, lambda: functional.cross_entropy(network(images), classes)


def small_gpt(size: Size, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network, and its loss on a batch of texts."""
    network = SmallGPT(size).to(device)
    text = torch.randint(size.tokens, (size.texts, size.context + 1), device=device)
    return network, lambda: functional.cross_entropy(network(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


NETWORKS = {"ResNet-18": resnet18, "small GPT": small_gpt}


def training_steps(network: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Callable[[], None]]:
    """A training step in bfloat16 autocast, by its optimizer; all train the same network."""
    device = next(network.parameters()).device
    options = {"lr": LEARNING_RATE, "fused": True}
    momentum = {**options, "momentum": 0.9}

    def step_with(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16):
                value = loss()
            value.backward()
            optimizer.step()

        return step

    def groups() -> list[dict]:
        return penalize(network, L1(STRENGTH))

    return {
        "SGD": step_with(torch.optim.SGD(network.parameters(), **momentum)),
        "ProxSGD": step_with(ProxSGD(groups(), **momentum)),
        "SteadySGD": step_with(SteadySGD(groups(), **momentum)),
        "Adam": step_with(torch.optim.Adam(network.parameters(), **options)),
        "ProxAdam": step_with(ProxAdam(groups(), **options)),
        "SteadyAdam": step_with(SteadyAdam(groups(), **options)),
    }
