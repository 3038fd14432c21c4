"""Run the Python blocks of documentation pages where only torch, NumPy and what named extras bring can be imported.

    python run_pages.py [--extras sklearn,reproduce] [--hide] [--results FOLDER] PAGE ...

With --hide, modules of other distributions are hidden from the import system; without, they are not there anyway. Each
page runs in a folder of its own, with a copy of FOLDER as `results` where it reads one. What a block prints is compared
with the block of text that follows it, if one does: words have to be equal, numbers nearly. Prints, as JSON, the
traceback of each page that fails.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.abc import MetaPathFinder
from pathlib import Path

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<shown>.*?)^```$)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*)(?:\.\d+)?(?:e[-+]?\d+)?")
PLACE = re.compile(r"\([^()\s]*:\d+\)")
ROUNDING = 1e-4
"""Smaller numbers may be rounding errors, which differ between machines: by a factor of 100 at most."""
NAME = re.compile(r"[A-Za-z0-9._-]+")
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def brought(distribution: str, extras: Iterable[str], found: set[str] | None = None) -> set[str]:
    """The distributions that come with one and some of its extras; those for other platforms are counted too."""
    found = {canonical(distribution)} if found is None else found
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return found
    for requirement in requirements:
        condition = EXTRA.search(requirement)
        if condition is None or condition[1] in extras:
            name = NAME.match(requirement)[0]
            asked = re.search(r"\[([^\]]*)\]", requirement.split(";")[0])
            wanted = [extra.strip() for extra in asked[1].split(",")] if asked else []
            if wanted or canonical(name) not in found:
                found.add(canonical(name))
                brought(name, wanted, found)
    return found


class Finders(MetaPathFinder):
    """The finders that there are, which find nothing where a distribution is not among those that are allowed."""

    def __init__(self, allowed: set[str]) -> None:
        self.finders, self.allowed = list(sys.meta_path), allowed
        self.hidden = {
            module
            for module, owners in metadata.packages_distributions().items()
            if allowed.isdisjoint(map(canonical, owners))
        }

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """The first finder's that finds the module."""
        if name.partition(".")[0] in self.hidden:
            return None
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in specs if spec is not None), None)

    def find_distributions(self, *context: object) -> Iterator[metadata.Distribution]:
        """What packages read their own version from."""
        for finder in self.finders:
            for found in getattr(finder, "find_distributions", lambda *_: ())(*context):
                if canonical(found.metadata["Name"]) in self.allowed:
                    yield found


def differs(shown: str, printed: str) -> str | None:
    """How a text that a page shows differs from what was printed, leaving out spaces and the places of code."""
    words = [PLACE.sub("(place)", text) for text in (shown, printed)]
    shown_words, printed_words = (NUMBER.sub("#", text).split() for text in words)
    if shown_words != printed_words:
        return f"the page shows\n{shown}and this was printed\n{printed}"
    for one, other in zip(*(NUMBER.findall(text) for text in words), strict=True):
        first, second = (float(number.replace(",", "")) for number in (one, other))
        smaller, larger = sorted((abs(first), abs(second)))
        if larger - smaller > 0.05 * larger and (larger > ROUNDING or larger > 100 * smaller > 0):
            return f"the page shows {one}, and {other} was printed:\n{printed}"
    return None


def run(page: Path, results: Path | None) -> str | None:
    """All blocks of a page, in order and in one namespace, as a reader who pastes them runs them."""
    text = page.read_text(encoding="utf-8")
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            if results is not None and "results/" in text:
                shutil.copytree(results, "results")
            namespace = {"__name__": "__main__"}
            for block in BLOCK.finditer(text):
                # Padded, so that a traceback names the line of the page.
                code = "\n" * (text.count("\n", 0, block.start()) + 1) + block["code"]
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    exec(compile(code, str(page), "exec"), namespace)
                if block["shown"] and (difference := differs(block["shown"], printed.getvalue())):
                    return difference
        except BaseException:  # a page may also end the program
            return traceback.format_exc()
        finally:
            os.chdir(home)
    return None


def main() -> None:
    """Run the pages and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="", help="separated by commas")
    parser.add_argument("--hide", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("pages", nargs="+", type=Path)
    arguments = parser.parse_args()
    if arguments.hide:
        allowed = brought("nonsmooth", arguments.extras.split(",")) | {"pip", "setuptools"}
        sys.meta_path[:] = [Finders(allowed)]
    failed = {str(page): run(page.resolve(), arguments.results) for page in arguments.pages}
    print(json.dumps({page: problem for page, problem in failed.items() if problem}))


if __name__ == "__main__":
    main()
