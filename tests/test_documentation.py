"""What the documentation shows works: blocks run and print what is shown, commands parse, targets and pages exist."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from nonsmooth.claims.framework.claim import Settings
from nonsmooth.claims.framework.registry import CLAIM_IDS, load_claim, measure_cell
from nonsmooth.claims.framework.run_folder import write_settings
from nonsmooth.cli import app
from nonsmooth.lab import Context, Store, run
from nonsmooth.report import write_report

pytestmark = pytest.mark.processes

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "bash", "text", "bibtex", "toml"}
EXTRAS = re.compile(r'pip install "nonsmooth\[([a-z,]+)\]"')
RUN_PAGES = REPOSITORY / "tests" / "environments" / "run_pages.py"


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
WITH_PYTHON = [page for page in PAGES if any(block.page == page for block in PYTHON)]
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


def extras_of(page: Path) -> str:
    """What a page says that its examples need, besides PyTorch and NumPy."""
    named = EXTRAS.findall(page.read_text(encoding="utf-8"))
    return ",".join(sorted({extra for names in named for extra in names.split(",")}))


@pytest.fixture(scope="session")
def failures(results):
    """What fails in each page, by the environment that the pages name."""
    found = {}
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # the other cores run other tests
    for extras in sorted({extras_of(page) for page in WITH_PYTHON}):
        pages = [page for page in WITH_PYTHON if extras_of(page) == extras]
        command = [sys.executable, RUN_PAGES, "--hide", "--extras", extras, "--results", results, *pages]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
        assert done.returncode == 0, done.stderr
        found.update(json.loads(done.stdout))
    return found


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_where_only_what_it_names_is_installed(page, failures):
    """In order and in one namespace, as a reader who pastes them one after the other runs them."""
    assert str(page) not in failures, failures[str(page)]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("loss 0.50, 3 zeros (a.py:3)\n", "loss  0.499, 3 zeros (b.py:9)\n", True),
        ("residual 3e-7\n", "residual 2e-8\n", True),
        ("loss 0.50\n", "loss 0.40\n", False),
        ("3 zeros\n", "4 zeros\n", False),
        ("3 zeros\n", "3 zeroes\n", False),
        ("3 zeros\n", "", False),
        ("residual 3e-7\n", "residual 3e-3\n", False),
    ],
)
def test_what_a_page_shows_is_compared_with_what_is_printed(shown, printed, same):
    differs = runpy.run_path(str(RUN_PAGES))["differs"]
    assert (differs(shown, printed) is None) is same


def test_output_that_is_shown_follows_a_block_that_prints_it():
    for page in PAGES:
        blocks = blocks_of(page)
        before = [blocks[place - 1].language for place, block in enumerate(blocks) if block.language == "text"]
        assert set(before) <= {"python", "bash"}, page


def test_the_output_of_a_command_is_what_the_page_shows():
    differs = runpy.run_path(str(RUN_PAGES))["differs"]
    for page in PAGES:
        for command, shown in pairwise(blocks_of(page)):
            if (command.language, shown.language) == ("bash", "text"):
                program, *arguments = shlex.split(command.code)
                assert program == "nonsmooth"
                printed = CliRunner().invoke(app, arguments).stdout
                assert differs(shown.code, printed) is None, command


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
    named = parsed.params.get("claims") or ()
    assert {name for name in named if not name.endswith(".py")} <= set(CLAIM_IDS)


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
