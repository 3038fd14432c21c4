"""The page and the figure that `sparsity_record.py` writes from its stored runs."""

from __future__ import annotations

import platform
import statistics
from dataclasses import dataclass
from typing import Any

import torch
from cifar_sparsity_figure import Series, draw
from cifar_sparsity_page import Interval, interval, table
from sparsity_record_choice import Choice, Search, tolerance
from sparsity_record_methods import FOUND, METHODS, PRIMARY, ROUNDED, Method
from sparsity_record_networks import NETWORKS
from sparsity_record_run import REPORT, Scale, timing_cell

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
    """A line for each method, where its zeros lie; the dense network's is drawn across."""
    drawn = []
    for name, method in METHODS.items():
        own = [entry for (other, _), entry in entries.items() if other == name]
        if not own:
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


def introduction(scale: Scale, name: str) -> list[str]:
    """What was done, and how."""
    optimizer = {"adam": "Adam", "sgd": "SGD with momentum 0.9"}[scale.family]
    found = [method.label for method in METHODS.values() if method.arrives == FOUND]
    rounded = [method.label for key, method in METHODS.items() if method.arrives == ROUNDED and key != "dense"]
    seeds = ", ".join(map(str, scale.tuning_seeds))
    return [
        "# The record: accuracy at 80 to 99 % zeros",
        "",
        "Test accuracy on CIFAR-10 at given shares of zeros among the weights of convolutions and linear layers, at "
        "equal epochs for all methods, pruning and fine-tuning included. Each number is a mean over "
        f"{len(scale.report_seeds)} seeds with its 95 % t interval; a cell is blank where runs are missing.",
        "",
        f"Scale `{name}`: {scale.train:,} training images, {scale.epochs} epochs of batches of {scale.batch} "
        f"({scale.steps:,} steps), images {'flipped and shifted at random' if scale.augment else 'as they are'}, "
        f"convolutions in {scale.precision}; {optimizer} or what is built on it, its step size falling to zero as a "
        "cosine; no weight decay but where a method lives on it. The same seed means the same starting weights and "
        "batches under every method. Accuracies are those of the network after the last step.",
        "",
        f"**Choices.** Every method may have {scale.trials * len(scale.levels)} runs per tuning seed ({seeds}), "
        f"{scale.trials} for each level, judged on {scale.validation:,} images held out from the training set. Methods "
        "that are told the level spend them on settings, level by level. Those that are rounded at the end "
        f"({'; '.join(rounded)}) keep the largest weights of all layers together, exactly as many as the level says, "
        "which is to their favour: each run is judged at all levels, and the best is taken for each. For those whose "
        f"λ has to be found ({'; '.join(found)}), half of the runs try settings and a few λ, and half close in on each "
        "level with the settings that promise most there; of the runs within a point of the level (at most a fifth of "
        "the weights left) the best on validation is taken, and where there is none the nearest. A number that was "
        "reached elsewhere than within that distance has the share that was reached beside it. The chosen settings are "
        f"then run with other seeds ({', '.join(map(str, scale.report_seeds))}). Only these runs look at the "
        f"{scale.test:,} test images, and nothing is chosen from them.",
        "",
    ]


METHOD_NOTES = """## The methods

- *SparsityTarget*: L1 under a steady optimizer, λ moved by the target until it lets go at `release` of the steps; then
  the support is frozen and λ is 0.
- *λ alone*: the same without a target; λ stays, and so does its shrinkage.
- *Gradual magnitude pruning* (Zhu & Gupta 2017): the share of zeros rises as a cubic from `start` to `end` of the
  steps, masks of the smallest weights of all layers together are found anew each `every` of the steps and held.
- *Rounded dense*: the dense network, its small weights set to zero at the end, no fine-tuning.
- *STR* (Kusupati et al. 2020): w ← sign(w)·max(|w| - sigmoid(s), 0) with one s for each layer, which starts at
  `threshold` and is raised by weight decay, here `strength`. SGD with momentum trains s, as in the paper, whatever
  trains the weights. The paper's code starts s at -3200, takes 500,000 steps and has one decay for s and weights; so
  few steps need a start nearer to zero, and the weights have no decay here, as under the other methods.
- *spred* (Ziyin & Wang 2023): w = u⊙v with weight decay `strength` on both factors, starting from the weights that the
  others start from. No weight becomes exactly zero, hence the rounding; the paper's fine-tuning after it is not done.
- *torchao's PruneOptimizer* (prototype.pat): its ProxLasso on single weights, or its GlobalMinSparsityConstraint, which
  is told a share and follows a cubic. From `healing` of the steps on the zeros are frozen and the rest is trained on.

A step size is `rate` times the family's own (0.001 for Adam, 0.03 for SGD).
"""


def write(scale: Scale, store: Store, name: str) -> tuple[str, str]:
    """The page in Markdown and the figure as SVG."""
    by_network = {network: entries_of(scale, store, network) for network in scale.networks}
    command = "python benchmarks/sparsity_record.py" + (f" --scale {name}" if name != "small" else "")
    lines = introduction(scale, name)
    if any(by_network.values()):
        lines += [f"![Test accuracy against the share of zeros]({FIGURE})", ""]
    found = [line for network in scale.networks for line in findings(scale, network, by_network[network])]
    lines += ["## What it shows", "", *(found or ["Too few runs are there to tell."]), ""]
    for network, entries in by_network.items():
        label = NETWORKS[network].label
        lines += [f"## {label}", "", "Test accuracy (%):", "", *accuracy_table(scale, entries)]
        lines += [
            f"Ahead of each by how many points {METHODS[PRIMARY].label} is, seed by seed; bold where the interval lies "
            "above zero:",
            "",
            *difference_table(scale, entries),
        ]
    lines += [METHOD_NOTES]
    for network, entries in by_network.items():
        lines += [f"## Chosen for {NETWORKS[network].label}", "", *choice_table(scale, entries)]
        record: Record | None = store.load(timing_cell(scale, network))
        if record is not None:
            times: dict[str, Any] = dict(record.values)
            lines += [
                f"## Time of a step of {NETWORKS[network].label}",
                "",
                "Median of whole training steps, forward and backward included; the methods take turns in one process, "
                "each going through its schedule.",
                "",
                *time_table(times),
            ]
    lines += [
        f"Made by `{command} --output docs/benchmarks/sparsity-record.md`, which goes on where it was stopped; torch "
        f"{torch.__version__} on {platform.machine()}.",
    ]
    panels = [(NETWORKS[network].label, curves(entries, scale)) for network, entries in by_network.items() if entries]
    return "\n".join(lines) + "\n", draw(panels, columns=len(panels)) if panels else ""
