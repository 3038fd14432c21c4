"""The ways to a sparse network that `cifar_sparsity.py` compares: ours, other people's, and controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.optim import XRDA, ProxAdam, ProxSGD, SteadyAdam, penalize
from nonsmooth.penalties import L1, GroupL1

Made = tuple[Any, Callable[[], Tensor] | None]
"""An optimiser, and what is to be added to the loss."""


def penalised(model: nn.Module) -> list[nn.Parameter]:
    """The weights that carry the penalty under every method: neither biases nor normalisation."""
    return [parameter for parameter in model.parameters() if parameter.ndim > 1]


def others(model: nn.Module) -> list[nn.Parameter]:
    """The parameters without a penalty."""
    return [parameter for parameter in model.parameters() if parameter.ndim <= 1]


def prox_momentum(model: nn.Module, rate: float, strength: float) -> Made:
    """ProxSGD, momentum 0.9."""
    return ProxSGD(penalize(model, L1(strength)), lr=rate, momentum=0.9), None


def prox_adam(model: nn.Module, rate: float, strength: float) -> Made:
    """ProxAdam."""
    return ProxAdam(penalize(model, L1(strength)), lr=rate), None


def steady_adam(model: nn.Module, rate: float, strength: float) -> Made:
    """SteadyAdam: weights that leave zero only on their mean pull."""
    return SteadyAdam(penalize(model, L1(strength)), lr=rate), None


def prox_adam_filters(model: nn.Module, rate: float, strength: float) -> Made:
    """ProxAdam; groups are the filters of convolutions and the input features of the linear layer."""
    filters = [weight for weight in penalised(model) if weight.ndim == 4]
    matrices = [weight for weight in penalised(model) if weight.ndim == 2]
    groups = [
        {"params": filters, "penalty": GroupL1(strength, dim=0)},
        {"params": matrices, "penalty": GroupL1(strength, dim=1)},
        {"params": others(model), "penalty": None},
    ]
    return ProxAdam(groups, lr=rate), None


def xrda(model: nn.Module, rate: float, strength: float) -> Made:
    """XRDA without amplification, so that λ is that of the L1 norm; the training loop lets a go from 0 to 1."""
    return XRDA(penalize(model, L1(strength)), lr=rate, averaging=0.0, time_scale=9.5), None


def adam_loss(model: nn.Module, rate: float, strength: float) -> Made:
    """Adam, with the penalty in the loss."""
    weights = penalised(model)

    def penalty() -> Tensor:
        return strength * torch.stack([weight.abs().sum() for weight in weights]).sum()

    return torch.optim.Adam(model.parameters(), lr=rate), penalty


class SoftshrinkAfter(torch.optim.Adam):
    """Adam, then softshrink(w, α·λ) of the penalised weights: what people write by hand."""

    def __init__(self, model: nn.Module, rate: float, strength: float) -> None:
        super().__init__([{"params": penalised(model)}, {"params": others(model)}], lr=rate)
        self._strength = strength

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step."""
        super().step(closure)
        group = self.param_groups[0]
        for weight in group["params"]:
            weight.copy_(nn.functional.softshrink(weight, group["lr"] * self._strength))


def adam_softshrink(model: nn.Module, rate: float, strength: float) -> Made:
    """Adam, then softshrink by α·λ."""
    return SoftshrinkAfter(model, rate, strength), None


def torchao(model: nn.Module, rate: float, strength: float) -> Made:
    """Torchao's PruneOptimizer (prototype.pat) around Adam, its ProxLasso on single weights."""
    from torchao.prototype.pat.optim import PruneOptimizer  # noqa: PLC0415 - an extra

    group = {"params": penalised(model), "prox_type": "ProxLasso", "group_type": "ElemGrouper", "reg_lambda": strength}
    return PruneOptimizer(torch.optim.Adam([group, {"params": others(model)}], lr=rate)), None


def adam(model: nn.Module, rate: float, strength: float) -> Made:
    """Torch's Adam."""
    del strength
    return torch.optim.Adam(model.parameters(), lr=rate), None


def momentum(model: nn.Module, rate: float, strength: float) -> Made:
    """Torch's SGD, momentum 0.9."""
    del strength
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9), None


ADAM_RATES = (1e-3, 3e-3)


@dataclass(frozen=True)
class Method:
    """One way: what makes it, the step sizes and the penalties tried.

    Attributes:
        label: in tables.
        make: from a network, a step size and λ.
        tried: step sizes by network, or for all under "".
        strengths: λ by network, or for all under "": the middle one first, in the order in which they are run. A share
            of weights, if the method prunes.
        kind: "ours", "peer" or "control".
        prunes: whether it trains, prunes by magnitude and fine-tunes.
    """

    label: str
    make: Callable[[nn.Module, float, float], Made]
    strengths: Mapping[str, Sequence[float]]
    kind: str
    tried: Mapping[str, Sequence[float]] = field(default_factory=lambda: {"": ADAM_RATES})
    prunes: bool = False

    def ordered_strengths(self, network: str) -> Sequence[float]:
        """λ in the order of the runs."""
        return self.strengths.get(network, self.strengths.get("", ()))

    def middle(self, network: str) -> float:
        """λ of the runs that choose the step size."""
        return self.ordered_strengths(network)[0]

    def rates(self, network: str) -> Sequence[float]:
        """Step sizes to choose from."""
        return self.tried.get(network, self.tried.get("", ()))


MOMENTUM_RATES = {"": (0.03, 0.1)}
L1_STRENGTHS = {"vgg13": (1e-4, 3e-5, 3e-4), "resnet8": (3e-3, 1e-2, 1e-3)}
WEAKER_FIRST = {"vgg13": (1e-4, 3e-5, 3e-4), "resnet8": (3e-3, 1e-3, 1e-2)}
FILTER_STRENGTHS = {"vgg13": (1e-4, 3e-5, 3e-4), "resnet8": (3e-3, 2e-2, 1e-2)}
METHODS = {
    "prox-adam": Method("ProxAdam + L1", prox_adam, L1_STRENGTHS, "ours"),
    "steady-adam": Method("SteadyAdam + L1", steady_adam, L1_STRENGTHS, "ours"),
    "prox-sgd": Method("ProxSGD, momentum 0.9, + L1", prox_momentum, WEAKER_FIRST, "ours", MOMENTUM_RATES),
    "prox-filters": Method("ProxAdam + GroupL1 on filters", prox_adam_filters, FILTER_STRENGTHS, "ours"),
    "xrda": Method("XRDA + L1", xrda, WEAKER_FIRST, "ours", {"": (0.3, 1.0)}),
    "adam-loss": Method("Adam, L1 in the loss", adam_loss, L1_STRENGTHS, "peer"),
    "softshrink": Method(
        "Adam, then softshrink by αλ", adam_softshrink, {"": (1.0, 0.3, 3.0), "resnet8": (0.3, 0.5, 1.0)}, "peer"
    ),
    "torchao": Method("torchao PruneOptimizer, Adam", torchao, {"": (0.3, 0.1, 1.0)}, "peer"),
    "dense-adam": Method("dense, Adam", adam, {"": (0.0,)}, "control"),
    "dense-sgd": Method("dense, SGD, momentum 0.9", momentum, {"": (0.0,)}, "control", MOMENTUM_RATES),
    "pruning": Method(
        "dense Adam, magnitude pruning, fine-tuning", adam, {"": (0.8, 0.5, 0.9)}, "control", prunes=True
    ),
}
