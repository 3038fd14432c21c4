"""What a verdict rests on besides the evidence: choices, their reasonable alternatives, and when they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nonsmooth.number_text import format_number


@dataclass(frozen=True)
class Choice:
    """A tolerance, a run length, a list of widths, a control: something another careful person might set otherwise.

    Attributes:
        name: identifier within the claim.
        value: what was chosen.
        alternatives: what could as well have been; each is judged with the stored cells.
        label: what it is, in words that complete "0.99 (...)".
        why: why this value.
        condition: what the verdict holds for, if an alternative gives another one: a text in which {value} is the
            choice. Without one, a verdict that an alternative turns into another is not given.
    """

    name: str
    value: Any
    alternatives: tuple[Any, ...]
    label: str
    why: str
    condition: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "alternatives", tuple(self.alternatives))
        if any(one in self.alternatives[:i] for i, one in enumerate(self.alternatives)):
            raise ValueError(f"the choice {self.name!r} has an alternative twice: {self.alternatives!r}")
        if not self.alternatives or self.value in self.alternatives:
            raise ValueError(
                f"the alternatives of the choice {self.name!r} are {self.alternatives!r}; accepted are values other "
                f"than {self.value!r}"
            )


@dataclass(frozen=True)
class Afterthought:
    """A choice that was made after the evidence had been looked at.

    Attributes:
        what: was chosen.
        when: ISO date, as far as known.
        why: it was.
        changed: what it changed.
    """

    what: str
    when: str
    why: str
    changed: str


class Choices(Mapping[str, Any]):
    """The values of a study's choices: `choices.required` or `choices["required"]`.

    Args:
        declared: the choices.
        changed: values that stand in the place of theirs.
    """

    def __init__(self, declared: Sequence[Choice], changed: Mapping[str, Any] | None = None) -> None:
        self.declared = tuple(declared)
        self._values = {choice.name: choice.value for choice in declared} | dict(changed or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"there is no choice {name!r}; there are {sorted(self._values)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def alternatives(self) -> Iterator[tuple[Choice, Any, Choices]]:
        """Each choice with one alternative, and all the values with that one in place."""
        for choice in self.declared:
            for value in choice.alternatives:
                yield choice, value, Choices(self.declared, {choice.name: value})


def in_words(value: Any) -> str:
    """A choice's value as a reader wants it."""
    if isinstance(value, tuple | list):
        return ", ".join(in_words(item) for item in value)
    return format_number(value.replace("_", " ") if isinstance(value, str) else value)
