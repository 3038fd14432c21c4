"""Record a forward pass below autograd: each operation with its place, and what its result depends on.

A dispatch mode sees what module hooks do not: functional calls, in-place operations before they overwrite their input,
and operations without a gradient. Dependence is kept per piece of memory, as two sets of bits: the parameters, and the
operations found so far. So an operation whose result is thrown away, or only logged, can be told from one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from nonsmooth.kinks.leaves import INPUTS, Leaves, storage_of
from nonsmooth.kinks.operations import (
    COMPARISON,
    COMPOSITES,
    INDEX_OUTPUTS,
    PIECEWISE_CONSTANT,
    squared_verdict,
    verdict_for,
)
from nonsmooth.kinks.place import Modules, Place, here
from nonsmooth.kinks.records import NO_MARKS, Dependence, Marks, Record, RecordedCall, Use, use_of
from nonsmooth.kinks.rules import jump, unknown
from nonsmooth.kinks.smooth_operations import SHAPE_ONLY
from nonsmooth.kinks.smoothness import Smoothness, Verdict

HIDDEN_WRITES = {"native_batch_norm": (3, 4), "cudnn_batch_norm": (3, 4), "miopen_batch_norm": (3, 4)}
"""Arguments that are written although the operator's schema does not say so: running statistics."""

CAST = jump("a cast to integers rounds")
LEAVES_TENSORS = unknown("a number that depends on it leaves for Python: what is computed from it is not seen")
OWN_DERIVATIVE = "an autograd.Function of its own"


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records while it is active; `restore` puts back what was written to tensors that existed before.

    Args:
        leaves: the parameters, and the inputs.
        modules: for the paths of modules.
        known: classes of operations and custom functions that the user states, by name.
    """

    def __init__(self, leaves: Leaves, modules: Modules, known: Mapping[str, Smoothness] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.leaves, self.modules, self.known = leaves, modules, dict(known or {})
        self.records: dict[Any, Record] = {}
        self.smooth: dict[str, int] = {}
        self.escaped = 0
        self._memory: dict[int, Dependence] = {}
        self._new: dict[int, StorageWeakRef] = {}
        self._overwritten: dict[int, tuple[Any, Any]] = {}
        self._writes: dict[Any, tuple[tuple[int, str], ...]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would load its whole compiler to keep it out of this class; `undisturbed` keeps it out."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = list(_tensors((*args, *kwargs.values())))
        written = self._written(func, args, kwargs)
        for tensor in written:
            self._keep(tensor)
        backward = torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
        name = func.overloadpacket.__name__
        name = name if name.startswith("__") else name.rstrip("_")
        name = name if func.namespace == "aten" else f"{func.namespace}::{name}"
        if backward or name in SHAPE_ONLY:
            result = func(*args, **kwargs)
            self._remember(_tensors((result,)), arguments)
            return result
        reach, records = self._depends(arguments, use=use_of(func, name, args))
        marks = NO_MARKS
        varies = bool(reach) and any(self._varies(tensor) for tensor in arguments)
        if varies:
            marks = self._judge(func, name, args, kwargs, arguments, reach)
        if name in {"_local_scalar_dense", "item", "equal", "is_nonzero"}:
            self.escaped |= records | marks.values
        result = self.run(func, name, args, kwargs, reach)
        outputs = list(_tensors((result,)))
        self._remember(outputs, arguments)
        if reach:
            positions = INDEX_OUTPUTS.get(name, ())
            positive = RecordedCall(func, args, kwargs, self.dependence).makes_positive(name)
            varies = varies and name not in PIECEWISE_CONSTANT
            for index, output in enumerate(outputs):
                bits = marks.indices if index in positions else marks.values
                self._mark(output, reach, records | bits, varies=varies)
            for tensor in written:
                self._mark(tensor, reach, records | marks.values, varies=varies)
            for tensor in [*outputs, *written]:
                known = self.dependence(tensor)
                if known is not None and not func.is_view:
                    known.positive = positive
                    known.squared |= marks.squared
                    known.unsquared |= marks.unsquared
        return result

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: int) -> Any:
        """Execute an operation that the bits of `reach` go into; subclasses look at it more closely."""
        return func(*args, **kwargs)

    def add_input(self, tensor: Tensor) -> None:
        """Let everything that is computed from a tensor depend on the inputs."""
        self.leaves.add_input(tensor)
        self._mark(tensor, INPUTS, 0, varies=True)

    def dependence(self, tensor: Tensor) -> Dependence | None:
        """What is known of the memory of a tensor."""
        return self._memory.get(storage_of(tensor) or 0)

    def depends(self, tensors: Iterable[Tensor]) -> int:
        """The bits of the records that tensors depend on."""
        return self._depends(tensors)[1]

    def restore(self) -> None:
        """Put back tensors that existed before and were written."""
        for storage, kept in self._overwritten.values():
            storage.copy_(kept)
        self._overwritten.clear()

    def _judge(self, func: Any, name: str, args: Any, kwargs: Any, arguments: list[Tensor], reach: int) -> Marks:
        """Record what is not smooth."""
        place = here(self.modules)
        verdict = SMOOTH_VIEW if func.is_view else self._verdict(func, name, args, kwargs, arguments)
        if place.custom is not None:
            inner = "" if verdict.smoothness is Smoothness.SMOOTH else f"{name}, {verdict.smoothness}"
            bit = self._custom(place, inner, arguments, reach)
            return Marks(bit, bit)
        count = 1
        if place.functional in COMPOSITES and verdict.smoothness is not Smoothness.SMOOTH:
            verdict, counted = COMPOSITES[place.functional]
            count, name = int(name == counted), place.functional
        shown = name.lstrip("_")
        if verdict.smoothness is Smoothness.SMOOTH:
            if not func.is_view:
                self.smooth[shown] = self.smooth.get(shown, 0) + 1
            return NO_MARKS
        bit = self._record(shown, verdict, place, arguments, reach, count=count)
        squared = squared_verdict(name, RecordedCall(func, args, kwargs))
        if squared is not None and verdict.smoothness is Smoothness.C0:
            return Marks(0, 0, self._squared(shown, squared, place, arguments, reach, bit), bit)
        if name not in INDEX_OUTPUTS:
            return Marks(bit, bit)
        indices = jump(f"the positions that {name} returns: piecewise constant, without gradient")
        return Marks(bit, self._record(f"{shown} (indices)", indices, place, arguments, reach))

    def _squared(
        self, name: str, verdict: Verdict, place: Place, arguments: list[Tensor], reach: int, plain: int
    ) -> int:
        """The bit of the record that counts if only the square of a result is used."""
        if verdict.smoothness is Smoothness.SMOOTH:
            return 0
        bit = self._record(name, verdict, place, arguments, reach)
        record = next(record for record in self.records.values() if record.bit == bit)
        record.instead_of |= plain
        return bit

    def _verdict(self, func: Any, name: str, args: Any, kwargs: Any, arguments: list[Tensor]) -> Verdict:
        if name in self.known:
            return Verdict(self.known[name], "as stated by the caller")
        if name == "_local_scalar_dense":
            return LEAVES_TENSORS
        if name == "_to_copy" and (dtype := kwargs.get("dtype")) is not None:
            if dtype is torch.bool:
                return COMPARISON
            if not (dtype.is_floating_point or dtype.is_complex):
                return CAST
        if name == "copy" and not (arguments[0].is_floating_point() or arguments[0].is_complex()):
            return CAST
        return verdict_for(name, RecordedCall(func, args, kwargs, self.dependence))

    def _custom(self, place: Place, inner: str, arguments: list[Tensor], reach: int) -> int:
        function: Any = place.custom
        name = function.__name__
        verdict = (
            Verdict(self.known[name], "as stated by the caller") if name in self.known else unknown(OWN_DERIVATIVE)
        )
        if verdict.smoothness is Smoothness.SMOOTH:
            return 0
        bit = self._record(name, verdict, place, arguments, reach, custom=True)
        record = next(record for record in self.records.values() if record.bit == bit)
        if inner and inner not in record.inside:
            record.inside.append(inner)
        return bit

    def _record(
        self,
        name: str,
        verdict: Verdict,
        place: Place,
        arguments: list[Tensor],
        reach: int,
        *,
        count: int = 1,
        custom: bool = False,
    ) -> int:
        key = (name, verdict, place.module, place.source)
        record = self.records.get(key)
        if record is None:
            record = self.records[key] = Record(name, verdict, place, 1 << len(self.records))
        record.calls += count
        record.reach |= reach
        if custom:  # inside, gradients are not recorded
            record.gradient |= reach
        elif torch.is_grad_enabled():
            for tensor in arguments:
                record.gradient |= self.leaves.with_gradient(tensor)
        return record.bit

    def _written(self, func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        writes = self._writes.get(func)
        if writes is None:
            packet = func.overloadpacket.__name__
            writes = self._writes[func] = tuple(
                (position, argument.name)
                for position, argument in enumerate(func._schema.arguments)
                if (argument.alias_info is not None and argument.alias_info.is_write)
                or position in HIDDEN_WRITES.get(packet, ())
            )
        values = (args[position] if position < len(args) else kwargs.get(name) for position, name in writes)
        return list(_tensors(values))

    def _keep(self, tensor: Tensor) -> None:
        storage = storage_of(tensor)
        if storage is None or storage in self._new or storage in self._overwritten or tensor.device.type == "meta":
            return
        memory = tensor.untyped_storage()
        self._overwritten[storage] = (memory, memory.clone())  # type: ignore[no-untyped-call]

    def _remember(self, outputs: Iterable[Tensor], arguments: list[Tensor]) -> None:
        """Memory that a call returns, and that none of its arguments lies in, is new."""
        old = {storage_of(argument) for argument in arguments}
        for output in outputs:
            storage = storage_of(output)
            if storage is not None and storage not in old and storage not in self._new:
                self._new[storage] = _weak(output)

    def _depends(self, tensors: Iterable[Tensor], *, use: Use = Use.OTHER) -> tuple[int, int]:
        reach = records = 0
        for tensor in tensors:
            if tensor.requires_grad and tensor.grad_fn is None:
                reach |= self.leaves.bit_of(tensor)
            reach |= self.leaves.in_memory(tensor)
            known = self.dependence(tensor)
            if known is not None:
                reach |= known.reach
                records |= known.records | known.deferred(use)
            elif tensor.grad_fn is not None:  # computed before the recording began
                reach |= self.leaves.with_gradient(tensor)
        return reach, records

    def _varies(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on parameters or inputs otherwise than piecewise constantly."""
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return False
        if (tensor.requires_grad and tensor.grad_fn is None) or self.leaves.in_memory(tensor):
            return True
        known = self.dependence(tensor)
        return tensor.grad_fn is not None if known is None else known.varies

    def _mark(self, tensor: Tensor, reach: int, records: int, *, varies: bool) -> None:
        storage = storage_of(tensor)
        if storage is None:
            return
        varies = varies and (tensor.is_floating_point() or tensor.is_complex())
        known = self._memory.get(storage)
        if known is None:
            self._memory[storage] = Dependence(_weak(tensor), reach, records, varies)
        else:
            known.reach |= reach
            known.records |= records
            known.varies |= varies


SMOOTH_VIEW = Verdict(Smoothness.SMOOTH)


def _weak(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
