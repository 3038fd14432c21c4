"""Where a path starts: the λ from which on the penalised weights are all zero, or what stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.extremes import largest
from nonsmooth.lab import Cell, Context
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.penalties import Penalty
from nonsmooth.select.chain import PathCode, with_strength
from nonsmooth.select.running import seeded
from nonsmooth.select.zeros import penalized, unfelt

STEPS_OF_THE_REST = 200
"""Steps of L-BFGS on what has no penalty, such as an intercept, with the weights at zero."""


@dataclass(frozen=True)
class Scale(PathCode):
    """Measures λ_max on a model that was trained without the penalty, which says which parameters have it."""

    def __call__(self, cell: Cell, context: Context) -> dict[str, Any]:
        """Train one model with λ = 0 and find λ_max."""
        loss = self.loss
        if loss is None:
            raise ValueError("loss is None; accepted is a function where no strengths are given")
        with seeded(cell.seed):
            model = self.make_model(cell.seed)
            optimizer = self.fit(model, with_strength(self.penalty, 0.0), cell.seed)
        strength, exact = largest_strength(model, optimizer, lambda: loss(model, cell.seed))
        return {"strength": strength, "exact": exact}


def largest_strength(model: nn.Module, optimizer: Any, loss: Callable[[], Tensor]) -> tuple[float, bool]:
    """λ_max, and whether it is one: the model's weights are changed.

    With one layer of weights, all of them are zero from λ_max on, and what has no penalty is fitted first. With hidden
    layers, zero is stationary at every λ: the gradient of a layer vanishes where the next one is zero. What is returned
    then is the largest λ at which some layer alone, the others being as they are, begins to leave zero.

    Args:
        model: trained.
        optimizer: whose groups say which parameters have a penalty.
        loss: on the training data.
    """
    weights = penalized(optimizer)
    dense = [parameter.detach().clone() for _, parameter, _ in weights]
    with torch.no_grad():
        for _, parameter, _ in weights:
            parameter.zero_()
    exact = not unfelt(optimizer, loss)
    if exact:
        _fit_the_rest(optimizer, {parameter for _, parameter, _ in weights}, loss)
        return largest(_pull(penalty, parameter, loss) for _, parameter, penalty in weights), True
    pulls = []
    for place, (_, parameter, penalty) in enumerate(weights):
        with torch.no_grad():
            for (_, other, _), value in zip(weights, dense, strict=True):
                other.copy_(value)
            weights[place][1].zero_()
        pulls.append(_pull(penalty, parameter, loss))
    return largest(pulls), False


def _pull(penalty: Penalty, parameter: Tensor, loss: Callable[[], Tensor]) -> float:
    """The λ up to which a parameter at zero is not stationary."""
    (gradient,) = torch.autograd.grad(loss(), parameter, allow_unused=True)
    return 0.0 if gradient is None else float(penalty.lam_max(gradient))


def _fit_the_rest(optimizer: Any, weights: set[Tensor], loss: Callable[[], Tensor]) -> None:
    """Minimise the loss over what has no penalty."""
    parameters = [p for group in unwrapped(optimizer).param_groups for p in group["params"] if p.requires_grad]
    rest = [parameter for parameter in parameters if parameter not in weights]
    if not rest:
        return
    solver = torch.optim.LBFGS(rest, max_iter=STEPS_OF_THE_REST, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        value = loss()
        for parameter, gradient in zip(rest, torch.autograd.grad(value, rest, allow_unused=True), strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        return value

    solver.step(closure)  # type: ignore[no-untyped-call, unused-ignore]
