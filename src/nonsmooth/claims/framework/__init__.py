"""What a claim is made of, and what runs and stores it.

A claim's module imports from here: what it says (`Claim`), what is measured (`Quantity`, `Findings`), the rule (`Rule`,
`Row`, `Outcome` and conditions), what the verdict rests on (`Choice`), and the `Study` that holds them together.
"""

from nonsmooth.claims.framework.choice import Afterthought, Choice, Choices
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Verdict
from nonsmooth.claims.framework.condition import (
    above,
    below,
    holds,
    surely,
    typically_above,
    typically_below,
    within,
)
from nonsmooth.claims.framework.evidence import Evidence, NotStoredError, Runs, known
from nonsmooth.claims.framework.experiment import Run, Scale
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series, series_of
from nonsmooth.claims.framework.quantity import (
    Estimate,
    Fact,
    Finding,
    Findings,
    Missing,
    Quantity,
    Value,
    Word,
    median_interval,
)
from nonsmooth.claims.framework.rule import Outcome, Row, Rule
from nonsmooth.claims.framework.study import Study
from nonsmooth.number_text import format_number

__all__ = [
    "Afterthought",
    "Axis",
    "Choice",
    "Choices",
    "Claim",
    "Estimate",
    "Evidence",
    "Fact",
    "Figure",
    "Finding",
    "Findings",
    "Headline",
    "Judgement",
    "Missing",
    "NotStoredError",
    "Outcome",
    "Panel",
    "Quantity",
    "Row",
    "Rule",
    "Run",
    "Runs",
    "Scale",
    "Series",
    "Settings",
    "Study",
    "Value",
    "Verdict",
    "Word",
    "above",
    "below",
    "format_number",
    "holds",
    "known",
    "median_interval",
    "series_of",
    "surely",
    "typically_above",
    "typically_below",
    "within",
]
