"""Results: what the records say of each claim, as the plain data that `results.json` holds."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypedDict

from nonsmooth.claims.framework import registry
from nonsmooth.claims.framework.choice import in_words
from nonsmooth.claims.framework.claim import Alternative, Claim, Headline, Judgement, Robustness, Settings, Verdict
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.framework.quantity import Finding
from nonsmooth.claims.framework.run_folder import one_line
from nonsmooth.lab import Cell, Record, Store

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


class RobustnessEntry(TypedDict):
    """Under how many alternatives a verdict stands, and which give another one."""

    verdict: str
    stands: int
    alternatives: int
    flips: list[dict[str, str]]
    not_judged: list[str]
    unchanged: list[str]


class ChoiceEntry(TypedDict):
    """A choice that a verdict rests on."""

    name: str
    label: str
    value: str
    alternatives: list[str]
    why: str


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
    plain: str
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
    says: str
    asked: list[str]
    would_change: list[str]
    robustness: RobustnessEntry | None
    choices: list[ChoiceEntry]
    afterthoughts: list[dict[str, str]]
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
        return entry(None, FAILED, f"judging failed: {one_line(problem)}")


def illustrate(entry: ClaimEntry, cells: Sequence[Cell], records: Mapping[Cell, Record]) -> list[Figure]:
    """The figures of a judged claim; none of another. If drawing fails, the entry is marked as failed and says so."""
    if entry["status"] != JUDGED:
        return []
    try:
        return registry.load_claim(entry["id"]).draw([records[cell] for cell in cells])
    # As in `assess`: one claim's figures must not lose the report.
    except Exception as problem:
        entry["status"], entry["error"] = FAILED, f"drawing failed: {one_line(problem)}"
        return []


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
        "plain": claim.plain or claim.title,
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
        "says": judgement.says if judgement else "",
        "asked": list(judgement.asked) if judgement else [],
        "would_change": list(judgement.would_change) if judgement else [],
        "robustness": _robustness(judgement),
        "choices": choice_entries(claim.id),
        "afterthoughts": _afterthoughts(claim.id),
        "rule": rule,
        "cells": len(cells),
        "seeds": _seeds(cells),
        "seconds": sum(record.seconds for record in records),
    }


def _robustness(judgement: Judgement | None) -> RobustnessEntry | None:
    if judgement is None or judgement.robustness is None:
        return None
    found = judgement.robustness
    return {
        "verdict": str(found.verdict),
        "stands": found.stands,
        "alternatives": len(found.judged),
        "flips": [{"what": one.what, "verdict": _told_apart(one, found)} for one in found.flips],
        "not_judged": list(found.not_judged),
        "unchanged": list(found.unchanged),
    }


def _told_apart(one: Alternative, found: Robustness) -> str:
    """The verdict of an alternative; where it is the same on another ground, with that."""
    return f"{one.verdict}: {one.says}" if one.verdict is found.verdict else str(one.verdict)


def choice_entries(claim_id: str) -> list[ChoiceEntry]:
    """The choices of a claim as `results.json` holds them."""
    return [
        {
            "name": choice.name,
            "label": choice.label,
            "value": in_words(choice.value),
            "alternatives": [in_words(value) for value in choice.alternatives],
            "why": choice.why,
        }
        for choice in getattr(registry.load_claim(claim_id), "choices", ())
    ]


def _afterthoughts(claim_id: str) -> list[dict[str, str]]:
    return [asdict(one) for one in getattr(registry.load_claim(claim_id), "afterthoughts", ())]


def _headline(headline: Headline) -> dict[str, str]:
    return {"paper": headline.paper, "ours": headline.ours, "control": headline.control}


def value_entries(values: Iterable[Finding]) -> list[ValueEntry]:
    """Values as `results.json` holds them."""
    return [
        {
            "name": value.name,
            "label": value.label,
            "value": _number(value.value),
            "low": _number(getattr(value, "low", None)),
            "high": _number(getattr(value, "high", None)),
            "count": None if (count := getattr(value, "count", None)) is None else int(count),
            "unit": getattr(value, "unit", ""),
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


def stored_records(store: Store, cells: Iterable[Cell]) -> dict[Cell, Record]:
    """The records that the store has of these cells."""
    found = ((cell, store.load(cell)) for cell in dict.fromkeys(cells))
    return {cell: record for cell, record in found if record is not None}
