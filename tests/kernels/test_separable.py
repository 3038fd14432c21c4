"""The prox of a group in one launch is the eager prox in float64, whatever the penalty, metric, dtype and layout."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nonsmooth.optim.metric import WARM_UP, AdaptiveStep

from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.kernels.separable import separable_prox_
from nonsmooth.kernels.tables import Table
from nonsmooth.optim.proximal_step import prox_parameter
from nonsmooth.optim.steady import _threshold
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, TransformedL1

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(5, 7), (3,), (), (0, 4), (2, 3, 2)]
STRENGTHS = [0.3, 0.05, 0.2, 1.0, 0.4]
PLAIN = SimpleNamespace(name="l1", make=L1, shape=0.0)
METRICS = ["euclidean", "adaptive", "limited", "centred"]
LIMIT = {Row.FULL: 0.7, Row.TIMES: 0.4, Row.SLACK: 0.012}  # c = 0.4 and d = 0.2


def drawn(shape, seed, dtype, device, scale=1.5):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(device=device, dtype=dtype)


class Group:
    """Parameters with squares, means and zeros, and what the eager path makes of them in float64."""

    def __init__(self, dtype, device, metric, shapes=SHAPES, strengths=STRENGTHS, step=0.7, block=32):
        self.metric, self.shapes, self.strengths, self.step, self.device = metric, shapes, strengths, step, device
        self.points = [drawn(shape, seed, dtype, device) for seed, shape in enumerate(shapes)]
        # Halves may keep their squares in float32.
        squares = torch.float32 if dtype == torch.bfloat16 else dtype
        self.squares = [drawn(shape, 50 + seed, squares, device, 0.3).square() for seed, shape in enumerate(shapes)]
        self.means = [drawn(shape, 90 + seed, dtype, device, 0.1) for seed, shape in enumerate(shapes)]
        self.zeros = [
            (drawn(shape, 130 + seed, dtype, device) > 1).to(torch.uint8) for seed, shape in enumerate(shapes)
        ]
        self.pulls = [
            drawn(shape, 170 + seed, torch.promote_types(dtype, torch.float32), device, 0.2)
            for seed, shape in enumerate(shapes)
        ]
        self.table = Table(device, block=block)

    def options(self):
        """Those of `separable_prox_`."""
        if self.metric == "euclidean":
            return {}
        found = {"squares": self.squares, "limited": self.metric != "adaptive"}
        if self.metric == "centred":
            found["means"] = self.means
        return found | ({"zeros": self.zeros} if found["limited"] else {})

    def numbers(self, kind, **more):
        steps = {Row.STEP: self.step} if self.metric == "euclidean" else {Row.SCALE: self.step, Row.EPSILON: 0.06}
        rows = {Row.STRENGTH: self.strengths, **steps, **LIMIT}
        rows |= {} if kind.name in ("l1", "l0") else {Row.SHAPE: kind.shape}
        return Numbers(self.device, len(self.points))(rows | {Row[name]: value for name, value in more.items()})

    def unit_step(self, number):
        """D in float64."""
        if self.metric == "euclidean":
            return self.step
        limit = {"full": LIMIT[Row.FULL], "times": LIMIT[Row.TIMES], "slack": LIMIT[Row.SLACK]}
        return AdaptiveStep(
            self.step,
            self.squares[number].double(),
            0.06,
            self.means[number].double() if self.metric == "centred" else None,
            **(limit if self.metric != "adaptive" else {}),
        )

    def expected(self, kind, number, weights=None):
        """The eager prox of the points as they are."""
        point = self.points[number].to(torch.float64, copy=True)
        prox_parameter(
            kind.make(self.strengths[number], weights=weights), point, self.unit_step(number), self.zeros[number]
        )
        return point


def assert_rounded_once(found, expected, *, slack=3e-6):
    """Half a unit in the last place off, and what arithmetic in float32 adds; float64 has its digits."""
    if found.dtype == torch.float64:
        torch.testing.assert_close(found, expected, rtol=2e-12, atol=1e-13)
        return
    half = 0.0 if found.dtype == torch.float32 else torch.finfo(found.dtype).eps / 2
    torch.testing.assert_close(found.double(), expected, rtol=half + slack, atol=slack)


def proximal(kind, group, **options):
    numbers = options.pop("numbers", None)
    numbers = group.numbers(kind) if numbers is None else numbers
    separable_prox_(kind.name, group.points, numbers, table=group.table, **{**group.options(), **options})


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_eager_prox_in_float64(kind, metric, dtype, device):
    group = Group(dtype, device, metric)
    before = [point.clone() for point in group.points]
    expected = [group.expected(kind, number) for number in range(len(SHAPES))]
    proximal(kind, group)
    for found, other in zip(group.points, expected, strict=True):
        assert_rounded_once(found, other)
    assert any(not torch.equal(found, other) for found, other in zip(group.points, before, strict=True))
    assert bool((group.points[0] == 0).any())


@pytest.mark.parametrize("metric", METRICS[:3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_strengths_by_coordinate_are_weights(kind, metric, dtype, device):
    group = Group(dtype, device, metric)
    precise = torch.promote_types(dtype, torch.float32)
    weights = [drawn(shape, 300 + n, precise, device).abs() for n, shape in enumerate(SHAPES)]
    expected = [group.expected(kind, n, weights=weight.double()) for n, weight in enumerate(weights)]
    scaled = [weight * strength for weight, strength in zip(weights, STRENGTHS, strict=True)]
    proximal(kind, group, strengths=scaled)
    for found, other in zip(group.points, expected, strict=True):
        assert_rounded_once(found, other)


@pytest.mark.parametrize("count", [WARM_UP, WARM_UP + 1])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_memory_of_pulls_is_that_of_the_steady_optimisers(sloping, metric, dtype, count, device):
    group = Group(dtype, device, metric)
    for pull, zero in zip(group.pulls, group.zeros, strict=True):
        pull.mul_(torch.where(zero.bool(), 1.0, 1.5))
    expected = []
    for number in range(len(SHAPES)):
        point, state = (
            group.points[number].to(torch.float64, copy=True),
            {"pull": group.pulls[number].to(torch.float64, copy=True)},
        )
        state["pulls"] = torch.tensor(float(count - 1))
        penalty = sloping.make(group.strengths[number])
        held = group.zeros[number].bool()
        _threshold(penalty, point, held, group.unit_step(number), state, {"forgetting": 4.0}, None)
        expected.append((point, state["pull"]))
    numbers = group.numbers(sloping, COUNT=float(count), FORGETTING=4.0, WARM_UP=float(WARM_UP))
    proximal(sloping, group, numbers=numbers, pulls=group.pulls, zeros=group.zeros)
    for (point, pull), found, remembered in zip(expected, group.points, group.pulls, strict=True):
        assert_rounded_once(found, point)
        assert_rounded_once(remembered, pull)
        assert bool(((found == 0) == (point == 0)).all())


def test_what_is_halted_is_left_as_it_is(kind, device):
    group, whole = Group(torch.float32, device, "limited"), Group(torch.float32, device, "limited")
    before = [point.clone() for point in group.points]
    halted = [torch.tensor(float(number == 0), device=device) for number in range(len(SHAPES))]
    proximal(kind, group, numbers=group.numbers(kind, HALTED=halted))
    proximal(kind, whole)
    assert torch.equal(group.points[0], before[0])
    assert not torch.equal(whole.points[0], before[0])
    for found, other in zip(group.points[1:], whole.points[1:], strict=True):
        assert torch.equal(found, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["euclidean", "adaptive"])
def test_signs_of_zero_infinity_and_nan_are_the_eager_ones(kind, metric, dtype, device):
    tiny = torch.finfo(dtype).tiny
    values = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, tiny / 4, -tiny / 4, tiny, 0.01, -0.01, -3.0, 60000.0]
    for strength in (0.3, 0.0):
        group = Group(dtype, device, metric, [(len(values),)], [strength])
        group.points[0].copy_(torch.tensor(values, dtype=dtype))
        step = group.unit_step(0)
        step = step() if isinstance(step, AdaptiveStep) else step
        expected = kind.make(strength).proximal_map(group.points[0].to(torch.float64, copy=True), step).to(dtype)
        proximal(kind, group)
        torch.testing.assert_close(group.points[0], expected, equal_nan=True, rtol=2 * torch.finfo(dtype).eps, atol=0)
        known = ~expected.isnan()
        assert torch.equal(torch.signbit(group.points[0])[known], torch.signbit(expected)[known])
        assert torch.equal(group.points[0] == 0, expected == 0)


EXTREMES = [
    ("l1", 1e-42, 1e6, 0.0),
    ("l1", 1e30, 1e-30, 0.0),
    ("l1", 1e300, 1.0, 0.0),
    ("elastic_net", 1e-30, 1e30, 0.6),
    ("l0", 1e-38, 1e30, 0.0),
    ("l0", 1e25, 1e20, 0.0),
    ("mcp", 0.3, 0.7, 1e8),
    ("mcp", 0.3, 0.7, 1e300),
    ("mcp", 0.3, 40.0, 2.5),
    ("scad", 0.3, 0.7, 1e9),
    ("scad", 0.3, 3.5, 3.7),
    ("scad", 0.3, 40.0, 3.7),
    ("transformed_l1", 0.3, 0.7, 1e-5),
    ("transformed_l1", 0.3, 0.7, 1e6),
    ("transformed_l1", 1e-6, 0.7, 1e-25),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["euclidean", "adaptive"])
@pytest.mark.parametrize(("name", "strength", "step", "shape"), EXTREMES)
def test_numbers_at_the_ends_of_the_range_give_what_float64_gives(name, strength, step, shape, metric, dtype, device):
    kinds = {"l1": L1, "l0": L0, "mcp": MCP, "scad": SCAD, "elastic_net": ElasticNet, "transformed_l1": TransformedL1}
    penalty = kinds[name](strength, *([shape] if shape else []))
    group = Group(dtype, device, metric, [(40,)], [strength], step)
    whole = group.unit_step(0)
    whole = whole() if isinstance(whole, AdaptiveStep) else whole
    expected = penalty.proximal_map(group.points[0].to(torch.float64, copy=True), whole)
    rows = {Row.STRENGTH: strength, Row.STEP: step, Row.SCALE: step, Row.EPSILON: 0.06}
    rows |= {Row.SHAPE: shape} if shape else {}
    numbers = Numbers(device, 1)(rows)
    separable_prox_(name, group.points, numbers, table=group.table, **group.options())
    assert_rounded_once(group.points[0], expected)


def test_any_order_of_dimensions_and_any_address_will_do(kind, device):
    group = Group(torch.float32, device, "limited", [(3, 4, 2, 2), (6, 5), (33,)], [0.3, 0.2, 0.1])
    expected = [group.expected(kind, number) for number in range(3)]
    for tensors in (group.points, group.squares, group.zeros):
        tensors[0] = tensors[0].to(memory_format=torch.channels_last)
        tensors[1] = tensors[1].t().contiguous().t()
        tensors[2] = torch.cat([tensors[2].new_zeros(1), tensors[2]])[1:]  # no multiple of 16 bytes
    assert not group.points[0].is_contiguous()
    proximal(kind, group)
    for found, other in zip(group.points, expected, strict=True):
        assert_rounded_once(found, other)


def test_a_list_without_coordinates_is_no_launch(device, launched):
    for shapes in ([], [(0,)], [(0, 3), (2, 0)]):
        group = Group(torch.float32, device, "euclidean", shapes, [0.3] * len(shapes))
        assert launched(lambda group=group: proximal(PLAIN, group)).launches == 0


@pytest.mark.parametrize(
    ("metric", "more", "read", "written"),
    [
        ("euclidean", (), 1, 1),
        ("adaptive", (), 2, 1),
        ("limited", (), 3, 1),
        ("centred", (), 4, 1),
        ("euclidean", ("strengths",), 2, 1),
        ("euclidean", ("pulls", "zeros"), 3, 2),
        ("limited", ("pulls",), 4, 2),
    ],
)
def test_one_launch_and_so_many_tensors_of_the_parameters_size(metric, more, read, written, device, launched):
    group = Group(torch.float32, device, metric)
    group.points[1] = group.points[1].double()
    tensors = {"pulls": group.pulls, "zeros": group.zeros, "strengths": [pull.abs() for pull in group.pulls]}
    size = sum(point.numel() for point in group.points)
    numbers = group.numbers(PLAIN, COUNT=3.0, FORGETTING=4.0, WARM_UP=50.0)
    found = launched(lambda: proximal(PLAIN, group, numbers=numbers, **{name: tensors[name] for name in more}))
    assert found.launches == 2  # one for each dtype
    assert (found.read, found.written) == (read * size, written * size)


def test_offsets_beyond_2_to_the_31_reach_the_right_addresses(device, monkeypatch):
    """A block whose number is so large that its offset needs 33 bits, of a tensor that does not exist."""
    if device.type != "cpu":
        pytest.skip("looks at the addresses that the interpreter is about to read")
    from triton.runtime import interpreter  # noqa: PLC0415  only where it is installed

    group = Group(torch.float32, device, "euclidean", [(16,)], [0.3], block=16)
    (launch,) = group.table.launches((group.points, None, None, None, None, None))
    blocks = (1 << 33) // 16
    launch.layout[0] = (1 << 33) + 16
    launch.layout[1] = -blocks  # so that program 0 has the block of that number
    addresses = []

    def loading(self, pointers, mask, other, *rest):
        if mask.data.size > 1:
            addresses.extend(pointers.data.tolist())
            return interpreter.TensorHandle(torch.zeros(16).numpy(), pointers.get_element_ty())
        return load(self, pointers, mask, other, *rest)

    load = interpreter.InterpreterBuilder.create_masked_load
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_load", loading)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_store", lambda *_: None)
    monkeypatch.setattr(group.table, "launches", lambda _: [launch])
    proximal(PLAIN, group)
    first = group.points[0].data_ptr() + 4 * (1 << 33)
    assert addresses == [first + 4 * j for j in range(16)]


@given(
    seed=st.integers(0, 10**6),
    strength=st.floats(0.01, 2),
    step=st.floats(0.05, 0.95),
)
@settings(max_examples=12, deadline=None)
def test_it_is_the_minimiser_on_a_grid(kind, device, seed, strength, step):
    grid = torch.linspace(-6, 6, 6001, dtype=torch.float64)
    group = Group(torch.float64, device, "euclidean", [(12,)], [strength], step)
    point = drawn((12,), seed, torch.float64, "cpu")
    group.points[0].copy_(point)
    proximal(kind, group)
    found, penalty = group.points[0].cpu(), kind.make(strength)

    def cost(values):
        return penalty.terms(values) + (values - point.unsqueeze(-1)).square() / (2 * step)

    assert bool((cost(found.unsqueeze(-1))[:, 0] <= cost(grid.expand(12, -1)).min(-1).values + 1e-12).all())


@given(seed=st.integers(0, 10**6), strength=st.floats(0.01, 2), scale=st.floats(0.1, 10))
@settings(max_examples=12, deadline=None)
def test_it_keeps_order_and_where_convex_does_not_expand(kind, device, seed, strength, scale):
    group = Group(torch.float64, device, "adaptive", [(20,)], [strength])
    group.squares[0].fill_(0.25)
    point = drawn((20,), seed, torch.float64, device, scale).sort().values
    group.points[0].copy_(point)
    proximal(kind, group)
    found = group.points[0]
    assert bool((found.diff() >= -1e-13).all())
    if kind.make(1.0).convex:
        assert bool((found.diff() <= point.diff() + 1e-13).all())


def test_other_arguments_are_refused(device):
    group = Group(torch.float32, device, "limited")
    numbers, points = group.numbers(PLAIN), group.points
    with pytest.raises(ValueError, match="kind is 'l2'"):
        separable_prox_("l2", points, numbers, table=group.table)
    with pytest.raises(ValueError, match="kind is 'l0'"):
        separable_prox_("l0", points, numbers, table=group.table, pulls=group.pulls, zeros=group.zeros)
    with pytest.raises(ValueError, match="numbers has shape"):
        separable_prox_("l1", points, numbers[:, 1:], table=group.table)
    with pytest.raises(ValueError, match=r"dtype torch\.float32"):
        separable_prox_("l1", points, numbers.float(), table=group.table)
    with pytest.raises(ValueError, match="zeros is None"):
        separable_prox_("l1", points, numbers, table=group.table, pulls=group.pulls)
    with pytest.raises(ValueError, match="accepted are equal numbers"):
        separable_prox_("l1", points, numbers, table=group.table, squares=group.squares[1:])
