"""A cell of work: what is measured once, stored under the hash of what it is, and never measured again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Scalar = str | int | float | bool | None
"""What a parameter may be; a tuple of them may be one too."""

KEY = "[0-9a-f]{32}"
"""The form of a cell's key, as a regular expression."""

SCRATCH = "scratch"
"""The subfolder of a results folder in which each cell in flight has one of its own, named by its key."""


def _checked(name: str, value: object) -> Scalar | tuple[Scalar, ...]:
    if isinstance(value, list | tuple):
        return tuple(_checked(name, item) for item in value)  # type: ignore[misc]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(
        f"parameter {name!r} is {value!r}; accepted are str, int, finite float, bool, None and tuples of these"
    )


@dataclass(frozen=True, eq=False)
class Cell:
    """One unit of work: an experiment, its parameters and a seed.

    Attributes:
        claim: the id of the experiment that plans, measures and judges the cell.
        parameters: everything that the measurement depends on, except the seed. Scalars and tuples of scalars.
        seed: the seed of all random numbers that the measurement draws.
        version: of the measurement's code; raising it discards the records made by earlier code.
        cost: a guess of the seconds it takes on one core, used to order cells and to estimate the time left.
            It is not part of what the cell is, so it does not enter the hash.

    Raises:
        TypeError: a parameter is not a scalar or a tuple of scalars.
    """

    claim: str
    parameters: Mapping[str, Scalar | tuple[Scalar, ...]]
    seed: int = 0
    version: int = 1
    cost: float = 1.0

    def __post_init__(self) -> None:
        checked = {name: _checked(name, self.parameters[name]) for name in sorted(self.parameters)}
        object.__setattr__(self, "parameters", checked)

    def describe(self) -> dict[str, Any]:
        """What the cell is, as plain JSON types: the content that is hashed."""
        return {
            "claim": self.claim,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "version": self.version,
        }

    @cached_property
    def key(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of the canonical JSON of `describe()`."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Record:
    """What measuring one cell gave.

    Attributes:
        cell: the cell that was measured.
        values: name to scalar, or to a (nested) list of scalars of one type.
        seconds: wall time of the measurement.
        origin: where it was measured: versions, processor, device, threads.
    """

    cell: Cell
    values: Mapping[str, Any]
    seconds: float = 0.0
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters of the cell."""
        return self.cell.parameters

    @property
    def seed(self) -> int:
        """The seed of the cell."""
        return self.cell.seed

    def __getitem__(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        raise KeyError(f"the record of {self.cell.claim} has no value {name!r}; it has {sorted(self.values)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)


def _ignore(_fraction: float) -> None:
    """The progress callback of a measurement without a watcher."""


@dataclass(frozen=True)
class Context:
    """What a measurement may use besides its cell; nothing here may change the numbers that it returns.

    Attributes:
        device: a torch device string, such as "cpu" or "cuda:0".
        data: where images come from: "digits", "cifar10", or a folder that holds CIFAR-10.
        scratch: a folder of this cell's own for checkpoints, kept until the record is stored; None for no folder.
        progress: called with the fraction done, between 0 and 1, as often as the measurement likes.
    """

    device: str = "cpu"
    data: str = "digits"
    scratch: Path | None = None
    progress: Callable[[float], None] = _ignore
