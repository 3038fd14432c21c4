"""How the arguments of a call decide its class, and the words for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from nonsmooth.kinks.table.smoothness import SMOOTH, Classification, Smoothness


class Call(Protocol):
    """A call of an operation, recorded or read from the graph."""

    recorded: bool
    """Whether the data flow was recorded, so that the sources of masks and indices are known by themselves."""

    def argument(self, name: str) -> Any:
        """The argument of that name in the operator's schema; None where it is not known."""

    def depends(self, position: int) -> bool:
        """Whether parameters or inputs reach the tensor argument at that position."""

    def positive(self) -> bool:
        """Whether the first argument visibly stays above 0: an exponential, or a square with an ε added to it."""


NODE_SUFFIX = re.compile(r"Backward(AutogradNestedTensor|AutogradCUDA)?\d*(List|Scalar|ScalarList|Tensor)?(_copy)?$")

CallRule = Classification | Callable[[Call], Classification]


def jump(reason: str) -> Classification:
    """A discontinuity."""
    return Classification(Smoothness.DISCONTINUOUS, reason)


def kink(reason: str) -> Classification:
    """Continuous, not differentiable."""
    return Classification(Smoothness.C0, reason)


def once(reason: str) -> Classification:
    """Differentiable with a Lipschitz gradient, and not twice differentiable."""
    return Classification(Smoothness.C1, reason)


def unknown(reason: str) -> Classification:
    """Not decided."""
    return Classification(Smoothness.UNKNOWN, reason)


def base(node: Any) -> str:
    """The name of an autograd node without its suffix: `Relu` for ReluBackward0; "" for one that users define."""
    if node is None or isinstance(node, BackwardCFunction):  # its name is that of a class, which may be any
        return ""
    return NODE_SUFFIX.sub("", node.name())


def _number(call: Call, name: str, default: float) -> float:
    """A number among the arguments."""
    value = call.argument(name)
    return float(value) if isinstance(value, Real) else default


def elu_rule(call: Call) -> Classification:
    """C¹ exactly where the slopes at 0 agree: α times the scale of the inputs is 1."""
    slope = _number(call, "alpha", 1.0) * _number(call, "input_scale", 1.0)
    if math.isclose(slope, 1.0, rel_tol=1e-6):
        return once("slopes agree at 0, second derivatives do not")
    return kink(f"at 0 the slope goes from {slope:.4g} to 1, times the scale")


def elu_slope_rule(call: Call) -> Classification:
    """The slope of an ELU."""
    smooth_slope = elu_rule(call).smoothness is Smoothness.C1
    return kink("the slope of a function that is C¹") if smooth_slope else jump("the slope of a function with a kink")


def leaky_relu_rule(call: Call) -> Classification:
    """The identity where the slope is 1."""
    slope = _number(call, "negative_slope", 0.01)
    return SMOOTH if slope == 1 else kink(f"at 0 the slope goes from {slope:g} to 1")


def softplus_rule(call: Call) -> Classification:
    """Softplus goes over to the identity at its threshold."""
    return softplus_class(_number(call, "beta", 1.0), _number(call, "threshold", 20.0))


def softplus_class(beta: float, threshold: float) -> Classification:
    """It jumps there by log(1 + exp(-threshold))/β: at the default of 20 less than single precision resolves."""
    step = max(-threshold, 0) + math.log1p(math.exp(-abs(threshold)))
    if step <= torch.finfo(torch.float32).eps * abs(threshold):
        return SMOOTH
    return jump(f"at {threshold / beta:g}, its threshold, by {step / beta:.2g}")


def logit_rule(call: Call) -> Classification:
    """With an ε its argument is clamped."""
    epsilon = _number(call, "eps", 0.0)
    return kink(f"at {epsilon:g} and {1 - epsilon:g}, where its argument is clamped") if epsilon > 0 else SMOOTH


def clamp_rule(call: Call) -> Classification:
    """The identity where no bound is finite."""
    bounds = [bound for bound in (call.argument("min"), call.argument("max")) if bound is not None]
    if bounds and all(isinstance(bound, Real) and math.isinf(bound) for bound in bounds):
        return SMOOTH
    return kink("at its bounds" if len(bounds) == 2 else "at its bound")


def copysign_rule(call: Call) -> Classification:
    """|x| with the sign of another number, which jumps only if that number is trained."""
    return jump("where the number that gives the sign is 0") if call.depends(1) else kink("at 0")


def lu_rule(call: Call) -> Classification:
    """Without pivoting, quotients of polynomials."""
    return SMOOTH if call.argument("pivot") is False else jump("where another row becomes the pivot")


def threshold_rule(call: Call) -> Classification:
    """Continuous only where the value below the threshold is the threshold."""
    edge, value = call.argument("threshold"), call.argument("value")
    if value is None:  # the graph does not save it; relu was a threshold in older versions, with both 0
        return unknown(f"a jump at {edge} unless the replacement value is the threshold")
    return kink(f"at {edge:g}") if edge == value else jump(f"at {edge:g} from {value:g} to {edge:g}")


def rounding_mode_rule(call: Call) -> Classification:
    """A plain division, or one that rounds."""
    mode = call.argument("rounding_mode")
    return SMOOTH if mode is None else jump(f"rounds ({mode})")


def smooth_l1_rule(call: Call) -> Classification:
    """β = 0 is the absolute value."""
    beta = _number(call, "beta", 1.0)
    return once("where |difference| = β") if beta > 0 else kink("β = 0 makes it the absolute value")


def multi_margin_rule(call: Call) -> Classification:
    """Hinges or squared hinges."""
    return once("squared hinges") if call.argument("p") == 2 else kink("hinges")


def norm_rule(call: Call) -> Classification:
    """A p-norm, by its order."""
    order = call.argument("ord")
    if order is None:
        order = call.argument("p")
    if order is None:
        order = 2.0
    if order == 0:
        return jump("counts the entries that are not 0")
    if order == 2:
        return kink("where the vector is 0")
    if math.isinf(order):
        return kink("where the largest (or smallest) entries tie")
    return kink("where an entry is 0" if order < 2 else "where the vector is 0")


def pairwise_rule(call: Call) -> Classification:
    """Distances between points, by the order of the norm."""
    order = _number(call, "p", 2.0)
    if order == 0:
        return jump("counts differing coordinates")
    if math.isinf(order):
        return kink("where the largest differences of two points tie")
    return kink("where two points share a coordinate" if order < 2 else "where two points coincide")


def root_rule(call: Call, power: float) -> Classification:
    """A power that is no whole number: a root at 0 unless its argument stays away from 0."""
    if call.positive():
        return SMOOTH
    if power > 2:
        return once("at 0")
    return kink("at 0, where its slope is infinite" if power < 1 else "at 0, where its gradient is not Lipschitz")


def power_rule(call: Call) -> Classification:
    """Whole powers are smooth, others have a root at 0; so do trained exponents, which can become any number."""
    exponent = call.argument("exponent")
    if isinstance(call.argument("self"), Real):
        return SMOOTH
    if not isinstance(exponent, Tensor):
        powers = [float(exponent)] if isinstance(exponent, Real) else []
    elif call.depends(1):
        return root_rule(call, 0.5) if call.depends(0) else SMOOTH
    elif exponent.is_meta or exponent.is_complex():
        powers = []
    else:
        powers = exponent.detach()[(exponent > 0) & (exponent != exponent.round())].flatten().tolist()
    roots = [power for power in powers if power > 0 and not power.is_integer()]
    return root_rule(call, min(roots)) if roots else SMOOTH


def grid_sample_rule(call: Call) -> Classification:
    """Linear in the picture; the grid matters only if something that is trained makes it."""
    if not call.depends(1):  # a fixed grid: linear in the picture
        return SMOOTH
    mode = call.argument("interpolation_mode")
    return jump("in the grid: nearest pixel") if mode == 1 else kink("in the grid: between pixels, or at the border")


def embedding_bag_rule(call: Call) -> Classification:
    """Sums and means are linear."""
    return kink("where the largest entries tie") if call.argument("mode") == 2 else SMOOTH


def reduction_rule(call: Call) -> Classification:
    """Sums, means and products are smooth."""
    kind = call.argument("reduce")
    return kink("where the extreme entries tie") if kind in {"amax", "amin", "max", "min"} else SMOOTH


def recurrent_rule(call: Call) -> Classification:
    """CuDNN numbers its cells: 0 is ReLU, then tanh, LSTM and GRU."""
    return kink("ReLU cells, at 0") if call.argument("mode") == 0 else SMOOTH


def fused_activation_rule(call: Call) -> Classification:
    """ReLU or GELU."""
    return SMOOTH if call.argument("use_gelu") else kink("ReLU, at 0")


def chosen_rule(call: Call) -> Classification:
    """A choice by a condition. Where the data flow is recorded, a condition that depends on parameters is known."""
    return SMOOTH if call.recorded else unknown("a jump, a kink or nothing, according to where its condition is from")


def squared_clamp_rule(call: Call) -> Classification | None:
    """max(x, 0)² is C¹, as a squared hinge is; at another bound the kink stays."""
    least, most = call.argument("min"), call.argument("max")
    return once("a power of it, at 0") if isinstance(least, Real) and float(least) == 0 and most is None else None


def squared_norm_rule(call: Call) -> Classification | None:
    """The square of a Euclidean norm or distance is a polynomial."""
    orders = [order for order in (call.argument("ord"), call.argument("p")) if order is not None]
    return SMOOTH if not orders or orders[0] == 2 else None


def is_even(exponent: Any) -> bool:
    """Whether a power is the square, or another even one."""
    return isinstance(exponent, Real) and float(exponent) > 0 and float(exponent) % 2 == 0


def at_least_square(exponent: Any) -> bool:
    """Whether a power makes a function that is 0 at its kink differentiable there, with a Lipschitz gradient."""
    return isinstance(exponent, Real) and float(exponent) >= 2
