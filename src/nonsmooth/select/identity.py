"""What tells the records of one experiment from those of another whose functions have the same names."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.lab import Scalar
from nonsmooth.penalties import Penalty

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
    return " ".join(_described(fields, set()))


def code_digest(function: Callable[..., Any]) -> str:
    """A digest of what a function does, as far as its code and what it reads tell.

    Comments and layout do not count. What it names from its module or from around it does, where that is a number, a
    text, an array, a tensor, a mapping of such things or an object of settings, and the code of functions and classes
    of the same package. Not seen are files, data sets and other objects, and what other packages do.
    """
    digest = hashlib.sha256()
    for part in _described(function, set()):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()[:32]


def _described(value: Any, seen: set[int]) -> Iterator[str]:
    """What tells a value from others, part by part; of what cannot be told nothing but its type."""
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    yield type(value).__qualname__
    for part in _parts(value):
        yield from _described(part, seen)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Tensor | np.ndarray):
        return _content(value)
    if isinstance(value, tuple):
        return value
    if isinstance(value, Mapping):  # lists are not looked at: programs keep logs in them
        return tuple(itertools.chain.from_iterable((key, value[key]) for key in sorted(value, key=repr)))
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, FunctionType):
        return _function(value)
    if isinstance(value, type):
        return value.__qualname__, {k: v for k, v in vars(value).items() if isinstance(v, (FunctionType, *PLAIN))}
    if isinstance(value, SimpleNamespace | argparse.Namespace) or dataclasses.is_dataclass(value) or callable(value):
        return type(value), {k: v for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, PLAIN)}
    return ()


def _content(array: Any) -> tuple[str, ...]:
    """Type, shape and digest of numbers; nothing of a parameter, which training changes, and of what is no array."""
    if isinstance(array, Tensor):
        if array.requires_grad or array.layout != torch.strided or array.device.type == "meta":
            return ()
        array = array.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy() if array.numel() else np.empty(0)
    if array.dtype.hasobject:
        return ()
    content = np.ascontiguousarray(array)
    return str(content.dtype), str(content.shape), hashlib.sha256(content.tobytes()).hexdigest()


def _function(function: FunctionType) -> Iterator[Any]:
    """Its text, its defaults, and what it names, the inner functions included."""
    yield _text(function)
    yield function.__defaults__ or ()
    yield function.__kwdefaults__ or {}
    around = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    for name in sorted(_names(function.__code__) | around.keys()):
        try:
            value = around[name].cell_contents if name in around else function.__globals__.get(name)
        except ValueError:  # it has no value yet
            continue
        code = isinstance(value, FunctionType | MethodType | type)
        if not isinstance(value, ModuleType) and (not code or _home(value) == _home(function)):
            yield from (name, value)


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
