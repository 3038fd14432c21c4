"""Run a closure and note the norms of parameters in it; run it again with some of them larger."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from nonsmooth.kinks.penalty_terms.norm_nodes import KINDS
from nonsmooth.kinks.recording.leaves import Leaves, storage_of
from nonsmooth.kinks.recording.place import Modules, here
from nonsmooth.kinks.recording.recorder import Recorder
from nonsmooth.kinks.recording.records import ArgumentUse, tensors_among, use_of
from nonsmooth.kinks.recording.sets import NO_LEAVES, NO_NORMS, NO_RECORDS, LeafSet, NormSet, RecordSet, union
from nonsmooth.kinks.recording.writes import weak

COPIES = {"cat", "stack", "clone", "_to_copy", "index", "index_select"}
SHIFTS = {"add", "sub", "rsub"}
LINEAR = COPIES | SHIFTS | {"sum", "mean", "neg", "mul", "div", "copy"}
NORMS = {"abs", "linalg_vector_norm", "norm", "sqrt", "pow", "max", "amax", "maximum", "dist"}
"""Operations whose line is noted, since their node may be a norm."""


@dataclass(frozen=True)
class Numbers:
    """What a tensor holds, if that was made of parameters' numbers alone.

    Attributes:
        bits: the parameters.
        part: which part of them, as far as the place in memory tells.
        factor: a constant that they were multiplied by.
        centered: whether nothing was subtracted from them.
        squared: whether these are their squares.
        summed: whether these are sums of squares.
    """

    bits: LeafSet
    part: Any
    factor: float = 1.0
    centered: bool = True
    squared: bool = False
    summed: bool = False


@dataclass(frozen=True)
class Candidate:
    """Norms that one call computed.

    Attributes:
        kind: "l1", "group" or "max".
        numbers: what they are taken of.
        total: their sum.
        dtype: theirs.
        source: "file:line".
        sequence: of the node in the graph; None if there is none.
        flow: the set of it alone.
        within: the call that computed the absolute values of which these are the largest.
    """

    kind: str
    numbers: Numbers
    total: float
    dtype: torch.dtype
    source: str | None
    sequence: int | None
    flow: NormSet
    within: int | None


class Listener(Recorder):  # type: ignore[no-untyped-call]
    """Notes the norms.

    Attributes:
        calls: the number of calls so far; views are not counted, since autograd adds some of its own.
        candidates: the norms, by the number of the call that computed them.
        lines: source lines of operations that may be norms, by the sequence number of their nodes.
    """

    def __init__(self, leaves: Leaves) -> None:
        super().__init__(leaves, Modules(None))
        self.calls = 0
        self.candidates: dict[int, Candidate] = {}
        self.lines: dict[int, str] = {}
        self._trainable = leaves.parameters(trainable=True)
        self._alive: list[StorageWeakRef] = []  # so that their addresses are not used again
        self._numbers: dict[int, Numbers] = {}
        self._absolute: dict[int, int] = {}
        self._flows: dict[int, NormSet] = {}

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: LeafSet) -> Any:
        """Execute an operation, and note it if it is a norm."""
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        call, self.calls = self.calls, self.calls + 1
        if not reach or not args or not isinstance(result, Tensor) or storage_of(result) is None:
            return result
        tracked = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)
        sequence = torch._C._autograd._get_sequence_nr() - 1 if tracked else None  # the node exists before the call
        source = here(self.modules).source if name in NORMS else None
        if sequence is not None and source is not None:
            self.lines[sequence] = source
        self._pass_on(name, args, result)
        if func._schema.is_mutable:  # what it holds now is something else
            self._numbers.pop(storage_of(result) or 0, None)
            self._absolute.pop(storage_of(result) or 0, None)
        if func._schema.is_mutable or not result.numel():
            return result
        norm = self._norm(name, args, kwargs)
        if norm is None:
            made = self._made(func, name, args)
            if made is not None:
                self._set(self._numbers, result, made)
        elif norm[1].bits & self._trainable:
            flow, total = NormSet(1 << call), float(result.detach().double().sum())
            within = self._absolute.get(storage_of(args[0]) or 0)
            self.candidates[call] = Candidate(*norm, total, result.dtype, source, sequence, flow, within)
            self._set(self._flows, result, flow)
            if name == "abs":
                self._set(self._absolute, result, call)
        return result

    def flows_into(self, loss: Tensor) -> NormSet:
        """The norms that a loss is visibly linear in."""
        return self._flows.get(storage_of(loss) or 0, NO_NORMS)

    def _set(self, table: dict[int, Any], tensor: Tensor, value: Any) -> None:
        storage = storage_of(tensor)
        if storage is not None:
            table[storage] = value
            self._alive.append(weak(tensor))

    def _pass_on(self, name: str, args: Any, result: Tensor) -> None:
        """Let the result of a linear operation contain the norms that its arguments contain."""
        tensors = list(tensors_among(args))
        product = name in {"mul", "div"} and sum(self._is_reached(tensor) for tensor in tensors) > 1
        passing = (tensors[:1] if name == "div" else tensors) if name in LINEAR and not product else []
        flows = union(NO_NORMS, *map(self.flows_into, passing))
        if flows or self.flows_into(result):
            self._set(self._flows, result, flows)

    def _is_reached(self, tensor: Tensor) -> bool:
        return self._depends([tensor])[0] != 0

    def _numbers_in(self, tensor: Any) -> Numbers | None:
        if not isinstance(tensor, Tensor):
            return None
        part = (tensor.storage_offset(), tuple(tensor.shape))
        bits = self.leaves.in_memory(tensor)
        if bits:
            return Numbers(bits, part)
        made = self._numbers.get(storage_of(tensor) or 0)
        return None if made is None else replace(made, part=(made.part, part))

    def _norm(self, name: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[str, Numbers] | None:
        """The kind of norm that a call computes, and of what."""
        if name in {"max", "amax"} and isinstance(args[0], Tensor):
            absolute = self.candidates.get(self._absolute.get(storage_of(args[0]) or 0, -1))
            return None if absolute is None else ("max", _along(absolute.numbers, args, kwargs))
        numbers = self._numbers_in(args[0])
        kind = None
        if numbers is None or numbers.squared:
            root = name == "sqrt" or (name == "pow" and args[1] == 0.5)
            kind = ("group" if numbers.summed else "l1") if root and numbers is not None else None
        elif name == "abs":
            kind = "l1"
        elif name in {"linalg_vector_norm", "norm"}:
            order = args[1] if len(args) > 1 else kwargs.get("ord", kwargs.get("p", 2))
            kind = KINDS.get(2.0 if order is None else float(order))
        return None if kind is None or numbers is None else (kind, _along(numbers, args, kwargs))

    def _made(self, func: Any, name: str, args: Any) -> Numbers | None:
        """What the result of a call holds, if that is made of parameters' numbers alone."""
        if name in COPIES:
            tensors = args[0] if isinstance(args[0], (list, tuple)) else args[:1]
            return _together([self._numbers_in(tensor) for tensor in tensors])
        first, second = self._numbers_in(args[0]), self._numbers_in(args[1]) if len(args) > 1 else None
        if first is not None and use_of(func, name, args) is ArgumentUse.SQUARE:
            second_power = name != "pow" or args[1] == 2
            return replace(first, squared=True) if second_power and not first.squared else None
        if first is not None and first.squared:
            return replace(first, summed=True, part=(first.part, repr(args[1:]))) if name == "sum" else None
        if first is not None and name == "neg":
            return replace(first, factor=-first.factor)
        if len(args) < 2 or (first is None) == (second is None) or (second is not None and name == "div"):
            return None
        numbers, other = (first, args[1]) if first is not None else (second, args[0])
        if numbers is None or numbers.squared or (isinstance(other, Tensor) and self._is_reached(other)):
            return None
        if name in SHIFTS:
            zero = not bool(other.any()) if isinstance(other, Tensor) else other == 0
            return replace(numbers, centered=numbers.centered and zero)
        if name not in {"mul", "div"} or (isinstance(other, Tensor) and other.numel() != 1) or not float(other):
            return None
        return replace(numbers, factor=numbers.factor * float(other) ** (1 if name == "mul" else -1))


def _along(numbers: Numbers, args: Any, kwargs: Mapping[str, Any]) -> Numbers:
    """The numbers, in the groups that the other arguments of a call make."""
    return replace(numbers, part=(numbers.part, repr(args[1:]), repr(kwargs)))


def _together(parts: list[Numbers | None]) -> Numbers | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({replace(part, bits=NO_LEAVES, part=None) for part in known}) != 1:
        return None
    return replace(known[0], bits=union(*(part.bits for part in known)), part=tuple(part.part for part in known))


class Replay(Recorder):  # type: ignore[no-untyped-call]
    """Runs a closure again with the results of some calls made larger. Nothing is noted, so this is fast.

    Args:
        growth: by the number of a call, what is added to the sum of its result.
        slope: 0 to add the same to all of its entries; otherwise how much more to the last than to the first.
        probed: the numbers of calls whose results become leaves, so that the loss has a derivative by them.

    Attributes:
        grown: what was added, which differs by rounding errors.
        probes: those leaves.
        calls: as of a listener.
    """

    def __init__(self, growth: Mapping[int, float], slope: float = 0.0, probed: Container[int] = ()) -> None:
        super().__init__(Leaves([], complete=True), Modules(None))
        self.grown: dict[int, float] = {}
        self.probes: dict[int, Tensor] = {}
        self.calls = 0
        self._growth, self._slope, self._probed = growth, slope, probed

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: LeafSet) -> Any:
        """Execute an operation, and change its result if it is one of those."""
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        call, self.calls = self.calls, self.calls + 1
        if not isinstance(result, Tensor):
            return result
        if call in self._probed:
            self.probes[call] = result.requires_grad_()
        if call not in self._growth:
            return result
        pattern = torch.linspace(1 - self._slope / 2, 1 + self._slope / 2, result.numel(), device=result.device)
        added = (pattern * (self._growth[call] / pattern.sum())).view_as(result)
        larger = result + added.to(result.dtype)
        self.grown[call] = float((larger.detach().double() - result.detach().double()).sum())
        return larger

    def leave(self, how: str, tensor: Tensor) -> None:
        """Keep what is about to leave, for whoever gets its memory may write to it."""
        self._writes.keep(tensor)

    def _depends(self, tensors: Iterable[Tensor], *, use: ArgumentUse = ArgumentUse.OTHER) -> tuple[LeafSet, RecordSet]:
        return NO_LEAVES, NO_RECORDS


class KeptGraphs(TorchFunctionMode):
    """Lets a closure call backward(), as those of optimisers do, and keeps the graph for us."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.backward:
            kwargs["retain_graph"] = True
        return func(*args, **kwargs)
