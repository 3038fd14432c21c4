"""Small networks with parts that start at zero, so that the layers behind these get no gradient in the first steps.

All take images of 8×8 pixels as (N, 64) and give ten logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 48


def _zeroed(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class _Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class _Gated(nn.Module):
    """x + tanh(gate)·branch(x), the gate starting at zero."""

    def __init__(self, branch: nn.Module, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.branch, self.gate = branch, nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.gate) * self.branch(x)


class _Behind(nn.Module):
    """tanh(gate)·layer(x) + skip(x): the first layers lie behind gates that start shut, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.first, self.second, self.skip = nn.Linear(64, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(64, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.skip(x))
        deep = torch.relu(self.second(hidden + torch.tanh(self.inner) * torch.relu(self.first(x))))
        return hidden + torch.tanh(self.outer) * deep


class _LowRank(nn.Module):
    """A linear layer, frozen or not, plus B·A with B = 0 (Hu et al. 2021)."""

    def __init__(self, inputs: int, outputs: int, rank: int = 8, frozen: bool = True) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.base.requires_grad_(not frozen)
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + functional.linear(functional.linear(x, self.down), self.up)


class _Tokens(nn.Module):
    """Each pixel's place and brightness as a token of a bag; most rows of the embedding are in no batch for long."""

    def __init__(self, rows: int = 20_000, deviation: float = 1.0) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(rows, 16), nn.Linear(16, 10)
        nn.init.normal_(self.table.weight, std=deviation)
        _zeroed(self.head)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(64) * 17 + (x * 16).long()
        return self.head(self.table(places).mean(1))


class _Attention(nn.Module):
    """A transformer on the eight rows of an image; `scale` multiplies both branches of each block."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(8, WIDTH), nn.Parameter(torch.zeros(8, WIDTH))
        self.attend = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.head, self.kind = nn.Linear(WIDTH, 10), kind
        if kind == "adaln":
            self.modulate = _zeroed(nn.Linear(WIDTH, 2 * WIDTH))
            _zeroed(self.head)
        else:
            self.scales = nn.Parameter(torch.zeros(2, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.view(-1, 8, 8)) + self.places
        if self.kind == "adaln":
            first, second = self.modulate(x.mean(1, keepdim=True)).chunk(2, -1)
        else:
            first, second = self.scales
        y = self.norms[0](x)
        x = x + first * self.attend(y, y, y, need_weights=False)[0]
        x = x + second * self.mlp(self.norms[1](x))
        return self.head(x.mean(1))


class _Controlled(nn.Module):
    """A frozen trunk and a copy of it whose contribution passes a convolution of zeros (ControlNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(1, 16, 3, padding=1)
        self.trunk.requires_grad_(False)
        self.copy = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.zero, self.head = _zeroed(nn.Conv2d(16, 16, 1)), nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 1, 8, 8)
        hidden = torch.relu(self.trunk(x) + self.zero(self.copy(x)))
        return self.head(functional.avg_pool2d(hidden, 2).flatten(1))


class _Recurrent(nn.Module):
    """An LSTM over the rows of an image with a head of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, WIDTH, batch_first=True), _zeroed(nn.Linear(WIDTH, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.view(-1, 8, 8))[0][:, -1])


class _Experts(nn.Module):
    """Four experts with output layers of zeros, of which each image uses one, beside a linear path."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.linear = nn.Linear(64, 4), nn.Linear(64, 10)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), _zeroed(nn.Linear(WIDTH, 10))) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(-1).max(-1)
        each = torch.stack([expert(x) for expert in self.experts], 1)
        return self.linear(x) + share.unsqueeze(-1) * each[torch.arange(len(x)), chosen]


def _convolutions(last_scale: float, last_weight: float | None) -> nn.Module:
    """A residual network whose blocks end in a scale or a convolution of zeros."""

    def block() -> nn.Module:
        last = nn.BatchNorm2d(16)
        nn.init.constant_(last.weight, last_scale)
        second = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        if last_weight is not None:
            nn.init.constant_(second.weight, last_weight)
        return _Residual(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                second,
                last if last_weight is None else nn.Identity(),
            )
        )

    stem = nn.Conv2d(1, 16, 3, padding=1)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), stem, nn.ReLU(), block(), block(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    )


def _mlp(head: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), head)


def _branch() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))


def _between(*blocks: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), *blocks, nn.Linear(WIDTH, 10))


def _adapter() -> nn.Module:
    return _Residual(nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), _zeroed(nn.Linear(8, WIDTH))))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP, zero head": lambda: _mlp(_zeroed(nn.Linear(WIDTH, 10))),
    "two zero layers": lambda: _mlp(nn.Sequential(_zeroed(nn.Linear(WIDTH, WIDTH)), nn.Linear(WIDTH, 10))),
    "ResNet, last scale 0": lambda: _convolutions(0.0, None),
    "ResNet, last convolution 0": lambda: _convolutions(1.0, 0.0),
    "ReZero": lambda: _between(*(_Gated(_branch()) for _ in range(3))),
    "LayerScale 0": lambda: _Attention("layerscale"),
    "adaLN-zero, zero head": lambda: _Attention("adaln"),
    "LoRA, base frozen": lambda: nn.Sequential(_LowRank(64, WIDTH), nn.ReLU(), _LowRank(WIDTH, 10)),
    "LoRA, base trained": lambda: nn.Sequential(
        _LowRank(64, WIDTH, frozen=False), nn.ReLU(), _LowRank(WIDTH, 10, frozen=False)
    ),
    "adapters": lambda: _between(_adapter(), _adapter()),
    "ControlNet": _Controlled,
    "gates one behind the other": lambda: nn.Sequential(_Behind(), nn.Linear(WIDTH, 10)),
    "LSTM, zero head": _Recurrent,
    "experts, zero outputs": _Experts,
    "embedding, N(0, 1)": _Tokens,
    "embedding, N(0, 0.02²)": lambda: _Tokens(deviation=0.02),
}
"""The networks by name."""
