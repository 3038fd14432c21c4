"""Figures outside the report: what plotly is handed, in each theme, and what is said where plotly is missing."""

import json
import subprocess
import sys

import plotly.io
import pytest

from nonsmooth.claims import figure as old_place
from nonsmooth.figures import Axis, Figure, Panel, Series
from nonsmooth.figures import figure as home
from nonsmooth.figures.tones import CHROME, TONES

FIGURE = """
from nonsmooth.figures import Axis, Figure, Panel, Series
axis = Axis("x")
figure = Figure("A title", "What to see.", (Panel("", axis, axis, (Series("line", "ours", [0, 1], [2.0, 3.0]),)),))
"""


def run(code, **variables):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, **variables)


def panel(*series, title=""):
    return Panel(title, Axis("steps", log=True), Axis("loss <b>"), series)


def test_show_hands_the_figure_to_the_renderer_that_plotly_has():
    done = run(f"import plotly.io; plotly.io.renderers.default = 'json'\n{FIGURE}\nfigure.show()")
    assert done.returncode == 0, done.stderr
    assert "'application/json'" in done.stdout
    assert "A title" in done.stdout


def test_without_plotly_one_line_says_what_to_install():
    done = run(f"import sys; sys.modules['plotly'] = None\n{FIGURE}\nfigure.show()")
    assert done.stderr.splitlines()[-1] == (
        'ImportError: Displaying a figure needs plotly: pip install "nonsmooth[reproduce]"'
    )
    cell = run(f"import sys; sys.modules['plotly'] = None\n{FIGURE}\nprint(figure._repr_mimebundle_())")
    assert "A title. What to see." in cell.stdout
    assert "pip install" in cell.stdout


def test_plain_data_does_not_load_plotly():
    done = run(f"import sys\n{FIGURE}\nprint(sorted(set(sys.modules) & {{'plotly', 'torch', 'numpy'}}))")
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("theme", CHROME)
def test_every_theme_has_its_own_colours(theme):
    drawn = Figure("", "", (panel(Series("line", "a", [1, 2], [1, 2])),)).to_plotly(theme).to_dict()
    assert drawn["layout"]["paper_bgcolor"] == CHROME[theme]["surface"]
    assert drawn["data"][0]["line"]["color"] == getattr(TONES["ours"], theme)
    assert "@" not in json.dumps(drawn)


def test_the_theme_is_that_of_plotly_unless_one_is_named(monkeypatch):
    figure = Figure("", "", (panel(),))
    assert figure.to_plotly() == figure.to_plotly("light")
    monkeypatch.setattr(plotly.io.templates, "default", "plotly_dark")
    assert figure.to_plotly().layout.paper_bgcolor == CHROME["dark"]["surface"]
    with pytest.raises(ValueError, match="theme is 'blue'; accepted are light, dark"):
        figure.to_plotly("blue")


def test_panels_share_a_legend_and_have_axes_of_their_own():
    line, rule = Series("line", "ours", [1, 9], [1, 2]), Series("horizontal", "limit", y=[0.5], tone="theory")
    band = Series("band", "ours", [1, 9], low=[0, 1], high=[2, 3])
    drawn = Figure("", "", (panel(band, line, rule, title="one"), panel(line, rule, title="two"))).to_plotly().to_dict()
    assert [(t["xaxis"], t["showlegend"]) for t in drawn["data"]] == [("x", False), ("x", True), ("x2", False)]
    assert [(s["yref"], s["xref"], s["showlegend"]) for s in drawn["layout"]["shapes"]] == [
        ("y", "x domain", True),
        ("y2", "x2 domain", False),
    ]
    assert drawn["layout"]["xaxis"]["domain"][1] < drawn["layout"]["xaxis2"]["domain"][0]
    assert drawn["layout"]["xaxis2"]["type"] == "log"
    assert [note["text"] for note in drawn["layout"]["annotations"]] == ["<b>one</b>", "<b>two</b>"]
    assert "&lt;b&gt;" in drawn["layout"]["yaxis"]["title"]["text"]


@pytest.mark.parametrize("count", range(1, 7))
def test_panels_do_not_overlap(count):
    layout = Figure("", "", (panel(),) * count).to_plotly().to_dict()["layout"]
    places = []
    for number in range(1, count + 1):
        x, y = (layout[f"{axis}axis{'' if number == 1 else number}"]["domain"] for axis in "xy")
        assert 0 <= x[0] < x[1] <= 1
        assert 0 <= y[0] < y[1] <= 1
        assert not any(x[0] < b[1] and b[0] < x[1] and y[0] < d[1] and d[0] < y[1] for b, d in places)
        places.append((x, y))


def test_the_names_are_where_claims_look_for_them():
    for name in ("Axis", "Figure", "KINDS", "Panel", "Series", "TONES"):
        assert getattr(old_place, name) is getattr(home, name)
