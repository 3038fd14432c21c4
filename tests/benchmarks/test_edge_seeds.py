"""The curvature along a swing: with kinks between its ends, and what the Hessian's mean along it has of that."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nonsmooth.curvature import evaluate_point, optimizer_sharpness

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
edge_seeds = importlib.import_module("edge_seeds")


@pytest.mark.parametrize(("activation", "kinked"), [(nn.Tanh, False), (nn.ReLU, True)])
def test_the_hessian_has_all_of_a_swing_without_kinks_and_not_of_one_across_them(activation, kinked):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 30), activation(), nn.Linear(30, 1)).double()
    rows, targets = torch.randn(60, 4).double(), torch.randn(60, 1).double()
    weights = list(model.parameters())

    def loss():
        return (model(rows) - targets).square().mean()

    middle = [weight.detach().clone() for weight in weights]
    ahead = [0.1 * torch.randn_like(weight) for weight in weights]
    points = []
    for sign in (1, -1, 1):
        with torch.no_grad():
            for weight, place, move in zip(weights, middle, ahead, strict=True):
                weight.copy_(place + sign * move)
        points.append(evaluate_point(loss, weights))
    read = optimizer_sharpness(torch.optim.SGD(weights, lr=0.2), loss)
    found = edge_seeds.swing(loss, model, rows, points, read)
    move = points[0].weights - points[1].weights
    change = points[0].gradient - points[1].gradient
    assert found["segment"] == pytest.approx(float(change @ move / move.square().sum()) * 0.2 / 2)
    assert 0 <= found["aligned"] <= 1
    assert (found["crossed"] > 0) is kinked
    difference = abs(found["hessian"] / found["segment"] - 1)
    assert difference > 0.01 if kinked else difference < 1e-3
    assert torch.equal(nn.utils.parameters_to_vector(weights), points[2].weights)
