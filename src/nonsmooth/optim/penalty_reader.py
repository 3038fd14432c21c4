"""Penalties built from the specifications in `param_groups`: once each, and again when a specification changes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from nonsmooth.penalties import Penalty, from_specification
from nonsmooth.penalties.penalty import check_not_negative
from nonsmooth.penalties.separable import may_look

PLAIN = (bool, int, float, str, tuple, type(None))


def is_off(penalty: Penalty | None) -> bool:
    """Whether a penalty is absent or its λ the number 0; a tensor of zeros is not looked at."""
    return penalty is None or (not isinstance(penalty.strength, Tensor) and penalty.strength == 0)


class Bound:
    """A group's penalty, with what was found out about the two once.

    Attributes:
        penalty: λR.
        is_off: whether its λ is the number 0.
        fits: the shapes, types and places of parameters that it is known to fit, to be added to.
        checked: the options of the group that are known to be in their range.
    """

    def __init__(self, items: tuple[Any, ...], penalty: Penalty, before: Bound | None) -> None:
        self.penalty, self.is_off = penalty, is_off(penalty)
        self.checked: tuple[Any, ...] = ()
        self._items, self._versions = items, _versions(items)
        # An index of groups stays on the host, which has to count them.
        self._floats = {
            name: value
            for name, value in penalty.fields().items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        self._form = tuple((name, _form(value)) for name, value in penalty.fields().items())
        alike = before is not None and type(before.penalty) is type(penalty) and before._form == self._form
        # Another λ is on the same parameters.
        self.fits: set[Any] = before.fits if alike and before is not None else set()
        self._moved: dict[Any, tuple[Tensor, int, Tensor]] = {} if before is None else before._moved
        self._copies: dict[torch.device, tuple[list[int], Penalty]] = {}

    def is_of(self, specification: Mapping[str, Any]) -> bool:
        """Whether a specification is the one that was read, its tensors unchanged."""
        items = tuple(specification.items())
        same = len(items) == len(self._items) and all(
            a[0] == b[0]
            and (a[1] is b[1] or (not isinstance(a[1], Tensor) and not isinstance(b[1], Tensor) and bool(a[1] == b[1])))
            for a, b in zip(self._items, items, strict=True)
        )
        if not same or (self._versions and self._versions != _versions(items)):
            return False
        strength = self.penalty.strength
        if isinstance(strength, Tensor) and strength.numel() == 1 and may_look(strength):
            # A write through `.data` does not change its version.
            check_not_negative("strength", strength)
        return True

    def class_of(self, specification: Mapping[str, Any]) -> type[Penalty] | None:
        """The class that the name in a specification has meant here so far."""
        return type(self.penalty) if ("name", specification.get("name")) in self._items else None

    def on(self, device: torch.device) -> Penalty:
        """The penalty, its numbers on a device: they are copied there once, not at every step."""
        away = {name: value for name, value in self._floats.items() if value.device != device}
        if not away:
            return self.penalty
        versions = [version_of(value) for value in away.values()]
        if device in self._copies and self._copies[device][0] == versions:
            return self._copies[device][1]
        moved = copy.copy(self.penalty)
        for name, value in away.items():
            source, version, there = self._moved.get((name, device), (None, 0, value))
            if source is not value or version != version_of(value):
                there = value.to(device)
                self._moved[name, device] = (value, version_of(value), there)
            object.__setattr__(moved, name, there)
        self._copies[device] = (versions, moved)
        return moved


class PenaltyReader:
    """The penalties of an optimiser's groups.

    They lie in the groups as plain data, a name and numbers, and not as objects: so a λ is scheduled in place like a
    learning rate, a plain optimizer that loads the state carries it along, and `torch.load(weights_only=True)`, copies
    and the state dictionaries of FSDP need nothing of this package.
    """

    def __init__(self) -> None:
        self._bound: dict[int, Bound] = {}

    def __call__(self, group: MutableMapping[str, Any]) -> Bound | None:
        """The penalty of a group, None if it has none.

        A group keeps the class that it started with, even if another of the same name is defined later.

        Raises:
            TypeError: the group holds neither a penalty nor a specification.
            ValueError: the specification has an unknown name or other fields.
        """
        if group.get("penalty") is None:
            return None
        if not isinstance(group["penalty"], dict):  # assigned as an object; store plain data
            group["penalty"] = to_specification(group["penalty"])
        specification: dict[str, Any] = group["penalty"]
        known = self._bound.get(id(group))
        if known is not None and known.is_of(specification):
            return known
        kept = None if known is None else known.class_of(specification)
        penalty = from_specification(specification, kind=kept)
        if any(type(value) not in PLAIN and not isinstance(value, Tensor) for value in specification.values()):
            # A list or an array may change unseen, and a checkpoint cannot hold NumPy's numbers.
            specification.update(penalty.specification())
        self._bound[id(group)] = bound = Bound(tuple(specification.items()), penalty, known)
        return bound

    def active(self, groups: Iterable[MutableMapping[str, Any]]) -> list[tuple[MutableMapping[str, Any], Bound]]:
        """The groups with a penalty whose λ is not 0; what others had, as before a state was loaded, is let go of."""
        groups = list(groups)
        if len(self._bound) > len(groups) or any(id(group) not in self._bound for group in groups):
            present = {id(group) for group in groups}
            self._bound = {number: bound for number, bound in self._bound.items() if number in present}
        found = []
        for group in groups:
            bound, given = self._bound.get(id(group)), group.get("penalty")
            if bound is None or not isinstance(given, dict) or not bound.is_of(given):
                bound = self(group)
            if bound is not None and not bound.is_off:
                found.append((group, bound))
        return found


def to_specification(penalty: Any) -> dict[str, Any] | None:
    """A penalty as plain data for `param_groups`: its name and its numbers.

    Args:
        penalty: a penalty, its specification, or None.

    Raises:
        TypeError: it is something else.
        ValueError: no penalty has this specification.
    """
    if penalty is None:
        return None
    if isinstance(penalty, Penalty):
        return penalty.specification()
    if isinstance(penalty, Mapping):
        return from_specification(penalty).specification()
    raise TypeError(f"penalty is {penalty!r}; accepted is a nonsmooth.penalties.Penalty, its specification, or None")


def version_of(tensor: Tensor) -> int:
    """How often a tensor has been changed in place."""
    return 0 if tensor.is_inference() else tensor._version


def _versions(items: tuple[Any, ...]) -> list[int]:
    """Those of the tensors whose values may be looked at: for others the host would have to wait."""
    return [version_of(v) for _, v in items if isinstance(v, Tensor) and v.device.type == "cpu"]


def _form(value: Any) -> Any:
    """What of a field decides where a penalty fits."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return float if isinstance(value, float) else repr(value)
