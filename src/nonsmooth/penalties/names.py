"""The names under which penalties are written down: the package's by their class, others by module and class.

Classes are found through their base: they need no registration, and are not kept alive by being known. A package
may announce its classes by entry points of the group `nonsmooth.penalties`: a name that is not known yet is then looked
up there, and a checkpoint loads without an import of the package.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

PACKAGE = "nonsmooth.penalties."
"""The modules whose classes need no more than their own name, which so means them in every program."""

ENTRY_POINTS = "nonsmooth.penalties"
"""The group of entry points by which other packages announce their classes."""

_order = itertools.count()


def note_definition(kind: type) -> None:
    """Remember that a class has just been defined: of two with one name the newer one counts."""
    kind._defined = next(_order)  # type: ignore[attr-defined]


def written_name(kind: type) -> str:
    """The name that a specification has for a class."""
    if kind.__module__.startswith(PACKAGE):
        return kind.__qualname__
    # What a worker process calls the script that its parent runs.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}.{kind.__qualname__}"


def classes_below(base: type) -> dict[str, type[Any]]:
    """Every class that can be built, by its written name; a class that was defined again is the newer one.

    Raises:
        TypeError: two modules of the package have a class of the same name.
    """
    found: dict[str, type[Any]] = {}
    for kind in sorted(_descendants(base), key=lambda kind: kind._defined):
        if inspect.isabstract(kind):
            continue
        name = written_name(kind)
        if name in found and found[name].__module__ != kind.__module__ and not _is_main(kind):
            raise TypeError(
                f"{found[name].__module__} and {kind.__module__} both define {name}; accepted is one class of a name"
            )
        found[name] = kind
    return found


def _is_main(kind: type) -> bool:
    return kind.__module__ in ("__main__", "__mp_main__")


def _descendants(base: type) -> set[Any]:
    found: set[Any] = set()
    waiting: list[Any] = [base]
    while waiting:
        children = set(waiting.pop().__subclasses__()) - found
        found |= children
        waiting += children
    return found


def named_class(base: type, name: Any, *, any_case: bool = False) -> type[Any]:
    """The class that a specification names; without a module, the package's or else the only other one of that name.

    Args:
        base: of all classes.
        name: as `written_name` gives it, or the name of the class alone.
        any_case: whether "l1" is "L1".

    Raises:
        ValueError: no class has the name, or several have.
    """
    kinds = classes_below(base)
    if isinstance(name, str):
        if _import_announced(name, kinds):
            kinds = classes_below(base)
        if name in kinds:
            return kinds[name]
        fold = str.lower if any_case else str
        ours = [kind for known, kind in kinds.items() if known == kind.__qualname__ and fold(known) == fold(name)]
        alike = {known: kind for known, kind in kinds.items() if fold(kind.__name__) == fold(name)}
        if ours or len(alike) == 1:
            return (ours or list(alike.values()))[0]
        if alike:
            raise ValueError(f"name of the penalty is {name!r}, which {' and '.join(sorted(alike))} have; say which")
    raise ValueError(
        f"name of the penalty is {name!r}; accepted are {', '.join(sorted(kinds))}, and classes of your own once the "
        "module that defines them has been imported"
    )


def _import_announced(name: str, kinds: Mapping[str, type]) -> bool:
    """Import a class that another package announces by this name, if none is known; whether there was one."""
    if name in kinds or any(name.lower() == kind.__name__.lower() for kind in kinds.values()):
        return False
    found = [
        point
        for point in entry_points(group=ENTRY_POINTS)
        if name in (point.name, point.attr, f"{point.module}.{point.attr}")
    ]
    for point in found:
        point.load()
    return bool(found)


def check_is_the_one(kind: type, base: type) -> None:
    """Raise where a specification would be read as another class: one that the same function has defined since.

    A class that a module or a notebook defines again takes the place of the earlier one.

    Raises:
        ValueError: it would.
    """
    if "<locals>" not in kind.__qualname__:
        return
    name = written_name(kind)
    if classes_below(base).get(name, kind) is not kind:
        raise ValueError(
            f"{name} has been defined again, and a specification that names it means the newer class; give the two "
            "classes names of their own (__qualname__), or build the penalty from the newer one"
        )
