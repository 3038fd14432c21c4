"""Small residual networks: layers, shapes, shortcuts and reproducibility."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from nonsmooth.models.resnet import ResidualBlock, resnet


def build(seed=0, **options):
    return resnet(generator=torch.Generator().manual_seed(seed), **options)


def images(count=2, seed=1):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("depth", "parameters"), [(8, 78042), (14, 175258), (20, 272474)])
def test_parameters_are_those_counted_by_hand(depth, parameters):
    """He et al.'s table for CIFAR-10 (0.27 M at depth 20), with 1×1 shortcuts: 3·16·9 + 32, blocks, 64·10 + 10."""
    blocks = (depth - 2) // 6
    total = 3 * 16 * 9 + 2 * 16 + 64 * 10 + 10
    previous = 16
    for width in (16, 32, 64):
        total += previous * width * 9 + (2 * blocks - 1) * width * width * 9 + 2 * blocks * 2 * width
        total += previous * width + 2 * width if width != previous else 0
        previous = width
    assert total == parameters
    model = build(depth=depth)
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    weighted = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(getattr(layer, "kernel_size", None) != (1, 1) for layer in weighted) == depth


@pytest.mark.parametrize("options", [{}, {"depth": 14}, {"widths": (8, 16)} | {"depth": 6}, {"stem_stride": 2}])
def test_images_become_ten_numbers_and_every_parameter_gets_a_gradient(options):
    model = build(**options)
    outputs = model(images())
    assert outputs.shape == (2, 10)
    outputs.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_stages_halve_the_image():
    model, x, sizes = build(), images(), []
    for layer in model:
        x = layer(x)
        if isinstance(layer, ResidualBlock):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_a_block_is_its_shortcut_plus_two_convolutions():
    """Written out with functional calls, with running statistics that are not trivial."""
    block = build()[4].eval()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=torch.Generator().manual_seed(2))
            layer.running_var.fill_(2.0)

    def normalised(x, layer):
        mean = layer.running_mean[:, None, None]
        return (x - mean) / (2.0 + layer.eps) ** 0.5 * layer.weight[:, None, None] + layer.bias[:, None, None]

    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    inner = normalised(functional.conv2d(x, block.convolution1.weight, stride=2, padding=1), block.normalisation1)
    inner = functional.conv2d(inner.clamp(min=0), block.convolution2.weight, padding=1)
    shortcut = normalised(functional.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])
    expected = (shortcut + normalised(inner, block.normalisation2)).clamp(min=0)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, same, other = build().state_dict(), build().state_dict(), build(seed=1).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert all(value.isfinite().all() for value in first.values())


def test_the_start_has_variance_two_over_fan_in_and_normalisation_that_changes_nothing():
    for layer in build(depth=20).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            assert layer.weight.var().item() * fan_in == pytest.approx(2, rel=0.25)
        elif isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert torch.equal(layer.running_var, torch.ones_like(layer.running_var))
            assert not layer.bias.any()
            assert not layer.running_mean.any()
            assert layer.num_batches_tracked == 0


def test_channels_last_changes_the_format_and_not_the_function():
    fast, plain = build(), build(channels_last=False)
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert plain[0].weight.is_contiguous()
    torch.testing.assert_close(fast(images()), plain(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 10}, "depth is 10; accepted with 3 stages are 8, 14, 20 and so on"),
        ({"depth": 2}, "depth is 2; accepted with 3 stages are 8, 14, 20"),
        ({"widths": ()}, "widths is ()"),
        ({"widths": (16, 0, 64)}, "widths is (16, 0, 64)"),
        ({"stem_stride": 0}, "stem_stride is 0"),
        ({"classes": 0}, "classes is 0"),
    ],
)
def test_what_there_is_not_is_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**arguments)
