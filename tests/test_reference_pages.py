"""Every public name stands on exactly one page of the reference."""

import ast
import runpy
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import nonsmooth

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = runpy.run_path(str(REPOSITORY / "tools" / "reference_pages.py"))
PAGES = REFERENCE["PAGES"]
PATHS = [path for page in PAGES for path in page.paths()]
SUBPACKAGES = [f"nonsmooth.{name}" for name in (*nonsmooth._SUBPACKAGES, "claims")]
EXPORTED = [f"{home}.{name}" for home in SUBPACKAGES for name in getattr(import_module(home), "__all__", ())]
DOCUMENTED = [
    f"{statement.module}.{alias.name}"
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    for block in page.read_text(encoding="utf-8").split("```python\n")[1:]
    for statement in ast.walk(ast.parse(block.split("```")[0]))
    if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("nonsmooth.")
    for alias in statement.names
]


def test_there_are_names_to_look_for():
    assert len(EXPORTED) > 100
    assert len(DOCUMENTED) > 30


def test_no_name_stands_on_two_pages():
    assert [path for path, count in Counter(PATHS).items() if count > 1] == []
    named = [id(REFERENCE["value_of"](path)) for path in PATHS if path.rpartition(".")[2] not in ("Scalar",)]
    assert max(Counter(named).values()) == 1


@pytest.mark.parametrize("path", sorted(EXPORTED))
def test_what_a_package_exports_stands_on_a_page(path):
    assert PATHS.count(path) == 1


@pytest.mark.parametrize("name", sorted(set(nonsmooth._HOMES) | set(nonsmooth.__all__) - {"__version__"}))
def test_a_name_at_the_top_stands_on_a_page(name):
    value = getattr(nonsmooth, name)
    assert sum(REFERENCE["value_of"](path) is value for path in PATHS) == 1


@pytest.mark.parametrize("path", sorted(set(DOCUMENTED)))
def test_what_the_documentation_imports_stands_on_a_page(path):
    value = REFERENCE["value_of"](path)
    assert any(REFERENCE["value_of"](known) is value for known in PATHS)


def test_a_page_lists_every_name_and_shows_its_docstring():
    for page in PAGES:
        text = REFERENCE["text_of"](page)
        for path in page.paths():
            assert f"[`{path}`]" in text
            assert f"::: {REFERENCE['identifier'](path)}\n" in text
