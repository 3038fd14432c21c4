"""scikit-learn's digits as rows of numbers, for the small networks of this theme."""

from __future__ import annotations

from torch import Tensor

from nonsmooth.data import load_images

CLASSES, PIXELS = 10, 64


def digit_rows(count: int | None, split: str = "train") -> tuple[Tensor, Tensor]:
    """Pixels with mean 0 over the images and mean square 1 over all, (images, 64), and labels, (images,)."""
    images = load_images("digits", split, count, size=8)
    pixels = images.inputs[:, 0].flatten(1)
    pixels = pixels - pixels.mean(0)
    return pixels / pixels.square().mean().sqrt(), images.labels
