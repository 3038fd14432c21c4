"""Which methods keep the right support under minibatch noise, and how much tuning of the step size that takes.

    python benchmarks/support_noise.py [--quick] [--output docs/benchmarks/support-noise.md]

Every method runs on ten problems with a certified solution, at seven step sizes; all of them at once, as one batch of
parameters. What a method measured is kept under `build/support-noise`, and not measured again: delete it to start anew.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import torch
from sparse_problems import COLUMNS, Batch, sparse_problems
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.optim import RDA, XRDA, ProxAdam, ProxSGD, SteadyAdam, SteadySGD, averaged
from nonsmooth.penalties import L1

STEPS, ROWS, SEEDS = 4000, 16, 2
STEP_SIZES = 7
LEVEL, FEW = 0.01, 2
ROUNDINGS = tuple(10 ** (-4 + k / 4) for k in range(14))
STORE = Path("build/support-noise")

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class Way:
    """A method with a schedule of its step size.

    Attributes:
        name: of the method.
        schedule: "constant", "cosine" (to 0) or "1/√t" (from step 100 on).
        make: groups of parameters, λ and the number of steps → optimiser.
        largest: the largest of the step sizes; each of the others is √10 times smaller.
        before: called before each step with the groups and the share of the steps that are done.
        rounded: weights up to a threshold count as zero; of several thresholds the best in hindsight, for each run.
        average: the average over the second half of the run, its zeros decided by `averaged(...).sparse()`.
    """

    name: str
    schedule: str
    make: Callable[[Groups, Tensor, int], Any]
    largest: float = 10**-0.5
    before: Callable[[Groups, float], None] | None = None
    rounded: tuple[float, ...] = ()
    average: bool = False

    @property
    def step_sizes(self) -> list[float]:
        """From the largest down."""
        return [self.largest * 10 ** (-k / 2) for k in range(STEP_SIZES)]

    def scale(self, step: int, steps: int) -> float:
        """What the step size is multiplied by."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * step / steps)) / 2
        return 1 / math.sqrt(1 + step / 100) if self.schedule == "1/√t" else 1.0


def _momentum_time(groups: Groups, _done: float) -> None:
    """XRDA's momentum is e^(-h/m): 0.9 at every step size."""
    for group in groups:
        group["time_scale"] = 9.5 * extremes.largest(group["lr"], 1e-12)


def _growing_average(groups: Groups, done: float) -> None:
    """The published recipe: a from 0 to 1."""
    _momentum_time(groups, done)
    for group in groups:
        group["averaging"] = done


def _peer(make: Callable[..., Any]) -> Callable[[Groups, Tensor, int], Any]:
    return lambda groups, strength, _steps: make(groups, 1.0, strength)


def _ours(kind: Any, **options: Any) -> Callable[[Groups, Tensor, int], Any]:
    return lambda groups, strength, _steps: kind(groups, lr=1.0, penalty=L1(strength), **options)


def ways() -> list[Way]:
    """The methods, in the order of the table."""
    both = ("constant", "cosine")
    found = [Way("ProxSGD", schedule, _ours(ProxSGD)) for schedule in ("constant", "1/√t", "cosine")]
    for schedule in both:
        found += [
            Way("ProxSGD, momentum", schedule, _ours(ProxSGD, momentum=0.9), largest=10**-1.5),
            Way("ProxAdam, β₁ 0.9", schedule, _ours(ProxAdam)),
            Way("ProxAdam, β₁ 0.99", schedule, _ours(ProxAdam, betas=(0.99, 0.999))),
        ]
    found += [
        Way("ProxSGD, averaged", "constant", _ours(ProxSGD), average=True),
        Way("ProxAdam, averaged", "constant", _ours(ProxAdam), average=True),
        Way("RDA", "its own", _ours(RDA), largest=10.0),
    ]
    for schedule in both:
        found += [
            Way("XRDA, a = 0.9", schedule, _ours(XRDA, averaging=0.9), before=_momentum_time),
            Way("XRDA, a from 0 to 1", schedule, _ours(XRDA), before=_growing_average),
            Way("XRDA, a = 1", schedule, _ours(XRDA, averaging=1.0), before=_momentum_time),
        ]
    in_loss_sgd, in_loss_adam = peers.penalty_in_loss(peers.sgd), peers.penalty_in_loss(peers.adam)
    for schedule in both:
        found += [
            Way(
                "softshrink after SGD with momentum", schedule, _peer(peers.softshrink_after(peers.momentum)), 10**-1.5
            ),
            Way("softshrink after Adam", schedule, _peer(peers.softshrink_after(peers.adam))),
            Way("L1 in the loss, SGD, rounded", schedule, _peer(in_loss_sgd), rounded=ROUNDINGS),
            Way("L1 in the loss, SGD, rounded at 0.001", schedule, _peer(in_loss_sgd), rounded=(1e-3,)),
            Way("L1 in the loss, Adam, rounded", schedule, _peer(in_loss_adam), rounded=ROUNDINGS),
            Way("L1 in the loss, Adam, rounded at 0.001", schedule, _peer(in_loss_adam), rounded=(1e-3,)),
            Way("torchao PruneOptimizer, SGD", schedule, _peer(peers.prune_optimizer(peers.sgd))),
            Way("torchao PruneOptimizer, Adam", schedule, _peer(peers.prune_optimizer(peers.adam))),
        ]
    found += [
        Way("FTRL, λ₁ = λ", "its own", _peer(peers.ftrl()), largest=10.0),
        Way(
            "FTRL, λ₁ = λ × steps",
            "its own",
            lambda groups, strength, steps: peers.ftrl(steps)(groups, 1.0, strength),
            largest=10.0,
        ),
    ]
    for schedule in both:
        found += [
            Way("SteadySGD, momentum", schedule, _ours(SteadySGD, momentum=0.9), largest=10**-1.5),
            Way("SteadyAdam, p = 0", schedule, _ours(SteadyAdam, forgetting=0.0)),
            Way("SteadyAdam", schedule, _ours(SteadyAdam)),
        ]
    found.append(Way("SteadyAdam, averaged", "constant", _ours(SteadyAdam), average=True))
    return found


@dataclass(frozen=True)
class Measured:
    """Means over the last tenth of the steps, each (problems, step sizes); of an average, what it is at the end.

    Attributes:
        wrong: coordinates that are zero and should not be, or the other way round.
        excess: the objective above its minimum, relative to that of w = 0; infinite where the run diverged.
        flips: coordinates that leave zero, reach it or change their sign, per step.
    """

    wrong: Tensor
    excess: Tensor
    flips: Tensor


def run(way: Way, batch: Batch, steps: int, shift_at: float | None = None) -> Measured:
    """A method on all problems, seeds and step sizes; until `shift_at` the columns of the data are in another order."""
    problems = len(batch.problems)
    shape = (problems, batch.seeds, COLUMNS)
    points = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for _ in range(STEP_SIZES)]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(points, way.step_sizes, strict=True)]
    optimiser = way.make(groups, batch.strength[:, None, None], steps)
    model = nn.ParameterList(points)
    average = averaged(model, optimiser) if way.average else None
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(COLUMNS, generator=torch.Generator().manual_seed(1))
    tail = steps - steps // 10
    sums, count, flips, before = [0.0, 0.0], 0, 0.0, None
    for step in range(steps):
        for group, lr in zip(optimiser.param_groups, way.step_sizes, strict=True):
            group["lr"] = lr * way.scale(step, steps)
        if way.before is not None:
            way.before(optimiser.param_groups, step / steps)
        drawn = batch.draw(generator)
        if shift_at is not None and step < shift_at * steps:
            drawn = drawn[0][..., order], drawn[1]
        stacked = torch.stack([p.detach() for p in points], dim=2)
        gradient = batch.gradient(stacked, drawn)
        for i, p in enumerate(points):
            p.grad = gradient[:, :, i].contiguous()
        optimiser.step()
        if average is not None and step >= steps // 2:
            average.update_parameters(model)
        if average is None and step >= tail:
            now = torch.stack([p.detach() for p in points], dim=2)
            if before is not None:
                flips = flips + (now.sign() != before).sum(-1)
            before = now.sign()
            if (step + 1) % 10 == 0:
                sums = [a + b for a, b in zip(sums, _judge(way, batch, now), strict=True)]
                count += 1
    if average is not None:
        now = torch.stack([p.detach() for p in average.sparse()], dim=2)
        wrong, excess = _judge(way, batch, now)
        return Measured(wrong.mean(1), torch.nan_to_num(excess, nan=math.inf).mean(1), torch.zeros_like(wrong.mean(1)))
    wrong, excess = (total / count for total in sums)
    return Measured(wrong.mean(1), torch.nan_to_num(excess, nan=math.inf).mean(1), (flips / (steps - tail - 1)).mean(1))


def _judge(way: Way, batch: Batch, point: Tensor) -> tuple[Tensor, Tensor]:
    """Wrong entries and excess, (problems, seeds, step sizes)."""
    if not way.rounded:
        return batch.wrong(point).double(), batch.excess(point)
    candidates = [torch.where(point.abs() <= threshold, 0.0, point) for threshold in way.rounded]
    wrong = torch.stack([batch.wrong(c).double() for c in candidates])
    excess = torch.stack([batch.excess(c) for c in candidates])
    # The fewest wrong entries among the thresholds that cost no more than a tenth of the level, or else of the least.
    allowed = excess <= excess.amin(0) + LEVEL / 10
    best = torch.where(allowed, wrong, math.inf).argmin(0, keepdim=True)
    return wrong.gather(0, best)[0], excess.gather(0, best)[0]


def measured(way: Way, batch: Batch, steps: int, shift_at: float | None = None) -> Measured:
    """What `run` returns, from the store if it is there."""
    here = Path(__file__).parent
    code = "".join((here / name).read_text("utf-8") for name in ("sparse_problems.py", "peers.py"))
    key = f"{way.name} {way.schedule} {way.step_sizes} {steps} {batch.rows} {batch.seeds} {shift_at} {code}"
    path = STORE / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
    if path.exists():
        return Measured(**torch.load(path, weights_only=True))
    started = time.perf_counter()
    found = run(way, batch, steps, shift_at)
    STORE.mkdir(parents=True, exist_ok=True)
    torch.save(vars(found), path)
    print(
        f"{way.name:36} {way.schedule:9} wrong "
        + " ".join(f"{w:5.1f}" for w in found.wrong.mean(0))
        + "  excess "
        + " ".join(f"{e:7.0e}" for e in found.excess.median(0).values)
        + f"  {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    return found


@dataclass(frozen=True)
class Summary:
    """A method's row.

    Attributes:
        reach: the share of problems × step sizes at which the objective is within LEVEL of its minimum.
        usable: the share at which, besides, no more than FEW entries are wrong.
        typical: the median of the wrong entries over those that reach the level.
        best: the wrong entries at the best step size for each problem, mean over problems; all COLUMNS counted as
            wrong where none reaches the level.
        single: the index of the step size that serves most problems, then has the fewest wrong entries.
        solved: the number of problems that reach the level with FEW wrong entries at most, at that one step size.
        wrong: wrong entries there, by problem.
        excess: median over problems there.
        flips: mean over problems there.
    """

    reach: float
    usable: float
    typical: float
    best: float
    single: int
    solved: int
    wrong: Tensor
    excess: float
    flips: float


def summarise(found: Measured) -> Summary:
    """The row of a method."""
    near = found.excess <= LEVEL
    good = near & (found.wrong <= FEW)
    best = torch.where(near, found.wrong, math.inf).amin(1)
    order = [
        (int(good[:, i].sum()), int(near[:, i].sum()), -float(found.wrong[:, i].mean())) for i in range(STEP_SIZES)
    ]
    single = order.index(max(order))
    return Summary(
        reach=float(near.double().mean()),
        usable=float(good.double().mean()),
        typical=float(found.wrong[near].median()) if bool(near.any()) else math.nan,
        best=float(torch.where(torch.isfinite(best), best, float(COLUMNS)).mean()),
        single=single,
        solved=order[single][0],
        wrong=found.wrong[:, single],
        excess=float(found.excess[:, single].median()),
        flips=float(found.flips[:, single].mean()),
    )


def report(quick: bool) -> str:
    """The page, as Markdown."""
    torch.set_num_threads(1)
    steps, seeds = (400, 1) if quick else (STEPS, SEEDS)
    problems = sparse_problems()
    batch = Batch(problems, seeds, ROWS)
    chosen = ways()
    if quick:
        chosen = [w for w in chosen if w.name in ("ProxAdam, β₁ 0.9", "SteadyAdam") and w.schedule == "cosine"]
    rows = {way: summarise(measured(way, batch, steps)) for way in chosen}
    columns = (
        "method",
        "step size",
        "reach",
        "**good**",
        "wrong entries, median of those that reach",
        "wrong entries, step size tuned to each problem",
        "problems good at one step size for all",
        "that step size",
        "wrong entries there",
        "flips per step there",
    )
    lines = [
        "# Support under minibatch noise",
        "",
        f"Ten problems with an L1 penalty, {steps:,} steps on {ROWS} rows each, drawn at random, from w = 0, seven "
        f"step sizes a factor √10 apart, {seeds} seeds, float64, torch {torch.__version__}. The right support is that "
        "of the certified solution on all rows. What counts are means over the last tenth of the steps.",
        "",
        *_problem_table(problems),
        "",
        "## At equal objective",
        "",
        f"A run *reaches* the optimum if its objective, on all rows, is within {100 * LEVEL:g} % of its minimum, "
        f"relative to w = 0. It is *good* if, besides, at most {FEW} entries of its support are wrong. Shares are of "
        "70: ten problems × seven step sizes. So a large share of good runs means little tuning.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for way, row in sorted(rows.items(), key=lambda item: -item[1].usable):
        strong = "**" if way.name.startswith("Steady") else ""
        flips = "" if way.average else f"{row.flips:.2g}"
        typical = "none" if math.isnan(row.typical) else f"{row.typical:.1f}"
        lines.append(
            f"| {strong}{way.name}{strong} | {way.schedule} | {row.reach:.0%} | **{row.usable:.0%}** | "
            f"{typical} | {row.best:.1f} | {row.solved} of {len(problems)} | "
            f"{way.step_sizes[row.single]:.2g} | {float(row.wrong.mean()):.1f} | {flips} |"
        )
    lines += [
        "",
        "Sorted by the share of good runs. A problem that no step size of a method brings within the level counts as "
        f"{COLUMNS} wrong entries in the column of tuned step sizes. *Averaged* is the mean over the second half of "
        "the steps, its zeros decided by `averaged(...).sparse()`; it does not flip. *Rounded*: weights up to 0.001 "
        "count as zero, or, where no threshold is named, up to the best threshold in hindsight for each run, which "
        "takes the right support to know: that row is a bound, not a method. XRDA has M = 1 and a momentum of 0.9. p "
        "is the `forgetting` of the steady optimisers, 4 where it is not named.",
        "",
        "## Problem by problem",
        "",
        "Wrong entries at the one step size for all problems; in brackets where the objective is not within "
        f"{100 * LEVEL:g} %.",
        "",
        "| method | step size | " + " | ".join(str(i + 1) for i in range(len(problems))) + " |",
        "|---" * (len(problems) + 2) + "|",
    ]
    for way, row in sorted(rows.items(), key=lambda item: -item[1].usable):
        excess = measured(way, batch, steps).excess[:, row.single]
        cells = [f"{w:.1f}" if e <= LEVEL else f"({w:.1f})" for w, e in zip(row.wrong, excess, strict=True)]
        lines.append(f"| {way.name} | {way.schedule} | " + " | ".join(cells) + " |")
    if not quick:
        lines += ["", *_shift_table(batch, steps)]
    lines += ["", "Made by `python benchmarks/support_noise.py --output docs/benchmarks/support-noise.md`."]
    return "\n".join(lines) + "\n"


def _problem_table(problems: list[Any]) -> list[str]:
    lines = [
        "| | problem | rows | columns | not zero | λ | residual/λ of the reference | its duality gap |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for i, p in enumerate(problems):
        lines.append(
            f"| {i + 1} | {p.name} | {len(p.data)} | {int(p.data.any(0).sum())} | {int((p.optimum != 0).sum())} | "
            f"{p.strength:.3f} | {p.residual:.0e} | {p.gap:.0e} |"
        )
    return lines


def _shift_table(batch: Batch, steps: int) -> list[str]:
    """What a memory costs where the problem changes half-way."""
    names = (
        "ProxAdam, β₁ 0.9",
        "XRDA, a = 0.9",
        "XRDA, a = 1",
        "RDA",
        "torchao PruneOptimizer, SGD",
        "SteadySGD, momentum",
        "SteadyAdam, p = 0",
        "SteadyAdam",
    )
    lines = [
        "## Where the problem changes half-way",
        "",
        "A memory has its price. Here the columns of the data are in another order during the first half of the steps, "
        "so that the right support moves. Wrong entries at the end, mean over problems, at the one step size for all "
        "from the first table:",
        "",
        "| method | step size | wrong entries | objective above the minimum, median | without the change |",
        "|---|---|---|---|---|",
    ]
    for way in ways():
        if way.name in names and way.schedule in ("constant", "its own"):
            still = measured(way, batch, steps)
            single = summarise(still).single
            found = measured(way, batch, steps, shift_at=0.5)
            wrong, excess = float(found.wrong[:, single].mean()), float(found.excess[:, single].median())
            lines.append(
                f"| {way.name} | {way.schedule} {way.step_sizes[single]:.2g} | {wrong:.1f} | {excess:.1%} | "
                f"{float(still.wrong[:, single].mean()):.1f} |"
            )
    return lines


def main() -> None:
    """Print the page and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="two methods, a tenth of the steps, one seed")
    arguments = parser.parse_args()
    text = report(arguments.quick)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
