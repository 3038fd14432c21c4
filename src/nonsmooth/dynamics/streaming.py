"""One step on cross-entropy + λ‖w‖₁ for a network so large that a step is bound by reading its weights from memory.

Autograd on appendix B's loss holds the weights, their gradient, |w| and sign(w) at once and passes over memory a dozen
times. Here each weight is read for the forward pass, read for the backward pass, and updated while the block that holds
it lies in the cache: the gradient of a fully connected layer never exists as a whole. The arithmetic is that of the
paper's code, the subgradient of both terms at the same w followed by torch.optim's step; only the order of the sums
within a matrix product differs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ROWS = 16
"""Rows of a weight matrix per block: enough for an efficient product, few enough to stay in the cache."""

CHUNK = 1 << 16
"""Elements per block of element-wise work: 256 KiB in float32, within a second-level cache."""


class UpdateRule(ABC):
    """An optimiser's arithmetic on one block of weights, in place.

    Args:
        lr: α.
        strength: λ.

    Raises:
        ValueError: `lr` is not positive or `strength` is negative, or either is not finite.
    """

    moments = 0
    """Running averages that the rule keeps per weight."""

    subgradient_penalty = True
    """Whether λ·sign(w) is part of the gradient that `update` is given."""

    def __init__(self, lr: float, strength: float) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"lr is {lr}; accepted is a positive number")
        if not 0 <= strength < math.inf:
            raise ValueError(f"strength is {strength}; accepted is a number of at least 0")
        self.lr = lr
        self.strength = strength
        self.count = 0

    @abstractmethod
    def update(self, weight: Tensor, gradient: Tensor, state: tuple[Tensor, ...]) -> None:
        """Move `weight` by one step; `gradient` may be overwritten. All of one shape."""


class StreamedSgd(UpdateRule):
    """torch.optim.SGD without momentum on cross-entropy + λ‖w‖₁: w ← w - α(g + λ sign w)."""

    def update(self, weight: Tensor, gradient: Tensor, state: tuple[Tensor, ...]) -> None:
        """Take the step w - α·gradient."""
        del state
        weight.add_(gradient, alpha=-self.lr)


class StreamedProximalSgd(UpdateRule):
    """The proximal twin: w ← S(w - αg, αλ), which can set a weight to exactly 0."""

    subgradient_penalty = False

    def update(self, weight: Tensor, gradient: Tensor, state: tuple[Tensor, ...]) -> None:
        """Soft threshold of w - α·gradient by αλ, as x - clamp(x, -t, t), which is exact."""
        del state
        threshold = self.lr * self.strength
        weight.add_(gradient, alpha=-self.lr)
        torch.clamp(weight, -threshold, threshold, out=gradient)
        weight.sub_(gradient)


class StreamedAdam(UpdateRule):
    """torch.optim.Adam with its defaults β = (0.9, 0.999), ε = 1e-8 on cross-entropy + λ‖w‖₁."""

    moments = 2
    betas = (0.9, 0.999)
    epsilon = 1e-8

    def update(self, weight: Tensor, gradient: Tensor, state: tuple[Tensor, ...]) -> None:
        """Adam's step number `count`, with √v/√(1-β₂ᵗ) + ε multiplied through by √(1-β₂ᵗ) to save a pass."""
        mean, square = state
        first, second = self.betas
        correction = math.sqrt(1 - second**self.count)
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = torch.sqrt(square, out=gradient).add_(self.epsilon * correction)
        weight.addcdiv_(mean, scale, value=-self.lr * correction / (1 - first**self.count))


RULES: dict[str, type[UpdateRule]] = {
    "sgd": StreamedSgd,
    "proximal-sgd": StreamedProximalSgd,
    "adam": StreamedAdam,
}
"""The update rules by name."""


class StreamedTraining:
    """Steps of a penalised network whose gradient is never held as a whole.

    Every parameter that requires a gradient is penalised, biases included, as in appendix B.

    Args:
        model: the network; its fully connected weights must each be used by one `torch.nn.functional.linear`.
        rule: the optimiser's arithmetic; it belongs to this training from now on.

    Raises:
        ValueError: a parameter is not contiguous, so that it cannot be updated block by block.
    """

    def __init__(self, model: nn.Module, rule: UpdateRule) -> None:
        self.model = model
        self.rule = rule
        self._parameters: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, parameter in self._parameters.items():
            if not parameter.is_contiguous():
                raise ValueError(f"parameter {name!r} of shape {tuple(parameter.shape)} is not contiguous")
        self._moments = {p: tuple(torch.zeros_like(p) for _ in range(rule.moments)) for p in self._parameters.values()}
        self._waiting: set[Tensor] = set()

    def step(self, inputs: Tensor, labels: Tensor) -> float:
        """One step on a batch; returns its cross-entropy before the step.

        Args:
            inputs: what the model takes, (N, ...).
            labels: classes, (N,) int64.
        """
        self.rule.count += 1
        self._waiting = set(self._parameters.values())
        parameters: list[Any] = list(self._parameters.values())
        hooks = [parameter.register_post_accumulate_grad_hook(self._update_and_free) for parameter in parameters]
        try:
            with _StreamedLinearLayers(self):
                loss = functional.cross_entropy(self.model(inputs), labels)
            torch.autograd.backward(loss)
        finally:
            for hook in hooks:
                hook.remove()
        for parameter in tuple(self._waiting):  # those whose gradient of the cross-entropy is exactly 0
            self.update(parameter, None)
        return loss.item()

    def autocast(self) -> AbstractContextManager[Any]:
        """A block in which the network is evaluated in the precision of training, its own."""
        return nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides the model's own: the step count and the running averages."""
        names = {parameter: name for name, parameter in self._parameters.items()}
        return {"count": self.rule.count, "moments": {names[p]: m for p, m in self._moments.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rule.count = state["count"]
        for name, moments in state["moments"].items():
            for own, stored in zip(self._moments[self._parameters[name]], moments, strict=True):
                own.copy_(stored)

    def _update_and_free(self, parameter: Tensor) -> None:
        """Autograd's hook: its gradient of the cross-entropy is complete."""
        gradient = parameter.grad
        if gradient is not None:
            self.update(parameter, gradient)
            parameter.grad = None

    @torch.no_grad()
    def update(self, parameter: Tensor, gradient: Tensor | None) -> None:
        """Step a parameter whose gradient of the cross-entropy is at hand; None is a gradient of 0."""
        weight = parameter.view(-1)
        moments = [moment.view(-1) for moment in self._moments[parameter]]
        slope = None if gradient is None else gradient.reshape(-1)
        buffer = torch.empty_like(weight[: _block_size(weight, CHUNK)])
        strength = self.rule.strength if self.rule.subgradient_penalty else 0.0
        for block in _blocks(weight, CHUNK):
            part = weight[block]
            total = torch.sign(part, out=buffer[: part.numel()]).mul_(strength)
            if slope is not None:
                total.add_(slope[block])
            self.rule.update(part, total, tuple(moment[block] for moment in moments))
        self._waiting.discard(parameter)

    @torch.no_grad()
    def update_linear(self, weight: Tensor, inputs: Tensor, output_gradient: Tensor) -> Tensor | None:
        """Back-propagate through x Wᵀ and step W, block of rows by block of rows.

        Args:
            weight: W, (outputs, features).
            inputs: x, (N, features).
            output_gradient: gradient with respect to the product, (N, outputs).

        Returns:
            The gradient with respect to x at the old W, (N, features); None if it is 0 because the layer's outputs have
            no effect on the loss, which spares the layers before it their backward pass.
        """
        if not output_gradient.any():
            self.update(weight, None)
            return None
        input_gradient = torch.zeros_like(inputs)
        moments = self._moments[weight]
        buffer = torch.empty_like(weight[: _block_size(weight, ROWS)])
        strength = self.rule.strength if self.rule.subgradient_penalty else 0.0
        for block in _blocks(weight, ROWS):
            part, slope = weight[block], output_gradient[:, block]
            input_gradient.addmm_(slope, part)
            gradient = torch.sign(part, out=buffer[: len(part)])
            gradient.addmm_(slope.t(), inputs, beta=strength)
            self.rule.update(part, gradient, tuple(moment[block] for moment in moments))
        self._waiting.discard(weight)
        return input_gradient

    def streams(self, weight: object) -> bool:
        """Whether a matrix is one of this training's parameters; it then must not have been used in this step."""
        return isinstance(weight, nn.Parameter) and weight in self._moments


class _StreamedLinearLayers(TorchFunctionMode):
    """While active, fully connected layers of a training update their weights in their backward pass."""

    def __init__(self, training: StreamedTraining) -> None:
        super().__init__()
        self._training = training
        self._used: set[Tensor] = set()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is not functional.linear or not self._training.streams(args[1]):
            return func(*args, **(kwargs or {}))
        inputs, weight = args[:2]
        bias = args[2] if len(args) > 2 else (kwargs or {}).get("bias")
        if weight in self._used:
            raise ValueError(f"a weight of shape {tuple(weight.shape)} is used twice; streaming updates at first use")
        self._used.add(weight)
        function: Any = _StreamedProduct
        product = function.apply(inputs, weight, partial(self._training.update_linear, weight))
        return product if bias is None else product + bias


class _StreamedProduct(torch.autograd.Function):
    """x Wᵀ whose backward pass updates W and hands on the gradient with respect to x alone."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, update: Any) -> Tensor:
        ctx.inputs, ctx.update = inputs, update
        return inputs @ weight.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        return ctx.update(ctx.inputs, gradients[0]), None, None


def _block_size(tensor: Tensor, size: int) -> int:
    """Rows (or elements) per block: what fits a processor's cache; everything at once on an accelerator."""
    return size if tensor.device.type == "cpu" else len(tensor)


def _blocks(tensor: Tensor, size: int) -> Iterator[slice]:
    """Slices of the first dimension that cover a tensor."""
    step = _block_size(tensor, size)
    for first in range(0, len(tensor), step):
        yield slice(first, min(first + step, len(tensor)))
