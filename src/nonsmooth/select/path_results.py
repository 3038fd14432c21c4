"""What a path holds, and the choice of one of its models."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from nonsmooth.extremes import largest
from nonsmooth.figures import Figure
from nonsmooth.lab import Cell, LabError
from nonsmooth.lab.checkpoint import load_checkpoint
from nonsmooth.select import rules
from nonsmooth.select.chain import MakeModel, PathRun, weights_file
from nonsmooth.tables import Row, Tabular


@dataclass(frozen=True)
class PathPoint:
    """The models of one λ, over the seeds.

    Attributes:
        index: its place on the path.
        strength: λ.
        score: the mean over seeds.
        error: the standard error of the score: over seeds where there are several, else over validation examples; NaN
            where neither is known.
        share: the share that is zero of the groups or singular values, or of the entries where the penalty is on
            entries alone; the mean over seeds.
        size: how many of these are left, the mean over seeds.
        unit: what they are: "groups", "singular values" or "weights".
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
        error = runs[0].score_error
        if len(runs) > 1:
            with np.errstate(invalid="ignore"):  # a score may be infinite
                error = float(np.std(scores, ddof=1)) / math.sqrt(len(runs))
        return cls(
            index=index,
            strength=runs[0].strength,
            score=float(np.mean(scores)),
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
