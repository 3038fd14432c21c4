"""Parameters as bits: which of them a node of the autograd graph, or a piece of memory, goes back to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nonsmooth.kinks.recording.sets import INPUTS, NO_LEAVES, LeafSet, union, without

ACCEPTED = (
    "accepted are a module, a mapping of names to tensors, or pairs of a name and a tensor, as from "
    "model.named_parameters()"
)

NamedParameters = nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]


def named(parameters: NamedParameters | None) -> list[tuple[str, Tensor]]:
    """Names and tensors of a module, a mapping or an iterable of pairs.

    Raises:
        TypeError: `parameters` is something else.
        ValueError: a lazy module has not run yet.
    """
    if parameters is None:
        return []
    if isinstance(parameters, nn.Module):
        own: list[tuple[str, Tensor]] = list(parameters.named_parameters())
        lazy = [name for name, parameter in own if is_lazy(parameter)]
        if lazy:
            raise ValueError(f"parameter {lazy[0]!r} has no shape yet; accepted is a module that has run once")
        return own
    if not isinstance(parameters, Iterable):
        shown = repr(parameters) if isinstance(parameters, Real) else f"an {type(parameters).__name__}"
        raise TypeError(f"named_parameters is {shown}; {ACCEPTED}")
    pairs = list(parameters.items() if isinstance(parameters, Mapping) else parameters)
    for pair in pairs:
        if not _is_pair(pair):
            shown = f"a {type(pair).__name__}" if isinstance(pair, Tensor) else repr(pair)
            raise TypeError(f"named_parameters holds {shown}; {ACCEPTED}")
    return pairs


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor)


class Leaves:
    """The parameters that a scan knows.

    Args:
        pairs: names and tensors.
        complete: no other leaf is a parameter; otherwise leaves that turn up get a name by their order and shape.

    Attributes:
        names: of the parameters, "" for inputs.
        tensors: the parameters, and the inputs.
        floating: the parameters that are floating-point numbers.
        named_nodes: the autograd nodes of those that are computed from something.
    """

    def __init__(self, pairs: list[tuple[str, Tensor]], *, complete: bool) -> None:
        self.names: list[str] = []
        self.tensors: list[Tensor] = []
        self.complete = complete
        self.floating = NO_LEAVES
        self._bits: dict[int, LeafSet] = {}
        self._memory: dict[int, list[tuple[LeafSet, int, int]]] = {}
        self.named_nodes: set[Any] = set()
        self._nodes: dict[Any, LeafSet] = {}
        for name, tensor in pairs:
            self._add(name, tensor)

    def _add(self, name: str, tensor: Tensor) -> LeafSet:
        if id(tensor) in self._bits:  # tied weights keep their first name
            return self._bits[id(tensor)]
        self.names.append(name)
        self.tensors.append(tensor)
        bit = self._bits[id(tensor)] = LeafSet(2 << (len(self.names) - 1))
        if tensor.is_floating_point() or tensor.is_complex():
            self.floating = union(self.floating, bit)
        storage = storage_of(tensor)
        if storage is not None:
            self._memory.setdefault(storage, []).append((bit, *_extent(tensor)))
        if tensor.grad_fn is not None:  # named, and computed from something: what lies behind it is not looked for
            self.named_nodes.add(tensor.grad_fn)
            self._nodes[tensor.grad_fn] = union(self._nodes.get(tensor.grad_fn, NO_LEAVES), bit)
        return bit

    def add_input(self, tensor: Tensor) -> None:
        """Let a tensor count as an input."""
        self._bits.setdefault(id(tensor), INPUTS)
        self.tensors.append(tensor)  # alive, so that no other tensor gets its id
        self.names.append("")

    def bit_of(self, leaf: Tensor) -> LeafSet:
        """A leaf that requires a gradient; empty if it is no parameter."""
        known = self._bits.get(id(leaf))
        if known is None and not self.complete:
            return self._add(f"unnamed {len(self.names)} of shape {tuple(leaf.shape)}", leaf)
        return known or NO_LEAVES

    def in_memory(self, tensor: Tensor) -> LeafSet:
        """The parameters whose memory a tensor lies in, with or without a gradient."""
        storage = storage_of(tensor)
        parts = self._memory.get(storage, []) if storage is not None else []
        if len(parts) <= 1:
            return parts[0][0] if parts else NO_LEAVES
        first, last = _extent(tensor)  # one buffer for several parameters, as of flattened RNN weights
        return union(*(bit for bit, start, end in parts if start < last and first < end))

    def with_gradient(self, tensor: Tensor) -> LeafSet:
        """The leaves that a tensor has a gradient to."""
        if tensor.grad_fn is not None:
            return self.of_node(tensor.grad_fn)
        return self.bit_of(tensor) if tensor.requires_grad else NO_LEAVES

    def of_node(self, root: Any) -> LeafSet:
        """The leaves below an autograd node."""
        known, stack = self._nodes, [root]
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
                continue
            sources = [source for source, _ in node.next_functions if source is not None]
            missing = [source for source in sources if source not in known]
            if missing:
                stack.extend(missing)
                continue
            variable = getattr(node, "variable", None)
            known[node] = self.bit_of(variable) if isinstance(variable, Tensor) else union(*(known[s] for s in sources))
            stack.pop()
        return known[root]

    def names_of(self, leaves: LeafSet) -> tuple[str, ...]:
        """The names of the parameters among leaves, in order."""
        return tuple(self.names[k] for k in self._numbers_of(leaves) if self.names[k])

    def tensors_of(self, leaves: LeafSet) -> list[Tensor]:
        """The parameters among leaves, in order."""
        return [self.tensors[k] for k in self._numbers_of(leaves) if self.names[k]]

    def _numbers_of(self, leaves: LeafSet) -> Iterator[int]:
        """The numbers of the parameters among leaves; the cost goes with these, and not with all."""
        mask = without(leaves, INPUTS) & ((1 << (len(self.names) + 1)) - 1)
        while mask:
            lowest = mask & -mask
            yield lowest.bit_length() - 2
            mask ^= lowest

    def parameters(self, *, trainable: bool) -> LeafSet:
        """All parameters that require a gradient, or all that do not."""
        return union(
            *(
                LeafSet(2 << k)
                for k, (name, tensor) in enumerate(zip(self.names, self.tensors, strict=True))
                if name and tensor.requires_grad is trainable
            )
        )


def storage_of(tensor: Tensor) -> int | None:
    """The address of a tensor's storage as an object; None where it has none, as sparse tensors."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First byte of a tensor in its storage, and the byte behind its last."""
    start = int(tensor.storage_offset()) * tensor.element_size()
    if tensor.numel() == 0:
        return start, start
    last = int(sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)))
    return start, start + (last + 1) * tensor.element_size()
