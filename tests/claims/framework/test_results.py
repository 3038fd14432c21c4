import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from nonsmooth.claims.framework import registry
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Verdict
from nonsmooth.claims.framework.figure import Axis, Figure, Panel
from nonsmooth.claims.framework.quantity import Value
from nonsmooth.claims.framework.results import assess, illustrate, merged_origins, stored_records, summarise
from nonsmooth.claims.framework.run_folder import read_settings, settings_name, write_json, write_settings
from nonsmooth.lab import Cell, LabError, Record, Store

CELLS = [Cell("capture", {"kind": kind, "seeds": 4}, 10) for kind in ("plain", "control")]
RECORDS = {cell: Record(cell, {"value": 1.0}, seconds=1.5, origin={"device": "cpu"}) for cell in CELLS}
AXIS = Axis("axis")


def judgement(measured=()):
    return Judgement(Verdict.REPRODUCED, "Because.", Headline("a", "b", "c"), measured=measured, control=())


@pytest.fixture
def fake(monkeypatch):
    """Put an invented claim in the place of `capture`; its functions can be set."""

    def judge(records):
        """The rule.

        Returns:
            Not shown.
        """
        return module.result

    module = SimpleNamespace(
        CLAIM=Claim("capture", "Title", "§0", "Statement.", "Explanation.", "Control."),
        judge=judge,
        draw=lambda records: [Figure("title", "caption", (Panel("", AXIS, AXIS, ()),))],
        result=judgement(),
    )
    monkeypatch.setattr(registry, "load_claim", lambda claim_id: module)
    return module


def test_a_measured_claim_is_judged(fake):
    entry = assess("capture", CELLS, RECORDS)
    assert (entry["status"], entry["verdict"], entry["error"]) == ("judged", "reproduced", None)
    assert entry["rule"] == "The rule."
    assert entry["seeds"] == {"first": 10, "last": 13, "count": 4}
    assert entry["seconds"] == 3.0
    assert len(illustrate(entry, CELLS, RECORDS)) == 1


def test_no_verdict_is_invented_for_missing_or_failed_cells(fake):
    partly = {CELLS[0]: RECORDS[CELLS[0]]}
    missing = assess("capture", CELLS, partly)
    assert (missing["status"], missing["verdict"]) == ("incomplete", None)
    assert missing["error"] == "1 of 2 cells are not measured yet"
    failed = assess("capture", CELLS, partly, failures={CELLS[1]})
    assert (failed["status"], failed["verdict"], failed["headline"]) == ("failed", None, None)
    assert failed["error"] == "1 of 2 cells failed"
    assert illustrate(failed, CELLS, partly) == []


def test_a_judge_or_a_drawing_that_raises_is_reported(fake):
    fake.draw = lambda records: 1 / 0
    entry = assess("capture", CELLS, RECORDS)
    assert illustrate(entry, CELLS, RECORDS) == []
    assert (entry["status"], entry["error"]) == ("failed", "drawing failed: ZeroDivisionError: division by zero")
    assert entry["verdict"] == "reproduced"
    del fake.result
    entry = assess("capture", CELLS, RECORDS)
    assert (entry["status"], entry["verdict"]) == ("failed", None)
    assert entry["error"].startswith("judging failed: AttributeError")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (np.float64(0.1), 0.1),
        (np.float64("inf"), "inf"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (None, None),
        ("word", "word"),
    ],
)
def test_values_become_json(fake, tmp_path, value, stored):
    fake.result = judgement((Value("name", "label", value, value if isinstance(value, float) else None),))
    path = tmp_path / "new" / "results.json"
    write_json(path, {"claims": [assess("capture", CELLS, RECORDS)]})

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(path.read_text(), parse_constant=refuse)["claims"][0]["measured"][0]["value"]
    assert read == stored
    assert type(read) is type(stored)
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("value", [[1.0], [math.nan], {"a": 1}, 1j, object()])
@pytest.mark.parametrize("place", ["value", "low", "high", "count"])
def test_a_judgement_that_holds_no_numbers_fails_its_claim_alone(fake, tmp_path, place, value):
    fake.result = judgement((Value(**{"name": "name", "label": "label", "value": 1.0, place: value}),))
    entry = assess("capture", CELLS, RECORDS)
    assert (entry["status"], entry["verdict"], entry["measured"]) == ("failed", None, [])
    assert entry["error"].startswith("judging failed: TypeError: ")
    write_json(tmp_path / "results.json", {"claims": [entry]})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    with pytest.raises(UnicodeEncodeError):
        write_json(path, {"a": "\ud800"})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_times_stand_in_keys_of_their_own(fake):
    def summary(seconds):
        records = {cell: Record(cell, {"value": 1.0}, seconds=seconds) for cell in CELLS}
        entries = [assess("capture", CELLS, records)]
        return summarise(
            entries, Settings(), records.values(), started=f"s{seconds}", finished=f"f{seconds}", seconds=seconds
        )

    def without_times(content):
        if isinstance(content, dict):
            return {k: without_times(v) for k, v in content.items() if k not in ("seconds", "started", "finished")}
        return [without_times(item) for item in content] if isinstance(content, list) else content

    assert summary(1.0) != summary(2.0)
    assert without_times(summary(1.0)) == without_times(summary(2.0))
    assert summary(1.0)["verdicts"]["reproduced"] == 1


def test_origins_that_differ_are_listed():
    origins = [{"device": "cpu", "torch": "2"}, {"device": "cuda", "torch": "2"}, {"device": "cpu", "cores": 2}]
    assert merged_origins(origins) == {"device": ["cpu", "cuda"], "torch": "2", "cores": 2}


def test_settings_are_kept_with_the_claims_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path)
    assert write_settings(tmp_path, Settings(), ["rate"]) == ["rate"]
    assert write_settings(tmp_path, Settings(), ["capture"]) == ["capture", "rate"]
    assert read_settings(tmp_path) == (Settings(), {"capture": (), "rate": ()})
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="settings"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"seeds": 3}, "quick-seeds-3"),
        ({"first_seed": 2}, "quick-from-2"),
        ({"data": "cifar10"}, "quick-cifar10"),
        ({"scale": "standard", "data": "cifar10"}, "standard"),
    ],
)
def test_other_settings_never_take_the_place_of_a_report(tmp_path, other, name):
    folder = tmp_path / "here"
    write_settings(folder, Settings(), ["capture", "rate"])
    before = (folder / "settings.json").read_bytes()
    with pytest.raises(LabError, match=rf"other settings \(quick; these are {name}\).*--out .*here/{name}$"):
        write_settings(folder, Settings(**other), ["rate"])
    assert (folder / "settings.json").read_bytes() == before


def test_each_claim_keeps_its_part(tmp_path):
    write_settings(tmp_path, Settings(part=("seed=0",)), ["capture", "depth"])
    write_settings(tmp_path, Settings(), ["rate"])
    assert read_settings(tmp_path)[1] == {"capture": ("seed=0",), "rate": (), "depth": ("seed=0",)}
    write_settings(tmp_path, Settings(part=("seed=1",)), ["rate", "depth"])  # a whole claim stays whole
    assert read_settings(tmp_path)[1] == {"capture": ("seed=0",), "rate": (), "depth": ("seed=1",)}
    write_settings(tmp_path, Settings(), ["capture", "depth"])
    assert read_settings(tmp_path) == (Settings(), dict.fromkeys(("capture", "rate", "depth"), ()))


def test_stored_records_are_those_that_exist(tmp_path):
    store = Store(tmp_path)
    store.save(RECORDS[CELLS[0]])
    assert list(stored_records(store, CELLS)) == [CELLS[0]]


def test_the_name_of_a_folder_tells_settings_apart_and_is_one_name():
    named = [
        Settings(),
        Settings(data="cifar10"),
        Settings(data="/some/where/cifar"),
        Settings(data="/some/where else/cifar"),
        Settings(data="../cifar"),
        Settings(data=".."),
        Settings(seeds=50),
        Settings(seeds=50, first_seed=7),
        Settings(scale="standard"),
        Settings(scale="standard", data="cifar10"),
    ]
    names = [settings_name(settings) for settings in named]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w-]+", name) for name in names), names
    assert settings_name(Settings(part=("seed=0",))) == "quick"
