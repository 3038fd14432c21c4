"""The runs of claim `ways-forward`: a method on the LASSO problem of eq. (11), in full or by rows, or on a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nonsmooth.claims.framework import Run
from nonsmooth.claims.lasso.lasso_data import LassoData, draw_lasso
from nonsmooth.claims.lasso.sparse_methods import DESCENT, METHODS, PLAIN, optimised
from nonsmooth.data import Images, load_images
from nonsmooth.dynamics import Constant, iterate, proximal_step, subgradient_step
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.recording import Points, State, Trace
from nonsmooth.dynamics.support import Flicker
from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1
from nonsmooth.problems import Problem, Regression, lasso
from nonsmooth.problems.lasso_reference import LassoReference, largest_useful_strength, lasso_reference
from nonsmooth.problems.perceptron import Perceptrons
from nonsmooth.problems.sampled_rows import SampledRows

HIDDEN, BATCH = 64, 64
WIDTHS = ("αλ", "2αλ", "3αλ", "α(λ+|g|)")
"""Up to which NGDM's weights are set to zero: αλ, the bound of a weight's swing where |g| ≤ λ, and its own α(λ+|g|)."""


def run_on_lasso(
    run: Run,
    *,
    method: str,
    step_size: float,
    strengths: Sequence[float],
    shares: Sequence[float],
    steps: int,
    seeds: int,
) -> dict[str, Any]:
    """What a method ends with, by strength (first index) and seed (second).

    The strengths are λ itself and then shares of each draw's λ_max. A residual is the largest distance of -∇f from
    λ∂R over the coordinates, divided by λ; R is the method's own penalty, or the L1 norm where the name says lasso.
    """
    return _run_on_lasso(run, method, step_size, (strengths, shares), steps, seeds, None)


def run_on_rows(
    run: Run,
    *,
    method: str,
    step_size: float,
    strengths: Sequence[float],
    shares: Sequence[float],
    steps: int,
    seeds: int,
    rows: int,
) -> dict[str, Any]:
    """The same, with gradients from a few drawn rows."""
    return _run_on_lasso(run, method, step_size, (strengths, shares), steps, seeds, rows)


def _run_on_lasso(
    run: Run,
    method: str,
    step_size: float,
    strengths: tuple[Sequence[float], Sequence[float]],
    steps: int,
    seeds: int,
    rows: int | None,
) -> dict[str, Any]:
    drawn = draw_lasso(run.seed, seeds)
    weights = _strengths(drawn, *strengths)
    problem = lasso(drawn.data, drawn.response, weights)
    reference = lasso_reference(drawn.data, drawn.response, weights)
    values = {"reference_gap": reference.gap.T.tolist(), "exact_zeros": (reference.point == 0).sum(-1).T.tolist()}
    if method == DESCENT:
        still = torch.zeros_like(weights).T.tolist()
        return values | _ending(problem, reference, method, reference.point) | {"flicker": still}
    chosen, strength = METHODS[method], weights.unsqueeze(-1)
    seen: Problem = problem
    if rows is not None:
        seen = SampledRows(problem, rows, torch.Generator().manual_seed(run.seed))
    constant = Constant(step_size * (chosen.step_scale if rows is None else chosen.rows_scale))
    found = iterate(
        seen,
        drawn.starts(weights.shape[-1]),
        constant,
        steps,
        {"flicker": Flicker(since=steps - steps // 20)},
        method=lambda: chosen.update(strength),
        # One block: strengths differ between instances, and all of them see the same rows.
        block=seeds,
        progress=run.context.progress,
    )
    point = found.point
    if method == "FISTA":
        # The ensemble's point is the extrapolated one.
        point = iterate(problem, point, constant, 1, method=lambda: optimised(ProxSGD)(strength), block=seeds).point
    values |= _ending(problem, reference, method, point) | {"flicker": found["flicker"].T.tolist()}
    if method == PLAIN:
        rounded = torch.where(point.abs() <= step_size * strength, 0.0, point)
        values |= {f"rounded_{k}": v for k, v in _ending(problem, reference, method, rounded).items()}
    return values


def _strengths(drawn: LassoData, fixed: Sequence[float], shares: Sequence[float]) -> Tensor:
    """λ itself and shares of each draw's λ_max, shape (seeds, strengths)."""
    useful = largest_useful_strength(drawn.data, drawn.response).unsqueeze(-1)
    given = torch.tensor([list(fixed)], dtype=torch.float64).expand(len(drawn.data), -1)
    return torch.cat([given, torch.tensor([list(shares)], dtype=torch.float64) * useful], dim=-1)


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


def _perceptrons(strengths: Sequence[float], seed: int) -> tuple[Perceptrons, Images, torch.Generator]:
    """The networks of all strengths, the images that they are tested on, and the generator of everything drawn."""
    train, test = (load_images("digits", split, size=8) for split in ("train", "test"))
    generator = torch.Generator().manual_seed(seed)
    weights = torch.tensor(list(strengths))
    problem = Perceptrons(_flat(train), train.labels, HIDDEN, train.classes, weights, BATCH, generator)
    return problem, test, generator


def run_on_network(
    run: Run, *, method: str, step_size: float, strengths: Sequence[float], steps: int, seeds: int
) -> dict[str, Any]:
    """A perceptron 64-64-10 on the 8×8 digits, weights penalised; by strength (first index) and seed (second)."""
    problem, test, generator = _perceptrons(strengths, run.seed)
    chosen = METHODS[method]
    found = iterate(
        problem,
        problem.start(seeds, generator),
        Constant(step_size * chosen.network_scale),
        steps,
        {"flicker": Flicker(since=steps - steps // 20)},
        method=lambda: chosen.update(problem.strength),
        block=seeds,
        progress=run.context.progress,
    )
    whole, penalised = problem.whole(), problem.penalised
    penalty, scales = chosen.penalty(problem.strength, found.point), torch.tensor(list(strengths))

    def ending(point: Tensor) -> dict[str, Any]:
        gradient = whole.evaluate(point).gradient
        # The biases carry no penalty: their share of the residual would be in other units.
        residual = (penalty.subdiff_distance(point, gradient) * penalised).amax(-1) / scales
        return {
            "zero_share": (((point == 0) * penalised).sum(-1) / penalised.sum()).T.tolist(),
            "accuracy": whole.accuracy(point, _flat(test), test.labels).T.tolist(),
            "objective": whole.value(point).T.tolist(),
            "residual": residual.T.tolist(),
        }

    values = ending(found.point) | {"flicker": found["flicker"].T.tolist(), "weights": int(penalised.sum())}
    if method == PLAIN:
        small = found.point.abs() <= step_size * problem.strength
        values |= {f"rounded_{k}": v for k, v in ending(torch.where(small, 0.0, found.point)).items()}
    return values


def run_budgets_on_lasso(
    run: Run, *, method: str, step_size: float, strengths: Sequence[float], budgets: Sequence[int], seeds: int
) -> Mapping[str, Any]:
    """Exact zeros and optimality residual of a method after chosen numbers of steps: [budget][strength][seed]."""
    drawn, chosen = draw_lasso(run.seed, seeds), METHODS[method]
    weights = _strengths(drawn, strengths, ())
    problem, strength = lasso(drawn.data, drawn.response, weights), weights.unsqueeze(-1)

    def residual(state: State) -> Tensor:
        own = chosen.penalty(strength, state.point)
        return own.subdiff_distance(state.point, state.evaluation.gradient).amax(-1) / problem.l1

    found = iterate(
        problem,
        drawn.starts(len(strengths)),
        Constant(step_size * chosen.step_scale),
        budgets[-1],
        {"zeros": Trace(lambda state: (state.point == 0).sum(-1), budgets), "residual": Trace(residual, budgets)},
        method=lambda: chosen.update(strength),
        block=seeds,
    )
    exact = (lasso_reference(drawn.data, drawn.response, weights).point == 0).sum(-1)
    by_seed = {name: found[name].movedim(1, 2).tolist() for name in ("zeros", "residual")}
    return {**by_seed, "exact_zeros": exact.T.tolist()}


def _widths(step_size: float, strength: Tensor, gradient: Tensor) -> Mapping[str, Tensor]:
    """The widths by name, at a point whose smooth part has this gradient."""
    step = step_size * strength
    swing = torch.where(strength > 0, step + step_size * gradient.abs(), 0.0)
    return dict(zip(WIDTHS, (step, 2 * step, 3 * step, swing), strict=True))


def run_rounding_on_lasso(
    run: Run,
    *,
    step_size: float,
    strengths: Sequence[float],
    shares: Sequence[float],
    budgets: Sequence[int],
    seeds: int,
) -> Mapping[str, Any]:
    """NGDM's result with all weights up to a width set to zero: [budget][width][strength][seed]."""
    drawn = draw_lasso(run.seed, seeds)
    weights = _strengths(drawn, strengths, shares)
    problem, reference = (
        lasso(drawn.data, drawn.response, weights),
        lasso_reference(drawn.data, drawn.response, weights),
    )
    record = {"points": Points(budgets)}
    points = iterate(problem, drawn.starts(weights.shape[-1]), Constant(step_size), budgets[-1], record)["points"]
    values: dict[str, list[Any]] = {name: [] for name in ("zeros", "gap", "wrong_in_support", "residual")}
    for point in points.movedim(1, -1):
        widths = _widths(step_size, weights.unsqueeze(-1), problem.evaluate(point).gradient)
        ends = [
            _ending(problem, reference, PLAIN, torch.where(point.abs() <= widths[name], 0.0, point)) for name in WIDTHS
        ]
        for name, kept in values.items():
            kept.append([end[name] for end in ends])
    return {**values, "exact_zeros": (reference.point == 0).sum(-1).T.tolist()}


def _same(method: Method) -> Method:
    """A rule without memory, for every block."""
    return method


def run_rounding_on_network(
    run: Run, *, step_size: float, strengths: Sequence[float], steps: int, seeds: int
) -> Mapping[str, Any]:
    """The rounded NGDM and the proximal gradient step from the same start on the same images.

    Returns:
        `zero_share`, `accuracy` and `objective`: [width][strength][seed]; the proximal step's stand behind the widths'.
    """
    ends: list[Tensor] = []
    for proximal in (False, True):
        problem, test, generator = _perceptrons(strengths, run.seed)
        method = proximal_step(problem.strength) if proximal else subgradient_step
        start = problem.start(seeds, generator)
        point = iterate(problem, start, Constant(step_size), steps, method=partial(_same, method)).point
        widths = _widths(step_size, problem.strength, problem.whole().evaluate(point).gradient)
        rounded = (torch.where((point.abs() <= widths[w]) & (problem.strength > 0), 0.0, point) for w in WIDTHS)
        ends += [point] if proximal else rounded
    whole, penalised = problem.whole(), problem.penalised
    shares = [((end == 0) * penalised).sum(-1) / penalised.sum() for end in ends]
    return {
        "zero_share": [share.T.tolist() for share in shares],
        "accuracy": [whole.accuracy(end, _flat(test), test.labels).T.tolist() for end in ends],
        "objective": [whole.value(end).T.tolist() for end in ends],
    }
