"""Lasso paths and cross-validation of the estimators, with their head start and without, and of other packages.

    python benchmarks/head_start.py [--quick] [--output docs/benchmarks/head-start.md]

Needs the data sets of shared/data/lasso (NONSMOOTH_DATA, or shared/data beside the repository). Without the head start
cross-validation on riboflavin takes many minutes; `--quick` leaves that out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celer
import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV, lasso_path
from sklearn.model_selection import KFold

from nonsmooth import extremes
from nonsmooth.estimators import ProxRegressor, ProxRegressorCV

DATASETS = {"prostate": 0.01, "diabetes64": 0.01, "riboflavin": 0.03}
"""The smallest λ of a path over λ_max, by data set."""

STRENGTHS = 30
FOLDS = 10
TOLERANCES = {"path": 1e-8, "cross-validation": 1e-5}
"""Residual/λ of the estimators."""

THEIR_TOLERANCES = {"path": 1e-12, "cross-validation": 1e-8}
"""Duality gap over ‖y‖², which has the square of a residual's order."""

REPEATS = 3
PLAIN = {"optimizer": "sgd"}
"""What "auto" is, but said: so there is no head start."""

WAYS = ("with a head start", "without", "scikit-learn", "celer")


@dataclass(frozen=True)
class Data:
    """A data set, features and response centred, and its path of λ."""

    name: str
    features: np.ndarray
    response: np.ndarray
    strengths: np.ndarray

    @property
    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Training and test samples."""
        return list(KFold(FOLDS, shuffle=True, random_state=0).split(self.features))


@dataclass(frozen=True)
class Row:
    """What a way took.

    Attributes:
        data: the data set.
        task: "path" or "cross-validation".
        way: the solver.
        seconds: of processor time, the median.
        residual: the largest residual/λ on the path; None where it was not measured.
    """

    data: Data
    task: str
    way: str
    seconds: float
    residual: float | None


def datasets() -> Iterator[Data]:
    """The real sets."""
    folder = Path(os.environ.get("NONSMOOTH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data") / "lasso"
    for name, ratio in DATASETS.items():
        with np.load(folder / f"{name}.npz") as stored:
            features, response = stored["X"].astype(float), stored["y"].astype(float)
        features, response = features - features.mean(0), response - response.mean()
        largest = np.abs(features.T @ response).max() / len(response)
        yield Data(name, features, response, np.geomspace(largest, ratio * largest, STRENGTHS))


def path_of(way: str, data: Data) -> np.ndarray:
    """The solutions, (λ, features)."""
    if way in ("scikit-learn", "celer"):
        follow, most = (lasso_path, 1_000_000) if way == "scikit-learn" else (celer.celer_path, 1_000)
        more = {} if way == "scikit-learn" else {"pb": "lasso"}
        options = {"alphas": data.strengths, "tol": THEIR_TOLERANCES["path"], "max_iter": most, **more}
        return follow(np.asfortranarray(data.features), data.response, **options)[1].T
    model = ProxRegressor(tol=TOLERANCES["path"], **(PLAIN if way == "without" else {}))
    return model.path(data.features, data.response, strengths=data.strengths).coefs


def chosen_by(way: str, data: Data) -> float:
    """The λ that cross-validation chooses."""
    tolerance = THEIR_TOLERANCES["cross-validation"]
    if way == "celer":  # whose LassoCV does not know this scikit-learn
        errors = [errors_of_celer(data, train, test, tolerance) for train, test in data.folds]
        return data.strengths[np.mean(errors, axis=0).argmin()]
    if way == "scikit-learn":
        model = LassoCV(alphas=data.strengths, tol=tolerance, max_iter=100_000, cv=data.folds)
        return model.fit(data.features, data.response).alpha_
    options = {"tol": TOLERANCES["cross-validation"], "cv": data.folds, **(PLAIN if way == "without" else {})}
    return ProxRegressorCV(strengths=data.strengths, **options).fit(data.features, data.response).strength_


def errors_of_celer(data: Data, train: np.ndarray, test: np.ndarray, tolerance: float) -> np.ndarray:
    """Mean squared errors of a fold's test samples, by λ."""
    center, offset = data.features[train].mean(0), data.response[train].mean()
    features = np.asfortranarray(data.features[train] - center)
    _, coefs, _ = celer.celer_path(
        features, data.response[train] - offset, "lasso", alphas=data.strengths, tol=tolerance, max_iter=1_000
    )
    predicted = offset + (data.features[test] - center) @ coefs
    return ((data.response[test][:, None] - predicted) ** 2).mean(0)


def residual_of(data: Data, solutions: np.ndarray) -> float:
    """The largest distance of -∇f from λ∂‖·‖₁ over λ, from the data alone."""
    slopes = (solutions @ data.features.T - data.response) @ data.features / len(data.response)
    strengths = data.strengths[:, None]
    away = np.where(
        solutions != 0, np.abs(slopes + strengths * np.sign(solutions)), np.maximum(np.abs(slopes) - strengths, 0)
    )
    return float((away / strengths).max())


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of a call, and what it returned."""
    started = time.process_time()
    found = call()
    return time.process_time() - started, found


def measured(data: Data, quick: bool) -> list[Row]:
    """Each way, in turns; the slow one once."""
    rows = []
    for task, solve in (("path", path_of), ("cross-validation", chosen_by)):
        ways = [way for way in WAYS if not (quick and way == "without" and (data.name, task) == slowest())]
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        found: dict[str, Any] = {}
        for turn in range(REPEATS):
            for way in ways:
                if turn == 0 or way != "without":
                    taken, found[way] = timed(lambda solve=solve, way=way: solve(way, data))
                    seconds[way].append(taken)
        if task == "cross-validation" and len(set(found.values())) > 1:
            raise RuntimeError(f"{data.name}: other λ by way, {found}")
        for way in ways:
            residual = residual_of(data, found[way]) if task == "path" else None
            rows.append(Row(data, task, way, statistics.median(seconds[way]), residual))
    return rows


def slowest() -> tuple[str, str]:
    """The data set and the task that take many minutes without a head start."""
    return "riboflavin", "cross-validation"


def page(rows: list[Row]) -> str:
    """The page, as Markdown."""
    lines = [
        "# Paths and cross-validation",
        "",
        f"The LASSO along {STRENGTHS} λ, and {FOLDS}-fold cross-validation over them: `ProxRegressor.path` and "
        "`ProxRegressorCV` with the head start that a convex linear model has when the optimiser is left to "
        '"auto", the same with `optimizer="sgd"`, which has none, and the coordinate descent of scikit-learn '
        f"{sklearn.__version__} and of celer {celer.__version__}. Seconds of processor time on one thread, medians of "
        f"{REPEATS} in turns in one process (without the head start: once); torch {torch.__version__}. *Ratio* is "
        "over the head start's time, *residual/λ* the largest on the path, computed from the data. Ours are solved to "
        f"a residual/λ of {TOLERANCES['path']:g}, in cross-validation {TOLERANCES['cross-validation']:g}, theirs to a "
        f"duality gap of {THEIR_TOLERANCES['path']:g} and {THEIR_TOLERANCES['cross-validation']:g} of ‖y‖². All ways "
        "choose the same λ.",
        "",
        "| data | N × features | what | solver | seconds | ratio | residual/λ |",
        "|---|---|---|---|---|---|---|",
    ]
    base = {(row.data.name, row.task): row.seconds for row in rows if row.way == WAYS[0]}
    for row in rows:
        ratio = row.seconds / base[row.data.name, row.task]
        residual = "" if row.residual is None else f"{row.residual:.0e}"
        count, features = row.data.features.shape
        lines.append(
            f"| {row.data.name} | {count} × {features:,} | {row.task} | {row.way} | {row.seconds:.2f} | {ratio:.2g} "
            f"| {residual} |"
        )
    worst = extremes.largest(row.seconds / base[row.data.name, row.task] for row in rows if row.way == "without")
    lines += [
        "",
        f"The head start saves a factor of up to {worst:.0f}. Most of what is left is not the solver: for each λ there "
        "is a certificate, and a fitted estimator with a module of its own. For the plain LASSO coordinate descent "
        "stays the faster tool; the head start is for any convex penalty, and for several outputs and classes.",
        "",
        "Made by `make bench-head-start` (`python benchmarks/head_start.py --output docs/benchmarks/head-start.md`).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="without the slowest")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows: list[Row] = []
    for data in datasets():
        rows += measured(data, arguments.quick)
    text = page(rows)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
