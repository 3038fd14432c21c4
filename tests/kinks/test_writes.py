"""Memory that a pass wrote to is put back: contents, sizes, and the tensors that lay in it otherwise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.ao import quantization

from nonsmooth.kinks import scan
from nonsmooth.kinks.recording.writes import Writes


class Resizing(nn.Module):
    """Changes the sizes and the memory of its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("matrix", torch.arange(6.0).reshape(2, 3))
        self.register_buffer("other", torch.arange(4.0))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3))

    def forward(self, inputs):
        self.empty.resize_(3).copy_(inputs.mean(0))
        self.matrix.resize_(4, 4).fill_(7)
        self.other.set_(torch.zeros(5))
        self.turned.t_().add_(1)
        return (inputs * self.weight).abs() + self.empty


def state(model):
    return {
        name: (id(tensor), tensor.shape, tensor.stride(), tensor.untyped_storage().nbytes(), tensor.tolist())
        for name, tensor in model.named_buffers()
    }


def test_buffers_that_are_resized_are_as_before():
    model = Resizing()
    before = state(model)
    (kink,) = scan(model, torch.randn(2, 3)).operations
    assert kink.name == "abs"
    assert state(model) == before


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_prepared_for_quantisation_can_be_scanned_before_its_first_pass():
    model = nn.Sequential(quantization.QuantStub(), nn.Linear(4, 3)).train()
    model.qconfig = quantization.get_default_qat_qconfig()
    model = quantization.prepare_qat(model)
    before = copy.deepcopy(state(model))
    result = scan(model, torch.randn(5, 4))
    assert {o.name for o in result.operations} == {"fused_moving_avg_obs_fq_helper"}
    assert state(model) == before


def test_a_tensor_that_cannot_be_put_back_does_not_keep_the_others_from_it():
    class Broken:
        def nbytes(self):
            raise RuntimeError("gone")

    tensor = torch.zeros(3)
    writes = Writes()
    writes._memory[0] = (Broken(), Broken())
    writes.keep(tensor)
    tensor.fill_(1)
    with pytest.raises(RuntimeError, match="gone"):
        writes.restore()
    assert tensor.tolist() == [0, 0, 0]
