"""Old public names, which work for one version and warn."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator under which old names of arguments are accepted, with a DeprecationWarning.

    Args:
        new_names: the new name of each old one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accept(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = kwargs
            for old in new_names.keys() & given.keys():
                new = new_names[old]
                if new in given:
                    raise TypeError(f"{function.__name__} got both {new!r} and its old name {old!r}")
                warnings.warn(f"argument {old!r} is now called {new!r}", DeprecationWarning, stacklevel=2)
                given[new] = given.pop(old)
            return function(*args, **kwargs)

        return accept

    return decorate


def renamed_names(module: str, **new_names: str) -> Callable[[str], Any]:
    """A module's `__getattr__`, which gives old names of what is in it, with a DeprecationWarning.

    Args:
        module: the module's own `__name__`.
        new_names: the new name of each old one.
    """

    def find(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = new_names[name]
        warnings.warn(f"{module}.{name} is now called {new}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], new)

    return find


def renamed_attribute(old: str, new: str) -> Any:
    """A property that gives the attribute `new`, with a DeprecationWarning."""

    def read(owner: Any) -> Any:
        warnings.warn(f"attribute {old!r} is now called {new!r}", DeprecationWarning, stacklevel=2)
        return getattr(owner, new)

    read.__doc__ = f"The old name of `{new}`."
    return property(read)
