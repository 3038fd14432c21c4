"""The network whose penalties the tests write by hand, and the names of its parameters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

LAMBDA = 0.0375
W, B, V = "0.weight", "0.bias", "2.weight"
ALL = (W, B, V, "2.bias")


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def network(request):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to(request.param)
    data = torch.randn(8, 4, dtype=request.param)
    target = torch.tensor([0, 1] * 4)
    return model, lambda: F.cross_entropy(model(data), target)
