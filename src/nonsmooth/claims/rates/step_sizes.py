"""§1 to §3: StepLR breaks the assumption Σα = ∞, and stops short where diminishing steps converge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.find_parts import find_part, find_parts
from nonsmooth.claims.framework.statistics import median_value, proportion_value
from nonsmooth.claims.rates.step_size_runs import FEATURES_L3, SCHEDULES, SMOOTH, STEP_SIZES, STEPS, run_problem, series
from nonsmooth.lab import Cell, Context, Record

DIMINISHING = "diminishing, p = 0.5"
HARMONIC = "diminishing, p = 1"
REDUCING = "StepLR(30, 0.1)"
PATIENT = ("StepLR(30, 0.5)", "StepLR(100, 0.5)", "StepLR(300, 0.5)")
"""Reducing schedules with a larger, still finite sum."""
AT_MINIMUM = 1e-9
"""A gap below this share of the first one counts as none."""
STUCK = 0.99
"""A run that keeps more than this share of its gap over the second half of its steps has stopped."""

CLAIM = Claim(
    id="step-sizes",
    title="Diminishing steps converge, reducing steps stop short",
    where="§1, §2 and §3",
    statement=(
        "PyTorch's StepLR is a convergent geometric series, so it breaks the assumption Σα = ∞ of the convergence "
        "theorems. Diminishing steps converge to the minimum; with reducing steps the error does not vanish."
    ),
    explanation=(
        "NGDM converges on non-differentiable functions under Σα = ∞ and α → 0 (Davis et al. 2020, A.3). With a finite "
        "sum that guarantee is lost, and the positive α at the end leaves an error across the kink."
    ),
    control=(
        "Reducing schedules with a larger, still finite sum: if the finite sum is the reason they stop short as well. "
        "The same schedules on differentiable functions, with α < 2/L: if the kink is the reason they do not stop "
        "short there. On L3 the total travel λΣα against the distance ‖β₀‖∞ to the minimum."
    ),
    paper=(Value("sum", "Σα of StepLR over α₀: finite", True),),
)


class Setting(NamedTuple):
    """One problem at one α₀, over its seeds."""

    record: Record
    position: int
    """Of α₀ among the step sizes of the problem."""

    @property
    def alpha(self) -> float:
        """α₀."""
        return float(self.record["alpha"][self.position])

    @property
    def problem(self) -> str:
        """Name of the problem."""
        return str(self.record.parameters["problem"])

    def end(self, schedule: str) -> list[float]:
        """Gap at the end over the gap at the start, by seed; 0 where the minimum is reached."""
        gaps = self.record["end"][list(SCHEDULES).index(schedule)][self.position]
        shares = [gap / first for gap, first in zip(gaps, self.record["start"], strict=True)]
        return [share if share > AT_MINIMUM else 0.0 for share in shares]

    def higher(self, one: str, other: str) -> Value:
        """The share of seeds in which one schedule ends above another."""
        count = sum(a > b for a, b in zip(self.end(one), self.end(other), strict=True))
        label = f"{one} ends above {other}, {self.problem}, α₀ = {self.alpha:g}"
        return proportion_value(f"{self.problem}_{self.alpha:g}".replace(" ", "_"), label, count, len(self.end(one)))

    def stuck(self, schedule: str) -> bool:
        """Whether the median run has a gap and makes no progress in the second half of its steps."""
        row = list(SCHEDULES).index(schedule)
        end, half = (self.record[name][row][self.position] for name in ("end", "half"))
        kept = sum(a > STUCK * b for a, b in zip(end, half, strict=True))
        return 2 * kept > len(end) and sum(share > 0 for share in self.end(schedule)) * 2 > len(end)


def plan(settings: Settings) -> list[Cell]:
    """The series, and one cell per problem."""
    seeds = settings.seed_range({"quick": 6, "standard": 50, "paper": 50}[settings.scale])
    cells = [Cell(CLAIM.id, {"part": "series"}, cost=0.2)]
    for problem, alphas in STEP_SIZES.items():
        cost = len(seeds) * len(alphas) * (0.02 if problem in ("L3", "L3 twin") else 0.1)
        cells.append(
            Cell(
                CLAIM.id,
                {"part": "run", "problem": problem, "steps": STEPS, "seeds": len(seeds)},
                seed=seeds.start,
                cost=cost,
            )
        )
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """The sums of the schedules, or all schedules on one problem."""
    del context
    if cell.parameters["part"] == "series":
        return series()
    return run_problem(str(cell.parameters["problem"]), int(str(cell.parameters["seeds"])), cell.seed)


def _settings(records: Sequence[Record], smooth: bool) -> list[Setting]:
    """Every problem and α₀, of the differentiable problems or of the others."""
    runs = [r for r in find_parts(records, "run") if (r.parameters["problem"] in SMOOTH) == smooth]
    return [Setting(r, i) for r in runs for i in range(len(r["alpha"]))]


def _above(share: Value) -> bool:
    """Whether the interval lies above one half."""
    return float(share.low or 0) > 0.5


def _below(share: Value) -> bool:
    """Whether the interval lies below one half."""
    return float(share.high or 0) < 0.5


def judge(records: Sequence[Record]) -> Judgement:
    """The series first, then the effect setting by setting, then what explains it.

    Not reproduced: the sum of StepLR is not the finite geometric series, or a diminishing schedule's is finite. Then,
    in each setting (a problem with a kink and an α₀), the effect is shown if StepLR(30, 0.1) ends above the
    diminishing steps α₀/√(t+1) after as many steps, in more than half of the seeds with the whole interval of the
    share, and reversed if in less than half. If no setting shows it: "inconclusive" if none is reversed either, else
    "not reproduced". Otherwise the explanation is tested in the settings that show it: it fails if some slower
    reducing schedule, whose sum is finite too, does not end above the diminishing steps in most of them (a share
    whose interval does not exceed one half), or if more than half of the settings of the differentiable
    problems show the effect. Then "reproduced, explanation not supported"; else "reproduced".
    """
    sums = find_part(records, "series")
    finite, broken = _series_values(sums)
    kinked, smooth = _settings(records, smooth=False), _settings(records, smooth=True)
    effect = [setting.higher(REDUCING, DIMINISHING) for setting in kinked]
    shown = [setting for setting, share in zip(kinked, effect, strict=True) if _above(share)]
    reversed_ = [setting for setting, share in zip(kinked, effect, strict=True) if _below(share)]
    in_smooth = [setting.higher(REDUCING, DIMINISHING) for setting in smooth]
    smooth_shown = sum(map(_above, in_smooth))
    sufficient = {name: sum(not _above(s.higher(name, DIMINISHING)) for s in shown) for name in PATIENT}
    enough = extremes.largest(sufficient, key=lambda name: sufficient[name])
    control = (
        *in_smooth,
        Value("smooth_shown", "settings of differentiable problems with the effect", smooth_shown, count=len(smooth)),
        *(
            Value(f"enough_{i}", f"settings with the effect in which {name} does not have it", number, count=len(shown))
            for i, (name, number) in enumerate(sufficient.items())
        ),
        *_stuck_values(kinked, smooth),
        *_travel_values(records, sums),
    )
    certificate = extremes.largest(r["certificate"] for r in find_parts(records, "run"))
    measured = (*finite, *effect, Value("certificate", "largest duality gap of the minima of L4", certificate))
    predicted = (Value("steplr_sum", "every/(1-γ), StepLR(30, 0.1)", 30 / (1 - 0.1)),)
    where = _ranges(shown)
    rest: dict[str, Any] = {"measured": measured, "control": control, "predicted": predicted}
    rest["headline"] = Headline(
        paper="Σα of StepLR finite; reducing steps stop short, diminishing ones converge",
        ours=(
            f"Σα = {_limit(sums, REDUCING):.4g} α₀; StepLR ends higher in {len(shown)} of {len(kinked)} settings, "
            f"lower in {len(reversed_)}"
        ),
        control=(
            f"slower reducing {sufficient[enough]} of {len(shown)} without the effect; "
            f"differentiable problems {smooth_shown} of {len(smooth)} with it"
        ),
    )
    faster = sum(_below(setting.higher(REDUCING, HARMONIC)) for setting in kinked)
    rest["notes"] = (
        f"The steps α₀/(t+1) meet Σα = ∞, but in a run of {_steps(records):,} steps StepLR(30, 0.1) ends below them in "
        f"{faster} of {len(kinked)} settings: their sum grows like the logarithm of the number of steps.",
        "Both schedules end with a positive α after any number of steps that a run can take, so a positive last step "
        "does not tell them apart; how α and Σα compare with the distance to the minimum does.",
    )
    if broken:
        return Judgement(Verdict.NOT_REPRODUCED, broken, **rest)
    because = (
        f"Σα of StepLR(30, 0.1) is {_limit(sums, REDUCING):.4g} α₀, finite. After {_steps(records):,} steps it ends "
        f"above α₀/√(t+1) in {len(shown)} of {len(kinked)} settings"
        + (f" ({where})" if where else "")
        + f" and below it in {len(reversed_)}"
        + (f" ({_ranges(reversed_)}). " if reversed_ else ". ")
    )
    if not shown:
        if reversed_:
            return Judgement(Verdict.NOT_REPRODUCED, because, **rest)
        decided = "at least 6 seeds: with fewer no share is distinguishable from one half"
        return Judgement(Verdict.INCONCLUSIVE, because, decided_by=decided, **rest)
    because += _travel_sentence(records, sums)
    fails = 2 * sufficient[enough] > len(shown) or 2 * smooth_shown > len(smooth)
    if fails:
        because += "But " + ", and ".join(
            text
            for text, applies in (
                (
                    f"a finite sum is not the reason: {enough}, finite too, does not end above the diminishing steps "
                    f"in {sufficient[enough]} of those {len(shown)} settings",
                    2 * sufficient[enough] > len(shown),
                ),
                (
                    f"no kink is needed: differentiable problems show the effect in {smooth_shown} of {len(smooth)} "
                    "settings",
                    2 * smooth_shown > len(smooth),
                ),
            )
            if applies
        )
        because += "."
        return Judgement(Verdict.EXPLANATION_NOT_SUPPORTED, because, **rest)
    because += "Slower reducing schedules stop short as well, and differentiable problems do not."
    return Judgement(Verdict.REPRODUCED, because, **rest)


def _limit(sums: Record, schedule: str) -> float:
    """Σα over α₀, to infinity."""
    return float(sums["limits"][sums["names"].index(schedule)])


def _series_values(sums: Record) -> tuple[tuple[Value, ...], str]:
    """The sums of the schedules, and what contradicts the paper's statement on them (empty where nothing does)."""
    values: list[Value] = []
    broken = ""
    for name, partial, limit in zip(sums["names"], sums["sums"], sums["limits"], strict=True):
        values.append(Value(f"sum_{len(values)}", f"Σα/α₀ after {sums['lengths'][-1]:,} steps, {name}", partial[-1]))
        if name.startswith("StepLR") and not math.isclose(partial[-1], limit, rel_tol=1e-9):
            broken = f"The sum of {name} is {partial[-1]:.6g} α₀, not the geometric series' {limit:.6g} α₀."
        # Over a tenfold length a convergent sum of this kind gains next to nothing.
        if name.startswith("diminishing") and partial[-1] < partial[-2] * 1.05:
            broken = f"The sum of the {name} steps stays at {partial[-1]:.6g} α₀: it is not seen to diverge."
    return tuple(values), broken


def _steps(records: Sequence[Record]) -> int:
    """Number of steps of the runs."""
    return int(find_parts(records, "run")[0].parameters["steps"])


def _ranges(settings: Sequence[Setting]) -> str:
    """Problems with their smallest and largest α₀, in words."""
    by_problem: dict[str, list[float]] = {}
    for setting in settings:
        by_problem.setdefault(setting.problem, []).append(setting.alpha)
    texts = [
        f"{name} at α₀ = {extremes.smallest(a):g}" + (f" to {extremes.largest(a):g}" if len(a) > 1 else "")
        for name, a in by_problem.items()
    ]
    return ", ".join(texts)


def _stuck_values(kinked: Sequence[Setting], smooth: Sequence[Setting]) -> tuple[Value, ...]:
    """In how many settings the median run has stopped with a gap left."""
    values = []
    for key, words, settings in (("kink", "with a kink", kinked), ("smooth", "differentiable", smooth)):
        for name, schedule in (("reducing", REDUCING), ("diminishing", DIMINISHING), ("summable", "summable, p = 2")):
            label = f"settings in which {schedule} has stopped short of the minimum, problems {words}"
            values.append(
                Value(f"stuck_{name}_{key}", label, sum(s.stuck(schedule) for s in settings), count=len(settings))
            )
    return tuple(values)


def _travel_runs(records: Sequence[Record], sums: Record) -> list[tuple[bool, bool]]:
    """On L3, for each summable schedule, α₀ and seed: whether λΣα reaches ‖β₀‖∞, and whether the run has settled.

    A settled coordinate lies within αλ of zero, α the last step, so the gap is at most Pαλ².
    """
    pairs = []
    for record in find_parts(records, "run", problem="L3"):
        for position, name in enumerate(sums["names"]):
            if not name.startswith(("StepLR", "summable")):
                continue
            for index, alpha in enumerate(record["alpha"]):
                travel, floor = alpha * sums["travel"][position], FEATURES_L3 * alpha * sums["last"][position]
                ends = record["end"][position][index]
                pairs += [
                    (travel >= farthest, gap <= floor) for gap, farthest in zip(ends, record["farthest"], strict=True)
                ]
    return pairs


def _travel_values(records: Sequence[Record], sums: Record) -> tuple[Value, ...]:
    """How often the total travel decides whether a summable schedule reaches the minimum of L3."""
    pairs = _travel_runs(records, sums)
    far = [settled for enough, settled in pairs if enough]
    short = [settled for enough, settled in pairs if not enough]
    values = []
    for name, words, runs in (("far", "λΣα ≥ ‖β₀‖∞", far), ("short", "λΣα < ‖β₀‖∞", short)):
        if runs:
            label = f"L3, finite Σα, {words}: runs that end within αλ of the minimum, α the last step"
            values.append(proportion_value(f"travel_{name}", label, sum(runs), len(runs)))
    return tuple(values)


def _travel_sentence(records: Sequence[Record], sums: Record) -> str:
    """What decides on L3, in words."""
    values = {v.name: v for v in _travel_values(records, sums)}
    if len(values) < 2:
        return ""
    return (
        f"On L3 the schedules of finite sum end within the last αλ of the minimum in {values['travel_far'].value:.0%} "
        f"of the runs whose steps can reach it (λΣα ≥ ‖β₀‖∞) and in {values['travel_short'].value:.0%} of the others. "
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Gaps along the run for each problem, and the gap at the end against the total travel."""
    panels = []
    tones = {
        "constant": "neutral",
        DIMINISHING: "paper",
        HARMONIC: "a",
        REDUCING: "ours",
        PATIENT[-1]: "control",
    }
    for record in find_parts(records, "run"):
        problem, middle = record.parameters["problem"], len(record["alpha"]) // 2
        lines = []
        for name, tone in tones.items():
            curve = record["median"][list(SCHEDULES).index(name)][middle]
            pairs = [(k, gap if gap > 0 else None) for k, gap in zip(record["steps"], curve, strict=True) if k > 0]
            lines.append(Series("line", name, [k for k, _ in pairs], [gap for _, gap in pairs], tone=tone))
        title = f"{problem}, α₀ = {record['alpha'][middle]:g}"
        panels.append(Panel(title, Axis("step t", True), Axis("median f - f*", True), tuple(lines)))
    along = Figure(
        "The same α₀ under five schedules",
        "Medians over seeds. A curve that turns flat has stopped short. StepLR does so where its steps are spent "
        "before the minimum is near, on the differentiable problems as well; with a slower reduction it does not.",
        tuple(panels),
    )
    return [along, _draw_travel(records)]


def _draw_travel(records: Sequence[Record]) -> Figure:
    """The gap left on L3 and its twin against the total travel."""
    sums = find_part(records, "series")
    panels = []
    for problem in ("L3", "L3 twin"):
        for record in find_parts(records, "run", problem=problem):
            groups: dict[str, list[tuple[float, float]]] = {}
            for position, (name, travel) in enumerate(zip(sums["names"], sums["travel"], strict=True)):
                for index, alpha in enumerate(record["alpha"]):
                    ends = zip(record["end"][position][index], record["start"], strict=True)
                    left = median_value("left", "", [gap / first for gap, first in ends]).value
                    groups.setdefault(name.split("(")[0].split(",")[0], []).append(
                        (alpha * travel, extremes.largest(float(left or 0), AT_MINIMUM))
                    )
            series_ = [
                Series("points", name, [x for x, _ in points], [y for _, y in points], tone=tone)
                for (name, points), tone in zip(groups.items(), ("neutral", "paper", "a", "ours"), strict=False)
            ]
            rule = Series("vertical", "distance to the minimum", (1.0,), tone="theory", dashed=True)
            panels.append(
                Panel(problem, Axis("total travel λΣα", True), Axis("gap left, share", True), (*series_, rule))
            )
    return Figure(
        "What stops a run short: how far its steps can take it",
        "One point per schedule and α₀. Left of the rule the steps cannot reach the minimum, whether their sum to "
        f"infinity is finite or not; right of it the last α sets the gap. Points at {AT_MINIMUM:g} are at the minimum.",
        tuple(panels),
    )
