"""A command that runs a toy plan, for tests that interrupt and kill it: FOLDER, CELLS, WORKERS, SLEEP, MEASURE."""

import signal
import sys
from pathlib import Path

import toy_measures

from nonsmooth.lab import Cell, Context, Interrupted, LabError, SilentWatcher, Store, run


def plan(count, sleep):
    """Cells of which the one with seed 0 is measured first, alone."""
    return [Cell("toy", {"sleep": sleep}, seed=seed, cost=0.1 if seed else 1.0) for seed in range(count)]


class Telling(SilentWatcher):
    def finished(self, cell, record):
        print("finished", cell.key, flush=True)


def main():
    folder, count, workers, sleep, measure = sys.argv[1:]
    try:
        outcome = run(
            plan(int(count), float(sleep)),
            getattr(toy_measures, measure),
            Store(Path(folder)),
            context=Context(),
            workers=int(workers),
            watcher=Telling(),
        )
    except Interrupted as interruption:
        print("interrupted", interruption, flush=True)
        return 128 + interruption.signal_number
    except LabError as error:
        print("stopped", error, flush=True)
        return 1
    print("complete", len(outcome.records), flush=True)
    return 0


if __name__ == "__main__":
    # A shell that started the tests in the background has them, and what they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
