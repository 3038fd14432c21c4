import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.lab import Cell
from nonsmooth.lab.estimate import PacedProgress, TimeEstimate, calibrating_cell, start_order


def cells_of(*costs, claim="toy"):
    return [Cell(claim, {}, seed=seed, cost=cost) for seed, cost in enumerate(costs)]


def wall_time(seconds, workers, step=0.25):
    """The end of the last job, by stepping a clock: whoever is free takes the next job."""
    waiting, busy, clock = list(seconds), [], 0.0
    while waiting or busy:
        while waiting and len(busy) < workers:
            busy.append(waiting.pop(0))
        clock += step
        busy = [left - step for left in busy if left > step]
    return clock


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 5))
@settings(deadline=None)
def test_it_is_the_schedule_that_a_pool_follows(quarters, workers):
    seconds = [quarter / 4 for quarter in quarters]
    estimate = TimeEstimate(cells_of(*seconds), workers)
    assert estimate.remaining() == pytest.approx(wall_time(seconds, workers))


def test_nothing_left_takes_no_time():
    cell = cells_of(3.0)[0]
    estimate = TimeEstimate([cell], 2)
    estimate.finish(cell, 5.0)
    assert estimate.remaining() == 0


def test_the_machine_is_as_slow_as_its_first_cell():
    first, second, third = cells_of(1.0, 2.0, 2.0)
    estimate = TimeEstimate([first, second, third], 1)
    assert estimate.remaining() == 5.0
    estimate.finish(first, 3.0)
    assert estimate.remaining() == 12.0


def test_a_claim_that_was_timed_has_its_own_factor():
    slow = cells_of(1.0, 1.0, claim="slow")
    fast = cells_of(1.0, 1.0, claim="fast")
    other = cells_of(1.0, claim="other")
    estimate = TimeEstimate([*slow, *fast, *other], 1)
    estimate.finish(slow[0], 9.0)
    estimate.finish(fast[0], 1.0)
    assert estimate.remaining() == pytest.approx(9.0 + 1.0 + 5.0)


def test_a_failed_cell_tells_nothing_about_the_machine():
    first, second = cells_of(1.0, 4.0)
    estimate = TimeEstimate([first, second], 1)
    estimate.finish(first, None)
    assert estimate.remaining() == 4.0


def test_fractions_in_flight_tell_how_slow_the_machine_is():
    flying, waiting = cells_of(10.0, 10.0)
    estimate = TimeEstimate([flying, waiting], 1)
    estimate.progress(flying, 0.25, 5.0)  # 20 s in all, where 10 s were declared
    assert estimate.remaining() == pytest.approx(15.0 + 20.0)


def test_a_cell_in_flight_that_tells_nothing_counts_by_its_cost():
    flying, waiting = cells_of(10.0, 4.0)
    estimate = TimeEstimate([flying, waiting], 2)
    estimate.progress(flying, 0.0, 3.0)
    assert estimate.remaining() == 7.0
    estimate.progress(flying, 0.0, 30.0)
    assert estimate.remaining() == 4.0


@pytest.mark.parametrize(
    ("costs", "chosen"), [((0.1, 3.0, 2.0, 5.0), 2.0), ((0.1, 1.3, 0.2), 1.3), ((7.0,), 7.0), ((1.9, 8.0), 8.0)]
)
def test_the_first_cell_is_short_but_long_enough_to_time(costs, chosen):
    assert calibrating_cell(cells_of(*costs)).cost == chosen


def test_after_the_calibrating_cell_the_dearest_start_first_and_equals_keep_their_order():
    cells = cells_of(4.0, 6.0, 2.0, 4.0, 0.2)
    assert [cell.seed for cell in start_order(cells)] == [2, 1, 0, 3, 4]


def test_paced_progress_goes_by_the_pace_after_the_first_steps(monkeypatch):
    """Loading takes 100 s, a step 0.1 s: after 60 of 1,000 steps it is 105 s of 200, not 6 %."""
    clock, told = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    progress = PacedProgress(told.append, 1000)
    for step in range(1, 1001):
        clock[0] = 99.9 + 0.1 * step
        progress(step / 1000)
    assert told[39] == pytest.approx(105.9 / 199.9)
    assert told[-1] == 1.0
    assert told == sorted(told)
