"""A solver for convex linear models on all of their data, which leaves little for the optimiser that follows to do.

Accelerated proximal gradient (Beck & Teboulle 2009) that starts anew whenever it goes uphill (O'Donoghue & Candès
2015), on working sets: the features in use and those that violate optimality most (as in celer, Massias et al. 2018). A
step there is a product with the Gram matrix of some tens of features, where the optimiser's is one with all data.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.estimators.choices import Choices
from nonsmooth.estimators.losses import SampleLoss
from nonsmooth.estimators.networks import linear_layers
from nonsmooth.estimators.task import SMALL, Task, is_usable, largest_eigenvalue
from nonsmooth.optim.tensor_certificate import Distances
from nonsmooth.penalties import GroupL1, Penalty, SparseGroupL1
from nonsmooth.penalties.penalty import Step

MARGIN = 0.5
"""What part of the tolerance is aimed at: the certificate adds up the gradient in another order."""

ROUGHLY = 0.1
"""What part of the largest residual a working set is solved to while features still come."""

FIRST_FEATURES = 10
"""How many features a working set takes up at least, where so many are wanted; else as many as are in use."""

FIRST_LOOK = 10
"""After so many steps, or a twentieth of those so far, the residual is looked at again."""

COLUMNS = (1, -1, (1,), (-1,))
"""Ways to say that the columns of a matrix are the groups."""


@torch.no_grad()
def head_start(network: nn.Sequential, task: Task, choices: Choices) -> int:
    """Bring a linear model near the minimum of loss + convex penalty, in place; never to where the objective is higher.

    Args:
        network: the model, in float64 on the CPU, where it starts.
        task: data and loss.
        choices: the arguments of the estimator. At most `max_iter` steps are taken, to a residual/λ of `tol`.

    Returns:
        The number of steps.
    """
    (layer,) = linear_layers(network)
    whole = _Part(task.inputs, task.targets, task.weights, task.loss, choices.penalty, layer.bias is not None)
    start = layer.weight.detach() if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], 1)
    point, target, steps, settled = start.clone(), MARGIN * choices.tol, 0, False
    features = torch.arange(task.features)
    if _can_be_confined(choices.penalty):
        features = features[(layer.weight != 0).any(0)]
    while (standing := whole.standing(point)).largest > target:
        used = (point[:, : task.features] != 0).any(0)
        following = _with_the_worst(features, used, standing.by_feature, target)
        grows = len(following) > len(features)
        if steps >= choices.max_iter or (settled and not grows):
            break  # what is left is rounding
        features = following
        places = features if layer.bias is None else torch.cat([features, torch.tensor([task.features])])
        # While features still come, those that are there need not be solved to the last digit.
        aim = extremes.largest(target, ROUGHLY * standing.largest) if grows else target
        found = whole.on(features).minimize(point[:, places], aim, standing.scale, choices.max_iter - steps)
        point[:, places] = found.point
        steps, settled = steps + found.steps, found.reached and aim == target
    # Before its end the method may be higher than where it began. Near a minimum rounding decides which is higher.
    if standing.largest <= target or whole.objective(point) <= whole.objective(start):
        layer.weight.copy_(point[:, : task.features])
        if layer.bias is not None:
            layer.bias.copy_(point[:, -1])
    return steps


class _Standing(NamedTuple):
    """How far a point is from optimality, as the certificate has it.

    Attributes:
        largest: the largest residual/λ.
        by_feature: the largest for each column of weights, or of all groups where they are no columns.
        scale: what the residual of an intercept is divided by.
    """

    largest: float
    by_feature: Tensor
    scale: float


class _Found(NamedTuple):
    """Where minimisation ended.

    Attributes:
        point: the last one.
        steps: their number.
        reached: whether the residual is at most what was aimed at.
    """

    point: Tensor
    steps: int
    reached: bool


@dataclass(frozen=True)
class _Part:
    """Loss + penalty as a function of the weights of some features, and of the intercepts as a last column.

    Attributes:
        inputs: of these features, (N, features).
        targets: as in a task.
        weights: of the samples, (N,), or None.
        loss: of outputs and targets.
        penalty: of weights of the shape (outputs, features), or None.
        intercept: whether there is the last column.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None
    loss: SampleLoss
    penalty: Penalty | None
    intercept: bool

    @property
    def features(self) -> int:
        """Their number."""
        return self.inputs.shape[1]

    def on(self, features: Tensor) -> _Part:
        """The same with the weights of all other features 0."""
        if len(features) == self.features:
            return self
        penalty = _confined(self.penalty, features, self.features)
        return dataclasses.replace(self, inputs=self.inputs[:, features], penalty=penalty)

    def outputs(self, point: Tensor) -> Tensor:
        """The model's, (N, outputs)."""
        outputs = self.inputs @ point[:, : self.features].T
        return outputs + point[:, -1] if self.intercept else outputs

    def objective(self, point: Tensor) -> float:
        """Loss + penalty."""
        value = self.loss(self.outputs(point), self.targets, self.weights)
        return float(value if self.penalty is None else value + self.penalty.value(point[:, : self.features]))

    def gradient(self, point: Tensor) -> Tensor:
        """That of the loss, (outputs, features and intercept)."""
        slopes = self.loss.slope(self.outputs(point), self.targets, self.weights)
        gradient = slopes.T @ self.inputs
        return torch.cat([gradient, slopes.sum(0)[:, None]], 1) if self.intercept else gradient

    def standing(self, point: Tensor, gradient: Tensor | None = None, scale: float | None = None) -> _Standing:
        """How far a point is from optimality; with the scale of the whole, where this is a part."""
        gradient = self.gradient(point) if gradient is None else gradient
        count = self.features
        distances = Distances.of(point[:, :count], gradient[:, :count], self.penalty)
        scale = (distances.scale or 1.0) if scale is None else scale
        relative = distances.relative(scale)
        largest = float(relative.max()) if relative.numel() else 0.0
        if self.intercept:
            largest = extremes.largest(largest, float(gradient[:, -1].abs().max()) / scale)
        return _Standing(largest, relative, scale)

    def steps(self, gram: Tensor | None) -> tuple[Tensor, Step]:
        """Step sizes 1/L, by column for the gradient and as the prox takes them.

        Where the penalty is a sum over coordinates each feature has a unit of its own, its root mean square, so that
        the scales of features do not matter.
        """
        inputs = self.inputs if self.weights is None else self.weights.sqrt()[:, None] * self.inputs
        own = self.penalty is None or self.penalty.separable
        squares = inputs.square().mean(0) if own else inputs.new_ones(self.features)
        inverse = torch.where(squares * torch.finfo(squares.dtype).max > 1, 1 / squares, 0.0)
        units = inverse.sqrt()
        if gram is not None:
            largest = float(torch.linalg.eigvalsh(units[:, None] * gram * units)[-1])
        else:
            largest = largest_eigenvalue((inputs * units).numpy()) if self.features else 1.0
        bound = self.loss.curvature * largest
        steps = inverse / bound if is_usable(bound) else torch.zeros_like(inverse)
        by_column = torch.cat([steps, steps.new_tensor([1 / self.loss.curvature])]) if self.intercept else steps
        return by_column, steps if own else 1 / bound if is_usable(bound) else 0.0

    def minimize(self, start: Tensor, target: float, scale: float, limit: int) -> _Found:
        """Accelerated proximal gradient with restarts.

        Args:
            start: where it starts, (outputs, features and intercept).
            target: the residual/λ at which it ends.
            scale: what the residual of an intercept is divided by.
            limit: the most steps.
        """
        gram, constant = None, None
        if self.loss.quadratic and not self.intercept and self.features <= min(len(self.inputs), SMALL):
            weighted = self.inputs if self.weights is None else self.weights[:, None] * self.inputs
            gram = self.inputs.T @ weighted / len(self.inputs)
            constant = -(self.targets.T @ weighted) / len(self.inputs)

        def gradient(at: Tensor) -> Tensor:
            return self.gradient(at) if gram is None or constant is None else torch.addmm(constant, at, gram)

        steps, prox_step = self.steps(gram)
        inverse = torch.where(steps > 0, 1 / steps, 0.0)
        point = ahead = start
        speed, next_look = 1.0, FIRST_LOOK
        for taken in range(1, limit + 1):
            following = torch.addcmul(ahead, gradient(ahead), steps, value=-1)
            if self.penalty is not None and self.features:
                self.penalty.prox_(following[:, : self.features], prox_step)
            change = following - point
            if float(torch.sum((ahead - following) * inverse * change)) > 0:  # uphill
                speed = 1.0
            faster = (1 + math.sqrt(1 + 4 * speed**2)) / 2
            ahead = torch.add(following, change, alpha=(speed - 1) / faster)
            point, speed = following, faster
            if taken in (next_look, limit):
                if self.standing(point, gradient(point), scale).largest <= target:
                    return _Found(point, taken, reached=True)
                next_look = taken + max(FIRST_LOOK, taken // 20)
        return _Found(point, limit, reached=False)


def _with_the_worst(features: Tensor, used: Tensor, residuals: Tensor, target: float) -> Tensor:
    """A working set and the features outside it with the largest residuals, as many as are in use.

    Args:
        features: the working set, sorted.
        used: which of all features have weights that are not 0, (features,).
        residuals: of all features, or of whatever parts the penalty has, where the working set has all.
        target: what a residual has to exceed.
    """
    if len(features) == len(used):
        return features
    outside = residuals.reshape(-1, len(used)).amax(0)
    outside[features] = 0
    wanted = min(max(FIRST_FEATURES, int(used.sum())), int((outside > target).sum()))
    return torch.cat([features, outside.topk(wanted).indices]).sort().values


def _can_be_confined(penalty: Penalty | None) -> bool:
    """Whether what a penalty says of some columns of a matrix, the others being 0, is a penalty of its kind."""
    if penalty is None:
        return False
    if isinstance(penalty, GroupL1 | SparseGroupL1):
        return penalty.index is None and penalty.dim in COLUMNS
    others = (value for name, value in penalty.fields().items() if name not in ("strength", "weights"))
    return penalty.separable and not any(isinstance(value, Tensor) for value in others)


def _confined(penalty: Penalty | None, features: Tensor, total: int) -> Penalty | None:
    """A penalty that can be confined, on some columns of a matrix."""
    if penalty is None:
        return None
    chosen = {}
    for name in ("strength", "weights"):
        value = penalty.fields().get(name)
        if isinstance(value, Tensor) and value.numel() > 1:
            value = value if penalty.separable else value.reshape(-1)  # one for each group
            chosen[name] = value[..., features] if value.shape[-1] == total else value
    return dataclasses.replace(penalty, **chosen)  # type: ignore[type-var]
