"""Results as tables: HTML where a notebook shows them, and data frames where pandas is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nonsmooth.foreign_text import visible

MOST_ROWS = 30
"""Rows that a notebook shows; `to_frame` has them all."""

Row = Mapping[str, Any]


class Tabular:
    """A result that consists of rows; a subclass says which."""

    def rows(self) -> Sequence[Row]:
        """One mapping for each row, from the names of columns to values, all with the same names."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """The rows as a `pandas.DataFrame`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415 - not a dependency
        except ImportError as error:
            raise ImportError("to_frame() needs pandas: pip install pandas", name="pandas") from error
        return pandas.DataFrame([dict(row) for row in self.rows()])

    def _repr_html_(self) -> str:
        """What a notebook shows: the first line of the text, and the table."""
        rows = self.rows()
        head = f"<p>{_cell(str(self).partition(chr(10))[0])}</p>"
        if not rows:
            return head
        names = "".join(f"<th>{_cell(name)}</th>" for name in rows[0])
        lines = "".join(
            f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>" for row in rows[:MOST_ROWS]
        )
        more = f"<p>and {len(rows) - MOST_ROWS} more rows</p>" if len(rows) > MOST_ROWS else ""
        return f"{head}<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>{more}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return ""
    return escape(visible(", ".join(map(str, value)) if isinstance(value, tuple) else str(value)))
