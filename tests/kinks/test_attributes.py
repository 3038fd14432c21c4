"""Attributes of modules and flags of parameters are as before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nonsmooth.kinks import crossings, penalty_terms, scan


class Keeping(nn.Module):
    """Keeps its last state with its graph, counts its passes, freezes a parameter, and registers things on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.state = torch.zeros(4)
        self.passes = 0
        self.fails = False

    def forward(self, inputs):
        self.passes += 1
        self.state = torch.relu(self.layer(inputs + self.state.detach()))
        self.layer.bias.requires_grad_(False)
        self.layer.extra = nn.Identity()
        self.register_buffer("last", inputs)
        self.seen = True
        if self.fails:
            raise RuntimeError("half way")
        return self.state.sum(-1)


MEASURES = {
    "scan": lambda model: scan(model, torch.ones(2, 4)),
    "closure": lambda model: scan(lambda: model(torch.ones(2, 4)), named_parameters=model),
    "penalties": lambda model: penalty_terms(lambda: model(torch.ones(2, 4)).sum(), model),
    "crossings": lambda model: crossings(model, torch.ones(2, 4), model.state_dict(), model.state_dict()),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_attributes_are_as_before(measure, fails):
    model = Keeping()
    model.fails = fails
    state, names = model.state, list(model.state_dict())
    if fails:
        with pytest.raises(RuntimeError, match="half way"):
            measure(model)
    else:
        measure(model)
    assert model.state is state
    assert model.passes == 0
    assert model.layer.bias.requires_grad
    assert list(model.state_dict()) == names
    assert not hasattr(model, "seen") and not hasattr(model.layer, "extra")
