"""The two rules for complex numbers: magnitudes, and real and imaginary parts as coordinates of their own."""

import pytest
import torch

from nonsmooth.penalties import L1, MCP, GroupL1, Nuclear, SparseGroupL1

RULES = ("magnitude", "components")


def complex_point(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128).to(dtype)


def steps_like(point, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 0.05 + 0.8 * torch.rand(point.shape, generator=generator, dtype=torch.float64)


def test_components_are_two_real_coordinates(separable):
    point, gradient = complex_point(12), complex_point(12, seed=2)
    penalty, real = separable.make(0.4, complex_rule="components"), separable.make(0.4)
    parts = torch.view_as_real(point)
    assert float(penalty.value(point)) == pytest.approx(float(real.value(parts)))
    for step in (0.7, steps_like(point)):
        each = step if isinstance(step, float) else step.unsqueeze(-1)
        torch.testing.assert_close(torch.view_as_real(penalty.prox(point, step)), real.prox(parts, each))
    both = torch.complex(steps_like(point, 3), steps_like(point, 4))
    expected = real.prox(parts, torch.view_as_real(both))
    torch.testing.assert_close(torch.view_as_real(penalty.prox(point, both)), expected)
    overwritten = point.clone()
    penalty.prox_(overwritten, both)
    torch.testing.assert_close(torch.view_as_real(overwritten), expected)
    distances = real.subdiff_distance(parts, torch.view_as_real(gradient)).norm(dim=-1)
    torch.testing.assert_close(penalty.subdiff_distance(point, gradient), distances)
    assert float(penalty.lam_max(gradient)) == float(real.lam_max(torch.view_as_real(gradient)))


def test_magnitudes_keep_their_phase(separable):
    point, gradient = complex_point(12), complex_point(12, seed=2)
    penalty, real = separable.make(0.4), separable.make(0.4)
    size = point.abs()
    assert float(penalty.value(point)) == pytest.approx(float(real.value(size)))
    for step in (0.7, steps_like(point)):
        found = penalty.prox(point, step)
        torch.testing.assert_close(found.abs(), real.prox(size, step))
        kept = found != 0
        torch.testing.assert_close(found[kept].angle(), point[kept].angle())
        assert float(penalty.subdiff_distance(found, (found - point) / step).max()) <= 1e-9
    assert float(penalty.lam_max(gradient)) == float(real.lam_max(gradient.abs()))


def test_the_rules_are_different_penalties():
    point = torch.tensor([1.0 + 0.2j])
    assert L1(0.5).prox(point, 1.0)[0].imag != 0
    assert L1(0.5, complex_rule="components").prox(point, 1.0)[0] == 0.5 + 0j


@pytest.mark.parametrize("seed", range(5))
def test_magnitudes_in_the_metric_of_an_adaptive_optimiser(seed):
    """Steps of their own for Re and Im: the optimality condition, and brute force over the plane."""
    point = complex_point(30, seed=seed)
    step = torch.complex(steps_like(point, seed + 10), steps_like(point, seed + 20))
    found = L1(1.2).prox(point, step)
    w, z, d = (torch.view_as_real(each) for each in (point, found, step))
    pull, size = (z - w) / d, z.norm(dim=-1, keepdim=True)
    away = (pull + 1.2 * z / torch.where(size == 0, 1, size)).norm(dim=-1)
    residual = torch.where(size[:, 0] == 0, (pull.norm(dim=-1) - 1.2).clamp(min=0), away)
    assert float(residual.max()) <= 1e-13
    assert bool((found == 0).any())
    assert bool((found != 0).any())
    axis = torch.linspace(-3, 3, 301, dtype=torch.float64)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    cost = 1.2 * plane.norm(dim=-1) + ((plane - w[0]) ** 2 / (2 * d[0])).sum(-1)
    own = 1.2 * z[0].norm() + ((z[0] - w[0]) ** 2 / (2 * d[0])).sum()
    assert float(own) <= float(cost.min())
    weighed = L1(1.0, weights=torch.full((30,), 1.2, dtype=torch.float64)).prox(point, step)
    torch.testing.assert_close(weighed, found)


def test_other_magnitudes_refuse_such_a_metric_and_say_what_works():
    point = complex_point(4)
    step = torch.complex(steps_like(point), steps_like(point, 2))
    with pytest.raises(ValueError, match=r"complex_rule is 'magnitude'.*MCP.*'components'"):
        MCP(0.3).prox(point, step)
    MCP(0.3, complex_rule="components").prox(point, step)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("penalty", [GroupL1(0.4), SparseGroupL1(0.4), Nuclear(0.6)], ids=lambda p: type(p).__name__)
def test_groups_and_singular_values_of_complex_numbers(penalty, dtype):
    point = complex_point(4, 3, dtype=dtype)
    found = penalty.prox(point, 0.6)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.complex64 else 1e-12
    assert float(penalty.subdiff_distance(found, (found - point) / 0.6).max()) <= tolerance
    real = penalty.prox(point.real.to_dense(), 0.6)
    torch.testing.assert_close(penalty.prox(torch.complex(point.real, torch.zeros_like(point.real)), 0.6).real, real)


def test_singular_values_in_the_metric_of_an_adaptive_optimiser():
    point = complex_point(4, 3)
    step = torch.complex(steps_like(point), steps_like(point, 2))
    found = Nuclear(0.6).prox(point, step)
    move = torch.view_as_real(found - point) / torch.view_as_real(step)
    assert float(Nuclear(0.6).subdiff_distance(found, torch.view_as_complex(move))) <= 1e-10


def test_groups_of_complex_numbers_refuse_a_diagonal_metric():
    with pytest.raises(ValueError, match="GroupL1 has no prox of complex numbers in a diagonal metric"):
        GroupL1(0.4).prox(complex_point(4, 3), steps_like(complex_point(4, 3)))


@pytest.mark.parametrize("rule", RULES)
def test_complex_infinity_and_nan(rule):
    inf = float("inf")
    point = torch.tensor([complex(inf, 1), complex(1, -inf), complex(float("nan"), 1), 0j])
    found = L1(0.5, complex_rule=rule).prox(point, 1.0)
    assert found[0].real == inf
    assert found[1].imag == -inf
    assert bool(found[2].isnan())
    assert found[3] == 0
    assert not bool(found[[0, 1, 3]].isnan().any())


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="complex_rule is 'modulus'; accepted are magnitude, components"):
        L1(1.0, complex_rule="modulus")
