"""The page and the figure that `sparsity_record.py` writes from its stored runs."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from cifar_sparsity_figure import Series, draw
from cifar_sparsity_page import Interval, interval, table
from sparsity_record_choice import Choice, Search, tolerance
from sparsity_record_methods import METHODS, PRIMARY, Method
from sparsity_record_networks import NETWORKS
from sparsity_record_run import REPORT, Scale, timing_cell
from sparsity_record_words import METHOD_NOTES, introduction

from nonsmooth.lab import Record, Store

FIGURE = "../images/sparsity-record.svg"
BLANK = ""
"""In a table, where runs are missing."""


@dataclass(frozen=True)
class Entry:
    """A method at a level on a network: what was chosen, and test accuracy and zeros by seed."""

    method: str
    level: float
    choice: Choice
    tests: dict[int, float]
    zeros: dict[int, float]

    @property
    def reached(self) -> bool:
        """Whether the reported runs have that share of zeros on the mean."""
        return abs(statistics.fmean(self.zeros.values()) - self.level) <= tolerance(self.level) + 1e-9

    def text(self, seeds: int) -> str:
        """As in the table of accuracies, in per cent."""
        text = interval(list(self.tests.values())).percent()
        if not self.reached:
            text += f" (at {100 * statistics.fmean(self.zeros.values()):.1f} %)"
        return text + (f" ({len(self.tests)} of {seeds} seeds)" if len(self.tests) < seeds else "")


Entries = dict[tuple[str, float], Entry]


def entries_of(scale: Scale, store: Store, network: str) -> Entries:
    """What is stored for a network, by method and level."""
    found: Entries = {}
    for method in METHODS:
        search = Search(scale, store, network, method)
        for level in search.levels():
            choice = search.choice(level)
            if choice is None:
                continue
            cells = search.cells(choice.trial.settings, level, REPORT, scale.report_seeds)
            records = [record for record in map(store.load, cells) if record is not None]
            if records:
                place = search.place(level)
                tests, zeros = ({record.seed: record[name][place] for record in records} for name in ("test", "zeros"))
                found[method, level] = Entry(method, level, choice, tests, zeros)
    return found


def difference(ours: Entry, other: Entry) -> Interval | None:
    """Of test accuracy, seed by seed; None where they have no seed in common."""
    both = sorted(ours.tests.keys() & other.tests.keys())
    return interval([ours.tests[seed] - other.tests[seed] for seed in both]) if both else None


def named(method: Method) -> str:
    """In a table; ours stand out."""
    return f"**{method.label}**" if method.kind == "ours" else method.label


def accuracy_table(scale: Scale, entries: Entries) -> list[str]:
    """A line for each method, a column for each level."""
    body = []
    for name, method in METHODS.items():
        levels = (0.0,) * len(scale.levels) if name == "dense" else scale.levels
        cells = [
            entries[name, level].text(len(scale.report_seeds)) if (name, level) in entries else BLANK
            for level in levels
        ]
        body.append([named(method), *cells])
    return table(("method", *(f"{100 * level:g} % zeros" for level in scale.levels)), body)


def difference_table(scale: Scale, entries: Entries) -> list[str]:
    """What the primary method is ahead by, seed by seed."""
    body = []
    for name, method in METHODS.items():
        if name == PRIMARY:
            continue
        cells = []
        for level in scale.levels:
            ours = entries.get((PRIMARY, level))
            other = entries.get((name, 0.0 if name == "dense" else level))
            gap = None if ours is None or other is None else difference(ours, other)
            if gap is None:
                cells.append(BLANK)
                continue
            text = f"{100 * gap.mean:+.1f}" + (f" ± {100 * gap.half:.1f}" if gap.half else "")
            cells.append(f"**{text}**" if gap.half and gap.mean > gap.half else text)
        body.append([named(method), *cells])
    return table(("compared with", *(f"{100 * level:g} % zeros" for level in scale.levels)), body)


def choice_table(scale: Scale, entries: Entries) -> list[str]:
    """What was chosen, and from what it was."""
    body = []
    for (name, level), entry in entries.items():
        trial = entry.choice.trial
        settings = ", ".join(f"{key} {value:g}" for key, value in trial.settings.items())
        zeros = f"{100 * trial.zeros:.2f}" + ("" if entry.choice.hit or name == "dense" else ", the nearest")
        body.append(
            [
                named(METHODS[name]),
                "" if name == "dense" else f"{100 * level:g} %",
                settings,
                str(entry.choice.tried),
                f"{100 * trial.validation:.1f}",
                zeros,
                interval(list(entry.zeros.values())).percent(),
            ]
        )
    header = ("method", "level", "chosen", "of", "validation (%)", "its zeros (%)", "zeros of the runs reported (%)")
    return table(header, body)


def time_table(times: dict[str, float]) -> list[str]:
    """Seconds of a step, and over those of the dense network."""
    body = [
        [named(METHODS[name]), f"{1e3 * seconds:.1f}", f"{seconds / times['dense']:.2f}"]
        for name, seconds in times.items()
    ]
    return table(("method", "ms", "over dense"), body)


def curves(entries: Entries, scale: Scale) -> list[Series]:
    """A line for each method, where its zeros lie; the dense network's is drawn across.

    What is rounded and not trained further lies so far below that nothing else could be told apart beside it.
    """
    drawn = []
    for name, method in METHODS.items():
        own = [entry for (other, _), entry in entries.items() if other == name]
        if not own or name == "rounding":
            continue
        points = []
        for entry in own:
            accuracy = interval(list(entry.tests.values()))
            places = scale.levels if name == "dense" else (statistics.fmean(entry.zeros.values()),)
            points += [(place, accuracy.mean, accuracy.half) for place in places]
        drawn.append(Series(method.label, method.tone, method.marker, points))
    return drawn


def findings(scale: Scale, network: str, entries: Entries) -> list[str]:
    """What the intervals of the differences say, computed."""
    lines = []
    for level in scale.levels:
        if (PRIMARY, level) not in entries:
            continue
        ours = entries[PRIMARY, level]
        verdicts: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
        for name, method in METHODS.items():
            other = entries.get((name, 0.0 if name == "dense" else level))
            gap = None if name == PRIMARY or other is None else difference(ours, other)
            if other is None or gap is None or not gap.half or not (name == "dense" or other.reached):
                continue
            words = "ahead of" if gap.mean > gap.half else "behind" if -gap.mean > gap.half else "not told apart from"
            verdicts[words].append(method.label)
        parts = [f"{words} {', '.join(names)}" for words, names in verdicts.items() if names]
        if parts:
            start = f"- {NETWORKS[network].label}, {100 * level:g} % zeros: {METHODS[PRIMARY].label} "
            lines.append(f"{start}({ours.text(len(scale.report_seeds))} %) is {'; '.join(parts)}.")
    return lines


def sections(scale: Scale, network: str, entries: Entries, timing: Record | None) -> list[str]:
    """The tables of one network."""
    label, primary = NETWORKS[network].label, METHODS[PRIMARY].label
    lines = [
        f"## {label}",
        "",
        "Test accuracy (%):",
        "",
        *accuracy_table(scale, entries),
        f"Ahead of each by how many points {primary} is, seed by seed; bold where the interval lies above zero:",
        "",
        *difference_table(scale, entries),
    ]
    if entries:
        lines += ["What was chosen on validation, and from how many combinations:", "", *choice_table(scale, entries)]
    if timing is not None:
        lines += [
            "Time of a whole training step, forward and backward included: medians; the methods take turns in one "
            f"process ({timing.origin['device']}), each going through its schedule.",
            "",
            *time_table(dict(timing.values)),
        ]
    return lines


def write(scales: Mapping[str, Scale], store: Store) -> tuple[str, str]:
    """The page in Markdown, and the figure as SVG, empty where there is nothing to draw."""
    by_network = {
        (name, network): entries_of(scale, store, network)
        for name, scale in scales.items()
        for network in scale.networks
    }
    lines = introduction(scales)
    if any(by_network.values()):
        lines += [f"![Test accuracy against the share of zeros]({FIGURE})", ""]
    found = [
        line for (name, network), entries in by_network.items() for line in findings(scales[name], network, entries)
    ]
    lines += ["## What it shows", "", *(found or ["Too few runs are there to tell."]), ""]
    for (name, network), entries in by_network.items():
        scale = scales[name]
        lines += sections(scale, network, entries, store.load(timing_cell(scale, network)))
    lines += [METHOD_NOTES]
    commands = " and ".join(f"`python benchmarks/sparsity_record.py --scale {name}`" for name in scales)
    lines += [
        f"Made by {commands} with `--output docs/benchmarks/sparsity-record.md`, which go on where they were stopped; "
        f"torch {torch.__version__} on {platform.machine()}.",
    ]
    panels = [
        (NETWORKS[network].label, curves(entries, scales[name]))
        for (name, network), entries in by_network.items()
        if entries
    ]
    return "\n".join(lines) + "\n", draw(panels, columns=len(panels)) if panels else ""
