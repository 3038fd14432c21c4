"""Part of a plan: the cells that meet conditions such as `depth=11`, for work that is split or cut short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nonsmooth.claims.framework.claim import Settings
from nonsmooth.claims.framework.registry import load_claim
from nonsmooth.foreign_text import visible
from nonsmooth.lab import Cell

MOST_CELLS = 10**6
"""Of all plans of a run together."""


def planned_cells(
    claim_ids: Iterable[str], settings: Settings, parts: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Cell]]:
    """The cells of each claim under these settings, restricted to a part.

    Args:
        claim_ids: the claims.
        settings: the settings of all of them.
        parts: the conditions for each claim; None for those of the settings.

    Raises:
        ValueError: a condition is not KEY=VALUE, or no cell of any of the claims meets it, or there are too many cells.
    """
    claim_ids = tuple(claim_ids)
    _check_size(claim_ids, settings)
    plans = {claim_id: load_claim(claim_id).plan(settings) for claim_id in claim_ids}
    parts = dict.fromkeys(claim_ids, settings.part) if parts is None else parts
    chosen = {part: set(select_cells(plans, part)) for part in map(tuple, parts.values()) if part}
    return {
        claim_id: [cell for cell in cells if cell in chosen[part]] if (part := tuple(parts[claim_id])) else list(cells)
        for claim_id, cells in plans.items()
    }


def _check_size(claim_ids: Iterable[str], settings: Settings) -> None:
    """Refuse numbers of seeds under which the plans would not fit into memory; some claims have cells for each seed."""
    if settings.seeds is None:
        return
    one, two = (
        sum(len(load_claim(claim_id).plan(replace(settings, seeds=seeds))) for claim_id in claim_ids)
        for seeds in (1, 2)
    )
    cells = one + (two - one) * (settings.seeds - 1)
    if cells > MOST_CELLS:
        raise ValueError(f"seeds is {settings.seeds}, which makes {cells:,} cells; accepted are {MOST_CELLS:,} cells")


def select_cells(plans: Mapping[str, Sequence[Cell]], conditions: Sequence[str]) -> list[Cell]:
    """The cells that meet the conditions: any of the values given for a key, and that for every key.

    Args:
        plans: the cells of each claim.
        conditions: KEY=VALUE; the key is the name of a parameter, or "seed".

    Raises:
        ValueError: a condition is not KEY=VALUE, or no cell meets it.
    """
    cells = list(dict.fromkeys(cell for plan in plans.values() for cell in plan))
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals or not key:
            raise ValueError(f"{condition!r} is not KEY=VALUE")
        wanted.setdefault(key.strip(), []).append(value.strip())
    for key, values in wanted.items():
        having = [cell for cell in cells if key in _described(cell)]
        if not having:
            keys = sorted({name for cell in cells for name in _described(cell)})
            raise ValueError(f"no cell has {key!r}; there are {', '.join(keys)}")
        present = list(dict.fromkeys(_described(cell)[key] for cell in having))
        for value in values:
            if not any(_same(value, text) for text in present):
                raise ValueError(f"no cell has {visible(key)}={visible(value)}; the values are {', '.join(present)}")
        cells = [cell for cell in having if any(_same(value, _described(cell)[key]) for value in values)]
    return cells


def _described(cell: Cell) -> dict[str, str]:
    """The cell's parameters and its seed as a user writes them."""
    return {name: _written(value) for name, value in {**cell.parameters, "seed": cell.seed}.items()}


def _written(value: object) -> str:
    return ",".join(_written(item) for item in value) if isinstance(value, tuple) else str(value)


def _same(written: str, present: str) -> bool:
    """Equal as text, in any case, or as numbers: 1e-3 is 0.001."""
    if written.casefold() == present.casefold():
        return True
    try:
        return float(written) == float(present)
    except ValueError:
        return False
