"""The networks of Figure 2: layers as App. A lists them, initialisations, reproducibility."""

import re

import pytest
import torch
from torch import nn

from nonsmooth.models import ACTIVATIONS, CONFIGURATIONS, WEIGHT_LAYERS, vgg


def build(depth=11, activation="relu", seed=0, **options):
    return vgg(depth, activation, generator=torch.Generator().manual_seed(seed), **options)


def test_the_configurations_are_those_that_the_paper_prints():
    printed = {
        11: "16 M 32 M 32 32 M 64 64 M 64 64 M",
        13: "16 16 M 32 32 M 32 32 M 64 64 M 64 64 M",
        19: "16 16 M 32 32 M 32 32 32 32 M 64 64 64 64 M 64 64 64 64 M",
    }
    assert {depth: " ".join(map(str, entries)) for depth, entries in CONFIGURATIONS.items()} == printed


@pytest.mark.parametrize(("depth", "weight_layers"), [(11, 9), (13, 11), (19, 17)])
def test_weight_layers_are_counted_in_the_network_itself(depth, weight_layers):
    model = build(depth)
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model) == weight_layers == WEIGHT_LAYERS[depth]
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in model) == 5
    assert not any(isinstance(layer, nn.BatchNorm2d | nn.MaxPool2d) for layer in model)


@pytest.mark.parametrize("depth", [11, 13, 19])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_images_become_ten_numbers_and_every_parameter_gets_a_gradient(depth, activation):
    model = build(depth, activation, initialization="kaiming")
    outputs = model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    assert outputs.shape == (2, 10)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("initialization", ["default", "kaiming"])
def test_twins_start_from_the_same_weights_and_other_seeds_from_others(initialization):
    first, *others = (build(activation=a, initialization=initialization).state_dict() for a in ACTIVATIONS)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
    elsewhere = build(seed=1, initialization=initialization).state_dict()
    assert not torch.equal(first["0.weight"], elsewhere["0.weight"])


def test_building_a_network_leaves_the_global_random_numbers_alone():
    before = torch.get_rng_state()
    build()
    assert torch.equal(before, torch.get_rng_state())


def test_the_default_initialisation_is_pytorchs_in_distribution():
    """Compared with layers that PyTorch initialises: the range of a uniform law gives its bounds away."""
    for layer in build(19):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        bound = (layer.in_channels * 9 if isinstance(layer, nn.Conv2d) else layer.in_features) ** -0.5
        reference = nn.Linear(round(bound**-2), 400).weight
        assert reference.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert layer.weight.abs().max().item() <= bound
        assert layer.bias.abs().max().item() <= bound
        assert layer.weight.std().item() == pytest.approx(reference.std().item(), rel=0.15)


def test_the_kaiming_initialisation_has_variance_two_over_fan_in_and_no_biases():
    for layer in build(19, initialization="kaiming"):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.in_channels * 9 if isinstance(layer, nn.Conv2d) else layer.in_features
            assert layer.weight.var().item() * fan_in == pytest.approx(2, rel=0.25)
            assert not layer.bias.any()


def test_channels_last_changes_the_format_and_not_the_function():
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    fast, plain = build(initialization="kaiming"), build(initialization="kaiming", channels_last=False)
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert plain[0].weight.is_contiguous()
    torch.testing.assert_close(fast(images), plain(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 16}, "depth is 16; accepted are 11, 13, 19"),
        ({"activation": "tanh"}, "activation is 'tanh'"),
        ({"initialization": "zeros"}, "initialization is 'zeros'"),
        ({"classes": 0}, "classes is 0"),
    ],
)
def test_what_there_is_not_is_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**arguments)
