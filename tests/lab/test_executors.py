"""Executors that somebody else closes, that nobody works for, or that are busy."""

import ast
import re
import threading
import time
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import toy_measures

from nonsmooth.lab import Cell, Context, LabError, SilentWatcher, Store, crew, run

pytestmark = pytest.mark.processes

CELLS = [Cell("toy", {}, seed=seed, cost=1.0 / (seed + 1)) for seed in range(4)]


class Listening(SilentWatcher):
    def __init__(self):
        self.warnings, self.done = [], 0

    def warned(self, message):
        self.warnings.append(message)

    def finished(self, cell, record):
        self.done += 1


class Closing(Executor):
    """Measures the first cell, and fails for the others in one of the ways that clusters have."""

    def __init__(self, way):
        self.way, self.submitted = way, 0

    def submit(self, function, /, *arguments, **options):
        self.submitted += 1
        future = Future()
        if self.submitted == 1:
            future.set_running_or_notify_cancel()
            future.set_result(function(*arguments, **options))
        elif self.way == "refuses":
            raise RuntimeError("cannot schedule new futures after shutdown")
        elif self.way == "its own error":
            raise type("ClosedClientError", (Exception,), {})("Client is closed")
        elif self.way == "cancels":
            future.cancel()
            future.set_running_or_notify_cancel()
        elif self.way == "cancels later":
            threading.Timer(0.2, lambda: future.cancel() and future.set_running_or_notify_cancel()).start()
        elif self.way == "error":
            future.set_exception(CancelledError("lost dependencies"))
        return future


@pytest.mark.parametrize("way", ["refuses", "its own error", "cancels", "cancels later", "error"])
def test_an_executor_that_is_closed_is_one_clear_line_and_what_is_finished_stays(tmp_path, way):
    store, watcher = Store(tmp_path), Listening()
    with pytest.raises(
        LabError, match=r"executor was closed.*records stored so far are kept.*same call goes on"
    ) as told:
        run(CELLS, toy_measures.draws, store, context=Context(), executor=Closing(way), watcher=watcher)
    assert len(str(told.value).splitlines()) == 1
    assert sum(store.path(cell).exists() for cell in CELLS) == 1
    with ThreadPoolExecutor(1) as executor:
        outcome = run(CELLS, toy_measures.draws, store, context=Context(), executor=executor, watcher=watcher)
    assert (len(outcome.records), watcher.done) == (4, 4)


def test_a_measurement_that_cannot_be_sent_is_not_called_a_closed_executor(tmp_path):
    class Pickling(Executor):
        def submit(self, function, /, *arguments, **options):
            raise TypeError("cannot pickle it")

    with pytest.raises(TypeError, match="cannot pickle it"):
        run(CELLS, toy_measures.draws, Store(tmp_path), context=Context(), executor=Pickling())


def test_without_workers_it_says_so_once_and_goes_on_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_PATIENCE", 0.3)
    watcher = Listening()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(time.sleep, 2.0)  # busy with other work
        outcome = run(CELLS, toy_measures.draws, Store(tmp_path), context=Context(), executor=executor, watcher=watcher)
    assert len(outcome.records) == 4
    (warning,) = watcher.warnings
    assert warning.startswith("no worker has taken a cell yet")


def test_a_worker_that_takes_its_time_is_not_called_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_PATIENCE", 0.3)
    watcher, slow = Listening(), [Cell("toy", {"sleep": 1.5}, seed=0)]
    with ThreadPoolExecutor(1) as executor:
        run(slow, toy_measures.draws, Store(tmp_path), context=Context(), executor=executor, watcher=watcher)
    assert watcher.warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("closes", ["client", "cluster", "executor"])
def test_a_dask_cluster_that_closes_while_it_measures_is_one_clear_line(tmp_path, closes):
    distributed = pytest.importorskip("distributed")
    cells = [Cell("toy", {"sleep": 1.0 + seed}, seed=seed, cost=1.0 / (seed + 1)) for seed in range(3)]
    cluster = distributed.LocalCluster(
        n_workers=1,
        processes=False,
        threads_per_worker=1,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )
    client = distributed.Client(cluster)
    executor = client.get_executor()
    close = {"client": client.close, "cluster": cluster.close, "executor": lambda: executor.shutdown(wait=False)}

    class ClosesAfterOne(Listening):
        def finished(self, cell, record):
            super().finished(cell, record)
            threading.Timer(0.5, close[closes]).start()

    watcher = ClosesAfterOne()
    try:
        with pytest.raises(LabError, match="executor was closed"):
            run(cells, toy_measures.draws, Store(tmp_path), context=Context(), executor=executor, watcher=watcher)
    finally:
        client.close()
        cluster.close()
    assert watcher.done == 1


@pytest.mark.slow
def test_the_documented_dask_cluster_listens_on_this_machine_only():
    distributed = pytest.importorskip("distributed")
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "use-more-workers.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    tree = ast.parse(block)
    (opened,) = (node for node in tree.body if isinstance(node, ast.With))
    here = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "here"]
    names = {"Client": distributed.Client}
    exec(compile(ast.Module(here, []), "page", "exec"), names)

    def listening():
        return {c.laddr for c in psutil.Process().net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}

    before = listening()
    with eval(compile(ast.Expression(opened.items[0].context_expr), "page", "eval"), names):
        addresses = {address.ip for address in listening() - before}
    assert addresses == {"127.0.0.1"}
