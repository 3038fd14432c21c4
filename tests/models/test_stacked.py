"""Stacked perceptrons against PyTorch's own layers, one network at a time."""

import pytest
import torch
from torch import nn

from nonsmooth.models import draw_perceptrons, match_perceptrons, preactivations

WIDTHS = (6, 9, 7, 3)


def as_module(layers, network, activation):
    modules = []
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.load_state_dict({"weight": weight[network].T, "bias": bias[network, 0]})
        modules += [linear, activation()]
    return nn.Sequential(*modules[:-1])


@pytest.mark.parametrize("initialisation", ["kaiming", "default"])
def test_a_stack_computes_what_its_networks_do(initialisation):
    layers = draw_perceptrons(WIDTHS, (3, 4), initialisation)
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    outputs = preactivations(layers, rows, torch.tanh)[-1]
    for network in range(2):
        torch.testing.assert_close(outputs[network], as_module(layers, network, nn.Tanh)(rows))
    own = preactivations(layers, torch.stack([rows, rows + 1]), torch.tanh)[-1]
    torch.testing.assert_close(own[1], as_module(layers, 1, nn.Tanh)(rows + 1))


def test_a_network_is_the_same_whatever_it_is_stacked_with():
    for alone, stacked in zip(draw_perceptrons(WIDTHS, (4,)), draw_perceptrons(WIDTHS, (3, 4)), strict=True):
        assert torch.equal(alone[0], stacked[1])


def test_matched_layers_carry_the_signal_of_relu():
    layers = draw_perceptrons((6, 40, 40, 3), (0, 1))
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    matched = match_perceptrons(layers, rows, nn.functional.gelu)
    ours, theirs = preactivations(matched, rows, nn.functional.gelu), preactivations(layers, rows, torch.relu)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found.square().mean((1, 2)), expected.square().mean((1, 2)), rtol=1e-4, atol=0)
