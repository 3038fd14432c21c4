"""A penalty is a name and numbers that survive every way of storing them, and bad numbers are refused by name."""

import copy
import io
import math
import pickle
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch

from nonsmooth.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    ElasticNet,
    GroupL1,
    Nuclear,
    SeparablePenalty,
    SparseGroupL1,
    TransformedL1,
    from_specification,
)
from nonsmooth.penalties.penalty import Strength, known_penalties


def same(first, second):
    """Whether two specifications hold the same names and numbers."""
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[key])
        else:
            assert value == second[key]
            assert type(value) is type(second[key])


def stored_by_torch(specification):
    buffer = io.BytesIO()
    torch.save({"param_groups": [{"penalty": specification}]}, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)["param_groups"][0]["penalty"]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_numbers_of_numpy_are_stored_as_those_of_python(kind):
    """As a search over np.logspace makes them; a checkpoint with any other type does not load with weights_only."""
    specification = ElasticNet(kind(1), l1_ratio=kind(1)).specification()
    assert stored_by_torch(specification) == ElasticNet(1.0, l1_ratio=1.0).specification()


@pytest.mark.parametrize("store", [dict, copy.deepcopy, stored_by_torch, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_specification_is_the_penalty_again(case, store):
    for penalty in (case.make(0.3), case.make(torch.tensor(0.3, dtype=torch.float64))):
        specification = penalty.specification()
        assert specification["name"] == type(penalty).__name__
        assert all(
            isinstance(value, int | float | str | tuple | torch.Tensor | None) for value in specification.values()
        )
        again = from_specification(store(specification))
        same(again.specification(), specification)
        point, steps = case.point(), case.steps()
        assert torch.equal(again.prox(point, steps), penalty.prox(point, steps))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_the_object_itself_can_be_copied_and_pickled(case, copied):
    penalty = case.make(0.3)
    penalty.prox(case.point(), case.steps())  # whatever it may have kept
    same(copied(penalty).specification(), penalty.specification())


def test_weights_survive(separable):
    penalty = separable.make(0.3, weights=torch.linspace(0, 1, 12, dtype=torch.float64), complex_rule="components")
    same(stored_by_torch(penalty.specification()), penalty.specification())


def test_dimensions_that_a_store_has_turned_into_a_list():
    specification = {**GroupL1(0.3, dim=(0, 1)).specification(), "dim": [0, 1]}
    assert from_specification(specification).dim == (0, 1)


def test_the_nine_penalties_are_known():
    names = {"L1", "ElasticNet", "GroupL1", "SparseGroupL1", "TransformedL1", "MCP", "SCAD", "L0", "Nuclear"}
    assert names <= set(known_penalties())


def test_a_penalty_that_is_defined_elsewhere_is_known():
    @dataclass(frozen=True, eq=False)
    class Absent(SeparablePenalty):
        convex: ClassVar[bool] = True
        strength: Strength

        def magnitude_terms(self, size, strength):
            return 0 * size

        magnitude_slope = magnitude_terms

        def magnitude_prox(self, size, strength, step):
            return size

    again = from_specification(Absent(0.5).specification())
    assert type(again) is Absent


WRONG = [math.nan, math.inf, -1.0, "1", None, 1j, True - 2, 10**400, Fraction(1, 2), Decimal("0.5")]


@pytest.mark.parametrize("strength", WRONG)
def test_a_strength_that_is_no_finite_number_of_at_least_zero_is_refused(case, strength):
    with pytest.raises(ValueError, match=r"strength is .*; accepted are finite numbers of at least 0"):
        case.make(strength)
    if isinstance(strength, float):
        with pytest.raises(ValueError, match="strength is tensor"):
            case.make(torch.tensor([strength]))


@pytest.mark.parametrize("step", WRONG)
def test_a_step_that_is_no_finite_number_of_at_least_zero_is_refused(case, step):
    point = case.point()
    before = point.clone()
    with pytest.raises(ValueError, match=r"step is .*; accepted are finite numbers of at least 0"):
        case.make(0.3).prox(point, step)
    if isinstance(step, float):
        steps = case.steps()
        steps.view(-1)[2] = step
        with pytest.raises(ValueError, match="step is tensor"):
            case.make(0.3).prox(point, steps)
    assert torch.equal(point, before)


def test_a_complex_step_for_a_real_point_is_refused(case):
    with pytest.raises(ValueError, match="step is tensor"):
        case.make(0.3).prox(case.point(), torch.complex(case.steps(), case.steps()))


@pytest.mark.parametrize(("penalty", "largest"), [(MCP(0.3, 2.5), 2.5), (SCAD(0.3, 3.5), 2.5), (MCP(0.3, 0.5), 0.5)])
def test_a_step_at_which_the_minimiser_is_not_unique_is_refused_with_the_largest(penalty, largest):
    assert penalty.largest_step == largest
    point = torch.linspace(-2, 2, 5)
    message = rf"step is {largest:g}; {type(penalty).__name__} is not convex, .* for steps below {largest:g}"
    for step in (largest, torch.full((5,), largest), torch.tensor([0.1, 0.1, 0.1, largest, 0.1])):
        with pytest.raises(ValueError, match=message):
            penalty.prox(point, step)
    penalty.prox(point, largest * 0.999)


def test_only_mcp_and_scad_have_a_largest_step(case):
    penalty = case.make(0.3)
    assert (penalty.largest_step == math.inf) == (not isinstance(penalty, MCP | SCAD))
    if penalty.largest_step == math.inf:
        penalty.prox(case.point(), 1e9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ElasticNet(1.0, 1.5), r"l1_ratio is 1.5; accepted is a number in \[0, 1\]"),
        (lambda: ElasticNet(1.0, math.nan), "l1_ratio is nan"),
        (lambda: SparseGroupL1(1.0, -0.1), "l1_ratio is -0.1"),
        (lambda: MCP(1.0, 0.0), "gamma is 0.0; accepted is a finite number above 0"),
        (lambda: SCAD(1.0, 2.0), "gamma is 2.0; accepted is a finite number above 2"),
        (lambda: TransformedL1(1.0, -1.0), "shape is -1.0; accepted is a finite number above 0"),
        (lambda: L1(1.0, weights=torch.tensor([1.0, -1.0])), "weights is tensor"),
        (lambda: L0(1.0, weights=torch.tensor([math.nan])), "weights is tensor"),
        (lambda: GroupL1(1.0, weights=torch.tensor([-1.0])), "weights is tensor"),
        (lambda: GroupL1(torch.ones(3)), r"strength has shape \(3,\); a penalty on groups accepts one number"),
        (lambda: Nuclear(torch.ones(3)), r"strength has shape \(3,\); Nuclear accepts one number"),
        (lambda: GroupL1(1.0, index=torch.tensor([0.0, 1.0])), "index has dtype torch.float32"),
        (lambda: GroupL1(1.0, index=torch.tensor([0, -1])), "index has the entry -1"),
        (lambda: GroupL1(1.0, index=torch.tensor([0, 2, 2])), "index leaves group 1 empty"),
        (lambda: GroupL1(1.0, index=[[0, 1], []]), "index has an empty group"),
        (lambda: GroupL1(1.0, index=[[0, 1], [1, 2]]), "index has coordinate 1 in two groups"),
        (lambda: GroupL1(1.0, index=[[0, 1], [3]]), "index has coordinate 2 in no group"),
        (lambda: GroupL1(1.0, index=[[-1, 0]]), "index has coordinate"),
        (lambda: GroupL1(1.0, index=[1, 1]), "index leaves group 0 empty"),
        (lambda: GroupL1(1.0, index=torch.tensor([0, 10**12])), "index has the entry 1000000000000 for 2 coordinates"),
        (lambda: GroupL1(1.0, index=[0, 10**30]), "index has the entry 10+ for 2 coordinates"),
        (lambda: GroupL1(1.0, dim=()), r"dim is \(\); accepted is at least one dimension"),
        (lambda: L1(1.0, weights=2.0), "weights is 2.0; accepted is a torch.Tensor"),
        (lambda: GroupL1(1.0, weights=[1.0, 2.0]), r"weights is \[1.0, 2.0\]; accepted is a torch.Tensor"),
        (lambda: MCP(1.0, weights=np.ones(3)), "weights is array.*; accepted is a torch.Tensor"),
        (lambda: GroupL1(1.0, weights=torch.ones(2)).value(torch.ones(3, 4)), "weights has 2 entries; accepted are 3"),
        (lambda: MCP(1.0, 10**400), "gamma is 10+; accepted is a finite number"),
        (lambda: GroupL1(1.0, index=np.array([0, -1])), "index has the entry -1"),
        (lambda: GroupL1(1.0, index=np.array([0.0, 1.0])), "index has dtype float64; accepted are integers"),
    ],
)
def test_other_bad_numbers_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LABELS = [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    "index",
    [
        LABELS,
        tuple(LABELS),
        np.array(LABELS),
        np.array(LABELS, dtype=np.uint8)[::-1][::-1],
        np.array(LABELS).reshape(2, 3),
        [np.int64(label) for label in LABELS],
        list(torch.tensor(LABELS)),
        (label for label in LABELS),
        range(0),
        [[0, 2, 5], [1, 4], [3]],
        (group for group in ([0, 2, 5], [1, 4], [3])),
        [np.array([0, 2, 5]), torch.tensor([1, 4]), {3}],
        np.array([[0, 2, 5], [1, 4], [3]], dtype=object),
    ],
    ids=lambda index: type(index).__name__,
)
def test_groups_are_given_by_labels_or_by_lists_of_coordinates(index):
    """One label per coefficient is what other packages for the group LASSO take."""
    empty = isinstance(index, range)
    penalty = GroupL1(0.3, index=index)
    assert penalty.index.reshape(-1).tolist() == ([] if empty else LABELS)
    point = torch.zeros(0) if empty else torch.tensor([1.0, -2.0, 3.0, 0.1, 0.5, 2.0]).reshape(penalty.index.shape)
    same(stored_by_torch(penalty.specification()), penalty.specification())
    if not empty:
        norms = [14.0**0.5, 4.25**0.5, 0.1]
        roots = [3**0.5, 2**0.5, 1.0]
        shares = [max(1 - 0.3 * root / norm, 0) for root, norm in zip(roots, norms, strict=True)]
        expected = [value * shares[label] for value, label in zip(point.reshape(-1).tolist(), LABELS, strict=True)]
        assert penalty.prox(point, 1.0).reshape(-1).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "index",
    ["01", 3, [0, [1]], [0.0, 1.0], [[0.0], [1.0]], ["a"], [None], np.array(["a", "b"]), {0: [0], 1: [1]}],
    ids=repr,
)
def test_what_is_neither_labels_nor_groups_is_named(index):
    with pytest.raises((TypeError, ValueError), match=r"index .*accepted are"):
        GroupL1(1.0, index=index)


@pytest.mark.parametrize("dim", [np.int64(1), np.int32(-1), [1], [np.int64(1)], (-1,), torch.tensor(1)], ids=repr)
def test_dimensions_may_be_whole_numbers_of_any_kind(dim):
    penalty = GroupL1(0.1, dim=dim)
    point = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(penalty.prox(point, 1.0), GroupL1(0.1, dim=1).prox(point, 1.0))
    assert stored_by_torch(penalty.specification())["dim"] in (1, -1, (1,), (-1,))


@pytest.mark.parametrize("dim", ["0", 1.0, None, (0.0,), {0: 1}, [[0]], torch.tensor([0.0])], ids=repr)
def test_what_is_no_dimension_is_named(dim):
    with pytest.raises(TypeError, match=r"dim is .*; accepted is a whole number, or a sequence of them"):
        SparseGroupL1(0.1, dim=dim)


@pytest.mark.parametrize(
    ("penalty", "shape", "message"),
    [
        (L1(1.0, weights=torch.ones(4)), (3,), r"weights has shape \(4,\); accepted is one that broadcasts"),
        (L1(torch.ones(2, 1)), (3,), r"strength has shape \(2, 1\)"),
        (GroupL1(1.0, dim=2), (3, 4), "dim is 2; a tensor of shape .3, 4. has the dimensions 0 to 1"),
        (GroupL1(1.0, index=[[0, 1], [2]]), (4,), "index has 3 numbers; accepted is one for each of the 4 coordinates"),
        (GroupL1(1.0, index=torch.zeros(4, 3, dtype=torch.int64)), (3, 4), r"index has shape \(4, 3\)"),
        (GroupL1(1.0, weights=torch.ones(2)), (3, 4), "weights has 2 entries; accepted are 3"),
        (Nuclear(1.0), (3,), r"shape is \(3,\); Nuclear accepts tensors of at least two dimensions"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(penalty, shape, message):
    with pytest.raises(ValueError, match=message):
        penalty.check_shape(torch.Size(shape))


def test_a_shape_that_fits_passes(case):
    case.make(0.3).check_shape(torch.Size(case.shape))


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ({"name": "L3", "strength": 1.0}, "name of the penalty is 'L3'; accepted are .*ElasticNet"),
        ({"strength": 1.0}, "name of the penalty is None"),
        ({"name": "L1"}, "L1 was given no strength"),
        (
            {"name": "L1", "strength": 1.0, "gamma": 3.0},
            "L1 was given gamma; accepted are complex_rule, strength, weights",
        ),
        ({"name": "L1", "strength": -1.0}, "strength is -1.0"),
        ({"name": "SeparablePenalty", "strength": 1.0}, "name of the penalty is 'SeparablePenalty'"),
    ],
)
def test_a_specification_that_no_penalty_has_is_refused(specification, message):
    with pytest.raises(ValueError, match=message):
        from_specification(specification)


def test_a_field_called_name_would_be_read_as_the_name_of_a_class():
    @dataclass(frozen=True, eq=False)
    class Labelled(L1):
        name: str = "MCP"

    with pytest.raises(ValueError, match="Labelled has a field 'name'"):
        Labelled(0.1).specification()


@pytest.mark.parametrize("penalty", [GroupL1(1.0), SparseGroupL1(1.0), Nuclear(1.0)], ids=lambda p: type(p).__name__)
def test_what_is_no_sum_over_coordinates_has_no_value_along_a_dimension(penalty):
    with pytest.raises(ValueError, match="dim is 0"):
        penalty.value(torch.ones(2, 2), dim=0)


def test_labels_of_columns_group_them_in_every_row():
    labels, weight = [0, 0, 1, 1, 1], torch.randn(3, 5, dtype=torch.float64)
    by_columns = GroupL1(0.4, dim=1, index=labels)
    by_coordinates = GroupL1(0.4, index=torch.tensor(labels).repeat(3, 1))
    assert torch.equal(by_columns.prox(weight, 0.5), by_coordinates.prox(weight, 0.5))
    assert float(by_columns.value(weight)) == pytest.approx(
        0.4 * (6**0.5 * float(weight[:, :2].norm()) + 9**0.5 * float(weight[:, 2:].norm()))
    )
    with pytest.raises(ValueError, match="dim=1 for the columns"):
        by_columns.prox(weight.T, 0.5)
