"""Norms in an autograd graph: which node is one, of what kind, and what it is taken of."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nonsmooth.kinks.penalty_terms.linear_paths import MOVED, SCALED, SHIFTED, divides
from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.table.rules import base

KINDS = {1.0: "l1", 2.0: "group", float("inf"): "max"}
"""The name of a norm, by its order."""

Dims = tuple[int, ...] | None
"""The dimensions that a norm is taken over; None for all, () where each number is its own norm."""


@dataclass(frozen=True)
class Norm:
    """A node whose result is norms of parameters' numbers.

    Attributes:
        kind: "l1", "group" or "max".
        node: its result is one number for each group of `inner`.
        below: the node, and the number of its output, that the inner tensor comes from.
        keeper: the node that saved the inner tensor.
        dims: the dimensions of the inner tensor that the norm is taken over.
        shifted: whether a constant may have been subtracted.
    """

    kind: str
    node: Any
    below: tuple[Any, int]
    keeper: Any
    dims: Dims
    shifted: bool = False

    def inner(self) -> Tensor:
        """What the norm is taken of."""
        with freed_said():
            inner: Tensor = self.keeper._saved_self.detach()
            return inner - self.keeper._saved_other.detach() if base(self.keeper) == "Dist" else inner

    def over(self, inner: Tensor) -> tuple[int, ...]:
        """The dimensions, counted from 0."""
        count = inner.dim()
        return tuple(range(count)) if self.dims is None or not count else tuple(sorted(d % count for d in self.dims))

    def spread(self, values: Tensor, inner: Tensor) -> Tensor:
        """Numbers of the groups, each at all places of its group."""
        over = self.over(inner)
        shape = [1 if dim in over else size for dim, size in enumerate(inner.shape)]
        return values.reshape(shape).expand_as(inner)


FREED = "loss has a graph whose tensors were freed or overwritten; accepted is a loss before backward(), or after \
backward(retain_graph=True), and before the optimizer's step"


@contextmanager
def freed_said() -> Iterator[None]:
    """A block in which autograd's word for tensors that are gone becomes one about the loss."""
    try:
        yield
    except RuntimeError as error:
        if "a second time" in str(error) or "inplace operation" in str(error) or "already been freed" in str(error):
            raise ValueError(FREED) from error
        raise


def norms_in(nodes: Iterable[Any], leaves: Leaves) -> list[Norm]:
    """The norms of parameters among nodes, in their order.

    Args:
        nodes: of a graph.
        leaves: the parameters.
    """
    found = []
    for node in nodes:
        norm = _norm(node)
        if norm is not None and leaves.of_node(node):
            names = _way_to_parameters(norm.below[0], leaves.named_nodes)
            if names is not None:
                shifted = bool(names & SHIFTED) or norm.shifted
                found.append(Norm(norm.kind, node, norm.below, norm.keeper, norm.dims, shifted))
    return found


def _norm(node: Any) -> Norm | None:
    """The norm that a node is, whatever it is taken of."""
    name, sources = base(node), node.next_functions
    if name == "Abs":
        return Norm("l1", node, sources[0], node, ())
    if name in {"LinalgVectorNorm", "Norm", "Dist"}:
        order = getattr(node, "_saved_ord", getattr(node, "_saved_p", 2.0))
        kind = KINDS.get(2.0 if order is None else float(order))
        present = [source for source in sources if source[0] is not None]
        return Norm(kind, node, present[0], node, _dims(node), name == "Dist") if kind and len(present) == 1 else None
    if name == "Sqrt" or (name == "Pow" and getattr(node, "_saved_exponent", None) == 0.5):
        return _root(node)
    if name in {"Max", "Amax"} and base(sources[0][0]) == "Abs":
        absolute = sources[0][0]
        return Norm("max", node, absolute.next_functions[0], absolute, _dims(node))
    if name == "Maximum":
        (first, _), (second, _) = sources
        if base(second) == "Neg" and second.next_functions[0] == sources[0]:
            return Norm("l1", node, sources[0], node, ())
        if base(first) == "Neg" and first.next_functions[0] == sources[1]:
            return Norm("l1", node, sources[0], node, ())
    return None


def _root(node: Any) -> Norm | None:
    """An absolute value or a Euclidean norm that is written out, as a root of squares or of their sum."""
    below = node.next_functions[0][0]
    summed = base(below) == "Sum"
    square = below.next_functions[0][0] if summed else below
    is_power = base(square) == "Pow" and getattr(square, "_saved_exponent", None) == 2
    if not is_power and not (base(square) == "Mul" and len({*square.next_functions}) == 1):
        return None
    return Norm("group" if summed else "l1", node, square.next_functions[0], square, _dims(below) if summed else ())


def _dims(node: Any) -> Dims:
    """The dimensions that a node reduces; autograd keeps them as numbers without a sign."""
    saved = getattr(node, "_saved_dim", None)
    dims = (saved,) if isinstance(saved, int) else tuple(saved or ())
    return tuple(dim - 2**64 if dim >= 2**63 else dim for dim in dims) or None


def _way_to_parameters(start: Any, named: Container[Any]) -> set[str] | None:
    """The names of the nodes between a norm and its parameters; None if another operation is among them."""
    names: set[str] = set()
    stack, seen = [start], set()
    while stack:
        below = stack.pop()
        if below in seen or below in named or hasattr(below, "variable"):
            continue
        seen.add(below)
        name = base(below)
        sources = [source for source, _ in below.next_functions if source is not None]
        if name not in MOVED | SCALED | SHIFTED or (name in SCALED | SHIFTED and len(sources) > 1) or divides(below):
            return None
        names.add(name)
        stack += sources
    return names
