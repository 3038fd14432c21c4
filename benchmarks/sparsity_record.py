"""Test accuracy at 80 to 99 % zeros on CIFAR-10, at equal epochs: SparsityTarget, other people's ways, and controls.

    python benchmarks/sparsity_record.py [--scale small] [--workers 2] [--output docs/benchmarks/sparsity-record.md]
    python benchmarks/sparsity_record.py --scale record --device cuda --minutes 10

First each method's settings are chosen, for each share of zeros, with tuning seeds on images held out from the
training set; every method has the same number of runs for that. Then the chosen settings are run with other seeds, and
only these runs look at the test images. Every run is stored when it is complete, and its state now and then, so the
same command goes on where it was stopped, by --minutes or by an interrupt. The page has blanks where runs are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sparsity_record_page
from cifar_sparsity import default_data
from sparsity_record_choice import Search
from sparsity_record_methods import METHODS
from sparsity_record_networks import NETWORKS
from sparsity_record_run import EXPERIMENT, REPORT, Scale, measure, timing_cell

from nonsmooth.lab import Cell, Context, Interrupted, Record, SilentWatcher, Store, run

LEVELS = (0.8, 0.9, 0.95, 0.98, 0.99)
SCALES = {
    "tiny": Scale(
        networks=("tiny",),
        levels=(0.8, 0.95),
        train=320,
        validation=100,
        test=100,
        epochs=3,
        batch=32,
        augment=True,
        precision="float32",
        family="adam",
        trials=2,
        tuning_seeds=(0,),
        report_seeds=(100, 101),
        device="cpu",
        seconds=0.2,
    ),
    "small": Scale(
        networks=("cnn",),
        levels=LEVELS,
        train=6000,
        validation=2000,
        test=4000,
        epochs=8,
        batch=50,
        augment=False,
        precision="bfloat16",
        family="adam",
        trials=4,
        tuning_seeds=(0, 1),
        report_seeds=(100, 101, 102, 103, 104),
        device="cpu",
        seconds=15.0,
    ),
    "record": Scale(
        networks=("resnet18", "vgg19"),
        levels=LEVELS,
        train=45000,
        validation=5000,
        test=10000,
        epochs=18,
        batch=256,
        augment=True,
        precision="bfloat16",
        family="adam",
        trials=2,
        tuning_seeds=(0,),
        report_seeds=(100, 101, 102),
        device="cuda",
        seconds=60.0,
    ),
}


class Lines(SilentWatcher):
    """A line for each run."""

    def finished(self, cell: Cell, record: Record) -> None:
        """Print what came out."""
        if cell.claim == EXPERIMENT:
            p: Any = cell.parameters
            named = " ".join(f"{name} {value:g}" for name, value in p["settings"])
            scores = " ".join(
                f"{100 * zeros:.2f} %: {score:.4f}"
                for zeros, score in zip(record["zeros"], record["validation"], strict=True)
            )
            print(
                f"{p['stage']} {p['network']} {p['method']} {named} seed {cell.seed} {scores} {record.seconds:.1f} s",
                flush=True,
            )

    def failed(self, cell: Cell, message: str) -> None:
        """Print the traceback."""
        print(cell.parameters, message, flush=True)


class Bench:
    """The runs of a scale, in the order in which they are wanted.

    Args:
        scale: how much.
        store: where the runs are kept.
        networks: those that are run.
        methods: those that are run.
        levels: those that are run.
    """

    def __init__(
        self, scale: Scale, store: Store, networks: Sequence[str], methods: Sequence[str], levels: Sequence[float]
    ) -> None:
        self.scale, self.store, self.levels = scale, store, levels
        self.networks = networks
        self.pairs = [(network, method) for network in networks for method in methods]

    def wanted(self, search: Search) -> list[float]:
        """The levels of a method that are run."""
        return [level for level in search.levels() if level in (0.0, *self.levels)]

    def choosing(self) -> list[Cell]:
        """The runs that choose and are not there yet, as far as they are known; λ is closed in on in rounds."""
        missing: list[Cell] = []
        for network, method in self.pairs:
            search = Search(self.scale, self.store, network, method)
            for level in self.wanted(search):
                search.trials(level)
            missing += search.missing
        return list(dict.fromkeys(missing))

    def reporting(self) -> list[list[Cell]]:
        """The runs that are reported, one list for each seed: a seed is run for all methods before the next."""
        by_seed: list[list[Cell]] = []
        for seed in self.scale.report_seeds:
            cells = []
            for network, method in self.pairs:
                search = Search(self.scale, self.store, network, method)
                for level in self.wanted(search):
                    choice = search.choice(level)
                    if choice is not None:
                        cells += search.cells(choice.trial.settings, level, REPORT, [seed])
            by_seed.append(list(dict.fromkeys(cells)))
        return by_seed

    def timing(self) -> list[Cell]:
        """The runs that time steps."""
        return [timing_cell(self.scale, network) for network in self.networks]


@contextlib.contextmanager
def stopped_after(minutes: float | None) -> Iterator[None]:
    """Ask the run to stop as a user would; what is complete is stored, and the rest goes on from its checkpoint."""
    timer = None if minutes is None else threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    except Interrupted:
        print("stopped; the same command goes on from here", flush=True)
    finally:
        if timer is not None:
            timer.cancel()


def run_all(bench: Bench, context: Context, workers: int) -> None:
    """Choose, report and time; a choice is complete before anything of it is reported.

    Raises:
        SystemExit: a run has failed; the traceback has been printed.
    """

    def measured(cells: Iterable[Cell], at_once: int = workers) -> None:
        outcome = run(cells, measure, bench.store, context=context, workers=at_once, watcher=Lines())
        if outcome.failures:
            raise SystemExit(f"{len(outcome.failures)} runs have failed")

    while cells := bench.choosing():
        measured(cells)
    for cells in bench.reporting():
        measured(cells)
    measured(bench.timing(), 1)


def main() -> None:
    """Run what is missing, print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--device", help="a torch device (default: the one that the scale is meant for)")
    parser.add_argument("--data", default=default_data(), help="cifar10, or a folder that holds it")
    parser.add_argument("--store", type=Path, default=Path("results/sparsity-record"))
    parser.add_argument("--workers", type=int, default=1, help="runs at once")
    parser.add_argument("--minutes", type=float, help="stop after so many; the same command goes on")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="run these alone")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="run these alone")
    parser.add_argument("--levels", nargs="+", type=float, help="run these shares of zeros alone, such as 0.95")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is stored")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    scale, store = SCALES[arguments.scale], Store(arguments.store)
    levels = arguments.levels or scale.levels
    if unknown := set(levels) - set(scale.levels):
        parser.error(f"--levels has {sorted(unknown)}; accepted are {', '.join(map(str, scale.levels))}")
    if not arguments.report:
        bench = Bench(scale, store, arguments.networks or scale.networks, arguments.methods, levels)
        context = Context(arguments.device or scale.device, arguments.data)
        with stopped_after(arguments.minutes):
            run_all(bench, context, arguments.workers)
    together = {name: SCALES[name] for name in ("small", "record")}
    shown = together if arguments.scale in together else {arguments.scale: scale}
    page, figure = sparsity_record_page.write(shown, store)
    print(page)
    if arguments.output is not None:
        arguments.output.write_text(page, encoding="utf-8")
        if figure:
            (arguments.output.parent / sparsity_record_page.FIGURE).write_text(figure, encoding="utf-8")


if __name__ == "__main__":
    main()
