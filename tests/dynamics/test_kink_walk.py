"""Weights with a drift and a noise of their own, against closed forms and the law of one coordinate."""

import pytest
import torch

from nonsmooth.dynamics.kink_walk import walk_at_kink
from nonsmooth.dynamics.stationary import stationary_law, subgradient_mean

LR, STRENGTH = 0.1, 0.01
ZERO = torch.zeros(4000)


def walk(drift=ZERO, noise=ZERO, slope=0.0, centre=0.0, **options):
    options = {"steps": 400, "burn_in": 400, "generator": torch.Generator().manual_seed(0)} | options
    return walk_at_kink(LR, STRENGTH, drift, noise, slope, centre, **options)


@pytest.mark.parametrize("share", [0.0, 0.3, -0.7])
def test_drift_alone_gives_a_rotation(share):
    """Uniform on (-α(λ+g), α(λ-g)), whatever the sign of g."""
    drift = torch.full_like(ZERO, share * STRENGTH * 0.9973)  # no rational rotation
    found = walk(drift, thresholds=(LR * STRENGTH * (1 - abs(share)),))
    g = float(drift[0])
    assert float(found.magnitude.mean()) == pytest.approx(LR * (STRENGTH**2 + g**2) / (2 * STRENGTH), rel=0.02)
    assert float(found.below.mean()) == pytest.approx(1 - abs(share), abs=0.02)


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_noise_alone_is_the_law_of_one_coordinate(noise):
    found = walk(noise=torch.full_like(ZERO, noise * STRENGTH), thresholds=(LR * STRENGTH,))
    law = stationary_law(lambda p: torch.optim.SGD(p, lr=LR), STRENGTH, noise * STRENGTH, coordinates=4096)
    assert float(found.magnitude.mean()) == pytest.approx(subgradient_mean(LR, STRENGTH, noise * STRENGTH), rel=0.03)
    assert float(found.below.mean()) == pytest.approx(law.fraction_below(LR * STRENGTH), abs=0.02)


def test_a_slope_confines_what_noise_spreads():
    """Without a penalty to speak of: variance α²σ²/(1 - (1 - αh)²) about the centre."""
    slope, noise = 2.0, 100 * STRENGTH
    found = walk(noise=torch.full_like(ZERO, noise), slope=torch.full_like(ZERO, slope))
    spread = (LR * noise) / (1 - (1 - LR * slope) ** 2) ** 0.5
    assert float(found.magnitude.mean()) == pytest.approx(spread * (2 / torch.pi) ** 0.5, rel=0.03)


def test_each_weight_has_its_own():
    noise = torch.tensor([0.0, 5 * STRENGTH]).repeat(2000)
    quiet, loud = walk(noise=noise).magnitude.view(-1, 2).mean(0)
    assert float(quiet) == pytest.approx(LR * STRENGTH / 2, rel=0.03)
    assert float(loud) > 10 * float(quiet)
