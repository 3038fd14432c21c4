"""Text from outside, made safe to print: names of parameters, messages of exceptions, what files hold.

A terminal obeys control characters. A name may hold them, and could so colour, move, hide or rewrite what stands around
it; characters that turn the direction of writing do the same to a reader of a web page.
"""

from __future__ import annotations

import unicodedata


def visible(text: object, *, lines: bool = False) -> str:
    r"""The text with every character that acts, and is not seen, written out as an escape, such as ``\x1b``.

    Those are the ones that `str.isprintable` refuses: control characters, line and paragraph separators, formats such
    as the bidirectional overrides, lone surrogates. Spaces of any width stay.

    Args:
        text: anything; what is not a string is printed first.
        lines: keep line feeds and tabs, for texts of several lines.
    """
    whole = str(text)
    if whole.isprintable():
        return whole
    kept = "\n\t" if lines else ""
    return "".join(character if character in kept or _is_seen(character) else _escape(character) for character in whole)


def _is_seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
