"""What is fitted: mean losses of a model's outputs, and what is known of them in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional


class SampleLoss(ABC):
    """A mean over samples of a convex function of the outputs.

    Attributes:
        curvature: the largest eigenvalue that the Hessian of one sample's loss in its outputs can have.
        quadratic: whether the loss is a sum of squares.
    """

    curvature: ClassVar[float]
    quadratic: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss.

        Args:
            outputs: (N, outputs).
            targets: (N, outputs) for a squared error, (N,) for classes.
        """

    @abstractmethod
    def best_intercept(self, targets: Tensor) -> Tensor:
        """The outputs of the best model that does not look at its input, (outputs,)."""


class SquaredError(SampleLoss):
    """‖outputs - targets‖²/(2N), summed over outputs: the convention of scikit-learn and glmnet."""

    curvature = 1.0
    quadratic = True

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the mean squared error."""
        return (outputs - targets).square().sum() / (2 * len(targets))

    def best_intercept(self, targets: Tensor) -> Tensor:
        """The mean."""
        return targets.mean(0)


class BinaryCrossEntropy(SampleLoss):
    """The mean of log(1 + exp(-±output)) for classes 1 and 0, with one output."""

    curvature = 0.25

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of sigmoid(output)."""
        return functional.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets.to(outputs.dtype))

    def best_intercept(self, targets: Tensor) -> Tensor:
        """The logarithm of the odds."""
        return torch.logit(targets.to(torch.float64).mean()).reshape(1)


class CrossEntropy(SampleLoss):
    """The mean cross-entropy of softmax(outputs), with one output per class."""

    curvature = 0.5  # diag(p) - ppᵀ has no eigenvalue above 1/2

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def best_intercept(self, targets: Tensor) -> Tensor:
        """The logarithms of the classes' shares."""
        return (torch.bincount(targets).to(torch.float64) / len(targets)).log()
