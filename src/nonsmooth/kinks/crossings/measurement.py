"""Count the kinks that lie between two points of parameter space, as a fixed probe batch sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.kinks.crossings.counts import Crossings, LayerCrossings
from nonsmooth.kinks.crossings.patterns import Packed, Pattern, pattern_after, pattern_before
from nonsmooth.kinks.crossings.points import ParameterPoint, distance_between, standing_at, state_at
from nonsmooth.kinks.findings import Operation
from nonsmooth.kinks.recording.eager import ordinary, run_eagerly
from nonsmooth.kinks.recording.leaves import Leaves, named
from nonsmooth.kinks.recording.out_of_sight import reported
from nonsmooth.kinks.recording.place import Modules, here
from nonsmooth.kinks.recording.recorder import Recorder
from nonsmooth.kinks.recording.records import NO_MARKS, Marks, RecordedCall, RecordedOperation, tensors_among
from nonsmooth.kinks.recording.sets import ALL_RECORDS, INPUTS, NO_RECORDS, LeafSet, RecordSet, union, without
from nonsmooth.kinks.scanning import operation_of, tensors_in
from nonsmooth.kinks.table.operations import COMPOSITES, classify
from nonsmooth.kinks.table.smoothness import Smoothness

WITHOUT_KINK = (Smoothness.SMOOTH, Smoothness.C1)


def crossings(
    model: nn.Module, inputs: Any, before: ParameterPoint, after: ParameterPoint, *, epsilon: float = 1e-3
) -> Crossings:
    """Count the kinks between two points on a probe batch.

    Both passes use the same inputs and the same random numbers (of Python, NumPy and PyTorch, and of each
    `torch.Generator` that is an attribute of a module), so that only the parameters differ; between different batches a
    changed pattern would be a difference of the data. Of the operations that `scan` finds with kinks or jumps, those
    that parameters reach are looked at, functional calls and operations in place included: ReLU and its kin, clamps,
    absolute values and signs, comparisons, max-poolings, extremes and orders, roundings. The others, such as Euclidean
    norms and scatter reductions, are listed as `uncounted`. Where the number of crossings is small, it is that of the
    kinks on the straight line between the points; an entry that crosses and comes back is not seen.

    The model is as before, and no graph is made. It runs in the mode that it is in: with batch normalisation in
    training mode the batch decides, in evaluation mode the running statistics of each point, and the buffers of the
    model itself stay as they are.

    Args:
        model: the network.
        inputs: the probe batch: a tensor, a tuple of positional inputs, or a mapping of keyword inputs. The first
            dimension of its first tensor is that of the samples.
        before: a point: a state dict, or a vector of all parameters in the order of `model.parameters()`, or of those
            that require a gradient, such as `weights` of `curvature.evaluate_point`. What is not in it is taken from
            the model.
        after: the other point, in the same form.
        epsilon: ε ≥ 0, how near to a kink an entry is counted as near, in the units of the pre-activations.

    Returns:
        The counts.

    Raises:
        TypeError: the model is not a module, or a point is neither a state dict nor a vector.
        ValueError: ε is not a number of at least 0, a point does not fit the model or is not finite, the inputs hold no
            samples, an operation with kinks gets NaN, a lazy module has not run yet, or the two passes ran different
            operations, as where the parameters decide on the way.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}; accepted is a torch.nn.Module")
    if not isinstance(epsilon, Real) or not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon!r}; accepted is a number of at least 0")
    named(model)  # refuses lazy modules, which have no point yet
    args, kwargs = _arguments(ordinary(inputs))
    batch = next((len(tensor) for tensor in tensors_in((args, kwargs)) if tensor.ndim), 0)
    if not batch:
        raise ValueError(f"inputs is {inputs!r}; accepted is a probe batch that holds a tensor with samples")
    with torch.inference_mode(False):
        states = state_at(model, before, "before"), state_at(model, after, "after")
        first = _Kept()
        _run(model, states[0], args, kwargs, first, epsilon)
        second = _Compared(batch, first)
        found = _run(model, states[1], args, kwargs, second, epsilon)
        distance = distance_between(model, *states)
    if second.position != len(first.calls):
        raise ValueError(
            f"the pass at `after` ran {second.position} operations with kinks, that at `before` {len(first.calls)}: "
            "the parameters decide which run"
        )
    counting = union(*(record.bit for record in found.counting))
    layers = tuple(layer for layer, bits in second.layers if bits & counting)
    return Crossings(layers, float(epsilon), distance, batch, found.uncounted())


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


_What = tuple[str, str | None, str | None, torch.Size]
"""Operation, module, source, and shape of the pattern: the same in both passes."""


@dataclass(frozen=True)
class _Call:
    """What is kept of a pattern of the first pass."""

    what: _What
    pattern: Packed
    near: int | None


class _Kept:
    """Keeps the patterns of the first pass, one bit an entry where there are two regions."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []

    def see(self, what: _What, pattern: Pattern, bits: RecordSet, *, sampled: bool) -> None:
        self.calls.append(_Call(what, Packed.of(pattern.regions), pattern.near))


class _Compared:
    """Compares the patterns of the second pass with those of the first, one after the other.

    Attributes:
        layers: the counts, each with the records that it belongs to.
    """

    def __init__(self, batch: int, first: _Kept) -> None:
        self.batch, self.first = batch, first
        self.layers: list[tuple[LayerCrossings, RecordSet]] = []
        self.position = 0

    def see(self, what: _What, pattern: Pattern, bits: RecordSet, *, sampled: bool) -> None:
        if self.position >= len(self.first.calls) or self.first.calls[self.position].what != what:
            raise ValueError(f"the two passes differ from {what} on: the parameters decide which operations run")
        call = self.first.calls[self.position]
        self.position += 1
        now, was = pattern.regions, call.pattern.regions()
        units = never_change = dead = None
        if sampled and now.numel() and now.ndim and now.shape[0] % self.batch == 0:
            both = torch.cat((was.reshape(len(was), -1), now.reshape(len(now), -1)))
            same = (both == both[:1]).all(0)
            flat = torch.zeros_like(same)
            for region in pattern.flat:
                flat |= both[0] == region
            units, never_change, dead = same.numel(), int(same.sum()), int((same & flat).sum())
        operation, module, source, _ = what
        layer = LayerCrossings(
            operation,
            module,
            source,
            entries=now.numel(),
            changed=int((was != now).sum()),
            units=units,
            never_change=never_change,
            dead=dead,
            near_before=call.near,
            near_after=pattern.near,
            on_kink=pattern.on_kink,
        )
        self.layers.append((layer, bits))


class _Probe(Recorder):  # type: ignore[no-untyped-call]
    """Hands the pattern of each operation with kinks that parameters reach to `sink`.

    Attributes:
        counting: the records of operations with kinks that the result of the model depends on.
    """

    def __init__(self, leaves: Leaves, modules: Modules, sink: _Kept | _Compared, epsilon: float) -> None:
        super().__init__(leaves, modules)
        self.sink, self.epsilon = sink, epsilon
        self.counting: list[RecordedOperation] = []
        self._marks = NO_MARKS
        self._counted = self._missed = NO_RECORDS

    def add_input(self, tensor: Tensor) -> None:
        """Note that the samples are in a tensor, which is constant otherwise."""
        self._mark(tensor, INPUTS, NO_RECORDS, varies=False)

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: LeafSet) -> Any:
        marks, self._marks = self._marks, NO_MARKS
        bits = union(marks.values, marks.parts, marks.squared, marks.unsquared)
        if not bits or not without(reach, INPUTS):
            return func(*args, **kwargs)
        place, call = here(self.modules), RecordedCall(func, args, kwargs)
        whole = place.functional in COMPOSITES  # its parts have kinks that it has not
        undefined = not whole and any(bool(tensor.isnan().any()) for tensor in tensors_among((*args, *kwargs.values())))
        pattern = None if whole else pattern_before(name, call, self.epsilon)
        result = func(*args, **kwargs)
        if pattern is None and not whole:
            pattern = pattern_after(name, result)
        if pattern is not None:
            if undefined:  # it would count as lying on one side
                raise ValueError(f"{name} in {place.module!r} gets NaN, which lies on neither side of a kink")
            self._counted = union(self._counted, bits)
            what = (name, place.module, place.source, pattern.regions.shape)
            self.sink.see(what, pattern, bits, sampled=bool(reach & INPUTS))
        elif place.custom is None or not (func.is_view or classify(name, call).smoothness in WITHOUT_KINK):
            self._missed = union(self._missed, bits)
        return result

    def decide(self, outputs: list[Tensor]) -> None:
        """Set aside the records that the result does not depend on, as `scan` does."""
        decisive = union(self.depends(outputs), self.escaped) if outputs else ALL_RECORDS
        self.counting = [
            record
            for record in self.found.records.values()
            if record.bit & decisive
            and not record.instead_of & decisive
            and without(record.reach, INPUTS)
            and record.classification.smoothness not in WITHOUT_KINK
        ]

    def uncounted(self) -> tuple[Operation, ...]:
        """Those of them that have calls without a pattern."""
        counted = without(self._counted, self._missed)
        return tuple(operation_of(record, self.leaves) for record in self.counting if not record.bit & counted)

    def _judge(self, *call: Any) -> Marks:
        self._marks = super()._judge(*call)
        return self._marks


def _run(
    model: nn.Module,
    state: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sink: _Kept | _Compared,
    epsilon: float,
) -> _Probe:
    """One pass at a point; its patterns go to the sink."""
    names = {name for name, _ in model.named_parameters()}
    leaves = Leaves([(name, value) for name, value in state.items() if name in names], complete=True)
    probe = _Probe(leaves, Modules(model), sink, epsilon)
    for tensor in tensors_in((args, kwargs)):
        probe.add_input(tensor)
    with run_eagerly(list(model.parameters()), model.modules()), torch.no_grad(), standing_at(model, state) as standing:
        try:
            with reported(probe.leave), probe:
                result = standing(*args, **kwargs)
            probe.decide(list(tensors_in(result)))
        finally:
            probe.restore()
    return probe
