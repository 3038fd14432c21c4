"""What tells the records of one experiment from those of another whose functions have the same names."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

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
    plain = {}
    for name, value in penalty.specification().items():
        if isinstance(value, Tensor):
            content = value.detach().cpu().contiguous()
            plain[name] = f"{tuple(value.shape)} {hashlib.sha256(content.numpy().tobytes()).hexdigest()[:16]}"
        elif name != "strength":
            plain[name] = repr(value)
    return json.dumps(plain, sort_keys=True)


def code_digest(function: Callable[..., Any]) -> str:
    """A digest of what a function does, as far as its code tells.

    Comments and layout do not count. The constants that it reads from its module or from around it count, and so does
    the code of functions and classes of the same package that it names. Data do not, nor what other packages do.
    """
    return hashlib.sha256("\n".join(_described(function, set())).encode()).hexdigest()[:32]


def _described(value: Any, seen: set[int]) -> list[str]:
    if isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(item, PLAIN) for item in value)):
        return [repr(value)]
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *(part for item in sorted(value.keywords.items()) for part in item)]
        return ["partial", *(line for part in parts for line in _described(part, seen))]
    if isinstance(value, MethodType):
        return _described(value.__func__, seen) + _described(value.__self__, seen)
    if isinstance(value, FunctionType):
        return _function(value, seen)
    if isinstance(value, type):
        methods = [part for _, part in sorted(vars(value).items()) if isinstance(part, FunctionType)]
        return [value.__qualname__, *(line for part in methods for line in _function(part, seen))]
    if callable(value) and not isinstance(value, Tensor):  # an instance: its class, and its numbers
        numbers = [item for item in sorted(vars(value).items()) if isinstance(item[1], PLAIN)]
        return [repr(numbers), *_described(type(value), seen)]
    return [type(value).__qualname__]


def _function(function: FunctionType, seen: set[int]) -> list[str]:
    lines = [function.__qualname__, _text(function), repr([d for d in function.__defaults__ or () if _is_plain(d)])]
    try:
        around = inspect.getclosurevars(function)
    except ValueError:  # a variable around it has no value yet
        return lines
    for name, value in sorted({**around.globals, **around.nonlocals}.items()):
        if _is_plain(value) or (callable(value) and _home(value) == _home(function)):
            lines += [name, *_described(value, seen)]
    return lines


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(item, PLAIN) for item in value))


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
