"""What every claim must hold, as one function for the tests of claims that the package does not have."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nonsmooth.claims.framework.claim import Judgement, Settings, Verdict
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.framework.registry import ClaimModule, check_is_claim
from nonsmooth.claims.framework.results import value_entries
from nonsmooth.claims.framework.study import Study
from nonsmooth.lab import Cell, Context, Record, Store
from nonsmooth.lab.values import plain_values


def check_claim(module: object, settings: Settings | None = None, context: Context | None = None) -> Judgement:
    """Measure, judge and draw a claim once, in this process, and check what the program relies on.

    Args:
        module: the claim's module, or any object with `CLAIM`, `plan`, `measure`, `judge` and `draw`.
        settings: for the plan; choose few seeds where cells are expensive. None for those of scale quick.
        context: for the measurements; None for the CPU.

    Returns:
        What the claim's rule says of the measured cells.

    Raises:
        AssertionError: the claim does not do what the program relies on; the message says what and where.
    """
    try:
        claim = check_is_claim(module, "the module")
    except ValueError as error:
        raise AssertionError(str(error)) from error
    cells = _checked_plan(claim, settings or Settings())
    context = context or Context()
    records = _checked_records(claim, cells, context)
    judgement = _checked_judgement(claim, records)
    _check_figures(claim, records)
    return judgement


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def _checked_plan(claim: ClaimModule, settings: Settings) -> Sequence[Cell]:
    name = claim.CLAIM.id
    cells = claim.plan(settings)
    _require(isinstance(cells, list | tuple) and cells, "plan gives no cells; it must give a list of at least one")
    for cell in cells:
        _require(isinstance(cell, Cell), f"plan gives {cell!r:.60}; it must give cells (nonsmooth.lab.Cell)")
        _require(cell.claim == name, f"plan gives a cell of the claim {cell.claim!r}; it must be {name!r}, as in CLAIM")
    _require(len(set(cells)) == len(cells), "plan gives a cell twice; give the two another seed or parameter")
    _require(list(claim.plan(settings)) == list(cells), "plan gives other cells when it is called again")
    return cells


def _checked_records(claim: ClaimModule, cells: Sequence[Cell], context: Context) -> list[Record]:
    """The records as they come back from the disk."""
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for cell in cells:
            try:
                values = plain_values(claim.measure(cell, context))
            except (TypeError, ValueError, AttributeError) as error:
                raise AssertionError(f"measure fails, or gives values that cannot be stored: {error}") from error
            if not records:
                again = plain_values(claim.measure(cell, context))
                _require(
                    json.dumps(again, sort_keys=True) == json.dumps(values, sort_keys=True),
                    "measure gives other values for the same cell when it is called again; seed its random numbers "
                    "with cell.seed",
                )
            store.save(Record(cell, values))
            record = store.read(cell)
            _require(record is not None, "a record cannot be read back")
            records += [record] if record is not None else []
    return records


def _checked_judgement(claim: ClaimModule, records: Sequence[Record]) -> Judgement:
    rule = isinstance(claim, Study) or (claim.judge.__doc__ or "").strip()
    _require(rule, "judge has no docstring; it states the rule, which readers of the report see")
    judgement = claim.judge(records)
    _require(isinstance(judgement, Judgement), f"judge gives {judgement!r:.60}; it must give a Judgement")
    _require(judgement.because.strip(), "the judgement's `because` is empty; it says which numbers decided")
    try:
        for values in (claim.CLAIM.paper, judgement.measured, judgement.control, judgement.predicted):
            value_entries(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise AssertionError(f"judge gives a value that results.json cannot hold: {error}") from error
    try:
        of_nothing = claim.judge([])
    except Exception:
        return judgement
    _require(
        isinstance(of_nothing, Judgement) and of_nothing.verdict is Verdict.INCONCLUSIVE,
        "judge gives a verdict without records; without evidence it must raise, or be inconclusive",
    )
    return judgement


def _check_figures(claim: ClaimModule, records: Sequence[Record]) -> None:
    figures = claim.draw(records)
    _require(isinstance(figures, list | tuple), f"draw gives {figures!r:.60}; it must give a list of figures")
    for figure in figures:
        _require(
            isinstance(figure, Figure),
            f"draw gives {figure!r:.60}; it must give figures (nonsmooth.claims.framework.figure)",
        )
        _require(figure.panels, f"the figure {figure.title!r} has no panels")
