"""The rules of choice against what they say, tried model by model in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.select.rules import CRITERIA, choose

# Few values, so that ties are common; eighths, so that sums are exact.
EIGHTHS = st.integers(-16, 16).map(lambda number: number / 8)
MODELS = st.lists(
    st.tuples(
        st.one_of(EIGHTHS, st.just(math.nan), st.just(-math.inf)),
        st.integers(0, 8).map(lambda n: n / 8),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=8,
).filter(lambda models: any(math.isfinite(score) for score, _, _ in models))

PATIENT = settings(deadline=None)
"""A busy machine takes its time."""


def by_columns(models):
    scores, errors, sizes = zip(*models, strict=True)
    return {"scores": scores, "errors": errors, "sizes": sizes}


def beats(one, other):
    """Whether a model is preferred to another that comes before it."""
    return one[0] > other[0] or (one[0] == other[0] and one[2] < other[2])


def tried_one_by_one(models, accepted=lambda model: True):
    best = None
    for index, model in enumerate(models):
        if math.isfinite(model[0]) and accepted(model) and (best is None or beats(model, models[best])):
            best = index
    return best


@PATIENT
@given(MODELS)
def test_validation_is_the_best_score(models):
    assert choose("validation", **by_columns(models)) == tried_one_by_one(models)


@PATIENT
@given(MODELS, st.integers(0, 7))
def test_size_is_the_best_score_of_those_that_fit(models, size):
    expected = tried_one_by_one(models, lambda model: model[2] <= size)
    if expected is None:
        smallest = min(extent for score, _, extent in models if math.isfinite(score))
        with pytest.raises(ValueError, match=rf"size is {size}; accepted is at least {smallest},"):
            choose("size", **by_columns(models), size=size)
    else:
        assert choose("size", **by_columns(models), size=size) == expected


@PATIENT
@given(MODELS)
def test_one_standard_error_is_the_smallest_model_that_is_near_enough(models):
    best = models[tried_one_by_one(models)]
    near = [(m[2], index) for index, m in enumerate(models) if math.isfinite(m[0]) and m[0] >= best[0] - best[1]]
    assert choose("one-standard-error", **by_columns(models)) == min(near)[1]


@PATIENT
@given(MODELS)
def test_one_standard_error_is_that_of_glmnet_where_models_shrink_as_strength_grows(models):
    models = [(*model[:2], size) for model, size in zip(models, sorted(m[2] for m in models), strict=True)]
    losses = np.array([-m[0] if math.isfinite(m[0]) else math.inf for m in models])
    # glmnet's getOptcv, with the places of λ in falling order: the first is the largest λ.
    lowest = np.flatnonzero(losses <= losses.min())[0]
    limit = losses[lowest] + models[lowest][1]
    assert choose("one-standard-error", **by_columns(models)) == np.flatnonzero(losses <= limit)[0]


@PATIENT
@given(MODELS)
def test_the_knee_is_the_point_farthest_from_the_line_between_the_ends(models):
    found = choose("knee", **by_columns(models))
    points = [(math.log(1 + size), score) for score, _, size in models if math.isfinite(score)]
    low, high = min(points)[0], max(points)[0]
    first = max(point for point in points if point[0] == low)
    last = max(point for point in points if point[0] == high)
    normal = (first[1] - last[1], last[0] - first[0])  # towards better scores
    length = math.hypot(*normal)

    def distance(point):
        return (normal[0] * (point[0] - first[0]) + normal[1] * (point[1] - first[1])) / length

    inner = [distance(point) for point in points if low < point[0] < high]
    if max(inner, default=0) > 1e-9:
        mine = (math.log(1 + models[found][2]), models[found][0])
        assert distance(mine) == pytest.approx(max(inner), abs=1e-9)
        assert low < mine[0] < high
    elif max(inner, default=0) < -1e-9 or not inner:
        assert found == choose("validation", **by_columns(models))


@PATIENT
@given(MODELS, st.sampled_from([0.25, 4.0, 1024.0]), st.integers(-8, 8), st.sampled_from(CRITERIA))
def test_the_unit_of_scores_does_not_matter(models, factor, shift, criterion):
    size = 6 if criterion == "size" else None
    other = [(score * factor + shift, error * factor, extent) for score, error, extent in models]
    one, two = (choose(criterion, **by_columns(each), size=size) for each in (models, other))
    # Rounding may decide between two points that are equally far from the chord.
    assert one == two or criterion == "knee"


def test_a_knee_as_one_sees_it():
    sizes = [1, 10, 100, 1_000, 10_000, 100_000]
    scores = [0.10, 0.45, 0.80, 0.85, 0.86, 0.87]
    # With the sizes themselves it would be the point after, where the score rises by 0.05 for 900 more.
    assert choose("knee", scores=scores, errors=[0.0] * 6, sizes=sizes) == 2


def test_a_tie_in_all_goes_to_the_larger_strength():
    for criterion in CRITERIA:
        size = 3 if criterion == "size" else None
        assert choose(criterion, scores=[0.5] * 3, errors=[0.1] * 3, sizes=[3] * 3, size=size) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "aic"}, "criterion is 'aic'; accepted are 'validation', 'one-standard-error', 'knee', 'size'"),
        ({"criterion": "size"}, "size is None, but criterion is 'size'; accepted there is a number"),
        ({"criterion": "size", "size": -1}, "size is -1, but criterion is 'size'; accepted there is a number"),
        ({"size": 3}, "size is 3, but criterion is 'validation'; accepted there is None"),
        ({"scores": []}, r"scores has shape \(0,\)"),
        ({"scores": [[1.0]]}, r"scores has shape \(1, 1\)"),
        ({"errors": [0.1]}, r"errors has shape \(1,\); accepted is that of scores, \(2,\)"),
        ({"sizes": [1, 2, 3]}, r"sizes has shape \(3,\)"),
        ({"sizes": [1, -1]}, "sizes is .*at least 0"),
        ({"errors": [0.1, -1.0]}, "errors is .*at least 0"),
        ({"sizes": [1, np.inf]}, "sizes is .*finite"),
        ({"scores": [np.nan, -np.inf]}, "scores are .*finite"),
        ({"criterion": "one-standard-error", "errors": [np.nan, 0.1]}, r"errors\[0\] is nan, that of the best score"),
    ],
)
def test_what_is_refused_and_how(arguments, message):
    usual = {"criterion": "validation", "scores": [2.0, 1.0], "errors": [0.1, 0.1], "sizes": [1, 2]}
    with pytest.raises(ValueError, match=message):
        choose(**{**usual, **arguments})
