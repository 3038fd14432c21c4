"""The kernel for groups, against the eager prox in double precision and the condition of optimality."""

from __future__ import annotations

import math

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from nonsmooth.optim.held_at_zero import lift_
from nonsmooth.optim.metric import AdaptiveStep

from nonsmooth.kernels import group_program, group_tiles, groups
from nonsmooth.kernels.group_tiles import APART, COLUMNS, ROWS, Slices, slices_of
from nonsmooth.kernels.groups import GroupTable, group_prox_, qualifies
from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.penalties import GroupL1, SparseGroupL1

# The interpreter computes with numpy, which warns of what a device computes in silence.
pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")

HALF = (torch.float16, torch.bfloat16)
DTYPES = (*HALF, torch.float32, torch.float64)
METRICS = ("Euclidean", "adaptive", "centred", "limited", "limited centred", "held")
STEP, SCALE, EPSILON = 0.7, 0.05, 1e-3
LIMIT = {"full": 0.05, "times": 1.5, "slack": 3e-4}
RAGGED = ((5, 7), (3, 4, 3, 3), (8, 33), (2, 100), (1, 1), (4, 0), (0, 3), (24, 2))


class Problem:
    """Parameters with all that a metric needs, λ and r."""

    def __init__(self, shapes, metric, dtype=torch.float32, *, seed=0, strength=0.25, ratio=0.0, dim=0, device="cpu"):
        generator = torch.Generator().manual_seed(seed)

        def numbers(shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        # Groups of different sizes of weights, so that some are zero and others are not.
        self.points = []
        for shape in shapes:
            dims = {d % len(shape) for d in ((dim,) if isinstance(dim, int) else dim)}
            size = numbers([n if d in dims else 1 for d, n in enumerate(shape)]).mul(2).exp()
            self.points.append((numbers(shape) * size).to(device, dtype))
        self.squares = [(0.02 + 0.3 * numbers(s).abs()).square().to(device, dtype) for s in shapes]
        self.means = [
            (square.double().sqrt() * numbers(s).tanh().to(device)).to(dtype)
            for square, s in zip(self.squares, shapes, strict=True)
        ]
        self.zeros = [(numbers(s) > 0).to(device, torch.uint8) for s in shapes]
        self.metric, self.strength, self.ratio, self.dim, self.device = metric, strength, ratio, dim, device

    def penalty(self):
        if self.ratio:
            return SparseGroupL1(self.strength, self.ratio, dim=self.dim)
        return GroupL1(self.strength, dim=self.dim)

    def expected(self):
        """By the eager path, in double precision."""
        found = []
        for start, square, mean, zeros in zip(self.points, self.squares, self.means, self.zeros, strict=True):
            point = start.to("cpu", torch.float64, copy=True)
            if self.metric == "Euclidean":
                found.append(self.penalty().prox(point, STEP))
                continue
            centre = mean.double().cpu() if "centred" in self.metric else None
            step = AdaptiveStep(SCALE, square.double().cpu(), EPSILON, centre, **self.limits())
            whole = step()
            limit = step.limit(whole)
            if limit is None:
                found.append(self.penalty().prox(point, whole))
                continue
            lift_(limit, zeros.cpu() if self.metric == "held" else None)
            self.penalty().limited_prox_(point, whole, limit)
            found.append(point)
        return found

    def limits(self):
        return LIMIT if self.metric in ("limited", "limited centred", "held") else {}

    def rows(self, **others):
        rows = {"step": STEP, "scale": SCALE, "epsilon": EPSILON, "strength": self.strength * (1 - self.ratio)}
        rows |= {"l1_strength": self.strength * self.ratio} | LIMIT | others
        return Numbers(torch.device(self.device), len(self.points))({Row[k.upper()]: v for k, v in rows.items()})

    def run(self, *, numbers=None, **options):
        """Overwrite the points by the kernel."""
        adaptive = self.metric != "Euclidean"
        group_prox_(
            self.points,
            self.rows() if numbers is None else numbers,
            dim=self.dim,
            squares=self.squares if adaptive else None,
            means=self.means if "centred" in self.metric else None,
            zeros=self.zeros if self.metric == "held" else None,
            sparse=self.ratio > 0,
            limited=bool(self.limits()),
            **options,
        )


def check(problem, expected, before):
    """Compare with the oracle, up to the rounding of the arithmetic relative to |w|, and of the type itself."""
    dtype = problem.points[0].dtype
    work = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    own = torch.finfo(dtype).eps / 2 if dtype in HALF else 0.0
    for point, right, start in zip(problem.points, expected, before, strict=True):
        found, w = point.double().cpu(), start.double().cpu()
        allowed = 100 * work * w.abs() + own * right.abs() + (6e-8 if dtype == torch.float16 else 0)
        assert bool(((found - right).abs() <= allowed).all())
        # A zero is a zero: no rounding decides it in these problems.
        assert torch.equal(found == 0, right.to(dtype) == 0) or dtype == torch.float16
        assert torch.equal(torch.signbit(found), torch.signbit(w))


def solve(problem, **options):
    before = [point.clone() for point in problem.points]
    expected = problem.expected()
    problem.run(**options)
    check(problem, expected, before)
    return expected


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that rows and columns of tens of coordinates are longer."""
    for name, value in {"SMALL_TILE": 32, "LARGEST_TILE": 32, "CHUNK": 32, "NEIGHBOURS": 2}.items():
        monkeypatch.setattr(group_tiles, name, value)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("dtype", "dim", "ratio"),
    [
        *((torch.float32, 0, 0.0), (torch.float32, 0, 0.4), (torch.float32, 1, 0.4)),
        *((torch.float32, (0, 1), 0.0), (torch.float16, 0, 0.4), (torch.bfloat16, 0, 0.0)),
        *((torch.float64, 0, 0.0), (torch.float64, 1, 0.4)),
    ],
)
def test_it_is_the_eager_prox(metric, dtype, dim, ratio, device):
    problem = Problem(RAGGED, metric, dtype, ratio=ratio, dim=dim, device=device.type)
    right = torch.cat([each.reshape(-1) for each in solve(problem)])
    zero = float((right == 0).double().mean())
    assert (0.05 if metric in ("Euclidean", "adaptive", "centred", "held") else 0) < zero < 0.9


@pytest.mark.parametrize(
    ("metric", "ratio"), [("Euclidean", 0.4), ("adaptive", 0.0), ("limited centred", 0.4), ("held", 0.0)]
)
@pytest.mark.parametrize(("dim", "arrangement"), [(0, ROWS), (1, APART), (2, COLUMNS)])
def test_groups_longer_than_a_tile(metric, ratio, dim, arrangement, small_tiles, device):
    problem = Problem(((3, 7, 5), (9, 3, 4), (4, 2, 17)), metric, ratio=ratio, dim=dim, device=device.type)
    solve(problem)
    assert (arrangement, False) in {(slices_of(w, dim).arrangement, tile_of(w, dim).whole) for w in problem.points}


def tile_of(point, dim):
    return group_tiles.tile_for(slices_of(point, dim), adaptive=True, double=point.dtype == torch.float64)


@pytest.mark.parametrize("length", [16384, 16385, 40000])
def test_rows_about_the_largest_tile(length, device):
    problem = Problem(((2, length),), "adaptive", ratio=0.2, device=device.type)
    assert tile_of(problem.points[0], 0).whole == (length == 16384)
    solve(problem)


@pytest.mark.parametrize("factor", [1e-42, 1e-25, 1e37])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("metric", ["Euclidean", "adaptive"])
def test_squares_beyond_the_range_of_the_type(factor, whole, metric, request, device):
    if not whole:
        request.getfixturevalue("small_tiles")
    shape = (4, 70)
    problem = Problem((shape,), metric, device=device.type, strength=0.1 * factor, ratio=0.3)
    # The largest weight of a row comes early, late, or in between.
    sizes = torch.logspace(-2, 0, 70, device=device)
    problem.points[0] = factor * problem.points[0].clamp(-1, 1) * torch.stack([sizes, sizes.flip(0), sizes**2, sizes])
    if factor < 1e-40 and device.type != "cpu":
        pytest.skip("devices may take the smallest numbers for zero")
    before, (right,) = problem.points[0].double().cpu(), problem.expected()
    problem.run()
    found = problem.points[0].double().cpu()
    assert 0 < int((right.abs() > 1e-44).sum()) < right.numel() or factor < 1e-40
    torch.testing.assert_close(found, right, rtol=0, atol=2e-5 * float(before.abs().max()) + 3e-45)


def test_units_of_a_long_row_change_on_the_way(small_tiles, device):
    """From one chunk to the next the weights grow or shrink by more than the range of their squares."""
    rise = torch.logspace(-30, 30, 64, dtype=torch.float64)
    for metric in ("Euclidean", "adaptive"):
        problem = Problem(((3, 64),), metric, device=device.type, strength=1e28)
        problem.points[0] = torch.stack([rise, rise.flip(0), rise.roll(32)]).float().to(device)
        solve(problem)


@pytest.mark.parametrize(
    ("metric", "small"), [("Euclidean", False), ("adaptive", False), ("Euclidean", True), ("limited", True)]
)
def test_nan_and_infinity_stay_in_their_group(metric, small, request, device):
    if small:
        request.getfixturevalue("small_tiles")
    problem = Problem(((8, 70),), metric, device=device.type, strength=0.01)
    clean = problem.points[0].clone()
    w = problem.points[0]
    w[1, 3], w[3, 60], w[5, 2], w[5, 50], w[6] = torch.nan, torch.inf, -torch.inf, torch.nan, torch.inf
    before = w.clone()
    problem.run()
    others = Problem(((8, 70),), metric, device=device.type, strength=0.01)
    others.points[0] = clean
    others.run()
    assert torch.equal(w[[0, 2, 4, 7]], others.points[0][[0, 2, 4, 7]])
    assert bool(w[[1, 5]].isnan().all())
    # Beside a weight that is infinite nothing is shrunk.
    assert torch.equal(w[[3, 6]], before[[3, 6]])


def test_a_square_that_is_nan_makes_its_group_nan(device):
    problem = Problem(((4, 9),), "adaptive", device=device.type)
    right = problem.expected()[0]
    problem.squares[0][2, 5] = torch.nan
    problem.run()
    found = problem.points[0].double().cpu()
    assert bool(found[2].isnan().all())
    torch.testing.assert_close(found[[0, 1, 3]], right[[0, 1, 3]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_zeros_keep_their_sign(metric, ratio, device):
    problem = Problem(((4, 6),), metric, ratio=ratio, device=device.type)
    problem.points[0][0] = 0.0
    problem.points[0][1] = -0.0
    problem.points[0][2, ::2] = -0.0
    before = problem.points[0].clone()
    problem.run()
    assert torch.equal(torch.signbit(problem.points[0]), torch.signbit(before))
    assert bool((problem.points[0][before == 0] == 0).all())


@pytest.mark.parametrize("metric", METRICS)
def test_without_a_strength_or_a_step_nothing_changes(metric, device):
    for none in ({"strength": 0.0, "l1_strength": 0.0}, {"step": 0.0, "scale": 0.0, "full": 0.0, "slack": 0.0}):
        problem = Problem(((4, 6), (3, 50)), metric, ratio=0.4, device=device.type)
        problem.points[0][1] *= 1e-38
        before = [point.clone() for point in problem.points]
        problem.run(numbers=problem.rows(**none))
        assert all(map(torch.equal, problem.points, before))


def test_a_halted_parameter_stays(device):
    problem = Problem(((4, 6), (3, 5)), "adaptive", device=device.type)
    before, right = problem.points[0].clone(), problem.expected()[1]
    numbers = problem.rows(halted=torch.tensor([1.0, 0.0], device=device))
    numbers[Row.SCALE, 0] = torch.nan
    problem.run(numbers=numbers)
    assert torch.equal(problem.points[0], before)
    torch.testing.assert_close(problem.points[1].double().cpu(), right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", ["Euclidean", "adaptive"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_weights_by_group(metric, dtype, device):
    problem = Problem(((4, 6), (3, 5), (2, 3)), metric, torch.float64, device=device.type)
    spread = torch.tensor([0.5, 9, 0.0, 9, 2.0, 9], dtype=dtype, device=device)[::2]
    square = torch.tensor([[0.25, 1.0], [0.0, 3.0]], dtype=dtype, device=device)
    weights = [square, spread, spread[:1]]
    steps = [STEP if metric == "Euclidean" else SCALE / (s.sqrt() + EPSILON) for s in problem.squares]
    right = [
        GroupL1(problem.strength, weights=weight.double()).prox(point, step)
        for weight, point, step in zip(weights, problem.points, steps, strict=True)
    ]
    problem.run(weights=weights)
    for found, expected in zip(problem.points, right, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    for wrong, message in (
        (spread, r"weights has shape \(3,\) and dtype .*; accepted are 4 floating-point numbers"),
        (torch.ones(2, 2, device=device).t(), r"weights has shape \(2, 2\)"),
        (torch.ones(4, dtype=torch.int64, device=device), "dtype torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            problem.run(weights=[wrong, spread, spread])


@pytest.mark.parametrize("metric", ["Euclidean", "adaptive"])
def test_a_strength_beyond_the_range_of_the_type(metric, device):
    """λ and the step leave it, their product does not; then the product does."""
    problem = Problem(((4, 6),), metric, device=device.type)
    right = problem.expected()[0]
    shifted = {"strength": problem.strength * 1e30, "step": STEP * 1e-30, "scale": SCALE * 1e-30}
    problem.run(numbers=problem.rows(**shifted))
    torch.testing.assert_close(problem.points[0].double().cpu(), right, rtol=1e-5, atol=1e-6)
    problem.run(numbers=problem.rows(strength=1e60))
    assert bool((problem.points[0] == 0).all())


@pytest.mark.parametrize("sparse", [False, True])
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_the_result_is_optimal(sparse, data, device):
    """0 lies in (z - w)/D + λ∂R(z), for steps over six orders of magnitude and groups that are barely zero or not."""
    sides = st.integers(1, 9)
    shape = data.draw(st.tuples(sides, sides, sides))
    dim = data.draw(st.sampled_from([0, 1, 2, (0, 1), (1, 2)]))
    seed = data.draw(st.integers(0, 2**32))
    ratio = data.draw(st.floats(0.05, 0.95)) if sparse else 0.0
    problem = Problem((shape,), "adaptive", torch.float64, seed=seed, dim=dim, ratio=ratio, device=device.type)
    w = problem.points[0].clone()
    spread = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    problem.squares[0] = (10 ** (12 * spread - 10)).to(device)
    steps = SCALE / (problem.squares[0].sqrt() + EPSILON)
    # Where all of them are zero, λ is too large to tell.
    problem.strength = data.draw(st.floats(1e-3, 1.1)) * float(problem.penalty().lam_max(w / steps)) + 1e-9
    problem.run()
    z = problem.points[0]
    distance = problem.penalty().subdiff_distance(z, (z - w) / steps)
    assert float(distance.max()) <= 1e-11 * float((w / steps).norm()) + 1e-14


def test_no_weight_moves_beyond_the_limit(device):
    problem = Problem(((30, 20),), "limited", torch.float64, device=device.type, strength=5.0)
    before = problem.points[0].clone()
    problem.run()
    moved = (problem.points[0] - before).abs()
    limit = LIMIT["times"] * LIMIT["full"] - LIMIT["slack"] * SCALE / (problem.squares[0].sqrt() + EPSILON)
    assert bool((moved <= limit * (1 + 1e-12)).all())
    assert bool((moved > limit * (1 - 1e-12)).any())


@pytest.mark.parametrize(
    ("shape", "order", "dim", "expected"),
    [
        ((6, 5), (0, 1), 0, Slices(1, 6, 5)),
        ((6, 5), (0, 1), 1, Slices(6, 5, 1)),
        ((6, 5), (1, 0), 0, Slices(5, 6, 1)),
        ((6, 5), (0, 1), (0, 1), Slices(1, 30, 1)),
        ((4, 3, 2, 5), (0, 1, 2, 3), 0, Slices(1, 4, 30)),
        ((4, 3, 2, 5), (0, 1, 2, 3), 1, Slices(4, 3, 10)),
        ((4, 3, 2, 5), (0, 1, 2, 3), (0, 1), Slices(1, 12, 10)),
        ((4, 3, 2, 5), (0, 1, 2, 3), (-1, 2), Slices(12, 10, 1)),
        ((4, 3, 2, 5), (0, 2, 3, 1), 0, Slices(1, 4, 30)),
        ((4, 3, 2, 5), (0, 2, 3, 1), 1, Slices(40, 3, 1)),
        ((4, 3, 2, 5), (0, 2, 3, 1), (0, 1), None),
        ((4, 3, 2, 5), (0, 1, 2, 3), (0, 2), None),
        ((6, 5), (1, 0), (0, 1), None),
        ((4, 3, 1, 1), (0, 2, 3, 1), (0, 1), Slices(1, 12, 1)),
        ((1, 7), (0, 1), 0, Slices(1, 1, 7)),
        ((5,), (0,), 0, Slices(1, 5, 1)),
        ((5,), (0,), 1, None),
        ((), (), 0, None),
        ((0, 3), (0, 1), 0, Slices(1, 0, 0)),
    ],
)
def test_how_groups_lie_in_memory(shape, order, dim, expected, device):
    places = torch.argsort(torch.tensor(order, dtype=torch.int64)).tolist()
    point = torch.randn([shape[d] for d in order], device=device).permute(places)
    assert point.shape == shape
    assert slices_of(point, dim) == expected
    assert qualifies(point, dim) == (expected is not None)
    if expected is not None and point.numel():
        problem = Problem((shape,), "adaptive", dim=dim, device=device.type)
        square = torch.empty_like(point).copy_(problem.squares[0])
        (right,) = problem.expected()
        point.copy_(problem.points[0])
        problem.points, problem.squares = [point], [square]
        problem.run()
        torch.testing.assert_close(point.double().cpu(), right, rtol=1e-5, atol=1e-5)
        assert point.stride() == square.stride()


def test_what_does_not_qualify(device):
    dense = torch.randn(6, 8, device=device)
    assert qualifies(dense, 0, dense.half(), dense.byte())
    for other in (dense[:, ::2], dense[:, :4], dense.cfloat(), dense.int(), dense.to_sparse()):
        assert not qualifies(other, 0)
    assert not qualifies(dense, 0, dense.t().contiguous().t())
    assert not qualifies(dense, 0, dense[:, :4])
    assert not qualifies(dense, 2)
    problem = Problem(((6, 8),), "Euclidean", device=device.type)
    problem.points = [dense[:, ::2]]
    with pytest.raises(ValueError, match=r"shape \(6, 4\) and strides \(8, 2\)"):
        problem.run()
    with pytest.raises(ValueError, match="numbers has shape"):
        problem.run(numbers=problem.rows()[:, :0])
    problem = Problem(((6, 8),), "adaptive", device=device.type)
    problem.squares = []
    with pytest.raises(ValueError, match=r"lists have \[1, 0\] tensors"):
        problem.run()


def test_nothing_is_nothing(device):
    Problem((), "adaptive", device=device.type).run()
    Problem(((0, 3), (4, 0)), "held", device=device.type).run()


def test_one_launch_for_each_kind_of_tile(device):
    def lengths(shapes, dim=0):
        points = [torch.empty(shape, device=device) for shape in shapes]
        found = groups.planned((points, None, None, None, None), dim)
        return {launch.kind.tile.length: len(launch.owners) for launch in found}

    assert lengths([(5, 112), (7, 128), (300, 96)]) == {128: 1 + 1 + math.ceil(300 / 16)}
    assert lengths([(5, 112), (7, 912)]) == {128: 1, 1024: 4}
    assert lengths([(768, 768), (2304, 768), (768, 3072), (768,)]) == {1024: (768 + 2304) / 2, 4096: 768, 1: 1}
    assert lengths([(768, 768), (768, 2304)], 1) == {1024: (768 + 2304) / 8}
    assert lengths([(4096, 25088), (10, 40000)]) == {32768: 4096, 8192: 10}


def test_a_table_is_made_once_and_again_where_a_tensor_moved(monkeypatch, device):
    problem = Problem(((5, 6), (4, 7)), "adaptive", device=device.type)
    planned = []
    original = groups.planned
    monkeypatch.setattr(groups, "planned", lambda *given: planned.append(given) or original(*given))
    table = GroupTable(device)
    for _ in range(3):
        problem.run(table=table, numbers=problem.rows(strength=0.1, scale=0.02))
    assert len(planned) == 1
    for change in (
        lambda: problem.points.__setitem__(0, problem.points[0].clone()),
        lambda: problem.squares.__setitem__(1, problem.squares[1].double()),
        lambda: problem.points.__setitem__(1, problem.points[1].view(7, 4)),
    ):
        change()
        problem.squares[1] = problem.squares[1].view(problem.points[1].shape)
        planned.clear()
        solve(problem, table=table)
        assert len(planned) == 1


@pytest.mark.parametrize(("metric", "reads"), [("Euclidean", 1), ("limited", 2), ("centred", 3), ("held", 3)])
@pytest.mark.parametrize("dim", [0, 1])
def test_each_tensor_is_read_once_and_written_once(metric, reads, dim, launched, monkeypatch):
    problem = Problem(((30, 40), (16, 50)), metric, dim=dim)
    found = launched(problem.run)
    assert found.launches == 1 + dim  # rows of 40 and 50 go together, columns of 30 and 16 do not
    assert (found.read, found.written) == (reads * 2000, 2000)
    # Longer groups are read once more to scale them, and w and the squares in each step of Newton's method.
    for name, value in {"SMALL_TILE": 64, "LARGEST_TILE": 64, "CHUNK": 64, "NEIGHBOURS": 4}.items():
        monkeypatch.setattr(group_tiles, name, value)
    problem = Problem(((3, 200) if dim == 0 else (200, 3),), metric, dim=dim)
    found = launched(problem.run)
    assert (found.launches, found.written) == (1, 600)
    passes = found.read / 600
    assert passes == 2 if metric == "Euclidean" else 2 * reads < passes <= 12 * reads


def test_places_are_right_beyond_32_bits(device, monkeypatch):
    if device.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")

    @triton.jit
    def written(sizes, output, ARRANGEMENT: tl.constexpr):
        count, inner, length, first, group = (
            tl.load(sizes), tl.load(sizes + 1), tl.load(sizes + 2), tl.load(sizes + 3), tl.load(sizes + 4)
        )  # fmt: skip
        groups = group + tl.arange(0, 2).to(tl.int64)
        places, inside = group_program._places(first, groups, count, inner, length, ARRANGEMENT, 4)
        tl.store(output + tl.arange(0, 2)[:, None] * 4 + tl.arange(0, 4)[None, :], tl.where(inside, places, -1))

    far = 2**33
    wide = 2**24
    for arrangement, count, inner, length, first, group in (
        (ROWS, far, 5, 5, 2, far - 1),
        (ROWS, 2, far, far, far - 2, 1),
        (COLUMNS, wide, 1, wide, wide - 3, wide - 1),
        (APART, wide, 3, 3 * wide, 3 * wide - 2, wide - 1),
    ):
        output = torch.zeros(2, 4, dtype=torch.int64, device=device)
        written[(1,)](
            torch.tensor([count, inner, length, first, group], device=device), output, ARRANGEMENT=arrangement
        )
        found = output.tolist()
        for g in range(2):
            for j in range(4):
                along, of = first + j, group + g
                place = (along // inner * count + of) * inner + along % inner
                assert found[g][j] == (place if along < length and of < count else -1)


def test_an_aligned_row_is_one_of_16_byte_pieces(device):
    """The flag that lets a device load 16 bytes at once: wrong, it would be an error there."""
    memory = torch.zeros(4 * 64 + 1, device=device)

    def aligned(point, square, dim=0):
        (launch,) = groups.planned(([point], [square], None, None, None), dim)
        return launch.kind.aligned

    even, odd = memory[:256].view(4, 64), memory[1:].view(4, 64)
    assert aligned(even, even)
    assert not aligned(odd, even)
    assert not aligned(even, odd)
    assert not aligned(memory[:200].view(4, 50), even.view(-1)[:200].view(4, 50))
    assert not aligned(memory[:200].view(50, 4), even.view(-1)[:200].view(50, 4), 1)
    assert aligned(memory[:160].view(10, 16), memory[:160].view(10, 16), 1)
