"""Write the summary of a run as a page of the documentation.

    python tools/summarise_results.py results/quick --output docs/results/quick.md --title "Scale quick"

Everything on the page comes from the run's `results.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nonsmooth.claims.framework.quantity import Value
from nonsmooth.claims.framework.run_folder import RESULTS_FILE


def summary(results: dict[str, Any], title: str) -> str:
    """The page, as Markdown."""
    settings, origin = results["settings"], results["origin"]
    part = f", part `{' '.join(settings['part'])}`" if settings["part"] else ""
    machine = f"torch {_plain(origin.get('torch'))} on {_plain(origin.get('processor'))}, one thread a cell"
    lines = [
        f"# {title}",
        "",
        f"Scale `{settings['scale']}`, images `{settings['data']}`{part}. Measured with {machine}.",
        "",
        "| claim | paper | ours | control | verdict | cells | core-seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim in results["claims"]:
        headline = claim["headline"] or {"paper": "–", "ours": "–", "control": "–"}
        cells = (headline["paper"], headline["ours"], headline["control"], _verdict(claim))
        lines.append(
            f"| [`{claim['id']}`](#{claim['id']}) | "
            + " | ".join(_cell(text) for text in cells)
            + f" | {claim['cells']} | {claim['seconds']:.0f} |"
        )
    for claim in results["claims"]:
        lines += ["", f"## {claim['title']} {{#{claim['id']}}}", "", f"{claim['where']}. {claim['because']}", ""]
        if claim["correction"]:
            lines += [f"Correction: {claim['correction']}", ""]
        if claim["decided_by"]:
            lines += [f"What would decide it: {claim['decided_by']}.", ""]
        found = claim["robustness"]
        if found and found["alternatives"]:
            lines += [f"“{found['verdict']}” stands under {found['stands']} of {found['alternatives']} alternatives."]
            if more := len(found["unchanged"]):
                lines[-1] += f" Not counted: {more} that change{'s' * (more == 1)} nothing the rule asks for."
            lines += ["", *(f"- {flip['what']}: {flip['verdict']}" for flip in found["flips"]), ""]
        lines += ["| quantity | kind | value | n |", "|---|---|---|---|"]
        for kind in ("paper", "measured", "control", "predicted"):
            lines += [_row(kind, entry) for entry in claim[kind]]
        lines += ["", *(f"- {note}" for note in claim["notes"])]
    return "\n".join(lines) + "\n"


def _verdict(claim: dict[str, Any]) -> str:
    """The verdict, in plain words too, and how far it stands."""
    found = claim["robustness"]
    standing = ""
    if found and found["alternatives"]:
        what = "stands" if found["verdict"] == claim["verdict"] else f"“{found['verdict']}”"
        standing = f"{what} under {found['stands']} of {found['alternatives']}"
    return ", ".join(filter(None, (f"**{claim['verdict'] or claim['status']}**", claim["says"], standing)))


def _row(kind: str, entry: dict[str, Any]) -> str:
    numbers = {name: _number(entry[name]) for name in ("value", "low", "high")}
    value = Value(entry["name"], entry["label"], numbers["value"], numbers["low"], numbers["high"], unit=entry["unit"])
    return f"| {_cell(entry['label'])} | {kind} | {_cell(str(value))} | {entry['count'] or ''} |"


def _number(entry: Any) -> Any:
    """As JSON holds it, back to a float where it is not finite."""
    return float(entry) if entry in ("inf", "-inf", "nan") else entry


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Read the arguments and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--title", required=True)
    arguments = parser.parse_args()
    path = arguments.folder / RESULTS_FILE
    try:
        page = summary(json.loads(path.read_text(encoding="utf-8")), arguments.title)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        parser.error(f"{path} does not hold the results of a run: {type(error).__name__}: {error}")
    arguments.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
