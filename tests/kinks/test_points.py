"""Points of parameter space: which are accepted, and that a model runs there without being changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nonsmooth.kinks import crossings, scan

DATA = torch.linspace(-2, 2, 36).reshape(9, 4)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU())


class Around(nn.Module):
    """A scripted part in a module that is not."""

    def __init__(self, part) -> None:
        super().__init__()
        self.part = part

    def forward(self, inputs):
        return self.part(inputs)


def moved(model):
    generator = torch.Generator().manual_seed(1)
    return {
        name: value + torch.randn(value.shape, generator=generator).abs() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


COMPILED = {
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, DATA),
    "scripted part": lambda model: Around(torch.jit.script(model)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", COMPILED)
def test_a_compiled_module_is_counted_like_its_source(way, training):
    model = network().train(training)
    expected = crossings(model, DATA, model.state_dict(), moved(model))
    compiled = COMPILED[way](model)
    tensors = {**dict(compiled.named_parameters()), **dict(compiled.named_buffers())}
    before = {name: (tensor.clone(), tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()}
    result = crossings(compiled, DATA, compiled.state_dict(), moved(compiled))
    assert [layer.changed for layer in result.layers] == [layer.changed for layer in expected.layers]
    assert result.distance == pytest.approx(expected.distance)
    assert result.changed > 0
    with pytest.raises(RuntimeError):
        crossings(compiled, DATA[:, :3], compiled.state_dict(), moved(compiled))
    for name, (content, address, version) in before.items():
        assert torch.equal(tensors[name], content)
        assert tensors[name].data_ptr() == address
        # Else a graph that has saved a parameter could not be used any more.
        assert tensors[name]._version == version or not tensors[name].requires_grad
        assert tensors[name].grad is None


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize("in_place", [True, False])
def test_inputs_of_inference_mode_are_measured_like_others(in_place, inside):
    model = nn.Sequential(nn.ReLU(inplace=in_place), *network())  # written to, where it is in place
    expected = scan(model, DATA.clone()), crossings(model, DATA.clone(), {}, moved(model))
    with torch.inference_mode():
        inputs = DATA.clone()
        found = (scan(model, inputs), crossings(model, inputs, {}, moved(model))) if inside else None
    found = found or (scan(model, inputs), crossings(model, inputs, {}, moved(model)))
    assert [o.parameters for o in found[0].operations] == [o.parameters for o in expected[0].operations]
    assert found[0].operations[-1].parameters[-1] == "4.bias"
    assert [layer.changed for layer in found[1].layers] == [layer.changed for layer in expected[1].layers]
    assert torch.equal(inputs, DATA)


class Norm(nn.Module):
    """A parameter of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    def forward(self, inputs):
        return (inputs * self.weight).abs()


def test_distance_counts_imaginary_parts():
    assert crossings(Norm(), torch.ones(1, 2), {}, {"weight": torch.tensor([3j, 4.0])}).distance == pytest.approx(5)


NAN = {"0.weight": torch.full((6, 4), torch.nan)}


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((lambda x: x, DATA, {}, {}), {}, TypeError, "model is <function"),
        ((network(), DATA, None, {}), {}, TypeError, "before is of type NoneType; accepted are a state dict"),
        ((network(), DATA, {}, [1]), {}, TypeError, "after is of type list"),
        ((network(), DATA, list(network().parameters()), {}), {}, TypeError, "before is of type list"),
        ((network(), DATA, network(), {}), {}, TypeError, "before is of type Sequential"),
        ((network(), DATA, np.zeros(3), {}), {}, TypeError, "before is of type ndarray"),
        ((network(), DATA, {}, {"0.bias": np.zeros(6)}), {}, TypeError, "after holds array.* as '0.bias'"),
        ((network(), DATA, {}, {}), {"epsilon": "a"}, ValueError, "epsilon is 'a'"),
        ((network(), DATA, {}, {}), {"epsilon": float("nan")}, ValueError, "epsilon is nan"),
        ((network(), DATA, {}, NAN), {}, ValueError, "after has '0.weight' with entries that are infinite or NaN"),
        ((network(), DATA[:0], {}, {}), {}, ValueError, "accepted is a probe batch"),
        ((nn.LazyLinear(3), DATA, {}, {}), {}, ValueError, "has no shape yet"),
    ],
)
def test_what_is_no_point_is_named(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        crossings(*arguments, **keywords)


def test_buffers_may_be_infinite():
    model = network()
    model.register_buffer("mask", torch.full((2,), -torch.inf))
    assert crossings(model, DATA, {}, {}).changed == 0


def test_a_data_parallel_model_is_counted_like_the_model_inside():
    """`functional_call` refuses it, and its replicas run where nobody looks."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 1)).train()
    data, parallel = torch.randn(10, 4), nn.DataParallel(model)
    after = {name: value + 0.3 if value.is_floating_point() else value for name, value in model.state_dict().items()}
    alone = crossings(model, data, model.state_dict(), after)
    names = {f"module.{name}": value for name, value in after.items()}
    together = crossings(parallel, data, parallel.state_dict(), names)
    assert (together.changed, together.entries) == (alone.changed, alone.entries)
    assert [layer.module for layer in together.layers] == [f"module.{layer.module}" for layer in alone.layers]
    vector = torch.cat([after[name].flatten() for name, _ in model.named_parameters()])
    assert crossings(parallel, data, parallel.state_dict(), vector).changed == alone.changed
    assert int(model[2].num_batches_tracked) == 0
