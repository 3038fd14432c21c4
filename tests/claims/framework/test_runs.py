"""Records that must be there, and shares of flags that may not be known."""

import math

import pytest

from nonsmooth.claims.framework import NotStoredError, Quantity, Runs
from nonsmooth.lab import Cell, Record


def test_some_records_or_none_stored():
    runs = Runs([Record(Cell("claim", {"loss": "huber"}), {})], "runs")
    assert len(runs.some(loss="huber")) == 1
    with pytest.raises(NotStoredError, match="no record of runs has loss='squared'"):
        runs.some(loss="squared")


@pytest.mark.parametrize(("flags", "value"), [([True, False], 0.5), ([], None), ([1.0, math.nan], None)])
def test_a_share_of_flags_is_missing_where_one_is_no_number(flags, value):
    assert Quantity("share", "share").share_of(flags).value == value
