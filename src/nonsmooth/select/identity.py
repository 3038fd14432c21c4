"""What tells the records of one experiment from those of another whose functions have the same names."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.lab import Scalar
from nonsmooth.penalties import Penalty

PLACES = ("__module__", "__doc__", "__firstlineno__", "__qualname__")
"""Attributes of a class that say nothing of what it does."""

SETTINGS = (SimpleNamespace, argparse.Namespace)
PLAIN = (str, int, float, complex, bool, bytes, type(None))


def parameters(
    name: str, settings: Mapping[str, Any] | None, functions: Mapping[str, Callable[..., Any] | None]
) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """What a cell of an experiment depends on, whatever the experiment is.

    Args:
        name: of the experiment.
        settings: whatever else tells it from others of its name: scalars and tuples of scalars.
        functions: the user's, by what they do.

    Raises:
        ValueError: the name is empty.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"name is {name!r}; accepted is a text that is not empty")
    sources = {f"source of {role}": code_digest(f) for role, f in functions.items() if f is not None}
    return {"name": name, **sources, **{f"settings.{key}": value for key, value in (settings or {}).items()}}


def penalty_text(penalty: Penalty) -> str:
    """A penalty without its λ, as a text: its name and numbers, tensors by their digest."""
    fields = {name: value for name, value in penalty.specification().items() if name != "strength"}
    return " ".join(_Reader("").parts(fields))


def code_digest(function: Callable[..., Any]) -> str:
    """A digest of what a function does, as far as its code and what it reads tell.

    Comments and layout do not count. What it names from its module or from around it does, where that is a number, a
    text, an array, a tensor, a mapping of such things or an object of settings, and the code of functions and classes
    of the same package. Not seen are files, data sets and other objects, lists, and what other packages do.
    """
    digest = hashlib.sha256()
    for part in _Reader(_home(inspect.unwrap(_innermost(function)))).parts(function):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()[:32]


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


class _Reader:
    """Reads what tells values from others.

    Args:
        home: the package whose code is read; of other packages the names are.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._seen: dict[int, Any] = {}  # with the values: else another one could get the same id

    def parts(self, value: Any) -> Iterator[str]:
        """Texts that differ where values do; of what cannot be told apart only the type."""
        if isinstance(value, PLAIN):
            yield repr(value)
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            yield type(value).__qualname__
            for inner in self._inner(value):
                yield from self.parts(inner)

    def _inner(self, value: Any) -> Iterable[Any]:
        """What a value consists of."""
        if isinstance(value, Tensor | np.ndarray):
            return _content(value)
        if isinstance(value, tuple):
            return value
        if isinstance(value, Mapping):  # lists are not looked at: programs keep logs in them
            return [item for key in sorted(value, key=repr) for item in (key, value[key])]
        if isinstance(value, functools.partial):
            return value.func, value.args, value.keywords
        if isinstance(value, MethodType):
            return value.__func__, value.__self__
        if isinstance(value, FunctionType | BuiltinFunctionType | type):
            name = f"{value.__module__}.{value.__qualname__}"
            ours = _home(value) == self._home and not isinstance(value, BuiltinFunctionType)
            return self._code(value) if ours else (name,)
        if (
            isinstance(value, SimpleNamespace | argparse.Namespace)
            or dataclasses.is_dataclass(value)
            or callable(value)
        ):
            numbers = {k: v for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, PLAIN)}
            numbers.pop("training", None)  # of a module, which changes as it is used
            return type(value), numbers
        return ()

    def _code(self, value: Any) -> Iterator[Any]:
        """The methods of a class; the text of a function, its defaults, and what it and its inner functions name."""
        if isinstance(value, type):
            yield value.__qualname__
            yield {k: v for k, v in vars(value).items() if isinstance(v, (FunctionType, *PLAIN)) and k not in PLACES}
            return
        yield _text(value)
        yield value.__defaults__ or ()
        yield value.__kwdefaults__ or {}
        around = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        for name in sorted(_names(value.__code__) | around.keys()):
            try:
                named = around[name].cell_contents if name in around else value.__globals__.get(name)
            except ValueError:  # it has no value yet
                continue
            if not isinstance(named, ModuleType):
                yield from (name, named)


def _content(array: Any) -> tuple[str, ...]:
    """Type, shape and digest of numbers; nothing of a parameter, which training changes, and of what is no array."""
    if isinstance(array, Tensor):
        if array.requires_grad or array.layout != torch.strided or array.device.type == "meta":
            return ()
        shape = f"{array.dtype} {tuple(array.shape)}"
        content = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    else:
        if array.dtype.hasobject:
            return ()
        shape, content = f"{array.dtype} {array.shape}", np.ascontiguousarray(array)
    return shape, hashlib.sha256(content.tobytes()).hexdigest()


def _names(code: CodeType) -> set[str]:
    inner = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*inner)


def _home(value: Any) -> str:
    """The package that something is from."""
    return str(getattr(value, "__module__", None) or "").partition(".")[0]


def _text(function: FunctionType) -> str:
    """The source without comments and layout; where there is none, as in some consoles, the byte code."""
    try:
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError, ValueError):  # a lambda's lines may be a part of a statement
        return _byte_code(function.__code__)


def _byte_code(code: CodeType) -> str:
    constants = [_byte_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"
