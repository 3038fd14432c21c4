"""Derivatives of a loss along those paths of its graph on which everything is linear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kinks.leaves import Leaves
from nonsmooth.kinks.rules import base

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


def linear_slopes(ordered: Sequence[Any], loss: Tensor, leaves: Leaves) -> dict[Any, list[Tensor | None]]:
    """For each node, the derivative of the loss with respect to its outputs, over the paths that are linear.

    A norm that is also used in another way, as `a` in 2·a.sum() + a.square().sum(), so counts with its linear part.

    Args:
        ordered: the nodes of the loss's graph, each later than those below it.
        loss: one number with its graph.
        leaves: the parameters: a product is linear in a source where the others depend on none.

    Returns:
        Those nodes that a linear path leads to, with one derivative per output, None where no path does.

    Raises:
        RuntimeError: the graph was freed.
    """
    slopes: dict[Any, list[Tensor | None]] = {loss.grad_fn: [None] * loss.output_nr + [torch.ones_like(loss)]}
    with torch.no_grad():
        for node in reversed(ordered):
            sources = linear_sources(node, leaves) if node in slopes else set()
            if not sources:
                continue
            below = node(*slopes[node], *[None] * (len(node._input_metadata) - len(slopes[node])))
            parts = below if isinstance(below, tuple) else (below,)
            for index, ((source, output), part) in enumerate(zip(node.next_functions, parts, strict=True)):
                if index in sources and part is not None:
                    known = slopes.setdefault(source, [])
                    known += [None] * (output + 1 - len(known))
                    before = known[output]
                    known[output] = part if before is None else before + part
    return slopes


def linear_sources(node: Any, leaves: Leaves) -> set[int]:
    """Which of its sources a node is linear in, with factors that depend on no parameter."""
    if base(node) not in LINEAR or divides(node):
        return set()
    sources = {index: source for index, (source, _) in enumerate(node.next_functions) if source is not None}
    if base(node) not in PRODUCTS:
        return set(sources)
    return {
        index
        for index in sources
        if not any(leaves.of_node(other) for place, other in sources.items() if place != index)
    }


def divides(node: Any) -> bool:
    """Whether only the denominator of a division is followed."""
    return base(node) == "Div" and node.next_functions[0][0] is None
