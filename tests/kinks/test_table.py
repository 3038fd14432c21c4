"""The table of operations against brute force: functions of one number are evaluated on grids around their kinks.

The oracle sees values only, no derivative and no name. A jump is a difference that does not shrink with the spacing;
a kink, a difference of neighbouring slopes that does not; C¹ that is not smooth, the same of second differences.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nonsmooth.kinks import Smoothness, scan
from nonsmooth.kinks.table.operations import OPERATOR_OF_NODE, PARTS, RULES, operator_of, rule_for
from nonsmooth.kinks.table.smooth_operations import SMOOTH_OPERATIONS

FUNCTIONS = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "elu": F.elu, "elu of α=2": lambda x: F.elu(x, 2.0),
    "celu": lambda x: F.celu(x, 0.5), "selu": F.selu, "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu, "mish": F.mish, "softplus": F.softplus,
    "softplus of threshold 1": lambda x: F.softplus(x, 2.0, 1.0),
    "softplus of threshold -1": lambda x: F.softplus(x, 1.0, -1.0), "logit": lambda x: x.sigmoid().logit(),
    "logit with ε": lambda x: x.logit(eps=0.25), "copysign": lambda x: torch.copysign(x, torch.ones_like(x)),
    "copysign to a constant": lambda x: torch.copysign(torch.ones_like(x), x),
    "hardtanh": F.hardtanh, "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish, "hardshrink": F.hardshrink, "softshrink": F.softshrink, "tanhshrink": F.tanhshrink,
    "softsign": F.softsign, "logsigmoid": F.logsigmoid, "threshold": lambda x: F.threshold(x, 0.5, -0.25),
    "abs": torch.abs, "sign": torch.sign, "round": torch.round, "floor": torch.floor, "frac": torch.frac,
    "fmod": lambda x: x.fmod(0.75), "tanh": torch.tanh, "sigmoid": torch.sigmoid, "erf": torch.erf, "sin": torch.sin,
    "sinc": torch.sinc, "exp": torch.exp, "square": torch.square, "cube": lambda x: x**3,
    "sqrt": lambda x: x.abs().sqrt(),
    "clamp": lambda x: x.clamp(-0.5, 1.25),
    "clamp at infinity": lambda x: x.clamp(min=-float("inf")), "maximum": lambda x: torch.maximum(x, x.square()),
    "smooth_l1": lambda x: F.smooth_l1_loss(x, torch.zeros_like(x), reduction="none"),
    "smooth_l1 of β=0": lambda x: F.smooth_l1_loss(x, torch.zeros_like(x), reduction="none", beta=0.0),
    "huber": lambda x: F.huber_loss(x, torch.zeros_like(x), reduction="none", delta=0.75),
    "l1": lambda x: F.l1_loss(x, torch.zeros_like(x), reduction="none"),
    "mse": lambda x: F.mse_loss(x, torch.zeros_like(x), reduction="none"),
    "hinge": lambda x: F.hinge_embedding_loss(x, torch.full_like(x, -1), reduction="none"),
    "soft margin": lambda x: F.soft_margin_loss(x, torch.ones_like(x), reduction="none"),
    "binary cross-entropy": lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="none"),
    "log of cosh": lambda x: x.cosh().log(), "logaddexp": lambda x: torch.logaddexp(x, -x), "i0": torch.special.i0,
    "norm of rows": lambda x: torch.stack((x, 0 * x), -1).norm(dim=-1),
    "norm of rows, max": lambda x: torch.stack((x, 1 + 0 * x), -1).norm(float("inf"), dim=-1),
    "rms": lambda x: (x.square() + 1).sqrt(), "root of zero added": lambda x: (x.square() + torch.zeros(7)).sqrt(),
    "root of a sum": lambda x: (x + 1).sqrt(), "root by a tensor": lambda x: x.square().pow(torch.tensor(0.5)),
    "power 1.5 by a tensor": lambda x: (x.square() + 0.5).pow(torch.full((7,), 1.5)),
    "whole power by a tensor": lambda x: x.pow(torch.tensor(2.0)), "power of a number": lambda x: torch.pow(2, x),
    "root of a square in the part that is not written": lambda x: written_in_part(x.square()).sqrt(),
    "root of a sum of squares and a number": lambda x: (0.5 * torch.stack((x, x)).square().mean(0) + 0.1).sqrt(),
    "nearest grid point": lambda x: torch.fake_quantize_per_tensor_affine(x.float(), 0.5, 0, -128, 127).double(),
}  # fmt: skip


def written_in_part(values):
    values = values.clone()
    values[0].add_(1)
    return values


POINTS = torch.arange(-4, 4.01, 0.25, dtype=torch.float64)
"""Where the kinks of these functions may be."""


def by_brute_force(function) -> Smoothness:
    """The class of a function of one number, from differences of its values over two spacings, 10⁻³ and 10⁻⁴.

    It may have several values, in further dimensions. Differences are taken of seven neighbours, and on either side of
    the middle one, since a boundary of the domain may lie there. Values beyond 100 are taken for a pole.
    """
    orders = []
    for spacing in (1e-3, 1e-4):
        points = POINTS[:, None] + torch.arange(-3, 4, dtype=torch.float64) * spacing
        values = function(points).reshape(*points.shape, -1).numpy()
        orders.append(
            [
                max(largest_difference(part, order) for part in (values, values[:, :4], values[:, 3:]))
                / spacing ** (order - 1)
                for order in (1, 2, 3)
            ]
        )
    for smoothness, before, after in zip(
        (Smoothness.DISCONTINUOUS, Smoothness.C0, Smoothness.C1), *orders, strict=True
    ):
        if after > 0.5 * before and after > 1e-3:  # ten times finer, and not much smaller
            return smoothness
    return Smoothness.SMOOTH


def largest_difference(values, order: int) -> float:
    with np.errstate(invalid="ignore"):
        differences = np.abs(np.diff(values, order, axis=1)).max(axis=(1, 2))
        defined = (np.abs(values) < 100).all(axis=(1, 2))
    return float(differences[defined].max(initial=0.0))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_class_is_the_one_that_brute_force_finds(name):
    result = scan(FUNCTIONS_AS_MODULES[name], torch.zeros(7, dtype=torch.float64))
    assert by_brute_force(FUNCTIONS[name]) is result.smoothness, result


class Function(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


FUNCTIONS_AS_MODULES = {name: Function(function) for name, function in FUNCTIONS.items()}


def numbers(points):
    """Each as a matrix of one row and one column."""
    return points[..., None, None].clone()


def matrices(points):
    """Matrices with one changing entry; none of them is singular near the points."""
    return torch.stack(
        (points, torch.ones_like(points), torch.ones_like(points), 3 * torch.ones_like(points)), -1
    ).view(*points.shape, 2, 2)


def of_one_tensor(name: str, make):
    """An operator as a function of one number; None if it takes more than a tensor, draws, or is inside of another."""
    operator = getattr(torch.ops.aten, name, None)
    if name.startswith("_") and name[1:] in {*RULES, *SMOOTH_OPERATIONS}:
        return None

    def function(points):
        outputs = operator(make(points))
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        if name.startswith("_") or name.endswith("_forward"):
            outputs = outputs[:1]  # the others are for its derivative
        if name.endswith("_ex"):  # the last says whether the matrix is in the domain
            outputs = [torch.where(outputs[-1][..., None, None] == 0, output, torch.nan) for output in outputs[:1]]
        outputs = [output.double() for output in outputs if output.is_floating_point()]
        if any(output.shape[:2] != points.shape for output in outputs):
            raise ValueError("it mixes the points")
        return torch.cat([output.flatten(2) if output.ndim > 2 else output[..., None] for output in outputs], -1)

    points = POINTS[:, None].expand(-1, 7)
    try:
        drawn = not torch.equal(function(points).nan_to_num(), function(points).nan_to_num())
    except Exception:  # operators refuse what does not fit them in every way there is
        return None
    return None if drawn else function


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [numbers, matrices])
def test_the_table_calls_no_operator_smoother_than_brute_force_finds_it(make):
    tested, wrong = 0, {}
    for name in sorted({*RULES, *SMOOTH_OPERATIONS}):
        function = of_one_tensor(name, make)
        if function is None:
            continue
        said = scan(Function(getattr(torch.ops.aten, name)), make(POINTS[1::2])).operations
        if any(operation.smoothness is Smoothness.UNKNOWN for operation in said):
            continue
        tested += 1
        truth = by_brute_force(function)
        said = min((operation.smoothness for operation in said), default=Smoothness.SMOOTH)
        if said > truth:
            wrong[name] = (said, truth)
    assert wrong == {}
    assert tested > 100


def test_brute_force_can_tell_all_classes_apart():
    assert {by_brute_force(function) for function in FUNCTIONS.values()} == set(Smoothness) - {Smoothness.UNKNOWN}


class Node:
    """An autograd node as far as its name goes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


UNCLASSED = re.compile(r"Test|BackwardBackward|^(Mkldnn|Slow|Flash|Efficient|Cudnn)")
"""Derivatives of derivatives, and nodes that public operators do not make."""


def test_every_derivative_that_pytorch_has_is_in_the_table():
    header = Path(torch.__file__).parent / "include" / "torch" / "csrc" / "autograd" / "generated" / "Functions.h"
    if not header.exists():
        pytest.skip("this PyTorch was installed without its headers, which list its derivatives")
    names = re.findall(r"struct TORCH_API (\w+) :", header.read_text())
    assert len(names) > 500
    assert [name for name in names if operator_of(Node(name)) is None and not UNCLASSED.search(name)] == []


def test_every_name_in_the_table_is_an_operator_of_pytorch():
    """A misspelt name would never be met, and its operator would be unknown."""
    schemas = {schema.name.removeprefix("aten::") for schema in torch._C._jit_get_all_schemas()}
    schemas |= {name.rstrip("_") for name in schemas}
    assert [name for name in {*RULES, *SMOOTH_OPERATIONS, *PARTS} if name not in schemas] == []
    assert {*RULES} & SMOOTH_OPERATIONS <= {"div", "where", "masked_fill", "masked_scatter", "masked_select",
                                           "_unsafe_masked_index", "bernoulli"}  # fmt: skip


def test_an_operation_that_is_not_in_the_table_has_no_rule():
    assert rule_for("transmogrify") is None
    assert operator_of(Node("TransmogrifyBackward0")) is None
    assert OPERATOR_OF_NODE["MaxPool2DWithIndices"] == "max_pool2d_with_indices"


def test_classes_are_ordered_and_unknown_has_no_place_among_them():
    assert Smoothness.DISCONTINUOUS < Smoothness.C0 < Smoothness.C1 < Smoothness.SMOOTH
    assert Smoothness.C0 <= Smoothness.C0 and Smoothness.C1 >= Smoothness.C0 and Smoothness.SMOOTH > Smoothness.C1
    with pytest.raises(TypeError):
        assert Smoothness.UNKNOWN < Smoothness.C0
    with pytest.raises(TypeError):
        assert Smoothness.C0 >= Smoothness.UNKNOWN
