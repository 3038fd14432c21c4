"""Which operations are not differentiable everywhere, and how badly: the table that every scan reads.

Keys are names of ATen operators without overload (`relu` for `aten::relu_` too). A value is a classification, or a
function of the call where its arguments decide: ELU with α = 1 is C¹ and with any other α it has a kink. The same
functions read a recorded call and a node of the autograd graph, which saves the arguments that matter.

What is meant is the function that is computed, in exact arithmetic, of all tensor arguments: rounding errors are no
jumps, and what autograd takes for a derivative at a kink does not matter here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nonsmooth.kinks.table.rules import (
    Call,
    CallRule,
    base,
    chosen_rule,
    clamp_rule,
    copysign_rule,
    elu_rule,
    elu_slope_rule,
    embedding_bag_rule,
    fused_activation_rule,
    grid_sample_rule,
    jump,
    kink,
    leaky_relu_rule,
    logit_rule,
    lu_rule,
    multi_margin_rule,
    norm_rule,
    once,
    pairwise_rule,
    power_rule,
    recurrent_rule,
    reduction_rule,
    root_rule,
    rounding_mode_rule,
    smooth_l1_rule,
    softplus_rule,
    squared_clamp_rule,
    squared_norm_rule,
    threshold_rule,
    unknown,
)
from nonsmooth.kinks.table.smooth_operations import SMOOTH_OPERATIONS
from nonsmooth.kinks.table.smoothness import SMOOTH, Classification

TIES = kink("where the compared entries tie")
POOLING = kink("where the largest entries of a window tie")
COMPARISON = unknown("a comparison: piecewise constant, without gradient; a jump or a kink by what is done with it")
ROUNDING = jump("piecewise constant: its gradient is 0 or absent")
INDICES = jump("the position of an extreme entry: piecewise constant, without gradient")
QUANTIZED = jump("rounds to a grid, and clamps at its ends")

RULES: dict[str, CallRule] = {
    # Activations
    "relu": kink("at 0"),
    "relu6": kink("at 0 and 6"),
    "hardtanh": kink("at both bounds"),
    "hardsigmoid": kink("at -3 and 3"),
    "hardswish": kink("at -3 and 3, where the slope goes from 0 to -1/2 and from 3/2 to 1"),
    "leaky_relu": leaky_relu_rule,
    "_prelu_kernel": kink("at 0, unless the slope is 1"),
    "prelu": kink("at 0, unless the slope is 1"),
    "rrelu_with_noise": kink("at 0"),
    "rrelu_with_noise_functional": kink("at 0"),
    "elu": elu_rule,
    "celu": once("slopes agree at 0, second derivatives do not"),
    "selu": kink("at 0 the slope goes from 1.76 to 1.05"),
    "softshrink": kink("at -λ and λ"),
    "hardshrink": jump("at -λ and λ"),
    "threshold": threshold_rule,
    "softplus": softplus_rule,
    # Slopes, where a loss contains derivatives
    **dict.fromkeys(
        ("threshold_backward", "hardtanh_backward", "hardsigmoid_backward", "hardswish_backward", "leaky_relu_backward",
         "_prelu_kernel_backward", "rrelu_with_noise_backward", "softshrink_backward", "hardshrink_backward",
         "max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward", "adaptive_max_pool2d_backward",
         "adaptive_max_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
        jump("the slope of a function with a kink")),
    **dict.fromkeys(("smooth_l1_loss_backward", "huber_loss_backward"), kink("the slope of a function that is C¹")),
    "elu_backward": elu_slope_rule,
    "_add_relu": kink("at 0"),
    "cudnn_convolution_relu": kink("at 0"),
    "cudnn_convolution_add_relu": kink("at 0"),
    "miopen_convolution_relu": kink("at 0"),
    "miopen_convolution_add_relu": kink("at 0"),
    "_addmm_activation": fused_activation_rule,
    "_transformer_encoder_layer_fwd": fused_activation_rule,
    # Absolute values, norms and distances
    "abs": kink("at 0"),
    "angle": jump("across the negative axis and at 0"),
    "atan2": jump("across the negative axis and at 0"),
    "copysign": copysign_rule,
    "hypot": kink("where both are 0"),
    "linalg_vector_norm": norm_rule,
    "linalg__powsum": norm_rule,
    "norm": norm_rule,
    "native_norm": norm_rule,
    "norm_except_dim": kink("where a vector is 0"),
    "dist": pairwise_rule,
    "cdist": pairwise_rule,
    "_cdist_forward": pairwise_rule,
    "_pdist_forward": pairwise_rule,
    "pdist": pairwise_rule,
    "_euclidean_dist": kink("where two points coincide"),
    "renorm": kink("where a norm reaches its limit"),
    "embedding_renorm": kink("where a norm reaches its limit"),
    "std": kink("where the variance is 0"),
    "std_mean": kink("where the variance is 0"),
    "sqrt": lambda call: root_rule(call, 0.5),
    "pow": power_rule,
    "float_power": power_rule,
    # Special functions. A boundary of the domain at which the value is finite and the slope is not counts, as at √0.
    "asin": kink("at -1 and 1, where its slope is infinite"),
    "acos": kink("at -1 and 1, where its slope is infinite"),
    "acosh": kink("at 1, where its slope is infinite"),
    "special_entr": lambda call: SMOOTH if call.positive() else kink("at 0, where its slope is infinite"),
    "igamma": kink("at 0, where its slope is infinite for a < 1"),
    "igammac": kink("at 0, where its slope is infinite for a < 1"),
    "special_i0e": kink("at 0, where the slope goes from 1 to -1"),
    "special_i1e": once("at 0, where the second derivative jumps"),
    "logit": logit_rule,
    "frexp": jump("at powers of 2, where the mantissa falls from 1 to 1/2"),
    # Extremes and orders
    **dict.fromkeys(
        ("max", "min", "amax", "amin", "aminmax", "_aminmax", "maximum", "minimum", "fmax", "fmin", "cummax", "cummin",
         "_cummax_helper", "_cummin_helper", "kthvalue", "median", "nanmedian", "sort", "msort", "topk", "quantile",
         "nanquantile"), TIES),
    "clamp": clamp_rule,
    "clamp_min": clamp_rule,
    "clamp_max": clamp_rule,
    **dict.fromkeys(
        ("max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d",
         "max_pool3d_with_indices", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
         "fractional_max_pool2d", "fractional_max_pool3d", "mkldnn_max_pool2d", "mkldnn_max_pool3d",
         "quantized_max_pool1d", "quantized_max_pool2d", "quantized_max_pool3d"), POOLING),
    "mode": jump("the most frequent value"),
    **dict.fromkeys(("argmax", "argmin", "argsort"), INDICES),
    "_embedding_bag": embedding_bag_rule,
    "_embedding_bag_forward_only": embedding_bag_rule,
    "embedding_bag": embedding_bag_rule,
    "scatter_reduce": reduction_rule,
    "index_reduce": reduction_rule,
    "segment_reduce": reduction_rule,
    "_sparse_mm_reduce_impl": reduction_rule,
    # Losses
    "l1_loss": kink("where the difference is 0"),
    "smooth_l1_loss": smooth_l1_rule,
    "huber_loss": once("where |difference| = δ"),
    "multi_margin_loss": multi_margin_rule,
    "multilabel_margin_loss": kink("hinges"),
    "multilabel_margin_loss_forward": kink("hinges"),
    "hinge_embedding_loss": kink("a hinge"),
    # Piecewise constant
    **dict.fromkeys(
        ("round", "floor", "ceil", "trunc", "fix", "frac", "sign", "sgn", "signbit", "heaviside", "floor_divide",
         "fmod", "remainder", "nextafter"), ROUNDING),
    "div": rounding_mode_rule,
    **dict.fromkeys(
        ("bernoulli", "multinomial", "poisson", "binomial", "histc", "histogram", "bincount", "bucketize",
         "searchsorted", "_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
        jump("a count, a draw or an order: piecewise constant")),
    **dict.fromkeys(
        ("eq", "ne", "lt", "le", "gt", "ge", "any", "all", "equal", "isclose", "allclose", "logical_and", "logical_or",
         "logical_xor", "logical_not", "nonzero", "argwhere", "count_nonzero"), COMPARISON),
    **dict.fromkeys(("isnan", "isinf", "isfinite", "isposinf", "isneginf"), SMOOTH),  # constant on finite numbers
    **dict.fromkeys(
        ("quantize_per_tensor", "quantize_per_channel", "quantize_per_tensor_dynamic",
         "fake_quantize_per_tensor_affine_cachemask", "fake_quantize_per_channel_affine_cachemask",
         "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams", "_fake_quantize_learnable_per_tensor_affine",
         "_fake_quantize_learnable_per_channel_affine", "_fused_moving_avg_obs_fq_helper"), QUANTIZED),
    # Linear algebra: symmetric functions of eigenvalues are smooth, single ones are not where they cross.
    "_linalg_eigh": kink("where eigenvalues cross"),
    "linalg_eigh": kink("where eigenvalues cross"),
    "linalg_eig": kink("where eigenvalues cross"),
    "linalg_eigvals": kink("where eigenvalues cross"),
    "_linalg_svd": kink("where singular values cross or are 0"),
    "linalg_qr": jump("where a pivot is 0: a column of Q and a row of R change their sign"),
    "geqrf": jump("where a pivot is 0: a column of Q and a row of R change their sign"),
    "linalg_lu": lu_rule,
    "linalg_lu_factor": lu_rule,
    "linalg_lu_factor_ex": lu_rule,
    "linalg_pinv": jump("where the rank changes"),
    "linalg_lstsq": jump("where the rank changes"),
    # Choices by a condition, and what else depends on how it is called
    **dict.fromkeys(("where", "masked_fill", "masked_scatter", "masked_select", "_unsafe_masked_index"), chosen_rule),
    "grid_sampler_2d": grid_sample_rule,
    "_grid_sampler_2d_cpu_fallback": grid_sample_rule,
    "grid_sampler_3d": grid_sample_rule,
    "cudnn_grid_sampler": grid_sample_rule,
    "_cudnn_rnn": recurrent_rule,
    "miopen_rnn": recurrent_rule,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Outputs of an operation with a class of their own, which counts only if something uses them.

    Attributes:
        positions: which outputs.
        name: what they are called.
        classification: their class.
    """

    positions: tuple[int, ...]
    name: str
    classification: Classification


POSITIONS = Part((1,), "indices", jump("the positions that it returns: piecewise constant, without gradient"))
EIGENVECTORS = jump("where eigenvalues cross, or by an arbitrary sign")
SINGULAR_VECTORS = jump("where singular values cross or are 0, or by an arbitrary sign")

PARTS = {
    **dict.fromkeys(
        ("max", "min", "cummax", "cummin", "kthvalue", "median", "nanmedian", "sort", "topk", "mode",
         "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d",
         "fractional_max_pool2d", "fractional_max_pool3d"), POSITIONS),
    **dict.fromkeys(("_linalg_eigh", "linalg_eigh", "linalg_eig"), Part((1,), "vectors", EIGENVECTORS)),
    "_linalg_svd": Part((0, 2), "vectors", SINGULAR_VECTORS),
    "std_mean": Part((1,), "mean", SMOOTH),
}  # fmt: skip

PIECEWISE_CONSTANT = frozenset(
    ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide", "histc", "histogram",
     "bernoulli", "poisson", "binomial", "quantize_per_tensor", "quantize_per_channel",
     "fake_quantize_per_tensor_affine_cachemask", "fake_quantize_per_channel_affine_cachemask")
)  # fmt: skip
"""Of floating-point results: they are piecewise constant, as integers and truth values always are."""

SOFTSIGN = once("at 0, where the second derivative jumps")

COMPOSITES: dict[str, tuple[Classification, str]] = {
    # x/(1 + |x|) has the slope 1/(1 + |x|)², which is Lipschitz.
    "softsign": (SOFTSIGN, "abs"),
    # (Σ xᵖ)^(1/p), linear for p = 1; sign(x)·relu(|x|) in its code is just x.
    **dict.fromkeys(("lp_pool1d", "lp_pool2d", "lp_pool3d"), (kink("where a window is 0"), "pow")),
}
"""Functions of `torch.nn.functional` that are not what their parts suggest: they are taken as a whole. Beside the
classification stands the part that it is about; the others do not count."""


SQUARES: dict[str, Classification | Callable[[Call], Classification | None]] = {
    **dict.fromkeys(
        ("relu", "leaky_relu", "_prelu_kernel", "rrelu_with_noise", "elu", "softshrink"), once("a power of it, at 0")),
    **dict.fromkeys(("abs", "sqrt", "std", "hypot", "_euclidean_dist"), SMOOTH),
    "clamp": squared_clamp_rule,
    "clamp_min": squared_clamp_rule,
    **dict.fromkeys(("linalg_vector_norm", "norm", "dist", "cdist", "_cdist_forward", "_pdist_forward"),
                    squared_norm_rule),
}  # fmt: skip
"""What becomes of a kink where the value is 0 there, and nothing but its square, or another even power, is used: the
ridge penalty ‖w‖², the squared hinge, the squared ReLU. If the square is C¹, so is any power from 2 on."""


def classify_squared(name: str, call: Call) -> Classification | None:
    """The classification of the square of an operation's result; None if squaring does not help."""
    rule = SQUARES.get(name)
    return rule(call) if callable(rule) else rule


def rule_for(name: str) -> CallRule | None:
    """The entry for an operator; None if it is in no table."""
    name = name.removeprefix("_foreach_")
    if name in RULES:
        return RULES[name]
    return SMOOTH if name in SMOOTH_OPERATIONS else None


def classify(name: str, call: Call) -> Classification:
    """What the table says of a call of an ATen operator."""
    rule = rule_for(name)
    if rule is None:
        return unknown("not in the table of operations")
    return rule(call) if callable(rule) else rule


def _camel(name: str) -> str:
    """How PyTorch names the autograd node of an operator: `max_pool2d` becomes MaxPool2D."""
    return name.title().replace("_", "")


OPERATOR_OF_NODE = {_camel(name): name for name in [*SMOOTH_OPERATIONS, *RULES]}
"""The operator of each autograd node, by the node's name without "Backward0"."""


def operator_of(node: Any) -> str | None:
    """The operator whose derivative an autograd node computes; None if it is in no table."""
    return OPERATOR_OF_NODE.get(base(node).removeprefix("Foreach"))
