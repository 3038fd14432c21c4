"""Checkpoints: what comes back is what was saved, and anything else counts as absent and is said."""

import errno
import io
import os
import stat
import zipfile

import pytest
import torch

from nonsmooth.lab import Cell, Context, SilentWatcher, Store, run
from nonsmooth.lab.checkpoint import _MAGIC, _Hashing, collected_remarks, load_checkpoint, save_checkpoint, say_unusable

STATE = {"step": 3, "weights": torch.arange(6.0), "history": {"loss": [0.1]}}
CELL = Cell("toy", {})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "own" / "checkpoint.pt"


def absent(path, words, owner=""):
    with pytest.warns(UserWarning, match=words) as caught:
        assert load_checkpoint(path, owner) is None
    (message,) = (str(one.message) for one in caught)
    assert str(path) in message
    assert "the measurement starts anew" in message
    assert "\n" not in message


def signed(payload, owner=""):
    hashing = _Hashing(None, owner)
    hashing.write(payload)
    return _MAGIC + hashing.digest() + payload


def test_what_is_saved_comes_back(path):
    assert load_checkpoint(path) is None
    save_checkpoint(path, STATE, "mine")
    state = load_checkpoint(path, "mine")
    assert (state["step"], state["history"]) == (3, {"loss": [0.1]})
    assert torch.equal(state["weights"], STATE["weights"])
    assert list(path.parent.iterdir()) == [path]


def test_wherever_it_ends_it_is_absent(path):
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    for length in (*range(0, len(content), 101), len(content) - 1):
        path.write_bytes(content[:length])
        absent(path, "cut off")


def test_every_flip_of_a_bit_is_noticed(path):
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        data = bytearray(content)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        absent(path, "checksum")


def test_one_of_another_owner_is_absent(path):
    save_checkpoint(path, STATE, "a")
    absent(path, "belongs to another measurement", "b")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", _MAGIC])
def test_one_without_a_checksum_is_absent(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    absent(path, "checksum")


def test_one_of_torchs_own_is_absent(path):
    path.parent.mkdir()
    torch.save(STATE, path)
    absent(path, "no checksum")


def test_what_is_compressed_is_not_unpacked(path):
    path.parent.mkdir()
    saved, packed = io.BytesIO(), io.BytesIO()
    torch.save({"zeros": torch.zeros(10**6)}, saved)
    with zipfile.ZipFile(saved) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    path.write_bytes(signed(packed.getvalue()))
    absent(path, "compressed")


@pytest.mark.parametrize("payload", [b"", b"not a zip archive"])
def test_a_signed_file_that_is_no_checkpoint_is_absent(path, payload):
    path.parent.mkdir()
    path.write_bytes(signed(payload))
    absent(path, "zip")


def test_a_signed_file_of_something_else_is_absent(path):
    path.parent.mkdir()
    saved = io.BytesIO()
    torch.save([1, 2], saved)
    path.write_bytes(signed(saved.getvalue()))
    absent(path, "it holds list")


def test_a_signed_file_that_would_run_code_is_absent_and_nobody_is_told_to_load_it_all_the_same(path):
    path.parent.mkdir()
    saved = io.BytesIO()
    torch.save({"state": print}, saved)
    path.write_bytes(signed(saved.getvalue()))
    absent(path, "other things than tensors")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.parent.parent / "else")])
def test_what_is_no_plain_file_is_absent(path, make):
    path.parent.mkdir()
    save_checkpoint(path.parent.parent / "else", STATE)
    make(path)
    absent(path, "not a file")


def test_it_is_on_the_disk_before_it_takes_its_name(path, monkeypatch):
    """The order of what the system is asked for: the content flushed, then the name, then the name flushed."""
    asked = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        asked.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(*arguments, **options):
        asked.append("name")
        real_replace(*arguments, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    save_checkpoint(path, STATE)
    assert asked == ["file", "name", "folder"]


def test_a_full_disk_leaves_the_earlier_one(path, monkeypatch):
    save_checkpoint(path, STATE)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(path, {"step": 4})
    assert load_checkpoint(path)["step"] == 3
    assert list(path.parent.iterdir()) == [path]


def test_remarks_are_collected_where_nobody_would_see_a_warning(path):
    with collected_remarks() as remarks:
        say_unusable(path, ValueError("broken\nbadly"))
    assert remarks == [f"the checkpoint {path} is not used (broken); the measurement starts anew"]


def measure(cell, context):
    state = load_checkpoint(context.scratch / "checkpoint.pt", cell.key)
    return {"step": state["step"] if state else 0}


class Hearing(SilentWatcher):
    def __init__(self):
        self.heard = []

    def warned(self, message):
        self.heard.append(message)


def test_the_run_tells_of_a_damaged_checkpoint_and_goes_on(tmp_path):
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    store, watcher = Store(tmp_path), Hearing()
    place = store.scratch(CELL) / "checkpoint.pt"
    save_checkpoint(place, STATE, CELL.key)
    place.write_bytes(place.read_bytes()[:-7])
    with ThreadPoolExecutor(1) as executor:
        outcome = run([CELL], measure, store, context=Context(), executor=executor, watcher=watcher)
    assert outcome.records[CELL]["step"] == 0
    (line,) = watcher.heard
    assert str(place) in line
    assert "starts anew" in line
