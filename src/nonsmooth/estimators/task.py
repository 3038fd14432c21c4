"""A data set and a loss as the optimiser sees them, and the way from its weights to those for the data as they are."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from nonsmooth.estimators.choices import Choices
from nonsmooth.estimators.losses import SampleLoss
from nonsmooth.estimators.networks import build, initialize, linear_layers
from nonsmooth.estimators.sample_weights import weighted_mean
from nonsmooth.penalties import Penalty

SMALL = 1000
"""Up to this size the eigenvalues of a Gram matrix are computed densely."""


@dataclass(frozen=True)
class Task:
    """Data and loss, all in float64 on the CPU.

    The features of a linear model with an intercept are centred: since the intercept carries no penalty this is another
    way to write the same objective, and a far better conditioned one. The response of a regression is centred as well;
    the best intercept is then 0 whatever the weights are, and is no parameter of the optimiser.

    Attributes:
        inputs: (N, features).
        targets: (N, outputs) numbers, or (N,) classes.
        weights: of the samples, (N,), positive and of mean 1; None where all are 1.
        loss: of outputs and targets.
        outputs: their number.
        centre: what was subtracted from each feature, (features,).
        target_centre: what was subtracted from the response, (outputs,); None where the intercept is a parameter.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None
    loss: SampleLoss
    outputs: int
    center: Tensor
    target_center: Tensor | None

    @property
    def features(self) -> int:
        """The number of features."""
        return self.inputs.shape[1]

    def untrained(self, choices: Choices, generator: torch.Generator) -> nn.Sequential:
        """The model for this data before training."""
        bias = choices.fit_intercept and self.target_center is None
        network = build((self.features, *choices.hidden_layer_sizes, self.outputs), choices.activation, bias=bias)
        initialize(network, generator, self.loss.best_intercept(self.targets, self.weights))
        return network

    @cached_property
    def smoothness(self) -> tuple[float, float]:
        """Bounds L of the curvature of a linear model's loss, in its weights and in its intercept.

        For centred features the Hessian is below c·diag(XᵀSX/N, 1), c the curvature of the loss and S the weights of
        samples, so that weights and intercept may take steps of their own.
        """
        inputs = self.inputs if self.weights is None else self.weights.sqrt()[:, None] * self.inputs
        return self.loss.curvature * largest_eigenvalue(inputs.numpy()), self.loss.curvature

    def expected_smoothness(self, batch_size: int) -> tuple[float, float]:
        """`smoothness` on random batches, as in Gower et al. (2019), Proposition 3.8."""
        whole, count = self.smoothness[0], len(self.inputs)
        if batch_size >= count:
            return self.smoothness
        squares, heaviest = self.inputs.square().sum(1), 1.0
        if self.weights is not None:
            squares, heaviest = self.weights * squares, float(self.weights.max())
        single = self.loss.curvature * float(squares.max())
        first = count * (batch_size - 1) / (batch_size * (count - 1))
        rest = (count - batch_size) / (batch_size * (count - 1))  # 1 - first
        return first * whole + rest * single, self.loss.curvature * (1 + rest * (heaviest - 1))

    def largest_strength(self, penalty: Penalty, choices: Choices) -> float:
        """The smallest λ at which a linear model's weights are all 0."""
        network = self.untrained(choices, torch.Generator())
        self.loss(network(self.inputs), self.targets, self.weights).backward()  # type: ignore[no-untyped-call]
        (layer,) = linear_layers(network)
        assert layer.weight.grad is not None
        return float(penalty.lam_max(layer.weight.grad))

    def for_the_data(self, network: nn.Sequential, choices: Choices) -> nn.Sequential:
        """The trained model in terms of features and response that are not centred, in float64 on the CPU."""
        trained = copy.deepcopy(network).to("cpu", torch.float64).requires_grad_(False)
        for parameter in trained.parameters():
            parameter.add_(0.0)  # -0. prints as one, and is no other number
        if not (choices.linear and choices.fit_intercept):
            return trained
        (layer,) = linear_layers(trained)
        whole = build((self.features, self.outputs), choices.activation, bias=True).requires_grad_(False)
        (target,) = linear_layers(whole)
        target.weight.copy_(layer.weight)
        center = layer.bias if self.target_center is None else self.target_center
        target.bias.copy_(center - layer.weight @ self.center)
        return whole

    def for_the_optimizer(self, network: nn.Sequential, choices: Choices) -> nn.Sequential:
        """The inverse of `for_the_data`: where training goes on from."""
        start = copy.deepcopy(network).requires_grad_(True)
        if not (choices.linear and choices.fit_intercept):
            return start
        (layer,) = linear_layers(start)
        inner = build((self.features, self.outputs), choices.activation, bias=self.target_center is None)
        (target,) = linear_layers(inner)
        with torch.no_grad():
            target.weight.copy_(layer.weight)
            if target.bias is not None:
                target.bias.copy_(layer.bias + layer.weight @ self.center)
        return inner


def prepare(
    features: NDArray[np.float64], targets: NDArray[np.float64] | NDArray[np.int64], loss: SampleLoss, outputs: int,
    choices: Choices, weights: NDArray[np.float64] | None = None,
) -> Task:  # fmt: skip
    """Copy data, which may lie in memory that cannot be written, and centre them where that changes nothing.

    Args:
        features: X, (N, features).
        targets: (N, outputs) numbers, or (N,) classes.
        loss: of outputs and targets.
        outputs: their number.
        choices: the arguments of the estimator.
        weights: of the samples, (N,), positive and of mean 1; None where all are 1.

    Raises:
        ValueError: numbers are so large that their sums of squares are infinite in the precision of training.
    """
    check_squares("X", features, choices)
    if targets.dtype.kind == "f":
        check_squares("y", targets, choices)
    inputs, response = as_tensor(features), as_tensor(targets)
    shares = None if weights is None else as_tensor(weights)
    center, target_center = torch.zeros(inputs.shape[1], dtype=torch.float64), None
    if choices.linear and choices.fit_intercept:
        # The mean of a feature that is constant may be off by rounding, and what is left would count as one.
        center = torch.where(inputs.amax(0) == inputs.amin(0), inputs[0], weighted_mean(inputs, shares))
        inputs = inputs - center
        if loss.quadratic:
            target_center = weighted_mean(response, shares)
            response = response - target_center
    return Task(inputs, response, shares, loss, outputs, center, target_center)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """A copy of an array, whatever its strides and its order in memory."""
    return torch.from_numpy(np.array(array, order="C"))


def check_squares(name: str, values: NDArray[Any], choices: Choices) -> None:
    """Raise where the sum of an array's squares is beyond the range of the precision of training.

    Raises:
        ValueError: it is.
    """
    limit = float((torch.finfo(choices.dtype).max / max(values.size, 1)) ** 0.5)
    largest = float(np.abs(values).max(initial=0))
    if largest > limit:
        raise ValueError(
            f"{name} has an entry of size {largest:.3g}; accepted are entries of at most {limit:.3g}, whose squares "
            f"{str(choices.dtype).removeprefix('torch.')} can add up: scale the data"
        )


def largest_eigenvalue(data: NDArray[np.float64]) -> float:
    """λ_max(XᵀX)/N; for large matrices by Lanczos' method, from above by a thousandth."""
    count, features = data.shape
    if min(count, features) <= SMALL:
        gram = data.T @ data if features <= count else data @ data.T
        exact: float = np.linalg.eigvalsh(gram)[-1] / count
        return exact
    product = LinearOperator((features, features), matvec=lambda vector: data.T @ (data @ vector), dtype=data.dtype)
    found = eigsh(product, k=1, tol=1e-4, v0=np.ones(features), return_eigenvectors=False)
    largest: float = 1.001 * found[0] / count
    return largest


def is_usable(bound: float) -> bool:
    """Whether L and its inverse are numbers; of data that are tiny throughout nothing is left when squared."""
    return bound > 0 and math.isfinite(1 / float(bound))
