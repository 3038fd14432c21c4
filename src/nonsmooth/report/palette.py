"""How a verdict looks: never by its colour alone, each has an icon and its words."""

from __future__ import annotations

from dataclasses import dataclass

from nonsmooth.claims.framework.claim import Verdict


@dataclass(frozen=True)
class Look:
    """How a verdict looks: a word for style sheets and the name of an icon in the page's sprite."""

    word: str
    icon: str


VERDICTS = {
    str(Verdict.REPRODUCED): Look("reproduced", "check"),
    str(Verdict.WITH_CORRECTION): Look("correction", "pencil"),
    str(Verdict.EXPLANATION_NOT_SUPPORTED): Look("unexplained", "half"),
    str(Verdict.NOT_REPRODUCED): Look("refuted", "cross"),
    str(Verdict.INCONCLUSIVE): Look("open", "question"),
}
"""In the order in which they are counted: from agreement to its absence."""

NO_VERDICT = Look("none", "dash")
"""A claim without a verdict: cells are missing or failed."""
