"""The same penalties as skglm and pyproximal have them."""

import numpy as np
import pyproximal
import pytest
import skglm.penalties
import torch

from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

STRENGTH = 0.7
STEPS = (0.1, 0.9)
POINT = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(2)
POINT[5:10] = 0
GRADIENT = torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

SKGLM = {
    "L1": (L1(STRENGTH), lambda: skglm.penalties.L1(STRENGTH)),
    "elastic net": (ElasticNet(STRENGTH, 0.3), lambda: skglm.penalties.L1_plus_L2(STRENGTH, 0.3)),
    "MCP": (MCP(STRENGTH, 3.0), lambda: skglm.penalties.MCPenalty(STRENGTH, 3.0)),
    "SCAD": (SCAD(STRENGTH, 3.7), lambda: skglm.penalties.SCAD(STRENGTH, 3.7)),
}


@pytest.mark.slow  # its compiler is
@pytest.mark.parametrize("name", SKGLM)
def test_value_prox_and_distance_are_skglms(name):
    ours, theirs = SKGLM[name][0], SKGLM[name][1]()
    w, g = POINT.numpy(), GRADIENT.numpy()
    module = type(theirs)
    assert float(ours.value(POINT)) == pytest.approx(module.value(theirs, w))
    for step in STEPS:
        expected = np.array([module.prox_1d(theirs, value, step, 0) for value in w])
        np.testing.assert_allclose(ours.prox(POINT, step).numpy(), expected, rtol=1e-12, atol=1e-14)
    expected = module.subdiff_distance(theirs, w, g, np.arange(40))
    np.testing.assert_allclose(ours.subdiff_distance(POINT, GRADIENT).numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_groups_are_skglms_groups():
    index = torch.arange(40) // 5
    weights = np.linspace(0.5, 2, 8)
    ours = GroupL1(STRENGTH, index=index, weights=torch.as_tensor(weights))
    partition, indices = np.arange(0, 41, 5, dtype=np.int32), np.arange(40, dtype=np.int32)
    theirs = skglm.penalties.WeightedGroupL2(STRENGTH, weights, partition, indices)
    kind = type(theirs)
    w, g = POINT.numpy(), GRADIENT.numpy()
    assert float(ours.value(POINT)) == pytest.approx(kind.value(theirs, w))
    for step in STEPS:
        expected = np.concatenate([kind.prox_1group(theirs, w[5 * i : 5 * i + 5], step, i) for i in range(8)])
        np.testing.assert_allclose(ours.prox(POINT, step).numpy(), expected, rtol=1e-12, atol=1e-14)
    expected = kind.subdiff_distance(theirs, w, g, np.arange(8))
    np.testing.assert_allclose(ours.subdiff_distance(POINT, GRADIENT).numpy(), expected, rtol=1e-12, atol=1e-14)


PYPROXIMAL = {
    "L1": (L1(STRENGTH), lambda: pyproximal.L1(STRENGTH)),
    "SCAD": (SCAD(STRENGTH, 3.7), lambda: pyproximal.SCAD(STRENGTH, 3.7)),
    # λ(a+1)|w|/(a+|w|): Geman's penalty is σ|w|/(θ+|w|).
    "transformed L1": (TransformedL1(STRENGTH, 1.5), lambda: pyproximal.Geman(STRENGTH * 2.5, 1.5)),
}


@pytest.mark.parametrize("name", PYPROXIMAL)
@pytest.mark.parametrize("step", STEPS)
def test_value_and_prox_are_pyproximals(name, step):
    ours, theirs = PYPROXIMAL[name][0], PYPROXIMAL[name][1]()
    w = POINT.numpy()
    np.testing.assert_allclose(ours.prox(POINT, step).numpy(), theirs.prox(w.copy(), step), rtol=1e-6, atol=1e-9)
    assert float(ours.value(POINT)) == pytest.approx(float(np.sum(theirs(w))))


@pytest.mark.parametrize("step", STEPS)
def test_the_hard_threshold_is_pyproximals(step):
    """Theirs is given the threshold step·σ itself, which for λ times the number of non-zeros is √(2λ·step)."""
    theirs = pyproximal.L0(np.sqrt(2 * STRENGTH * step) / step)
    assert np.array_equal(L0(STRENGTH).prox(POINT, step).numpy(), theirs.prox(POINT.numpy(), step))
    assert float(L0(STRENGTH).value(POINT)) == pytest.approx(STRENGTH * theirs(POINT.numpy()))


@pytest.mark.parametrize("step", STEPS)
def test_groups_and_singular_values_are_pyproximals(step):
    matrix = POINT.reshape(5, 8)
    # Their L21 has the groups in columns and no weights.
    theirs = pyproximal.L21(ndim=5, sigma=STRENGTH)
    ours = GroupL1(STRENGTH, dim=1, weights=torch.ones(8))
    np.testing.assert_allclose(ours.prox(matrix, step).numpy().ravel(), theirs.prox(POINT.numpy(), step), rtol=1e-10)
    theirs = pyproximal.Nuclear((5, 8), STRENGTH)
    ours = Nuclear(STRENGTH)
    found = ours.prox(matrix, step).numpy()
    np.testing.assert_allclose(found.ravel(), theirs.prox(POINT.numpy(), step), rtol=1e-9, atol=1e-12)
    assert float(ours.value(matrix)) == pytest.approx(float(theirs(POINT.numpy())))


def test_sparse_groups_are_the_two_thresholds_one_after_the_other():
    """Of the Euclidean prox (Friedman, Hastie & Tibshirani 2010), the first one being pyproximal's."""
    matrix = POINT.reshape(8, 5)
    single = pyproximal.L1(STRENGTH * 0.4).prox(POINT.numpy(), 0.9).reshape(8, 5)
    norms = np.linalg.norm(single, axis=1, keepdims=True)
    expected = single * np.maximum(1 - 0.9 * STRENGTH * 0.6 * np.sqrt(5) / np.maximum(norms, 1e-300), 0)
    found = SparseGroupL1(STRENGTH, 0.4).prox(matrix, 0.9).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
