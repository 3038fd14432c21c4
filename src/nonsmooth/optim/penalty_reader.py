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

Fit = tuple[torch.Size, torch.dtype, torch.device]
"""What of a parameter decides whether a penalty can be on it."""


def fit_of(parameter: Tensor) -> Fit:
    """Shape, type and place of a parameter."""
    return parameter.shape, parameter.dtype, parameter.device


class _Known:
    """What a reader knows of one group."""

    def __init__(self, items: tuple[Any, ...], penalty: Penalty, before: _Known | None) -> None:
        self.items, self.penalty, self.versions = items, penalty, _versions(items)
        # An index of groups stays on the host, which has to count them.
        self.floats = {
            name: value
            for name, value in penalty.fields().items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        self.form = tuple((name, _form(value)) for name, value in penalty.fields().items())
        alike = before is not None and type(before.penalty) is type(penalty) and before.form == self.form
        # Another λ is on the same parameters.
        self.fits: set[Fit] = before.fits if alike and before is not None else set()
        self.moved: dict[tuple[str, torch.device], tuple[Tensor, int, Tensor]] = {} if before is None else before.moved
        self.copies: dict[torch.device, tuple[list[int], Penalty]] = {}

    def is_of(self, items: tuple[Any, ...]) -> bool:
        """Whether a specification is the one that was read, its tensors unchanged."""
        return _same(self.items, items) and self.versions == _versions(items)


class PenaltyReader:
    """The penalties of an optimiser's groups, and copies of their tensors where the parameters lie."""

    def __init__(self) -> None:
        self._read: dict[int, _Known] = {}
        self._placed: dict[int, _Known] = {}

    def __call__(self, group: MutableMapping[str, Any]) -> Penalty | None:
        """The penalty of a group, None if it has none.

        A group keeps the class that it started with, even if another of the same name is defined later.

        Raises:
            TypeError: the group holds neither a penalty nor a specification.
            ValueError: the specification has an unknown name or other fields.
        """
        specification = group.get("penalty")
        if specification is None:
            return None
        if not isinstance(specification, dict):  # assigned as an object; store plain data
            group["penalty"] = to_specification(specification)
            return self(group)
        items = tuple(specification.items())
        known = self._read.get(id(group))
        if known is not None and known.is_of(items):
            strength = known.penalty.strength
            if isinstance(strength, Tensor) and strength.numel() == 1 and may_look(strength):
                # A write through `.data` does not change its version.
                check_not_negative("strength", strength)
            return known.penalty
        kept = type(known.penalty) if known is not None and ("name", specification.get("name")) in known.items else None
        penalty = from_specification(specification, kind=kept)
        if any(type(value) not in PLAIN and not isinstance(value, Tensor) for value in specification.values()):
            # A list or an array may change unseen, and a checkpoint cannot hold NumPy's numbers.
            specification.update(penalty.specification())
            items = tuple(specification.items())
        self._forget(id(group))
        self._read[id(group)] = self._placed[id(penalty)] = _Known(items, penalty, known)
        return penalty

    def _forget(self, number: int) -> None:
        known = self._read.pop(number, None)
        if known is not None:
            self._placed.pop(id(known.penalty), None)

    def forget_others(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Let go of what groups had that are no longer there, as loading a state replaces all of them."""
        present = {id(group) for group in groups}
        for number in [number for number in self._read if number not in present]:
            self._forget(number)

    def fits(self, group: Mapping[str, Any]) -> set[Fit]:
        """The parameters' shapes, types and places for which the group's penalty is known to fit, to be added to."""
        return self._read[id(group)].fits

    def placed(self, penalty: Penalty, device: torch.device) -> Penalty:
        """The same penalty, its numbers on a device: they are copied there once, not at every step."""
        known = self._placed.get(id(penalty)) or _Known((), penalty, None)
        away = {name: value for name, value in known.floats.items() if value.device != device}
        if not away:
            return penalty
        versions = [_version(value) for value in away.values()]
        if device in known.copies and known.copies[device][0] == versions:
            return known.copies[device][1]
        moved = copy.copy(penalty)
        for name, value in away.items():
            source, version, there = known.moved.get((name, device), (None, 0, value))
            if source is not value or version != _version(value):
                there = value.to(device)
                known.moved[name, device] = (value, _version(value), there)
            object.__setattr__(moved, name, there)
        known.copies[device] = (versions, moved)
        return moved


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


def _same(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    return len(before) == len(after) and all(
        a[0] == b[0]
        and (a[1] is b[1] or (not isinstance(a[1], Tensor) and not isinstance(b[1], Tensor) and bool(a[1] == b[1])))
        for a, b in zip(before, after, strict=True)
    )


def _version(tensor: Tensor) -> int:
    """How often a tensor has been changed in place."""
    return 0 if tensor.is_inference() else tensor._version


def _versions(items: tuple[Any, ...]) -> list[int]:
    """Those of the tensors whose values may be looked at: for others the host would have to wait."""
    return [_version(v) for _, v in items if isinstance(v, Tensor) and v.device.type == "cpu"]


def _form(value: Any) -> Any:
    """What of a field decides where a penalty fits."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return float if isinstance(value, float) else repr(value)
