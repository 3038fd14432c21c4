"""The runs of claim `ways-forward`: a method on the LASSO problem of eq. (11), in full or by rows, or on a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nonsmooth.claims.lasso.lasso_data import draw_lasso
from nonsmooth.claims.lasso.sparse_methods import DESCENT, METHODS, PLAIN, optimised
from nonsmooth.data import Images, load_images
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.support import Flicker
from nonsmooth.lab import Cell, Context
from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1
from nonsmooth.problems import Problem, Regression, lasso
from nonsmooth.problems.lasso_reference import LassoReference, largest_useful_strength, lasso_reference
from nonsmooth.problems.perceptron import Perceptrons
from nonsmooth.problems.sampled_rows import SampledRows

HIDDEN, BATCH = 64, 64


def run_on_lasso(cell: Cell, context: Context) -> dict[str, Any]:
    """What a method ends with, by strength (first index) and seed (second).

    The strengths are λ itself and then shares of each draw's λ_max. A residual is the largest distance of -∇f from
    λ∂R over the coordinates, divided by λ; R is the method's own penalty, or the L1 norm where the name says lasso.
    """
    parameters: Any = cell.parameters
    name, seeds, steps = parameters["method"], parameters["seeds"], parameters["steps"]
    drawn = draw_lasso(cell.seed, seeds)
    fixed = torch.tensor([parameters["strengths"]], dtype=torch.float64).expand(seeds, -1)
    useful = largest_useful_strength(drawn.data, drawn.response)
    shares = torch.tensor([parameters["shares"]], dtype=torch.float64) * useful.unsqueeze(-1)
    strengths = torch.cat([fixed, shares], dim=-1)
    problem = lasso(drawn.data, drawn.response, strengths)
    reference = lasso_reference(drawn.data, drawn.response, strengths)
    values = {"reference_gap": reference.gap.T.tolist(), "exact_zeros": (reference.point == 0).sum(-1).T.tolist()}
    if name == DESCENT:
        return values | _ending(problem, reference, name, reference.point) | {"flicker": _zeros_like(strengths)}
    method, strength = METHODS[name], strengths.unsqueeze(-1)
    seen: Problem = problem
    scale = method.step_scale
    if parameters["part"] == "rows":
        seen = SampledRows(problem, parameters["rows"], torch.Generator().manual_seed(cell.seed))
        scale = method.rows_scale
    step_size = Constant(parameters["step_size"] * scale)
    run = iterate(
        seen,
        drawn.starts(strengths.shape[-1]),
        step_size,
        steps,
        {"flicker": Flicker(since=steps - steps // 20)},
        method=lambda: method.update(strength),
        # One block: strengths differ between instances, and all of them see the same rows.
        block=seeds,
        progress=context.progress,
    )
    point = run.point
    if name == "FISTA":
        # The ensemble's point is the extrapolated one.
        point = iterate(problem, point, step_size, 1, method=lambda: optimised(ProxSGD)(strength), block=seeds).point
    values |= _ending(problem, reference, name, point) | {"flicker": run["flicker"].T.tolist()}
    if name == PLAIN:
        rounded = torch.where(point.abs() <= parameters["step_size"] * strength, 0.0, point)
        values |= {f"rounded_{k}": v for k, v in _ending(problem, reference, name, rounded).items()}
    return values


def _zeros_like(tensor: Tensor) -> list[list[float]]:
    return torch.zeros_like(tensor).T.tolist()


def _ending(problem: Regression, reference: LassoReference, name: str, point: Tensor) -> dict[str, Any]:
    """Zeros, objective gap, optimality residuals and support at the last point."""
    strength = problem.l1.unsqueeze(-1)
    evaluation = problem.evaluate(point)
    plain = L1(strength)
    own = plain if name == DESCENT else METHODS[name].penalty(strength, point)
    distances = {
        "residual": own.subdiff_distance(point, evaluation.gradient),
        "lasso_residual": plain.subdiff_distance(point, evaluation.gradient),
    }
    return {
        "zeros": (point == 0).sum(-1).T.tolist(),
        "gap": (evaluation.value - reference.value).T.tolist(),
        "wrong_in_support": ((point != 0) != (reference.point != 0)).sum(-1).T.tolist(),
        **{kind: (distance.amax(-1) / problem.l1).T.tolist() for kind, distance in distances.items()},
    }


def _flat(images: Images) -> Tensor:
    """One grey channel in [0, 1], shape (images, 64)."""
    return (images.inputs[:, 0].flatten(1) + 1) / 2


def run_on_network(cell: Cell, context: Context) -> dict[str, Any]:
    """A perceptron 64-64-10 on the 8×8 digits, weights penalised; by strength (first index) and seed (second)."""
    parameters: Any = cell.parameters
    name, seeds, steps = parameters["method"], parameters["seeds"], parameters["steps"]
    train, test = (load_images("digits", split, size=8) for split in ("train", "test"))
    generator = torch.Generator().manual_seed(cell.seed)
    strengths = torch.tensor(parameters["strengths"])
    problem = Perceptrons(_flat(train), train.labels, HIDDEN, train.classes, strengths, BATCH, generator)
    method = METHODS[name]
    run = iterate(
        problem,
        problem.start(seeds, generator),
        Constant(parameters["step_size"] * method.network_scale),
        steps,
        {"flicker": Flicker(since=steps - steps // 20)},
        method=lambda: method.update(problem.strength),
        block=seeds,
        progress=context.progress,
    )
    whole, penalised = problem.whole(), problem.penalised
    penalty = method.penalty(problem.strength, run.point)

    def ending(point: Tensor) -> dict[str, Any]:
        gradient = whole.evaluate(point).gradient
        # The biases carry no penalty: their share of the residual would be in other units.
        residual = (penalty.subdiff_distance(point, gradient) * penalised).amax(-1) / strengths
        return {
            "zero_share": (((point == 0) * penalised).sum(-1) / penalised.sum()).T.tolist(),
            "accuracy": whole.accuracy(point, _flat(test), test.labels).T.tolist(),
            "objective": whole.value(point).T.tolist(),
            "residual": residual.T.tolist(),
        }

    values = ending(run.point) | {"flicker": run["flicker"].T.tolist(), "weights": int(penalised.sum())}
    if name == PLAIN:
        small = run.point.abs() <= parameters["step_size"] * problem.strength
        values |= {f"rounded_{k}": v for k, v in ending(torch.where(small, 0.0, run.point)).items()}
    return values
