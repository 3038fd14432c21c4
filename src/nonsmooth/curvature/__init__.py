"""Curvature of a training loss: Hessian products, sharpness and its thresholds, smoothness of steps, kink gaps."""

from nonsmooth.curvature.kink_gap import KinkGap, kink_gap
from nonsmooth.curvature.lanczos import Eigenpair, largest_eigenpair
from nonsmooth.curvature.products import HessianOperator, hessian_operator
from nonsmooth.curvature.sharpness import Sharpness, sharpness
from nonsmooth.curvature.smoothness import (
    OscillationSmoothness,
    Point,
    StepSmoothness,
    directional_smoothness,
    evaluate_point,
    gradient_quotient,
    oscillation_smoothness,
    step_smoothness,
)
from nonsmooth.curvature.stability import (
    OptimizerSharpness,
    StabilityThreshold,
    optimizer_sharpness,
    stability_threshold,
)

__all__ = [
    "Eigenpair",
    "HessianOperator",
    "KinkGap",
    "OptimizerSharpness",
    "OscillationSmoothness",
    "Point",
    "Sharpness",
    "StabilityThreshold",
    "StepSmoothness",
    "directional_smoothness",
    "evaluate_point",
    "gradient_quotient",
    "hessian_operator",
    "kink_gap",
    "largest_eigenpair",
    "optimizer_sharpness",
    "oscillation_smoothness",
    "sharpness",
    "stability_threshold",
    "step_smoothness",
]
