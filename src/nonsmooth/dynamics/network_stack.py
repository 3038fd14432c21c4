"""Networks of one architecture trained side by side: one seed each, the same rule, all their weights in one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from nonsmooth.data import Images

EVALUATION_BATCH = 500


class NetworkStack:
    """A network for each seed, and steps on cross-entropy + λ‖w‖₁ over all parameters, as appendix B has it.

    Each step draws `batch` images for each seed, with replacement. Start and draws depend on the seed alone, so that
    stacks which differ in the rule are paired by seed.

    Args:
        make: makes a network from a generator.
        seeds: of the networks.
        images: what they are trained on.
        batch: images per step, for each network.
        lr: α.
        strength: λ ≥ 0.
        proximal: whether the penalty is taken by its prox, the soft threshold at αλ, in place of its subgradient.
        device: where they are trained.
    """

    def __init__(
        self,
        make: Callable[[torch.Generator], nn.Module],
        seeds: Sequence[int],
        images: Images,
        *,
        batch: int,
        lr: float,
        strength: float,
        proximal: bool = False,
        device: str = "cpu",
    ) -> None:
        self._draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        models = [make(generator).to(device) for generator in self._draws]
        self._model, self._device = models[0], device
        self._inputs, self._labels = images.inputs.to(device), images.labels.to(device)
        self._batch, self.lr, self.strength, self._proximal = batch, lr, strength, proximal
        self._buffers = {
            name: torch.stack([dict(model.named_buffers())[name] for model in models])
            for name, _ in self._model.named_buffers()
        }
        names = [name for name, _ in self._model.named_parameters()]
        each = [torch.stack([dict(model.named_parameters())[name].detach() for model in models]) for name in names]
        self.weights = torch.cat([one.flatten(1) for one in each], dim=1)
        """All weights and biases, shape (seeds, weights)."""
        parts = torch.split(self.weights, [one[0].numel() for one in each], dim=1)
        self._views = {
            name: part.view(one.shape).requires_grad_() for name, part, one in zip(names, parts, each, strict=True)
        }

    def _logits(self, inputs: Tensor) -> Tensor:
        """(seeds, images, ...) to (seeds, images, classes)."""
        call = vmap(lambda weights, buffers, batch: functional_call(self._model, (weights, buffers), (batch,)))
        logits: Tensor = call(self._views, self._buffers, inputs)
        return logits

    def gradient(self) -> Tensor:
        """Of the cross-entropy on images drawn anew, shape (seeds, weights)."""
        drawn = torch.stack([torch.randint(len(self._labels), (self._batch,), generator=g) for g in self._draws])
        drawn = drawn.to(self._device)
        logits = self._logits(self._inputs[drawn]).flatten(0, 1)
        loss = functional.cross_entropy(logits, self._labels[drawn].flatten(), reduction="sum") / self._batch
        return torch.cat([part.flatten(1) for part in torch.autograd.grad(loss, list(self._views.values()))], dim=1)

    def step(self) -> Tensor:
        """One step; returns the gradient of the cross-entropy before it, as `gradient` does."""
        slope = self.gradient()
        with torch.no_grad():
            if self._proximal:
                width = self.lr * self.strength
                self.weights.sub_(slope, alpha=self.lr)
                self.weights.sub_(self.weights.clamp(-width, width))
            else:
                self.weights.sub_(slope.add(self.weights.sign(), alpha=self.strength), alpha=self.lr)
        return slope

    @torch.no_grad()
    def accuracy(self, images: Images, weights: Tensor | None = None) -> Tensor:
        """Share of the images that each network names right, shape (seeds,); `weights` stand in for its own."""
        own = self.weights.clone()
        if weights is not None:
            self.weights.copy_(weights)
        training = self._model.training
        self._model.eval()
        right = torch.zeros(len(own), dtype=torch.float64)
        for inputs, labels in zip(
            *(torch.split(whole.to(self._device), EVALUATION_BATCH) for whole in (images.inputs, images.labels)),
            strict=True,
        ):
            named = self._logits(inputs.expand(len(own), *inputs.shape)).argmax(-1)
            right += (named == labels).sum(1).double().cpu()
        self._model.train(training)
        self.weights.copy_(own)
        return right / len(images)
