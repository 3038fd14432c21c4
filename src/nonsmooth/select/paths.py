"""Any model along a sequence of λ, each trained from the one before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nonsmooth.lab import Cell, Watcher
from nonsmooth.penalties import Penalty
from nonsmooth.select import identity
from nonsmooth.select.chain import Chain, Fit, Loss, MakeModel, PathRun, Score
from nonsmooth.select.path_results import PathPoint, SparsityPath
from nonsmooth.select.running import Workers, checked_seeds
from nonsmooth.select.scale import Scale

PATH, SCALE = "sparsity-path", "sparsity-path-scale"
DIRECTIONS = ("up", "down")


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
    `settings`, the penalty, the strengths, and the four functions: their code without comments, the numbers, texts,
    arrays and tensors that they read from around them, and the functions and classes of the same package that they use.
    Where one of these has changed, models are trained again. Files, data sets that are objects, lists, and other
    packages are not looked at: name these in `settings`.

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
            certificate of each model, in the mode in which `fit` leaves the model.
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
        executor: trains in place of processes here. Of an executor with threads take one: all draw from the same
            global generators.
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
        raise ValueError(  # noqa: TRY004  it is a penalty, and its value does not do
            "penalty has a tensor as its strength, which λ replaces; accepted is a number, beside weights"
        )
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; accepted are {' and '.join(map(repr, DIRECTIONS))}")
    if direction == "down" and loss is None:
        raise ValueError("direction is 'down' and loss is None; accepted is a loss, to see whether zero is a dead end")
    chains, folder = checked_seeds(seeds), Path(folder)
    team = Workers(workers, executor, watcher)
    chain = Chain(make_model, fit, penalty, loss, score, folder, direction == "down")
    common = {
        **identity.parameters(name, settings, {**chain.functions(), "score": None}),
        "penalty": identity.penalty_text(penalty),
    }
    if strengths is None:
        grid, exact = _grid(Scale(make_model, fit, penalty, loss), common, chains[0], n_strengths, ratio, folder, team)
    else:
        grid, exact = _checked_strengths(strengths), None
    common |= identity.parameters(name, settings, {"score": score})
    trained = grid if direction == "down" else grid[::-1]
    cells = {
        seed: Cell(PATH, {**common, "direction": direction, "strengths": trained}, seed, cost=len(grid))
        for seed in chains
    }
    records = team.measured(list(cells.values()), chain, folder)
    runs = {seed: {run.strength: run for run in _runs(records[cell].values)} for seed, cell in cells.items()}
    points = tuple(PathPoint.of(i, [runs[seed][value] for seed in chains]) for i, value in enumerate(grid))
    by_example = not any(math.isnan(point.error) for point in points)
    error_of = "seeds" if len(chains) > 1 else "examples" if by_example else ""
    return SparsityPath(points, chains, direction, error_of, exact, folder, cells, make_model)


def _grid(
    scale: Scale, common: Mapping[str, Any], seed: int, count: int, ratio: float, folder: Path, team: Workers
) -> tuple[tuple[float, ...], bool]:
    """Strengths that fall from λ_max, and whether it is one."""
    if scale.loss is None:
        raise ValueError("strengths and loss are None; accepted is one of them")
    if not (isinstance(count, int) and count >= 2):
        raise ValueError(f"n_strengths is {count!r}; accepted is a whole number of at least 2")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio is {ratio!r}; accepted is a number in (0, 1)")
    cell = Cell(SCALE, common, seed)
    record = team.measured([cell], scale, folder)[cell]
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
