import errno
import math
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonsmooth.lab import Cell, LabError, Record, Store

CELL = Cell("toy", {"rate": 0.1, "name": "a", "sizes": (1, 2), "none": None}, seed=3, version=2)
RECORD = Record(CELL, {"loss": [0.1, 0.2], "steps": 7, "kind": "x"}, 1.25, {"python": "3", "cores": 2})


def bits(value):
    """A value in which floats are their bits and everything carries its type: equality of these is identity."""
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    return type(value).__name__, value


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def stored_bytes(store, record=RECORD):
    store.save(record)
    return store.path(record.cell).read_bytes()


# --- what comes back ---

floats = st.floats(allow_nan=True, allow_infinity=True, width=64)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), floats, st.text(st.characters(codec="utf-8"))
)


def nested(items):
    lists = st.lists(items, max_size=4)
    return st.one_of(lists, st.lists(lists, max_size=3), st.lists(st.lists(lists, max_size=2), max_size=2))


values = st.one_of(
    scalars, *(nested(s) for s in (st.booleans(), st.integers(-(2**63), 2**63 - 1), floats, st.text(max_size=5)))
)
names = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.dictionaries(names, values, max_size=5), st.floats(0, 1e9), st.integers(0, 2**40))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_comes_back_bit_for_bit_with_its_types(tmp_path, content, seconds, seed):
    store = Store(tmp_path)
    cell = Cell("toy", {}, seed=seed)
    store.save(Record(cell, content, seconds, {"python": "3.11"}))
    record = store.load(cell)
    assert record.cell is cell
    assert {name: bits(value) for name, value in record.values.items()} == {n: bits(v) for n, v in content.items()}
    assert list(record.values) == list(content)
    assert record.seconds == seconds
    assert record.origin == {"python": "3.11"}


@pytest.mark.parametrize(
    ("saved", "read"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.int32(-3), -3),
        (np.bool_(True), True),
        (np.str_("é"), "é"),
        (np.array(2.5), 2.5),
        (np.array([[1, 2], [3, 4]], dtype=np.int8), [[1, 2], [3, 4]]),
        (np.array([-0.0, math.nan, math.inf, 5e-324]), [-0.0, math.nan, math.inf, 5e-324]),
        ([np.array([1.0]), np.array([])], [[1.0], []]),
        (np.zeros((0, 3)), []),
        ((np.float64(1.0), 2.0), [1.0, 2.0]),
        ([None, 1.5], [None, 1.5]),
        ([[], [None], [True]], [[], [None], [True]]),
        ([None], [None]),
        (None, None),
        ([], []),
        ([[]], [[]]),
    ],
)
def test_numpy_and_tuples_come_back_as_python(store, saved, read):
    store.save(Record(CELL, {"value": saved}))
    assert bits(store.load(CELL)["value"]) == bits(read)


def test_a_record_without_values_comes_back(store):
    store.save(Record(CELL, {}))
    assert dict(store.load(CELL).values) == {}


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ({1, 2}, TypeError, "set"),
        (1j, TypeError, "complex"),
        (b"x", TypeError, "bytes"),
        ({"a": 1}, TypeError, "dict"),
        ([1, 2.0], TypeError, "mixes double with int64"),
        ([1.0, True], TypeError, "mixes bool with double"),
        ([1.0, [2.0]], TypeError, "mixes"),
        ([[1], ["a"]], TypeError, "mixes"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), TypeError, "date"),
        (2**63, ValueError, "64 bits"),
        ("\ud800", ValueError, "surrogates"),
    ],
)
def test_values_that_would_change_are_refused_by_name(store, value, error, words):
    with pytest.raises(error, match=words):
        store.save(Record(CELL, {"odd": value}))
    assert store.load(CELL) is None


def test_names_must_be_strings(store):
    with pytest.raises(TypeError, match="name of a value is 1"):
        store.save(Record(CELL, {1: 1.0}))


def test_saving_again_replaces(store):
    store.save(RECORD)
    store.save(Record(CELL, {"loss": 5.0}))
    assert store.load(CELL).values == {"loss": 5.0}
    assert len(list((store.folder / "cells").iterdir())) == 1


def test_an_absent_record_is_none_and_reading_makes_no_folder(store):
    assert store.load(CELL) is None
    assert not store.folder.exists()


def test_the_file_is_plain_parquet_for_other_tools(store):
    stored_bytes(store)
    table = pq.read_table(store.path(CELL))
    assert table.num_rows == 1
    assert table.column("loss").to_pylist() == [[0.1, 0.2]]
    assert b'"claim":"toy"' in table.schema.metadata[b"nonsmooth.cell"]


# --- what is not a whole record counts as absent, and says so ---


def assert_reported_as_absent(store, words, cell=CELL):
    with pytest.warns(UserWarning, match=words) as caught:
        assert store.load(cell) is None
    assert "\n" not in str(caught[0].message)
    assert str(store.path(cell)) in str(caught[0].message)


def test_a_truncated_file_is_absent_wherever_it_ends(store):
    whole = stored_bytes(store)
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        store.path(CELL).write_bytes(whole[:length])
        assert_reported_as_absent(store, "not a whole record")
    store.save(RECORD)
    assert store.load(CELL).values == RECORD.values


def test_a_flipped_byte_never_gives_another_number(store):
    whole = stored_bytes(store)
    outcomes = set()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x15
        store.path(CELL).write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = store.load(CELL)
        outcomes.add(record is None)
        assert record is None or record.values == RECORD.values
    assert True in outcomes


def edited(store, column, value):
    """The file with another value in one column and the metadata as it was."""
    table = pq.read_table(store.path(CELL))
    place = table.column_names.index(column)
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array([value], type=field.type)), store.path(CELL))


@pytest.mark.parametrize(("column", "value"), [("loss", [0.1, 0.25]), ("steps", 8), ("kind", "y"), ("loss", [])])
def test_a_value_edited_by_hand_is_absent(store, column, value):
    stored_bytes(store)
    edited(store, column, value)
    assert_reported_as_absent(store, "do not match its checksum")


def test_rewriting_the_same_values_is_still_the_record(store):
    stored_bytes(store)
    edited(store, "steps", 7)
    assert store.load(CELL).values == RECORD.values


def test_the_last_bit_of_a_float_counts(store):
    stored_bytes(store)
    edited(store, "loss", [0.1, math.nextafter(0.2, 1)])
    assert_reported_as_absent(store, "checksum")


def test_a_record_of_another_cell_is_absent(store):
    other = Cell("toy", {}, seed=9)
    stored_bytes(store)
    shutil.copy(store.path(CELL), store.path(other))
    assert_reported_as_absent(store, "of another cell", other)


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" * 10])
def test_a_file_that_is_not_parquet_is_absent(store, content):
    stored_bytes(store)
    store.path(CELL).write_bytes(content)
    assert_reported_as_absent(store, "not a whole record")


def test_a_foreign_parquet_file_is_absent(store):
    stored_bytes(store)
    pq.write_table(pa.table({"loss": [1.0]}), store.path(CELL))
    assert_reported_as_absent(store, "not written by this program")


def test_a_file_of_another_format_is_absent(store):
    stored_bytes(store)
    table = pq.read_table(store.path(CELL))
    metadata = {**table.schema.metadata, b"nonsmooth.format": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), store.path(CELL))
    assert_reported_as_absent(store, "format is 99")


def test_a_folder_in_place_of_the_file_is_absent(store):
    store.path(CELL).mkdir(parents=True)
    assert_reported_as_absent(store, "not a whole record")


# --- when the disk refuses ---


def leftovers(store):
    return [path.name for path in (store.folder / "cells").glob("*") if path.suffix != ".parquet"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_file_that_outgrows_the_disk_leaves_nothing(store):
    stored_bytes(store)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = Record(Cell("toy", {}, seed=1), {"noise": np.random.default_rng(0).random(5000)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(LabError, match=str(store.path(big.cell))):
            store.save(big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert leftovers(store) == []
    assert store.load(big.cell) is None
    assert store.load(CELL).values == RECORD.values
    store.save(big)
    assert store.load(big.cell) is not None


def test_a_disk_that_is_full_when_flushed_leaves_the_earlier_record(store, monkeypatch):
    store.save(RECORD)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LabError, match="No space left on device"):
            store.save(Record(CELL, {"loss": 9.0}))
    assert leftovers(store) == []
    assert store.load(CELL).values == RECORD.values


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("in the way")
    store = Store(tmp_path / "run")
    with pytest.raises(LabError, match=r"cannot store .*run"):
        store.save(RECORD)
    with pytest.raises(LabError, match=r"cannot use .*run"), store.lock():
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes where nobody may")
def test_a_read_only_folder_is_named(store):
    store.folder.mkdir()
    store.folder.chmod(0o500)
    with pytest.raises(LabError, match="Permission denied"):
        store.save(RECORD)


def test_an_interrupt_while_writing_leaves_nothing(store, monkeypatch):
    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save(RECORD)
    assert leftovers(store) == []


# --- one run at a time ---


def test_a_second_run_is_refused_and_a_later_one_is_not(store):
    refused = pytest.raises(LabError, match=f"another run is using {store.folder}")
    with store.lock(), refused, Store(store.folder).lock():
        pass
    with Store(store.folder).lock():
        pass


def test_a_killed_run_leaves_no_lock(store):
    holder = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from nonsmooth.lab import Store
        with Store(Path(sys.argv[1])).lock():
            print("locked", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", holder, str(store.folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(LabError, match="another run is using"), store.lock():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with store.lock():
        pass


# --- what is kept and what goes ---


def test_scratch_is_removed_with_the_record_stored_and_not_before(store):
    scratch = store.scratch(CELL)
    scratch.mkdir(parents=True)
    (scratch / "checkpoint").write_text("half")
    store.clean()
    assert (scratch / "checkpoint").exists()
    store.save(RECORD)
    assert not scratch.exists()


def test_cleaning_removes_what_a_killed_run_left(store):
    store.save(RECORD)
    (store.folder / "cells" / f"{CELL.key}.1234abcd.tmp").write_bytes(b"half")
    store.scratch(CELL).mkdir(parents=True)  # killed between storing the record and removing this
    (store.folder / "scratch" / f"{CELL.key}.progress").write_text("0.5")
    store.clean()
    assert leftovers(store) == []
    assert list((store.folder / "scratch").iterdir()) == []
    assert store.load(CELL) is not None


def test_discarding_forgets_only_the_given_cells(store):
    other = Cell("toy", {}, seed=9)
    for cell in (CELL, other):
        store.save(Record(cell, {"loss": 1.0}))
        store.scratch(cell).mkdir(parents=True)
    store.discard([CELL])
    assert store.load(CELL) is None
    assert not store.scratch(CELL).exists()
    assert store.load(other) is not None
    assert store.scratch(other).exists()
