import base64
import copy
import csv
import hashlib
import html
import io
import itertools
import json
import re
from urllib.parse import unquote

import pytest

from nonsmooth.figures.figure import KINDS, TONES, Axis, Figure, Panel, Series
from nonsmooth.figures.legend import legend
from nonsmooth.figures.specification import panel_specification
from nonsmooth.report import render
from nonsmooth.report.page import number, value_table

MALICIOUS = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def page_data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def page(invented):
    return render(*invented)


def test_every_claim_has_a_section_and_a_row(page, invented):
    for entry in invented[0]["claims"]:
        assert f'<section class="claim" id="{entry["id"]}"' in page
        assert page.count(f'href="#{entry["id"]}"') == 2  # contents and summary


def test_every_panel_has_a_place_and_a_specification(page, invented):
    panels = sum(len(figure.panels) for figures in invented[1].values() for figure in figures)
    places = re.findall(r'class="plot" id="([^"]+)"', page)
    assert len(places) == panels
    assert set(places) == set(page_data(page)["panels"])


def test_texts_of_a_claim_are_escaped_everywhere(invented):
    results, figures = copy.deepcopy(invented)
    entry = results["claims"][0]
    for key, value in entry.items():
        if isinstance(value, str) and key not in ("id", "verdict", "status"):
            entry[key] = MALICIOUS
    entry["headline"] = dict.fromkeys(entry["headline"], MALICIOUS)
    entry["notes"] = [MALICIOUS]
    entry["measured"][0] |= {"label": MALICIOUS, "value": MALICIOUS, "unit": MALICIOUS}
    results["origin"] = {MALICIOUS: MALICIOUS}
    axis = Axis(MALICIOUS)
    series = Series("bars", MALICIOUS, [MALICIOUS], [1.0])
    figures = {entry["id"]: [Figure(MALICIOUS, MALICIOUS, (Panel(MALICIOUS, axis, axis, (series,)),) * 2)]}
    plain = render(*invented)
    page = render(results, figures)
    assert page.count("<script") == plain.count("<script")
    assert page.count("</script") == plain.count("</script")
    assert "<img" not in page.replace(re.search(r"/\*\*\n\* plotly.*?</script>", page, re.S)[0], "")
    assert html.escape(MALICIOUS, quote=False)[:20] in page
    specification = page_data(page)["panels"]["capture-figure-1-1"]
    assert specification["traces"][0]["x"] == [MALICIOUS]
    assert "<" not in specification["traces"][0]["name"]  # plotly reads tags in names


def test_the_policy_allows_exactly_the_scripts_of_the_page(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    policy = html.unescape(policy)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 3
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_nothing_is_loaded_from_elsewhere(page):
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    links = set(re.findall(r'<a [^>]*href="((?:https?:)?//[^"]*)"', markup))
    assert links == {"https://arxiv.org/abs/2401.08426"}  # followed by a reader, not loaded by the page
    for link in links:
        markup = markup.replace(f'<a href="{link}"', "<a")
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", markup)
    assert not re.search(r"@import|url\(", markup)


def test_plotly_is_inside_once_and_the_page_is_a_few_megabytes(page):
    assert page.count("* plotly.js v") == 1
    assert len(page) < 8e6


def test_headings_are_in_order_and_ids_are_unique(page):
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    levels = [int(level) for level in re.findall(r"<h([1-6])", markup)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = re.findall(r'\bid="([^"]+)"', markup)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tone", TONES)
def test_every_kind_and_tone_renders(invented, kind, tone):
    series = {
        "band": {"x": [1, 2, 3], "low": [0, None, 1], "high": [1, 2, None]},
        "bars": {"x": ["a", "b", "c"], "y": [1, None, 2]},
        "horizontal": {"y": [1]},
        "vertical": {"x": [1]},
    }.get(kind, {"x": [1, 2, 3], "y": [1, None, 2], "low": [0, 0, 0], "high": [2, 2, 2]})
    panel = Panel("", Axis("x"), Axis("y"), (Series(kind, "name", tone=tone, **series),))
    results = {**invented[0], "claims": invented[0]["claims"][:1]}
    page = render(results, {"capture": [Figure("title", "caption", (panel,))]})
    specification = page_data(page)["panels"]["capture-figure-1-1"]
    assert len(specification["traces"]) + len(specification["shapes"]) == 1
    assert f"@{tone}" in json.dumps(specification)
    assert f'class="swatch tone-{tone}"' in page


def test_a_claim_without_a_verdict_says_why(invented):
    results, _ = copy.deepcopy(invented)
    entry = next(e for e in results["claims"] if e["verdict"] is None)
    entry["error"] = "3 of 12 cells are not measured yet"
    page = render(results, {})
    section = page[page.index(f'<section class="claim" id="{entry["id"]}"') :].split("</section>")[0]
    assert "3 of 12 cells are not measured yet" in section
    assert "Why there is no verdict" in section


def test_values_of_one_name_share_a_row(invented):
    table = value_table(invented[0]["claims"][0])
    assert table["sources"] == ["paper", "measured", "control", "predicted"]
    row = next(row for row in table["rows"] if row["name"] == "norm_large")
    assert [len(row["cells"][source]) for source in table["sources"]] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("stored", "shown"), [("inf", "∞"), ("-inf", "−∞"), ("nan", "not a number"), (0.25, "0.25"), (None, "–")]
)
def test_numbers_that_json_cannot_hold(stored, shown):
    assert number(stored) == shown


CONTROLLING = "a\x00\x1b[31mb\x7f\x9b\u202ec\u2066\u2028\ud800</script>"


def test_no_character_that_acts_and_is_not_seen_reaches_the_page(invented):
    results, figures = copy.deepcopy(invented)
    entry = results["claims"][0]
    for key, value in entry.items():
        if isinstance(value, str) and key not in ("id", "verdict", "status"):
            entry[key] = CONTROLLING
    entry["headline"] = dict.fromkeys(entry["headline"], CONTROLLING)
    entry["notes"] = [CONTROLLING]
    entry["measured"][0] |= {"label": CONTROLLING, "value": CONTROLLING, "unit": CONTROLLING}
    results["origin"] = {CONTROLLING: [CONTROLLING, CONTROLLING]}
    results["settings"]["part"] = [CONTROLLING]
    axis = Axis(CONTROLLING)
    series = Series("bars", CONTROLLING, [CONTROLLING], [1.0])
    figures = {entry["id"]: [Figure(CONTROLLING, CONTROLLING, (Panel(CONTROLLING, axis, axis, (series,)),) * 2)]}
    page = render(results, figures)
    page.encode("utf-8")
    library = re.search(r"/\*\*\n\* plotly.*?</script>", page, re.S)[0]
    ours = page.replace(library, "")
    assert [c for c in ours if not (c.isprintable() or c in "\n\t\N{NARROW NO-BREAK SPACE}\N{NO-BREAK SPACE}")] == []
    assert "a\\x00\\x1b[31mb\\x7f\\x9b\\u202ec\\u2066\\u2028\\ud800&lt;/script&gt;" in ours
    key = re.search(r'data-key="([^"]+)"', ours)[1]
    assert html.unescape(key) == page_data(page)["panels"]["capture-figure-1-1"]["traces"][0]["key"]


def test_the_title_says_what_the_summary_says(page, invented):
    counts = invented[0]["verdicts"]
    title = html.unescape(re.search(r"<title>(.*?)</title>", page)[1])
    first = re.search(r'<p class="answer">(.*?)\.', page)[1]
    assert first == f"{counts['reproduced']} of 17 claims are reproduced as the paper states and explains them"
    assert title == f"{first} · GD doesn’t make the cut, scale quick"


def test_numbers_beyond_the_first_eight_are_folded_away(invented):
    results, _ = copy.deepcopy(invented)
    (entry,) = results["claims"] = results["claims"][:1]
    value = entry["measured"][0]

    def rows(count):
        entry.update(
            choices=[], paper=[], control=[], predicted=[], measured=[{**value, "name": f"n{i}"} for i in range(count)]
        )
        section = render(results, {}).split('<section class="claim"')[1].split("</section>")[0]
        seen, *folded = section.split('<details class="more">')
        return [part.split("</details>")[0].count('<th scope="row">') for part in (seen, *folded)], section

    assert rows(8)[0] == [8]
    counts, section = rows(11)
    assert counts == [8, 3]
    assert "<summary>3 more numbers</summary>" in section


def test_every_figure_can_be_had_as_csv(invented):
    results = {**invented[0], "claims": invented[0]["claims"][:1]}
    band = Series("band", "interval", [1, 2], low=[0.5, None], high=[2, 3])
    line = Series("line", 'ReLU, "wide" & <b>', [1.5, 2], [0.1, None], low=[0, 0], high=[1, 1])
    rule = Series("vertical", "last", x=[3])
    bars = Series("bars", "zeros", ["SGD", "Adam"], [0, 1])
    panels = (Panel("loss", Axis("x"), Axis("y"), (band, line, rule)), Panel("", Axis("x"), Axis("y"), (bars,)))
    page = render(results, {"capture": [Figure("title", "caption", panels)]})
    link = re.search(
        r'<a class="csv" href="data:text/csv;charset=utf-8,([^"]*)" download="capture-figure-1.csv">', page
    )
    assert list(csv.reader(io.StringIO(unquote(link[1])))) == [
        ["panel", "series", "kind", "x", "y", "low", "high"],
        ["loss", "interval", "band", "1.0", "", "0.5", "2.0"],
        ["loss", "interval", "band", "2.0", "", "", "3.0"],
        ["loss", 'ReLU, "wide" & <b>', "line", "1.5", "0.1", "0.0", "1.0"],
        ["loss", 'ReLU, "wide" & <b>', "line", "2.0", "", "0.0", "1.0"],
        ["loss", "last", "vertical", "3.0", "", "", ""],
        ["2", "zeros", "bars", "SGD", "0.0", "", ""],
        ["2", "zeros", "bars", "Adam", "1.0", "", ""],
    ]


def test_no_two_entries_of_a_panel_look_alike():
    def lines(names, **how):
        return tuple(Series("line", name, [1, 2], [1, 2], **how) for name in names)

    dots = tuple(Series("points", name, [1], [1], tone="a") for name in ("p", "q", "r"))
    first = Panel("", Axis("x"), Axis("y"), (*lines("AB"), *lines("CDE", dashed=True), *dots))
    second = Panel("", Axis("x"), Axis("y"), (*lines("XA"), *lines("C", dashed=True)))
    entries = legend(Figure("", "", (first, second)))
    for place in (0, 1):
        looks = [(e.tone, e.marks, e.dash, e.marker) for e in entries if place in e.panels]
        assert len(set(looks)) == len(looks)
    by_name = {entry.name: entry for entry in entries}
    assert (by_name["A"].dash, by_name["C"].dash) == ("solid", "dash")  # the first of each keeps what it asks for
    assert "solid" not in [by_name[name].dash for name in "BCDEX"]
    assert [entry.panels for entry in entries if entry.name in "ABX"] == [(0, 1), (0,), (1,)]
    trace = panel_specification(first, entries)["traces"][1]
    assert trace["line"]["dash"] == by_name["B"].dash
    assert trace["marker"]["symbol"] == by_name["B"].marker


def test_what_one_panel_shows_is_explained_below_it(page):
    figure = page.split('<figure id="rate-figure-1"')[1].split("</figure>")[0]
    above, *panels = figure.split('<div class="panel">')
    assert len(panels) == 2
    assert "<span>softplus, width 0.1</span>" in panels[0]
    assert "<span>the paper's numbers</span>" in html.unescape(panels[1])
    assert "<span>ReLU</span>" in above
    assert "<span>ReLU</span>" not in "".join(panels)


def test_a_verdict_says_under_how_many_alternatives_it_stands_and_what_would_change_it(page):
    section = page[page.index('<section class="claim" id="capture"') : page.index('<section class="claim" id="rate"')]
    for text in (
        "stands under 6 of 7 alternatives",
        "the penalty does it",
        "run length: 100 instead of 1,000 (inconclusive)",
        "What would change this verdict",
        "choices that it rests on",
        "Chosen after looking: the length (2026-11)",
        "Not judged, because the cells do not hold it: widths",
    ):
        assert text in section, text


def test_the_numbers_that_the_rule_asks_for_come_first(invented):
    results, _ = invented
    rows = value_table(results["claims"][0])["rows"]
    assert [row["name"] for row in rows[:2]] == ["share", "norm_large"]
