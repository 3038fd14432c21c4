"""Plain text with a little markup, as docstrings have it, to safe HTML."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from nonsmooth.foreign_text import visible

_INLINE = (
    (re.compile(r"``(.+?)``|`(.+?)`"), "code"),
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), "strong"),
    # β* and 2*x are not emphasis: a star that opens it has no letter before it.
    (re.compile(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])"), "em"),
)
_NUMBER = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
_ITEM = re.compile(r"(?:[-*]|\d+[.)])\s+")


def inline(text: str) -> Markup:
    """One run of text: `code`, **strong** and *emphasis*; everything else is escaped."""
    html = str(escape(visible(text, lines=True)))
    for pattern, tag in _INLINE:
        html = pattern.sub(lambda match, tag=tag: f"<{tag}>{match[1] or match[match.lastindex]}</{tag}>", html)  # type: ignore[misc]
    return Markup(html)


def blocks(text: str) -> Markup:
    """Paragraphs, and lists whose items begin with "- " or "1. " and may run on over indented lines."""
    html = Markup()
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lead, items = _split_list(paragraph)
        if lead:
            html += Markup("<p>{}</p>").format(inline(" ".join(lead)))
        if items:
            listed = Markup().join(Markup("<li>{}</li>").format(inline(item)) for item in items)
            kind = Markup("ol" if _NUMBER.search(paragraph) else "ul")
            html += Markup("<{0}>{1}</{0}>").format(kind, listed)
    return html


def _split_list(paragraph: str) -> tuple[list[str], list[str]]:
    """The lines before the first item of a list, and the items."""
    lead: list[str] = []
    items: list[str] = []
    for line in paragraph.splitlines():
        marker = _ITEM.match(line.lstrip())
        if marker:
            items.append(line.lstrip()[marker.end() :].strip())
        elif items:
            items[-1] += f" {line.strip()}"
        else:
            lead.append(line.strip())
    return lead, items
