"""What the records of claim `step-sizes` say: who is ahead, who has stopped, and who arrives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nonsmooth.claims.framework import Estimate, Finding, NotStoredError, Quantity, Runs
from nonsmooth.claims.rates.step_size_runs import (
    AT_MINIMUM,
    DIMINISHING,
    FINITE,
    INFINITE,
    LENGTHS,
    REDUCING,
    SCHEDULES,
    STEP_SIZES,
    WIDTH,
)
from nonsmooth.lab import Record

LAST_STEP, FIRST_STEP = "αλ of the last step", "α₀λ"
"""Distances up to which a run on L3 may count as arrived."""
STUCK = 0.99
"""A run that keeps more than this share of its gap over the second half of its steps has stopped."""


def share_left(gap: np.ndarray, start: Sequence[float]) -> np.ndarray:
    """A gap over that at the start, of arrays whose last axis is the seed; 0 where the minimum is reached."""
    share = np.asarray(gap) / np.asarray(start)
    left: np.ndarray = np.where(share > AT_MINIMUM, share, 0.0)
    return left


def ends_above(run: Record, one: str = REDUCING, other: str = DIMINISHING) -> list[Estimate]:
    """By α₀, the share of seeds in which one schedule ends above another."""
    left, names = share_left(np.array(run["end"]), run["start"]), list(SCHEDULES)
    found = []
    for alpha, higher in zip(run["alpha"], left[names.index(one)] > left[names.index(other)], strict=True):
        problem = run.parameters["problem"]
        label = f"{one} ends above {other}, {problem}, α₀ = {alpha:g}"
        share = Quantity(f"{problem}_{alpha:g}".replace(" ", "_"), label).share(int(higher.sum()), len(higher))
        assert isinstance(share, Estimate)
        found.append(share)
    return found


def settings_above(runs: Runs, problems: Sequence[str], length: int) -> Finding:
    """The share of settings with a kink in which StepLR is above the diminishing steps after so many steps."""
    at, names = LENGTHS.index(length), list(SCHEDULES)
    left = [share_left(np.array(r["gap"])[:, :, at], r["start"]) for r in (runs.one(problem=p) for p in problems)]
    seeds = sorted(row.shape[-1] for row in left)[0]
    higher = np.concatenate([(row[names.index(REDUCING)] > row[names.index(DIMINISHING)])[:, :seeds] for row in left])
    label = f"settings with a kink in which {REDUCING} is above {DIMINISHING} after {length:,} steps"
    return Quantity(f"higher_{length}", label).median(higher.mean(0))


def count_arrivals(
    run: Record, length: int, summable: Sequence[str], arrival: float | str = LAST_STEP
) -> dict[tuple[bool, bool], tuple[int, int]]:
    """By whether the sum is finite and whether the travel is enough: from how many starts the runs arrive, of how many.

    A run arrives if ‖β‖∞ is at most `arrival`, and on the twin if it is at most its width ε; from a start the runs
    arrive if more than half of those with this travel do.

    Raises:
        NotStoredError: a size is not a number.
    """
    if np.isnan(np.array(run["size"])).any():
        raise NotStoredError(f"‖β‖∞ is not a number in a run on {run.parameters['problem']}")
    at, twin, farthest = LENGTHS.index(length), "twin" in str(run.parameters["problem"]), run["farthest"]
    runs: dict[tuple[bool, bool], list[list[float]]] = {(a, b): [] for a in (False, True) for b in (False, True)}
    for name in (*summable, *INFINITE):
        factors = [SCHEDULES[name].factor(t) for t in range(length)]
        for alpha, sizes in zip(STEP_SIZES["L3"], run["size"][list(SCHEDULES).index(name)], strict=True):
            near = {LAST_STEP: alpha * factors[-1], FIRST_STEP: alpha}.get(str(arrival), arrival)
            arrived = np.array(sizes[at]) <= (WIDTH if twin else float(near) * (1 + 1e-9))
            ahead = np.array(farthest) - alpha * math.fsum(factors)
            for far, chosen in ((True, ahead <= 0), (False, ahead > (WIDTH if twin else 0.0))):
                runs[name in FINITE, far].append(np.where(chosen, arrived, np.nan).tolist())
    counted: dict[tuple[bool, bool], tuple[int, int]] = {}
    for key, rows in runs.items():
        starts = [[a for a in start if not math.isnan(a)] for start in zip(*rows, strict=True)]
        counted[key] = (sum(sum(a) > len(a) / 2 for a in starts if a), sum(map(bool, starts)))
    return counted


def stuck_settings(runs: Mapping[str, Record], kinked: Sequence[str], smooth: Sequence[str]) -> list[Finding]:
    """In how many settings the median run has a gap and makes no progress in the second half of its steps."""
    found: list[Finding] = []
    for key, words, problems in (("kink", "with a kink", kinked), ("smooth", "differentiable", smooth)):
        for name, schedule in (("reducing", REDUCING), ("diminishing", DIMINISHING), ("summable", "summable, p = 2")):
            stuck = []
            for run in (runs[problem] for problem in problems):
                row = list(SCHEDULES).index(schedule)
                end, half = np.array(run["end"][row]), np.array(run["half"][row])
                left = share_left(end, run["start"])
                stuck += list(((end > STUCK * half).mean(1) > 0.5) & ((left > 0).mean(1) > 0.5))
            label = f"settings in which {schedule} has stopped short of the minimum, problems {words}"
            found.append(Quantity(f"stuck_{name}_{key}", label).number(int(sum(stuck)), len(stuck)))
    return found
