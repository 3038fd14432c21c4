"""The largest and the smallest of measured numbers, in which one that is not a number stays visible.

Python's `max` and `min` compare, and every comparison with NaN is false: whether NaN comes out depends on where it
stands. A verdict would then rest on the measurements that happened to succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

Item = TypeVar("Item")


@overload
def largest(values: Iterable[float], /, *, default: float = ...) -> float: ...
@overload
def largest(first: float, second: float, /, *others: float) -> float: ...
@overload
def largest(values: Iterable[Item], /, *, key: Callable[[Item], Any]) -> Item: ...
def largest(*values: Any, **options: Any) -> Any:
    """What `max` of the same arguments returns, but NaN, or the first item whose key is NaN, if there is one.

    Args:
        values: numbers, or one iterable of them.
        options: `key` and `default`, as for `max`.
    """
    return _extreme(max, values, options)


@overload
def smallest(values: Iterable[float], /, *, default: float = ...) -> float: ...
@overload
def smallest(first: float, second: float, /, *others: float) -> float: ...
@overload
def smallest(values: Iterable[Item], /, *, key: Callable[[Item], Any]) -> Item: ...
def smallest(*values: Any, **options: Any) -> Any:
    """What `min` of the same arguments returns, but NaN, or the first item whose key is NaN, if there is one.

    Args:
        values: numbers, or one iterable of them.
        options: `key` and `default`, as for `min`.
    """
    return _extreme(min, values, options)


def _extreme(choose: Any, values: tuple[Any, ...], options: dict[str, Any]) -> Any:
    items = list(values[0]) if len(values) == 1 else list(values)
    measure = options.get("key") or (lambda item: item)
    for item in items:
        measured = measure(item)
        if measured != measured:  # noqa: PLR0124  only NaN does
            return item
    return choose(items, **options)
