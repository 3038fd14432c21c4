"""What the documentation shows works: Python blocks run, commands parse, targets and pages exist."""

from __future__ import annotations

import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from nonsmooth.claims.claim import Settings
from nonsmooth.claims.registry import CLAIM_IDS, load_claim, measure_cell
from nonsmooth.claims.results import write_settings
from nonsmooth.cli import app
from nonsmooth.lab import Context, Store, run
from nonsmooth.report import write_report

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "bash"}


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 2, match["info"], match["code"])
        for match in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL_LINES = [
    (f"{block.page.relative_to(REPOSITORY)}:{block.line + number}", line)
    for block in BLOCKS
    if block.language == "bash"
    for number, line in enumerate(block.code.splitlines())
    if line.strip()
]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `results` that a short run leaves, as the pages about reading results presume; measured right here."""
    folder = tmp_path_factory.mktemp("run") / "results"
    run_folder, settings = folder / "quick", Settings(scale="quick")
    cells = load_claim("paradox-2d").plan(settings)
    write_settings(run_folder, settings, ["paradox-2d"])
    with ThreadPoolExecutor(1) as executor:
        run(cells, measure_cell, Store(run_folder), context=Context(), executor=executor)
    write_report(run_folder)
    return folder


def test_every_block_is_in_a_language_that_is_tested():
    assert [f"{block}: {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES] == []


def test_there_are_blocks_to_test():
    assert len(PYTHON) >= 10
    assert len(SHELL_LINES) >= 10


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.page == page for block in PYTHON)], ids=lambda p: p.name
)
def test_the_python_blocks_of_a_page_run(page, request, tmp_path, monkeypatch):
    """In order and in one namespace, as a reader who pastes them one after the other runs them."""
    blocks = [block for block in PYTHON if block.page == page]
    if any("results/" in block.code for block in blocks):
        shutil.copytree(request.getfixturevalue("results"), tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        # Padded, so that a traceback names the line of the page.
        code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")
        exec(code, namespace)


@pytest.mark.parametrize(("place", "line"), [item for item in SHELL_LINES if "nonsmooth " in item[1]])
def test_a_command_parses(place, line):
    program, *arguments = shlex.split(line, comments=True)
    assert program == "nonsmooth", place
    parse(arguments)


def parse(arguments: list[str]) -> None:
    """Let the command line read its arguments, as when it runs, and stop before it does anything."""
    group = typer.main.get_command(app)
    context = group.make_context("nonsmooth", list(arguments))
    rest = [*context._protected_args, *context.args]
    name, command, rest = group.resolve_command(context, rest)
    parsed = command.make_context(name, rest, parent=context)
    # Options that do not exist arrive here, too.
    assert set(parsed.params.get("claims") or ()) <= set(CLAIM_IDS)


def test_a_command_that_does_not_exist_does_not_parse():
    with pytest.raises(Exception, match="No such command"):
        parse(["reproduse"])
    with pytest.raises(AssertionError):
        parse(["reproduce", "--scael", "quick"])


def test_every_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join([*(page.read_text(encoding="utf-8") for page in PAGES), (REPOSITORY / ".ci" / "run").read_text()])
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named
    assert named - targets == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == REPOSITORY], ids=lambda page: page.name)
def test_a_page_outside_the_site_links_to_files_that_exist(page):
    """The build of the documentation checks the links between its own pages."""
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
