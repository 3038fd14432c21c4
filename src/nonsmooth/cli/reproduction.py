"""The commands `reproduce` and `report`."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import typer
from rich.text import Text

from nonsmooth.claims.framework.claim import Settings
from nonsmooth.claims.framework.part import planned_cells
from nonsmooth.claims.framework.registry import measure_cell
from nonsmooth.claims.framework.results import FAILED, INCOMPLETE, ClaimEntry, Results
from nonsmooth.claims.framework.run_folder import (
    FAILURES_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    note_claim_files,
    settings_name,
    write_settings,
    write_text,
)
from nonsmooth.cli.listing import print_line, print_results
from nonsmooth.cli.progress import watch
from nonsmooth.cli.selection import check_folder, check_images, is_claim_file, pick_claims, pick_device
from nonsmooth.cli.terminal import Terminal, foreign
from nonsmooth.foreign_text import visible
from nonsmooth.lab import Cell, Context, Interrupted, LabError, Outcome, Store, run
from nonsmooth.lab.folder import Folder
from nonsmooth.lab.origin import available_cores
from nonsmooth.report import write_report
from nonsmooth.report.summary import duration
from nonsmooth.report.writing import Timing, check_report_folder


@dataclass(frozen=True)
class Request:
    """What the user typed."""

    claims: tuple[str, ...]
    scale: str
    data: str
    device: str | None
    seeds: int | None
    first_seed: int
    workers: int | None
    out: Path | None
    fresh: bool
    where: tuple[str, ...]


def reproduce_claims(request: Request) -> int:
    """Measure, judge, draw and tell.

    Returns:
        The exit code: 0, or 1 if something failed, or 128 and the signal's number if the run was interrupted.

    Raises:
        typer.BadParameter: the request names something that does not exist.
    """
    console, errors = Terminal(), Terminal(stderr=True)
    claim_ids = pick_claims(request.claims)
    check_folder(request.data)
    device = pick_device(request.device, request.scale)
    images = "digits" if request.data == "digits" else "cifar10"
    try:
        settings = Settings(request.scale, images, request.seeds, request.first_seed, request.where)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--seed or --seeds") from error
    try:
        with _warnings_as_lines(errors):
            plans = planned_cells(claim_ids, settings)
    except ValueError as error:
        raise typer.BadParameter(visible(error), param_hint="--where" if request.where else "--seeds") from error
    files = tuple(str(Path(name).resolve()) for name in request.claims if is_claim_file(name))
    measure = partial(measure_cell, files=files) if files else measure_cell
    cells = list(dict.fromkeys(cell for plan in plans.values() for cell in plan))
    folder = request.out or Path("results") / settings_name(settings)
    store = Store(folder)
    wrong = check_images(request.data, (c for c in cells if request.fresh or not store.has(c)))
    if wrong:
        return _refuse(errors, wrong)
    workers = request.workers or (1 if device.startswith("cuda") else available_cores())
    started, clock = datetime.now(timezone.utc), time.monotonic()
    try:
        with _warnings_as_lines(errors), store.lock():
            check_report_folder(folder)
            write_settings(folder, settings, claim_ids)
            if not request.fresh:
                reused = {claim_id for claim_id, plan in plans.items() if any(map(store.has, plan))}
                note_claim_files(folder, claim_ids, reused)
            with watch(console, plans, cells, store, workers, request.fresh) as watcher:
                context = Context(device, request.data)
                outcome = run(
                    cells, measure, store, context=context, workers=workers, fresh=request.fresh, watcher=watcher
                )
            if request.fresh:  # an interrupted run leaves cells of the earlier file
                note_claim_files(folder, claim_ids, ())
            finished = datetime.now(timezone.utc)
            timing = Timing(_iso(started), _iso(finished), time.monotonic() - clock)
            _note_failures(folder, outcome)
            results = write_report(folder, outcome.failures, timing)
    except Interrupted as interruption:
        done = sum(store.has(cell) for cell in cells)
        errors.print(f"\nInterrupted: {done} of {len(cells)} cells are stored. The same command goes on from there.")
        return 128 + interruption.signal_number
    except LabError as error:
        return _refuse(errors, str(error))
    asked = [entry for entry in results["claims"] if entry["id"] in claim_ids]
    _tell(console, folder, results, asked)
    _tell_failures(errors, folder, plans, outcome, asked)
    return int(any(entry["status"] == FAILED for entry in asked))


def report_again(folder: Path, files: Sequence[Path] = ()) -> int:
    """Judge and draw what is stored in a folder.

    Args:
        folder: of a run.
        files: of the claims of one's own in it.

    Returns:
        The exit code: 0, or 1 if judging or drawing failed.

    Raises:
        typer.BadParameter: no run has begun in that folder.
    """
    errors = Terminal(stderr=True)
    pick_claims(tuple(map(str, files)))
    try:
        with _warnings_as_lines(errors):
            results = write_report(folder)
    except LabError as error:
        return _refuse(errors, str(error))
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(
            f"{str(folder)!r} is not the folder of a run, which `nonsmooth reproduce --out` makes ({visible(error)})",
            param_hint="DIR",
        ) from error
    _tell(Terminal(), folder, results, results["claims"])
    _tell_failures(errors, folder, {}, Outcome({}, {}), results["claims"])
    return int(any(entry["status"] == FAILED for entry in results["claims"]))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _refuse(errors: Terminal, message: str) -> int:
    _tell_fault(errors, "Error", message)
    return 1


def _tell_fault(errors: Terminal, kind: str, message: str) -> None:
    errors.print(Text.assemble((f"{kind}: ", "bold red"), foreign(errors, message)), soft_wrap=True)


def _tell(console: Terminal, folder: Path, results: Results, entries: Sequence[ClaimEntry]) -> None:
    console.print()
    print_results(entries, console)
    for entry in entries:
        if entry["status"] == INCOMPLETE:
            print_line(console, f"{entry['id']}: {entry['error']}.")
    console.print(f"Total time: {duration(results['seconds'])}")
    console.print(foreign(console, f"Results:    {folder / RESULTS_FILE}"), soft_wrap=True)
    console.print(foreign(console, f"Report:     {folder / REPORT_FILE}"), soft_wrap=True)


@contextlib.contextmanager
def _warnings_as_lines(errors: Terminal) -> Iterator[None]:
    """What is said of the folder's files by warnings, a line each."""

    def show(message: Warning | str, *_place: object, **_source: object) -> None:
        errors.print(Text.assemble(("Warning: ", "yellow"), foreign(errors, message)), soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _note_failures(folder: Path, outcome: Outcome) -> None:
    if outcome.failures:
        texts = visible("\n".join(f"{cell.describe()}\n{text}" for cell, text in outcome.failures.items()), lines=True)
        write_text(folder / FAILURES_FILE, texts)
        return
    try:
        Folder(folder).remove_file(FAILURES_FILE)
    except OSError as error:
        raise LabError(f"cannot remove {folder / FAILURES_FILE}: {error.strerror or error}") from error


def _tell_failures(
    errors: Terminal,
    folder: Path,
    plans: Mapping[str, Sequence[Cell]],
    outcome: Outcome,
    entries: Sequence[ClaimEntry],
) -> None:
    """A line for each claim that failed, with the first reason."""
    for entry in entries:
        if entry["status"] != FAILED:
            continue
        reasons = [outcome.failures[cell] for cell in plans.get(entry["id"], ()) if cell in outcome.failures]
        reason = f": {reasons[0].strip().splitlines()[-1]}" if reasons else ""
        _tell_fault(errors, "Failed", f"{entry['id']}: {entry['error']}{reason}")
    if outcome.failures:
        errors.print(foreign(errors, f"Tracebacks: {folder / FAILURES_FILE}"), soft_wrap=True)
