"""The claims by id, in the paper's order; a claim's module is imported when it is asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from nonsmooth.claims.claim import Claim, Judgement, Settings
from nonsmooth.claims.figure import Figure
from nonsmooth.lab import Cell, Context, Record

CLAIM_IDS = (
    "capture",
    "rate",
    "depth",
    "step-sizes",
    "never-zero",
    "oscillation",
    "paradox-2d",
    "paradox-lasso",
    "bound",
    "vgg16-l1",
    "vgg16-adam",
    "unstable-convergence",
    "huber",
    "huber-smooth",
    "subquadratic",
    "kumar-convex",
    "ways-forward",
)


def claim_ids() -> tuple[str, ...]:
    """The ids of all claims that exist here, in the paper's order."""
    return CLAIM_IDS


class ClaimModule(Protocol):
    """What a module of `nonsmooth.claims` provides: a description and four functions."""

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
    """
    if claim_id not in CLAIM_IDS:
        raise KeyError(f"there is no claim {claim_id!r}; the claims are {', '.join(CLAIM_IDS)}")
    module = importlib.import_module(f"nonsmooth.claims.{claim_id.replace('-', '_')}")
    return cast("ClaimModule", module)


def measure_cell(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Measure any claim's cell; importable by name, so that another process can run it."""
    return load_claim(cell.claim).measure(cell, context)


def rule_of(claim_id: str) -> str:
    """The rule by which a claim is judged: the docstring of its `judge`, up to the first section heading."""
    text = inspect.getdoc(load_claim(claim_id).judge) or ""
    lines = []
    for line in text.splitlines():
        if line.rstrip() in ("Args:", "Returns:", "Raises:"):
            break
        lines.append(line)
    return "\n".join(lines).strip()
