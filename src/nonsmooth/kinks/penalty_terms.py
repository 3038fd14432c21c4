"""Find the L1-type penalties in a loss, with their λ, and those that carry no gradient and so do nothing.

In the graph, a term is an absolute value or a norm of a parameter whose way to the loss is linear; its λ is what the
loss's derivative with respect to it says, so that no multiplier can be overlooked. A penalty on `.data` or `.detach()`,
or computed under `no_grad`, is not in the graph. It is found by recording, and its λ measured: the term is made larger,
and the loss looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from nonsmooth.kinks.findings import PenaltyTerm
from nonsmooth.kinks.graph import line_of, nodes_below
from nonsmooth.kinks.leaves import Leaves, NamedParameters, named
from nonsmooth.kinks.rules import base
from nonsmooth.kinks.silent_penalties import silent_terms

MOVED = {"View", "UnsafeView", "Reshape", "ReshapeAlias", "T", "Transpose", "Permute", "Clone", "ToCopy", "Cat",
         "Stack", "Select", "Slice", "Unsqueeze", "Squeeze", "Alias", "Split", "SplitWithSizes", "Unbind", "Expand",
         "Index", "IndexSelect", "Diagonal", "torch::autograd::CopyBackwards"}  # fmt: skip
"""On the way from a parameter to its norm: the same numbers, elsewhere."""

SCALED = {"Mul", "Div", "Neg"}
"""On that way: the same numbers, times a constant."""

SHIFTED = {"Sub", "Add", "Rsub"}
"""On that way: the distance from a constant."""

LINEAR = MOVED | SCALED | SHIFTED | {"Sum", "Mean", "Dot", "Mv"}
"""On the way from a norm to the loss."""


def penalty_terms(loss: Tensor | Callable[[], Any], named_parameters: NamedParameters) -> tuple[PenaltyTerm, ...]:
    """Find the L1-type penalties in a loss.

    Found are `w.abs().sum()` and its mean, `w.norm(1)`, `l1_loss(w, 0)`, group norms, nuclear norms not, each times
    constants inside and outside, over whole parameters, parts of them and `torch.cat` of several. Squared norms are
    smooth and no such terms. Nothing is changed; a loss may be used afterwards.

    Args:
        loss: a loss with its graph, or a callable without arguments that returns one. Only with the callable can
            penalties without a gradient be found; it is called once, and a few times more if there are such.
        named_parameters: a module, a mapping, or pairs of name and tensor. With the module, its modes and the names
            of its buffers are put back as well, should the callable change them.

    Returns:
        The terms, those with a gradient first.

    Raises:
        TypeError: the loss is neither.
        ValueError: it is not one number, has no graph, or its graph was freed by `backward`.
    """
    pairs = named(named_parameters)
    leaves = Leaves(pairs, complete=True)
    if isinstance(loss, Tensor):
        return _graph_terms(loss, leaves)
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; accepted are a tensor with its graph, or a callable that returns one")
    modules = list(named_parameters.modules()) if isinstance(named_parameters, nn.Module) else []
    return silent_terms(loss, pairs, modules, _graph_terms)


def _graph_terms(loss: Tensor, leaves: Leaves) -> tuple[PenaltyTerm, ...]:
    if loss.numel() != 1 or loss.grad_fn is None:
        raise ValueError(f"loss is {loss!r}; accepted is one number with its graph")
    consumers: dict[Any, list[Any]] = {}
    nodes = list(nodes_below(loss.grad_fn))
    for node in nodes:
        for source, _ in node.next_functions:
            consumers.setdefault(source, []).append(node)
    found = []
    for node in sorted(nodes, key=lambda node: node._sequence_nr()):
        kind = _kind(node)
        if kind is None:
            continue
        way = _way_to_parameters(node)
        if way and leaves.of_node(node) and _linear_to_loss(node, consumers, leaves):
            found.append((node, kind, way))
    if not found:
        return ()
    edges = [GradientEdge(node, 0) for node, _, _ in found]
    slopes = torch.autograd.grad(loss, edges, retain_graph=True)
    return tuple(_term(node, kind, way, slope, leaves) for (node, kind, way), slope in zip(found, slopes, strict=True))


def _kind(node: Any) -> str | None:
    if base(node) == "Abs":
        return "l1"
    if base(node) in {"LinalgVectorNorm", "Norm"}:
        order = getattr(node, "_saved_ord", getattr(node, "_saved_p", 2.0))
        return {1.0: "l1", 2.0: "group", float("inf"): "max"}.get(2.0 if order is None else float(order))
    if base(node) == "Sqrt":  # a group norm that is written out
        total = node.next_functions[0][0]
        square = total.next_functions[0][0] if base(total) == "Sum" else None
        return "group" if _is_square(square) else None
    return None


def _is_square(node: Any) -> bool:
    if base(node) == "Pow":
        return float(getattr(node, "_saved_exponent", 0)) == 2
    return base(node) == "Mul" and len({source for source, _ in node.next_functions}) == 1


def _way_to_parameters(node: Any) -> set[str]:
    """The names of the nodes between a norm and its parameters; empty if something else is among them."""
    names, stack, seen = {"itself"}, [source for source, _ in node.next_functions if source is not None], set()
    if base(node) == "Sqrt":
        stack = [_squared(node).next_functions[0][0]]
    while stack:
        below = stack.pop()
        if below is None or below in seen or hasattr(below, "variable"):
            continue
        seen.add(below)
        name = base(below)
        sources = [source for source, _ in below.next_functions if source is not None]
        if name not in MOVED | SCALED | SHIFTED or (name in SCALED | SHIFTED and len(sources) > 1):
            return set()
        names.add(name)
        stack += sources
    return names


def _linear_to_loss(node: Any, consumers: dict[Any, list[Any]], leaves: Leaves) -> bool:
    """Whether everything between a norm and the loss is linear, with factors that depend on no parameter."""
    seen, stack = {node}, [node]
    while stack:
        below = stack.pop()
        for above in consumers.get(below, []):
            name = base(above)
            if name not in LINEAR:
                return False
            others = [source for source, _ in above.next_functions if source is not None and source is not below]
            if name in {"Mul", "Div", "Dot", "Mv"} and any(leaves.of_node(other) for other in others):
                return False
            if above not in seen:
                seen.add(above)
                stack.append(above)
    return True


def _term(node: Any, kind: str, way: set[str], slope: Tensor, leaves: Leaves) -> PenaltyTerm:
    names = leaves.names_of(leaves.of_node(node))
    inner = _inner(node)
    value = float((inner.double().abs() if base(node) == "Abs" else node._saved_result.detach().double()).sum())
    scale = _scale(node, inner, names, leaves) if way & SCALED and not way & SHIFTED else 1.0
    smallest, largest = float(slope.min()), float(slope.max())
    strongest = largest if abs(largest) >= abs(smallest) else smallest
    return PenaltyTerm(
        kind=kind,
        parameters=names,
        strength=strongest * scale,
        uniform=largest - smallest <= 1e-5 * abs(strongest),
        value=value / scale,
        centred=not way & SHIFTED or _is_the_parameter(inner, names, leaves),
        has_gradient=True,
        source=line_of(node),
    )


def _inner(node: Any) -> Tensor:
    """What the norm is taken of."""
    if base(node) == "Sqrt":
        node = _squared(node)
    try:
        inner: Tensor = node._saved_self
    except RuntimeError as error:
        raise ValueError(
            "loss has a graph whose tensors were freed; accepted is a loss before backward(), or after "
            "backward(retain_graph=True)"
        ) from error
    return inner.detach()


def _scale(node: Any, inner: Tensor, names: tuple[str, ...], leaves: Leaves) -> float:
    """|c| of |c·w|: the largest derivative of the inner tensor with respect to an entry of w."""
    parameters = [leaves.tensors[leaves.names.index(name)] for name in names]
    root = _squared(node) if base(node) == "Sqrt" else node
    slopes = torch.autograd.grad(
        GradientEdge(*root.next_functions[0]), parameters, torch.ones_like(inner), retain_graph=True
    )
    return float(torch.stack([slope.abs().max() for slope in slopes]).max())


def _squared(root: Any) -> Any:
    """The node of the squares below that of the root of their sum."""
    return root.next_functions[0][0].next_functions[0][0]


def _is_the_parameter(inner: Tensor, names: tuple[str, ...], leaves: Leaves) -> bool:
    """Whether subtracting a constant changed nothing, as in l1_loss(w, 0)."""
    values = [leaves.tensors[leaves.names.index(name)].detach().flatten() for name in names]
    whole = torch.cat(values)
    return inner.numel() == whole.numel() and bool(torch.equal(inner.flatten().abs(), whole.abs().to(inner.dtype)))
