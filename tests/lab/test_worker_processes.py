"""Runs in processes of their own, undisturbed, interrupted and killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import toy_measures
import toy_run

from nonsmooth.lab import Cell, Context, LabError, Store, run
from nonsmooth.lab.values import checksum

pytestmark = [pytest.mark.processes, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def sums(store, cells):
    """The checksums of the cells that are stored."""
    records = {cell: store.load(cell) for cell in cells}
    return {cell.key: checksum(cell, record.values) for cell, record in records.items() if record is not None}


def undisturbed(tmp_path, cells):
    """What the cells give without processes and without interruption."""
    reference = Store(tmp_path / "reference")
    with ThreadPoolExecutor(1) as executor:
        run(cells, toy_measures.draws, reference, context=Context(), executor=executor)
    return sums(reference, cells)


@contextlib.contextmanager
def start(store, cells, workers, sleep=0.0, measure="draws"):
    """The toy command in a process group of its own, as from a shell; nothing of it survives the block."""
    command = [sys.executable, toy_run.__file__, *map(str, (store.folder, cells, workers, sleep, measure))]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def family(process_id):
    return psutil.Process(process_id).children(recursive=True)


def alive(processes):
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_measurement_has_one_thread_and_a_folder_of_its_own(store):
    cells = [Cell("toy", {}, seed=seed) for seed in range(3)]
    before = dict(os.environ)
    outcome = run(cells, toy_measures.environment, store, context=Context(), workers=2)
    assert dict(os.environ) == before
    for cell, record in outcome.records.items():
        assert (record["torch"], record["interop"], record["omp"]) == (1, 1, "1")
        assert record["scratch"] == cell.key
        assert record["ignores_interrupts"] is True
        assert record.origin["threads"] == 1
        assert record["process"] != os.getpid()
        assert not psutil.pid_exists(record["process"])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_bits_do_not_depend_on_the_workers(store, tmp_path, workers):
    cells = toy_run.plan(6, 0.0)
    run(cells, toy_measures.draws, store, context=Context(), workers=workers)
    assert sums(store, cells) == undisturbed(tmp_path, cells)


@pytest.mark.slow
def test_a_killed_worker_is_told_and_the_same_call_goes_on(store, toy_log, tmp_path):
    cells = [Cell("toy", {}, seed=seed, cost=1.0 / (seed + 1)) for seed in range(4)]  # seed 1 calibrates, then 0, 2, 3
    with pytest.raises(LabError, match=r"worker process ended unexpectedly.*memory.*kept.*same call goes on"):
        run(cells, toy_measures.dies, store, context=Context(), workers=1)
    stored = sums(store, cells)
    assert set(stored) == {cells[0].key, cells[1].key}
    assert [child for child in family(os.getpid()) if "resource_tracker" not in " ".join(child.cmdline())] == []
    measured = len(toy_log())
    run(cells, toy_measures.draws, store, context=Context(), workers=1)
    assert toy_log()[measured:] == [cells[2].key, cells[3].key]
    assert sums(store, cells) == undisturbed(tmp_path, cells)


@pytest.mark.slow
def test_a_worker_killed_while_it_sends_a_result_is_told_too(store):
    cells = [Cell("toy", {}, seed=seed, cost=1.0 / (seed + 1)) for seed in range(4)]
    with pytest.raises(LabError, match="worker process ended unexpectedly"):
        run(cells, toy_measures.dies_while_sending, store, context=Context(), workers=2)
    assert cells[1].key in sums(store, cells)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGTERM, signal.SIGHUP))]
)
def test_a_request_to_stop_keeps_what_is_finished_and_leaves_no_process(store, toy_log, number):
    with start(store, cells=4, workers=2, measure="holds_on") as process:
        wait_until(lambda: len(toy_log()) >= 2)  # one is stored, the others never end and ignore SIGTERM
        workers = family(process.pid)
        asked = time.monotonic()
        process.send_signal(number)
        output = process.communicate(timeout=10)[0]
    assert time.monotonic() - asked < 3
    assert process.returncode == 128 + number
    assert "interrupted. The records stored so far are kept" in output
    assert len(workers) >= 2
    wait_until(lambda: alive(workers) == [], seconds=1)  # the resource tracker of multiprocessing ends after its parent
    assert len(sums(store, toy_run.plan(4, 0.0))) == 1
    with store.lock():
        pass


@pytest.mark.slow
def test_an_interrupt_from_the_terminal_reaches_the_whole_group_and_makes_no_noise(store, toy_log):
    with start(store, cells=4, workers=2, measure="holds_on") as process:
        wait_until(lambda: len(toy_log()) >= 2)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT
    assert output.splitlines()[-1].startswith("interrupted")
    assert errors == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_the_whole_group_ends_in_order_and_leaks_no_semaphore(store, toy_log, number):
    """As from a batch system or a terminal that is closed; `timeout` sends its signal twice."""
    with start(store, cells=4, workers=2, measure="holds_on") as process:
        wait_until(lambda: len(toy_log()) >= 2)
        process.send_signal(number)
        os.killpg(process.pid, number)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert output.splitlines()[-1].startswith("interrupted")
    assert errors == ""  # multiprocessing warns there of semaphores that nobody freed


@pytest.mark.slow
def test_what_is_ignored_as_under_nohup_stays_ignored(store, toy_log):
    command = ["nohup", sys.executable, toy_run.__file__, str(store.folder), "4", "2", "0.4", "draws"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(toy_log()) >= 2)
        os.killpg(process.pid, signal.SIGHUP)
        output, _ = process.communicate(timeout=90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    assert output.splitlines()[-1] == "complete 4"


@pytest.mark.slow
def test_an_interrupt_while_a_large_result_is_sent_does_not_hang(store, toy_log):
    for _ in range(2):
        seen = len(toy_log())
        with start(store, cells=40, workers=2, measure="floods") as process:
            wait_until(lambda seen=seen: len(toy_log()) >= seen + 4)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
        assert process.returncode == 128 + signal.SIGINT


@pytest.mark.slow
def test_workers_of_a_killed_run_end_by_themselves(store, toy_log):
    with start(store, cells=4, workers=2, measure="holds_on") as process:
        wait_until(lambda: len(toy_log()) >= 3)
        workers = family(process.pid)
        process.kill()
        process.communicate()
    assert len(workers) >= 2
    wait_until(lambda: alive(workers) == [], seconds=5)
    with store.lock():
        pass


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_gives_the_same_bits_and_measures_nothing_stored_again(
    store, toy_log, tmp_path
):
    cells = toy_run.plan(12, 0.2)
    moments = [0.4, 1.5, 2.1, 2.4, 3.0]
    for moment in moments:
        stored, seen = sums(store, cells), len(toy_log())
        with start(store, cells=len(cells), workers=2, sleep=0.2) as process:
            with_workers = []
            deadline = time.monotonic() + moment
            while time.monotonic() < deadline and process.poll() is None:
                with_workers = family(process.pid) or with_workers
                time.sleep(0.02)
            process.kill()
            process.communicate()
        wait_until(lambda processes=with_workers: alive(processes) == [], seconds=8)
        assert not set(toy_log()[seen:]) & set(stored)
        assert stored.items() <= sums(store, cells).items()
    stored, seen = sums(store, cells), len(toy_log())
    with start(store, cells=len(cells), workers=1, sleep=0.2) as process:
        assert process.communicate(timeout=60)[0].splitlines()[-1] == f"complete {len(cells)}"
    assert sorted(toy_log()[seen:]) == sorted(cell.key for cell in cells if cell.key not in stored)
    assert sums(store, cells) == undisturbed(tmp_path, cells)
    assert [path.suffix for path in (store.folder / "cells").iterdir()] == [".parquet"] * len(cells)
    assert list((store.folder / "scratch").iterdir()) == []
