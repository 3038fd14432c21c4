"""The steps of `StreamedTraining` for an accelerator, whose memory holds a gradient as a whole.

Weights, penalty and update are float32, as in appendix B; products and convolutions of the cross-entropy are bfloat16
where asked. Images lie channels last. Nothing in a step waits for the host. VGG16 takes about 4 GB with plain SGD and
5 GB with Adam at a batch of 512, the images of CIFAR-10 included, so that several runs fit one device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

RULES = ("sgd", "proximal-sgd", "adam")
PRECISIONS = ("float32", "bfloat16")


class DeviceTraining:
    """Steps on cross-entropy + λ‖w‖₁ over all parameters of a network.

    Args:
        model: the network, on its device; it is put into the channels-last format.
        rule: "sgd", "adam" (torch.optim's, with the subgradient λ·sign(w)) or "proximal-sgd" (soft threshold by αλ).
        lr: α.
        strength: λ.
        precision: of the cross-entropy's products, "float32" or "bfloat16".

    Raises:
        ValueError: an unknown rule or precision.
    """

    def __init__(self, model: nn.Module, rule: str, lr: float, strength: float, precision: str) -> None:
        for name, value, accepted in (("rule", rule, RULES), ("precision", precision, PRECISIONS)):
            if value not in accepted:
                raise ValueError(f"{name} is {value!r}; accepted are {', '.join(accepted)}")
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parameters: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._device = self._parameters[0].device.type
        self._lr, self._strength, self._proximal, self._precision = lr, strength, rule == "proximal-sgd", precision
        optimizer: Any = torch.optim.Adam if rule == "adam" else torch.optim.SGD
        self._optimizer = optimizer(self._parameters, lr=lr, fused=self._device == "cuda" or None)

    def autocast(self) -> AbstractContextManager[Any]:
        """A block in which the network is evaluated in the precision of training."""
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device, torch.bfloat16)

    def step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """One step on a batch; returns its cross-entropy before the step, on the device."""
        with self.autocast():
            logits = self.model(inputs.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits.float(), labels)
        gradients = torch.autograd.grad(loss, self._parameters)
        with torch.no_grad():
            if self._strength and not self._proximal:
                torch._foreach_add_(gradients, torch._foreach_sign(self._parameters), alpha=self._strength)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            width = self._lr * self._strength
            for parameter in self._parameters if self._proximal else ():
                parameter.sub_(parameter.clamp(-width, width))
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides the model's own."""
        state: dict[str, Any] = self._optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._optimizer.load_state_dict(state)
