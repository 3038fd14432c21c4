"""Find every operation that is not differentiable everywhere: in a module, a closure, or the graph of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor, nn

from nonsmooth.kinks.findings import Operation, Scan
from nonsmooth.kinks.module_tree import scan_tree
from nonsmooth.kinks.recording.eager import ordinary, run_eagerly
from nonsmooth.kinks.recording.graph import scan_graph
from nonsmooth.kinks.recording.leaves import Leaves, NamedParameters, named
from nonsmooth.kinks.recording.out_of_sight import reported
from nonsmooth.kinks.recording.place import Modules
from nonsmooth.kinks.recording.recorder import Recorder
from nonsmooth.kinks.recording.records import RecordedOperation
from nonsmooth.kinks.recording.sets import ALL_LEAVES, ALL_RECORDS, INPUTS, LeafSet, union, without
from nonsmooth.kinks.table.smoothness import Smoothness


def scan(
    target: nn.Module | Tensor | Callable[[], Any],
    *inputs: Any,
    named_parameters: NamedParameters | None = None,
    known: Mapping[str, Smoothness] | None = None,
    **keyword_inputs: Any,
) -> Scan:
    """Find the operations that are not differentiable everywhere.

    What is scanned, and how much can be seen:

    - a module with example inputs: its forward pass is recorded, with functional calls, operations in place and those
      without a gradient; module path and source line of each.
    - a callable without arguments, such as `lambda: loss_fn(model(x), y)`: it is run and recorded, too.
    - a loss, that is a tensor with a graph: the graph is read, and stays as it is. Module paths are not in it.
    - a module alone: only its tree of submodules; functional calls are not seen, and the result says so.

    A recorded operation counts if floating-point inputs or parameters reach it, and the result depends on it.

    The model is as before, also after an exception: parameters, buffers, `.grad`, modes, attributes of its modules and
    the random number generators. It runs in the mode that it is in.

    Args:
        target: see above.
        *inputs: example inputs of a module.
        named_parameters: a module, a mapping or pairs of name and tensor; for a loss or a callable, whose parameters
            otherwise are called after their order and shape. Without them, `.data` of a parameter that was not used
            before cannot be recognised. With the module, its modes and attributes are put back as well, should a
            callable change them.
        known: classes of operations that are not in the table ("my_library::my_op") and of `autograd.Function`s
            ("MyFunction"), as you state them.
        **keyword_inputs: its keyword arguments.

    Returns:
        The scan.

    Raises:
        TypeError: the target is none of these, inputs are given for a target that takes none, or something else than
            a `Smoothness` is stated.
        ValueError: a tensor has no graph, or a lazy module has not run yet.
    """
    stated = _stated(known)
    if isinstance(target, type):
        raise TypeError(f"target is the class {target.__name__}; accepted is an instance, as {target.__name__}(...)")
    if isinstance(target, nn.Module):
        if named_parameters is not None:
            raise TypeError("named_parameters is given with a module, which has its own; accepted without one")
        if not inputs and not keyword_inputs:
            return scan_tree(target, stated)
        module = target
        inputs, keyword_inputs = ordinary((inputs, keyword_inputs))
        leaves = Leaves(named(module), complete=True)
        return _record(lambda: module(*inputs, **keyword_inputs), leaves, module, (inputs, keyword_inputs), stated)
    if inputs or keyword_inputs:
        raise TypeError(f"inputs are given for a {type(target).__name__}; accepted are inputs of a module")
    leaves = Leaves(named(named_parameters), complete=named_parameters is not None)
    if isinstance(target, Tensor):
        if target.grad_fn is None:
            raise ValueError(
                "target is a tensor without a graph: nothing in it requires a gradient, or it was computed under "
                "no_grad; accepted is a loss before detach()"
            )
        return scan_graph(target, leaves, stated)
    if not callable(target):
        raise TypeError(f"target is {target!r}; accepted are a module, a loss with its graph, or a callable")
    root = named_parameters if isinstance(named_parameters, nn.Module) else None
    return _record(target, leaves, root, (), stated)


def _stated(known: Mapping[str, Smoothness] | None) -> dict[str, Smoothness]:
    """A copy of what the user states."""
    stated = dict(known or {})
    for name, smoothness in stated.items():
        if not isinstance(smoothness, Smoothness):
            raise TypeError(f"known[{name!r}] is {smoothness!r}; accepted is a class, as Smoothness.C0")
    return stated


def _record(
    call: Callable[[], Any], leaves: Leaves, root: nn.Module | None, inputs: Any, known: Mapping[str, Smoothness]
) -> Scan:
    recorder = Recorder(leaves, Modules(root), known)
    for tensor in tensors_in(inputs):
        if tensor.is_floating_point() or tensor.is_complex():
            recorder.add_input(tensor)
    with run_eagerly(list(leaves.tensors), root.modules() if root is not None else ()):
        try:
            with reported(recorder.leave), recorder:
                result = call()
            outputs = list(tensors_in(result))
            counted = union(recorder.depends(outputs), recorder.escaped) if outputs else ALL_RECORDS
        finally:
            recorder.restore()
    operations = tuple(
        operation_of(record, leaves)
        for record in recorder.found.records.values()
        if record.bit & counted and not record.instead_of & counted
    )
    return Scan(operations, tuple(recorder.found.smooth.items()), leaves.names_of(ALL_LEAVES), "forward pass")


def operation_of(record: RecordedOperation, leaves: Leaves) -> Operation:
    """What is said of a record: names in place of bits."""
    frozen = leaves.parameters(trainable=False)
    reach = without(record.reach, INPUTS)
    reason = record.classification.reason
    if record.inside:
        reason += f"; inside: {'; '.join(record.inside)}"
    return Operation(
        name=record.name,
        smoothness=record.classification.smoothness,
        reason=reason,
        module=record.place.module,
        source=record.place.source,
        calls=record.calls,
        parameters=leaves.names_of(union(record.gradient, LeafSet(reach & frozen))),
        without_gradient=leaves.names_of(without(reach, union(frozen, record.gradient))),
    )


def tensors_in(value: Any, depth: int = 6) -> Iterator[Tensor]:
    """The tensors in what a forward pass returns: in containers, dataclasses and plain objects."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and (is_dataclass(value) or hasattr(value, "__dict__")) and not isinstance(value, (type, nn.Module)):
        yield from tensors_in(vars(value), depth - 1)
