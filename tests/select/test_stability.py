"""Stability selection: its bound holds where it is claimed to, and is no larger than it has to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import lasso_path

from nonsmooth.select import stability_selection
from nonsmooth.select.stability_results import false_selection_bound, threshold_for

SAMPLES, FEATURES, TRUE = 100, 60, 5


def gaussian_problem(seed, strength=0.8):
    """Independent columns: those of no influence are exchangeable."""
    generator = np.random.default_rng(seed)
    data = generator.standard_normal((SAMPLES, FEATURES))
    return data, strength * data[:, :TRUE].sum(1) + generator.standard_normal(SAMPLES)


def along_the_lasso_path(data, response, alphas):
    def select(rows, seed):
        part, target = data[rows] - data[rows].mean(0), response[rows] - response[rows].mean()
        return (lasso_path(part, target, alphas=alphas)[1] != 0).T

    return select


def repeated(repeats, alphas, **options):
    """False and true selections, and the bounds, over problems."""
    false, true, bounds = [], [], []
    for seed in range(repeats):
        select = along_the_lasso_path(*gaussian_problem(seed), alphas)
        found = stability_selection(select, SAMPLES, seed=seed, **options)
        false.append(sum(place >= TRUE for place in found.selected))
        true.append(sum(place < TRUE for place in found.selected))
        bounds.append(found.bound)
    return np.array(false), np.array(true), np.array(bounds)


@pytest.mark.parametrize("repeats", [10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("complementary", [True, False])
@pytest.mark.parametrize(("smallest", "threshold"), [(0.35, 0.6), (0.25, 0.75), (0.35, 0.9)])
def test_the_bound_holds_and_what_is_true_is_found(repeats, complementary, smallest, threshold):
    alphas = np.geomspace(0.8, smallest, 5)
    false, true, bounds = repeated(
        repeats, alphas, threshold=threshold, complementary=complementary, subsamples=100 if repeats == 100 else 50
    )
    error = false.std(ddof=1) / math.sqrt(repeats)
    assert false.mean() <= bounds.mean() + 3 * error
    assert true.mean() > (4.5 if threshold < 0.8 else 3)


@pytest.mark.parametrize("repeats", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_threshold_below_a_half_would_break_the_bound_of_a_larger_one(repeats):
    """The same selections counted at 0.2 are more than what is promised at 0.9: the test above can fail."""
    alphas = np.geomspace(0.8, 0.15, 5)
    false = []
    for seed in range(repeats):
        found = stability_selection(
            along_the_lasso_path(*gaussian_problem(seed), alphas), SAMPLES, seed=seed, subsamples=50, threshold=0.9
        )
        false.append(int((found.probabilities[TRUE:] >= 0.2).sum()))
        assert found.bound < FEATURES
    assert np.mean(false) > found.bound


def guessing(features, chosen):
    def select(rows, seed):
        mask = np.zeros(features, dtype=bool)
        mask[np.random.default_rng(seed).choice(features, chosen, replace=False)] = True
        return mask

    return select


def test_the_bound_is_attained_by_guessing_on_one_pair():
    """Chosen by both halves are q²/p on average, and (2π - 1) is 1: neither a smaller bound nor a larger one fits."""
    false = [len(stability_selection(guessing(40, 10), 20, subsamples=2, threshold=1.0, seed=s).selected)
             for s in range(2000)]  # fmt: skip
    error = np.std(false, ddof=1) / math.sqrt(len(false))
    bound = stability_selection(guessing(40, 10), 20, subsamples=2, threshold=1.0).bound
    assert bound == pytest.approx(10**2 / 40)
    assert abs(np.mean(false) - bound) < 4 * error < 0.3 * bound


@given(
    q=st.floats(0.01, 50), features=st.integers(50, 10_000), false_positives=st.floats(0.01, 20)
)  # fmt: skip
def test_a_threshold_is_the_smallest_that_meets_the_bound(q, features, false_positives):
    threshold = threshold_for(q, features, false_positives)
    if math.isnan(threshold):
        assert false_selection_bound(q, features, 1.0) > false_positives
    else:
        assert 0.5 <= threshold <= 1
        if threshold > 0.5001:
            assert false_selection_bound(q, features, threshold) == pytest.approx(false_positives, rel=1e-6)
            assert false_selection_bound(q, features, threshold - 1e-5) > false_positives


def test_the_bound_is_the_one_of_the_paper():
    """Meinshausen & Bühlmann (2010), after Theorem 1: with π = 0.9 and q = √(0.8p), E[V] ≤ 1."""
    assert false_selection_bound(math.sqrt(0.8 * 1000), 1000, 0.9) == pytest.approx(1.0)


def test_shares_are_counted_over_lambda_and_subsamples():
    """By hand: six subsamples, two λ, four features."""
    masks = np.zeros((6, 2, 4), dtype=bool)
    masks[:, 0, 0] = True  # always, at the first λ
    masks[:3, 1, 1] = True  # in half of them
    masks[:3, 0, 2] = masks[3:, 1, 2] = True  # at one λ or the other: always chosen, at no λ in more than half
    calls = iter(masks)
    found = stability_selection(
        lambda rows, seed: next(calls), 10, subsamples=6, threshold=0.6, names="a b c d".split()
    )
    assert found.probabilities.tolist() == [1.0, 0.5, 0.5, 0.0]
    assert found.frequencies.tolist() == [[1.0, 0.0, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0]]
    assert found.selected_names == ("a",)
    assert found.mean_selected == (6 + 3 + 6) / 6
    assert found.bound == pytest.approx(2.5**2 / (0.2 * 4))
    assert [row["feature"] for row in found.rows()] == ["a", "b", "c", "d"]
    assert str(found).splitlines()[0] == "1 of 4 features selected: chosen in at least 60 % of 6 subsamples"


@pytest.mark.parametrize("samples", [20, 21])
def test_subsamples_are_halves_and_pairs_are_disjoint(samples):
    parts = []

    def select(rows, seed):
        parts.append(rows)
        return np.ones(3, dtype=bool)

    stability_selection(select, samples, subsamples=8)
    for first, second in zip(parts[::2], parts[1::2], strict=True):
        assert len(np.unique(np.concatenate([first, second]))) == 20
        assert len(first) == len(second) == 10
        assert (np.diff(first) > 0).all()
    assert len({tuple(part) for part in parts}) == 8
    parts.clear()
    stability_selection(select, samples, subsamples=3, complementary=False)
    assert [len(part) for part in parts] == [10, 10, 10]


def test_groups_are_chosen_as_features_are():
    generator = np.random.default_rng(0)
    data = generator.standard_normal((80, 12))
    groups = np.repeat(np.arange(4), 3)
    response = data[:, 3:6].sum(1) + generator.standard_normal(80)

    def select(rows, seed):
        coef = lasso_path(data[rows], response[rows], alphas=[0.3])[1][:, 0]
        return np.array([coef[groups == group].any() for group in range(4)])

    found = stability_selection(select, 80, subsamples=20)
    assert found.selected == (1,)


def test_false_positives_choose_the_threshold():
    select = along_the_lasso_path(*gaussian_problem(0), np.geomspace(0.8, 0.4, 4))
    found = stability_selection(select, SAMPLES, subsamples=50, false_positives=1.0)
    assert 0.5 < found.threshold < 1
    assert found.bound == pytest.approx(1.0)
    assert set(found.selected) == set(np.flatnonzero(found.probabilities >= found.threshold))


def test_where_no_threshold_will_do_the_result_says_so():
    found = stability_selection(guessing(40, 30), 20, subsamples=10, false_positives=1.0)
    assert math.isnan(found.threshold)
    assert math.isnan(found.bound)
    assert found.selected == ()
    assert str(found).startswith(
        "no threshold up to 1 bounds the false selections by 1: 30 of 40 are chosen on average"
    )
    assert "at most 6.32 may be" in str(found)  # √40
    assert [series.name for series in found.plot().panels[0].series] == ["not selected"]


def test_a_result_shows_itself():
    found = stability_selection(along_the_lasso_path(*gaussian_problem(0), [0.4]), SAMPLES, subsamples=20)
    frame = found.to_frame()
    assert list(frame.columns) == ["feature", "probability", "selected", "at λ number"]
    assert frame["probability"].is_monotonic_decreasing
    assert sorted(map(int, frame["feature"][frame["selected"]])) == list(found.selected)
    selected, others, rule = found.plot().panels[0].series
    assert len(selected.x) + len(others.x) == FEATURES
    assert len(selected.x) == len(found.selected)
    assert rule.y == (0.6,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.5}, r"threshold is 0\.5"),
        ({"threshold": 1.1}, r"threshold is 1\.1"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"threshold": 0.7, "false_positives": 1}, "one of them"),
        ({"false_positives": 0}, "false_positives is 0"),
        ({"subsamples": 7}, "even number"),
        ({"subsamples": 0}, "subsamples is 0"),
        ({"samples": 1}, "samples is 1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    arguments = {"samples": 20, **options}
    with pytest.raises(ValueError, match=message):
        stability_selection(lambda rows, seed: pytest.fail("it was called"), arguments.pop("samples"), **arguments)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones(3), TypeError, "array of float64"),
        (np.array([0, 2]), TypeError, "array of int64"),
        (np.ones((1, 2, 3), dtype=bool), ValueError, r"shape \(1, 2, 3\)"),
        (np.ones((0, 3), dtype=bool), ValueError, r"shape \(0, 3\)"),
    ],
)
def test_a_mask_of_another_kind_is_refused(mask, error, message):
    with pytest.raises(error, match=message):
        stability_selection(lambda rows, seed: mask, 20)


def test_masks_of_different_shapes_are_refused():
    shapes = iter([3, 3, 4, 4])
    with pytest.raises(ValueError, match="masks of the shapes"):
        stability_selection(lambda rows, seed: np.ones(next(shapes), dtype=bool), 20, subsamples=4)


def test_as_many_names_as_features():
    with pytest.raises(ValueError, match="names has 2 names; accepted are 3"):
        stability_selection(lambda rows, seed: np.ones(3, dtype=bool), 20, names=["a", "b"])
