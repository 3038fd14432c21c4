"""Parameters that a model does not use as they are: factors of a normalised weight, and what parametrizations make.

A prox sets entries of a parameter to zero. Where the model divides a parameter by its norm, that norm means nothing to
the loss, so any penalty shrinks it without end, and at zero the weight is 0/0. Where the weight is another function of
the parameter, zeros of the one need not be zeros of the other.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

NORMALISING = {
    "normalize", "norm", "vector_norm", "matrix_norm", "svdvals", "std", "var", "std_mean", "var_mean", "batch_norm",
    "group_norm", "instance_norm", "layer_norm", "rms_norm", "cosine_similarity", "renorm", "_weight_norm",
}  # fmt: skip
"""Functions and methods that make a norm or a spread of their first argument."""


@dataclass(frozen=True)
class Use:
    """How a model uses a parameter that is not a weight as it stands.

    Attributes:
        reason: in words, to follow the parameter's name.
        divided: whether the weight is certain to be 0/0 where the parameter is 0.
    """

    reason: str
    divided: bool = False


def _divided(by: str) -> Use:
    return Use(
        f"which {by} divides by its norm, so a penalty shrinks it without end; remove the {by} to penalise the weight",
        divided=True,
    )


SCALE = Use("the lengths of rows under weight norm; name it by include to set whole rows to zero")
BY_HAND = Use("which its module seems to divide by a norm; name it by include where it does not")


def uses(model: nn.Module) -> dict[Tensor, Use]:
    """The parameters of a model that are not weights as they stand."""
    return {
        parameter: use
        for module in model.modules()
        for parameter, use in (*_by_hand(module), *_by_hooks(module), *_by_parametrization(module))
        if parameter is not None
    }


def _by_parametrization(module: nn.Module) -> Iterator[tuple[Tensor | None, Use]]:
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
                Use(
                    f"of which {made} makes the weight, so zeros of the one need not be zeros of the other; name it by "
                    "include where they are"
                ),
            )


def _by_hooks(module: nn.Module) -> Iterator[tuple[Tensor | None, Use]]:
    """What torch.nn.utils.weight_norm and spectral_norm register in older models."""
    for hook in module._forward_pre_hooks.values():
        kind, name = type(hook).__name__, getattr(hook, "name", None)
        if kind == "WeightNorm":
            yield module._parameters.get(f"{name}_g"), SCALE
            yield module._parameters.get(f"{name}_v"), _divided("weight norm")
        elif kind == "SpectralNorm":
            yield module._parameters.get(f"{name}_orig"), _divided("spectral norm")


def _by_hand(module: nn.Module) -> Iterator[tuple[Tensor | None, Use]]:
    """What a module's own `forward` normalises, as its source says."""
    kind: Any = type(module)
    for path in _normalised_in(kind):
        value: object = module
        for name in path:
            value = getattr(value, name, None)
        if isinstance(value, nn.Parameter):
            yield value, BY_HAND


@cache
def _normalised_in(kind: type[nn.Module]) -> tuple[tuple[str, ...], ...]:
    """The attributes of `self`, as paths, that `forward` and what it calls hand to a function in `NORMALISING`."""
    methods = {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if method.__module__.split(".")[0] != "torch"
    }
    found: list[tuple[str, ...]] = []
    waiting = ["forward"]
    while waiting:
        method = methods.pop(waiting.pop(), None)
        if method is None:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
        except (OSError, TypeError, SyntaxError):  # typed in at a prompt, or made by a program
            continue
        aliases = {
            target.id: path
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and (path := _path(node.value, {}))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            waiting += [node.attr for node in (call.func,) if isinstance(node, ast.Attribute)]
            found += [path for each in _normalised_by(call) if (path := _path(each, aliases))]
    return tuple(found)


def _normalised_by(call: ast.Call) -> list[ast.expr]:
    """What a call makes a norm or a spread of; nothing where it makes none."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if called not in NORMALISING:
        return []
    if isinstance(function, ast.Attribute):
        owner: ast.AST = function.value
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        if isinstance(owner, ast.Name) and owner.id == "self":
            return [function.value]  # a tensor's method, or a layer of that name, which normalises what passes it
    inputs = call.args if called == "cosine_similarity" else call.args[:1]
    return [*([function.value] if isinstance(function, ast.Attribute) else []), *inputs]


def _path(node: ast.AST, aliases: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The attribute of `self` that an expression is, perhaps reshaped; empty where it is none."""
    names: list[str] = []
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value  # self.weight.flatten(1)
            names.clear()
        elif isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        else:
            return ()
    if node.id == "self":
        return tuple(names)
    return aliases.get(node.id, ())
