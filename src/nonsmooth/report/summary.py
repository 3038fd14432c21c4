"""The answer in words: how many claims came out how."""

from __future__ import annotations

import math

from nonsmooth.claims.framework.claim import Verdict
from nonsmooth.claims.framework.registry import is_of_paper
from nonsmooth.claims.framework.results import Results


def answer(results: Results) -> str:
    """One paragraph that says what came of all claims."""
    counts = results["verdicts"]
    total = len(results["claims"])
    of_paper = all(is_of_paper(entry["id"]) for entry in results["claims"])
    stated = f"as the paper states and explains {'it' if total == 1 else 'them'}" if of_paper else "as stated"
    sentences = [f"{counts[str(Verdict.REPRODUCED)]} of {_claims(total)} reproduced {stated}."]
    if n := counts[str(Verdict.WITH_CORRECTION)]:
        sentences.append(f"{n} {'holds' if n == 1 else 'hold'} once a constant, a norm or a unit is put right.")
    if n := counts[str(Verdict.EXPLANATION_NOT_SUPPORTED)]:
        sentences.append(
            f"{n} {'shows its' if n == 1 else 'show their'} effect, but the control does not support "
            f"{'the paper’s' if of_paper else 'the'} explanation of it."
        )
    if n := counts[str(Verdict.NOT_REPRODUCED)]:
        sentences.append(f"{n} {'is' if n == 1 else 'are'} not reproduced.")
    if n := counts[str(Verdict.INCONCLUSIVE)]:
        sentences.append(f"{n} {'is' if n == 1 else 'are'} inconclusive at this size.")
    if n := total - sum(counts.values()):
        sentences.append(f"{n} {'has' if n == 1 else 'have'} no verdict, because cells are missing or failed.")
    return " ".join(sentences)


def headline(results: Results) -> str:
    """What came of all claims, as the title of a page: the first sentence of `answer`."""
    return answer(results).split(". ")[0].rstrip(".")


def _claims(count: int) -> str:
    return "1 claim is" if count == 1 else f"{count} claims are"


def duration(seconds: float) -> str:
    """A time as a reader wants it: "42 s", "3 min 20 s", "5 h 12 min"."""
    if not 0 <= seconds < math.inf:
        return "an unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
