"""The linear part of an autograd graph: what flows along it, computed node by node.

Nodes are called one at a time instead of by autograd's engine, so that only some of their sources are followed, and
hooks of tensors do not run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.table.rules import base

MOVED = {"View", "UnsafeView", "Reshape", "ReshapeAlias", "T", "Transpose", "Permute", "Clone", "ToCopy", "Cat",
         "Stack", "Select", "Slice", "Unsqueeze", "Squeeze", "Alias", "Split", "SplitWithSizes", "Unbind", "Expand",
         "Index", "IndexSelect", "Diagonal", "torch::autograd::CopyBackwards"}  # fmt: skip
"""The same numbers, elsewhere."""

SCALED = {"Mul", "Div", "Neg"}
"""The same numbers, times a constant."""

SHIFTED = {"Sub", "Add", "Rsub"}
"""The distance from a constant."""

LINEAR = MOVED | SCALED | SHIFTED | {"Sum", "Mean", "Dot", "Mv"}
"""Linear in each of its sources."""

PRODUCTS = {"Mul", "Div", "Dot", "Mv"}

Slopes = list[Tensor | None]
"""A derivative for each output of a node; None where there is none."""


def in_order(root: Any) -> list[Any]:
    """Every node of a graph, once, after those below it.

    The numbers that autograd gives to nodes are no such order where several threads have built the graph.
    """
    ordered, entered, done = [], set(), set()
    stack = [root]
    while stack:
        node = stack[-1]
        if node in entered:
            stack.pop()
            if node not in done:
                done.add(node)
                ordered.append(node)
            continue
        entered.add(node)
        stack += [source for source, _ in reversed(node.next_functions) if source is not None and source not in entered]
    return ordered


def linear_slopes(
    ordered: Sequence[Any], loss: Tensor, leaves: Leaves, norms: Collection[Any]
) -> Mapping[Any, Tensor | None]:
    """The derivative of a loss with respect to norms, over the paths that are linear.

    A norm counts that is linear in the loss but for its square and for norms of it, as `a` is in
    a.sum() + a.square().sum() + a.max(): their slope is 0 where it is 0. Others may add to what a norm has in the other
    terms, or take it away: a + softplus(-2a) is smooth.

    Args:
        ordered: the nodes of the loss's graph, each later than those below it.
        loss: one number with its graph.
        leaves: the parameters: a product is linear in a source where the others depend on none.
        norms: nodes, of whose first outputs they are.

    Returns:
        A derivative for each norm that counts.

    Raises:
        RuntimeError: the graph was freed.
    """
    above, consumers = set(norms), dict[Any, list[tuple[Any, int]]]()
    for node in ordered:
        for index, (source, _) in enumerate(node.next_functions):
            if source in above:
                above.add(node)
                consumers.setdefault(source, []).append((node, index))

    linear = {node: _linear_sources(node, leaves) if node in above else set() for node in ordered}

    def followed(node: Any) -> set[int]:
        return {index for index in linear[node] if node.next_functions[index][0] in above}

    counting = _linear_enough(ordered, consumers, linear, norms)
    start: dict[Any, Slopes] = {loss.grad_fn: [None] * loss.output_nr + [torch.ones_like(loss)]}
    found = walk_back(ordered, start, followed, counting)
    return {norm: slopes[0] for norm, slopes in found.items()}


def walk_back(
    ordered: Sequence[Any],
    start: Mapping[Any, Slopes],
    followed: Callable[[Any], Collection[int]],
    wanted: Collection[Any],
) -> dict[Any, Slopes]:
    """Products of vectors with the Jacobian of a graph, along some of its edges.

    Args:
        ordered: nodes, each later than those below it.
        start: the vectors, for the outputs of some nodes.
        followed: the numbers of the sources of a node that are followed.
        wanted: nodes whose products are returned.

    Returns:
        What arrives at the outputs of the wanted nodes.
    """
    slopes: dict[Any, Slopes] = dict(start)
    found: dict[Any, Slopes] = {}
    with torch.no_grad():
        for node in reversed(ordered):
            arrived = slopes.pop(node, None)
            if arrived is None:
                continue
            if node in wanted:
                found[node] = arrived
            sources = followed(node)
            if not sources:
                continue
            below = node(*arrived, *[None] * (len(node._input_metadata) - len(arrived)))
            parts = below if isinstance(below, tuple) else (below,)
            for index in sources:
                source, output = node.next_functions[index]
                if parts[index] is not None:
                    _add(slopes.setdefault(source, []), output, _as_its_source(parts[index], source, output))
    return found


def _add(slopes: Slopes, output: int, part: Tensor) -> None:
    slopes += [None] * (output + 1 - len(slopes))
    before = slopes[output]
    slopes[output] = part if before is None else before + part


def _as_its_source(slope: Tensor, source: Any, output: int) -> Tensor:
    """Summed over broadcast dimensions, and cast, which autograd's engine does between nodes."""
    expected = source._input_metadata[output]
    slope = slope.sum_to_size(expected.shape)
    return (slope.real if slope.is_complex() and not expected.dtype.is_complex else slope).to(expected.dtype)


def _linear_sources(node: Any, leaves: Leaves) -> set[int]:
    """Which of its sources a node is linear in, with factors that depend on no parameter."""
    if base(node) not in LINEAR or divides(node):
        return set()
    sources = sources_of(node)
    if base(node) not in PRODUCTS:
        return set(sources)
    return {
        index
        for index in sources
        if not any(leaves.of_node(node.next_functions[other][0]) for other in sources if other != index)
    }


def sources_of(node: Any) -> list[int]:
    """The numbers of a node's sources that have a gradient."""
    return [index for index, (source, _) in enumerate(node.next_functions) if source is not None]


def _linear_enough(
    ordered: Sequence[Any],
    consumers: Mapping[Any, Sequence[tuple[Any, int]]],
    linear: Mapping[Any, Collection[int]],
    norms: Collection[Any],
) -> set[Any]:
    """The norms of which all else that they are used for has slope 0 where the norm is 0.

    One walk down from the loss, for a walk up from each norm would take as long as the terms are many, each time.
    """
    plain: dict[Any, bool] = {}
    alone: dict[Any, bool] = {}
    for node in reversed(ordered):
        uses = consumers.get(node, ())
        plain[node] = all(index in linear[above] and plain[above] for above, index in uses)
        alone[node] = all(
            (alone if base(above) in MOVED | SCALED else plain)[above]
            if index in linear[above]
            else above in norms or _is_square(above)
            for above, index in uses
        )
    return {norm for norm in norms if alone[norm]}


def _is_square(node: Any) -> bool:
    if base(node) == "Pow":
        return float(getattr(node, "_saved_exponent", 0)) >= 2
    return base(node) == "Mul" and len({*node.next_functions}) == 1


def divides(node: Any) -> bool:
    """Whether only the denominator of a division is followed."""
    return base(node) == "Div" and node.next_functions[0][0] is None
