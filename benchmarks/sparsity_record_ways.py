"""The ways to a given share of zeros that `sparsity_record.py` compares: what each does in a step, and at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from cifar_sparsity_methods import others, penalised
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nonsmooth.optim import SparsityTarget, SteadyAdam, SteadySGD, penalize
from nonsmooth.penalties import L1

Settings = Mapping[str, Any]
BASE_RATE = {"adam": 1e-3, "sgd": 0.03}
"""The step size at rate 1, of each family of optimisers."""
MOMENTUM = 0.9
THRESHOLD_RATE = 0.1
"""The step size of STR's thresholds, which SGD with momentum trains as in the paper, whatever trains the weights."""
STARTING_STRENGTH = 1e-5
"""λ before the first step of a target, which moves it at once."""


def torch_optimizer(family: str, groups: Any, rate: float) -> torch.optim.Optimizer:
    """Torch's Adam, or SGD with momentum."""
    if family == "adam":
        return torch.optim.Adam(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)


def steady_optimizer(family: str, groups: Any, rate: float) -> torch.optim.Optimizer:
    """Its steady proximal version."""
    if family == "adam":
        return SteadyAdam(groups, lr=rate)
    return SteadySGD(groups, lr=rate, momentum=MOMENTUM)


def masks_of_largest(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """For each weight, 1 where an entry is among the largest of all layers together, so that `share` is 0, to one."""
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    kept = len(magnitudes) - round(share * len(magnitudes))
    flat = torch.zeros_like(magnitudes)
    flat[magnitudes.topk(kept, sorted=False).indices] = 1
    parts = flat.split([weight.numel() for weight in weights])
    return [
        torch.empty_like(w, requires_grad=False).copy_(m.view(w.shape)) for w, m in zip(weights, parts, strict=True)
    ]


class Dense:
    """Torch's optimizer, no zeros: the control, and the base of the other ways.

    Args:
        model: what is trained.
        settings: of the method; `rate` is that of the step size.
        level: the share of zeros to arrive at, for the ways that can be told.
        steps: of the whole training.
        family: of optimizers.
    """

    def __init__(self, model: nn.Module, settings: Settings, level: float, steps: int, family: str) -> None:
        self.model, self.settings, self.level, self.steps, self.family = model, settings, level, steps, family
        self.rate = BASE_RATE[family] * settings["rate"]
        self.done = 0
        self.optimizers = self.make()
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def make(self) -> list[Any]:
        """The optimizers, all with the step size at which the schedule starts."""
        return [torch_optimizer(self.family, self.model.parameters(), self.rate)]

    def step(self, factor: float) -> None:
        """One step on the gradients that are there, with that factor on the step sizes."""
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()
        self.done += 1

    def finish(self) -> None:
        """After the last step: leave plain weights in the model."""

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on, besides the model."""
        return {"done": self.done, "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.done = state["done"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


class GradualMagnitude(Dense):
    """Gradual magnitude pruning (Zhu & Gupta 2017), the smallest weights of all layers together.

    The share of zeros rises from `start` to `end` (shares of the training) as s·(1 - (1 - t)³), the masks being found
    anew each `every` of the training, and held after each step in between and to the end.
    """

    def make(self) -> list[Any]:
        self.weights = penalised(self.model)
        self.masks: list[Tensor] = []
        return super().make()

    def step(self, factor: float) -> None:
        super().step(factor)
        first, last = (round(self.settings[name] * self.steps) for name in ("start", "end"))
        every = max(1, round(self.settings["every"] * self.steps))
        if first <= self.done <= last and ((self.done - first) % every == 0 or self.done == last):
            progress = (self.done - first) / (last - first)
            self.masks = masks_of_largest(self.weights, self.level * (1 - (1 - progress) ** 3))
        if self.masks:
            torch._foreach_mul_([weight.data for weight in self.weights], self.masks)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"masks": self.masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.masks = [
            torch.empty_like(weight, requires_grad=False).copy_(mask)
            for weight, mask in zip(self.weights, state["masks"], strict=False)
        ]


class Steady(Dense):
    """A steady proximal optimizer and L1 with a λ that stays as it is."""

    def make(self) -> list[Any]:
        strength = self.settings.get("strength", STARTING_STRENGTH)
        return [steady_optimizer(self.family, penalize(self.model, L1(strength)), self.rate)]


class Target(Steady):
    """The same with a λ that a target moves, until it lets go and the support is frozen."""

    def make(self) -> list[Any]:
        optimizers = super().make()
        release = self.settings["release"]
        self.target = SparsityTarget(optimizers[0], sparsity=self.level, steps=self.steps, release=release)
        return optimizers

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"target": self.target.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.target.load_state_dict(state["target"])


class SoftThreshold(nn.Module):
    """w → sign(w)·max(|w| - sigmoid(s), 0), s being one trained number for the layer (Kusupati et al. 2020, eq. 2)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((), start))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return weight.sign() * (weight.abs() - self.threshold.sigmoid()).relu()


class Product(nn.Module):
    """w = u⊙v, starting from u = sign(w)·√|w| and v = √|w|."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return first * second

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of a weight."""
        root = weight.abs().sqrt()
        return weight.sign() * root, root


class Reparametrized(Dense):
    """The weights of layers are functions of other parameters, until the end."""

    def layers(self) -> list[nn.Module]:
        """Those whose weights the other methods penalise."""
        return [layer for layer in self.model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    def finish(self) -> None:
        for layer in self.layers():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


class LearnedThresholds(Reparametrized):
    """STR (Kusupati et al. 2020): one threshold a layer, which weight decay on s raises and the loss holds back."""

    def make(self) -> list[Any]:
        for layer in self.layers():
            threshold = SoftThreshold(self.settings["threshold"]).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", threshold)
        thresholds = [value for name, value in self.model.named_parameters() if name.endswith("threshold")]
        rest = [value for name, value in self.model.named_parameters() if not name.endswith("threshold")]
        raised = {"params": thresholds, "weight_decay": self.settings["strength"]}
        return [
            torch_optimizer(self.family, rest, self.rate),
            torch_optimizer("sgd", [raised], THRESHOLD_RATE),
        ]


class RedundantFactors(Reparametrized):
    """spred (Ziyin & Wang 2023): w = u⊙v with weight decay λ on both factors, which is λ|w| where they have settled."""

    def make(self) -> list[Any]:
        for layer in self.layers():
            parametrize.register_parametrization(layer, "weight", Product())
        factors, rest = [], []
        for name, value in self.model.named_parameters():
            (factors if ".parametrizations." in name else rest).append(value)
        groups = [{"params": factors, "weight_decay": self.settings["strength"]}, {"params": rest}]
        return [torch_optimizer(self.family, groups, self.rate)]


class Torchao(Dense):
    """Torchao's PruneOptimizer (prototype.pat) on single weights: its ProxLasso, or its own target.

    `healing` is the share of the training after which the zeros are frozen and nothing else is shrunk; 1 for never.
    """

    def pruned(self) -> dict[str, Any]:
        """The options of the group of weights."""
        return {"prox_type": "ProxLasso", "group_type": "ElemGrouper", "reg_lambda": self.settings["strength"]}

    def make(self) -> list[Any]:
        from torchao.prototype.pat.optim import PruneOptimizer  # noqa: PLC0415 - an extra

        groups = [{"params": penalised(self.model), **self.pruned()}, {"params": others(self.model)}]
        base = torch_optimizer(self.family, groups, self.rate)
        return [PruneOptimizer(base, healing_start_step=math.ceil(self.settings["healing"] * self.steps))]


class TorchaoTarget(Torchao):
    """Its GlobalMinSparsityConstraint: the smallest of all weights are zero in the forward pass, a cubic schedule."""

    def pruned(self) -> dict[str, Any]:
        return {
            "prox_type": "GlobalMinSparsityConstraint",
            "group_type": "KElementGrouper",
            "k": 1,
            "min_sparsity": self.level,
            "min_sparsity_schedule": True,
            "prox_freq": max(1, round(self.settings["every"] * self.steps)),
        }
