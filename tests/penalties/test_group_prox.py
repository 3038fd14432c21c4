"""The equation behind the prox of groups in a diagonal metric, where it is hard: against bisection in long double."""

import numpy as np
import pytest
import torch

from nonsmooth.penalties import L1, GroupL1, solution_norms
from nonsmooth.penalties.groups import along, indexed

LARGE = [torch.float32, torch.float64]
GROUPS = 150


def bisection(point, scaled):
    """θ with ‖w/(θ + d)‖ = 1 for each row, in extended precision; 0 where ‖w/d‖ ≤ 1."""
    w, d = np.abs(point.numpy().astype(np.longdouble)), scaled.numpy().astype(np.longdouble)

    def norm(theta):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt((np.where(w == 0, 0, w / (theta[:, None] + d)) ** 2).sum(1))

    low, high = np.zeros(len(w), np.longdouble), np.sqrt((w**2).sum(1))
    zero = norm(low) <= 1
    low = high * np.longdouble(1e-40)
    for _ in range(500):
        middle = np.where(high > 2 * low, np.sqrt(low * high), (low + high) / 2)
        above = norm(middle) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(zero, 0, low), norm


def problem(kind, span, size, dtype, seed=0):
    """Rows w and d, d over `span` orders of magnitude, scaled so that the group is zero from reach 1 down."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    w = torch.randn(GROUPS, size, generator=generator, dtype=torch.float64)
    d = 10 ** (span * (uniform(GROUPS, size) - 1))
    if kind == "uneven":  # weights over as many orders, partly along with d
        w = w * d ** uniform(GROUPS, 1) * 10 ** (2 * uniform(GROUPS, size) - 1)
    reach = (w / d).norm(dim=1, keepdim=True)
    ratio = {"far": 1e-3, "near": 0.999, "edge": 1 - 1e-9, "beyond": 1.001, "holes": 0.5, "uneven": 0.3}[kind]
    d = d * reach * ratio
    if kind == "holes":
        d = d * (uniform(GROUPS, size) > 0.3)
    return w.to(dtype), d.to(dtype)


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("size", [2, 3, 7, 100])
@pytest.mark.parametrize("span", [0, 1, 6, 12])
@pytest.mark.parametrize("kind", ["far", "near", "edge", "beyond", "holes", "uneven"])
def test_the_root_is_found_to_rounding(kind, span, size, dtype, monkeypatch):
    w, d = problem(kind, span, size, dtype)
    evaluations = []
    original = solution_norms._next
    monkeypatch.setattr(solution_norms, "_next", lambda *given: evaluations.append(len(given[2])) or original(*given))
    found = solution_norms.solution_norms(w, d, along(w.shape, 0))
    watched = list(evaluations)
    # As on a device, where nothing is looked at.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    blind = solution_norms.solution_norms(w, d, along(w.shape, 0))
    assert len(evaluations) - len(watched) == solution_norms.FIXED_ITERATIONS
    exact, norm = bisection(w, d)
    allowed = 16 * torch.finfo(dtype).eps
    reach = norm(np.zeros(GROUPS, np.longdouble))
    for theta in (found.numpy().astype(np.longdouble), blind.numpy().astype(np.longdouble)):
        # The residual of the optimality condition over λ: |1/N - 1|, or for a zero group (reach - 1)₊.
        residual = np.where(theta == 0, np.maximum(reach - 1, 0), np.abs(1 / np.where(theta == 0, 1, norm(theta)) - 1))
        assert residual.max() <= allowed
        decided = np.abs(reach - 1) > allowed
        assert ((theta == 0) == (exact == 0))[decided].all()
    assert len(watched) <= 14
    if span <= 1 and kind == "far":
        assert sum(watched) <= 3.5 * GROUPS


@pytest.mark.parametrize("dtype", LARGE)
def test_the_coordinates_have_the_digits_of_the_type(dtype):
    w, d = problem("far", 1, 50, dtype)
    found = GroupL1(1.0, weights=torch.ones(GROUPS, dtype=dtype)).proximal_map(w, d)
    theta, _ = bisection(w, d)
    exact = w.numpy() * (theta[:, None] / (theta[:, None] + d.numpy()))
    np.testing.assert_allclose(found.numpy(), exact.astype(np.float64), rtol=20 * torch.finfo(dtype).eps)


def test_a_gentle_metric_takes_two_or_three_evaluations(monkeypatch):
    """D within a factor of ten in a group, groups shrunk by 0.1 % to 50 %."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(500, 1000, generator=generator)
    d = 10 ** torch.rand(500, 1000, generator=generator) * torch.logspace(-3, -0.7, 500)[:, None]
    evaluations = []
    original = solution_norms._next
    monkeypatch.setattr(solution_norms, "_next", lambda *given: evaluations.append(len(given[2])) or original(*given))
    solution_norms.solution_norms(w * 0.3, d, along(w.shape, 0))
    assert len(evaluations) <= 3
    assert sum(evaluations) <= 2.5 * 500


def test_groups_of_one_coordinate_are_coordinates():
    generator = torch.Generator().manual_seed(3)
    point = torch.randn(6, 7, generator=generator)
    steps = 0.01 + torch.rand(6, 7, generator=generator)
    expected = L1(0.5).prox(point, steps)
    for penalty in (GroupL1(0.5, dim=(0, 1)), GroupL1(0.5, index=torch.randperm(42, generator=generator))):
        torch.testing.assert_close(penalty.prox(point, steps), expected)
        assert torch.equal(penalty.prox(point, steps) == 0, expected == 0)
        overwritten = point.clone()
        penalty.prox_(overwritten, steps)
        torch.testing.assert_close(overwritten, expected)
    infinite = GroupL1(0.5, dim=0).prox(torch.tensor([torch.inf, -torch.inf, 1.0]), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(infinite, torch.tensor([torch.inf, -torch.inf, 0.85]))


def test_an_index_gives_what_dimensions_give():
    generator = torch.Generator().manual_seed(2)
    point = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    steps = 10 ** (-3 * torch.rand(6, 7, generator=generator, dtype=torch.float64))
    rows = torch.arange(6)[:, None].expand(6, 7).contiguous()
    lists = [list(range(7 * i, 7 * i + 7)) for i in range(6)]
    for step in (0.3, steps):
        expected = GroupL1(0.2).prox(point, step)
        for index in (rows, rows.reshape(-1), rows.to(torch.int16), lists):
            torch.testing.assert_close(GroupL1(0.2, index=index).prox(point, step), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "make", [lambda: along(torch.Size([4, 6, 2]), (0, 2)), lambda: indexed(torch.Size([48]), NUMBERS)]
)
def test_groups_add_up_spread_and_divide_consistently(make):
    """What the solver relies on, against a loop over groups."""
    groups = make()
    shape = (4, 6, 2) if groups.dimensions else (48,)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    number = groups.spread(torch.arange(groups.count)).expand(shape)
    members = [values[number == g] for g in range(groups.count)]
    torch.testing.assert_close(groups.total(values), torch.stack([m.sum() for m in members]))
    torch.testing.assert_close(groups.largest(values), torch.stack([m.max() for m in members]))
    torch.testing.assert_close(groups.norms(values), torch.stack([m.norm() for m in members]))
    torch.testing.assert_close(groups.sizes(values), torch.tensor([float(len(m)) for m in members]).double())
    chosen = torch.arange(groups.count) % 3 == 1
    take, part = groups.subset(chosen)
    torch.testing.assert_close(part.total(take(values)), groups.total(values)[chosen])
    again = torch.arange(part.count) % 2 == 0
    taken, rest = part.subset(again)
    torch.testing.assert_close(rest.norms(taken(take(values))), groups.norms(values)[chosen][again])


NUMBERS = torch.cat([torch.arange(10), torch.randint(0, 10, (38,), generator=torch.Generator().manual_seed(5))])
