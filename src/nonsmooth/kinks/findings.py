"""What a scan found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nonsmooth.deprecation import renamed_attribute
from nonsmooth.foreign_text import visible
from nonsmooth.kinks.table.smoothness import Smoothness, worst
from nonsmooth.tables import Row, Tabular


@dataclass(frozen=True)
class Operation:
    """An operation that is not smooth, or of which that is not known, with all its calls at one place.

    Attributes:
        name: the ATen operator ("relu"), the function of `torch.nn.functional` taken as a whole ("softsign"), or the
            class of a module or of an `autograd.Function`.
        smoothness: its class.
        reason: where it is not smooth, or why that is not known.
        module: path of the innermost module around it, "" for the outermost; None outside modules, or where the graph
            does not say.
        source: "file:line" of the user's code; None where PyTorch does not keep it.
        calls: number of calls.
        parameters: those that reach it: with a gradient, or frozen; None where the module tree cannot say.
        without_gradient: those that require a gradient and reach it only through `.data`, `.detach()`, `no_grad` or an
            operation without derivative.
    """

    name: str
    smoothness: Smoothness
    reason: str
    module: str | None = None
    source: str | None = None
    calls: int = 1
    parameters: tuple[str, ...] | None = None
    without_gradient: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """Module path and source line, as far as they are known."""
        line = None
        if self.source is not None:
            path, _, number = self.source.rpartition(":")
            line = f"{Path(path).name}:{number}"
        known = filter(None, (self.module, f"({line})" if line and self.module else line))
        return " ".join(map(visible, known)) or "?"

    def __str__(self) -> str:
        times = f" ×{self.calls}" if self.calls > 1 else ""
        return f"{visible(self.name)}{times}: {self.smoothness}, {visible(self.reason)}"


@dataclass(frozen=True)
class Scan(Tabular):
    """What `scan` found.

    Attributes:
        operations: those that are not smooth or not known, in the order in which they were met.
        smooth: names of the smooth operations that parameters or inputs reach, with the number of their calls.
        parameters: names of the parameters that were looked for.
        seen_in: "forward pass", "autograd graph" or "module tree".
        notes: what this way of looking cannot see.
    """

    operations: tuple[Operation, ...]
    smooth: tuple[tuple[str, int], ...] = field(repr=False)
    parameters: tuple[str, ...] = field(repr=False)
    seen_in: str
    notes: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[Operation, ...]:
        """The operations of which the class is not known."""
        return tuple(o for o in self.operations if o.smoothness is Smoothness.UNKNOWN)

    @property
    def smoothness(self) -> Smoothness:
        """The worst known class on the way from a parameter, or of all operations where there is no parameter.

        It is the class of the parts, and of even powers of one of them. Other compositions can be smoother, as
        x·sign(x) is; and where `unknown` is not empty, the class can be worse.
        """
        return worst(
            o.smoothness
            for o in self.operations
            if not self.parameters or o.parameters is None or o.parameters or o.without_gradient
        )

    def __str__(self) -> str:
        doubt = f", and {len(self.unknown)} unknown" if self.unknown else ""
        count = f"{len(self.operations)} operation{'s' if len(self.operations) != 1 else ''} to look at"
        lines = [f"{self.smoothness}{doubt}: {count} ({self.seen_in})"]
        if self.operations:
            columns = [
                (str(o.smoothness), o.name, str(o.calls), o.location, _reached(o), o.reason) for o in self.operations
            ]
            rows = [tuple(map(visible, row)) for row in columns]
            header = ("class", "operation", "calls", "where", "parameters", "why")
            widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header) - 1)]
            lines += [
                "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
                for row in [header, *rows]
            ]
        return "\n".join([*lines, *map(visible, self.notes)])

    def rows(self) -> list[Row]:
        """A row for each operation."""
        return [
            {
                "class": str(o.smoothness),
                "operation": o.name,
                "calls": o.calls,
                "where": o.location,
                "parameters": o.parameters,
                "why": o.reason,
            }
            for o in self.operations
        ]


@dataclass(frozen=True)
class PenaltyTerm:
    """An L1-type term λR(w) of a loss.

    Attributes:
        kind: "l1" (Σ|w|), "group" (Σ‖w_g‖₂) or "max" (Σ‖w_g‖∞).
        parameters: names of the parameters in it.
        strength: λ, of Σ|w| and not of its mean; the largest where it differs from entry to entry. None for a term
            without a gradient that could not be measured: the loss is not linear in it, or it has another λ for each
            entry, or the loss is another one each time that it is computed.
        uniform: whether λ is known, and the same for all entries or groups that are in the term.
        value: R(w), without λ.
        centered: whether it is about w itself; otherwise about w minus something.
        has_gradient: whether the loss has a gradient through it. If not, training does not see the term.
        source: "file:line" of the first norm in it, where it is known.
    """

    kind: str
    parameters: tuple[str, ...]
    strength: float | None
    uniform: bool
    value: float
    centered: bool
    has_gradient: bool
    source: str | None = None

    centred = renamed_attribute("centred", "centered")

    def __str__(self) -> str:
        strength = "?" if self.strength is None else f"{self.strength:.6g}"
        norm = {"l1": "‖·‖₁", "group": "Σ‖·‖₂", "max": "Σ‖·‖∞"}[self.kind]
        names = ", ".join(map(visible, self.parameters[:3])) + (
            f" and {len(self.parameters) - 3} more" if len(self.parameters) > 3 else ""
        )
        doubt = "" if self.has_gradient else ": carries no gradient, so training does not see it"
        return f"{strength}·{norm} of {names}{'' if self.centered else ' minus a constant'}{doubt}"


def _reached(operation: Operation) -> str:
    if operation.parameters is None:
        return "?"
    lost = f"{len(operation.without_gradient)} without gradient" if operation.without_gradient else ""
    names = operation.parameters
    shown = ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"
    return "; ".join(filter(None, (shown, lost))) or "none"
