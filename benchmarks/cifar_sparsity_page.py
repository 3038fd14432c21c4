"""The page and the figure that `cifar_sparsity.py` writes from its stored runs."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cifar_sparsity_figure import Series, draw
from cifar_sparsity_methods import METHODS
from scipy import stats

from nonsmooth import extremes
from nonsmooth.lab import Record

FIGURE = "../images/cifar-sparsity.svg"
TITLES = {"vgg13": "VGG13", "resnet8": "ResNet-8"}
ALLOWANCE = 0.02
"""Validation accuracy below the better dense control that a choice of λ may cost."""
SLACK = 1e-9
TONES = {
    "prox-adam": ("ours", "circle"),
    "steady-adam": ("theory", "triangle"),
    "prox-sgd": ("c", "diamond"),
    "prox-filters": ("g", "square"),
    "xrda": ("e", "circle-open"),
    "adam-loss": ("control", "square-open"),
    "softshrink": ("d", "cross"),
    "torchao": ("b", "plus"),
    "dense-adam": ("neutral", "circle-open"),
    "dense-sgd": ("neutral", "diamond-open"),
    "pruning": ("paper", "star"),
}
SAME = ("prox-adam", "steady-adam", "adam-loss")
"""Methods that solve the same problem with the same optimiser, at the same λ."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, and half the width of its 95 % t interval (0 with a single seed)."""

    mean: float
    half: float

    def percent(self) -> str:
        """As in the tables."""
        return f"{100 * self.mean:.1f} ± {100 * self.half:.1f}" if self.half else f"{100 * self.mean:.1f}"


def interval(samples: Sequence[float]) -> Interval:
    """Of the mean of the samples."""
    if len(samples) < 2:
        return Interval(samples[0], 0.0)
    spread = statistics.stdev(samples) / math.sqrt(len(samples))
    return Interval(statistics.fmean(samples), float(stats.t.ppf(0.975, len(samples) - 1)) * spread)


@dataclass(frozen=True)
class Row:
    """What one method gave with one λ, over seeds."""

    network: str
    method: str
    label: str
    kind: str
    strength: float
    rate: float
    prunes: bool
    values: Mapping[str, Sequence[float]]

    def __getitem__(self, name: str) -> Interval:
        return interval(self.values[name])

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.values["test"])

    @property
    def setting(self) -> str:
        """λ, or the share of weights that were pruned."""
        if self.prunes:
            return f"{100 * self.strength:g} %"
        return f"{self.strength:g}" if self.strength else "—"


def rows_of(records: Sequence[Record]) -> list[Row]:
    """A row for each network, method and λ, in the order of the methods."""
    gathered: dict[tuple[str, str, float], list[Record]] = {}
    for record in records:
        p: Any = record.parameters
        gathered.setdefault((p["network"], p["method"], p["strength"]), []).append(record)
    rows = []
    for network in TITLES:
        for name, method in METHODS.items():
            for strength in sorted(s for n, m, s in gathered if (n, m) == (network, name)):
                found = gathered[network, name, strength]
                values = {n: [record[n] for record in found] for n in found[0]}
                rate: Any = found[0].parameters["lr"]
                rows.append(Row(network, name, method.label, method.kind, strength, rate, method.prunes, values))
    return rows


def bar(rows: Sequence[Row]) -> float:
    """The validation accuracy that a choice of λ has to reach: that of the better dense control, less the allowance."""
    return extremes.largest(row["validation"].mean for row in rows if row.method.startswith("dense")) - ALLOWANCE


def chosen(rows: Sequence[Row]) -> list[tuple[Row, bool]]:
    """For each method the largest λ that reaches the bar on validation; the smallest λ, and False, if none does."""
    floor = bar(rows)
    choices = []
    for name in dict.fromkeys(row.method for row in rows):
        own = sorted((row for row in rows if row.method == name), key=lambda row: row.strength)
        good = [row for row in own if row["validation"].mean >= floor - SLACK]
        choices.append((good[-1], True) if good else (own[0], False))
    return choices


def base(method: str) -> str:
    """The dense control with the optimiser that a method is built on."""
    return "dense-sgd" if method in ("prox-sgd", "dense-sgd", "xrda") else "dense-adam"


def at_equal_sparsity(rows: Sequence[Row], level: float, prefix: str = "") -> Interval | None:
    """Test accuracy where that share of the weights is zero, interpolated between neighbouring λ seed by seed."""
    own = sorted(rows, key=lambda row: row.strength)
    found = []
    for seed in range(min(row.seeds for row in own)):
        points = sorted((row.values[f"{prefix}zeros"][seed], row.values[f"{prefix}test"][seed]) for row in own)
        for (low, first), (high, second) in zip(points, points[1:] or points, strict=False):
            if low - SLACK <= level <= high + SLACK:
                share = (
                    0.0 if high == low else extremes.smallest(extremes.largest((level - low) / (high - low), 0.0), 1.0)
                )
                found.append(first + share * (second - first))
                break
        else:
            return None
    return interval(found)


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(cells) + " |" for cells in body),
        "",
    ]


def chosen_table(rows: Sequence[Row], times: Mapping[str, float]) -> list[str]:
    """One line for each method, at the λ that validation chose."""
    body = []
    for row, reached in chosen(rows):
        method = row.method
        time = f"{times[method] / times[base(method)]:.2f}" if {method, base(method)} <= set(times) else "—"
        body.append(
            [
                f"**{row.label}**" if row.kind == "ours" else row.label,
                row.setting if reached else f"{row.setting} (none reaches the bar)",
                f"{row.rate:g}",
                row["test"].percent(),
                row["zeros"].percent(),
                row["zero_filters"].percent(),
                row["rounded_test"].percent(),
                row["rounded_zeros"].percent(),
                time,
            ]
        )
    header = (
        "method",
        "λ, or share pruned",
        "step size",
        "test accuracy (%)",
        "exact zeros (%)",
        "zero filters (%)",
        "test accuracy, rounded (%)",
        "zeros, rounded (%)",
        "time of a step",
    )
    return table(header, body)


def sparsity_table(rows: Sequence[Row], levels: Sequence[float] = (0.3, 0.5, 0.8)) -> list[str]:
    """Accuracy at equal shares of zeros, exact ones and after rounding."""
    body = []
    for name in dict.fromkeys(row.method for row in rows if not row.method.startswith("dense")):
        own = [row for row in rows if row.method == name]
        # Without a penalty every method is its dense control; pruning is not, whose epochs are divided.
        ends = own if own[0].prunes else [*own, *(row for row in rows if row.method == base(name))]
        cells = [at_equal_sparsity(ends, level, prefix) for prefix in ("", "rounded_") for level in levels]
        label = f"**{own[0].label}**" if own[0].kind == "ours" else own[0].label
        body.append([label, *("—" if cell is None else cell.percent() for cell in cells)])
    names = [f"{100 * level:g} % {kind}" for kind in ("exact", "rounded") for level in levels]
    return table(("method", *names), body)


def full_table(rows: Sequence[Row]) -> list[str]:
    """Every λ."""
    body = [
        [
            row.label,
            row.setting,
            str(row.seeds),
            row["validation"].percent(),
            row["test"].percent(),
            row["zeros"].percent(),
            row["tiny"].percent(),
            row["rounded_test"].percent(),
            row["rounded_zeros"].percent(),
        ]
        for row in rows
    ]
    header = (
        "method",
        "λ, or share pruned",
        "seeds",
        "validation (%)",
        "test (%)",
        "exact zeros (%)",
        "below 0.001 (%)",
        "test, rounded (%)",
        "zeros, rounded (%)",
    )
    return table(header, body)


def findings(network: str, rows: Sequence[Row]) -> str:
    """What the validation choice says, computed."""
    choices = [row for row, reached in chosen(rows) if reached and not row.method.startswith("dense")]
    title = TITLES[network]
    if not choices:
        return f"- {title}: no method keeps within {100 * ALLOWANCE:g} points of the dense network on validation."
    exact = extremes.largest(choices, key=lambda row: row["zeros"].mean)
    rounded = extremes.largest(choices, key=lambda row: row["rounded_zeros"].mean)
    missed = [row.label for row, reached in chosen(rows) if not reached]
    text = (
        f"- {title}: within {100 * ALLOWANCE:g} points of the better dense network on validation, the most exact zeros "
        f"has {exact.label} ({exact['zeros'].percent()} % of the weights, test accuracy {exact['test'].percent()} %), "
        f"and the most zeros after rounding {rounded.label} ({rounded['rounded_zeros'].percent()} %, "
        f"{rounded['rounded_test'].percent()} %)."
    )
    return text + (f" With no λ tried does that hold for: {'; '.join(missed)}." if missed else "")


def same_problem(network: str, rows: Sequence[Row]) -> list[str]:
    """What Adam's three ways to one λ make of it, computed."""
    lines = []
    for strength in sorted({row.strength for row in rows if row.method == SAME[0]}):
        found = [row for name in SAME for row in rows if (row.method, row.strength) == (name, strength)]
        if len(found) == len(SAME):
            parts = [
                f"{row.label} {row['zeros'].percent()} % exact zeros at test accuracy {row['test'].percent()} %"
                for row in found
            ]
            lines.append(f"- {TITLES[network]}, λ = {strength:g}: {'; '.join(parts)}.")
    return lines


def series(rows: Sequence[Row], prefix: str) -> list[Series]:
    """The curves of a panel."""
    drawn = []
    for name in dict.fromkeys(row.method for row in rows):
        own = sorted((row for row in rows if row.method == name), key=lambda row: row.strength)
        tone, marker = TONES[name]
        points = [(row[f"{prefix}zeros"].mean, row[f"{prefix}test"].mean, row[f"{prefix}test"].half) for row in own]
        drawn.append(Series(own[0].label, tone, marker, points))
    return drawn


def write(records: Sequence[Record], timings: Sequence[Record], scale: Any, name: str) -> tuple[str, str]:
    """The page in Markdown and the figure as SVG."""
    rows = rows_of(records)
    networks = [network for network in TITLES if any(row.network == network for row in rows)]
    times = {str(record.parameters["network"]): dict(record.values) for record in timings}
    command = "python benchmarks/cifar_sparsity.py" + (f" --scale {name}" if name != "quick" else "")
    lines = [
        "# Accuracy against sparsity on CIFAR-10",
        "",
        "How much accuracy a sparse network keeps, and which methods make weights exactly zero on the way: the "
        "proximal optimisers of this package, other people's ways to an L1 penalty, and as controls the dense network "
        "and magnitude pruning with fine-tuning.",
        "",
        f"Each run trains on {scale.train:,} images for {scale.epochs} epochs of batches of {scale.batch} "
        f"({scale.epochs * (scale.train // scale.batch):,} steps), under every method alike: for pruning, the epochs "
        "of fine-tuning count. The step size falls to zero as a cosine; the network after the last epoch is reported, "
        f"on {scale.test:,} test images, as a mean over {scale.seeds} seeds with its 95 % t interval. Step sizes (two "
        f"for each method, on the first seed) and λ are chosen on {scale.validation:,} images held out from the "
        "training set; the test images choose nothing. All penalties act on the weights of convolutions and of the "
        "linear layer, and not on biases or normalisation. The VGG13 is the narrow one of the paper without "
        "normalisation, from He's initialisation; the ResNet-8 has widths 16, 32 and 64, batch normalisation"
        f"{' and a first convolution of stride 2' if scale.stem_stride == 2 else ''}. Convolutions are computed in "
        f"{scale.precision}, weights kept in float32.",
        "",
    ]
    if name == "quick":
        lines += [
            f"**This is a small scale.** It fits a CPU: {scale.train / 50000:.0%} of the training images and a few "
            "epochs, so accuracies are far below what these networks reach, none has converged, and an interval over "
            "five seeds is wide. It can show which methods make exact zeros at all and what those cost within so few "
            "steps; it cannot rank methods that lie within each other's intervals, nor say what a full training "
            "gives. `--scale full` would decide that (45,000 images, 30 epochs, all test images, float32, stride 1); "
            "it has not been run, and its range of λ should be widened first, since those here were picked for so few "
            "steps. The machine was busy with other work: differences of some per cent in the time of a step mean "
            "nothing.",
            "",
        ]
    lines += [
        f"![Test accuracy against the share of zero weights]({FIGURE})",
        "",
        "## What it shows",
        "",
        *(findings(network, [row for row in rows if row.network == network]) for network in networks),
        "",
        "The same λ under Adam, with the penalty in the prox, in the prox with a steady support, and in the loss:",
        "",
        *(
            line
            for network in networks
            for line in same_problem(network, [row for row in rows if row.network == network])
        ),
        "",
        "## Chosen on validation",
        "",
        f"For each method the largest λ whose validation accuracy is at most {100 * ALLOWANCE:g} points below that of "
        "the better dense network. *Rounded* sets the smallest weights to zero, over all layers, as many as cost at "
        "most one point of validation accuracy: what is left to do for a method without exact zeros, and what the "
        "others could still gain. The time of a step is in units of the dense network's under the same optimiser "
        "(momentum for XRDA), forward and backward passes included, on one thread.",
        "",
    ]
    for network in networks:
        own = [row for row in rows if row.network == network]
        lines += [f"### {TITLES[network]}", "", *chosen_table(own, times.get(network, {}))]
    lines += [
        "## At equal sparsity",
        "",
        "Test accuracy (%) where that share of the penalised weights is zero, interpolated between neighbouring λ, the "
        "dense network being λ = 0, seed by seed; — where the λ tried do not enclose it for every seed.",
        "",
    ]
    for network in networks:
        lines += [f"### {TITLES[network]} ", "", *sparsity_table([row for row in rows if row.network == network])]
    lines += ["## Every λ", ""]
    for network in networks:
        lines += [f"### {TITLES[network]}, all runs", "", *full_table([row for row in rows if row.network == network])]
    lines += [
        "λ means the same number for ProxAdam, SteadyAdam, ProxSGD, XRDA (here without its amplification of small "
        "weights) and L1 in the loss; with GroupL1 each group weighs the square root of its size. It does not under "
        "softshrink (after Adam's step it is λ times the root of the second moment) and torchao (where it is compared "
        "with Adam's normalised gradients), so compare these by sparsity, not by λ.",
        "",
        f"Made by `{command} --output docs/benchmarks/cifar-sparsity.md`, which goes on where it was stopped; torch "
        f"{torch.__version__} on {platform.machine()}.",
    ]
    panels = [
        (f"{TITLES[network]}, {title}", series([row for row in rows if row.network == network], prefix))
        for prefix, title in (("", "exact zeros"), ("rounded_", "after rounding"))
        for network in networks
    ]
    return "\n".join(lines) + "\n", draw(panels, columns=len(networks))
