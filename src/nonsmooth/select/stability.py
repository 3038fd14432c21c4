"""Stability selection: which features are chosen again and again on halves of the data."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonsmooth.lab import Cell, Context, Watcher
from nonsmooth.select import identity
from nonsmooth.select.running import UserCode, Workers, seeded
from nonsmooth.select.stability_results import StabilitySelection, selection_from

STABILITY = "stability-selection"

Select = Callable[[NDArray[np.int64], int], Any]


@dataclass(frozen=True)
class Subsample(UserCode):
    """Selects on one subsample, or on one pair of disjoint ones.

    Attributes:
        select: rows, seed → what is chosen on them.
        samples: number of rows.
        complementary: whether it is a pair.
    """

    select: Select
    samples: int
    complementary: bool

    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """The user's function."""
        return {"select": self.select}

    def __call__(self, cell: Cell, context: Context) -> dict[str, Any]:
        """What is chosen: the shape of the mask, and for each subsample the places in it that are true."""
        del context
        self.stop_if_asked()
        place: Any = cell.parameters["subsample"]
        generator = np.random.default_rng([cell.seed, place])
        order, half = generator.permutation(self.samples), self.samples // 2
        parts = [order[:half], order[half : 2 * half]] if self.complementary else [order[:half]]
        masks = []
        for part in parts:
            seed = int(generator.integers(2**31))
            with seeded(seed):
                masks.append(_checked_mask(self.select(np.sort(part), seed)))
        shapes = sorted({mask.shape for mask in masks})
        if len(shapes) > 1:
            raise ValueError(f"select returned masks of the shapes {shapes}; accepted is one shape for all subsamples")
        return {"shape": list(shapes[0]), "chosen": [np.flatnonzero(mask).tolist() for mask in masks]}


def stability_selection(
    select: Select,
    samples: int,
    *,
    subsamples: int = 100,
    threshold: float | None = None,
    false_positives: float | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    complementary: bool = True,
    folder: str | Path | None = None,
    name: str = "stability",
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    watcher: Watcher | None = None,
) -> StabilitySelection:
    """Select the features that a method chooses on most halves of the data, with a bound on the false ones.

    A method that chooses features, such as a penalised model along a path of λ, is run on subsamples of half the data,
    drawn without replacement. Selected is what some λ chooses in at least a share π of the subsamples, the threshold.
    Of the number V of false selections Meinshausen & Bühlmann (2010, Theorem 1) show, for π in (1/2, 1),

        E[V] ≤ q² / ((2π - 1) p),

    where p is the number of features and q the mean number chosen on a subsample, counting what any λ chooses. They
    assume that the noise features are exchangeable, so that each is as likely to be chosen as another, and that the
    method is no worse than guessing: true features are at least as likely to be chosen. Noise features that are
    correlated with true ones are not exchangeable.

    The subsamples are pairs of disjoint halves, unless `complementary` is False. For these Shah & Samworth (2013,
    Theorem 1) show the same bound without either assumption, and for any number of pairs: it is then on the number of
    selected features that the method chooses with a probability of at most q/p, the average over all features.

    q is estimated from the subsamples, so the bound is an estimate too. The fewer features the λ let in, the smaller it
    is, with the square; where it is not small compared with what is selected, take larger λ only.

    Args:
        select: rows, seed → what is chosen when it is fitted on these rows: bool, (features,), or (λ, features) for
            several λ. Groups count as features, one entry each. The rows are sorted indices, int64.
        samples: number of rows of the data, N; subsamples have ⌊N/2⌋.
        subsamples: how many; even, where they are pairs.
        threshold: π in (0.5, 1]; 0.6 where neither it nor `false_positives` is given.
        false_positives: choose the threshold that bounds E[V] by this number instead; where none up to 1 does, nothing
            is selected, and the result says so.
        names: of the features; None for their numbers.
        seed: of the subsamples, and of the seeds that `select` gets.
        complementary: draw pairs of disjoint halves.
        folder: where what was chosen is kept, so that a run that was stopped goes on; None to keep nothing.
        name: of the experiment.
        settings: scalars and tuples of scalars that tell it from others of its name. The code of `select` and the
            arrays that it reads tell too, as for `sparsity_path`.
        workers: how many subsamples are worked on at once, as for `sparsity_path`.
        executor: works on them in place of processes here.
        watcher: is told how the run goes.

    Raises:
        TypeError: another process could not import `select`, or what it returns is not of booleans.
        ValueError: an argument is out of its range, or both `threshold` and `false_positives` are given.
        LabError: `select` raised where work is done in cells, the folder is in use, or a worker died.
        Interrupted: on Ctrl-C or a request to terminate.
    """
    _check(samples, subsamples, threshold, false_positives, complementary=complementary)
    draw = Subsample(select, samples, complementary)
    common = identity.parameters(name, settings, draw.functions())
    cells = [
        Cell(STABILITY, {**common, "samples": samples, "complementary": complementary, "subsample": place}, seed)
        for place in range(subsamples // 2 if complementary else subsamples)
    ]
    if folder is None and executor is None and workers == 1:
        found = [draw(cell, Context()) for cell in cells]
    else:
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary if folder is None else folder)
            records = Workers(workers, executor, watcher).measured(cells, draw, place)
        found = [dict(records[cell].values) for cell in cells]
    return selection_from(_masks(found), threshold, false_positives, names, complementary=complementary)


def _masks(found: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """Where is true what records say, (subsamples, λ, features)."""
    shapes = sorted({tuple(record["shape"]) for record in found})
    if len(shapes) > 1:
        raise ValueError(f"select returned masks of the shapes {shapes}; accepted is one shape for all subsamples")
    chosen = list(itertools.chain.from_iterable(record["chosen"] for record in found))
    masks = np.zeros((len(chosen), math.prod(shapes[0])), dtype=bool)
    for mask, places in zip(masks, chosen, strict=True):
        mask[np.asarray(places, dtype=np.int64)] = True
    return masks.reshape(len(chosen), *shapes[0])


def _checked_mask(mask: Any) -> NDArray[np.bool_]:
    """A mask as an array, (λ, features)."""
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"select returned an array of {array.dtype}; accepted is bool, True for what is chosen")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"select returned the shape {array.shape}; accepted is (features,) or (λ, features)")
    return np.atleast_2d(array)


def _check(
    samples: int, subsamples: int, threshold: float | None, false_positives: float | None, *, complementary: bool
) -> None:
    if not (isinstance(samples, int | np.integer) and samples >= 2):
        raise ValueError(f"samples is {samples!r}; accepted is the number of rows, at least 2")
    if not (isinstance(subsamples, int) and subsamples >= 1) or (complementary and subsamples % 2):
        accepted = "an even number, of pairs" if complementary else "a whole number of at least 1"
        raise ValueError(f"subsamples is {subsamples!r}; accepted is {accepted}")
    if threshold is not None and false_positives is not None:
        raise ValueError(
            f"threshold is {threshold} and false_positives {false_positives}; accepted is one of them, as each follows "
            "from the other"
        )
    if threshold is not None and not 0.5 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; accepted is a number in (0.5, 1], where the bound holds")
    if false_positives is not None and not 0 < false_positives < math.inf:
        raise ValueError(f"false_positives is {false_positives}; accepted is a number above 0")
