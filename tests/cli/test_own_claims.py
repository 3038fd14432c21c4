"""Claims of the user's own files and of other packages, from the command line to the worker processes."""

import json
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nonsmooth.claims.framework import registry

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-claim.md"
CODE = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The claim of the documentation in a file, with a module beside it; nothing of it is known afterwards."""
    monkeypatch.setattr(registry, "_of_files", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine" / "length_of_step.py").parent.mkdir()
    (tmp_path / "mine" / "length_of_step.py").write_text("STEP = 0.01\n", encoding="utf-8")
    path = tmp_path / "mine" / "two_cycle.py"
    path.write_text(CODE.replace("0.01 * slope", "length_of_step.STEP * slope") + "\nimport length_of_step\n")
    yield path
    for name in ("nonsmooth_claim_two_cycle", "length_of_step"):
        sys.modules.pop(name, None)


def claims_of(folder):
    return json.loads((folder / "results.json").read_text())["claims"]


def test_a_claim_of_a_file_is_run_stored_and_reported(command, own, tmp_path):
    done = command("reproduce", str(own), "--seeds", "8")
    assert done.returncode == 0, done.stderr
    assert "two-cycle: reproduced, the kink makes the cycle, stands under 5 of 5 (stated: alternates;" in done.stdout
    out = tmp_path / "results" / "quick-seeds-8"
    (entry,) = claims_of(out)
    assert (entry["id"], entry["verdict"], entry["cells"], entry["seeds"]["count"]) == (
        "two-cycle",
        "reproduced",
        16,
        8,
    )
    page = (out / "report" / "index.html").read_text()
    assert "A constant step ends in a two-cycle" in page
    assert "Kumar" not in page  # a report without a claim of the paper is none of it
    words = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.S)
    assert "The explanation" in words
    assert not re.search(r"\bpaper", words, re.IGNORECASE)
    assert not re.search(r"\bpaper", done.stdout, re.IGNORECASE)
    again = command("reproduce", str(own), "--seeds", "8")
    assert "16 of them measured already" in again.stdout


def test_a_report_keeps_a_claim_whose_file_is_not_named(command, own, monkeypatch, tmp_path):
    """A folder from elsewhere never says which code to run: the user names the file."""
    assert command("reproduce", "capture", str(own), "--out", "here").returncode == 0
    assert [entry["id"] for entry in claims_of(tmp_path / "here")] == ["capture", "two-cycle"]
    monkeypatch.setattr(registry, "_of_files", {})  # another process
    without = command("reproduce", "capture", "--out", "here")
    assert "two-cycle" in without.stderr
    assert "files are named" in without.stderr
    assert [entry["id"] for entry in claims_of(tmp_path / "here")] == ["capture"]
    named = command("report", "here", str(own))
    assert named.returncode == 0, named.stderr
    assert [entry["id"] for entry in claims_of(tmp_path / "here")] == ["capture", "two-cycle"]


def test_claims_of_the_paper_beside_those_of_a_file_keep_their_words(command, own, tmp_path):
    done = command("reproduce", "capture", str(own), "--out", "here")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^capture: .*\(paper: ", done.stdout, re.MULTILINE)
    assert re.search(r"^two-cycle: .*\(stated: ", done.stdout, re.MULTILINE)
    page = (tmp_path / "here" / "report" / "index.html").read_text()
    sections = dict(re.findall(r'<section class="claim" id="([^"]+)"(.*?)</section>', page, re.S))
    assert "The paper’s explanation" in sections["capture"]
    assert "The explanation" in sections["two-cycle"]


@pytest.fixture
def edited(own, monkeypatch):
    """Change the file, as an editor does between two runs of the program."""

    def edit(old, new):
        text = own.read_text(encoding="utf-8")
        assert old in text
        own.write_text(text.replace(old, new), encoding="utf-8")
        monkeypatch.setattr(registry, "_of_files", {})  # another process

    return edit


def warnings_of(done):
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]


def test_a_file_that_changed_since_its_cells_were_measured_is_told_in_a_line(command, own, edited):
    run = ("reproduce", str(own), "--out", "here", "--seeds", "8")
    assert warnings_of(command(*run)) == []
    assert warnings_of(command(*run)) == []
    edited("length_of_step.STEP * slope", "0.5 * length_of_step.STEP * slope")
    for _ in range(2):  # as long as the old cells are used
        (warning,) = warnings_of(command(*run))
        assert str(own) in warning
        assert "raise the `version` of its cells, or add --fresh" in warning
    assert warnings_of(command(*run, "--fresh")) == []
    assert warnings_of(command(*run)) == []


def test_a_file_that_changed_in_what_is_not_measured_is_not_told(command, own, edited):
    run = ("reproduce", str(own), "--out", "here", "--seeds", "8")
    assert warnings_of(command(*run)) == []
    edited("def draw(", "# Drawn anew.\n\n\ndef draw(")
    edited("a tenth of the step", "less than the step")
    assert warnings_of(command(*run)) == []


def test_a_file_whose_cells_have_another_version_now_is_not_told(command, own, edited):
    run = ("reproduce", str(own), "--out", "here", "--seeds", "8")
    assert warnings_of(command(*run)) == []
    edited("length_of_step.STEP * slope", "0.5 * length_of_step.STEP * slope")
    edited('part="walk"', 'part="walk", version=2')
    assert warnings_of(command(*run)) == []
    assert warnings_of(command(*run)) == []


@pytest.mark.parametrize("content", ["{", "[1]", '{"two-cycle": 3}'])
def test_hashes_that_cannot_be_read_are_written_anew(command, own, tmp_path, content):
    run = ("reproduce", str(own), "--out", "here", "--seeds", "8")
    assert warnings_of(command(*run)) == []
    (tmp_path / "here" / "claim-files.json").write_text(content)
    (warning,) = warnings_of(command(*run))
    assert "claim-files.json is written anew" in warning
    assert warnings_of(command(*run)) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "there is no file"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "cannot be run: SystemExit: 3"),
        ("x = 1", "it has no CLAIM"),
        (CODE.replace("@study.figures", ""), "it has no function under @study.figures"),
        (CODE.replace('id="two-cycle"', 'id="capture"'), "the id 'capture', which another claim has"),
    ],
)
def test_a_file_that_is_no_claim_is_refused_in_a_sentence(command, own, code, words):
    if code is None:
        own.unlink()
    else:
        own.write_text(code, encoding="utf-8")
    done = command("reproduce", str(own), TERMINAL_WIDTH="1000", COLUMNS="1000")
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_claim_that_another_package_announces_is_known_by_its_id(command, own, monkeypatch):
    monkeypatch.syspath_prepend(str(own.parent))
    points = {"two-cycle": EntryPoint("two-cycle", "two_cycle", registry.ENTRY_POINTS)}
    monkeypatch.setattr(registry, "_announced", lambda: points)
    assert "two-cycle: A constant step ends in a two-cycle" in command("claims").stdout
    done = command("reproduce", "two-cycle", "--out", "here")
    assert done.returncode == 0, done.stderr
    assert "Verdicts: 1 reproduced" in done.stdout
    assert "two-cycle" not in command("reproduce", "--out", "paper").stdout  # all means: of the paper
    points["other"] = EntryPoint("other", "two_cycle", registry.ENTRY_POINTS)
    with pytest.raises(ValueError, match="'other' leads to a claim with the id 'two-cycle'"):
        registry.load_claim("other")


@pytest.mark.slow
def test_worker_processes_know_the_claim_of_a_file(shell, own, tmp_path):
    done = shell("reproduce", str(own), "--seeds", "8", "--out", "here", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert claims_of(tmp_path / "here")[0]["verdict"] == "reproduced"
