"""Read the operations off an autograd graph that exists already."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from torch import Tensor

from nonsmooth.kinks.findings import Operation, Scan
from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.recording.place import TORCH
from nonsmooth.kinks.recording.sets import ALL_LEAVES
from nonsmooth.kinks.table.operations import PARTS, SOFTSIGN, classify, classify_squared, operator_of
from nonsmooth.kinks.table.rules import at_least_square, base, is_even, unknown
from nonsmooth.kinks.table.signs import Sign, sign_of_constant, sign_of_number, sign_of_result
from nonsmooth.kinks.table.smoothness import Classification, Smoothness

BOOKKEEPING = {"torch::autograd::AccumulateGrad", "torch::autograd::CopyBackwards", "GraphRoot", "UndefinedGrad"}
VIEWS = {"view", "unsqueeze", "squeeze", "expand", "transpose", "permute", "t", "select", "slice", "_unsafe_view"}
NOTES = (
    "The graph holds operations with a derivative only: comparisons, argmax, .data and .detach() leave no trace in it, "
    "nor does a constant that is added under a root, which is taken for a positive one. It keeps source lines only "
    "under torch.autograd.set_detect_anomaly(True). Scan a closure to see them.",
)


class NodeCall:
    """A node of the graph, for the rules of the table: it saves the arguments that its derivative needs."""

    recorded = False

    def __init__(self, node: Any) -> None:
        self._node = node

    def argument(self, name: str) -> Any:
        """A saved argument; None where it is not saved, or was freed by `backward`."""
        try:
            return getattr(self._node, f"_saved_{name}", None)
        except RuntimeError:
            return None

    def depends(self, position: int) -> bool:
        """Whether a tensor argument has a gradient."""
        sources = self._node.next_functions
        return position < len(sources) and sources[position][0] is not None

    def positive(self) -> bool:
        """By the node that made the argument; an added constant is taken to be an ε, since the graph drops it."""
        return _sign(self._node.next_functions[0][0], depth=8) is Sign.POSITIVE


def _sign(node: Any, depth: int) -> Sign:
    if node is None or depth == 0:
        return Sign.UNKNOWN
    sources = [source for source, _ in node.next_functions]
    operator = operator_of(node) or ""

    def signs() -> list[Sign]:
        known = [_sign(source, depth - 1) for source in sources if source is not None]
        if operator == "add" and len(known) == 1:  # the graph drops constants
            return [*known, Sign.POSITIVE]
        if operator in {"mul", "div"} and len(known) == 1:
            factor = NodeCall(node).argument("self" if sources[0] is None else "other")
            return [*known, sign_of_constant(factor) if isinstance(factor, Tensor) else sign_of_number(factor)]
        return known if len(known) == len(sources) else [Sign.UNKNOWN]

    if operator in VIEWS:
        return min(signs())
    twice = len(sources) == 2 and sources[0] is sources[1]
    return sign_of_result(operator, NodeCall(node).argument, signs, twice=twice)


def nodes_below(root: Any, ends: Container[Any] = ()) -> Iterator[Any]:
    """Every node of the graph, once; not what lies behind `ends`."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node in ends:
            continue
        yield node
        for source, _ in reversed(node.next_functions):
            if source is not None and source not in seen:
                seen.add(source)
                stack.append(source)


def scan_graph(loss: Tensor, leaves: Leaves, known: Mapping[str, Smoothness]) -> Scan:
    """Scan the graph of a tensor."""
    found: dict[Any, Operation] = {}
    smooth: dict[str, int] = {}
    for node, name, classification in judged(loss, known, leaves):
        if classification.smoothness is Smoothness.SMOOTH:
            smooth[name] = smooth.get(name, 0) + 1
            continue
        source = line_of(node)
        names = leaves.names_of(leaves.of_node(node))
        key = (name, classification, source, None if source else names)
        before = found.get(key)
        together = [*(before.parameters or ()), *names] if before else names
        found[key] = Operation(
            name,
            classification.smoothness,
            classification.reason,
            source=source,
            calls=1 + (before.calls if before else 0),
            parameters=tuple(dict.fromkeys(together)),
        )
    return Scan(tuple(found.values()), tuple(smooth.items()), leaves.names_of(ALL_LEAVES), "autograd graph", NOTES)


def judged(
    tensor: Tensor, known: Mapping[str, Smoothness], leaves: Leaves
) -> Iterator[tuple[Any, str, Classification]]:
    """The operations in the graph of a tensor, as they were made: node, name and classification."""
    nodes = sorted(nodes_below(tensor.grad_fn, leaves.named_nodes), key=lambda node: node._sequence_nr())
    consumers: dict[Any, list[tuple[Any, int]]] = {tensor.grad_fn: [(None, tensor.output_nr)]}
    for node in nodes:
        for source, output in node.next_functions:
            consumers.setdefault(source, []).append((node, output))
    softsigns = {node for node in map(_softsign, nodes) if node is not None}
    for node in nodes:
        if node.name() in BOOKKEEPING:
            continue
        uses = consumers.get(node, [])
        name, classification = ("softsign", SOFTSIGN) if node in softsigns else judge_node(node, known)
        if classification.smoothness is Smoothness.C0:
            squared = classify_squared(operator_of(node) or "", NodeCall(node))
            if squared is not None and all(_is_power(above, node, squared) for above, _ in uses):
                classification = squared
        part = PARTS.get(operator_of(node) or "")
        used = [output in part.positions for _, output in uses] if part is not None else []
        if part is None or not all(used):
            yield node, name, classification
        if part is not None and any(used):
            yield node, f"{name} ({part.name})", part.classification


def judge_node(node: Any, known: Mapping[str, Smoothness]) -> tuple[str, Classification]:
    """The name of the operation whose derivative a node computes, and the classification of it."""
    operator = operator_of(node)
    name = operator or node.name().removesuffix("Backward")
    for key in (name, name.lstrip("_")):
        if key in known:
            return key, Classification(known[key], "as stated by the caller")
    if operator is not None:
        return operator.lstrip("_"), classify(operator, NodeCall(node))
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


def _is_power(above: Any, node: Any, squared: Classification) -> bool:
    """Whether a node takes such a power of another's result that the kink there becomes as smooth as its square."""
    if base(above) == "Mul":
        return [source for source, _ in above.next_functions] == [node, node]
    exponent = NodeCall(above).argument("exponent") if base(above) == "Pow" else None
    return is_even(exponent) or (squared.smoothness is Smoothness.C1 and at_least_square(exponent))


def line_of(node: Any) -> str | None:
    """The source line of a node, which PyTorch keeps under `torch.autograd.set_detect_anomaly`."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', "".join(node.metadata.get("traceback_") or ()))
    users = [f"{path}:{line}" for path, line in frames if not path.startswith(TORCH)]
    return users[-1] if users else None
