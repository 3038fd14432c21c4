"""The methods that claim `ways-forward` compares, by name, each with its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from nonsmooth.dynamics import subgradient_step
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.sparse import (
    AcceleratedProximal,
    CumulativePenalty,
    DualAveraging,
    ExtendedDualAveraging,
    Proximal,
    SplitPositive,
    TruncatedGradient,
    ZeroAtCrossing,
    adaptive_weights,
)
from nonsmooth.penalties import L1, Penalty, TransformedL1

AMPLIFICATION = 500.0
"""M of xRDA's published recipe."""

DESCENT = "coordinate descent"
PLAIN = "NGDM"


@dataclass(frozen=True)
class SparseMethod:
    """A method and the objective that it minimises.

    Attributes:
        update: λ (broadcasting against points) → update rule.
        penalty: (λ, the point it ended at) → the penalty under which that point should be stationary.
        step_scale: its step size in units of the others', on the LASSO problem.
        network_scale: the same on a network.
        settings: what a reader should know of its settings.
    """

    update: Callable[[Tensor], Method]
    penalty: Callable[[Tensor, Tensor], Penalty] = lambda strength, _point: L1(strength)
    step_scale: float = 1.0
    network_scale: float = 1.0
    settings: str = ""


METHODS: Mapping[str, SparseMethod] = {
    PLAIN: SparseMethod(lambda strength: subgradient_step),
    "u/v split": SparseMethod(SplitPositive, settings="Bottou (2010), Table 1"),
    "l1-RDA": SparseMethod(
        DualAveraging, step_scale=8.0, network_scale=15.0, settings="Xiao (2009); 1/γ is 8α, on the network 15α"
    ),
    "xRDA": SparseMethod(ExtendedDualAveraging, settings="Siegel et al. (2020); a = 0.5, M = 1, m = 9.5 steps"),
    "xRDA, adaptive": SparseMethod(
        lambda strength: ExtendedDualAveraging(strength, amplification=AMPLIFICATION),
        lambda strength, point: L1(strength * adaptive_weights(point.abs(), AMPLIFICATION)),
        settings=f"M = {AMPLIFICATION:g}: a weighted LASSO, in which small weights pay up to M·λ",
    ),
    "transformed L1": SparseMethod(
        lambda strength: Proximal(TransformedL1(strength)),
        lambda strength, _point: TransformedL1(strength),
        settings="Ma et al. (2019), a = 1, proximal gradient",
    ),
    "proximal gradient": SparseMethod(lambda strength: Proximal(L1(strength)), settings="ISTA"),
    "FISTA": SparseMethod(lambda strength: AcceleratedProximal(L1(strength)), settings="with restarts"),
    "truncated gradient": SparseMethod(TruncatedGradient, settings="Langford et al. (2009), K = 10"),
    "cumulative penalty": SparseMethod(CumulativePenalty, settings="Tsuruoka et al. (2009)"),
    "zero at crossing": SparseMethod(ZeroAtCrossing, settings="a wrong threshold, as a control"),
}

NAMED = ("u/v split", "l1-RDA", "xRDA", "transformed L1", DESCENT)
"""The methods that §3 of the paper names."""

ON_SAMPLES = (PLAIN, "u/v split", "l1-RDA", "xRDA", "transformed L1", "proximal gradient", "cumulative penalty")
ON_NETWORK = (PLAIN, "u/v split", "l1-RDA", "xRDA", "transformed L1", "proximal gradient", "zero at crossing")
