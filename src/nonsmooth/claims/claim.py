"""The names that claims in files of one's own import from here: they are in `nonsmooth.claims`."""

from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Verdict
from nonsmooth.claims.framework.quantity import Value
from nonsmooth.number_text import format_number

__all__ = ["Claim", "Headline", "Judgement", "Settings", "Value", "Verdict", "format_number"]
