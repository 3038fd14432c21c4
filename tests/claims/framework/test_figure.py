"""Series drawn from estimates."""

from nonsmooth.claims.framework import Quantity, series_of


def test_a_series_has_the_estimates_their_intervals_and_gaps():
    share = Quantity("share", "share")
    found = [share.share(5, 10), share.missing()]
    series = series_of("points", "ours", (1, 2), found, "a")
    assert series.y == (0.5, None)
    assert series.low == (found[0].low, None)
    assert series.high == (found[0].high, None)
    assert series_of("line", "ours", (1,), [share.number(3)]).low is None
