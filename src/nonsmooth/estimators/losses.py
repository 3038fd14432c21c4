"""What is fitted: mean losses of a model's outputs, and what is known of them in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from nonsmooth.estimators.sample_weights import weighted_mean


class SampleLoss(ABC):
    """A mean over samples, weighted or not, of a convex function of the outputs.

    Weights are those of all samples over their mean. What they make of a random batch is so without bias: on average
    over batches it is the loss of all samples.

    Attributes:
        curvature: the largest eigenvalue that the Hessian of one sample's loss in its outputs can have.
        quadratic: whether the loss is a sum of squares.
    """

    curvature: ClassVar[float]
    quadratic: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean loss.

        Args:
            outputs: (N, outputs).
            targets: (N, outputs) for a squared error, (N,) for classes.
            weights: (N,); None for 1 throughout.
        """

    @abstractmethod
    def slope(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The gradient of the mean loss in the outputs, (N, outputs); arguments as for a call."""

    @abstractmethod
    def best_intercept(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The outputs of the best model that does not look at its input, (outputs,)."""


class SquaredError(SampleLoss):
    """‖outputs - targets‖²/(2N), summed over outputs: the convention of scikit-learn and glmnet."""

    curvature = 1.0
    quadratic = True

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Half the mean squared error."""
        squares = (outputs - targets).square()
        return (squares if weights is None else weights[:, None] * squares).sum() / (2 * len(targets))

    def slope(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """What is left, over N."""
        return _shared(outputs - targets, weights)

    def best_intercept(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean."""
        return weighted_mean(targets, weights)


class BinaryCrossEntropy(SampleLoss):
    """The mean of log(1 + exp(-±output)) for classes 1 and 0, with one output."""

    curvature = 0.25

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean cross-entropy of sigmoid(output)."""
        return functional.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets.to(outputs.dtype), weights)

    def slope(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The probability of class 1, less 1 where that is the class, over N."""
        return _shared(outputs.sigmoid() - targets[:, None], weights)

    def best_intercept(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The logarithm of the odds."""
        return torch.logit(weighted_mean(targets.to(torch.float64), weights)).reshape(1)


class CrossEntropy(SampleLoss):
    """The mean cross-entropy of softmax(outputs), with one output per class."""

    curvature = 0.5  # diag(p) - ppᵀ has no eigenvalue above 1/2

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean cross-entropy."""
        if weights is None:
            return functional.cross_entropy(outputs, targets)
        # Of weights in it, torch would divide by the sum over the batch.
        return weighted_mean(functional.cross_entropy(outputs, targets, reduction="none"), weights)

    def slope(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The probabilities, less 1 for the class that it is, over N."""
        slopes = outputs.softmax(1)
        slopes[torch.arange(len(targets)), targets] -= 1
        return _shared(slopes, weights)

    def best_intercept(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The logarithms of the classes' shares."""
        return (torch.bincount(targets, weights).to(torch.float64) / len(targets)).log()


def _shared(slopes: Tensor, weights: Tensor | None) -> Tensor:
    """What each sample's slope is in the mean."""
    return (slopes if weights is None else weights[:, None] * slopes) / len(slopes)
