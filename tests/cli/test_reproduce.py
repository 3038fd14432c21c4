"""Whole runs of the command with invented claims."""

import json
import os
import signal
import subprocess
import sys
import time

import filelock
import pytest


def read(folder):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads((folder / "results.json").read_text(), parse_constant=refuse)


def without_times(content):
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if k not in ("seconds", "started", "finished")}
    return [without_times(item) for item in content] if isinstance(content, list) else content


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


def test_a_run_ends_with_a_table_results_and_a_report(command, tmp_path):
    done = command("reproduce", "--workers", "1")
    out = tmp_path / "results" / "quick"
    assert done.returncode == 0, done.stderr
    assert "2 claims, 7 cells" in done.stdout
    assert "capture: reproduced. The largest value is 2.0." in done.stdout
    assert "Total time:" in done.stdout
    assert "results/quick/results.json" in done.stdout
    assert "results/quick/report/index.html" in done.stdout
    # Without a terminal: a line for each claim however long, the number of each verdict, and no boxes.
    lines = done.stdout.splitlines()
    assert "capture: reproduced (paper: 2; ours: 2.0; control: -2)" in lines
    assert "Verdicts: 1 reproduced; 1 inconclusive" in lines
    assert not set("┃│…━") & set(done.stdout)
    results = read(out)
    assert [(c["id"], c["verdict"]) for c in results["claims"]] == [("capture", "reproduced"), ("rate", "inconclusive")]
    assert results["claims"][0]["measured"] == [
        {"name": "largest", "label": "largest value", "value": 2.0, "low": 2.0, "high": "inf", "count": 6, "unit": ""}
    ]
    assert results["claims"][0]["rule"].startswith("Reproduced, if")
    assert results["verdicts"]["inconclusive"] == 1
    assert results["settings"] == {"scale": "quick", "data": "digits", "seeds": None, "first_seed": 0, "part": []}
    assert "torch" in results["origin"]
    page = (out / "report" / "index.html").read_text()
    assert "The largest value is 2.0." in page
    assert 'id="capture-figure-1-1"' in page

    before, earlier = stamps(out), results
    again = command("reproduce")
    assert again.returncode == 0
    assert "7 of them measured already" in again.stdout
    assert stamps(out) == before
    assert without_times(read(out)) == without_times(earlier)

    (out / "results.json").unlink()
    (out / "report" / "index.html").unlink()
    redrawn = command("report", "results/quick")
    assert redrawn.returncode == 0, redrawn.stderr
    assert without_times(read(out)) == without_times(earlier)
    assert (out / "report" / "index.html").exists()


def test_settings_reach_the_cells_and_the_verdict_follows_the_evidence(command, tmp_path):
    done = command("reproduce", "capture", "--seeds", "2", "--seed", "5", "--out", "here", "--workers", "1")
    assert done.returncode == 0, done.stderr
    (claim,) = read(tmp_path / "here")["claims"]
    assert claim["verdict"] == "not reproduced"
    assert claim["seeds"] == {"first": 5, "last": 6, "count": 2}
    assert claim["cells"] == 4


def test_a_failed_cell_costs_its_claim_the_verdict_and_nothing_else(command, tmp_path):
    done = command("reproduce", "--out", "here", FAKE_FAILS="plain 1")
    assert done.returncode == 1
    assert "Failed: capture: 1 of 6 cells failed: ValueError: an invented failure" in done.stderr
    assert "rate: inconclusive" in done.stdout
    capture, rate = read(tmp_path / "here")["claims"]
    assert (capture["verdict"], capture["status"], capture["error"]) == (None, "failed", "1 of 6 cells failed")
    assert rate["verdict"] == "inconclusive"
    assert "an invented failure" in (tmp_path / "here" / "failures.txt").read_text()
    assert "1 of 6 cells failed" in (tmp_path / "here" / "report" / "index.html").read_text()

    assert command("reproduce", "--out", "here").returncode == 0
    assert read(tmp_path / "here")["claims"][0]["verdict"] == "reproduced"
    assert not (tmp_path / "here" / "failures.txt").exists()


def test_what_fails_after_measuring_is_said_and_the_rest_goes_on(command, tmp_path):
    assert command("reproduce", "--out", "here").returncode == 0
    judged = command("report", "here", FAKE_JUDGE_FAILS="1")
    assert judged.returncode == 1
    assert "judging failed: RuntimeError: an invented judge's failure" in " ".join(judged.stderr.split())
    assert [c["verdict"] for c in read(tmp_path / "here")["claims"]] == [None, "inconclusive"]
    drawn = command("report", "here", FAKE_DRAW_FAILS="1")
    assert drawn.returncode == 1
    assert "drawing failed" in drawn.stderr
    assert [c["verdict"] for c in read(tmp_path / "here")["claims"]] == ["reproduced", "inconclusive"]


def test_parts_share_the_folder(command, tmp_path):
    part = command("reproduce", "capture", "--where", "kind=plain", "--out", "here")
    assert part.returncode == 0, part.stderr
    (entry,) = read(tmp_path / "here")["claims"]
    assert (entry["cells"], entry["status"]) == (3, "judged")
    assert entry["notes"][0] == "Judged on a part of its plan, the cells with kind=plain."
    before = stamps(tmp_path / "here")
    whole = command("reproduce", "capture", "--out", "here")
    assert whole.returncode == 0
    (entry,) = read(tmp_path / "here")["claims"]
    assert entry["cells"] == 6
    assert not any("part of its plan" in note for note in entry["notes"])
    assert before.items() <= stamps(tmp_path / "here").items()
    # Another claim joins the report, and a part of what is whole leaves it whole.
    command("reproduce", "rate", "--out", "here")
    assert [c["id"] for c in read(tmp_path / "here")["claims"]] == ["capture", "rate"]
    before = without_times(read(tmp_path / "here"))
    assert command("reproduce", "capture", "--where", "kind=plain", "--out", "here").returncode == 0
    assert without_times(read(tmp_path / "here")) == before


def test_a_whole_claim_joins_one_that_was_asked_for_in_part(command, tmp_path):
    assert command("reproduce", "capture", "--where", "kind=plain", "--out", "here").returncode == 0
    assert command("reproduce", "rate", "--out", "here").returncode == 0
    capture, rate = read(tmp_path / "here")["claims"]
    assert (capture["cells"], capture["status"], rate["status"]) == (3, "judged", "judged")
    page = (tmp_path / "here" / "report" / "index.html").read_text()
    assert "nonsmooth reproduce capture --scale quick --data digits --where kind=plain<" in page
    assert "nonsmooth reproduce rate --scale quick --data digits<" in page


def test_other_settings_never_throw_away_a_report(command, tmp_path):
    assert command("reproduce", "--out", "here").returncode == 0
    before = {p: p.read_bytes() for p in (tmp_path / "here").rglob("*") if p.is_file()}
    refused = command("reproduce", "rate", "--out", "here", "--seeds", "2")
    assert refused.returncode == 1
    assert "--out here/quick-seeds-2" in refused.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "here").rglob("*") if p.is_file()} == before
    # Without --out, each settings have a folder of their own.
    assert command("reproduce").returncode == 0
    assert command("reproduce", "rate", "--seeds", "2").returncode == 0
    assert [c["id"] for c in read(tmp_path / "results" / "quick")["claims"]] == ["capture", "rate"]
    assert [c["id"] for c in read(tmp_path / "results" / "quick-seeds-2")["claims"]] == ["rate"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
def test_ctrl_c_ends_soon_and_the_same_command_goes_on(shell, environment, tmp_path):
    started = tmp_path / "started"
    # What runs in the background of a script is started with Ctrl-C ignored, and its children inherit that.
    unignored = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{unignored}; from nonsmooth.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "reproduce", "--out", "here", "--workers", "1"],
        env={**environment, "FAKE_STARTED": str(started)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not started.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(0.5)
        asked = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - asked < 10  # a second or two, on a machine that does nothing else
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "The same command goes on from there." in errors
    assert "Traceback" not in errors
    before = stamps(tmp_path / "here")
    assert before
    done = shell("reproduce", "--out", "here", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert before.items() <= stamps(tmp_path / "here").items()
    assert read(tmp_path / "here")["claims"][0]["verdict"] == "reproduced"


def test_a_folder_in_use_is_refused_in_one_line(command, tmp_path):
    (tmp_path / "here").mkdir()
    with filelock.FileLock(tmp_path / "here" / "lock"):
        done = command("reproduce", "--out", "here")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: another run is using here")
    assert len(done.stderr.strip().splitlines()) == 1
