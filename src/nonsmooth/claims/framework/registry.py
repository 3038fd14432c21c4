"""The claims by id: the paper's in its order, then those of other packages and of the user's own files.

A claim's module is imported when it is asked for. Other packages announce theirs by an entry point of the group
`nonsmooth.claims`, whose name is the claim's id and whose object is the module.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from nonsmooth.claims.framework.claim import Claim, Judgement, Settings
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.framework.study import Study
from nonsmooth.lab import Cell, Context, Record

CLAIMS = {
    "capture": "rates.capture",
    "rate": "rates.rate",
    "depth": "networks.depth",
    "step-sizes": "rates.step_sizes",
    "never-zero": "kink.never_zero",
    "adaptive-zeros": "kink.adaptive_zeros",
    "oscillation": "kink.oscillation",
    "paradox-2d": "kink.paradox_2d",
    "paradox-lasso": "lasso.paradox_lasso",
    "bound": "kink.bound",
    "vgg16-l1": "networks.vgg16_l1",
    "live-law": "networks.live_law",
    "pruning": "networks.pruning",
    "vgg16-adam": "networks.vgg16_adam",
    "unstable-convergence": "rates.unstable_convergence",
    "huber": "huber.huber",
    "huber-smooth": "huber.huber_smooth",
    "subquadratic": "huber.subquadratic",
    "kumar-convex": "huber.kumar_convex",
    "toy-problem": "huber.toy_problem",
    "kink-minima": "networks.kink_minima",
    "curvature-estimates": "networks.curvature_estimates",
    "ways-forward": "lasso.ways_forward",
}
"""The paper's claims in its order, and the module of each within `nonsmooth.claims`."""

CLAIM_IDS = tuple(CLAIMS)

HOW_A_RULE_IS_READ = (
    "The first line that holds gives the verdict. A comparison holds only with the whole interval of the number; where "
    "the interval reaches to both sides, or the number is missing, the claim is inconclusive there."
)
"""Stands above the rule of every study."""

ENTRY_POINTS = "nonsmooth.claims"
"""The group of entry points by which other packages announce their claims."""

_FUNCTIONS = ("plan", "measure", "judge", "draw")

_of_files: dict[str, tuple[Path, ClaimModule]] = {}


def claim_ids() -> tuple[str, ...]:
    """The ids of all claims that exist here: the paper's in its order, other packages', those of files."""
    return tuple(dict.fromkeys((*CLAIM_IDS, *_announced(), *_of_files)))


@cache
def _announced() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def add_claim_file(path: str | Path) -> str:
    """Make the claim of a Python file known in this process; its folder joins the end of the import path.

    Returns:
        The claim's id.

    Raises:
        ValueError: the file cannot be run, or is no claim, or another claim has its id.
    """
    path = Path(path).resolve()
    for claim_id, (known, _) in _of_files.items():
        if known == path:
            return claim_id
    module = _run_file(path)
    claim_id = check_is_claim(module, str(path)).CLAIM.id
    if claim_id in claim_ids():
        raise ValueError(f"{path} has the id {claim_id!r}, which another claim has; accepted are ids of your own")
    _of_files[claim_id] = (path, _provider(module))
    return claim_id


def argument_of(claim_id: str) -> str:
    """What names a claim on the command line: its id, or the file that it was read from."""
    return str(_of_files[claim_id][0]) if claim_id in _of_files else claim_id


def is_of_paper(claim_id: str) -> bool:
    """Whether it is a claim of the paper, and not of another package or of a file of the user's own."""
    return claim_id in CLAIM_IDS


def file_and_hash(claim_id: str) -> tuple[Path, str] | None:
    """The file of a claim, with a hash of the code that a measurement may depend on; None for a claim without a file.

    Left out are comments, layout, and what comes after measuring: the study's rule, its findings and its figures, or
    `judge` and `draw`.
    """
    if claim_id not in _of_files:
        return None
    path = _of_files[claim_id][0]
    tree = ast.parse(path.read_bytes())
    tree.body = [statement for statement in tree.body if not _comes_after(statement)]
    return path, hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _comes_after(statement: ast.stmt) -> bool:
    """Whether a statement of a claim's file is about what is made of the measurements."""
    if isinstance(statement, ast.FunctionDef):
        marks = {mark.attr for mark in statement.decorator_list if isinstance(mark, ast.Attribute)}
        return statement.name in ("judge", "draw") or bool(marks & {"findings", "figures"})
    call = statement.value if isinstance(statement, ast.Assign) else None
    return (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("Study", "Rule", "Choice")
    )


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    name = "nonsmooth_claim_" + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; accepted are names that end in .py")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script may end the program
        del sys.modules[name]
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def _provider(module: object) -> ClaimModule:
    return cast("ClaimModule", getattr(module, "study", module))


def check_is_claim(module: object, where: str) -> ClaimModule:
    """What provides the claim, if it has a description and the four functions: the module's `study`, or the module.

    Raises:
        ValueError: it has not; the message begins with `where` and says what is missing.
    """
    module = _provider(module)
    if not isinstance(getattr(module, "CLAIM", None), Claim):
        raise ValueError(f"{where} is no claim: it has no CLAIM that is a nonsmooth.claims.framework.claim.Claim")  # noqa: TRY004
    if isinstance(module, Study) and (parts := module.missing()):
        raise ValueError(f"{where} is no claim: it has no function under @study.{', @study.'.join(parts)}")
    missing = [name for name in _FUNCTIONS if not callable(getattr(module, name, None))]
    if missing:
        raise ValueError(f"{where} is no claim: it has no function {', '.join(missing)}")
    return cast("ClaimModule", module)


class ClaimModule(Protocol):
    """What provides a claim: a `Study`, or a module with a description and the four functions."""

    CLAIM: Claim

    def plan(self, settings: Settings) -> list[Cell]:
        """The cells that the claim needs at these settings."""

    def measure(self, cell: Cell, context: Context) -> Mapping[str, Any]:
        """One cell's values: a pure function of the cell."""

    def judge(self, records: Sequence[Record]) -> Judgement:
        """The verdict; the docstring states the rule."""

    def draw(self, records: Sequence[Record]) -> list[Figure]:
        """What a reader should look at."""


def load_claim(claim_id: str) -> ClaimModule:
    """The module of a claim.

    Raises:
        KeyError: there is no such claim; the message lists those that exist.
        ValueError: an entry point leads to something else.
    """
    if claim_id in CLAIM_IDS:
        return _provider(importlib.import_module(f"nonsmooth.claims.{CLAIMS[claim_id]}"))
    if claim_id in _of_files:
        return _of_files[claim_id][1]
    if claim_id in _announced():
        point = _announced()[claim_id]
        module = check_is_claim(point.load(), f"the entry point {point.value}")
        if module.CLAIM.id != claim_id:
            raise ValueError(f"the entry point {claim_id!r} leads to a claim with the id {module.CLAIM.id!r}")
        return module
    raise KeyError(f"there is no claim {claim_id!r}; the claims are {', '.join(claim_ids())}")


def measure_cell(cell: Cell, context: Context, files: Sequence[str] = ()) -> Mapping[str, Any]:
    """Measure any claim's cell; importable by name, so that another process can run it.

    Args:
        cell: what to measure.
        context: where and with what.
        files: of the claims of files, which the other process has not read yet.
    """
    for path in files:
        add_claim_file(path)
    return load_claim(cell.claim).measure(cell, context)


def rule_of(claim_id: str) -> str:
    """The rule by which a claim is judged: a study's rows, or the docstring of `judge` up to a section heading."""
    module = load_claim(claim_id)
    if isinstance(module, Study):
        lines = "\n".join(f"{number}. {line}" for number, line in enumerate(module.rule_in_words(), 1))
        return f"{HOW_A_RULE_IS_READ}\n\n{lines}"
    text = inspect.getdoc(module.judge) or ""
    lines = []
    for line in text.splitlines():
        if line.rstrip() in ("Args:", "Returns:", "Raises:"):
            break
        lines.append(line)
    return "\n".join(lines).strip()
