"""The store under fire: damaged, re-written and swollen files give the record that was saved or none, soon.

Memory is bounded. The oracle is the record that was saved, compared bit by bit with its seconds and its origin.
"""

import datetime
import decimal
import json
import random
import resource
import struct
import time
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nonsmooth.lab import Cell, Record, Store
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint
from nonsmooth.lab.parquet_bounds import TEXT_LIMIT, VALUES_LIMIT
from nonsmooth.lab.values import checksum

CELL = Cell("toy", {"rate": 0.1, "sizes": (1, 2)}, seed=3, version=2)
ORIGIN = {"python": "3.11", "cores": 2, "gpu": None, "fast": True, "clock": 2.5}
RECORD = Record(
    CELL,
    {
        "loss": np.random.default_rng(0).normal(size=200).tolist(),
        "steps": 7,
        "kind": "x",
        "table": [[1, 2], [], [3]],
        "names": ["a", "b"],
        "flag": True,
        "none": None,
        "end": -0.0,
    },
    1.25,
    ORIGIN,
)
SECONDS_EACH = 2.0
MEMORY = 600 * 2**20


def bits(value):
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [bits(item) for item in value]
    return ("float", struct.pack("<d", value)) if isinstance(value, float) else (type(value).__name__, value)


WHOLE = bits({"values": dict(RECORD.values), "seconds": RECORD.seconds, "origin": ORIGIN})


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(store):
    """Whether the cell is there; if it is, it is the one that was saved."""
    start, before = time.monotonic(), peak()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        record = store.load(CELL)
    assert time.monotonic() - start < SECONDS_EACH
    assert peak() - before < MEMORY
    if record is None:
        (message,) = {str(one.message) for one in said}
        assert str(store.path(CELL)) in message
        assert "\n" not in message
        return False
    assert not said
    found = {"values": dict(record.values), "seconds": record.seconds, "origin": dict(record.origin)}
    # The order of the columns is nobody's result.
    assert bits(found) == WHOLE
    return True


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.save(RECORD)
    return store


# --- random damage ---


def damaged(content, other, rng):
    """One random piece of damage, and its kind."""
    kind = rng.choice(["bit", "bits", "cut", "zeros", "splice", "repeat", "swap", "other", "append", "insert"])
    data = bytearray(content)
    place = rng.randrange(len(data))
    length = min(rng.choice([1, 4, 16, 64, 512]), len(data) - place)
    if kind == "bit":
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "bits":
        for _ in range(rng.randrange(2, 20)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "zeros":
        data[place : place + length] = bytes(length)
    elif kind == "splice":
        data[place : place + length] = rng.randbytes(length)
    elif kind == "repeat":
        data[place:place] = data[place : place + length]
    elif kind == "swap":
        at = rng.randrange(len(data) - length + 1)
        data[place : place + length], data[at : at + length] = data[at : at + length], data[place : place + length]
    elif kind == "other":
        data[place : place + length] = other[place : place + length]
    elif kind == "append":
        data += rng.randbytes(length)
    else:
        data[place:place] = rng.randbytes(length)
    return bytes(data), kind


def count(few, many):
    return pytest.mark.parametrize("trials", [few, pytest.param(many, marks=pytest.mark.slow)])


@count(150, 1000)
def test_damage_to_a_record_gives_the_record_or_none(store, trials):
    rng = random.Random(20240208)
    content = store.path(CELL).read_bytes()
    changed = Store(store.folder / "other")
    changed.save(Record(CELL, {**RECORD.values, "steps": 8}, 2.0, ORIGIN))
    other = changed.path(CELL).read_bytes()
    present = 0
    for _ in range(trials):
        data, _ = damaged(content, other, rng)
        store.path(CELL).write_bytes(data)
        present += outcome(store)
    print(f"{trials} damaged records: {present} are still the record, {trials - present} absent, none another")
    assert present < trials / 3


STATE = {
    "step": 5,
    "losses": [0.1, 0.2],
    "model": {f"layer{i}": torch.randn(40, 7, generator=torch.Generator().manual_seed(i)) for i in range(4)},
}


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@count(150, 1000)
def test_damage_to_a_checkpoint_gives_the_checkpoint_or_none(tmp_path, trials):
    rng = random.Random(20240209)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {**STATE, "step": 6}, CELL.key)
    other = path.read_bytes()
    save_checkpoint(path, STATE, CELL.key)
    content = path.read_bytes()
    present = unchanged = 0
    for _ in range(trials):
        data, _ = damaged(content, other, rng)
        path.write_bytes(data)
        unchanged += data == content
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            state = load_checkpoint(path, CELL.key)
        assert (state is None) == bool(said)
        if state is not None:
            assert same(STATE, state)
            present += 1
    print(f"{trials} damaged checkpoints: {present} are still the checkpoint, {trials - present} absent, none another")
    assert present == unchanged  # a changed file is never taken for a whole one


# --- well-formed files of other tools and other minds ---

TYPES = {
    "binary": pa.array([b"x"]),
    "fixed binary": pa.array([b"xy"], pa.binary(2)),
    "decimal": pa.array([decimal.Decimal("7.0")]),
    "float32": pa.array([7.0], pa.float32()),
    "int8": pa.array([7], pa.int8()),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "date": pa.array([datetime.date(2024, 2, 8)]),
    "timestamp": pa.array([datetime.datetime(9999, 12, 31)], pa.timestamp("us", "UTC")),
    "duration": pa.array([2**62], pa.duration("ns")),
    "time": pa.array([1], pa.time64("ns")),
    "struct": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["x"]).dictionary_encode(),
    "large text": pa.array(["x"], pa.large_string()),
    "large list": pa.array([[7.0]], pa.large_list(pa.float64())),
    "fixed list": pa.array([[7.0]], pa.list_(pa.float64(), 1)),
    "list of bytes": pa.array([[b"\xff"]]),
    "null": pa.nulls(1),
    "null number": pa.array([None], pa.int64()),
    "text": pa.array(["7"]),
    "float": pa.array([7.0]),
    "nan": pa.array([float("nan")]),
    "none": pa.array([True]),
}
ORIGINS = ['{"a":{"b":1}}', "[1]", "1", "null", '"x"', "{", '{"a":NaN}', '{"a":1e999}', '{"a":[1]}', "[" * 9000, ""]
ORIGINS += ['{"a":' * 5000 + "1" + "}" * 5000, '{"python":"3.12"}', "{}", '{"a":' + "9" * 6000 + "}"]
SECONDS = ["inf", "-inf", "nan", "-1", "1e300", "1e999", "x", "", "1_0", " 1.25 ", "1.2500000000000002", "9" * 400]


def rewritten(table, rng, place):  # noqa: PLR0912
    """Another well-formed Parquet file, by one to three changes."""
    changes = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        change = rng.choice(["rows", "type", "origin", "seconds", "key", "cell", "columns", "forged", "none"])
        changes.append(change)
        metadata = dict(table.schema.metadata or {})
        at = rng.randrange(max(1, table.num_columns))
        if change == "rows":
            table = rng.choice([table.slice(0, 0), pa.concat_tables([table, table]), pa.concat_tables([table] * 50)])
        elif change == "type" and table.num_rows == 1 and table.num_columns:
            name = table.column_names[at]
            table = table.set_column(at, name, TYPES[rng.choice(sorted(TYPES))])
        elif change == "origin":
            metadata[b"nonsmooth.origin"] = rng.choice(ORIGINS).encode()
        elif change == "seconds":
            metadata[b"nonsmooth.seconds"] = rng.choice(SECONDS).encode()
        elif change == "key":
            names = [b"nonsmooth.format", b"nonsmooth.cell", b"nonsmooth.checksum", b"nonsmooth.seconds"]
            name = rng.choice([*names, b"nonsmooth.origin"])
            if rng.random() < 0.5:
                metadata.pop(name, None)
            else:
                metadata[name] = rng.choice([b"", b"\xff\xfe", b"1", b"99", b"{}", b"0" * 64])
        elif change == "cell":
            metadata[b"nonsmooth.cell"] = rng.choice([b"{}", b"null", json.dumps(CELL.describe()).encode()])
        elif change == "columns" and table.num_columns:
            edit = rng.choice(["drop", "order", "double", "more", "rename"])
            if edit == "drop":
                table = table.remove_column(at)
            elif edit == "order":
                table = table.select(rng.sample(table.column_names, table.num_columns) if at else table.column_names)
            elif edit == "double":
                table = table.append_column(table.column_names[at], table.column(at))
            elif edit == "more":
                table = table.append_column("more", pa.nulls(table.num_rows))
            else:
                names = [f"{name}\0é" for name in table.column_names]
                table = table.rename_columns(names).replace_schema_metadata(metadata)
        elif change == "forged":
            # Its checksum is right, so that what it vouches for has to be looked at.
            origin = rng.choice([{"a": {"b": 1}}, {"a": [1]}, [1], 5, None, {"a": float("inf")}])
            seconds = rng.choice([float("inf"), float("nan"), -1.0, 1e300])
            beside = {"seconds": seconds, "origin": origin}
            metadata[b"nonsmooth.seconds"] = repr(seconds).encode()
            metadata[b"nonsmooth.origin"] = json.dumps(origin).encode()
            metadata[b"nonsmooth.checksum"] = checksum(CELL, dict(RECORD.values), beside).encode()
        if change in {"origin", "seconds", "key", "cell", "forged"}:
            table = table.replace_schema_metadata(metadata)
    options = {
        "compression": rng.choice(["none", "snappy", "gzip", "zstd", "brotli", "lz4"]),
        "use_dictionary": rng.choice([True, False]),
        "data_page_version": rng.choice(["1.0", "2.0"]),
        "version": rng.choice(["1.0", "2.4", "2.6"]),
        "write_statistics": rng.choice([True, False]),
        "store_schema": rng.random() < 0.8,
        "row_group_size": rng.choice([1, 1024]),
    }
    pq.write_table(table, place, **options)
    return changes


@count(60, 300)
def test_a_well_formed_rewrite_gives_the_record_or_none(store, trials):
    rng = random.Random(20240210)
    original = pq.read_table(store.path(CELL))
    present = written = 0
    while written < trials:
        table = original
        try:
            changes = rewritten(table, rng, store.path(CELL))
        except (pa.ArrowException, ValueError):
            continue  # a change that Parquet cannot hold
        written += 1
        there = outcome(store)
        present += there
        if "forged" in changes:
            assert not there
    print(f"{trials} well-formed re-writes: {present} are still the record, {trials - present} absent, none another")
    assert 0 < present < trials


@pytest.mark.parametrize("field", [b"nonsmooth.seconds", b"nonsmooth.origin"])
def test_seconds_and_origin_stand_under_the_checksum(store, field):
    table = pq.read_table(store.path(CELL))
    value = table.schema.metadata[field].replace(b"1.25", b"1.5").replace(b"3.11", b"3.12")
    assert value != table.schema.metadata[field]
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, field: value}), store.path(CELL))
    with pytest.warns(UserWarning, match="seconds or origin do not match its checksum"):
        assert store.load(CELL) is None


def first_format(store):
    """The record as version 1 of the format had it."""
    table = pq.read_table(store.path(CELL))
    metadata = {
        **table.schema.metadata,
        b"nonsmooth.format": b"1",
        b"nonsmooth.checksum": checksum(CELL, dict(RECORD.values)).encode(),
    }
    return table, metadata


def test_records_of_the_first_format_are_read(store):
    table, metadata = first_format(store)
    pq.write_table(table.replace_schema_metadata(metadata), store.path(CELL))
    assert outcome(store)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", "inf"),
        ("seconds", "-3"),
        ("origin", '{"a":{"b":1}}'),
        ("origin", r'{"processor":"\ud800"}'),
        ("origin", r'{"\udfff":1}'),
    ],
)
def test_records_of_the_first_format_hold_nothing_that_breaks_a_report(store, field, value):
    table, metadata = first_format(store)
    metadata[f"nonsmooth.{field}".encode()] = value.encode()
    pq.write_table(table.replace_schema_metadata(metadata), store.path(CELL))
    assert not outcome(store)


def test_the_second_format_does_not_pass_for_the_first(store):
    table = pq.read_table(store.path(CELL))
    metadata = {**table.schema.metadata, b"nonsmooth.format": b"1", b"nonsmooth.seconds": b"9.0"}
    pq.write_table(table.replace_schema_metadata(metadata), store.path(CELL))
    assert not outcome(store)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"origin": {"a": {"b": 1}}}, "origin"),
        ({"origin": {"a": float("nan")}}, "origin"),
        ({"values": {"x": np.zeros(VALUES_LIMIT + 1)}}, "more than"),
        ({"values": {"x": "a" * (TEXT_LIMIT + 1)}}, "more than"),
    ],
)
def test_what_could_not_be_read_back_is_refused_when_it_is_saved(store, changes, words):
    fields = {"values": RECORD.values, "seconds": 1.0, "origin": {}, **changes}
    with pytest.raises(ValueError, match=words):
        store.save(Record(CELL, **fields))
    assert outcome(store)


# --- small files that stand for large ones ---

MANY = 30_000_000


def many_nulls():
    return pa.ListArray.from_arrays(pa.array([0, MANY], pa.int32()), pa.nulls(MANY))


def nested(depth):
    kind, value = pa.float64(), 1.0
    for _ in range(depth):
        kind, value = pa.list_(kind), [value]
    return pa.array([value], kind)


def alone(depth):
    """A list of numbers, each in as many lists of its own."""
    array = pa.array(np.zeros(1_000_000))
    for _ in range(depth):
        array = pa.ListArray.from_arrays(pa.array(np.arange(len(array) + 1), pa.int32()), array)
    return pa.ListArray.from_arrays(pa.array([0, len(array)], pa.int32()), array)


BOMBS = {
    "compressed zeros": (lambda: pa.array([np.zeros(MANY)]), {"use_dictionary": False}),
    "a dictionary of one number": (lambda: pa.array([np.zeros(MANY)]), {}),
    "the same in pages of version 2": (lambda: pa.array([np.zeros(MANY)]), {"data_page_version": "2.0"}),
    "a run of nulls": (many_nulls, {}),
    "long texts": (lambda: pa.array([["a" * 1_000_000] * 100]), {"use_dictionary": False}),
    "a dictionary of one text": (lambda: pa.array([["a" * 100_000] * 3000]), {}),
    "texts that share their beginning": (
        lambda: pa.array([["a" * 100_000] * 3000]),
        {"use_dictionary": False, "column_encoding": {"x.list.element": "DELTA_BYTE_ARRAY"}},
    ),
    "many rows": (lambda: pa.array(np.zeros(MANY)), {}),
    "lists in lists": (lambda: nested(90), {}),
    "a number in lists of its own": (lambda: alone(20), {}),
}


def plant(store, bomb):
    make, options = BOMBS[bomb]
    array = make()
    schema = pa.schema([pa.field("x", array.type)], metadata=pq.read_schema(store.path(CELL)).metadata)
    pq.write_table(pa.Table.from_arrays([array], schema=schema), store.path(CELL), compression="zstd", **options)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_stands_for_gigabytes_is_absent(store, bomb):
    plant(store, bomb)
    assert store.path(CELL).stat().st_size < 200_000
    before, most = pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()
    assert not outcome(store)
    assert (pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()) == (before, most)


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_a_page_that_claims_more_than_the_footer_says_is_what_counts(store):
    """The footer is left as it is; the header of a page tells of two billion bytes and values."""
    plant_small = pa.table({"x": [[1.0, 2.0]]}, metadata=pq.read_schema(store.path(CELL)).metadata)
    pq.write_table(plant_small, store.path(CELL), use_dictionary=False, write_statistics=False, compression="none")
    content = store.path(CELL).read_bytes()
    start = pq.ParquetFile(store.path(CELL)).metadata.row_group(0).column(0).data_page_offset
    for field, marker in ((2, b"\x15"), (5, b"\x15")):
        # A PageHeader in Thrift's compact form: 0x15 announces the next field as an i32, zigzag by varints.
        data = bytearray(content)
        place = start + 2 if field == 2 else content.index(b"\x2c", start) + 1
        assert data[place : place + 1] == marker
        data[place + 1 : place + 2] = varint(2 * (2**31 - 1))
        store.path(CELL).write_bytes(bytes(data))
        with pytest.warns(UserWarning, match="more than|cut off|lies outside|headers"):
            assert store.load(CELL) is None


def test_the_largest_record_that_is_accepted_takes_bounded_memory(store):
    """As many values as are accepted, in a dictionary of one: the file is small, and it is decoded."""
    array = pa.array([np.zeros(VALUES_LIMIT)])
    schema = pa.schema([pa.field("x", array.type)], metadata=pq.read_schema(store.path(CELL)).metadata)
    pq.write_table(pa.Table.from_arrays([array], schema=schema), store.path(CELL), compression="zstd")
    before = peak()
    with pytest.warns(UserWarning, match="checksum"):
        assert store.load(CELL) is None
    assert peak() - before < MEMORY
