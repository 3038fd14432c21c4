"""The figures of claim `ways-forward`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nonsmooth import extremes
from nonsmooth.claims.framework import Axis, Figure, Panel, Series
from nonsmooth.claims.lasso.sparse_methods import DESCENT, METHODS, ON_NETWORK, ON_SAMPLES, PLAIN
from nonsmooth.claims.lasso.ways_forward_evidence import Methods

CATEGORIES = ("a", "b", "c", "d", "e", "f", "g")
BY_MEANING = {PLAIN: "ours", "zero at crossing": "control"}


def _tones(names: Sequence[str]) -> Mapping[str, str]:
    """A tone for each method."""
    others = [name for name in names if name not in BY_MEANING]
    return {**BY_MEANING, **dict(zip(others, CATEGORIES, strict=False))}


def draw_methods(evidence: Methods, rounded: Panel) -> list[Figure]:
    """Zeros and residuals by method on the LASSO problem; zeros and accuracy on the network; flicker under sampling.

    Args:
        evidence: the records.
        rounded: stands beside the network's: what rounding gives.
    """
    names = [*METHODS, DESCENT]
    labels = evidence.labels("full batch")
    lasso = tuple(
        Panel(
            title,
            Axis("method"),
            Axis(axis, log=log),
            tuple(
                Series("points" if log else "bars", f"λ = {label}", names,
                       [_shown(evidence.medians("full batch", name, value)[i], log) for name in names], tone=tone)
                for i, (label, tone) in enumerate(zip(labels, CATEGORIES, strict=False))
            ),
        )
        for title, axis, value, log in (
            ("Exact zeros", "coordinates of 500 that are zero", "zeros", False),
            ("Optimality", "largest distance from the subdifferential / λ", "residual", True),
        )
    )  # fmt: skip
    network = Panel(
        "Perceptron on the digits",
        Axis("share of weights that are exactly zero"),
        Axis("test accuracy"),
        tuple(
            Series("points", name, evidence.medians("network", name, "zero_share").tolist(),
                   evidence.medians("network", name, "accuracy").tolist(), tone=tone)
            for name, tone in _tones(ON_NETWORK).items()
        ),
    )  # fmt: skip
    flicker = Panel(
        "LASSO, gradients from a few rows",
        Axis("method"),
        Axis("sign and zero changes per step"),
        tuple(
            Series("bars", f"λ = {label}", ON_SAMPLES,
                   [float(evidence.medians("rows", name, "flicker")[i]) for name in ON_SAMPLES], tone=tone)
            for i, (label, tone) in enumerate(zip(evidence.labels("rows"), CATEGORIES, strict=False))
        ),
    )  # fmt: skip
    return [
        Figure(
            "The remedies on the LASSO problem",
            "Medians over draws, NGDM first. Few zeros and a residual near 1 mean that the penalty was not minimised; "
            "residuals below 1e-16 are drawn there.",
            lasso,
        ),
        Figure(
            "The remedies on a network, and under sampled gradients",
            "Left: one point for each λ. Middle: what is left of a special method's lead when NGDM's weights up to a "
            "width are set to zero. Right: how restless the support is, to be compared between methods that average "
            "gradients (RDA, xRDA) and those that do not.",
            (network, rounded, flicker),
        ),
    ]


def _shown(value: float, log: bool) -> float:
    """The value, kept positive where the axis is logarithmic."""
    return extremes.largest(float(value), 1e-16) if log else float(value)
