"""Thresholds in closed form: PyTorch's soft threshold, and both regimes of the transformed L1."""

import pytest
import torch

from nonsmooth.penalties import L1, TransformedL1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_l1_is_pytorchs_softshrink(dtype):
    points = torch.cat([torch.linspace(-3, 3, 601, dtype=dtype), torch.tensor([0.0, -0.0, 0.7, -0.7], dtype=dtype)])
    expected = torch.nn.functional.softshrink(points, 0.7)
    for step in (0.5, torch.full_like(points, 0.5)):
        overwritten = points.clone()
        L1(1.4).prox_(overwritten, step)
        for found in (L1(1.4).prox(points, step), overwritten):
            torch.testing.assert_close(found, expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
            assert torch.equal(found == 0, expected == 0)


@pytest.mark.parametrize(
    ("strength", "threshold"), [(0.1, 0.2), (0.25, 0.5), (1.0, 1.5)], ids=["below", "where they meet", "above"]
)
def test_transformed_l1_threshold_in_both_regimes(strength, threshold):
    """With a = 1: λ(a+1)/a = 2λ up to λ = 1/4, √(4λ) - 1/2 from there on."""
    penalty = TransformedL1(strength, 1.0)
    assert penalty.threshold(1.0).item() == pytest.approx(threshold)
    around = torch.tensor([threshold - 1e-9, threshold + 1e-9], dtype=torch.float64)
    inside, outside = penalty.prox(around, 1.0)
    assert inside == 0
    assert outside.item() == pytest.approx(max(0.0, (4 * strength) ** 0.5 - 1), abs=1e-4)


def test_at_zero_the_distance_is_that_from_an_interval():
    zero, gradient = torch.zeros(3), torch.tensor([0.5, -1.5, 3.0])
    torch.testing.assert_close(L1(1.0).subdiff_distance(zero, gradient), torch.tensor([0.0, 0.5, 2.0]))
    # (a+1)/a = 2 for a = 1
    torch.testing.assert_close(TransformedL1(1.0).subdiff_distance(zero, gradient), torch.tensor([0.0, 0.0, 1.0]))
