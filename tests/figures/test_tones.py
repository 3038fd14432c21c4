"""Contrast by WCAG's formula, and distances between colours as colour-blind readers see them."""

import itertools

import numpy as np
import pytest

from nonsmooth.figures.figure import TONES as TONE_NAMES
from nonsmooth.figures.tones import BACKGROUND, TONES

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
BY_MEANING = ("paper", "ours", "control", "theory")


def linear(colour):
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def lab(colour, vision):
    rgb = np.clip(VISION[vision] @ linear(colour), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    f = np.array([t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in xyz / [0.9505, 1, 1.089]])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_tone_has_a_look():
    assert set(TONES) == set(TONE_NAMES)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", TONE_NAMES)
def test_lines_stand_out_from_the_page(name, theme):
    assert contrast(getattr(TONES[name], theme), BACKGROUND[theme]) >= 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("group", [BY_MEANING, tuple("abcdefg")], ids=["meaning", "categories"])
def test_colours_are_told_apart(group, vision, theme):
    for one, other in itertools.combinations(group, 2):
        distance = np.linalg.norm(lab(getattr(TONES[one], theme), vision) - lab(getattr(TONES[other], theme), vision))
        assert distance > 12, (one, other, distance)
