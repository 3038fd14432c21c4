"""Parameters that a model does not use as they are: factors of a normalised weight, and what parametrizations make.

A prox sets entries of a parameter to zero. Where the model divides a parameter by its norm, that norm means nothing to
the loss, so any penalty shrinks it without end, and at zero the weight is 0/0. Where the weight is another function of
the parameter, zeros of the one need not be zeros of the other.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

NORMALIZING = {
    "normalize", "norm", "vector_norm", "matrix_norm", "svdvals", "std", "var", "std_mean", "var_mean", "batch_norm",
    "group_norm", "instance_norm", "layer_norm", "rms_norm", "cosine_similarity", "renorm", "_weight_norm", "rsqrt",
    "qr",
}  # fmt: skip
"""Functions and methods that make a norm or a spread of their first argument, or divide it by one."""

DIVIDING = ("div", "div_", "divide", "divide_", "true_divide", "true_divide_")

Path = tuple[str, ...]
"""The names after `self`, such as ("head", "weight")."""

Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True)
class WeightUse:
    """How a model uses a parameter that it does not take directly as a weight.

    Attributes:
        reason: in words, to follow the parameter's name.
        divided: whether the weight is certain to be 0/0 where the parameter is 0.
    """

    reason: str
    divided: bool = False


def _divided(by: str) -> WeightUse:
    return WeightUse(
        f"which {by} divides by its norm, so a penalty shrinks it without end; remove the {by} to penalise the weight",
        divided=True,
    )


SCALE = WeightUse("the lengths of rows under weight norm; name it by include to set whole rows to zero")
BY_HAND = WeightUse("which its module seems to divide by a norm; name it by include where it does not")


def uses(model: nn.Module) -> dict[Tensor, WeightUse]:
    """The parameters of a model that are not weights as they stand."""
    return {
        parameter: use
        for module in model.modules()
        for parameter, use in (*_by_hand(module), *_by_hooks(module), *_by_parametrization(module))
        if parameter is not None
    }


def _by_parametrization(module: nn.Module) -> Iterator[tuple[Tensor | None, WeightUse]]:
    if not isinstance(module, ParametrizationList):
        return
    kinds = [type(each).__name__ for each in module]
    for name, parameter in module.named_parameters(recurse=False):
        if "_WeightNorm" in kinds:
            yield parameter, SCALE if name == "original0" else _divided("weight norm")
        elif "_SpectralNorm" in kinds:
            yield parameter, _divided("spectral norm")
        else:
            made = ", ".join(kind.lstrip("_") for kind in kinds)
            yield (
                parameter,
                WeightUse(
                    f"of which {made} makes the weight, so zeros of the one need not be zeros of the other; name it by "
                    "include where they are"
                ),
            )


def _by_hooks(module: nn.Module) -> Iterator[tuple[Tensor | None, WeightUse]]:
    """What torch.nn.utils.weight_norm and spectral_norm register in older models."""
    for hook in module._forward_pre_hooks.values():
        kind, name = type(hook).__name__, getattr(hook, "name", None)
        if kind == "WeightNorm":
            yield module._parameters.get(f"{name}_g"), SCALE
            yield module._parameters.get(f"{name}_v"), _divided("weight norm")
        elif kind == "SpectralNorm":
            yield module._parameters.get(f"{name}_orig"), _divided("spectral norm")


def _by_hand(module: nn.Module) -> Iterator[tuple[Tensor | None, WeightUse]]:
    """What a module's own `forward` normalises, as its source says."""
    kind: Any = type(module)
    for *owners, name in _normalized_in(kind):
        owner: Any = module
        for each in owners:
            owner = getattr(owner, "_modules", {}).get(each)
        # Looked up in the dictionary, since a property of that name would run code.
        parameter = getattr(owner, "_parameters", {}).get(name)
        if parameter is not None:
            yield parameter, BY_HAND


@lru_cache
def _normalized_in(kind: type[nn.Module]) -> tuple[Path, ...]:
    """The attributes of a module, as paths, that `forward` and what it calls normalise."""
    methods = {
        name: getattr(member, "fget", member)
        for name, member in inspect.getmembers(kind, lambda member: inspect.isfunction(member) or _is_property(member))
    }
    found: list[Path] = []
    waiting = ["forward"]
    while waiting:
        method = methods.pop(waiting.pop(), None)
        tree = None if method is None or method.__module__.split(".")[0] == "torch" else _tree(method)
        if tree is None:
            continue
        waiting += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        names = _arguments(tree)
        rest = [each.arg for each in (tree.args.vararg, tree.args.kwarg) if each is not None]
        source = _Source(tree, dict.fromkeys(names[:1], ()), {*names[1:], *rest})
        found += source.normalized()
        for call in source.of_kind(ast.Call):
            function = _called(call, kind, method.__globals__)
            found += [path for each in _normalized_arguments(function, call) for path in source.made_of(each)]
    return tuple(found)


def _is_property(member: object) -> bool:
    return isinstance(member, property) and member.fget is not None


def _called(call: ast.Call, kind: type, names: Mapping[str, Any]) -> Any:
    """The function of one's own that a call is of: a method, or one of the same module; None for any other."""
    if isinstance(call.func, ast.Attribute):
        return inspect.getattr_static(kind, call.func.attr, None)
    return names.get(call.func.id) if isinstance(call.func, ast.Name) else None


def _normalized_arguments(function: Any, call: ast.Call) -> list[ast.expr]:
    """The arguments of a call that the function which is called normalises."""
    is_method = isinstance(call.func, ast.Attribute) and not isinstance(function, staticmethod)
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function) or function.__module__.split(".")[0] == "torch":
        return []
    tree = _tree(function)
    if tree is None:
        return []
    names = _arguments(tree)[is_method:]
    given: dict[str | None, ast.expr] = {
        **dict(zip(names, call.args, strict=False)),
        **{each.arg: each.value for each in call.keywords},
    }
    normalized = {path[0] for path in _Source(tree, {name: (name,) for name in names}, set()).normalized()}
    return [value for name, value in given.items() if name in normalized]


def _tree(function: Any) -> ast.FunctionDef | None:
    """The source of a function; None where it was typed in at a prompt, or made by a program."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None


def _arguments(tree: ast.FunctionDef) -> list[str]:
    return [each.arg for each in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs)]


class _Source:
    """A function, as far as it works on parameters alone.

    Args:
        tree: its source.
        roots: the names that it begins with, as paths.
        data: the names of what it works on beside them.
    """

    def __init__(self, tree: ast.FunctionDef, roots: dict[str, Path], data: set[str]) -> None:
        self._tree, self._roots = tree, roots
        # What each name is made of, and the names that data have a part in.
        self._parts: dict[str, set[Path]] = {}
        self._data = set(data)
        for name, value in self._assigned():
            self._parts[name] = self._parts.get(name, set()) | self._mentioned(value)
            if self._has_data(value):
                self._data.add(name)

    def of_kind(self, kind: type[Node]) -> list[Node]:
        """All nodes of a kind."""
        return [node for node in ast.walk(self._tree) if isinstance(node, kind)]

    def made_of(self, node: ast.AST) -> set[Path]:
        """The paths that an expression is made of; none where data have a part in it."""
        return set() if self._has_data(node) else self._mentioned(node)

    def normalized(self) -> list[Path]:
        """What is handed to a function in `NORMALIZING`, or divided by something that is made of it."""
        calls = self.of_kind(ast.Call)
        found = [path for call in calls for each in self._normalized_by(call) for path in self.made_of(each)]
        for node in ast.walk(self._tree):
            for above, below in _division(node):
                found += self._mentioned(above) & self.made_of(below)
        return found

    def _normalized_by(self, call: ast.Call) -> list[ast.expr]:
        """What a call makes a norm or a spread of; nothing where it makes none."""
        function = call.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called not in NORMALIZING:
            return []
        inputs = call.args if called == "cosine_similarity" else call.args[:1]
        if not isinstance(function, ast.Attribute):
            return inputs
        owner: ast.AST = function.value
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        if isinstance(owner, ast.Name) and self._roots.get(owner.id) == ():
            return [function.value]  # a parameter's method, or a layer of that name, which normalises what passes it
        return [function.value, *inputs]

    def _assigned(self) -> Iterator[tuple[str, ast.AST]]:
        """Names and what is assigned to them, in the order of the lines."""
        nodes = [node for node in ast.walk(self._tree) if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)]
        for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
            if node.value is None:
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                pairs: Iterable[tuple[ast.AST, ast.AST]] = [(target, node.value)]
                if isinstance(target, ast.Tuple):
                    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(target.elts)
                    pairs = zip(target.elts, values, strict=False)
                yield from ((each.id, value) for each, value in pairs if isinstance(each, ast.Name))

    def _has_data(self, node: ast.AST) -> bool:
        return any(isinstance(each, ast.Name) and each.id in self._data for each in ast.walk(node))

    def _mentioned(self, node: ast.AST) -> set[Path]:
        found: set[Path] = set()
        for each in ast.walk(node):
            names: tuple[str, ...] = ()
            root = each
            while isinstance(root, ast.Attribute):
                names, root = (root.attr, *names), root.value
            if isinstance(root, ast.Name) and root.id in self._roots:
                found.add((*self._roots[root.id], *names))
            elif isinstance(each, ast.Name):
                found |= self._parts.get(each.id, set())
        return found - {()}


def _division(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """What a node divides by what, if it does."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        yield node.left, node.right
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
        yield node.target, node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DIVIDING:
        yield (node.func.value, node.args[0]) if len(node.args) == 1 else (node.args[0], node.args[1])
