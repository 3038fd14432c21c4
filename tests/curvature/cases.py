"""Ten models with their losses, small enough for a dense Hessian in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.data import load_images


@dataclass
class Case:
    """A loss and what it is differentiated by."""

    closure: Callable[[], Tensor]
    parameters: list[Tensor]
    mode: str | None = None
    modules: list[nn.Module] = field(default_factory=list)


def digits(count: int) -> tuple[Tensor, Tensor]:
    images = load_images("digits", "train", limit=count, size=8)
    return images.inputs[:, :1].double(), images.labels


def supervised(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int = 0, mode: str | None = None) -> Case:
    """A classifier, trained a little where asked."""
    model = model.to(inputs.dtype)

    def loss() -> Tensor:
        return functional.cross_entropy(model(inputs), targets)

    if steps:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        optimizer.zero_grad()
    return Case(loss, list(model.parameters()), mode, [model])


def perceptron(activation: Callable[[], nn.Module], steps: int = 0) -> Case:
    torch.manual_seed(1)
    inputs, targets = digits(200)
    layers = [nn.Linear(16, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 10)]
    return supervised(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), *layers), inputs, targets, steps)


def normalised(mode: str) -> Case:
    torch.manual_seed(2)
    inputs, targets = digits(100)
    layers = [nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10)]
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), *layers)
    case = supervised(model, inputs, targets, mode=mode)
    model(inputs)  # statistics that are not those of the start
    return case


def convolutional() -> Case:
    torch.manual_seed(3)
    inputs, targets = digits(60)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10))
    return supervised(model, inputs, targets, steps=10)


class Attention(nn.Module):
    """Rows of an image as tokens, through fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(8, 24), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.inward(images.squeeze(1)).unflatten(-1, (3, 1, 8)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(tokens[0], tokens[1], tokens[2])
        return self.outward(mixed.squeeze(1).mean(1))


def attention() -> Case:
    torch.manual_seed(4)
    return supervised(Attention(), *digits(60))


class Tied(nn.Module):
    """An autoencoder with one matrix, used twice and registered twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(64, 8)
        self.decode = nn.Linear(8, 64, bias=False)
        self.again = self.encode
        self.frozen = nn.Linear(64, 64)
        self.frozen.requires_grad_(False)

    def forward(self, rows: Tensor) -> Tensor:
        return functional.linear(torch.tanh(self.again(self.frozen(rows))), self.encode.weight.T)


def tied() -> Case:
    torch.manual_seed(5)
    model, rows = Tied().double(), digits(100)[0].flatten(1)
    chosen = [*model.encode.parameters(), *model.again.parameters(), *model.frozen.parameters()]
    return Case(lambda: functional.mse_loss(model(rows), rows), chosen, None, [model])


def quadratic(eigenvalues: Tensor, seed: int = 6) -> Case:
    """wᵀHw/2 + bᵀw with given eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(eigenvalues.double()) @ basis.T
    slope = torch.randn(size, generator=generator, dtype=torch.float64)
    weight = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
    return Case(lambda: weight @ matrix @ weight / 2 + slope @ weight, [weight])


CASES: dict[str, Callable[[], Case]] = {
    "relu": lambda: perceptron(nn.ReLU),
    "relu, trained": lambda: perceptron(nn.ReLU, steps=60),
    "gelu": lambda: perceptron(nn.GELU),
    "tanh, trained": lambda: perceptron(nn.Tanh, steps=60),
    "batch norm, training": lambda: normalised("train"),
    "batch norm, evaluation": lambda: normalised("eval"),
    "convolution": convolutional,
    "attention": attention,
    "tied and frozen": tied,
    "negative-dominant": lambda: quadratic(torch.cat([torch.linspace(-100, 0.5, 199), torch.tensor([20.0])])),
}


def dense_hessian(case: Case) -> Tensor:
    """All rows at once, in plain autograd, by torch's plain attention; the modes as the case says."""
    chosen = unique(case.parameters)
    modes = {module: module.training for top in case.modules for module in top.modules()}
    for module in case.modules:
        if case.mode is not None:
            module.train(case.mode == "train")
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        slopes = torch.autograd.grad(case.closure(), chosen, create_graph=True)
        slope = torch.cat([part.flatten() for part in slopes])
        parts = torch.autograd.grad(
            slope, chosen, torch.eye(len(slope), dtype=slope.dtype), is_grads_batched=True, materialize_grads=True
        )
    for module, training in modes.items():
        module.training = training
    return torch.cat([part.flatten(1) for part in parts], 1).detach()


def unique(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those that are trained, once each."""
    return [p for i, p in enumerate(parameters) if p.requires_grad and not any(p is q for q in list(parameters)[:i])]
