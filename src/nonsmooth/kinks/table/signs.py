"""Which results are visibly not negative, or above 0: a root is smooth where its argument stays above 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kinks.table.rules import is_even


class Sign(IntEnum):
    """What is known of the signs of all entries: a sum has the larger of two, a product the smaller."""

    UNKNOWN = 0
    NOT_NEGATIVE = 1
    POSITIVE = 2


POSITIVE_RESULTS = {"exp", "exp2", "softplus", "sigmoid", "softmax", "_softmax", "cosh"}

RESULTS_NOT_NEGATIVE = {"square", "abs", "relu", "linalg_vector_norm", "norm", "var", "std", "hardsigmoid", "relu6"}

KEEPING_SIGN = {
    "mean", "sum", "clone", "_to_copy", "copy", "mul", "div", "sqrt", "reciprocal", "rsqrt", "cat", "stack", "index",
    "index_select", "gather", "amax", "amin", "maximum", "minimum", "cumsum", "mm", "bmm", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "_adaptive_avg_pool2d",
}  # fmt: skip
"""Operations, beside views, whose results have the sign that all of their arguments have."""

COMPARABLE = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool}
"""Types of constants whose smallest entry PyTorch can find."""


def sign_of_result(
    name: str, argument: Callable[[str], Any], operands: Callable[[], Sequence[Sign]], *, twice: bool = False
) -> Sign:
    """The sign of the result of an operation.

    Args:
        name: the operator.
        argument: its arguments by name.
        operands: the signs of its tensors, and of a number that is added or multiplied.
        twice: both operands are the same tensor.
    """
    if name in POSITIVE_RESULTS:
        return Sign.POSITIVE
    if name in RESULTS_NOT_NEGATIVE or (name == "pow" and is_even(argument("exponent"))) or (name == "mul" and twice):
        return Sign.NOT_NEGATIVE
    if name in {"clamp", "clamp_min"}:
        return sign_of_number(argument("min"))
    if name == "constant_pad_nd":
        return min([*operands(), sign_of_number(argument("value") or 0)])
    if name == "add":
        signs = operands()
        return max(signs) if signs and min(signs) else Sign.UNKNOWN
    return min(operands(), default=Sign.UNKNOWN) if name in KEEPING_SIGN else Sign.UNKNOWN


def sign_of_number(value: Any) -> Sign:
    """The sign of a number."""
    if not isinstance(value, Real) or float(value) < 0:
        return Sign.UNKNOWN
    return Sign.POSITIVE if float(value) > 0 else Sign.NOT_NEGATIVE


def sign_of_constant(tensor: Tensor) -> Sign:
    """The sign of all entries of a tensor that is no function of parameters or inputs, by its values."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
    if not plain or tensor.is_meta or tensor.dtype not in COMPARABLE:
        return Sign.UNKNOWN
    return sign_of_number(tensor.min().item()) if tensor.numel() else Sign.UNKNOWN
