"""Experiments: functions with typed parameters that a cell calls and that know which cells are theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nonsmooth.claims.framework.claim import Settings
from nonsmooth.lab import Cell, Context, Scalar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What an experiment may use besides its parameters.

    Attributes:
        seed: of all random numbers.
        context: device, images, a folder for checkpoints, and whom to tell of progress.
        key: of the cell, which owns its checkpoints.
    """

    seed: int
    context: Context
    key: str = ""

    def generator(self) -> torch.Generator:
        """A fresh generator with the seed."""
        import torch  # noqa: PLC0415  slow to load, and a plan does not need it

        return torch.Generator().manual_seed(self.seed)


class Experiment:
    """A measurement of a study.

    Args:
        claim: the id of the claim.
        function: (run, **parameters) → values; the parameters are keyword-only, and a cell has exactly these.
        marks: parameters with fixed values that tell its cells from those of other experiments.
        seed_axes: of a cell that holds several seeds, the axis of each value that runs over them. Values that are not
            named hold no seeds.
        version: of the measurement; raising it discards what earlier code measured.
    """

    def __init__(
        self,
        claim: str,
        function: Callable[..., Mapping[str, Any]],
        marks: Mapping[str, Scalar],
        seed_axes: Mapping[str, int],
        version: int,
    ) -> None:
        self.name, self._claim, self._function = function.__name__.strip("_"), claim, function
        self.marks, self.seed_axes, self.version = dict(marks), dict(seed_axes), version
        parameters = inspect.signature(function).parameters.values()
        self._parameters = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.__doc__ = function.__doc__

    def cell(self, *, seed: int = 0, seeds: range | None = None, cost: float = 1.0, **parameters: Any) -> Cell:
        """A cell of this experiment.

        Args:
            seed: of its random numbers.
            seeds: several seeds that one cell holds; its parameter `seeds` counts them, and `seed` is the first.
            cost: a guess of the seconds that it takes.
            **parameters: of the measurement.

        Raises:
            TypeError: the parameters are not those of the measurement.
        """
        if seeds is not None:
            parameters, seed = {**parameters, "seeds": len(seeds)}, seeds.start
        if set(parameters) != self._parameters:
            wrong = ", ".join(sorted(set(parameters) ^ self._parameters))
            raise TypeError(f"the cell and the experiment {self.name} differ in the parameters {wrong}")
        return Cell(self._claim, {**self.marks, **parameters}, seed, self.version, cost)

    def measures(self, cell: Cell) -> bool:
        """Whether a cell is one of this experiment's."""
        names = set(cell.parameters)
        marked = all(name in names and cell.parameters[name] == value for name, value in self.marks.items())
        return marked and names - set(self.marks) <= self._parameters

    def __call__(self, cell: Cell, context: Context) -> Mapping[str, Any]:
        """Measure a cell."""
        parameters = {name: value for name, value in cell.parameters.items() if name not in self.marks}
        return self._function(Run(cell.seed, context, cell.key), **parameters)


@dataclass(frozen=True)
class Scale:
    """How much is measured, by the settings of a run."""

    settings: Settings

    def __call__(self, quick: T, standard: T, paper: T | None = None) -> T:
        """What belongs to the scale; without a value of its own "paper" has that of "standard"."""
        if self.settings.scale == "quick":
            return quick
        return standard if self.settings.scale == "standard" or paper is None else paper

    def seeds(self, quick: int, standard: int, paper: int | None = None) -> range:
        """The seeds of a random experiment, unless the user asks for another number."""
        return self.settings.seed_range(self(quick, standard, paper))

    @property
    def name(self) -> str:
        """Quick, standard or paper."""
        return self.settings.scale

    @property
    def data(self) -> str:
        """Name of the images."""
        return self.settings.data
