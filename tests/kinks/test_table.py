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
from nonsmooth.kinks.operations import INDEX_OUTPUTS, OPERATOR_OF_NODE, RULES, operator_of, rule_for
from nonsmooth.kinks.smooth_operations import SMOOTH_OPERATIONS

FUNCTIONS = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "elu": F.elu, "elu of α=2": lambda x: F.elu(x, 2.0),
    "celu": lambda x: F.celu(x, 0.5), "selu": F.selu, "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu, "mish": F.mish, "softplus": F.softplus, "hardtanh": F.hardtanh, "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish, "hardshrink": F.hardshrink, "softshrink": F.softshrink, "tanhshrink": F.tanhshrink,
    "softsign": F.softsign, "logsigmoid": F.logsigmoid, "threshold": lambda x: F.threshold(x, 0.5, -0.25),
    "abs": torch.abs, "sign": torch.sign, "round": torch.round, "floor": torch.floor, "frac": torch.frac,
    "fmod": lambda x: x.fmod(0.75), "tanh": torch.tanh, "sigmoid": torch.sigmoid, "erf": torch.erf, "sin": torch.sin,
    "sinc": torch.sinc, "exp": torch.exp, "square": torch.square, "cube": lambda x: x**3,
    "sqrt": lambda x: x.abs().sqrt(),
    "clamp": lambda x: x.clamp(-0.5, 1.25), "maximum": lambda x: torch.maximum(x, x.square()),
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
    "rms": lambda x: (x.square() + 1).sqrt(),
    "nearest grid point": lambda x: torch.fake_quantize_per_tensor_affine(x.float(), 0.5, 0, -128, 127).double(),
}  # fmt: skip

POINTS = torch.arange(-4, 4.01, 0.25, dtype=torch.float64)
"""Where the kinks of these functions may be."""


def by_brute_force(function) -> Smoothness:
    """The class of a function of one number, from differences of its values over two spacings, 10⁻³ and 10⁻⁴."""
    orders = []
    for spacing in (1e-3, 1e-4):
        offsets = torch.arange(-3, 4, dtype=torch.float64) * spacing
        values = function(POINTS[:, None] + offsets).numpy()
        jumps = np.abs(np.diff(values, axis=1)).max()
        slopes = np.abs(np.diff(values, 2, axis=1)).max() / spacing
        curvatures = np.abs(np.diff(values, 3, axis=1)).max() / spacing**2
        orders.append((jumps, slopes, curvatures))
    coarse, fine = np.array(orders)
    for smoothness, before, after in zip(
        (Smoothness.DISCONTINUOUS, Smoothness.C0, Smoothness.C1), coarse, fine, strict=True
    ):
        if after > 0.5 * before and after > 1e-3:  # ten times finer, and not much smaller
            return smoothness
    return Smoothness.SMOOTH


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_class_is_the_one_that_brute_force_finds(name):
    result = scan(FUNCTIONS_AS_MODULES[name], torch.zeros(3, dtype=torch.float64))
    assert by_brute_force(FUNCTIONS[name]) is result.smoothness, result


class Function(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


FUNCTIONS_AS_MODULES = {name: Function(function) for name, function in FUNCTIONS.items()}


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
    assert [name for name in {*RULES, *SMOOTH_OPERATIONS, *INDEX_OUTPUTS} if name not in schemas] == []
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
