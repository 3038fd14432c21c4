"""Matched scales: every layer of a network carries the signal of another's."""

import pytest
import torch

from nonsmooth.models import match_scales, vgg


def test_every_layer_has_the_root_mean_square_of_the_reference():
    images = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    gelu, relu = (
        vgg(19, name, initialisation="kaiming", generator=torch.Generator().manual_seed(0)) for name in ("gelu", "relu")
    )
    before = gelu(images).detach().square().mean()
    match_scales(gelu, relu, images)
    ours, theirs = images, images
    for layer, twin in zip(gelu, relu, strict=True):
        ours, theirs = layer(ours).detach(), twin(theirs).detach()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            assert float(ours.square().mean()) == pytest.approx(float(theirs.square().mean()), rel=1e-3)
    assert float(before) < 0.1 * float(ours.square().mean()), "GELU loses the signal of weights that are made for ReLU"


def test_a_network_matched_to_itself_is_as_it_was():
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    one, same = (vgg(11, initialisation="default", generator=torch.Generator().manual_seed(0)) for _ in range(2))
    match_scales(one, same, images)
    for ours, theirs in zip(one.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
