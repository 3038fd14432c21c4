"""Whatever is drawn, the page is written: any floats, on any axes, and at worst one figure less."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.figures.figure import KINDS, Axis, Figure, Panel, Series
from nonsmooth.figures.specification import panel_specification
from nonsmooth.report import page, render
from nonsmooth.report.page import figure_fault
from nonsmooth.report.summary import duration

EXTREMES = (5e-324, -5e-324, 1.7e308, -1.7e308, math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0, None, 10**400)
NUMBERS = st.one_of(st.sampled_from(EXTREMES), st.floats(), st.integers())


def page_data(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    return json.loads(found, parse_constant=refuse)


def numbers_in(content):
    if isinstance(content, dict):
        return [number for item in content.values() for number in numbers_in(item)]
    if isinstance(content, list):
        return [number for item in content for number in numbers_in(item)]
    return [content] if isinstance(content, float) else []


@st.composite
def series(draw):
    kind = draw(st.sampled_from(KINDS))
    count = draw(st.integers(0, 40))
    some = st.lists(NUMBERS, min_size=count, max_size=count)
    x = draw(st.one_of(some, st.lists(st.text(max_size=5), min_size=count, max_size=count)))
    ends = {} if kind != "band" and draw(st.booleans()) else {"low": draw(some), "high": draw(some)}
    return Series(kind, draw(st.text(max_size=8)), x, () if kind == "band" else draw(some), **ends)


AXES = st.builds(Axis, st.text(max_size=5), st.booleans())
PANELS = st.builds(Panel, st.text(max_size=5), AXES, AXES, st.lists(series(), max_size=4).map(tuple))


@settings(max_examples=300, deadline=None)
@given(panel=PANELS)
def test_any_numbers_give_a_specification_that_is_json(panel):
    specification = panel_specification(panel)
    text = json.dumps(specification, allow_nan=False, ensure_ascii=False)
    assert json.loads(text) == specification
    assert all(map(math.isfinite, numbers_in(specification)))
    assert figure_fault(Figure("title", "caption", (panel,))) is None


@pytest.fixture(scope="module")
def one_claim(invented):
    return {**invented[0], "claims": invented[0]["claims"][:1]}


@pytest.mark.parametrize(
    "bad",
    [
        Series("line", "w", x=[1.0, 2.0], y=[1.0, 5e-324]),
        Series("line", "w", x=[1.0, math.inf], y=[1.0, 1.0]),
        Series("line", "w", x=[1.0, 2.0], y=[-1e308, 1e308], low=[-1.7e308] * 2, high=[1.7e308] * 2),
        Series("horizontal", "w", y=[math.nan]),
        Series("vertical", "w"),
        Series("points", "w", x=[10**400, 1], y=[1, 10**400]),
        Series("line", "w"),
    ],
)
def test_a_report_is_not_lost_by_a_denormal_or_its_kind(one_claim, bad):
    axis = Axis("y", log=True)
    good = Panel("", axis, axis, (Series("line", "good", x=[1.0, 2.0], y=[1.0, 2.0]),))
    drawn = [Figure("bad", "", (Panel("", axis, axis, (bad,)),)), Figure("good", "", (good,))]
    panels = page_data(render(one_claim, {"capture": drawn}))["panels"]
    assert set(panels) == {"capture-figure-1-1", "capture-figure-2-1"}


def test_decades_of_a_logarithmic_axis_with_a_denormal_are_those_of_its_logarithms():
    panel = Panel("", Axis("x"), Axis("y", log=True), (Series("line", "w", [1, 2], [1e308, 5e-324]),))
    assert panel_specification(panel)["y"]["decades"] == pytest.approx(308 + 323.306, abs=0.01)


def test_a_figure_that_cannot_be_drawn_costs_itself_and_says_so(one_claim, monkeypatch):
    def refuses(panel, entries):
        if panel.title == "bad":
            raise ArithmeticError("no <such> number\x1b[31m")
        return panel_specification(panel, entries)

    monkeypatch.setattr(page, "panel_specification", refuses)
    panel = Panel("good", Axis("x"), Axis("y"), (Series("line", "w", [1], [2]),))
    bad = Panel("bad", Axis("x"), Axis("y"), (Series("line", "w", [1], [2]),))
    text = render(one_claim, {"capture": [Figure("one", "", (bad,)), Figure("two", "", (panel,))]})
    assert set(page_data(text)["panels"]) == {"capture-figure-2-1"}
    assert "This figure cannot be drawn:</strong> ArithmeticError: no &lt;such&gt; number\\x1b[31m" in text


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1.0])
def test_a_time_that_is_none_has_words(seconds):
    assert duration(seconds) == "an unknown time"


@settings(max_examples=200)
@given(values=st.lists(st.floats(), max_size=5))
def test_series_keep_what_is_finite_and_leave_a_gap_for_the_rest(values):
    kept = Series("line", "w", values, values)
    for side in (kept.x, kept.y):
        assert [None if not math.isfinite(value) else value for value in values] == list(side)
    assert Series("line", "w", np.array(values), np.array(values)) == kept
    assert json.loads(page._script_json(list(kept.x))) == list(kept.x)
