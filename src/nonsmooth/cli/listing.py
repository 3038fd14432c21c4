"""Tables of claims: those that exist, and what came of those that were run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nonsmooth.claims.framework.claim import Verdict
from nonsmooth.claims.framework.registry import CLAIM_IDS, claim_ids, is_of_paper, load_claim
from nonsmooth.claims.framework.results import FAILED, ClaimEntry
from nonsmooth.cli.terminal import Terminal, foreign, print_json

STYLES = {
    str(Verdict.REPRODUCED): "green",
    str(Verdict.WITH_CORRECTION): "cyan",
    str(Verdict.EXPLANATION_NOT_SUPPORTED): "yellow",
    str(Verdict.NOT_REPRODUCED): "red",
    str(Verdict.INCONCLUSIVE): "bright_black",
}

WIDE = 110
"""From so many columns on, verdicts have a column of their own."""


def print_claims(as_json: bool) -> None:
    """Print the claims, as a table or as JSON."""
    others = (claim_id for claim_id in claim_ids() if claim_id not in CLAIM_IDS)
    claims = [load_claim(claim_id).CLAIM for claim_id in (*CLAIM_IDS, *others)]
    if as_json:
        print_json([asdict(claim) for claim in claims])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("claim", no_wrap=True)
    table.add_column("where")
    table.add_column("title")
    console = Terminal()
    if not console.is_terminal:
        for claim in claims:
            print_line(console, f"{claim.id}: {claim.title} ({claim.where})")
        return
    for claim in claims:
        table.add_row(*(foreign(console, text) for text in (claim.id, claim.where, claim.title)))
    console.print(table)


def verdict_text(entry: ClaimEntry) -> Text:
    """The verdict in its colour, or why there is none."""
    if entry["verdict"] is None:
        return Text("failed" if entry["status"] == FAILED else "not complete", "red")
    return Text(entry["verdict"], STYLES[entry["verdict"]])


def print_results(entries: Sequence[ClaimEntry], console: Console) -> None:
    """What ends a run: a table on a terminal; elsewhere a line per claim, and one with the verdict counts."""
    if console.is_terminal:
        console.print(results_table(entries, console))
        return
    for entry in entries:
        headline = {name: text for name, text in (entry["headline"] or {}).items() if text}
        stated = "paper" if is_of_paper(entry["id"]) else "stated"
        texts = "; ".join(f"{stated if name == 'paper' else name}: {text}" for name, text in headline.items())
        print_line(console, f"{entry['id']}: {_spoken(entry)}{f' ({texts})' if texts else ''}")
    counts = Counter(str(verdict_text(entry)) for entry in entries)
    order = [*(word for word in STYLES if word in counts), *(word for word in counts if word not in STYLES)]
    print_line(console, "Verdicts: " + "; ".join(f"{counts[word]} {word}" for word in order))


def _spoken(entry: ClaimEntry) -> str:
    """The verdict, what it says in plain words, and under how many alternatives it stands."""
    return ", ".join(filter(None, (str(verdict_text(entry)), entry["says"], _standing(entry))))


def _standing(entry: ClaimEntry) -> str:
    found = entry["robustness"]
    if not found or not found["alternatives"]:
        return ""
    # What hangs on a choice is inconclusive, whatever its rule says of the choices as they were made.
    what = "stands" if found["verdict"] == entry["verdict"] else f"“{found['verdict']}”"
    return f"{what} under {found['stands']} of {found['alternatives']}"


def print_line(console: Console, text: str) -> None:
    """Print one line of any length as it is."""
    console.print(foreign(console, text), soft_wrap=True)


def results_table(entries: Sequence[ClaimEntry], console: Console) -> Table:
    """The table that ends a run, for that console; where it is narrow, verdicts stand below the claims."""
    narrow = console.width < WIDE
    table = Table(show_lines=True, header_style="bold", expand=True)
    for column, ratio in (
        ("claim", 5),
        ("paper" if all(is_of_paper(entry["id"]) for entry in entries) else "stated", 4),
        ("ours", 4),
        ("control", 4),
        *([] if narrow else [("verdict", 4)]),
    ):
        table.add_column(column, ratio=ratio, overflow="fold")
    for entry in entries:
        name = foreign(console, entry["id"], "bold")
        said = (foreign(console, text) for text in (entry["says"], _standing(entry)) if text)
        verdict = Text("\n").join([verdict_text(entry), *said])
        headline = entry["headline"] or {"paper": "", "ours": "", "control": ""}
        texts = [foreign(console, headline[source]) for source in ("paper", "ours", "control")]
        table.add_row(*([Text("\n").join([name, verdict]), *texts] if narrow else [name, *texts, verdict]))
    return table
