"""The largest and smallest of measured numbers, against NumPy, whose maximum keeps NaN."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonsmooth.extremes import largest, smallest

FLOATS = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1)


@given(FLOATS)
def test_they_are_numpys(values):
    for ours, theirs in ((largest, np.max), (smallest, np.min)):
        expected = theirs(np.array(values))
        np.testing.assert_equal(ours(values), expected)
        np.testing.assert_equal(ours(iter(values)), expected)
        if len(values) > 1:
            np.testing.assert_equal(ours(*values), expected)


def test_python_drops_a_nan_that_does_not_come_first():
    """Which is why there are these."""
    assert max(0.0, math.nan) == 0.0
    assert math.isnan(largest(0.0, math.nan))
    assert math.isnan(smallest([1.0, math.nan]))


def test_keys_and_defaults_are_those_of_max():
    assert largest(["a", "ccc", "bb"], key=len) == "ccc"
    assert smallest({"x": 2.0, "y": 1.0}.items(), key=lambda item: item[1]) == ("y", 1.0)
    assert smallest({"x": 2.0, "y": math.nan}.items(), key=lambda item: item[1])[0] == "y"
    assert largest([], default=0.0) == 0.0
    with pytest.raises(ValueError, match="empty"):
        largest([])
