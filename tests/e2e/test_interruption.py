"""Real claims, killed at five random moments and resumed, against an undisturbed run with another number of workers."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

CLAIMS = ("oscillation", "paradox-2d", "bound")
TIMES = {"seconds", "started", "finished"}


def command(out, workers):
    code = "from nonsmooth.cli import main; main()"
    return [sys.executable, "-c", code, "reproduce", *CLAIMS, "--out", str(out), "--workers", str(workers)]


def without_times(content):
    if isinstance(content, dict):
        return {name: without_times(value) for name, value in content.items() if name not in TIMES}
    return [without_times(item) for item in content] if isinstance(content, list) else content


def stored(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.parquet")}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL to a process group")
def test_five_kills_lose_nothing_and_change_no_bit(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    moments = random.Random(20240208)
    seen = {}
    for _ in range(5):
        process = subprocess.Popen(
            command(killed, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(3.0, 9.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = stored(killed)
        # What was stored is still there, and was not measured again.
        assert seen.items() <= now.items()
        seen = now
    subprocess.run(command(killed, 2), check=True, stdout=subprocess.DEVNULL)
    assert seen.items() <= stored(killed).items()
    subprocess.run(command(whole, 1), check=True, stdout=subprocess.DEVNULL)
    first, second = (json.loads((out / "results.json").read_text()) for out in (killed, whole))
    assert without_times(first) == without_times(second)
    assert all(claim["status"] == "judged" for claim in first["claims"])
