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


def torch_optimizer(family: str, groups: Any, rate: float, fused: bool) -> torch.optim.Optimizer:
    """Torch's Adam, or SGD with momentum."""
    if family == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=fused)
    return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, fused=fused)


def steady_optimizer(family: str, groups: Any, rate: float, fused: bool) -> torch.optim.Optimizer:
    """Its steady proximal version."""
    if family == "adam":
        return SteadyAdam(groups, lr=rate, fused=fused)
    return SteadySGD(groups, lr=rate, momentum=MOMENTUM, fused=fused)


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

    A way that differs overrides what makes the optimizers, what follows a step, and what its state holds besides.

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
        self.fused = next(model.parameters()).is_cuda
        self.done = 0
        self.optimizers = self._make()
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def step(self, factor: float) -> None:
        """One step on the gradients that are there, with that factor on the step sizes."""
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()
        self.done += 1
        self._after_step()

    def finish(self) -> None:
        """After the last step: leave plain weights in the model."""

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on, besides the model."""
        return {
            "done": self.done,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "own": self._own_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.done = state["done"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._load_own(state["own"])

    def _make(self) -> list[Any]:
        """The optimizers, all with the step size at which the schedule starts."""
        return [torch_optimizer(self.family, self.model.parameters(), self.rate, self.fused)]

    def _after_step(self) -> None:
        """Nothing."""

    def _own_state(self) -> Any:
        """Nothing."""
        return None

    def _load_own(self, state: Any) -> None:
        """Nothing."""


class GradualMagnitude(Dense):
    """Gradual magnitude pruning (Zhu & Gupta 2017), the smallest weights of all layers together.

    The share of zeros rises from `start` to `end` (shares of the training) as s·(1 - (1 - t)³), the masks being found
    anew each `every` of the training, and held after each step in between and to the end.
    """

    def _make(self) -> list[Any]:
        self.weights = penalised(self.model)
        self.masks: list[Tensor] = []
        return super()._make()

    def _after_step(self) -> None:
        first, last = (round(self.settings[name] * self.steps) for name in ("start", "end"))
        every = max(1, round(self.settings["every"] * self.steps))
        if first <= self.done <= last and ((self.done - first) % every == 0 or self.done == last):
            progress = (self.done - first) / (last - first)
            self.masks = masks_of_largest(self.weights, self.level * (1 - (1 - progress) ** 3))
        if self.masks:
            torch._foreach_mul_([weight.data for weight in self.weights], self.masks)

    def _own_state(self) -> Any:
        return self.masks

    def _load_own(self, state: Any) -> None:
        self.masks = state


class Steady(Dense):
    """A steady proximal optimizer and L1 with a λ that stays as it is."""

    def _make(self) -> list[Any]:
        strength = self.settings.get("strength", 1.0)
        return [steady_optimizer(self.family, penalize(self.model, L1(strength)), self.rate, self.fused)]


class Target(Steady):
    """The same with a target that moves λ, from 0, until it lets go; its state is in the optimizer's."""

    def _make(self) -> list[Any]:
        optimizers = super()._make()
        release = self.settings["release"]
        self.target = SparsityTarget(optimizers[0], sparsity=self.level, steps=self.steps, release=release)
        return optimizers


class SoftThreshold(nn.Module):
    """w → sign(w)·max(|w| - sigmoid(s), 0), s being one trained number for the layer (Kusupati et al. 2020, eq. 2)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((), start))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return weight.sign() * (weight.abs() - self.threshold.sigmoid()).relu()


class Product(nn.Module):
    """w = u⊙v, from u = w/v and v = √|w|, or from a v that is the same for all weights.

    With |u| = |v| at the start they stay so, and a weight that reaches zero cannot change its sign.

    Args:
        start: of v; 0 for √|w|.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return first * second

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of a weight."""
        if self.start == 0:
            root = weight.abs().sqrt()
            return weight.sign() * root, root
        return weight / self.start, torch.full_like(weight, self.start)


class Reparametrized(Dense):
    """The weights of layers are functions of other parameters, until the end."""

    def _layers(self) -> list[nn.Module]:
        """Those whose weights the other methods penalise."""
        return [layer for layer in self.model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    def finish(self) -> None:
        """Leave the weights that the layers have used."""
        for layer in self._layers():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


class LearnedThresholds(Reparametrized):
    """STR (Kusupati et al. 2020): one threshold a layer, which weight decay on s raises and the loss holds back."""

    def _make(self) -> list[Any]:
        for layer in self._layers():
            threshold = SoftThreshold(self.settings["threshold"]).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", threshold)
        thresholds = [value for name, value in self.model.named_parameters() if name.endswith("threshold")]
        rest = [value for name, value in self.model.named_parameters() if not name.endswith("threshold")]
        raised = {"params": thresholds, "weight_decay": self.settings["strength"]}
        return [
            torch_optimizer(self.family, rest, self.rate, self.fused),
            torch_optimizer("sgd", [raised], THRESHOLD_RATE, self.fused),
        ]


class RedundantFactors(Reparametrized):
    """spred (Ziyin & Wang 2023): w = u⊙v with weight decay λ on both factors, which is λ|w| where they have settled."""

    def _make(self) -> list[Any]:
        for layer in self._layers():
            parametrize.register_parametrization(layer, "weight", Product(self.settings["start"]))
        factors: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, value in self.model.named_parameters():
            (factors if "parametrizations" in name.split(".") else rest).append(value)
        groups = [{"params": factors, "weight_decay": self.settings["strength"]}, {"params": rest}]
        return [torch_optimizer(self.family, groups, self.rate, self.fused)]


class Torchao(Dense):
    """Torchao's PruneOptimizer (prototype.pat) on single weights: its ProxLasso, or its own target.

    `healing` is the share of the training after which the zeros are frozen and nothing else is shrunk; 1 for never.
    """

    def _pruned(self) -> dict[str, Any]:
        """The options of the group of weights."""
        return {"prox_type": "ProxLasso", "group_type": "ElemGrouper", "reg_lambda": self.settings["strength"]}

    def _make(self) -> list[Any]:
        from torchao.prototype.pat.optim import PruneOptimizer  # noqa: PLC0415 - an extra

        groups = [{"params": penalised(self.model), **self._pruned()}, {"params": others(self.model)}]
        base = torch_optimizer(self.family, groups, self.rate, self.fused)
        return [PruneOptimizer(base, healing_start_step=math.ceil(self.settings["healing"] * self.steps))]


class TorchaoTarget(Torchao):
    """Its GlobalMinSparsityConstraint: the smallest of all weights are zero in the forward pass, a cubic schedule."""

    def _pruned(self) -> dict[str, Any]:
        return {
            "prox_type": "GlobalMinSparsityConstraint",
            "group_type": "KElementGrouper",
            "k": 1,
            "min_sparsity": self.level,
            "min_sparsity_schedule": True,
            "prox_freq": max(1, round(self.settings["every"] * self.steps)),
        }
