"""Start a network so that every layer carries as large a signal as another network's does."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def match_scales(model: nn.Sequential, reference: nn.Sequential, inputs: Tensor) -> None:
    """Scale every layer with weights so that its outputs have the root mean square that the reference's have.

    Layer by layer on a batch, as Mishkin & Matas (2016) do with 1 in the reference's place. An activation that lets
    less of the signal through than another then gets larger weights, so that two networks differ in its form alone.

    Args:
        model: layers in a row; changed in place.
        reference: as many layers, with weights where the model has weights.
        inputs: the batch, of both.
    """
    ours, theirs = inputs, inputs
    for layer, twin in zip(model, reference, strict=True):
        ours, theirs = layer(ours), twin(theirs)
        if any(True for _ in layer.parameters()):
            factor = theirs.square().mean().sqrt() / ours.square().mean().sqrt()
            for parameter in layer.parameters():
                parameter.mul_(factor)
            ours = ours * factor
