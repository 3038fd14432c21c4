"""What is measured: a declared quantity, and the findings that evidence makes of it.

A quantity is declared once, with its name and its label. From evidence it makes a finding (`cycles.share(199, 200)`);
in a rule it makes a condition (`cycles < 0.99`). So what is listed, what is judged and what is printed are one thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nonsmooth.number_text import format_number

CONFIDENCE = 0.95
"""Of every interval, unless the label says otherwise."""


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that the evidence leaves it.

    Attributes:
        name: identifier within the claim: what a notebook looks up.
        label: what a reader sees.
        value: the number; NaN where it cannot be had.
        low: lower end of the interval (95 % unless the label says otherwise); None for a number without one, which
            is what a computation without chance gives.
        high: upper end.
        count: number of seeds (or repetitions) behind it; None for one without.
        unit: unit, "" for a pure number.
    """

    name: str
    label: str
    value: float | int
    low: float | None = None
    high: float | None = None
    count: int | None = None
    unit: str = ""

    @property
    def lower(self) -> float:
        """Lower end of the interval; the number itself where there is none."""
        return float(self.value if self.low is None else self.low)

    @property
    def upper(self) -> float:
        """Upper end of the interval; the number itself where there is none."""
        return float(self.value if self.high is None else self.high)

    @property
    def hits(self) -> int:
        """Of a share: how many of the `count`."""
        return round(self.value * (self.count or 0))

    def __format__(self, spec: str) -> str:
        """Without a specification number and interval; "v" for the number alone; else Python's, of the number."""
        if spec == "":
            return str(self)
        return format_number(self.value) if spec == "v" else format(self.value, spec)

    def __str__(self) -> str:
        text = format_number(self.value)
        if self.low is not None and self.high is not None:
            text += f" [{format_number(self.low)}, {format_number(self.high)}]"
        return f"{text} {self.unit}".rstrip()


@dataclass(frozen=True)
class Fact:
    """A yes or a no."""

    name: str
    label: str
    value: bool

    def __str__(self) -> str:
        return format_number(self.value)


@dataclass(frozen=True)
class Word:
    """A text that the evidence chose, such as the name of the best method."""

    name: str
    label: str
    value: str

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Missing:
    """What could not be had, and why. A rule that needs it decides nothing."""

    name: str
    label: str
    reason: str = "was not measured"
    value: None = None

    def __format__(self, spec: str) -> str:
        return str(self)

    def __str__(self) -> str:
        return format_number(None)


Finding: TypeAlias = Estimate | Fact | Word | Missing


def Value(  # noqa: N802  was a class, and reads as one
    name: str,
    label: str,
    value: float | int | str | bool | None,
    low: float | None = None,
    high: float | None = None,
    count: int | None = None,
    unit: str = "",
) -> Finding:
    """A finding by the type of its value: `Fact` of a bool, `Word` of a text, `Missing` of None, else `Estimate`."""
    if value is None:
        return Missing(name, label)
    if isinstance(value, bool | np.bool_):
        return Fact(name, label, bool(value))
    if isinstance(value, str):
        return Word(name, label, value)
    return Estimate(name, label, value, low, high, count, unit)


@cache
def _share_interval(successes: int, count: int) -> tuple[float, float]:
    """Clopper and Pearson's interval. A study judges the same counts under many alternatives."""
    from scipy import stats  # noqa: PLC0415  slow to load, and listing the claims does not need it

    interval = stats.binomtest(successes, count).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


@cache
def _median_rank(count: int) -> int:
    """Of the order statistic at which the interval of a median begins, from 1; 0 where none reaches 95 %."""
    from scipy import stats  # noqa: PLC0415  as above

    return int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))


def median_interval(samples: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """The median and its exact distribution-free interval, between two order statistics (the sign test inverted).

    With fewer than six samples no pair of them reaches 95 %, and the interval is the whole range. NaN among the
    samples makes all three NaN.

    Raises:
        ValueError: there are no samples.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(ordered)
    if count == 0:
        raise ValueError("there are no samples")
    if np.isnan(ordered).any():
        return math.nan, math.nan, math.nan
    rank = max(1, _median_rank(count))
    return float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[count - rank])


@dataclass(frozen=True)
class Quantity:
    """The declaration of something measured: it makes findings from evidence, and conditions in a rule.

    Attributes:
        name: identifier within the claim, snake_case.
        label: what a reader sees; it completes "... is below 0.99".
        unit: unit, "" for a pure number.
    """

    name: str
    label: str
    unit: str = ""

    def number(self, value: float | int | None, count: int | None = None) -> Estimate | Missing:
        """A number without chance, or one whose chance is not quantified; None is `Missing`."""
        return self.missing() if value is None else Estimate(self.name, self.label, value, count=count, unit=self.unit)

    def estimate(self, value: float, low: float, high: float, count: int | None = None) -> Estimate:
        """A number whose interval was computed elsewhere."""
        return Estimate(self.name, self.label, value, low, high, count, self.unit)

    def share(self, successes: int, count: int) -> Estimate | Missing:
        """A share of successes with its exact (Clopper-Pearson) interval; of none, `Missing`.

        Raises:
            ValueError: `successes` does not lie between 0 and `count`.
        """
        if count == 0:
            return self.missing("has no run behind it")
        if count < 0 or not 0 <= successes <= count:
            raise ValueError(f"{self.name}: {successes} successes out of {count}")
        low, high = _share_interval(int(successes), int(count))
        return Estimate(self.name, self.label, successes / count, low, high, count, self.unit)

    def share_of(self, flags: npt.ArrayLike) -> Estimate | Missing:
        """The share of the flags that are true; `Missing` where there is none, or one is not a number."""
        array = np.asarray(flags, dtype=np.float64)
        if np.isnan(array).any():
            return self.missing("is not a number in some of the runs")
        return self.share(int(array.sum()), array.size)

    def any_of(self, flags: npt.ArrayLike) -> Fact | Missing:
        """Whether one of the flags is true; `Missing` where there is none, or one is not a number.

        A statement about all runs is refuted by one of them, however many share their data: no interval is needed.
        """
        array = np.asarray(flags, dtype=np.float64)
        if array.size == 0:
            return self.missing("has no run behind it")
        return (
            self.missing("is not a number in some of the runs")
            if np.isnan(array).any()
            else self.fact(bool(array.any()))
        )

    def median(self, samples: Sequence[float] | np.ndarray) -> Estimate | Missing:
        """The median of the samples with its exact interval; of none, `Missing`.

        With fewer than six samples the interval is their range, which the label says; a single one decides nothing,
        and its interval is the whole line.
        """
        if len(samples) == 0:
            return self.missing("has no run behind it")
        value, low, high = median_interval(samples)
        if len(samples) == 1:
            low, high = -math.inf, math.inf
        label = f"{self.label} (range)" if 1 < len(samples) < 6 else self.label
        return Estimate(self.name, label, value, low, high, len(samples), self.unit)

    def mean(self, samples: Sequence[float] | np.ndarray) -> Estimate | Missing:
        """The mean of the samples with its t interval; with a single one the interval is the whole line."""
        if len(samples) == 0:
            return self.missing("has no run behind it")
        from scipy import stats  # noqa: PLC0415  as above

        array = np.asarray(samples, dtype=np.float64)
        count, mean = len(array), float(array.mean())
        half = math.inf
        if count > 1:
            half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * array.std(ddof=1) / math.sqrt(count))
        return Estimate(self.name, self.label, mean, mean - half, mean + half, count, self.unit)

    def slope(self, x: Sequence[float], y: Sequence[float]) -> Estimate:
        """The least-squares slope of y on x with its t interval; `count` is the number of points.

        Raises:
            ValueError: fewer than three points.
        """
        from scipy import stats  # noqa: PLC0415  as above

        if len(x) < 3 or len(x) != len(y):
            raise ValueError(
                f"{self.name}: a slope with an interval needs at least 3 points; there are {len(x)} x, {len(y)} y"
            )
        fit = stats.linregress(x, y)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2)) * float(fit.stderr)
        slope = float(fit.slope)
        return Estimate(self.name, self.label, slope, slope - half, slope + half, len(x), self.unit)

    def fact(self, value: bool) -> Fact:
        """A yes or a no."""
        return Fact(self.name, self.label, bool(value))

    def word(self, value: str) -> Word:
        """A text."""
        return Word(self.name, self.label, value)

    def missing(self, reason: str = "was not measured") -> Missing:
        """What could not be had; `reason` completes "<label> ..."."""
        return Missing(self.name, self.label, reason)


class Findings(Mapping[str, Finding]):
    """What the evidence gave, by name.

    Args:
        measured: on the paper's own set-up.
        control: in the experiments that could refute the paper's explanation.
        predicted: by a formula or a model; listed beside the measured ones, and not looked up.
        derived: what only the rule and the texts use.
        notes: what a careful reader should know, a sentence each.

    Raises:
        ValueError: two findings that can be looked up have the same name.
    """

    def __init__(
        self,
        measured: Sequence[Finding] = (),
        control: Sequence[Finding] = (),
        predicted: Sequence[Finding] = (),
        derived: Sequence[Finding] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.measured, self.control, self.predicted = tuple(measured), tuple(control), tuple(predicted)
        self.notes = tuple(notes)
        self._by_name: dict[str, Finding] = {}
        for finding in (*self.measured, *self.control, *derived):
            if finding.name in self._by_name:
                raise ValueError(f"two findings have the name {finding.name!r}")
            self._by_name[finding.name] = finding

    def __getitem__(self, name: str) -> Finding:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def fill(self, template: str) -> str:
        """A text with the findings that it names in braces, such as "{cycles:.0%} of {cycles.count:,} starts"."""
        return template.format_map(_Named(self._by_name))

    def fill_known(self, template: str) -> str:
        """The same; empty where the text wants the number of a finding that is missing."""
        try:
            return self.fill(template)
        except (ValueError, TypeError, AttributeError):
            return ""


class _Named(dict[str, Any]):
    """What a template looks up; a name that is not there is a mistake of the claim, and is said as one."""

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"no finding has the name {name!r} that a text asks for; there are {sorted(self)}")
