"""The files of a run's folder: their names, how they are written, and the settings that the run notes in it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nonsmooth.claims.framework import registry
from nonsmooth.claims.framework.claim import Settings
from nonsmooth.claims.framework.part import planned_cells
from nonsmooth.foreign_text import visible
from nonsmooth.lab import LabError
from nonsmooth.lab.folder import Folder

RESULTS_FILE = "results.json"
SETTINGS_FILE = "settings.json"

CLAIM_FILES_FILE = "claim-files.json"
"""Hashes of the files of the user's own claims, as they were when their cells were measured."""

FAILURES_FILE = "failures.txt"
"""The tracebacks of the last run's failed cells; absent if none failed."""

REPORT_FILE = Path("report") / "index.html"
"""Where the report lies in a run's folder."""

_SETTINGS_LIMIT = 1 << 20


def one_line(problem: Exception) -> str:
    """An exception as a line that is safe to print."""
    text = visible(" ".join(str(problem).split()))
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


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
        raise ValueError(f"{path} does not hold the settings of a run: {one_line(error)}") from error
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
        if noted and replace(earlier, part=()) != replace(settings, part=()):
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


def note_claim_files(folder: Path, claim_ids: Sequence[str], reused: Collection[str]) -> None:
    """Note the hashes of the files of claims; that one has changed since its stored cells were measured is warned of.

    Args:
        folder: of a run.
        claim_ids: of the claims that are run; those without a file are passed over.
        reused: those of which stored cells are used again: the hash that these were measured with stays.

    Raises:
        LabError: the disk refuses.
    """
    noted = _read_claim_files(folder)
    present = dict(noted)
    for claim_id in claim_ids:
        found = registry.file_and_hash(claim_id)
        if found is None:
            continue
        path, digest = found
        if claim_id in reused and noted.get(claim_id, digest) != digest:
            warnings.warn(
                f"{path} has changed since the stored cells of {claim_id} were measured, and these are used as they "
                "are: if the change is in what is measured, raise the `version` of its cells, or add --fresh",
                stacklevel=2,
            )
        else:
            present[claim_id] = digest
    if present != noted:
        write_json(folder / CLAIM_FILES_FILE, present)


def _read_claim_files(folder: Path) -> dict[str, str]:
    """The hashes that are noted in a folder; none where they cannot be read, which is said by a warning."""
    try:
        content = json.loads(Folder(folder).read(CLAIM_FILES_FILE, limit=_SETTINGS_LIMIT))
        if not isinstance(content, dict) or not all(isinstance(digest, str) for digest in content.values()):
            raise ValueError(f"it holds {content!r:.60}")  # noqa: TRY301
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problem = one_line(error)
        warnings.warn(f"{folder / CLAIM_FILES_FILE} is written anew, it cannot be read: {problem}", stacklevel=3)
        return {}
    return content


def settings_name(settings: Settings) -> str:
    """The settings as the name of a folder, such as "quick" or "quick-cifar10-seeds-50"; the part does not count."""
    usual, data = "digits" if settings.scale == "quick" else "cifar10", settings.data
    if not re.fullmatch(r"[\w-]+", data):  # a path: its last name, and a few letters that tell it from others
        data = re.sub(r"[^\w-]+", "-", Path(data).name) + "-" + hashlib.sha256(data.encode()).hexdigest()[:6]
    return "-".join(
        [
            settings.scale,
            *([data] if settings.data != usual else []),
            *([f"seeds-{settings.seeds}"] if settings.seeds is not None else []),
            *([f"from-{settings.first_seed}"] if settings.first_seed else []),
        ]
    )


def _set_aside(folder: Path) -> None:
    """Give other names to the files in the places of ours, with a warning for each."""
    for path in (*map(Path, (SETTINGS_FILE, CLAIM_FILES_FILE, RESULTS_FILE, FAILURES_FILE)), REPORT_FILE):
        try:
            name = Folder(folder).set_aside(*path.parts)
        except OSError as error:
            raise LabError(f"cannot rename {folder / path}: {error.strerror or error}") from error
        if name is not None:
            warnings.warn(f"{folder / path} is of no run that is known here; it is kept as {name}", stacklevel=3)
