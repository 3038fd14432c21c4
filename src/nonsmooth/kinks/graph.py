"""Read the operations off an autograd graph that exists already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from nonsmooth.kinks.findings import Operation, Scan
from nonsmooth.kinks.leaves import Leaves
from nonsmooth.kinks.operations import SOFTSIGN, operator_of, squared_verdict, verdict_for
from nonsmooth.kinks.place import TORCH
from nonsmooth.kinks.rules import KEEPS_SIGN, POSITIVE, base, is_even, unknown
from nonsmooth.kinks.smoothness import Smoothness, Verdict

BOOKKEEPING = {"torch::autograd::AccumulateGrad", "torch::autograd::CopyBackwards", "GraphRoot", "UndefinedGrad"}
VIEWS = {"view", "unsqueeze", "squeeze", "expand", "transpose", "permute", "t", "select", "slice", "_unsafe_view"}
NOTES = (
    "The graph holds operations with a derivative only: comparisons, argmax, .data and .detach() leave no trace in it, "
    "and it keeps source lines only under torch.autograd.set_detect_anomaly(True). Scan a closure to see them.",
)


class NodeCall:
    """A node of the graph, for the rules of the table: it saves the arguments that its derivative needs."""

    recorded = False

    def __init__(self, node: Any) -> None:
        self._node = node

    def argument(self, name: str) -> Any:
        """A saved argument that is no tensor."""
        return getattr(self._node, f"_saved_{name}", None)

    def depends(self, position: int) -> bool:
        """Whether a tensor argument has a gradient."""
        sources = self._node.next_functions
        return position < len(sources) and sources[position][0] is not None

    def positive(self) -> bool:
        """By the node that made the argument; an added constant is taken to be an ε, since the graph drops it."""
        return _positive(self._node.next_functions[0][0], depth=8)


def _positive(node: Any, depth: int) -> bool:
    if node is None or depth == 0:
        return False
    sources = [source for source, _ in node.next_functions]
    operator = operator_of(node)
    if operator == "add":
        return len(sources) == 1 or None in sources
    if operator in {"clamp", "clamp_min"}:
        least = getattr(node, "_saved_min", None)
        return isinstance(least, Real) and float(least) > 0
    if operator in KEEPS_SIGN | VIEWS:
        return all(_positive(source, depth - 1) for source in sources)
    return operator in POSITIVE or f"_{operator}" in POSITIVE


def nodes_below(root: Any) -> Iterator[Any]:
    """Every node of the graph, once."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        yield node
        for source, _ in reversed(node.next_functions):
            if source is not None and source not in seen:
                seen.add(source)
                stack.append(source)


def scan_graph(loss: Tensor, leaves: Leaves, known: Mapping[str, Smoothness]) -> Scan:
    """Scan the graph of a tensor."""
    found: dict[Any, Operation] = {}
    smooth: dict[str, int] = {}
    nodes = sorted(nodes_below(loss.grad_fn), key=lambda node: node._sequence_nr())  # as they were made
    consumers: dict[Any, list[Any]] = {}
    for node in nodes:
        for source, _ in node.next_functions:
            consumers.setdefault(source, []).append(node)
    softsigns = {node for node in map(_softsign, nodes) if node is not None}
    for node in nodes:
        if node.name() in BOOKKEEPING:
            continue
        name, verdict = ("softsign", SOFTSIGN) if node in softsigns else _judge(node, known)
        if verdict.smoothness is Smoothness.C0 and _only_squared(node, consumers.get(node, [])):
            verdict = squared_verdict(operator_of(node) or "", NodeCall(node)) or verdict
        if verdict.smoothness is Smoothness.SMOOTH:
            smooth[name] = smooth.get(name, 0) + 1
            continue
        source = line_of(node)
        names = leaves.names_of(leaves.of_node(node))
        key = (name, verdict, source, None if source else names)
        before = found.get(key)
        together = [*(before.parameters or ()), *names] if before else names
        found[key] = Operation(
            name,
            verdict.smoothness,
            verdict.reason,
            source=source,
            calls=1 + (before.calls if before else 0),
            parameters=tuple(dict.fromkeys(together)),
        )
    return Scan(tuple(found.values()), tuple(smooth.items()), leaves.names_of(-1), "autograd graph", NOTES)


def _judge(node: Any, known: Mapping[str, Smoothness]) -> tuple[str, Verdict]:
    operator = operator_of(node)
    name = operator or node.name().removesuffix("Backward")
    if name in known:
        return name, Verdict(known[name], "as stated by the caller")
    if operator is not None:
        return operator.lstrip("_"), verdict_for(operator, NodeCall(node))
    if "CopySlices" in node.name():
        return "CopySlices", unknown("an operation in place on a view: the graph does not say which")
    return name, unknown("not in the table of operations")


def _softsign(node: Any) -> Any:
    """The node of |x| where this one is the division in x/(1 + |x|)."""
    if base(node) != "Div" or len(node.next_functions) != 2:
        return None
    (numerator, _), (denominator, _) = node.next_functions
    absolute = next((s for s, _ in getattr(denominator, "next_functions", ()) if base(s) == "Abs"), None)
    is_it = absolute is not None and base(denominator) == "Add" and absolute.next_functions[0][0] is numerator
    return absolute if is_it else None


def _only_squared(node: Any, consumers: list[Any]) -> bool:
    """Whether nothing but even powers of a node's result are used."""
    for above in consumers:
        even = base(above) == "Pow" and is_even(getattr(above, "_saved_exponent", None))
        own = base(above) == "Mul" and {source for source, _ in above.next_functions} == {node}
        if not (even or (own and len(above.next_functions) == 2)):
            return False
    return bool(consumers)


def line_of(node: Any) -> str | None:
    """The source line of a node, which PyTorch keeps under `torch.autograd.set_detect_anomaly`."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', "".join(node.metadata.get("traceback_") or ()))
    users = [f"{path}:{line}" for path, line in frames if not path.startswith(TORCH)]
    return users[-1] if users else None
