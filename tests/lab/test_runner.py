import dataclasses
import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
import toy_measures

from nonsmooth.lab import Cell, Context, LabError, Record, SilentWatcher, Store, run
from nonsmooth.lab import runner as runner_module
from nonsmooth.lab.values import checksum


class Notes(SilentWatcher):
    """A watcher that writes down everything."""

    def __init__(self):
        self.events = []
        self.warnings = []

    def planned(self, cells, cached):
        self.events.append(("planned", cells, cached))

    def estimated(self, seconds):
        self.events.append(("estimated", seconds))

    def remaining(self, seconds):
        self.events.append(("remaining", seconds))

    def progressed(self, cell, fraction):
        self.events.append(("progressed", cell.seed, fraction))

    def finished(self, cell, record):
        self.events.append(("finished", cell.seed, record))

    def failed(self, cell, message):
        self.events.append(("failed", cell.seed, message))

    def warned(self, message):
        self.warnings.append(message)

    def seeds(self, kind):
        return [event[1] for event in self.events if event[0] == kind]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


@pytest.fixture
def threads():
    """An executor of threads of this process: quicker to start than processes, and the same to the runner."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def toys(count, cost=0.1, **parameters):
    return [Cell("toy", parameters, seed=seed, cost=cost) for seed in range(count)]


def sums(outcome):
    return {cell: checksum(cell, record.values) for cell, record in outcome.records.items()}


def test_records_come_in_the_order_asked_for_as_stored(store, threads):
    cells = toys(5)[::-1]
    outcome = run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    assert list(outcome.records) == cells
    assert outcome.failures == {}
    for cell, record in outcome.records.items():
        assert record == store.load(cell)
        assert isinstance(record["product"], list)
        assert record.seconds > 0
        assert record.origin["threads"] == 1


def test_no_cells_give_an_empty_outcome(store):
    outcome = run([], toy_measures.draws, store, context=Context())
    assert (outcome.records, outcome.failures) == ({}, {})


def test_cells_are_measured_once_however_often_asked_for(store, threads, toy_log):
    cells = toys(3)
    first = run([*cells, *cells], toy_measures.draws, store, context=Context(), executor=threads)
    notes = Notes()
    again = run(cells, toy_measures.draws, store, context=Context(), executor=threads, watcher=notes)
    assert sorted(toy_log()) == sorted(cell.key for cell in cells)
    assert again.records == first.records
    assert notes.events == [("planned", 3, 3)]


def test_fresh_measures_anew_what_is_asked_for_and_only_that(store, threads, toy_log):
    cells = toys(3)
    first = run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    kept = store.path(cells[2]).read_bytes()
    again = run(cells[:2], toy_measures.draws, store, context=Context(), executor=threads, fresh=True)
    assert len(toy_log()) == 5
    assert sums(again) == {cell: total for cell, total in sums(first).items() if cell in cells[:2]}
    assert store.path(cells[2]).read_bytes() == kept


def test_a_cell_of_a_newer_version_is_measured(store, threads, toy_log):
    cell = toys(1)[0]
    newer = dataclasses.replace(cell, version=2)
    run([cell], toy_measures.draws, store, context=Context(), executor=threads)
    run([newer], toy_measures.draws, store, context=Context(), executor=threads)
    assert toy_log() == [cell.key, newer.key]


def test_a_failing_cell_does_not_stop_the_others_and_is_tried_again(store, threads):
    cells, notes = toys(4), Notes()
    outcome = run(cells, toy_measures.fails_when_odd, store, context=Context(), executor=threads, watcher=notes)
    assert [cell.seed for cell in outcome.records] == [0, 2]
    assert sorted(cell.seed for cell in outcome.failures) == [1, 3]
    message = outcome.failures[cells[1]]
    assert "ArithmeticError: seed 1 is odd" in message
    assert "toy_measures.py" in message
    assert sorted(notes.seeds("failed")) == [1, 3]
    repaired = run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    assert list(repaired.records) == cells


@pytest.mark.parametrize(
    ("measure", "words"), [(toy_measures.returns_a_set, "value 'bad' holds {1, 2}"), (toy_measures.exits, "SystemExit")]
)
def test_values_that_cannot_be_stored_and_exits_are_failures_of_the_cell(store, threads, measure, words):
    outcome = run(toys(2), measure, store, context=Context(), executor=threads)
    assert outcome.records == {}
    assert all(words in message for message in outcome.failures.values())


class RefusingExecutor(Executor):
    """An executor that could not send its tasks."""

    def submit(self, function, /, *args):
        future = Future()
        future.set_exception(pickle.PicklingError("no way there"))
        return future


def test_a_task_that_could_not_be_sent_is_a_failure_of_the_cell(store):
    outcome = run(toys(2), toy_measures.draws, store, context=Context(), executor=RefusingExecutor())
    assert list(outcome.failures.values()) == ["PicklingError: no way there"] * 2


def test_a_measurement_that_another_process_cannot_import_is_refused_at_once(store):
    with pytest.raises(TypeError, match=r"measure is .*lambda.*import by name"):
        run(toys(1), lambda cell, context: {}, store, context=Context())
    assert not store.folder.exists()


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_must_be_positive(store, workers):
    with pytest.raises(ValueError, match=f"workers is {workers}"):
        run(toys(1), toy_measures.draws, store, context=Context(), workers=workers)


def test_workers_are_capped_at_the_cores_with_a_message(store, monkeypatch):
    monkeypatch.setattr(runner_module, "available_cores", lambda: 1)
    notes = Notes()
    outcome = run(toys(2), toy_measures.draws, store, context=Context(), workers=64, watcher=notes)
    assert notes.warnings == ["64 workers were asked for, but 1 cores are available; 1 are used"]
    assert len(outcome.records) == 2


def test_a_second_run_in_the_folder_is_refused(store, threads):
    with Store(store.folder).lock(), pytest.raises(LabError, match="another run is using"):
        run(toys(1), toy_measures.draws, store, context=Context(), executor=threads)


def test_a_damaged_record_is_told_and_measured_again(store, threads, toy_log):
    cells, notes = toys(2), Notes()
    first = run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    store.path(cells[1]).write_bytes(store.path(cells[1]).read_bytes()[:-100])
    again = run(cells, toy_measures.draws, store, context=Context(), executor=threads, watcher=notes)
    assert sums(again) == sums(first)
    assert toy_log()[2:] == [cells[1].key]
    assert [cells[1].key in message for message in notes.warnings] == [True]


def test_nobody_watching_still_hears_of_a_damaged_record(store, threads):
    cells = toys(1)
    run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    store.path(cells[0]).write_bytes(b"")
    with pytest.warns(UserWarning, match="not a whole record"):
        run(cells, toy_measures.draws, store, context=Context(), executor=threads)


def test_a_full_disk_stops_the_run_and_keeps_what_was_stored(store, threads, monkeypatch, toy_log):
    cells = toys(6)
    saved, save = [], Store.save

    def fills_up(self, record):
        if len(saved) == 2:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", no_space)
                save(self, record)
        save(self, record)
        saved.append(record.cell)

    def no_space(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", fills_up)
        with pytest.raises(LabError, match="No space left on device"):
            run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    assert sorted(path.stem for path in (store.folder / "cells").iterdir()) == sorted(cell.key for cell in saved)
    outcome = run(cells, toy_measures.draws, store, context=Context(), executor=threads)
    assert list(outcome.records) == cells
    assert [toy_log().count(cell.key) for cell in saved] == [1, 1]


def test_the_watcher_hears_the_plan_first_then_the_estimate_after_one_cell(store, threads):
    cells = [Cell("toy", {"sleep": 0.6}, seed=seed, cost=cost) for seed, cost in enumerate((0.01, 2.9, 2.2, 4.0))]
    notes = Notes()
    outcome = run(cells, toy_measures.draws, store, context=Context(), executor=threads, watcher=notes)
    kinds = [event[0] for event in notes.events if event[0] != "progressed"]
    assert kinds[:3] == ["planned", "finished", "estimated"]
    assert notes.events[0] == ("planned", 4, 0)
    assert notes.seeds("finished")[0] == 2  # the cheapest of those that take two seconds
    assert "remaining" in kinds
    estimated = notes.seeds("estimated")[0]
    first = outcome.records[cells[2]].seconds
    # one worker, as the argument says, for the rest: their costs times the first cell's seconds per cost
    assert estimated == pytest.approx(first + first / 2.2 * 6.91, abs=0.5)


def test_progress_inside_a_measurement_reaches_the_watcher_throttled(store, threads):
    notes = Notes()
    run(toys(1, sleep=1.6), toy_measures.draws, store, context=Context(), executor=threads, watcher=notes)
    fractions = [event[2] for event in notes.events if event[0] == "progressed"]
    assert fractions == sorted(set(fractions))
    assert set(fractions) <= {0.25, 0.5, 0.75, 1.0}
    assert len(fractions) >= 2


def test_nothing_but_records_is_left_behind(store, threads):
    cells = toys(3)
    run(cells, toy_measures.leaves_a_checkpoint, store, context=Context(), executor=threads)
    assert list((store.folder / "scratch").iterdir()) == []
    assert {path.stem for path in (store.folder / "cells").iterdir()} == {cell.key for cell in cells}


def test_a_checkpoint_of_a_failed_cell_is_found_by_the_next_run(store, threads):
    cells = toys(1)
    first = run(cells, toy_measures.succeeds_from_its_checkpoint, store, context=Context(), executor=threads)
    assert "no checkpoint" in first.failures[cells[0]]
    second = run(cells, toy_measures.succeeds_from_its_checkpoint, store, context=Context(), executor=threads)
    assert second.records[cells[0]]["found"] is True


def test_device_and_data_reach_the_measurement(store, threads):
    context = Context(device="cpu", data="somewhere")
    outcome = run(toys(1), toy_measures.tells_its_context, store, context=context, executor=threads)
    (record,) = outcome.records.values()
    assert dict(record.values) == {"device": "cpu", "data": "somewhere"}


def test_a_record_that_vanishes_is_an_error_and_not_a_guess(store, threads, monkeypatch):
    monkeypatch.setattr(Store, "save", lambda self, record: None)
    with pytest.raises(LabError, match="was stored and has gone"):
        run(toys(1), toy_measures.draws, store, context=Context(), executor=threads)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bits(store, threads, tmp_path):
    distributed = pytest.importorskip("distributed")
    cells = toys(4)
    expected = run(cells, toy_measures.draws, Store(tmp_path / "threads"), context=Context(), executor=threads)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        outcome = run(cells, toy_measures.draws, store, context=Context(), executor=client.get_executor())
    assert outcome.failures == {}
    assert sums(outcome) == sums(expected)
    assert isinstance(outcome.records[cells[0]], Record)


def test_importing_the_lab_does_not_load_torch():
    code = "import sys, nonsmooth.lab; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
