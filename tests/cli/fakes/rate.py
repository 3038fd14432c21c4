"""A second stand-in: one cell, an inconclusive verdict."""

from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Verdict
from nonsmooth.lab import Cell

CLAIM = Claim("rate", "Another invented claim", "§0", "Nothing.", "None.", "None.")


def plan(settings):
    return [Cell("rate", {"scale": settings.scale, "images": settings.data}, cost=0.1)]


def measure(cell, context):
    return {"value": 1.0}


def judge(records):
    """Always inconclusive."""
    return Judgement(
        Verdict.INCONCLUSIVE, "One cell.", Headline("–", "1", "–"), measured=(), control=(), decided_by="two cells"
    )


def draw(records):
    return []
