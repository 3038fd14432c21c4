"""What `sparsity_record.py` chooses on validation images with tuning seeds: settings, and λ for each level."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sparsity_record_methods import FOUND, METHODS, ROUNDED, TOLD
from sparsity_record_run import CHOICE, Scale, training_cell

from nonsmooth import extremes
from nonsmooth.lab import Cell, Store

STRENGTHS = 5
"""λ tried with each combination of settings, before the levels are looked for one by one."""
FACTOR = 4.0
"""On λ, where all those tried give too few zeros or too many."""
NONE_LEFT = 1e-4
"""The share of weights that counts as none: what is left is looked at on a logarithmic scale."""


def tolerance(level: float) -> float:
    """How far from a level the zeros may be: one point, and at most a fifth of the weights that are left."""
    return extremes.smallest(0.01, (1 - level) / 5)


@dataclass(frozen=True)
class Trial:
    """One combination of settings: its means over the tuning seeds, of the zeros reached and of validation accuracy."""

    settings: dict[str, Any]
    zeros: float
    validation: float

    @property
    def setting(self) -> dict[str, Any]:
        """All but λ."""
        return {name: value for name, value in self.settings.items() if name != "strength"}

    @property
    def left(self) -> float:
        """The logarithm of the share of weights that are left."""
        return math.log(extremes.largest(1 - self.zeros, NONE_LEFT))


@dataclass(frozen=True)
class Choice:
    """What was chosen for a level: the trial, whether its zeros are within the tolerance, and from how many."""

    trial: Trial
    hit: bool
    tried: int


class Search:
    """The choice of one method on one network, from the runs that are stored.

    Every method has `trials` runs per level and tuning seed. One that is told the level spends them on settings. One
    that is rounded has each run judged at all levels, so it spends them all on settings and λ. One whose λ has to be
    found spends half on settings and a few λ, and half on closing in on each level with the best of the settings.
    """

    def __init__(self, scale: Scale, store: Store, network: str, method: str) -> None:
        self.scale, self.store, self.network, self.name = scale, store, network, method
        self.method = METHODS[method]
        self.missing: list[Cell] = []

    def cells(self, settings: dict[str, Any], level: float, stage: str, seeds: Sequence[int]) -> list[Cell]:
        """The runs of one combination."""
        return [training_cell(self.scale, self.network, self.name, settings, level, stage, seed) for seed in seeds]

    def trial(self, settings: dict[str, Any], level: float) -> Trial | None:
        """What the tuning seeds gave; None, and the missing runs noted, where there are any."""
        cells = self.cells(settings, level, CHOICE, self.scale.tuning_seeds)
        records = [record for record in map(self.store.load, cells) if record is not None]
        if len(records) < len(cells):
            found = {record.cell for record in records}
            self.missing += [cell for cell in cells if cell not in found]
            return None
        place = self.place(level)
        return Trial(
            settings, *(statistics.fmean(record[name][place] for record in records) for name in ("zeros", "validation"))
        )

    def place(self, level: float) -> int:
        """Where a run's values for a level are."""
        return (0.0, *self.scale.levels).index(level) if self.method.arrives == ROUNDED else 0

    def planned(self) -> list[dict[str, Any]]:
        """The combinations that are tried whatever comes out."""
        runs = self.scale.trials * len(self.scale.levels)
        if self.method.arrives == TOLD:
            return [dict(settings) for settings in self.method.settings[: self.scale.trials]]
        if not self.method.strengths:
            return [dict(settings) for settings in self.method.settings[:runs]]
        if self.method.arrives == FOUND:
            runs = max(1, runs // 2)
            count = STRENGTHS if runs > STRENGTHS else runs
            several = self.method.settings[: runs // count]
        else:
            several = self.method.settings[:runs]
            count = runs // len(several)
        low, high = self.method.range(self.network)
        strengths = np.geomspace(low, high, count)
        return [{**settings, "strength": float(f"{strength:.4g}")} for settings in several for strength in strengths]

    def trials(self, level: float) -> list[Trial]:
        """Those that are stored, of what is planned and of what follows from it for this level."""
        found = [trial for trial in (self.trial(settings, level) for settings in self.planned()) if trial is not None]
        if self.method.arrives != FOUND or len(found) < len(self.planned()):
            return found
        for _ in range(self.scale.trials - self.scale.trials // 2):
            strength = next_strength(found, level)
            trial = None if strength is None else self.trial(strength, level)
            if trial is None:
                break
            found.append(trial)
        return found

    def choice(self, level: float) -> Choice | None:
        """The best on validation among those with that share of zeros; the nearest, where none has it."""
        known = self.trials(level)
        if not known:
            return None
        hits = [trial for trial in known if abs(trial.zeros - level) <= tolerance(level) + 1e-9]
        if hits:
            return Choice(extremes.largest(hits, key=lambda trial: trial.validation), True, len(known))
        return Choice(extremes.smallest(known, key=lambda trial: abs(trial.zeros - level)), False, len(known))

    def levels(self) -> Iterator[float]:
        """Those that the method has a row for; the dense network has one, without zeros."""
        yield from self.scale.levels if self.name != "dense" else (0.0,)


def bracket(ordered: Sequence[Trial], level: float) -> tuple[Trial, Trial] | None:
    """Two neighbours, of trials in the order of λ, between which the share of zeros passes the level."""
    return next(((low, high) for low, high in pairwise(ordered) if low.zeros <= level <= high.zeros), None)


def between(low: Trial, high: Trial, level: float) -> float:
    """How far from one to the other the level lies, in the logarithm of the weights that are left."""
    if low.left == high.left:
        return 0.5
    return (low.left - math.log(1 - level)) / (low.left - high.left)


def next_strength(trials: Sequence[Trial], level: float) -> dict[str, Any] | None:
    """The settings whose validation accuracy at the level promises most, with the λ that should lead there.

    None where a λ of these settings has led there.
    """
    by_setting: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        by_setting.setdefault(tuple(trial.setting.items()), []).append(trial)
    promises = []
    for own in by_setting.values():
        ordered = sorted(own, key=lambda trial: trial.settings["strength"])
        pair = bracket(ordered, level)
        if pair is None:
            end = ordered[-1] if all(trial.zeros < level for trial in ordered) else ordered[0]
            strength = end.settings["strength"] * (FACTOR if end is ordered[-1] else 1 / FACTOR)
            validation = end.validation
        else:
            low, high = pair
            share = between(low, high, level)
            strength = low.settings["strength"] ** (1 - share) * high.settings["strength"] ** share
            validation = low.validation + share * (high.validation - low.validation)
        # Few digits, so that the same run is asked for on every machine.
        promises.append((pair is not None, validation, {**own[0].setting, "strength": float(f"{strength:.4g}")}, own))
    *_, settings, own = extremes.largest(promises, key=lambda promise: promise[:2])
    if any(abs(trial.zeros - level) <= tolerance(level) / 2 for trial in own):
        return None
    return settings
