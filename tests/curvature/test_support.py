"""With a prox, the curvature that counts is that of the coordinates it does not hold at zero."""

import pytest
import torch

from nonsmooth.curvature import optimizer_sharpness
from nonsmooth.optim import ProxAdam, ProxSGD
from nonsmooth.penalties import L1, GroupL1


def lasso(penalty, make, steps=600, **options):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    target = rows[:, :5].sum(1)
    weight = torch.zeros(60, dtype=torch.float64, requires_grad=True)
    free = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = make([{"params": [weight], "penalty": penalty}, {"params": [free], "penalty": None}], **options)

    def loss():
        return (rows @ weight + free - target).square().mean() / 2

    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    design = torch.cat((rows, torch.ones(40, 1, dtype=torch.float64)), 1)
    return optimizer, loss, weight.detach(), design.T @ design / 40


def test_a_converged_sparse_run_is_stable_by_its_own_sharpness():
    optimizer, loss, weight, hessian = lasso(L1(0.3), ProxSGD, lr=0.25)
    support = torch.cat((weight != 0, torch.tensor([True])))
    assert 0 < support.sum() < 61
    found = optimizer_sharpness(optimizer, loss, tolerance=1e-8, max_products=61)
    expected = torch.linalg.eigvalsh(hessian[support][:, support])[-1]
    assert found.sharpness.value == pytest.approx(float(expected), rel=1e-8)
    assert (found.moving, found.coordinates) == (int(support.sum()), 61)
    assert found.ratio < 1
    assert f"on the {found.moving} of 61 coordinates" in str(found)


def test_the_support_counts_in_the_metric_of_an_adaptive_optimiser():
    optimizer, loss, weight, hessian = lasso(L1(0.3), ProxAdam, lr=0.01)
    support = torch.cat((weight != 0, torch.tensor([True])))
    found = optimizer_sharpness(optimizer, loss, tolerance=1e-8, max_products=61)
    metric = torch.cat([part.flatten() for part in found.threshold.preconditioner]).rsqrt()
    expected = torch.linalg.eigvalsh((metric[:, None] * hessian * metric)[support][:, support])[-1]
    assert found.sharpness.value == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("penalty", [None, L1(0.0)])
def test_zeros_that_no_prox_holds_count(penalty):
    optimizer, loss, _, hessian = lasso(L1(0.3), ProxSGD, lr=0.25)
    optimizer.param_groups[0]["penalty"] = penalty if penalty is None else penalty.specification()
    found = optimizer_sharpness(optimizer, loss, tolerance=1e-8, max_products=61)
    assert found.moving == found.coordinates == 61
    assert found.sharpness.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-8)


def test_at_a_start_from_zeros_all_coordinates_count():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 6, generator=generator)
    weight = torch.zeros(6, requires_grad=True)
    found = optimizer_sharpness(ProxSGD([weight], lr=0.1, penalty=L1(0.1)), lambda: (rows @ weight - 1).square().mean())
    assert found.moving == 6
    assert found.sharpness.value > 0


def test_groups_at_zero_do_not_count():
    weight = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    curvature = torch.tensor([[9.0, 9.0], [1.0, 2.0]])
    optimizer = ProxSGD([weight], lr=0.1, penalty=GroupL1(0.1))
    found = optimizer_sharpness(optimizer, lambda: (curvature * weight.square()).sum() / 2, tolerance=1e-5)
    assert found.sharpness.value == pytest.approx(2.0, rel=1e-4)
