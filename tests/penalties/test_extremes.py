"""What a prox does at zero, infinity, NaN, the smallest and the largest numbers, on empty tensors and in each type."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.penalties import L1, Nuclear

DTYPES = (torch.float32, torch.float64)
REAL_DTYPES = (*DTYPES, torch.bfloat16, torch.float16)
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan)


def steps_for(case, diagonal, dtype=torch.float64):
    return case.steps(dtype=dtype) if diagonal else 0.7


def numbers(dtype):
    """Any number of a type, the special, the subnormal and the largest ones included."""
    width = {torch.float32: 32, torch.float64: 64}[dtype]
    kind = torch.finfo(dtype)
    corners = st.sampled_from([*SPECIAL, kind.tiny, kind.tiny * kind.eps, -kind.max, kind.max, 1.0, -1e-3])
    return st.one_of(corners, st.floats(width=width), st.floats(-2, 2, width=width))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("diagonal", [False, True])
@given(data=st.data(), strength=st.sampled_from([0.0, 1e-30, 0.3, 1.0, 1e6]))
@settings(max_examples=25, deadline=None)
def test_nan_comes_only_from_nan_and_nothing_grows(case, dtype, diagonal, data, strength):
    count = math.prod(case.shape)
    values = data.draw(st.lists(numbers(dtype), min_size=count, max_size=count))
    point = torch.tensor(values, dtype=dtype).reshape(case.shape)
    penalty, step = case.make(strength), steps_for(case, diagonal, dtype)
    found = penalty.proximal_map(point, step)
    assert found.dtype == dtype
    assert found.shape == point.shape
    if penalty.separable:
        assert torch.equal(found.isnan(), point.isnan())
    elif not bool(point.isnan().any()):
        assert not bool(found.isnan().any())
    good = ~found.isnan() & ~point.isnan()
    if isinstance(penalty, Nuclear):  # its entries may grow, its norm may not
        if bool(point.isfinite().all()) and float(point.abs().max()) < 1e30:
            assert float(found.norm()) <= float(point.norm()) * (1 + 1e-5)
        return
    assert bool((found[good].abs() <= point[good].abs() * (1 + 8 * torch.finfo(dtype).eps)).all())
    assert bool((found[good] * point[good].sign() >= 0).all())
    again = point.clone()
    penalty.prox_(again, step)
    torch.testing.assert_close(again, found, equal_nan=True, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=0)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0.0])
@pytest.mark.parametrize("diagonal", [False, True])
def test_infinity_nan_and_zero_stay(separable, value, diagonal):
    point = separable.point()
    point[3] = value
    found = separable.make(0.3).prox(point, steps_for(separable, diagonal))
    if isinstance(separable.make(1.0), type(L1(1.0))) or math.isnan(value) or value == 0:
        torch.testing.assert_close(found[3], point[3], equal_nan=True, rtol=0, atol=0)
    else:
        assert float(found[3]) == value
    others = torch.arange(12) != 3
    alone = separable.make(0.3).prox(separable.point(), steps_for(separable, diagonal))
    assert torch.equal(found[others], alone[others])


@pytest.mark.parametrize("diagonal", [False, True])
def test_nan_in_a_group_is_nan_in_all_of_it_and_nowhere_else(case, diagonal):
    if case.shape != (3, 4):
        pytest.skip("for rows")
    point = case.point()
    point[1, 2] = math.nan
    found = case.make(0.3).prox(point, steps_for(case, diagonal))
    if case.make(1.0).weights is None:
        assert bool(found[1].isnan().all())
    assert bool(found[[0, 2]].isfinite().all())


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_zero_point_is_its_own_prox(case, diagonal):
    for dtype in DTYPES:
        zero = torch.zeros(case.shape, dtype=dtype)
        assert torch.equal(case.make(0.3).prox(zero, steps_for(case, diagonal, dtype)), zero)
        assert float(case.make(0.3).value(zero)) == 0
        assert bool((case.make(0.3).subdiff_distance(zero, zero) == 0).all())


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-40, -30, -20, 20, 30])
def test_the_prox_knows_no_unit_of_length(coupled, diagonal, dtype, exponent):
    """With norms, prox(cw, cλ) = c·prox(w, λ), where squares are beyond the range of the type as well."""
    scale = 10.0**exponent if dtype == torch.float32 else 10.0 ** (7 * exponent)
    point, step = coupled.point(2).to(dtype), steps_for(coupled, diagonal, dtype)
    scaled = (point.double() * scale).to(dtype)
    if isinstance(coupled.make(1.0), Nuclear) and abs(exponent) > 20:
        pytest.skip("the decomposition's own range")
    found = coupled.make(0.2 * scale).prox(scaled, step)
    unit = coupled.make(0.2).prox(point.double(), step.double() if diagonal else step)
    # A subnormal number has the fewer digits, the smaller it is.
    tolerance = 1e-3 if exponent == -40 and dtype == torch.float32 else 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found.double() / scale, unit, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_an_empty_tensor_has_an_empty_prox(case, shape):
    penalty = case.make(0.3)
    fits = len(shape) >= len(case.shape) and getattr(penalty, "index", None) is None
    if not fits or (getattr(penalty, "weights", None) is not None) or len(case.shape) > 2:
        pytest.skip("a tensor of that shape is refused")
    empty = torch.zeros(shape)
    for step in (0.7, torch.full(shape, 0.7)):
        assert penalty.prox(empty, step).shape == empty.shape
        penalty.prox_(empty.clone(), step)
    assert float(penalty.value(empty)) == 0
    assert float(penalty.lam_max(empty)) == 0
    assert float(penalty.subdiff_distance(empty, empty).sum()) == 0


@pytest.mark.parametrize("dtype", REAL_DTYPES)
@pytest.mark.parametrize("diagonal", [False, True])
def test_every_type_gets_its_own_digits(case, dtype, diagonal):
    """Against the prox in double precision of the same, already rounded, numbers."""
    point = case.point(5).to(dtype)
    step = case.steps(5, dtype=torch.float32) if diagonal else 0.7
    penalty = case.make(0.2)
    found = penalty.prox(point, step)
    exact = penalty.prox(point.double(), step.double() if diagonal else step)
    assert found.dtype == dtype
    digits = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), exact, rtol=4 * digits, atol=8 * digits if digits < 1e-3 else digits / 8)


def test_subnormal_weights_are_thresholded_like_others():
    smallest = torch.tensor(1e-45)
    point = smallest * torch.tensor([1.0, 5.0, -9.0])
    assert torch.equal(L1(float(3 * smallest)).prox(point, 1.0), smallest * torch.tensor([0.0, 2.0, -6.0]))
    assert torch.equal(L1(1e-3).prox(point, 1e-3), torch.zeros(3))


def test_a_shrinkage_below_half_a_digit_is_lost_in_bfloat16():
    """A documented limit: weights in bfloat16 have three digits, and no more is kept between steps."""
    weight = torch.ones(1, dtype=torch.bfloat16)
    for _ in range(100):
        weight = L1(1.0).prox(weight, 1e-3)
    assert float(weight) == 1.0
    assert float(L1(1.0).prox(torch.tensor([5e-4], dtype=torch.bfloat16), 1e-3)) == 0


def test_the_steps_precision_does_not_change_the_points(case):
    point, steps = case.point(6, dtype=torch.float32), case.steps(6)
    assert case.make(0.3).prox(point, steps).dtype == torch.float32
    assert case.make(0.3).prox(point.double(), steps.float()).dtype == torch.float64
