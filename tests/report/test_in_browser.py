"""The page in a real browser: everything is drawn, nothing is requested, nothing overflows."""

import shutil

import pytest

from nonsmooth.claims import claim_ids
from nonsmooth.report import render

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]
WIDTHS = (360, 768, 1440)


@pytest.fixture(scope="module")
def address(invented, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(*invented), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, address):
    """Open the page and watch it: anything on the console and any request but the page itself is a failure."""
    contexts, wrong, requests = [], [], []

    def open_page(query="", **settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", lambda request: requests.append(request.url.split("?")[0]))
        page.goto(address + query)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert set(requests) == {address}


def size(width):
    return {"width": width, "height": 900}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_drawn_and_nothing_overflows(opened, invented, scheme):
    page = opened("?all", viewport=size(WIDTHS[-1]), color_scheme=scheme)
    panels = sum(len(figure.panels) for figures in invented[1].values() for figure in figures)
    assert page.locator(".plot").count() == panels
    assert page.locator(".plot[data-drawn=true]:has(.main-svg)").count() == panels
    for width in WIDTHS:
        page.set_viewport_size(size(width))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Figures follow the page's width, a moment later.
        page.wait_for_function(
            "width => [...document.querySelectorAll('.main-svg')].every(svg => svg.clientWidth < width)", arg=width
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme


def test_figures_are_drawn_when_they_come_into_sight(opened):
    page = opened(viewport=size(1440))
    assert page.locator(".plot[data-drawn=true]").count() == 0
    last = page.locator(".plot").last
    last.scroll_into_view_if_needed()
    page.wait_for_function("plot => plot.dataset.drawn === 'true'", arg=last.element_handle())
    assert page.locator(".plot[data-drawn=false]").count() > 0


def test_marks_that_a_specification_asks_for_are_there(opened):
    page = opened("?all", viewport=size(1440))
    # The third figure of the third claim has a cloud of points, a line with error bars, a band and straight rules.
    figure = page.locator("figure:has(.panels[data-count='3'])").first
    assert figure.locator(".points path.point").count() > 600
    assert figure.locator(".errorbar").count() > 0
    assert figure.locator(".shapelayer path").count() == 2
    assert figure.locator("path.js-fill").count() > 0
    assert page.locator("figure:has(.panels[data-count='1'])").first.locator(".bars .point").count() == 16


def test_the_toggle_repaints_the_figures(opened):
    page = opened("?all", viewport=size(1440), color_scheme="light")
    line = page.locator("#capture-figure-1-2 .js-line").first
    before = line.evaluate("line => getComputedStyle(line).stroke")
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("#capture-figure-1-2 .js-line").first.evaluate("l => getComputedStyle(l).stroke") != before
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"  # the choice is kept


def test_the_legend_switches_a_series_off_and_on(opened):
    page = opened("?all", viewport=size(1440))
    button = page.locator("#capture-figure-1 .legend button", has_text="ReLU").first
    lines = page.locator("#capture-figure-1-2 .js-line")
    before = lines.count()
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert lines.count() == before - 1
    button.click()
    assert lines.count() == before


def test_the_filter_shows_the_claims_of_one_verdict(opened, invented):
    page = opened(viewport=size(1440))
    rows = page.locator(".summary tbody tr:visible")
    assert rows.count() == len(invented[0]["claims"])
    page.locator("#filters button", has_text="not reproduced").click()
    assert rows.count() == invented[0]["verdicts"]["not reproduced"]
    assert rows.first.locator(".badge").inner_text() == "not reproduced"
    page.locator("#filters button").first.click()
    assert rows.count() == len(invented[0]["claims"])


def test_paper_gets_every_figure_in_light_colours_and_every_detail(opened):
    page = opened(viewport=size(1440), color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".plot[data-drawn=true]").count() == page.locator(".plot").count()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator(".contents").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("main details[open]").count() == 0


def test_the_menu_works_on_a_phone(opened):
    page = opened(viewport={"width": 390, "height": 800}, has_touch=True)
    link = page.locator("#menu a", has_text="never-zero")
    assert not link.is_visible()
    before = page.evaluate("document.documentElement.scrollHeight")
    page.locator("#menu summary").tap()
    assert link.is_visible()
    assert page.evaluate("document.documentElement.scrollHeight") == before  # it lies above the page
    link.tap()
    assert not link.is_visible()
    assert page.evaluate("location.hash") == "#never-zero"
    page.wait_for_function(
        "() => Math.abs(document.getElementById('never-zero').getBoundingClientRect().top) < innerHeight / 2"
    )
    assert page.locator("#menu summary").bounding_box()["y"] >= 0  # stays in sight


def test_the_menu_stands_open_beside_a_wide_page(opened):
    page = opened(viewport=size(1440))
    assert page.locator("#menu a", has_text="never-zero").is_visible()
    assert not page.locator("#menu summary").is_visible()


def test_the_tool_bar_lies_above_the_points(opened):
    page = opened("?all", viewport=size(1440))
    assert page.locator(".modebar").count() > 0
    over = page.evaluate(
        """() => [...document.querySelectorAll(".plot")].filter((plot) =>
          plot.querySelector(".modebar").getBoundingClientRect().bottom
            > plot.querySelector(".nsewdrag").getBoundingClientRect().top).map((plot) => plot.id)"""
    )
    assert over == []
    titles = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map((button) => button.dataset.title)")
    assert set(titles) == {"Download plot", "Zoom", "Pan", "Reset axes"}  # nothing that sends data anywhere


def test_without_scripts_the_page_is_readable(browser, address):
    context = browser.new_context(java_script_enabled=False, viewport=size(360))
    page = context.new_page()
    page.goto(address)
    assert page.locator(".summary tbody tr:visible").count() == len(claim_ids())
    assert not page.locator("#filters").is_visible()
    assert page.locator("noscript").first.inner_text()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(opened, scheme):
    """WCAG AA: at least 4.5 to 1 against the nearest opaque background."""
    page = opened(viewport=size(1440), color_scheme=scheme)
    weak = page.evaluate(
        """() => {
          const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
          const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const ground = (node) => {
            for (let at = node; at; at = at.parentElement) {
              const colour = parse(getComputedStyle(at).backgroundColor);
              if (colour.length === 3 || colour[3] === 1) return colour;
            }
            return [255, 255, 255];
          };
          const weak = new Set();
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const node = walker.currentNode.parentElement;
            if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
            if (node.closest("script, svg")) continue;
            const [a, b] = [parse(getComputedStyle(node).color), ground(node)].map(luminance).sort((x, y) => y - x);
            const contrast = (a + 0.05) / (b + 0.05);
            if (contrast < 4.5) weak.add(`${node.tagName}.${node.className}: ${contrast}`);
          }
          return [...weak];
        }"""
    )
    assert weak == []
