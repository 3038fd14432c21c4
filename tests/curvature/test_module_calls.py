"""Modules are found as they are called, under a profiler too, and the profiler stays."""

import cProfile
import sys

import pytest
import torch
from torch import nn

from nonsmooth.curvature import sharpness


def closure_of(model):
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    return lambda: model.train()(rows).square().mean()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


@pytest.mark.parametrize("profiler", ["none", "python", "c"])
def test_modes_are_held_and_put_back_under_a_profiler(profiler):
    """A profiler in C cannot be put back by `sys.setprofile`."""
    model = network().eval()
    loss = closure_of(model)
    expected = sharpness(loss, model.parameters(), mode="eval").value
    events, calls, train = [], cProfile.Profile(), nn.Module.train
    before = sys.getprofile()
    if profiler == "python":
        sys.setprofile(lambda frame, event, argument: events.append(frame.f_code.co_name))
    elif profiler == "c":
        calls.enable()
    try:
        own = sys.getprofile()
        found = sharpness(loss, model.parameters(), mode="eval").value
        assert sys.getprofile() is own
    finally:
        calls.disable() if profiler == "c" else sys.setprofile(before)
    assert found == expected
    assert not any(module.training for module in model.modules())
    assert int(model[1].num_batches_tracked) == 0
    assert nn.Module.train is train
    if profiler == "python":
        assert "batch_norm" in events
    if profiler == "c":
        assert any("batch_norm" in str(entry.code) for entry in calls.getstats())


def test_a_profile_function_goes_on_after_a_missing_mode():
    model, own = network(), lambda frame, event, argument: None
    sys.setprofile(own)
    try:
        with pytest.raises(ValueError, match="mode is None"):
            sharpness(closure_of(model), model.parameters())
        assert sys.getprofile() is own
    finally:
        sys.setprofile(None)
