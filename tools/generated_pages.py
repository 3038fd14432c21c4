"""Pages that are written from the code when the documentation is built: one per claim, and the reference.

MkDocs calls the functions named `on_...`. What a claim's page says is what the program knows of the claim: its
description, and the rule that its verdict is computed by. So neither can fall behind the code.
"""

from __future__ import annotations

import re
from pathlib import Path

import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from nonsmooth.claims.assertions import ASSERTIONS
from nonsmooth.claims.framework.claim import SCALES, Claim, Settings
from nonsmooth.claims.framework.registry import CLAIM_IDS, load_claim, rule_of
from nonsmooth.claims.framework.results import choice_entries


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    sections = {
        "Results": pages_in(config, "results"),
        "Benchmarks": pages_in(config, "benchmarks"),
        "Claims": ["claims/index.md", "claims/sentences.md", *(f"claims/{claim.id}.md" for claim in claims())],
        "Reference": ["reference/index.md", *(f"reference/{page.file}.md" for page in reference_pages.PAGES)],
    }
    for entry in config.nav or []:
        for name, pages in sections.items():
            if name in entry:
                entry[name] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that are in the folder."""
    pages = {
        "claims/index.md": claim_index(claims()),
        "claims/sentences.md": sentence_page(),
        **{f"claims/{claim.id}.md": claim_page(claim) for claim in claims()},
        "reference/index.md": reference_pages.index(),
        **{f"reference/{page.file}.md": reference_pages.text_of(page) for page in reference_pages.PAGES},
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def pages_in(config: MkDocsConfig, folder: str) -> list[str]:
    """The pages of a folder that programs write into, the index first."""
    pages = sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir, folder).glob("*.md"))
    return sorted(pages, key=lambda page: not page.endswith("/index.md"))


def claims() -> list[Claim]:
    """The claims, in the paper's order."""
    return [load_claim(name).CLAIM for name in CLAIM_IDS]


def plain(text: str) -> str:
    """Running text as Markdown that says just this."""
    return re.sub(r"([*\\\[\]|]|<(?=[A-Za-z/!]))", r"\\\1", text)


def claim_index(described: list[Claim]) -> str:
    """The table of claims."""
    rows = "\n".join(
        f"| [`{claim.id}`]({claim.id}.md) | {plain(claim.where)} | {plain(claim.title)} |" for claim in described
    )
    return (
        "# The claims\n\n"
        "What the paper says, claim by claim, with the experiment that would come out differently if the paper's "
        "explanation were wrong, and the rule by which the evidence decides. These pages are written from the code "
        "that decides. The paper [sentence by sentence](sentences.md), with the claims that test each.\n\n"
        f"| claim | where | in a line |\n|---|---|---|\n{rows}\n"
    )


def sentence_page() -> str:
    """What the paper asserts, and where it is tested, or why not."""
    rows = "\n".join(
        f"| {plain(one.where)} | {plain(one.says)} | "
        + (", ".join(f"[`{claim_id}`]({claim_id}.md)" for claim_id in one.claims) or plain(one.untested))
        + " |"
        for one in ASSERTIONS
    )
    tested = sum(bool(one.claims) for one in ASSERTIONS)
    return (
        "# The paper, sentence by sentence\n\n"
        f"{len(ASSERTIONS)} sentences of the paper could be false. {tested} of them are tested here; beside the others "
        "stands why no experiment tests them. The sentences are put in our words.\n\n"
        f"| where | what it says | tested by |\n|---|---|---|\n{rows}\n"
    )


def choice_table(claim_id: str) -> str:
    """What a claim's verdict rests on besides the evidence."""
    study = load_claim(claim_id)
    rows = "\n".join(
        "| " + " | ".join(map(plain, (one["label"], one["value"], "; ".join(one["alternatives"]), one["why"]))) + " |"
        for one in choice_entries(claim_id)
    )
    looked = "\n".join(
        f"- {plain(one.what)} ({one.when}). {plain(one.why)} {plain(one.changed)}"
        for one in getattr(study, "afterthoughts", ())
    )
    table = (
        f"| choice | value | alternatives that are judged too | why |\n|---|---|---|---|\n{rows}" if rows else "None."
    )
    return table + (f"\n\nChosen after looking at the evidence:\n\n{looked}" if looked else "")


def claim_page(claim: Claim) -> str:
    """Everything that the program knows of a claim before it runs."""
    sections = [
        f"# {plain(claim.title)}\n\n`{claim.id}` · {plain(claim.where)} · {plain(claim.edition)}",
        f"```bash\nnonsmooth reproduce {claim.id}\n```",
        f"## What the paper says\n\n{plain(claim.statement)}",
    ]
    if claim.paper:
        rows = "\n".join(f"| {plain(value.label)} | {plain(str(value))} |" for value in claim.paper)
        sections.append(f"| the paper's number | |\n|---|---|\n{rows}")
    sections += [
        f"## Why, according to the paper\n\n{plain(claim.explanation)}",
        f"## What would come out differently if that were wrong\n\n{plain(claim.control)}",
        f"## The rule\n\n{plain(rule_of(claim.id))}",
        f"## What the verdict rests on\n\n{choice_table(claim.id)}",
        f"## The work\n\n{work(claim.id)}",
    ]
    return "\n\n".join(sections) + "\n"


def work(claim_id: str) -> str:
    """A table of how many cells each scale plans."""
    plan = load_claim(claim_id).plan
    plans = {scale: plan(Settings(scale=scale)) for scale in SCALES}
    rows = "\n".join(
        f"| {scale} | {len(cells):,} | {duration(sum(cell.cost for cell in cells))} |" for scale, cells in plans.items()
    )
    return f"| scale | cells | planned for one core |\n|---|---|---|\n{rows}"


def duration(seconds: float) -> str:
    """A planned time in the unit that a reader would use."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds" if seconds >= 1 else "under a second"
