"""Whether λ means the same number under every optimiser, and whether the certificate is reached.

    python benchmarks/conformance.py [--quick] [--output docs/benchmarks/conformance.md]

Full batch, float64, one thread. λ is read off each solution by formulas that are written out here and share no code
with the package's certificate.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD, SteadyAdam
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

SAMPLES, FEATURES, SHAPE = 200, 50, (10, 5)
STRENGTH = 0.1
STEPS = 5000
TOLERANCE = 1e-6
FLOOR = 1e-9
EVERY = 10


class Quadratic:
    """f(w) = ‖Xw - y‖²/(2N), by its Gram matrix where that is the smaller one."""

    def __init__(self, data: np.ndarray, response: np.ndarray) -> None:
        self.data, self.response = torch.from_numpy(data), torch.from_numpy(response)
        self.samples = len(data)
        self.wide = data.shape[1] > data.shape[0]
        if not self.wide:
            self._gram = self.data.T @ self.data / self.samples
            self._linear = self.data.T @ self.response / self.samples
        small = self.data @ self.data.T if self.wide else self.data.T @ self.data
        values = torch.linalg.eigvalsh(small / self.samples)
        self.largest, self.smallest = float(values[-1]), float(values[0])

    def gradient(self, point: Tensor) -> Tensor:
        """∇f(w), of the shape of w."""
        flat = point.reshape(-1)
        if self.wide:
            slope = self.data.T @ (self.data @ flat - self.response) / self.samples
        else:
            slope = self._gram @ flat - self._linear
        return slope.reshape(point.shape)

    def value(self, point: Tensor) -> float:
        """f(w)."""
        return float((self.data @ point.reshape(-1) - self.response).square().sum() / (2 * self.samples))

    def gap(self, point: Tensor, strength: float) -> float:
        """The duality gap of the LASSO, f(w) + λ‖w‖₁ - D(θ), θ the residual scaled into the feasible set."""
        residual = self.response - self.data @ point
        scale = extremes.smallest(
            1.0, strength / extremes.largest(float((self.data.T @ residual / self.samples).abs().max()), 1e-300)
        )
        dual = (2 * scale * residual @ self.response - scale**2 * residual @ residual) / (2 * self.samples)
        return self.value(point) + strength * float(point.abs().sum()) - float(dual)


def well_conditioned() -> Quadratic:
    """The 200×50 problem: the first of ten groups of five is the signal, as a matrix of rank 1."""
    generator = np.random.default_rng(0)
    data = generator.standard_normal((SAMPLES, FEATURES))
    signal = np.zeros(SHAPE)
    signal[:2] = np.outer([1.0, -0.5], [2.0, -1.5, 1.0, 0.5, 2.5])
    return Quadratic(data, data @ signal.reshape(-1) + 0.5 * generator.standard_normal(SAMPLES))


# --- λ from a solution: formulas on (w, ∇f) as numpy arrays; for one coordinate or group each, where there is one -----


def _l1(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return -(slope * np.sign(point))[point != 0]


def _elastic_net(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    kept = point != 0
    return -slope[kept] / (0.5 * np.sign(point[kept]) + 0.5 * point[kept])


def _group(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    rows = np.abs(point).sum(1) > 0
    return np.linalg.norm(slope[rows], axis=1) / math.sqrt(point.shape[1])


def _sparse_group(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(point, axis=1, keepdims=True) + 0 * point
    kept = point != 0
    unit = 0.5 * np.sign(point[kept]) + 0.5 * math.sqrt(point.shape[1]) * point[kept] / norm[kept]
    return -slope[kept] / unit


def _nuclear(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    left, values, right = np.linalg.svd(point, full_matrices=False)
    kept = values > 1e-9 * values[0]
    return -np.einsum("ik,ij,kj->k", left[:, kept], slope, right[kept])


def _mcp(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    kept = (point != 0) & (np.abs(slope) > 1e-9)
    return (-slope * np.sign(point) + np.abs(point) / 3.0)[kept]


def _scad(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    pull, size = -(slope * np.sign(point)), np.abs(point)
    linear, bent = (size > 0) & (size <= pull + 1e-12), (size > pull + 1e-12) & (pull > 1e-9)
    return np.concatenate([pull[linear], (2.7 * pull[bent] + size[bent]) / 3.7])


def _transformed_l1(point: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return -(slope * np.sign(point) * (1 + np.abs(point)) ** 2 / 2)[point != 0]


@dataclass(frozen=True)
class Case:
    """A penalty, the shape of the parameter it is on, and how λ is read off a solution (None where it cannot be)."""

    penalty: Any
    matrix: bool
    read: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    note: str = ""
    start: float = 0.0


CASES = {
    "L1": Case(L1(STRENGTH), False, _l1),
    "ElasticNet": Case(ElasticNet(STRENGTH, 0.5), False, _elastic_net),
    "GroupL1": Case(GroupL1(STRENGTH), True, _group),
    "SparseGroupL1": Case(SparseGroupL1(STRENGTH, 0.5), True, _sparse_group),
    "Nuclear": Case(Nuclear(STRENGTH), True, _nuclear),
    "MCP": Case(MCP(STRENGTH, 3.0), False, _mcp, "not convex"),
    "SCAD": Case(SCAD(STRENGTH, 3.7), False, _scad, "not convex"),
    "TransformedL1": Case(TransformedL1(STRENGTH, 1.0), False, _transformed_l1, "not convex"),
    "L0": Case(L0(0.02), False, None, "not convex", start=0.5),  # w = 0 is stationary
}


def optimisers(largest: float, convex: bool = True) -> dict[str, Callable[[list[Tensor], Any], Any]]:
    """Makers by name, their step sizes for curvature up to `largest`.

    torch's own ε but for RMSprop. With a penalty that is not convex the methods with momentum take smaller steps: there
    a prox stretches distances, by 1/(1 - D/γ) a step for the MCP, and momentum answers only after 1/(1-μ) steps.
    """
    slow = (0.1 if convex else 0.01) / largest
    return {
        "ProxSGD": lambda p, r: ProxSGD(p, lr=1 / largest, penalty=r),
        "ProxSGD, momentum": lambda p, r: ProxSGD(p, lr=slow, momentum=0.9, penalty=r),
        "ProxSGD, Nesterov": lambda p, r: ProxSGD(p, lr=slow, momentum=0.9, nesterov=True, penalty=r),
        "ProxAdam": lambda p, r: ProxAdam(p, lr=1e-2, penalty=r),
        "ProxAdam, amsgrad": lambda p, r: ProxAdam(p, lr=1e-2, amsgrad=True, penalty=r),
        "ProxAdamW": lambda p, r: ProxAdamW(p, lr=1e-2, weight_decay=0, penalty=r),
        "ProxNAdam": lambda p, r: ProxNAdam(p, lr=1e-2, penalty=r),
        "ProxRMSprop": lambda p, r: ProxRMSprop(p, lr=1e-2, eps=1e-2, penalty=r),
        "ProxRMSprop, momentum": lambda p, r: ProxRMSprop(p, lr=1e-3, eps=0.1, momentum=0.9, penalty=r),
        "ProxAdagrad": lambda p, r: ProxAdagrad(p, lr=0.3, penalty=r),
    }


@dataclass
class Ending:
    """Where a run stopped: after how many steps the residual had fallen to TOLERANCE·λ, and what it was at the end."""

    point: Tensor
    slope: Tensor
    reached: int | None
    residual: float
    steps: int
    seconds: float


def descend(
    problem: Quadratic, optimiser: Any, parameter: Tensor, judge: Any, steps: int, floor: float = FLOOR
) -> Ending:
    """Steps on the full batch until the residual is below `floor`·λ or the steps are used up."""
    started, reached, residual = time.perf_counter(), None, math.inf
    for step in range(steps + 1):
        slope = problem.gradient(parameter.detach())
        if step % EVERY == 0 or step == steps:
            distance = judge.subdiff_distance(parameter.detach(), slope)
            residual = float(distance.max()) / judge.strength
            if reached is None and residual <= TOLERANCE:
                reached = step
            if residual <= floor or not math.isfinite(residual):
                break
        if step < steps:
            parameter.grad = slope
            optimiser.step()
    seconds = time.perf_counter() - started
    point = parameter.detach().clone()
    return Ending(point, problem.gradient(point), reached, residual, step, seconds)


def conformance(problem: Quadratic, names: list[str], cases: list[str]) -> list[str]:
    """The table of optimisers × penalties."""
    endings: dict[tuple[str, str], Ending] = {}
    for case_name in cases:
        case = CASES[case_name]
        for name in names:
            shape = SHAPE if case.matrix else (FEATURES,)
            parameter = torch.full(shape, case.start, dtype=torch.float64, requires_grad=True)
            optimiser = optimisers(problem.largest, not case.note)[name]([parameter], case.penalty)
            ending = descend(problem, optimiser, parameter, case.penalty, STEPS)
            endings[name, case_name] = ending
            print(f"{case_name:14} {name:22} {ending.residual:.1e} reached {ending.reached} {ending.seconds:.1f} s")
    lines = ["| optimiser | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for name in names:
        cells = [
            f"{endings[name, c].residual:.0e} in {steps}"
            if (steps := endings[name, c].reached) is not None
            else f"**{endings[name, c].residual:.0e}**"
            for c in cases
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Each entry: residual/λ at the end (at most {STEPS:,} steps), and the step at which it had fallen to "
        f"{TOLERANCE:g}; bold if it never did.",
        "",
        "The λ that each solution has, over the λ that was asked for: mean over its coordinates, groups or singular "
        "values, and the farthest of them from 1. L0 has no such number: away from zero it exerts no force.",
        "",
    ]
    readable = [c for c in cases if CASES[c].read is not None]
    lines += ["| optimiser | " + " | ".join(readable) + " |", "|---" * (len(readable) + 1) + "|"]
    for name in names:
        cells = []
        for c in readable:
            ending = endings[name, c]
            read = CASES[c].read(ending.point.numpy(), ending.slope.numpy()) / CASES[c].penalty.strength
            cells.append(f"{read.mean():.8f} ± {np.abs(read - 1).max():.0e}" if len(read) else "no coordinate")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *_agreement(problem, endings, names, cases)]
    return lines


def _agreement(problem: Quadratic, endings: dict, names: list[str], cases: list[str]) -> list[str]:
    """How far the solutions lie from those of coordinate descent, and from each other."""
    references = {c: reference(problem, c) for c in cases if not CASES[c].note}
    lines = [
        "How far the farthest coefficient of any of these optimisers lies from the reference's, and how many of the "
        f"{FEATURES} coordinates are zero:",
        "",
        "| penalty | reference | its duality gap | largest difference | zeros, reference | zeros, each optimiser |",
        "|---|---|---|---|---|---|",
    ]
    for c in cases:
        zeros = sorted({int((endings[n, c].point == 0).sum()) for n in names})
        counts = ", ".join(map(str, zeros))
        if references.get(c) is None:
            first = endings[names[0], c].point
            apart = extremes.largest(float((endings[n, c].point - first).abs().max()) for n in names)
            lines.append(f"| {c} | {names[0]} | {CASES[c].note or 'none'} | {apart:.0e} | {zeros[0]} | {counts} |")
            continue
        who, point, gap = references[c]
        apart = extremes.largest(
            float((endings[n, c].point.reshape(-1) - torch.from_numpy(point)).abs().max()) for n in names
        )
        lines.append(f"| {c} | {who} | {gap:.0e} | {apart:.0e} | {int((point == 0).sum())} | {counts} |")
    return lines


def reference(problem: Quadratic, name: str) -> tuple[str, np.ndarray, float] | None:
    """Solver, solution and duality gap from libraries of coordinate descent; None where there is none at hand."""
    import celer  # noqa: PLC0415 - an extra
    from sklearn.linear_model import ElasticNet as CoordinateDescent  # noqa: PLC0415 - heavy

    data, response = problem.data.numpy(), problem.response.numpy()
    if name == "L1":
        point = celer.Lasso(STRENGTH, fit_intercept=False, tol=1e-14).fit(data, response).coef_
        return "celer", point, problem.gap(torch.from_numpy(point), STRENGTH)
    if name == "ElasticNet":
        solver = CoordinateDescent(STRENGTH, l1_ratio=0.5, fit_intercept=False, tol=1e-14, max_iter=100_000)
        point = solver.fit(data, response).coef_
        return "scikit-learn", point, float(solver.dual_gap_)
    if name == "GroupL1":
        weight = math.sqrt(SHAPE[1])
        solver = celer.GroupLasso(SHAPE[1], STRENGTH * weight, fit_intercept=False, tol=1e-14)
        point = solver.fit(data, response).coef_
        return "celer", point, float(np.ravel(solver.dual_gap_)[-1])
    return None


# --- other people's ways, on the LASSO -------------------------------------------------------------------------------


def other_ways(problem: Quadratic, steps: int) -> list[str]:
    """The table of peers on the LASSO: the λ of what they solve, their zeros, and their objective for the λ wanted."""
    best = reference(problem, "L1")[1]
    optimum = problem.value(torch.from_numpy(best)) + STRENGTH * np.abs(best).sum()
    lr, lr_momentum, lr_adam = 1 / problem.largest, 0.1 / problem.largest, 1e-2
    ways: dict[str, tuple[Callable[..., Any], float]] = {
        "softshrink(w, αλ) after SGD": (peers.softshrink_after(peers.sgd), lr),
        "softshrink(w, αλ) after momentum": (peers.softshrink_after(peers.momentum), lr_momentum),
        "softshrink(w, αλ) after Adam": (peers.softshrink_after(peers.adam), lr_adam),
        "L1 in the loss, SGD": (peers.penalty_in_loss(peers.sgd), lr / 10),
        "L1 in the loss, momentum": (peers.penalty_in_loss(peers.momentum), lr_momentum / 10),
        "L1 in the loss, Adam": (peers.penalty_in_loss(peers.adam), lr_adam / 10),
        "torchao PruneOptimizer, SGD": (peers.prune_optimizer(peers.sgd), lr),
        "torchao PruneOptimizer, momentum": (peers.prune_optimizer(peers.momentum), lr_momentum),
        "torchao PruneOptimizer, Adam": (peers.prune_optimizer(peers.adam), lr_adam),
        "pytorch_optimizer FTRL, λ₁ = λ": (peers.ftrl(), 1.0),
        f"pytorch_optimizer FTRL, λ₁ = {steps:,}·λ": (peers.ftrl(steps), 1.0),
    }
    for name in ("ProxSGD", "ProxSGD, momentum", "ProxAdam"):
        ways[f"**nonsmooth {name}**"] = (
            lambda parameters, _lr, strength, name=name: optimisers(problem.largest)[name](parameters, L1(strength)),
            0.0,
        )
    lines = [
        "| way | λ of its solution / λ | least and most, by coordinate | residual/λ | exact zeros | wrong in support | "
        "objective above the optimum |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (make, step_size) in ways.items():
        parameter = torch.zeros(FEATURES, dtype=torch.float64, requires_grad=True)
        ending = descend(problem, make([parameter], step_size, STRENGTH), parameter, L1(STRENGTH), steps)
        point, slope = ending.point.numpy(), ending.slope.numpy()
        # Coordinates that rattle about zero under a subgradient say nothing of λ.
        large = np.abs(point) > 1e-2 * np.abs(point).max()
        read = -(slope * np.sign(point))[large] / STRENGTH
        value = problem.value(ending.point) + STRENGTH * np.abs(point).sum()
        wrong = int(((point != 0) != (best != 0)).sum())
        print(f"{name:45} λ ratio {read.mean():.6f} residual {ending.residual:.1e} zeros {(point == 0).sum()}")
        lines.append(
            f"| {name} | {read.mean():.6f} | {read.min():.3g} to {read.max():.3g} | {ending.residual:.0e} | "
            f"{int((point == 0).sum())} | {wrong} | {extremes.largest(value - optimum, 0) / optimum:.0e} |"
        )
    lines += [
        "",
        f"{steps:,} steps each; the solution of celer has {int((best == 0).sum())} zeros. λ is read off the "
        "coordinates above 1 % of the largest; the objective, at the λ asked for, is relative to its minimum.",
    ]
    return lines


# --- real data --------------------------------------------------------------------------------------------------------


def data_folder() -> Path | None:
    """Where the real sets are: NONSMOOTH_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("NONSMOOTH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data") / "lasso"
    return folder if folder.is_dir() else None


def real_problem(folder: Path, name: str) -> tuple[Quadratic, float, np.ndarray | None]:
    """Data, λ and, where the set has one, its published solution. Standardised but for glmnet's, which is as it is."""
    loaded = np.load(folder / f"{name}.npz")
    data, response = loaded["X"], loaded["y"]
    if name == "glmnet_quickstart":
        return Quadratic(data, response), float(loaded["beta_cvx_lambda"]), loaded["beta_cvx"]
    data = (data - data.mean(0)) / data.std(0)
    response = (response - response.mean()) / response.std()
    useful = float(np.abs(data.T @ response).max() / len(response))
    return Quadratic(data, response), 0.1 * useful, None


def real_optimisers(problem: Quadratic, strength: float) -> dict[str, Callable[[list[Tensor]], Any]]:
    """Those that are run on real data, their steps scaled to curvature and λ alone: none of them was tuned by hand."""
    largest, penalty = problem.largest, L1(strength)
    # At a solution an adaptive step is α/(λ + ε) on the support; α = λ/L gives it the 1/L of gradient descent.
    rate = strength / largest
    slow = (0.99, 0.999)
    return {
        "ProxSGD": lambda p: ProxSGD(p, lr=1.9 / largest, penalty=penalty),
        "ProxSGD, momentum": lambda p: ProxSGD(p, lr=1 / largest, momentum=0.99, penalty=penalty),
        "ProxSGD, Nesterov": lambda p: ProxSGD(p, lr=1 / largest, momentum=0.99, nesterov=True, penalty=penalty),
        "ProxAdam": lambda p: ProxAdam(p, lr=100 * rate, betas=slow, penalty=penalty),
        "ProxAdam, amsgrad": lambda p: ProxAdam(p, lr=100 * rate, betas=slow, amsgrad=True, penalty=penalty),
        "ProxNAdam": lambda p: ProxNAdam(p, lr=100 * rate, betas=slow, penalty=penalty),
        "ProxRMSprop, momentum": lambda p: ProxRMSprop(p, lr=rate, momentum=0.99, penalty=penalty),
        "ProxAdagrad": lambda p: ProxAdagrad(p, lr=0.1, penalty=penalty),
        "SteadyAdam": lambda p: SteadyAdam(p, lr=100 * rate, betas=slow, penalty=penalty),
    }


def real_sets(folder: Path, sets: list[str], steps: int) -> list[str]:
    """The table of optimisers on real data, beside celer and skglm."""
    import celer  # noqa: PLC0415 - an extra
    from skglm import Lasso  # noqa: PLC0415 - an extra

    lines = [
        "| set | optimiser | steps | seconds | residual/λ | duality gap | farthest from celer | support | zeros |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sets:
        problem, strength, published = real_problem(folder, name)
        data, response = problem.data.numpy(), problem.response.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            best = celer.Lasso(strength, fit_intercept=False, tol=1e-14).fit(data, response).coef_
            other = Lasso(strength, fit_intercept=False, tol=1e-13).fit(data, response).coef_
        gap = problem.gap(torch.from_numpy(best), strength)
        size = f"{data.shape[0]}×{data.shape[1]}"
        lines.append(f"| {name} {size} | celer | | | | {gap:.0e} | | | {int((best == 0).sum())} |")
        more = {"skglm": other} | ({} if published is None else {"beta_cvx, as published": published})
        for who, point in more.items():
            lines.append(
                f"| | {who} | | | | {problem.gap(torch.from_numpy(point), strength):.0e} | "
                f"{np.abs(point - best).max():.0e} | {_same(point, best)} | {int((point == 0).sum())} |"
            )
        for who, make in real_optimisers(problem, strength).items():
            parameter = torch.zeros(data.shape[1], dtype=torch.float64, requires_grad=True)
            ending = descend(problem, make([parameter]), parameter, L1(strength), steps, floor=1e-8)
            point = ending.point.numpy()
            print(f"{name:18} {who:20} {ending.residual:.1e} after {ending.steps} steps, {ending.seconds:.1f} s")
            lines.append(
                f"| | {who} | {ending.steps:,} | {ending.seconds:.1f} | {ending.residual:.0e} | "
                f"{extremes.largest(problem.gap(ending.point, strength), 0):.0e} | {np.abs(point - best).max():.0e} | "
                f"{_same(point, best)} | {int((point == 0).sum())} |"
            )
    return lines


def _same(point: np.ndarray, best: np.ndarray) -> str:
    wrong = int((np.sign(point) != np.sign(best)).sum())
    return "the same" if wrong == 0 else f"{wrong} wrong"


def report(quick: bool) -> str:
    """The page, as Markdown."""
    torch.set_num_threads(1)
    problem = well_conditioned()
    names = list(optimisers(1.0))
    cases = list(CASES)
    if quick:
        names, cases = ["ProxSGD", "ProxAdam"], ["L1", "GroupL1"]
    lines = [
        "# Conformance: one λ under every optimiser",
        "",
        f"Minimise ‖Xw - y‖²/(2N) + λR(w), X of {SAMPLES}×{FEATURES} normal numbers (curvature from "
        f"{problem.smallest:.2f} to {problem.largest:.2f}), λ = {STRENGTH:g} (L0: {CASES['L0'].penalty.strength:g}), "
        f"from w = 0; w is a matrix of {SHAPE[0]}×{SHAPE[1]} for the penalties on groups (its rows) and on singular "
        "values. Full batch, float64, one thread, torch " + torch.__version__ + ".",
        "",
        "## Every optimiser with every penalty",
        "",
        *conformance(problem, names, cases),
        "",
        "The adaptive optimisers run with ε = 0.01 and not torch's 1e-8. At a solution their step in coordinate j is "
        "α/(|∇f_j| + ε), and with the penalties on groups and singular values a gradient can be next to nothing where "
        "the weight is not zero. RMSprop, whose memory is short, then takes steps beyond 2/L and rattles; with ε at "
        "least αL/2 no step can.",
        "",
        "## Other ways, on the LASSO",
        "",
        *other_ways(problem, 500 if quick else STEPS),
    ]
    folder = data_folder()
    if folder is not None:
        sets = ["glmnet_quickstart", "prostate", "diabetes64", "riboflavin"]
        lines += [
            "",
            "## Real data",
            "",
            "LASSO at λ = λ_max/10, columns and response standardised; glmnet_quickstart as it is, at the λ of its "
            "published solution. Each optimiser runs until its residual is below 1e-8·λ, or for 40,000 steps: "
            "riboflavin has 58 times as many columns as rows, and there ProxSGD without momentum, and Adagrad, whose "
            "step shrinks, need more.",
            "",
            *real_sets(folder, sets[:1] if quick else sets, 2000 if quick else 40_000),
        ]
    lines += ["", "Made by `python benchmarks/conformance.py --output docs/benchmarks/conformance.md`."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="two optimisers, two penalties, one real set")
    arguments = parser.parse_args()
    text = report(arguments.quick)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
