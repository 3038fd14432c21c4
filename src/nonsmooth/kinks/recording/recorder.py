"""Record a forward pass below autograd: each operation with its place, and what its result depends on.

A dispatch mode sees what module hooks do not: functional calls, in-place operations before they overwrite their input,
and operations without a gradient. Dependence is kept per piece of memory, as two sets of bits: the parameters, and the
operations found so far. So an operation whose result is thrown away, or only logged, can be told from one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode_stack,
)

from nonsmooth.kinks.recording.graph import judge_node, judged, line_of
from nonsmooth.kinks.recording.leaves import Leaves, storage_of
from nonsmooth.kinks.recording.ledger import Ledger
from nonsmooth.kinks.recording.place import Modules, Place, here
from nonsmooth.kinks.recording.records import (
    NO_MARKS,
    ArgumentUse,
    Dependence,
    Marks,
    RecordedCall,
    tensors_among,
    use_of,
)
from nonsmooth.kinks.recording.sets import INPUTS, NO_LEAVES, NO_RECORDS, LeafSet, RecordSet, union
from nonsmooth.kinks.recording.writes import Writes, weak
from nonsmooth.kinks.table.operations import (
    COMPARISON,
    COMPOSITES,
    PARTS,
    PIECEWISE_CONSTANT,
    classify,
    classify_squared,
    operator_of,
)
from nonsmooth.kinks.table.rules import jump, unknown
from nonsmooth.kinks.table.signs import Sign
from nonsmooth.kinks.table.smooth_operations import SHAPE_ONLY
from nonsmooth.kinks.table.smoothness import SMOOTH, Classification, Smoothness

CAST = jump("a cast to integers rounds")
BITS = jump("the bits of a floating-point number are taken for an integer")
LEAVES_TENSORS = unknown("a number that depends on it leaves PyTorch: what is computed from it is not seen")
FUNCTIONS_INSIDE = unknown("an operator that runs functions: what they do is not seen")


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records while it is active; `restore` puts back what was written to tensors that existed before.

    Args:
        leaves: the parameters, and the inputs.
        modules: for the paths of modules.
        known: classes of operations and custom functions that the user states, by name.
    """

    supports_higher_order_operators = True

    def __init__(self, leaves: Leaves, modules: Modules, known: Mapping[str, Smoothness] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.leaves, self.modules = leaves, modules
        self.found = Ledger(leaves, dict(known or {}))
        self.escaped = NO_RECORDS
        self._writes = Writes()
        self._memory: dict[int, Dependence] = {}
        self._start = torch._C._autograd._get_sequence_nr()
        self._read: dict[Any, RecordSet] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would load its whole compiler to keep it out of this class; `run_eagerly` keeps it out."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = list(tensors_among((*args, *kwargs.values())))
        backward = torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
        if isinstance(func, HigherOrderOperator):
            return self._run_with_functions(func, args, kwargs, arguments, counts=not backward)
        written = self._writes.written(func, args, kwargs)
        for tensor in written:
            self._writes.keep(tensor)
        name = func.overloadpacket.__name__
        name = name if name.startswith("__") else name.rstrip("_")
        name = name if func.namespace == "aten" else f"{func.namespace}::{name}"
        if backward or name in SHAPE_ONLY:
            result = func(*args, **kwargs)
            self._writes.remember(tensors_among((result,)), arguments)
            return result
        reach, records = self._depends(arguments, use=use_of(func, name, args))
        call = RecordedCall(func, args, kwargs, self.dependence)
        marks, sign = NO_MARKS, Sign.UNKNOWN
        varies = bool(reach) and any(self._varies(tensor) for tensor in arguments)
        if varies:
            marks = self._judge(func, name, call, kwargs, arguments, reach)
        if reach and not func.is_view:
            sign = call.sign(name)
        if name in {"_local_scalar_dense", "item", "equal", "is_nonzero"}:
            self.escaped = union(self.escaped, records, marks.values)
        result = self.run(func, name, args, kwargs, reach)
        outputs = list(tensors_among((result,)))
        self._writes.remember(outputs, arguments)
        if reach:
            positions = PARTS[name].positions if name in PARTS else ()
            varies = varies and name not in PIECEWISE_CONSTANT
            old = {storage_of(argument) for argument in arguments}
            for index, output in enumerate(outputs):
                bits = marks.parts if index in positions else marks.values
                self._mark(output, reach, union(records, bits), varies=varies)
            for tensor in written:
                self._mark(tensor, reach, union(records, marks.values), varies=varies)
            for tensor in [] if func.is_view else [*outputs, *written]:
                known = self.dependence(tensor)
                if known is not None:
                    known.hold(sign, marks, whole=storage_of(tensor) not in old or _is_whole(tensor))
        return result

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: LeafSet) -> Any:
        """Execute an operation that `reach` goes into; subclasses look at it more closely."""
        return func(*args, **kwargs)

    def add_input(self, tensor: Tensor) -> None:
        """Let everything that is computed from a tensor depend on the inputs."""
        self.leaves.add_input(tensor)
        self._mark(tensor, INPUTS, NO_RECORDS, varies=True)

    def dependence(self, tensor: Tensor) -> Dependence | None:
        """What is known of the memory of a tensor."""
        return self._memory.get(storage_of(tensor) or 0)

    def depends(self, tensors: Iterable[Tensor]) -> RecordSet:
        """The records that tensors depend on."""
        return self._depends(tensors)[1]

    def leave(self, how: str, tensor: Tensor) -> None:
        """Note that a tensor is about to leave PyTorch; also that whoever gets its memory may write to it."""
        if self not in _get_current_dispatch_mode_stack():  # inside an operator, which is judged as a whole
            return
        reach, records = self._depends([tensor])
        if reach and self._varies(tensor):
            with _disable_current_modes():  # a copy is no operation of the pass
                self._writes.keep(tensor)
            place = here(self.modules)
            if place.custom is not None:
                bit = self.found.add_custom(place, how, reach)
            else:
                bit = self.found.add(how, LEAVES_TENSORS, place, reach, arguments=[tensor])
            self.escaped = union(self.escaped, records, bit)

    def restore(self) -> None:
        """Put back tensors that existed before and were written."""
        self._writes.restore()

    def _run_with_functions(self, func: Any, args: Any, kwargs: Any, arguments: list[Tensor], *, counts: bool) -> Any:
        for tensor in arguments:  # no schema says which of them the functions write to
            self._writes.keep(tensor)
        reach, records = self._depends(arguments)
        name = func.name()
        if counts and any(self._varies(tensor) for tensor in arguments):
            classification = self.found.stated(name) or FUNCTIONS_INSIDE
            added = self.found.add(name, classification, here(self.modules), reach, arguments=arguments)
            records = union(records, added)
        result = func(*args, **kwargs)
        outputs = list(tensors_among((result,)))
        self._writes.remember(outputs, arguments)
        for tensor in outputs if reach and counts else ():
            self._mark(tensor, reach, records, varies=True)
        return result

    def _judge(
        self, func: Any, name: str, call: RecordedCall, kwargs: Any, arguments: list[Tensor], reach: LeafSet
    ) -> Marks:
        """Record what is not smooth."""
        place = here(self.modules)
        if any(self._is_reinterpreted(tensor) for tensor in arguments):
            name, classification = "view", BITS
        else:
            classification = SMOOTH if func.is_view else self._classify(name, call, kwargs, arguments)
        if place.custom is not None:
            inner = "" if classification.smoothness is Smoothness.SMOOTH else f"{name}, {classification.smoothness}"
            bit = self.found.add_custom(place, inner, reach)
            return Marks(bit, bit)
        shown = name.lstrip("_")
        if place.functional in COMPOSITES and classification.smoothness is not Smoothness.SMOOTH:
            whole, part = COMPOSITES[place.functional]
            shown, classification = place.functional, whole if name == part else SMOOTH
        if classification.smoothness is Smoothness.SMOOTH:
            if not func.is_view:
                self.found.count_smooth(shown)
            return NO_MARKS
        bit = self.found.add(shown, classification, place, reach, arguments=arguments)
        squared = classify_squared(name, call)
        if squared is not None and classification.smoothness is Smoothness.C0:
            return Marks(
                NO_RECORDS, NO_RECORDS, self.found.add_instead(bit, shown, squared, place, reach, arguments), bit
            )
        if name not in PARTS:
            return Marks(bit, bit)
        part_of_it = PARTS[name]
        shown = f"{shown} ({part_of_it.name})"
        return Marks(bit, self.found.add(shown, part_of_it.classification, place, reach, arguments=arguments))

    def _classify(self, name: str, call: RecordedCall, kwargs: Any, arguments: list[Tensor]) -> Classification:
        stated = self.found.stated(name)
        if stated is not None:
            return stated
        if name == "_local_scalar_dense":
            return LEAVES_TENSORS
        if name == "_to_copy" and (dtype := kwargs.get("dtype")) is not None:
            if dtype is torch.bool:
                return COMPARISON
            if not (dtype.is_floating_point or dtype.is_complex):
                return CAST
        if name == "copy" and not (arguments[0].is_floating_point() or arguments[0].is_complex()):
            return CAST
        return classify(name, call)

    def _depends(self, tensors: Iterable[Tensor], *, use: ArgumentUse = ArgumentUse.OTHER) -> tuple[LeafSet, RecordSet]:
        reach, records = NO_LEAVES, NO_RECORDS
        for tensor in tensors:
            if tensor.requires_grad and tensor.grad_fn is None:
                reach = union(reach, self.leaves.bit_of(tensor))
            own = self.leaves.in_memory(tensor)
            reach = union(reach, own)
            known = self.dependence(tensor)
            if known is not None:
                reach = union(reach, known.reach)
                records = union(records, known.records, known.deferred(use))
            elif tensor.grad_fn is not None:
                reach = union(reach, self.leaves.with_gradient(tensor))
                records = records if own else union(records, self._read_graph(tensor))
        return reach, records

    def _read_graph(self, tensor: Tensor) -> RecordSet:
        """The records that a tensor is computed from, where its computation was not recorded.

        It was computed before the recording began, in another thread, or beside the dispatcher. What went into
        the last is unknown: it may be everything that was found so far.
        """
        root = tensor.grad_fn
        in_this_pass = root._sequence_nr() >= self._start  # type: ignore[union-attr]
        if storage_of(tensor) is None and in_this_pass:  # sparse: dependence is kept per storage, and it has none
            return self.found.so_far
        if in_this_pass and operator_of(root) is None:
            if root not in self._read:
                name, classification = judge_node(root, self.found.known)
                if not self.found.has(name):
                    self.found.add(
                        name, classification, here(self.modules), self.leaves.of_node(root), arguments=[tensor]
                    )
                self._read[root] = self.found.so_far
            return self._read[root]
        records = NO_RECORDS
        for node, name, classification in judged(tensor, self.found.known, self.leaves):
            if node not in self._read:
                place, reach = Place(None, line_of(node), None, None), self.leaves.of_node(node)
                self._read[node] = self.found.add(name, classification, place, reach, gradient=reach)
            records = union(records, self._read[node])
        return records

    def _varies(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on parameters or inputs otherwise than piecewise constantly."""
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return self._is_reinterpreted(tensor)
        if (tensor.requires_grad and tensor.grad_fn is None) or self.leaves.in_memory(tensor):
            return True
        known = self.dependence(tensor)
        return tensor.grad_fn is not None if known is None else known.varies

    def _is_reinterpreted(self, tensor: Tensor) -> bool:
        """Whether integers lie in the memory of floating-point numbers: a view with another type."""
        if tensor.is_floating_point() or tensor.is_complex():
            return False
        known = self.dependence(tensor)
        return known.varies if known is not None else bool(self.leaves.in_memory(tensor) & self.leaves.floating)

    def _mark(self, tensor: Tensor, reach: LeafSet, records: RecordSet, *, varies: bool) -> None:
        storage = storage_of(tensor)
        if storage is None:
            return
        varies = varies and (tensor.is_floating_point() or tensor.is_complex())
        known = self._memory.get(storage)
        if known is None:
            self._memory[storage] = Dependence(weak(tensor), reach, records, varies)
        else:
            known.reach = union(known.reach, reach)
            known.records = union(known.records, records)
            known.varies |= varies


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor fills its memory."""
    return tensor.numel() * tensor.element_size() >= tensor.untyped_storage().nbytes()
