"""Records that must be there, and shares of flags that may not be known."""

import math

import pytest

from nonsmooth.claims.framework import NotStoredError, Quantity, Runs, known
from nonsmooth.lab import Cell, Record


def test_some_records_or_none_stored():
    runs = Runs([Record(Cell("claim", {"loss": "huber"}), {})], "runs")
    assert len(runs.some(loss="huber")) == 1
    with pytest.raises(NotStoredError, match="no record of runs has loss='squared'"):
        runs.some(loss="squared")


@pytest.mark.parametrize(("flags", "value"), [([True, False], 0.5), ([], None), ([1.0, math.nan], None)])
def test_a_share_of_flags_is_missing_where_one_is_no_number(flags, value):
    assert Quantity("share", "share").share_of(flags).value == value


def test_what_is_compared_is_known():
    assert known([1, math.inf]).tolist() == [1.0, math.inf]
    with pytest.raises(NotStoredError, match="not a number"):
        known([[1.0, math.nan]])


def test_a_median_of_one_sample_decides_nothing():
    one = Quantity("size", "size").median([3.0])
    assert (one.value, one.low, one.high, one.count) == (3.0, -math.inf, math.inf, 1)


@pytest.mark.parametrize(("flags", "value"), [([False, True], True), ([0, 0], False), ([], None), ([math.nan], None)])
def test_one_run_refutes(flags, value):
    assert Quantity("some", "one does").any_of(flags).value == value
