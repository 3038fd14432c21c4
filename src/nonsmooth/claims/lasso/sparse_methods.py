"""The methods that claim `ways-forward` compares, by name, each with its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nonsmooth.dynamics import subgradient_step
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.optimizer_rule import OptimizerRule
from nonsmooth.dynamics.sparse import (
    AcceleratedProximal,
    CumulativePenalty,
    SplitPositive,
    TruncatedGradient,
    ZeroAtCrossing,
)
from nonsmooth.optim import RDA, XRDA, ProxAdam, ProxSGD
from nonsmooth.optim.extended_dual_averaging import adaptive_weights
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
        step_scale: its step size in units of the others', on the LASSO problem in full.
        rows_scale: the same with gradients from a few rows.
        network_scale: the same on a network.
        settings: what a reader should know of its settings.
        version: of the code that runs it.
    """

    update: Callable[[Tensor], Method]
    penalty: Callable[[Tensor, Tensor], Penalty] = lambda strength, _point: L1(strength)
    step_scale: float = 1.0
    rows_scale: float = 1.0
    network_scale: float = 1.0
    settings: str = ""
    version: int = 1


def optimised(
    make: Callable[..., Any], penalty: Callable[[Tensor], Penalty] = L1, **options: Any
) -> Callable[[Tensor], Method]:
    """λ → the update rule of an optimiser of this package.

    Args:
        make: the optimiser's class.
        penalty: λ → penalty.
        options: the optimiser's own.
    """
    return lambda strength: OptimizerRule(
        lambda parameters, step_size: make(parameters, lr=step_size, penalty=penalty(strength), **options)
    )


def extended_dual_averaging(parameters: list[Tensor], lr: float, **options: Any) -> XRDA:
    """XRDA with a = 0.5 and a momentum of e^(-1/9.5), and with the largest weight sought in each run of an ensemble."""
    return XRDA(parameters, lr, averaging=0.5, time_scale=9.5 * lr, amplification_dim=-1, **options)


METHODS: Mapping[str, SparseMethod] = {
    PLAIN: SparseMethod(lambda strength: subgradient_step),
    "u/v split": SparseMethod(SplitPositive, settings="Bottou (2010), Table 1"),
    "l1-RDA": SparseMethod(
        optimised(RDA),
        step_scale=8.0,
        rows_scale=8.0,
        network_scale=15.0,
        settings="Xiao (2009); 1/γ is 8α, on the network 15α",
        version=2,
    ),
    "xRDA": SparseMethod(
        optimised(extended_dual_averaging), settings="Siegel et al. (2020); a = 0.5, M = 1, m = 9.5 steps", version=2
    ),
    "xRDA, adaptive": SparseMethod(
        optimised(extended_dual_averaging, amplification=AMPLIFICATION),
        lambda strength, point: L1(strength * adaptive_weights(point.abs(), AMPLIFICATION, -1)),
        settings=f"M = {AMPLIFICATION:g}: a weighted LASSO, in which small weights pay up to M·λ",
        version=2,
    ),
    "transformed L1": SparseMethod(
        optimised(ProxSGD, TransformedL1),
        lambda strength, _point: TransformedL1(strength),
        settings="Ma et al. (2019), a = 1, proximal gradient",
        version=2,
    ),
    "proximal gradient": SparseMethod(optimised(ProxSGD), settings="ISTA", version=2),
    "ProxSGD with momentum": SparseMethod(
        optimised(ProxSGD, momentum=0.9), rows_scale=0.1, settings="heavy ball, μ = 0.9; on rows with α/10"
    ),
    "ProxAdam": SparseMethod(
        optimised(ProxAdam),
        step_scale=0.3,
        network_scale=0.03,
        settings="step size 0.3α, on rows α, on the network 0.03α",
    ),
    "FISTA": SparseMethod(lambda strength: AcceleratedProximal(L1(strength)), settings="with restarts", version=2),
    "truncated gradient": SparseMethod(TruncatedGradient, settings="Langford et al. (2009), K = 10"),
    "cumulative penalty": SparseMethod(CumulativePenalty, settings="Tsuruoka et al. (2009)"),
    "zero at crossing": SparseMethod(ZeroAtCrossing, settings="a wrong threshold, as a control"),
}

NAMED = ("u/v split", "l1-RDA", "xRDA", "transformed L1", DESCENT)
"""The methods that §3 of the paper names."""
ITERATIVE = tuple(name for name in NAMED if name != DESCENT)
"""Those that take steps."""

OURS = ("proximal gradient", "ProxSGD with momentum", "ProxAdam")
"""Optimisers of this package that the paper does not name; λ is the same number under each."""

ON_SAMPLES = (PLAIN, "u/v split", "l1-RDA", "xRDA", "transformed L1", *OURS, "cumulative penalty")
ON_NETWORK = (PLAIN, "u/v split", "l1-RDA", "xRDA", "transformed L1", *OURS, "zero at crossing")
