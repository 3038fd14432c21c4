"""Results: what the records say of each claim, as the plain data that `results.json` holds."""

from __future__ import annotations

import functools
import json
import math
import shlex
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

from nonsmooth.claims import registry
from nonsmooth.claims.claim import Claim, Headline, Judgement, Settings, Value, Verdict
from nonsmooth.claims.figure import Figure
from nonsmooth.claims.part import planned_cells
from nonsmooth.foreign_text import visible
from nonsmooth.lab import Cell, LabError, Record, Store
from nonsmooth.lab.folder import Folder

RESULTS_FILE = "results.json"
SETTINGS_FILE = "settings.json"

FAILURES_FILE = "failures.txt"
"""The tracebacks of the last run's failed cells; absent if none failed."""

REPORT_FILE = Path("report") / "index.html"
"""Where the report lies in a run's folder."""

_SETTINGS_LIMIT = 1 << 20

Number = float | int | str | bool | None
"""As JSON holds it: a float that is not finite is one of the words "inf", "-inf" and "nan"."""

JUDGED, INCOMPLETE, FAILED = "judged", "incomplete", "failed"
"""The state of a claim: it has a verdict; cells are still to be measured; a cell, the judging or the drawing failed."""


class ValueEntry(TypedDict):
    """A `Value` of a claim."""

    name: str
    label: str
    value: Number
    low: Number
    high: Number
    count: int | None
    unit: str


class SeedsEntry(TypedDict):
    """The seeds of a claim's cells."""

    first: int
    last: int
    count: int


class ClaimEntry(TypedDict):
    """What is known of one claim. Without a verdict, `error` says why and what a judgement would fill is empty."""

    id: str
    title: str
    where: str
    status: str
    verdict: str | None
    because: str | None
    error: str | None
    statement: str
    explanation: str
    control_experiment: str
    edition: str
    headline: dict[str, str] | None
    paper: list[ValueEntry]
    measured: list[ValueEntry]
    control: list[ValueEntry]
    predicted: list[ValueEntry]
    correction: str | None
    decided_by: str | None
    notes: list[str]
    rule: str
    cells: int
    seeds: SeedsEntry
    seconds: float


class Results(TypedDict):
    """The content of `results.json`. Times are in keys named seconds, started and finished, and nowhere else."""

    paper: str
    settings: dict[str, Any]
    verdicts: dict[str, int]
    claims: list[ClaimEntry]
    origin: dict[str, Any]
    started: str
    finished: str
    seconds: float


def assess(
    claim_id: str,
    cells: Sequence[Cell],
    records: Mapping[Cell, Record],
    failures: Collection[Cell] = (),
    part: Sequence[str] = (),
) -> ClaimEntry:
    """Judge a claim, if all its cells are measured.

    Args:
        claim_id: the claim.
        cells: all the cells that its plan asks for.
        records: those that are measured, and perhaps other claims' too.
        failures: the cells whose measurement failed.
        part: the conditions that restricted the plan; the entry's first note names them.
    """
    module = registry.load_claim(claim_id)
    measured = [records[cell] for cell in cells if cell in records]
    failed = sum(cell in failures for cell in cells)
    entry = functools.partial(_entry, module.CLAIM, registry.rule_of(claim_id), cells, measured)
    if not cells:
        return entry(None, INCOMPLETE, "none of its cells belongs to the part that was asked for")
    if failed:
        return entry(None, FAILED, f"{failed} of {len(cells)} cells failed")
    if len(measured) < len(cells):
        return entry(None, INCOMPLETE, f"{len(cells) - len(measured)} of {len(cells)} cells are not measured yet")
    try:
        judgement = module.judge(measured)
        if part:
            note = f"Judged on a part of its plan, the cells with {', '.join(part)}."
            judgement = replace(judgement, notes=(note, *judgement.notes))
        return entry(judgement, JUDGED, None)
    # Whatever is wrong in one claim must not lose the others; the error stands where the verdict would.
    except Exception as problem:
        return entry(None, FAILED, f"judging failed: {_one_line(problem)}")


def illustrate(entry: ClaimEntry, cells: Sequence[Cell], records: Mapping[Cell, Record]) -> list[Figure]:
    """The figures of a judged claim; none of another. If drawing fails, the entry is marked as failed and says so."""
    if entry["status"] != JUDGED:
        return []
    try:
        return registry.load_claim(entry["id"]).draw([records[cell] for cell in cells])
    # As in `assess`: one claim's figures must not lose the report.
    except Exception as problem:
        entry["status"], entry["error"] = FAILED, f"drawing failed: {_one_line(problem)}"
        return []


def _one_line(problem: Exception) -> str:
    text = visible(" ".join(str(problem).split()))
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def _entry(
    claim: Claim,
    rule: str,
    cells: Sequence[Cell],
    records: Sequence[Record],
    judgement: Judgement | None,
    status: str,
    error: str | None,
) -> ClaimEntry:
    return {
        "id": claim.id,
        "title": claim.title,
        "where": claim.where,
        "status": status,
        "verdict": str(judgement.verdict) if judgement else None,
        "because": judgement.because if judgement else None,
        "error": error,
        "statement": claim.statement,
        "explanation": claim.explanation,
        "control_experiment": claim.control,
        "edition": claim.edition,
        "headline": _headline(judgement.headline) if judgement else None,
        "paper": value_entries(claim.paper),
        "measured": value_entries(judgement.measured if judgement else ()),
        "control": value_entries(judgement.control if judgement else ()),
        "predicted": value_entries(judgement.predicted if judgement else ()),
        "correction": judgement.correction if judgement else None,
        "decided_by": judgement.decided_by if judgement else None,
        "notes": list(judgement.notes) if judgement else [],
        "rule": rule,
        "cells": len(cells),
        "seeds": _seeds(cells),
        "seconds": sum(record.seconds for record in records),
    }


def _headline(headline: Headline) -> dict[str, str]:
    return {"paper": headline.paper, "ours": headline.ours, "control": headline.control}


def value_entries(values: Iterable[Value]) -> list[ValueEntry]:
    """Values as `results.json` holds them."""
    return [
        {
            "name": value.name,
            "label": value.label,
            "value": _number(value.value),
            "low": _number(value.low),
            "high": _number(value.high),
            "count": None if value.count is None else int(value.count),
            "unit": value.unit,
        }
        for value in values
    ]


def _number(value: Any) -> Number:
    """A number as JSON can hold it; numpy's scalars become Python's. A foreign record can put anything in its place."""
    plain: object = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return "nan" if math.isnan(plain) else "inf" if plain > 0 else "-inf"
    if plain is None or isinstance(plain, str | bool | int | float):
        return plain
    raise TypeError(f"a value is {plain!r:.60}; accepted are numbers, texts, booleans and None")


def _numbers_in(content: Any) -> Any:
    """The same, with each number in it as `_number` has it."""
    if isinstance(content, Mapping):
        return {name: _numbers_in(value) for name, value in content.items()}
    return [_numbers_in(item) for item in content] if isinstance(content, list | tuple) else _number(content)


def _seeds(cells: Sequence[Cell]) -> SeedsEntry:
    """All seeds of the cells; one cell may hold several, which its parameter `seeds` then counts."""
    seeds = {cell.seed + i for cell in cells for i in range(_seeds_in(cell))}
    return {"first": min(seeds, default=0), "last": max(seeds, default=0), "count": len(seeds)}


def _seeds_in(cell: Cell) -> int:
    count = cell.parameters.get("seeds", 1)
    return count if isinstance(count, int) and not isinstance(count, bool) else 1


def summarise(
    entries: Sequence[ClaimEntry],
    settings: Settings,
    records: Iterable[Record],
    *,
    started: str,
    finished: str,
    seconds: float,
) -> Results:
    """The whole of `results.json`."""
    counts = Counter(entry["verdict"] for entry in entries)
    return {
        "paper": ""
        if not any(entry["id"] in registry.CLAIM_IDS for entry in entries)
        else "S. K. Kumar, GD doesn't make the cut: three ways that non-differentiability affects neural network "
        "training, arXiv 2401.08426",
        "settings": asdict(settings),
        "verdicts": {str(verdict): counts[str(verdict)] for verdict in Verdict},
        "claims": list(entries),
        "origin": _numbers_in(merged_origins(record.origin for record in records)),
        "started": started,
        "finished": finished,
        "seconds": seconds,
    }


def merged_origins(origins: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What records say of where they were measured: one value where all agree, else the list of different ones."""
    merged: dict[str, list[Any]] = {}
    for origin in origins:
        for name, value in origin.items():
            if value not in merged.setdefault(name, []):
                merged[name].append(value)
    return {name: seen[0] if len(seen) == 1 else sorted(seen, key=str) for name, seen in merged.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write under a temporary name and rename, so that what stands there is always whole."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str, within: Path | None = None) -> None:
    """As `write_json`, for any text. A link in the place of the file is replaced, not followed.

    Args:
        path: of the file.
        text: its content.
        within: a folder above the file, below which no link is followed; None for the file's own.

    Raises:
        LabError: the disk refuses, or a link leads elsewhere; what stood there before still does.
    """
    root = path.parent if within is None else within
    content = text.encode()
    try:
        Folder(root).write(content, *path.relative_to(root).parts)
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}") from error


def read_settings(folder: Path) -> tuple[Settings, dict[str, tuple[str, ...]]]:
    """The settings under which the folder's cells were planned, and the claims that were asked for.

    Claims that do not exist here are left out, and that is said by a warning.

    Returns:
        The settings, and the part of its plan that each claim is judged on: conditions, () for the whole.

    Raises:
        FileNotFoundError: no run has begun in that folder.
        ValueError: the file does not hold settings.
    """
    settings, noted = _read_noted(folder)
    known = registry.claim_ids()
    unknown = [claim_id for claim_id in noted if claim_id not in known]
    if unknown:
        warnings.warn(
            f"{folder / SETTINGS_FILE} names claims that do not exist, {unknown!r:.80}; they are left out. "
            "Those of files of your own are known once the files are named on the command line",
            stacklevel=2,
        )
    return settings, {claim_id: noted[claim_id] for claim_id in known if claim_id in noted}


def _read_noted(folder: Path) -> tuple[Settings, dict[str, tuple[str, ...]]]:
    """As `read_settings`, with the claims that do not exist here."""
    path = folder / SETTINGS_FILE
    try:
        content = json.loads(Folder(folder).read(SETTINGS_FILE, limit=_SETTINGS_LIMIT))
        settings, noted, parts = _settings(content["settings"]), content["claims"], content.get("parts", {})
        if not isinstance(noted, list) or not all(isinstance(claim_id, str) for claim_id in noted):
            raise ValueError(f"its claims are {noted!r:.60}")  # noqa: TRY301
        if not isinstance(parts, dict) or not all(_is_part(part) for part in parts.values()):
            raise ValueError(f"its parts are {parts!r:.60}")  # noqa: TRY301
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not hold the settings of a run: {_one_line(error)}") from error
    return settings, {claim_id: tuple(parts.get(claim_id, settings.part)) for claim_id in noted}


def _is_part(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(condition, str) for condition in content)


def _settings(content: Mapping[str, Any]) -> Settings:
    """Settings as a file holds them; the annotations of `Settings` bind no file."""
    settings = Settings(**content)
    texts = (settings.scale, settings.data, *settings.part)
    numbers = (settings.first_seed, *(() if settings.seeds is None else (settings.seeds,)))
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError(f"they are {dict(content)!r:.100}")
    return settings


def write_settings(folder: Path, settings: Settings, claim_ids: Sequence[str]) -> list[str]:
    """Note what a run is about to measure; claims noted before stay noted.

    A claim that was noted as a whole stays whole, also if only a part of its cells is measured now.

    In a folder without settings no run has begun: files that have the names of ours are the user's, or of a run whose
    settings were damaged. They get other names, and that is said by warnings.

    Returns:
        All claims that are noted now, in the paper's order.

    Raises:
        LabError: the folder holds a run with other settings, or the disk refuses.
    """
    noted: dict[str, tuple[str, ...]] = {}
    try:
        earlier, noted = _read_noted(folder)
        known = {claim_id: part for claim_id, part in noted.items() if claim_id in registry.claim_ids()}
        planned_cells(known, earlier, known)
    except FileNotFoundError:
        _set_aside(folder)
    except ValueError as error:  # also settings that no run can have had
        noted = {}
        warnings.warn(str(error), stacklevel=2)
        _set_aside(folder)
    else:
        if noted and settings_name(earlier) != settings_name(settings):
            other = shlex.quote(str(folder / settings_name(settings)))
            raise LabError(
                f"{folder} holds a report with other settings ({settings_name(earlier)}; these are "
                f"{settings_name(settings)}); it is left as it is. Give this run a folder of its own: --out {other}"
            )
    noted |= {claim_id: settings.part for claim_id in claim_ids if noted.get(claim_id) != ()}
    order = registry.claim_ids()
    ids = sorted(noted, key=lambda claim_id: order.index(claim_id) if claim_id in order else len(order))
    common = noted[ids[0]] if ids and len(set(noted.values())) == 1 else ()
    parts = {claim_id: list(noted[claim_id]) for claim_id in ids if noted[claim_id] != common}
    content = {"settings": asdict(replace(settings, part=common)), "claims": ids}
    write_json(folder / SETTINGS_FILE, {**content, "parts": parts} if parts else content)
    return ids


def settings_name(settings: Settings) -> str:
    """The settings as the name of a folder, such as "quick" or "quick-cifar10-seeds-50"; the part does not count."""
    usual = "digits" if settings.scale == "quick" else "cifar10"
    return "-".join(
        [
            settings.scale,
            *([settings.data] if settings.data != usual else []),
            *([f"seeds-{settings.seeds}"] if settings.seeds is not None else []),
            *([f"from-{settings.first_seed}"] if settings.first_seed else []),
        ]
    )


def _set_aside(folder: Path) -> None:
    """Give other names to the files in the places of ours, with a warning for each."""
    for path in (Path(SETTINGS_FILE), Path(RESULTS_FILE), Path(FAILURES_FILE), REPORT_FILE):
        try:
            name = Folder(folder).set_aside(*path.parts)
        except OSError as error:
            raise LabError(f"cannot rename {folder / path}: {error.strerror or error}") from error
        if name is not None:
            warnings.warn(f"{folder / path} is of no run that is known here; it is kept as {name}", stacklevel=3)


def stored_records(store: Store, cells: Iterable[Cell]) -> dict[Cell, Record]:
    """The records that the store has of these cells."""
    found = ((cell, store.load(cell)) for cell in dict.fromkeys(cells))
    return {cell: record for cell, record in found if record is not None}
