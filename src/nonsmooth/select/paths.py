"""Any model along a sequence of λ, and the choice of one of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from nonsmooth.extremes import largest
from nonsmooth.figures import Figure
from nonsmooth.lab import Cell, LabError, Watcher
from nonsmooth.lab.checkpoint import load_checkpoint
from nonsmooth.penalties import Penalty
from nonsmooth.select import identity, rules
from nonsmooth.select.chain import Chain, Fit, Loss, MakeModel, PathRun, Score, weights_file
from nonsmooth.select.running import checked_seeds, measured
from nonsmooth.select.scale import Scale
from nonsmooth.tables import Row, Tabular

PATH, SCALE = "sparsity-path", "sparsity-path-scale"
DIRECTIONS = ("up", "down")


@dataclass(frozen=True)
class PathPoint:
    """The models of one λ, over the seeds.

    Attributes:
        index: its place on the path.
        strength: λ.
        score: the mean over seeds.
        error: the standard error of the score: over seeds where there are several, else over validation examples; NaN
            where neither is known.
        share: the share of penalised entries that are exactly 0, the mean over seeds.
        size: how many groups or singular values are left, or entries where the penalty is on entries alone; the mean
            over seeds.
        unit: what `size` counts: "groups", "singular values" or "weights".
        residual: the largest `relative_residual` of the certificates; NaN where no loss was given.
        runs: one for each seed.
        reason: why it was chosen; "" where it was not.
    """

    index: int
    strength: float
    score: float
    error: float
    share: float
    size: float
    unit: str
    residual: float
    runs: tuple[PathRun, ...] = field(repr=False)
    reason: str = ""

    @classmethod
    def of(cls, index: int, runs: Sequence[PathRun]) -> PathPoint:
        """The point that runs with the same λ make."""
        scores = [run.score for run in runs]
        error = statistics.stdev(scores) / math.sqrt(len(runs)) if len(runs) > 1 else runs[0].score_error
        return cls(
            index=index,
            strength=runs[0].strength,
            score=statistics.fmean(scores),
            error=error,
            share=statistics.fmean(run.share for run in runs),
            size=statistics.fmean(run.size for run in runs),
            unit=runs[0].unit or "weights",
            residual=largest(run.residual for run in runs),
            runs=tuple(runs),
        )

    def __str__(self) -> str:
        error = "" if math.isnan(self.error) else f" ± {self.error:.2g}"
        left = f"{self.size:,.4g} {self.unit} left" if self.unit != "weights" else f"{self.size:,.6g} left"
        text = f"λ = {self.strength:.4g}: {100 * self.share:.1f} % zeros ({left}), score {self.score:.4g}{error}"
        residual = "" if math.isnan(self.residual) else f", residual {self.residual:.2g} λ"
        return text + residual + (f"; {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class SparsityPath(Tabular):
    """Models along a sequence of λ.

    Attributes:
        points: one for each λ, in falling order.
        seeds: of the chains.
        direction: in which the chains were trained.
        error_of: what the errors are over: "seeds", "examples" or "" where they are not known.
        exact: whether the largest λ is λ_max, from which on all is zero; None where the strengths were given.
        folder: where records and weights are kept.
    """

    points: tuple[PathPoint, ...]
    seeds: tuple[int, ...]
    direction: str
    error_of: str
    exact: bool | None
    folder: Path
    cells: Mapping[int, Cell] = field(repr=False)
    make_model: MakeModel = field(repr=False)

    def __len__(self) -> int:
        return len(self.points)

    def __str__(self) -> str:
        error = f", ± over {self.error_of}" if self.error_of else ""
        seeds = "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        head = f"{len(self)} λ from {self.strengths[0]:.4g} to {self.strengths[-1]:.4g}, {seeds}{error}"
        return "\n".join([head, *(f"  {replace(point, reason='')}" for point in self.points)])

    @property
    def strengths(self) -> tuple[float, ...]:
        """λ of each point, falling."""
        return tuple(point.strength for point in self.points)

    def rows(self) -> list[Row]:
        """A row for each λ and seed."""
        return [
            {
                "λ": run.strength,
                "seed": run.seed,
                "score": run.score,
                "± score": run.score_error,
                "zeros": run.zeros,
                "penalized": run.penalized,
                "share": run.share,
                **({f"{run.unit} left": run.size, run.unit: run.units} if run.unit else {}),
                "loss": run.loss,
                "penalty": run.penalty,
                "residual/λ": run.residual,
                "typical residual/λ": run.typical_residual,
                "movement": run.movement,
                "seconds": run.seconds,
            }
            for point in self.points
            for run in point.runs
        ]

    def choose(self, criterion: str, *, size: float | None = None) -> PathPoint:
        """The point that a criterion picks.

        - "validation": the best score.
        - "one-standard-error": the smallest model whose score is within one standard error of the best one.
        - "knee": where the score stops rising with the logarithm of the size.
        - "size": the best score among models of at most `size`.

        The number that chose a model is too good for it: report the score on data that chose nothing.

        Args:
            criterion: one of these.
            size: the largest `PathPoint.size` that "size" accepts: weights, groups or singular values.

        Raises:
            ValueError: the criterion is unknown, or needs what is not known here.
        """
        if criterion == "one-standard-error" and not self.error_of:
            raise ValueError(
                "criterion is 'one-standard-error', and the errors of the scores are not known; accepted are paths "
                "with several seeds, or with a score that returns a number for each example"
            )
        columns = ("score", "error", "size")
        scores, errors, sizes = ([getattr(point, name) for point in self.points] for name in columns)
        place = rules.choose(criterion, scores=scores, errors=errors, sizes=sizes, size=size)
        return replace(self.points[place], reason=self._reason(criterion, size))

    def _reason(self, criterion: str, size: float | None) -> str:
        if criterion != "one-standard-error":
            return {
                "validation": "validation: the best score",
                "knee": "knee: smaller models lose more than larger ones gain",
                "size": f"size: the best score with at most {size:g} {self.points[0].unit}" if size is not None else "",
            }[criterion]
        best = self.choose("validation")
        return (
            f"one-standard-error: the smallest within {best.error:.2g}, over {self.error_of}, of the best score "
            f"{best.score:.4g} at λ = {best.strength:.4g}"
        )

    def model(self, point: PathPoint | int, *, seed: int | None = None) -> nn.Module:
        """The model that was trained, in evaluation mode.

        Args:
            point: of this path, or its place on it.
            seed: of the chain; None for the first.

        Raises:
            ValueError: there is no such point or seed.
            LabError: the file of its weights has gone or is damaged; `sparsity_path` trains it again once the record,
                in `cells`, is removed as well.
        """
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.cells:
            raise ValueError(f"seed is {seed}; accepted are {', '.join(map(str, self.seeds))}")
        index = point.index if isinstance(point, PathPoint) else point
        if not 0 <= index < len(self):
            raise ValueError(f"point is {index}; accepted are 0 to {len(self) - 1}")
        cell = self.cells[seed]
        place = list(cell.parameters["strengths"]).index(self.points[index].strength)  # type: ignore[arg-type]
        path = weights_file(self.folder, cell, place)
        state = load_checkpoint(path, f"{cell.key} {place}")
        if state is None:
            raise LabError(f"{path} is not there, or not whole; the model has to be trained again")
        model = self.make_model(seed)
        model.load_state_dict(state["model"])
        return model.eval()

    def plot(self, criteria: Iterable[str] = ("validation", "one-standard-error", "knee")) -> Figure:
        """Score and share of zeros against λ, with what criteria choose.

        Args:
            criteria: to be marked; one that cannot choose here is left out.
        """
        from nonsmooth.select.figures import path_figure  # noqa: PLC0415  draws this class

        return path_figure(self, criteria)


def sparsity_path(
    make_model: MakeModel,
    fit: Fit,
    penalty: Penalty,
    *,
    score: Score,
    folder: str | Path,
    loss: Loss | None = None,
    strengths: Iterable[float] | None = None,
    n_strengths: int = 20,
    ratio: float = 1e-3,
    seeds: Iterable[int] = (0,),
    direction: str = "up",
    name: str = "path",
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    watcher: Watcher | None = None,
) -> SparsityPath:
    """Train a model for each of a sequence of λ, each from the weights of the one before.

    A path that starts "up", from dense, takes the smallest λ first. This is the default, since it works for every
    model: with all weights zero, a network with hidden layers is stationary at every λ, because the gradient of a layer
    vanishes where the next one is zero, and nothing would ever leave zero again. "down" starts at λ_max and is for
    models with one layer of weights, where it is what lasso solvers do (Friedman et al. 2010, section 2.5); there it is
    refused as soon as a layer that is zero feels no gradient.

    Where no strengths are given, they fall geometrically from λ_max, from which on all weights are zero. It is found on
    a model of the first seed that `fit` trains with λ = 0: with what has no penalty, such as an intercept, fitted to
    zero weights. A network with hidden layers has no λ_max. There the path starts at the largest λ at which some layer
    alone leaves zero, the others being dense: a scale, and no bound (`exact` is False).

    Each seed is a cell of the lab, trained on one thread. What was trained is kept, and the same call goes on from
    there: a run that is killed loses the model in training at most. What tells one experiment from another are `name`,
    `settings`, the penalty, the strengths, and the code of the four functions: without comments, with the numbers and
    texts that they read from around them, and with the functions and classes of the same package that they use. So
    models are trained again where that code was changed. Data that they read, and other packages, are not looked at:
    name these in `settings`.

    The functions are given the seed, which may be more than a seed: where it numbers the fold of a cross-validation
    that `fit`, `loss` and `score` use, the errors are those over folds, and "one-standard-error" is the rule of Breiman
    et al. (1984) and glmnet. torch's, NumPy's and Python's global generators are seeded before each call of
    `make_model` and `fit`, and put back.

    Args:
        make_model: seed → a model with its starting weights.
        fit: model, penalty, seed → trains the model in place with this penalty, and returns the optimizer that it did
            it with, one of this package or one that `attach` was used on.
        penalty: λR; its λ is replaced.
        score: model, seed → how good the model is on validation data, higher being better: a number, or one for each
            example, (examples,), which gives a standard error where there is one seed. No gradients are kept.
        folder: where records, in `cells`, and weights are kept.
        loss: model, seed → the loss on the training data, without the penalty, a tensor: for λ_max, and for the
            certificate of each model.
        strengths: λ; None for λ_max and `n_strengths` below it.
        n_strengths: how many.
        ratio: the smallest over the largest.
        seeds: one chain of models for each.
        direction: "up" or "down".
        name: of the experiment.
        settings: scalars and tuples of scalars that tell it from others of its name.
        workers: how many seeds are trained at once; one is trained in this process, so that functions of a notebook
            will do. More are processes that import the functions by name, from a file; a script needs its
            `if __name__ == "__main__":`.
        executor: trains in place of processes here.
        watcher: is told how the run goes; None for a progress bar in a notebook, and nothing elsewhere.

    Raises:
        TypeError: the penalty is none, a setting is no scalar, or another process could not import a function.
        ValueError: an argument is out of its range, or no strengths were given and there is no loss to find λ_max by.
        LabError: training raised, the folder is in use, or a worker died; what was trained is kept.
        Interrupted: on Ctrl-C or a request to terminate, once the model in training is stored.
    """
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty is {penalty!r}; accepted is a nonsmooth.penalties.Penalty")
    if isinstance(penalty.strength, Tensor):
        raise ValueError("penalty has a tensor as its strength, which λ replaces; accepted is a number, beside weights")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; accepted are {' and '.join(map(repr, DIRECTIONS))}")
    if direction == "down" and loss is None:
        raise ValueError("direction is 'down' and loss is None; accepted is a loss, to see whether zero is a dead end")
    chains, folder = checked_seeds(seeds), Path(folder)
    how = {"workers": workers, "executor": executor, "watcher": watcher}
    chain = Chain(make_model, fit, penalty, loss, score, folder, direction == "down")
    common = {
        **identity.parameters(name, settings, {**chain.functions(), "score": None}),
        "penalty": identity.penalty_text(penalty),
    }
    if strengths is None:
        grid, exact = _grid(Scale(make_model, fit, penalty, loss), common, chains[0], n_strengths, ratio, folder, how)
    else:
        grid, exact = _checked_strengths(strengths), None
    common |= identity.parameters(name, settings, {"score": score})
    trained = grid if direction == "down" else grid[::-1]
    cells = {
        seed: Cell(PATH, {**common, "direction": direction, "strengths": trained}, seed, cost=len(grid))
        for seed in chains
    }
    records = measured(list(cells.values()), chain, folder, **how)
    runs = {seed: {run.strength: run for run in _runs(records[cell].values)} for seed, cell in cells.items()}
    points = tuple(PathPoint.of(i, [runs[seed][value] for seed in chains]) for i, value in enumerate(grid))
    by_example = not any(math.isnan(point.error) for point in points)
    error_of = "seeds" if len(chains) > 1 else "examples" if by_example else ""
    return SparsityPath(points, chains, direction, error_of, exact, folder, cells, make_model)


def _grid(
    scale: Scale, common: Mapping[str, Any], seed: int, count: int, ratio: float, folder: Path, how: Mapping[str, Any]
) -> tuple[tuple[float, ...], bool]:
    """Strengths that fall from λ_max, and whether it is one."""
    if scale.loss is None:
        raise ValueError("strengths and loss are None; accepted is one of them")
    if not (isinstance(count, int) and count >= 2):
        raise ValueError(f"n_strengths is {count!r}; accepted is a whole number of at least 2")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio is {ratio!r}; accepted is a number in (0, 1)")
    cell = Cell(SCALE, common, seed)
    record = measured([cell], scale, folder, **{**how, "workers": 1})[cell]
    if not 0 < record["strength"] < math.inf:
        raise ValueError(f"strengths is None, and λ_max is {record['strength']:g} here; accepted are strengths")
    return tuple(float(value) for value in np.geomspace(1, ratio, count) * record["strength"]), bool(record["exact"])


def _checked_strengths(strengths: Iterable[float]) -> tuple[float, ...]:
    """Strengths in falling order."""
    found = [float(value) for value in strengths]
    if not found or len(set(found)) < len(found) or not all(0 <= value < math.inf for value in found):
        raise ValueError(f"strengths is {found!r}; accepted are different finite numbers of at least 0, at least one")
    return tuple(sorted(found, reverse=True))


def _runs(values: Mapping[str, Any]) -> list[PathRun]:
    columns = [values[name] for name in PathRun.__dataclass_fields__]
    return [PathRun(*row) for row in zip(*columns, strict=True)]


