"""Perceptrons with one hidden layer of ReLUs, many at once, as a problem that `iterate` runs on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nonsmooth.problems.problem import Evaluation, Problem


class Perceptrons(Problem):
    """Mean cross-entropy of a perceptron, plus λ‖weights‖₁; biases are not penalised.

    A point holds, in this order, the weights of the hidden layer (hidden × inputs), its biases, the weights of the
    output layer (classes × hidden) and its biases. Each evaluation draws `rows` images, the same for all networks.

    Args:
        inputs: shape (images, inputs).
        labels: int64, shape (images,).
        hidden: number of hidden units.
        classes: number of classes.
        l1: λ ≥ 0 of each variant, shape (variants,).
        rows: images per evaluation, drawn with replacement; None for all of them.
        generator: where the draws come from; needed if and only if `rows` is given.

    Raises:
        ValueError: `rows` without `generator` or the other way round, or a number below 1.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        hidden: int,
        classes: int,
        l1: Tensor,
        rows: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if (rows is None) != (generator is None):
            raise ValueError(f"rows is {rows} and generator is {generator}: both or neither")
        if min(hidden, classes, 1 if rows is None else rows) < 1:
            raise ValueError(f"hidden is {hidden}, classes is {classes}, rows is {rows}; accepted are numbers ≥ 1")
        self._inputs, self._labels = inputs, labels
        self._shape = inputs.shape[1], hidden, classes
        self._rows, self._generator = rows, generator
        self._l1 = l1
        self.strength = l1.to(inputs)[None, :, None] * self.penalised
        """λ of each coordinate, shape (1, variants, features): 0 for the biases."""

    @property
    def instances(self) -> int:
        """1: all networks see the same images."""
        return 1

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Number of hidden weights, hidden biases, output weights and output biases."""
        inputs, hidden, classes = self._shape
        return hidden * inputs, hidden, classes * hidden, classes

    @property
    def features(self) -> int:
        """Number of weights and biases."""
        return sum(self.sizes)

    @property
    def penalised(self) -> Tensor:
        """1 for a weight, 0 for a bias, shape (features,)."""
        kinds = [torch.full((size,), kind) for size, kind in zip(self.sizes, (1.0, 0.0, 1.0, 0.0), strict=True)]
        return torch.cat(kinds).to(self._inputs)

    @property
    def bytes_per_instance(self) -> int:
        """Size of the images."""
        return self._inputs.nbytes

    def select(self, instances: slice) -> Perceptrons:
        """The problem itself: it has one instance."""
        return self

    def whole(self) -> Perceptrons:
        """The same, evaluated on all images."""
        return Perceptrons(self._inputs, self._labels, self._shape[1], self._shape[2], self._l1)

    def start(self, instances: int, generator: torch.Generator) -> Tensor:
        """Initial points by PyTorch's default, U[-1/√n, 1/√n] for n inputs: shape (instances, variants, features).

        Variants of an instance start alike.
        """
        inputs, hidden, _ = self._shape
        bounds = torch.cat(
            [torch.full((size,), n**-0.5) for size, n in zip(self.sizes, (inputs, inputs, hidden, hidden), strict=True)]
        ).to(self._inputs)
        drawn = torch.rand(instances, 1, self.features, generator=generator, dtype=self._inputs.dtype)
        return ((2 * drawn - 1) * bounds).expand(-1, len(self._l1), -1).contiguous()

    def layers(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views of a point: (…, hidden, inputs), (…, 1, hidden), (…, classes, hidden) and (…, 1, classes)."""
        inputs, hidden, classes = self._shape
        first, first_bias, second, second_bias = torch.split(point, list(self.sizes), dim=-1)
        return (
            first.reshape(*point.shape[:-1], hidden, inputs),
            first_bias.unsqueeze(-2),
            second.reshape(*point.shape[:-1], classes, hidden),
            second_bias.unsqueeze(-2),
        )

    def logits(self, point: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden layer's output and the logits, shapes (…, images, hidden) and (…, images, classes)."""
        first, first_bias, second, second_bias = self.layers(point)
        hidden = (inputs @ first.mT + first_bias).relu()
        return hidden, hidden @ second.mT + second_bias

    def accuracy(self, point: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """Share of the images whose largest logit is the right one, shape (instances, variants)."""
        right = self.logits(point, inputs)[1].argmax(-1) == labels
        return right.to(torch.float64).mean(-1)

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient on freshly drawn images; ReLU'(0) = 0 and sign(0) = 0, as in PyTorch."""
        inputs, labels = self._inputs, self._labels
        if self._rows is not None:
            drawn = torch.randint(len(inputs), (self._rows,), generator=self._generator)
            inputs, labels = inputs[drawn], labels[drawn]
        hidden, logits = self.logits(point, inputs)
        second = self.layers(point)[2]
        log_probability = logits.log_softmax(-1)
        truth = functional.one_hot(labels, self._shape[2]).to(logits.dtype)
        value = -(log_probability * truth).sum(-1).mean(-1)
        error = (log_probability.exp() - truth) / len(labels)
        backward = (error @ second) * (hidden > 0)
        parts = (backward.mT @ inputs, backward.sum(-2), error.mT @ hidden, error.sum(-2))
        gradient = torch.cat([part.flatten(2) for part in parts], dim=-1)
        value = value + (self.strength * point.abs()).sum(-1)
        return Evaluation(value, gradient, gradient + self.strength * torch.sign(point))
