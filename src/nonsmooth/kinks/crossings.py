"""Count the kinks that lie between two points of parameter space, as a fixed probe batch sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nonsmooth.kinks.findings import Operation
from nonsmooth.kinks.leaves import Leaves
from nonsmooth.kinks.patterns import Packed, Pattern, pattern_after, pattern_before
from nonsmooth.kinks.place import Modules, here
from nonsmooth.kinks.recording import Recorder
from nonsmooth.kinks.records import RecordedCall
from nonsmooth.kinks.scanning import tensors_in
from nonsmooth.kinks.smoothness import Smoothness
from nonsmooth.kinks.undisturbed import undisturbed

Point = Mapping[str, Tensor] | Tensor


@dataclass(frozen=True)
class LayerCrossings:
    """What happened at one call of one operation.

    Attributes:
        operation: its name.
        module: path of the module; None outside modules.
        source: "file:line".
        entries: number of entries of its pattern: inputs of an element-wise operation, windows of a pooling.
        changed: how many of them lie in another region, or pick another entry, after than before.
        units: number of entries per sample of the probe batch.
        never_change: units whose region is the same for all samples, before and after.
        dead: those of them whose region is one where the operation is constant, so that no gradient passes.
        near_before: entries within ε of a kink before; None where that is not measured.
        near_after: after.
    """

    operation: str
    module: str | None
    source: str | None
    entries: int
    changed: int
    units: int
    never_change: int
    dead: int
    near_before: int | None
    near_after: int | None

    @property
    def location(self) -> str:
        """Module path and source line, as far as they are known."""
        return Operation(self.operation, Smoothness.C0, "", self.module, self.source).location


@dataclass(frozen=True)
class Crossings:
    """What `crossings` counted.

    Attributes:
        layers: one entry per call, in the order of the forward pass.
        epsilon: ε, in the units of the pre-activations.
        distance: Euclidean distance of the two points over all parameters.
        samples: size of the probe batch.
    """

    layers: tuple[LayerCrossings, ...] = field(repr=False)
    epsilon: float
    distance: float
    samples: int

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
        """Number of dead units."""
        return sum(layer.dead for layer in self.layers)

    @property
    def near(self) -> float:
        """The fraction of the entries, where it is measured, that lies within ε of a kink after."""
        measured = [layer for layer in self.layers if layer.near_after is not None]
        entries = sum(layer.entries for layer in measured)
        return sum(layer.near_after or 0 for layer in measured) / entries if entries else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.changed:,} of {self.entries:,} entries changed ({self.fraction:.3%}) over a distance of "
            f"{self.distance:.4g}; {self.near:.3%} within {self.epsilon:g} of a kink; {self.samples} samples"
        ]
        lines += [
            f"  {layer.operation} {layer.location}: {layer.changed:,} of {layer.entries:,} changed; of "
            f"{layer.units:,} units {layer.never_change:,} never change, {layer.dead:,} dead"
            for layer in self.layers
        ]
        return "\n".join(lines)


def crossings(model: nn.Module, inputs: Any, before: Point, after: Point, *, epsilon: float = 1e-3) -> Crossings:
    """Count the kinks between two points on a probe batch.

    Both passes use the same inputs and the same random numbers, so that only the parameters differ; between different
    batches a changed pattern would be a difference of the data. ReLU and its kin, clamps, absolute values, poolings,
    extremes and orders are looked at wherever parameters reach them, functional calls and operations in place included.
    Where the number of crossings is small, it is that of the kinks on the straight line between the points; an entry
    that crosses and comes back is not seen.

    The model is as before, and no graph is made. It runs in the mode that it is in: with batch normalisation in
    training mode the batch decides, in evaluation mode the running statistics of each point, and the buffers of the
    model itself stay as they are.

    Args:
        model: the network.
        inputs: the probe batch: a tensor, a tuple of positional inputs, or a mapping of keyword inputs. The first
            dimension of its first tensor is that of the samples.
        before: a point: a state dict, or a vector of all parameters in the order of `model.parameters()`. What is not
            in it is taken from the model.
        after: likewise.
        epsilon: ε ≥ 0, how near to a kink an entry is counted as near, in the units of the pre-activations.

    Returns:
        The counts.

    Raises:
        ValueError: ε is negative, a point does not fit the model, there is no tensor among the inputs, or the two
            passes ran different operations, as where the data decide on the way.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}; accepted is a number of at least 0")
    args, kwargs = _arguments(inputs)
    batch = next((len(tensor) for tensor in tensors_in((args, kwargs)) if tensor.ndim), None)
    if batch is None:
        raise ValueError(f"inputs is {inputs!r}; accepted is a probe batch that holds a tensor with samples")
    states = [_state(model, point, name) for point, name in ((before, "before"), (after, "after"))]
    first = _patterns(model, states[0], args, kwargs, _Kept(batch, epsilon))
    second = _patterns(model, states[1], args, kwargs, _Compared(batch, epsilon, first))
    if second.position != len(first.calls):
        raise ValueError(
            f"after ran {second.position} operations with kinks, before {len(first.calls)}: the data decide which run"
        )
    names = [name for name, _ in model.named_parameters()]
    distance = sum(float((states[1][name] - states[0][name]).double().square().sum()) for name in names) ** 0.5
    return Crossings(tuple(second.layers), epsilon, distance, batch)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def _state(model: nn.Module, point: Point, argument: str) -> dict[str, Tensor]:
    """All parameters and buffers at a point: copies, which a forward pass may write to."""
    state = {name: value.detach().clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    if isinstance(point, Tensor):
        parameters = list(model.named_parameters())
        length = sum(parameter.numel() for _, parameter in parameters)
        if point.shape != (length,):
            raise ValueError(f"{argument} has shape {tuple(point.shape)}; accepted is a vector of length {length}")
        parts = torch.split(point.detach(), [parameter.numel() for _, parameter in parameters])
        given = {name: part.view_as(p) for (name, p), part in zip(parameters, parts, strict=True)}
    else:
        given = dict(point)
    aliases = {*state, *model.state_dict()}  # a state dict names tied weights by each of their names
    for name, value in given.items():
        if name not in aliases or (name in state and value.shape != state[name].shape):
            wanted = (
                f"shape {tuple(state[name].shape)}" if name in state else f"names such as {next(iter(state), '')!r}"
            )
            raise ValueError(f"{argument} holds {name!r} of shape {tuple(value.shape)}; accepted is {wanted}")
        if name in state:
            state[name] = value.detach().to(state[name]).clone()
    return state


@dataclass(frozen=True)
class _Call:
    """What is kept of a pattern of the first pass."""

    what: tuple[str, str | None, str | None, torch.Size]
    pattern: Packed
    near: int | None


class _Kept:
    """Keeps the patterns of the first pass, one bit an entry where there are two regions."""

    def __init__(self, batch: int, epsilon: float) -> None:
        self.batch, self.epsilon = batch, epsilon
        self.calls: list[_Call] = []

    def see(self, what: tuple[str, str | None, str | None, torch.Size], pattern: Pattern) -> None:
        self.calls.append(_Call(what, Packed.of(pattern.regions), pattern.near))


class _Compared:
    """Compares the patterns of the second pass with those of the first, one after the other."""

    def __init__(self, batch: int, epsilon: float, first: _Kept) -> None:
        self.batch, self.epsilon, self.first = batch, epsilon, first
        self.layers: list[LayerCrossings] = []
        self.position = 0

    def see(self, what: tuple[str, str | None, str | None, torch.Size], pattern: Pattern) -> None:
        if self.position >= len(self.first.calls) or self.first.calls[self.position].what != what:
            raise ValueError(f"the two passes differ from {what} on: the data decide which operations run")
        call = self.first.calls[self.position]
        self.position += 1
        now = pattern.regions
        was = call.pattern.regions()
        samples = now.shape[0] if now.ndim and now.shape[0] == self.batch else 1
        both = torch.cat((was.reshape(samples, -1), now.reshape(samples, -1)))
        same = (both == both[:1]).all(0)
        flat = torch.zeros_like(same)
        for region in pattern.flat:
            flat |= both[0] == region
        operation, module, source, _ = what
        self.layers.append(
            LayerCrossings(
                operation,
                module,
                source,
                entries=now.numel(),
                changed=int((was != now).sum()),
                units=same.numel(),
                never_change=int(same.sum()),
                dead=int((same & flat).sum()),
                near_before=call.near,
                near_after=pattern.near,
            )
        )


Sink = TypeVar("Sink", _Kept, _Compared)


class _Probe(Recorder):  # type: ignore[no-untyped-call]
    """Hands the pattern of each operation that parameters reach to `sink`."""

    def __init__(self, leaves: Leaves, modules: Modules, sink: _Kept | _Compared) -> None:
        super().__init__(leaves, modules)
        self.sink = sink

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: int) -> Any:
        pattern = pattern_before(name, RecordedCall(func, args, kwargs), self.sink.epsilon) if reach else None
        result = func(*args, **kwargs)
        if reach and pattern is None:
            pattern = pattern_after(name, result)
        if pattern is not None:
            place = here(self.modules)
            self.sink.see((name, place.module, place.source, pattern.regions.shape), pattern)
        return result


def _patterns(
    model: nn.Module, state: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], sink: Sink
) -> Sink:
    """One pass at a point; its patterns go to the sink."""
    names = {name for name, _ in model.named_parameters()}
    leaves = Leaves([(name, value) for name, value in state.items() if name in names], complete=True)
    probe = _Probe(leaves, Modules(model), sink)
    with undisturbed(list(model.parameters()), model.modules()), torch.no_grad():
        try:
            with probe:
                functional_call(model, state, args, kwargs)
        finally:
            probe.restore()
    return sink
