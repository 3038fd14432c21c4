"""What `crossings` counts: per call of an operation, and in all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from nonsmooth.foreign_text import visible
from nonsmooth.kinks.findings import Operation
from nonsmooth.kinks.table.smoothness import Smoothness
from nonsmooth.tables import Row, Tabular


@dataclass(frozen=True)
class LayerCrossings:
    """What happened at one call of one operation.

    A *sample* is an entry of the first dimension. Its length is the size of the probe batch, or a multiple, where a
    model folds another dimension into it, as the positions of a sequence. Where it is neither, or the probe batch does
    not reach the operation, there are no samples to compare, and `units`, `never_change` and `dead` are None.

    Attributes:
        operation: its name.
        module: path of the module; None outside modules.
        source: "file:line".
        entries: number of entries of its pattern: inputs of an element-wise operation, windows of a pooling.
        changed: how many of them lie in another region, or pick another entry, after than before.
        units: number of entries per sample.
        never_change: units whose region is the same for all samples, before and after.
        dead: those of them whose region is one where the operation is constant, so that no gradient passes it.
        near_before: entries within ε of a kink, and not exactly on it, before; None where that is not measured.
        near_after: after.
        on_kink: entries exactly on a kink after, such as windows whose two largest entries are equal. That is a kink
            if the entries can move apart, and none if both are the same constant, such as the zeros behind a ReLU.
    """

    operation: str
    module: str | None
    source: str | None
    entries: int
    changed: int
    units: int | None
    never_change: int | None
    dead: int | None
    near_before: int | None
    near_after: int | None
    on_kink: int | None

    @property
    def location(self) -> str:
        """Module path and source line, as far as they are known."""
        return Operation(self.operation, Smoothness.C0, "", self.module, self.source).location

    def __str__(self) -> str:
        line = f"{visible(self.operation)} {self.location}: {self.changed:,} of {self.entries:,} changed"
        if self.units is None:
            return line
        return f"{line}; of {self.units:,} units {self.never_change:,} never change, {self.dead:,} dead"


@dataclass(frozen=True)
class Crossings(Tabular):
    """What `crossings` counted.

    Attributes:
        layers: one entry per call, in the order of the forward pass.
        epsilon: ε, in the units of the pre-activations.
        distance: Euclidean distance of the two points over all parameters.
        samples: size of the probe batch.
        uncounted: the operations with kinks or jumps, or of unknown class, that `scan` finds and that are not counted.
    """

    layers: tuple[LayerCrossings, ...] = field(repr=False)
    epsilon: float
    distance: float
    samples: int
    uncounted: tuple[Operation, ...] = ()

    @property
    def entries(self) -> int:
        """Number of entries of all patterns."""
        return sum(layer.entries for layer in self.layers)

    @property
    def changed(self) -> int:
        """Number of entries that changed: the kinks between the two points, each sample's counted."""
        return sum(layer.changed for layer in self.layers)

    @property
    def fraction(self) -> float:
        """That over the number of entries; 0 of none."""
        return self.changed / self.entries if self.entries else 0.0

    @property
    def dead(self) -> int:
        """Number of dead units, where there are samples to compare."""
        return sum(layer.dead or 0 for layer in self.layers)

    @property
    def near(self) -> float:
        """The fraction of the entries, where it is measured, that lies within ε of a kink after, and not on it."""
        measured = [layer for layer in self.layers if layer.near_after is not None]
        entries = sum(layer.entries for layer in measured)
        return sum(layer.near_after or 0 for layer in measured) / entries if entries else 0.0

    @property
    def on_kink(self) -> int:
        """Number of entries that lie exactly on a kink after, or are equal constants; see `LayerCrossings`."""
        return sum(layer.on_kink or 0 for layer in self.layers)

    def rows(self) -> list[Row]:
        """A row for each call of an operation."""
        return [asdict(layer) for layer in self.layers]

    def __str__(self) -> str:
        exactly = f", {self.on_kink:,} exactly on one" if self.on_kink else ""
        head = (
            f"{self.changed:,} of {self.entries:,} entries changed ({self.fraction:.3%}) over a distance of "
            f"{self.distance:.4g}; {self.near:.3%} within {self.epsilon:g} of a kink{exactly}; {self.samples} samples"
        )
        missing = [
            f"not counted: {visible(o.name)} {o.location} ({o.smoothness}, {visible(o.reason)})" for o in self.uncounted
        ]
        return "\n  ".join([head, *map(str, self.layers), *missing])
