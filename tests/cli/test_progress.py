import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from nonsmooth.claims.framework import registry
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Verdict
from nonsmooth.cli import progress
from nonsmooth.cli.progress import LiveProgress, PlainProgress, watch
from nonsmooth.lab import Cell, Record, Store

PLANS = {
    "capture": [Cell("capture", {}, seed, cost=3.0) for seed in range(3)],
    "rate": [Cell("rate", {}, seed, cost=1.0) for seed in range(3)],
}
CELLS = [cell for plan in PLANS.values() for cell in plan]


@pytest.fixture
def claims(monkeypatch):
    def judge(records):
        """A rule."""
        return Judgement(Verdict.REPRODUCED, f"{len(records)} records.", Headline("", "", ""), measured=(), control=())

    module = SimpleNamespace(CLAIM=Claim("capture", "", "", "", "", ""), judge=judge)
    monkeypatch.setattr(registry, "load_claim", lambda claim_id: module)


@pytest.fixture
def make(tmp_path):
    def make(terminal=False, cells=CELLS, stored=(), fresh=False):
        store = Store(tmp_path)
        for cell in stored:
            store.save(Record(cell, {}))
        console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
        return console, store, watch(console, PLANS, cells, store, workers=2, fresh=fresh)

    return make


def finish(watcher, store, cell):
    record = Record(cell, {})
    store.save(record)
    watcher.finished(cell, record)


def test_a_log_gets_a_line_every_few_seconds_at_most(make, claims, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console, _, watcher = make()
    assert isinstance(watcher, PlainProgress)
    with watcher:
        watcher.planned(6, 0)
        for tenth in range(200):
            now[0] = 100.0 + tenth / 10
            watcher.progressed(CELLS[0], tenth / 200)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("2 claims, 6 cells; by the claims' own guess 6.0 s on 2 workers")
    assert len(lines) == 1 + 20 / progress.LINE_EVERY
    assert lines[-1] == "0 of 6 cells, 19 %, 0:15 elapsed"  # three quarters of a cell that is a quarter of the work


def test_a_verdict_is_told_when_the_last_cell_of_its_claim_is_done(make, claims):
    console, store, watcher = make(stored=CELLS[:2])
    with watcher:
        watcher.planned(6, 2)
        finish(watcher, store, CELLS[3])
        assert "reproduced" not in console.file.getvalue()
        finish(watcher, store, CELLS[2])
    assert "capture: reproduced. 3 records." in console.file.getvalue()
    assert "rate:" not in console.file.getvalue()


def test_no_verdict_while_another_part_is_missing(make, claims):
    console, store, watcher = make(cells=CELLS[:2])
    with watcher:
        for cell in CELLS[:2]:
            finish(watcher, store, cell)
    assert "reproduced" not in console.file.getvalue()


def test_with_fresh_nothing_counts_as_done(make, claims):
    console, store, watcher = make(stored=CELLS[:3], fresh=True)
    with watcher:
        watcher.planned(6, 0)
        finish(watcher, store, CELLS[0])
    assert "reproduced" not in console.file.getvalue()
    assert "guess 6.0 s" in console.file.getvalue()


def test_a_terminal_sees_bars_and_cells_in_flight(make, claims):
    _, store, watcher = make(terminal=True)
    assert isinstance(watcher, LiveProgress)
    with watcher:
        watcher.planned(6, 0)
        watcher.estimated(75.0)
        finish(watcher, store, CELLS[0])
        watcher.progressed(CELLS[1], 0.42)
        picture = Console(file=io.StringIO(), width=80)
        picture.print(watcher._picture())
    text = picture.file.getvalue()
    assert "1/6" in text
    assert "about 1:15 left" in text
    assert "1/3" in text
    assert "in flight: 42 %" in text
    assert "waiting: rate" in text
    assert max(map(len, text.splitlines())) <= 80


def test_failures_and_warnings_are_told_as_they_come_without_reading_markup(make, claims):
    console, _, watcher = make()
    with watcher:
        watcher.failed(CELLS[0], "Traceback\n  ...\nValueError: [bold]no[/bold]\n")
        watcher.warned("less [space]")
    assert "capture: a cell failed: ValueError: [bold]no[/bold]" in console.file.getvalue()
    assert "Warning: less [space]" in console.file.getvalue()
