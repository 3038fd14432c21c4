"""Small networks on scikit-learn's digits, as they start and after training, for the benchmarks that look at kinks."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

WIDTH, EPOCHS, BATCH, STEP_SIZE, MOMENTUM = 128, 60, 64, 0.05, 0.9
SETTING = f"{EPOCHS} epochs of SGD (batch {BATCH}, α = {STEP_SIZE:g}, μ = {MOMENTUM:g}"


def digits() -> tuple[Tensor, Tensor]:
    """Pixels from 0 to 1, (images, 64), in float64, and labels."""
    loaded = load_digits()
    return torch.tensor(loaded.data / 16), torch.tensor(loaded.target)


def network(seed: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Two hidden layers, as PyTorch initialises them, in float64."""
    torch.manual_seed(seed)
    layers = nn.Linear(64, WIDTH), activation(), nn.Linear(WIDTH, WIDTH), activation(), nn.Linear(WIDTH, 10)
    return nn.Sequential(*layers).double()


def train(model: nn.Module, data: Tensor, target: Tensor) -> float:
    """SGD with momentum; returns the accuracy on the data that it was trained on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=STEP_SIZE, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(data), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data[index]), target[index]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(data).argmax(1) == target).double().mean())
