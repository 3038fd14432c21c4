"""The commands as a user types them, on the cheapest of the paper's claims."""

import html
import json
import subprocess
import sys

import pytest


def nonsmooth(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", "from nonsmooth.cli import main; main()", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.slow
def test_reproduce_judge_again_and_repeat(tmp_path):
    done = nonsmooth(tmp_path, "reproduce", "paradox-2d", "--workers", "1")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "quick"
    first = json.loads((out / "results.json").read_text())
    (claim,) = first["claims"]
    assert claim["status"] == "judged"
    assert claim["verdict"] in done.stdout.replace("\n", " ")
    assert claim["because"] in html.unescape((out / "report" / "index.html").read_text())

    assert nonsmooth(tmp_path, "report", "results/quick").returncode == 0
    assert json.loads((out / "results.json").read_text()) == first  # the times of the run are kept

    assert nonsmooth(tmp_path, "reproduce", "paradox-2d", "--workers", "1", "--fresh", "--out", "anew").returncode == 0
    anew = json.loads((tmp_path / "anew" / "results.json").read_text())
    for content in (first, anew):
        for name in ("seconds", "started", "finished"):
            del content[name]
        del content["claims"][0]["seconds"]
    assert anew == first
