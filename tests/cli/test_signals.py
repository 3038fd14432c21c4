"""The command under signals: an orderly end, its exit code, and not a word of semaphores."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

CODE = "from nonsmooth.cli import main; main()"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")]


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)


def begin(environment, folder, before="", **streams):
    """A run of the invented claims that waits in its second cell."""
    started = folder / "started"
    streams = streams or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [sys.executable, "-c", before + CODE, "reproduce", "--out", "here", "--workers", "1"],
        env={**environment, "FAKE_STARTED": str(started)},
        cwd=folder,
        text=True,
        start_new_session=True,
        **streams,
    )
    return process, started


@pytest.mark.parametrize("to_group", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_as_ctrl_c(environment, tmp_path, number, to_group):
    process, started = begin(environment, tmp_path)
    try:
        wait_for(started, process)
        process.send_signal(number)
        if to_group:  # a second time, as `timeout` does
            os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + number
    assert "The same command goes on from there." in errors
    assert "semaphore" not in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "here" / "cells").glob("*.parquet"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_before_the_run_begins_ends_quietly(environment, tmp_path, number):
    begun = tmp_path / "begun"
    before = (
        "import nonsmooth.cli.reproduction as r, time, pathlib\n"
        f"r.pick_claims = lambda names: (pathlib.Path({str(begun)!r}).touch(), time.sleep(60))\n"
    )
    process, _ = begin(environment, tmp_path, before)
    try:
        wait_for(begun, process)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, output, errors) == (128 + number, "", "")


def test_under_nohup_a_closed_terminal_ends_nothing(environment, tmp_path):
    before = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process, started = begin(environment, tmp_path, before)
    try:
        wait_for(started, process)
        os.killpg(process.pid, signal.SIGHUP)
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_terminal_that_is_closed_ends_the_run_in_order(environment, tmp_path):
    """Live progress draws on it from a thread of its own when it goes."""
    import pty  # noqa: PLC0415  POSIX only

    parent, child = pty.openpty()
    attach = "import fcntl, termios; fcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"
    errors = (tmp_path / "errors").open("w+", encoding="utf-8")
    process, started = begin(
        {**environment, "TERM": "xterm"}, tmp_path, attach, stdin=child, stdout=child, stderr=errors
    )
    os.close(child)
    try:
        deadline = time.monotonic() + 120
        os.set_blocking(parent, False)
        while not started.exists() and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                os.read(parent, 65536)
            time.sleep(0.05)
        assert started.exists()
        time.sleep(0.5)
        os.close(parent)
        process.wait(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    errors.seek(0)
    said = errors.read()
    errors.close()
    assert process.returncode == 128 + signal.SIGHUP, said
    assert "Traceback" not in said
    assert "semaphore" not in said
    assert "The same command goes on from there." in said
