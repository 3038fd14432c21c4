"""A results folder from a stranger: no link in it is followed, nothing but plain files is opened, little is removed."""

import contextlib
import os
import socket
import threading
import time
import warnings

import pytest

from nonsmooth.lab import Cell, Context, LabError, Record, Store, run
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint
from nonsmooth.lab.folder import Folder, NotOursError
from nonsmooth.lab.worker import CellTask, measure_task

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, FIFOs and sockets as POSIX has them")

CELL = Cell("toy", {"rate": 0.1})
RECORD = Record(CELL, {"loss": [0.1, 0.2]}, 1.25, {"python": "3"})


def snapshot(folder):
    """Every name below the folder with its type and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = (
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
    return found


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


@pytest.fixture
def canary(tmp_path):
    """A folder of the user's with all names that the store itself would make and remove."""
    folder = tmp_path / "home"
    for sub in ("", CELL.key, "deeper/still"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        names = (
            f"{CELL.key}.parquet",
            f"{CELL.key}.progress",
            f"{CELL.key}.1234abcd.tmp",
            "checkpoint.pt",
            "lock",
            "a",
        )
        for name in names:
            (folder / sub / name).write_text(f"mine: {name}")
    return folder


def measure(cell, context):
    save_checkpoint(context.scratch / "checkpoint.pt", {"step": 1})
    load_checkpoint(context.scratch / "checkpoint.pt")
    context.progress(0.5)
    return {"loss": 1.0}


def work(store):
    """All that is done in a folder: cleaning, reading, measuring, storing, discarding."""
    try:
        with store.lock():
            store.clean()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                store.load(CELL)
            store.discard([CELL])
            store.prepare([CELL])
            measured = measure_task(
                CellTask(measure, CELL, Context(scratch=store.scratch(CELL)), store.progress_file(CELL))
            )
            if measured.failure is None:
                store.save(Record(CELL, measured.values))
            store.clean()
            store.discard([CELL])
    except LabError as error:
        return str(error)
    return None


PLACES = (
    "cells",
    "scratch",
    "lock",
    f"cells/{CELL.key}.parquet",
    f"cells/{CELL.key}.1234abcd.tmp",
    f"scratch/{CELL.key}",
    f"scratch/{CELL.key}.progress",
    f"scratch/{CELL.key}.progress.tmp",
    f"scratch/{CELL.key}/checkpoint.pt",
    f"scratch/{CELL.key}/deeper",
)
TARGETS = ("", CELL.key, "a", f"{CELL.key}.parquet", "checkpoint.pt", "missing", "..")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("relative", [False, True])
def test_nothing_is_removed_or_written_through_a_link(store, canary, place, target, relative):
    link = store.folder / place
    link.parent.mkdir(parents=True)
    to = canary / target
    link.symlink_to(os.path.relpath(to, link.parent) if relative else to)
    before = snapshot(canary)
    said = work(store)
    assert snapshot(canary) == before
    if place in {"cells", "scratch", "lock", f"scratch/{CELL.key}"}:
        assert link.is_symlink()
        assert f"{place.split('/')[-1]} is a symbolic link" in said
    else:
        assert said is None


@pytest.mark.parametrize("place", [p for p in PLACES if p not in {"cells", "scratch", f"scratch/{CELL.key}"}])
def test_nothing_is_written_through_a_second_name_of_a_file(store, canary, place):
    (store.folder / place).parent.mkdir(parents=True)
    os.link(canary / "a", store.folder / place)
    before = snapshot(canary)
    work(store)
    assert snapshot(canary) == before


@pytest.mark.parametrize("linked", [False, True])
def test_a_lock_that_holds_something_is_refused_before_it_is_opened_for_writing(store, canary, monkeypatch, linked):
    """Whatever `filelock` does to it: its older versions empty it."""
    store.folder.mkdir()
    if linked:
        os.link(canary / "lock", store.folder / "lock")
    else:
        (store.folder / "lock").write_text("mine: lock")
    monkeypatch.setattr("filelock.UnixFileLock._acquire", lambda lock: pytest.fail("opened"))
    assert "lock is not empty" in work(store)
    assert (store.folder / "lock").read_text() == "mine: lock"


def test_only_names_that_the_store_makes_are_removed(store):
    kept = [
        "cells/notes.tmp",
        "cells/mine.parquet",
        "scratch/mine/work.txt",
        "scratch/mine.progress",
        "scratch/notes.txt",
        f"cells/{CELL.key}.tmp",
        f"scratch/{CELL.key}x.progress",
        "other.tmp",
    ]
    gone = [f"cells/{CELL.key}.1234abcd.tmp", f"cells/.{CELL.key}.parquet.1234abcd.tmp", f"scratch/{CELL.key}.progress"]
    for name in kept + gone:
        (store.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (store.folder / name).write_text("mine")
    store.save(RECORD)
    store.scratch(CELL).mkdir()
    store.clean()
    assert [name for name in kept if not (store.folder / name).exists()] == []
    assert [name for name in gone if (store.folder / name).exists()] == []
    assert not store.scratch(CELL).exists()


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    store = Store(tmp_path / "run")
    assert work(store) is None
    store.save(RECORD)
    assert Store(tmp_path / "disk").load(CELL).values == RECORD.values


@pytest.mark.timeout(60)
def test_a_folder_exchanged_for_a_link_at_any_moment_leads_nowhere(store, canary):
    """`cells` and `scratch` alternate between a folder and a link to the user's while the store works."""
    before = snapshot(canary)
    store.folder.mkdir()
    stop = threading.Event()

    def exchange():
        while not stop.is_set():
            for name in ("cells", "scratch"):
                place, aside = store.folder / name, store.folder / f"{name}-aside"
                try:
                    place.rename(aside)
                    place.symlink_to(canary)
                    time.sleep(0.0003)
                    place.unlink()
                    aside.rename(place)
                except OSError:
                    pass

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        end = time.monotonic() + 4
        folder = Folder(store.folder)
        while time.monotonic() < end:
            work(store)
            for act in (folder.remove_tree, folder.remove_file):
                with contextlib.suppress(OSError):
                    act("scratch", CELL.key)
                    act("cells", "a")
    finally:
        stop.set()
        thread.join()
    assert snapshot(canary) == before


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def make_device(path):
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # endless zeros
    except PermissionError:
        pytest.skip("only root makes devices")


ODD = {"a FIFO": make_fifo, "a socket": make_socket, "a device": make_device, "a folder": os.mkdir}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_plain_file_is_absent_and_never_waited_for(store, kind):
    store.path(CELL).parent.mkdir(parents=True)
    ODD[kind](store.path(CELL))
    assert not store.has(CELL)
    with pytest.warns(UserWarning, match=f"not a whole record .*is {kind}, not a file"):
        assert store.load(CELL) is None
    if kind == "a folder":
        with pytest.raises(LabError, match="is a folder, not a file"):
            store.prepare([CELL])
        with pytest.raises(LabError, match="is a folder, not a file"):
            store.save(RECORD)
    else:
        store.prepare([CELL])
        store.save(RECORD)
        assert store.load(CELL).values == RECORD.values


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "a folder"])
@pytest.mark.parametrize("place", ["cells", "scratch", "lock", f"scratch/{CELL.key}"])
def test_what_is_no_folder_is_refused_by_name(store, kind, place):
    (store.folder / place).parent.mkdir(parents=True)
    ODD[kind](store.folder / place)
    assert f"{place.split('/')[-1]} is {kind}, not a f" in work(store)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("content", ["", "half", "nan", "inf", "-1", "7", "1" * 5000, None])
def test_a_progress_file_that_tells_nothing_is_ignored(store, content):
    path = store.progress_file(CELL)
    path.parent.mkdir(parents=True)
    if content is None:
        os.mkfifo(path)
    else:
        path.write_text(content)
    assert store.in_progress() == {CELL.key}
    assert store.progress(CELL) is None


def test_an_endless_file_is_read_no_further_than_its_limit(tmp_path):
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(OSError, match="larger than 99 bytes"):
        Folder(tmp_path).read("large", limit=99)
    assert Folder(tmp_path).read("large", limit=100) == bytes(100)


def test_a_sparse_file_of_any_size_is_absent(store):
    store.path(CELL).parent.mkdir(parents=True)
    with store.path(CELL).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.warns(UserWarning, match="larger than"):
        assert store.load(CELL) is None


def test_a_tree_deeper_than_any_measurement_makes_stays(tmp_path):
    deep = tmp_path / "scratch" / CELL.key
    path = deep
    for _ in range(40):
        path /= "d"
    path.mkdir(parents=True)
    with pytest.raises(OSError, match="deeper than"):
        Folder(tmp_path).remove_tree("scratch", CELL.key)
    assert path.exists()


def test_an_interrupted_write_keeps_the_file_and_leaves_nothing(tmp_path):
    folder = Folder(tmp_path)
    folder.write(b"first", "sub", "name")

    def interrupted():
        with folder.writing("sub", "name") as file:
            file.write(b"sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert snapshot(tmp_path) == {"sub": None, "sub/name": b"first"}


def test_an_error_names_the_place_and_what_stands_there(tmp_path):
    (tmp_path / "sub").symlink_to(tmp_path)
    for act in (Folder(tmp_path).make, Folder(tmp_path).names, Folder(tmp_path).check):
        with pytest.raises(NotOursError, match=f"{tmp_path / 'sub'} is a symbolic link, not a folder"):
            act("sub")


def test_a_run_is_refused_before_it_measures(store, canary):
    store.folder.mkdir()
    (store.folder / "scratch").symlink_to(canary)
    started = []
    with pytest.raises(LabError, match="scratch is a symbolic link, not a folder"):
        run([CELL], lambda *_: started.append(1), store, context=Context(), executor=object())
    assert not started
