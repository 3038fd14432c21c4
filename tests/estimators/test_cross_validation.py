"""The λ that cross-validation chooses: that of scikit-learn and of glmnet's rule, on the same folds."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Lasso, LassoCV, lasso_path
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nonsmooth.estimators import ProxClassifier, ProxClassifierCV, ProxRegressor, ProxRegressorCV
from nonsmooth.penalties import MCP, ElasticNet, GroupL1
from nonsmooth.select.rules import choose

EXACT = {"tol": 1e-10, "max_iter": 100_000}


def stored(shared_data, name):
    with np.load(shared_data / "lasso" / f"{name}.npz") as arrays:
        return arrays["X"].astype(float), arrays["y"].astype(float)


def glmnet_curve(data, response, strengths, folds):
    """`cvm`, `cvsd` and `lambda.1se` of cv.glmnet(standardize = FALSE), by scikit-learn's coordinate descent.

    Returns the mean squared errors, their standard errors, and the places of lambda.min and lambda.1se.
    """
    raw, sizes = [], []
    for train, test in folds:
        center, offset = data[train].mean(0), response[train].mean()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            _, coefs, _ = lasso_path(data[train] - center, response[train] - offset, alphas=strengths, **EXACT)
        predicted = offset + (data[test] - center) @ coefs
        raw.append(((response[test][:, None] - predicted) ** 2).mean(0))
        sizes.append(len(test))
    shares = np.array(sizes) / np.sum(sizes)
    cvm = shares @ np.array(raw)
    cvsd = np.sqrt(shares @ (np.array(raw) - cvm) ** 2 / (len(folds) - 1))
    lowest = np.flatnonzero(cvm <= cvm.min())[0]
    return cvm, cvsd, lowest, np.flatnonzero(cvm <= (cvm + cvsd)[lowest])[0]


@pytest.mark.parametrize(
    ("name", "folds", "number", "ratio"),
    [
        ("prostate", 10, 30, 0.01),
        ("diabetes64", 10, 30, 0.01),
        pytest.param("riboflavin", 10, 30, 0.03, marks=pytest.mark.slow),
    ],
)
def test_real_data_as_glmnet_and_scikit_learn_choose(shared_data, name, folds, number, ratio):
    data, response = stored(shared_data, name)
    splits = list(KFold(folds, shuffle=True, random_state=0).split(data))
    model = ProxRegressorCV(cv=splits, n_strengths=number, ratio=ratio, choice="one-standard-error")
    model.fit(data, response)
    cvm, cvsd, lowest, simplest = glmnet_curve(data, response, model.strengths_, splits)
    np.testing.assert_allclose(-model.mean_scores_, cvm, rtol=1e-6)
    np.testing.assert_allclose(model.score_errors_, cvsd, rtol=1e-6)
    assert model.best_index_ == simplest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = LassoCV(alphas=model.strengths_, cv=splits, **EXACT).fit(data, response)
        simpler = Lasso(model.strength_, **EXACT).fit(data, response)
    # Not coefficients: of genes that go together one may stand for another at their tolerance.
    small = 1e-5 * response.std()
    np.testing.assert_allclose(model.predict(data), simpler.predict(data), atol=small)
    curve = {"scores": model.mean_scores_, "errors": model.score_errors_, "sizes": model.sizes_}
    best = choose("validation", **curve)
    assert best == lowest
    assert model.strengths_[best] == theirs.alpha_
    np.testing.assert_allclose(model.path_.models[best].predict(data), theirs.predict(data), atol=small)


def test_the_chosen_model_is_that_of_the_plain_estimator(diabetes):
    data, response = diabetes
    model = ProxRegressorCV(n_strengths=5, cv=2).fit(data, response)
    plain = ProxRegressor(strength=model.strength_).fit(data, response)
    np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-6)
    assert model.intercept_ == pytest.approx(plain.intercept_)
    np.testing.assert_allclose(model.predict(data), plain.predict(data), atol=1e-5)
    assert model.certificate_.objective == pytest.approx(plain.certificate_.objective)
    assert model.certificate_.converged
    largest = np.abs((data - data.mean(0)).T @ (response - response.mean())).max() / len(response)
    np.testing.assert_allclose(model.strengths_, np.geomspace(largest, 0.01 * largest, 5))
    assert model.scores_path_.shape == (2, 5)
    assert model.strength_ == model.strengths_[model.best_index_]
    np.testing.assert_array_equal(model.sizes_, np.count_nonzero(model.path_.coefs, axis=1))


def test_weights_count_in_training_and_in_validation(diabetes):
    data, response = diabetes
    weights = np.random.default_rng(0).uniform(0, 3, 442)
    weights[::10] = 0
    strengths = np.geomspace(30, 1, 4)
    splits = list(KFold(3).split(data))
    model = ProxRegressorCV(cv=splits, strengths=strengths, tol=1e-6).fit(data, response, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = LassoCV(alphas=strengths, cv=splits, **EXACT).fit(data, response, weights)
    np.testing.assert_allclose(-model.scores_path_.T, theirs.mse_path_, rtol=1e-5)
    assert model.strength_ == theirs.alpha_
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-4)
    shares = [weights[test].sum() for _, test in splits]
    np.testing.assert_allclose(model.mean_scores_, np.average(model.scores_path_, axis=0, weights=shares))
    assert np.abs(model.mean_scores_ / model.scores_path_.mean(0) - 1).max() > 1e-4


def test_two_classes_are_scored_by_their_cross_entropy(tumours):
    data, classes = tumours[0][:, :6], tumours[1]
    splits = list(StratifiedKFold(2).split(data, classes))
    model = ProxClassifierCV(cv=2, strengths=[0.2, 0.02, 0.05], tol=1e-4).fit(data, classes)
    assert list(model.strengths_) == [0.2, 0.05, 0.02]
    for fold, (train, test) in enumerate(splits):
        for place, strength in enumerate(model.strengths_):
            plain = ProxClassifier(strength=strength, tol=1e-4).fit(data[train], classes[train])
            odds = plain.intercept_ + data[test] @ plain.coef_[0]
            expected = -np.log1p(np.exp(-odds * (2 * classes[test] - 1))).mean()
            assert model.scores_path_[fold, place] == pytest.approx(expected, abs=1e-4)
    assert model.strength_ == 0.02
    assert model.score(data, classes) > 0.9


def test_classes_with_names(iris):
    data, classes = iris
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    model = ProxClassifierCV(choice="size", size=2, n_strengths=4, ratio=0.02, cv=2, tol=1e-2).fit(data, names)
    assert set(model.predict(data)) == set(names)
    assert model.coef_.shape == (3, 4)
    assert model.predict_proba(data).shape == (150, 3)
    assert np.count_nonzero(model.coef_) <= 2


def test_a_size_is_kept(diabetes):
    chosen = {}
    for size in (1, 4):
        model = ProxRegressorCV(choice="size", size=size, n_strengths=6, cv=2, tol=1e-3).fit(*diabetes)
        chosen[size] = model.strength_
        assert np.count_nonzero(model.coef_) <= size
        fitting = model.sizes_ <= size
        assert model.mean_scores_[model.best_index_] == model.mean_scores_[fitting].max()
    assert chosen[1] > chosen[4]
    with pytest.raises(ValueError, match="size is 1; accepted is at least 8, the smallest there is"):
        ProxRegressorCV(choice="size", size=1, strengths=[0.5, 0.2], cv=2, tol=1e-3).fit(*diabetes)


def test_one_standard_error_takes_the_largest_strength_even_where_a_size_falls_with_it(monkeypatch, diabetes):
    model = ProxRegressorCV(choice="one-standard-error", n_strengths=6, cv=2, tol=1e-3).fit(*diabetes)
    path, expected = model.path_, model.best_index_
    for place, each in enumerate(path.models):  # sizes that fall all the way
        object.__setattr__(each.certificate_, "zeros", place)
    monkeypatch.setattr(ProxRegressorCV, "_path", lambda *_, **__: path)
    again = clone(model).fit(*diabetes)
    assert list(again.sizes_) == [10, 9, 8, 7, 6, 5]
    assert again.best_index_ == expected < 5


def test_a_network_has_to_be_given_strengths(iris):
    model = ProxClassifierCV(GroupL1(1.0, dim=1), hidden_layer_sizes=(8,), max_iter=80, cv=2, random_state=0)
    with pytest.raises(ValueError, match=r"strengths is None.*hidden layers"):
        model.fit(*iris)
    model.set_params(strengths=[0.001, 0.3, 0.01])
    with pytest.warns(ConvergenceWarning, match=r"ProxClassifierCV.*of 9 fits"):
        model.fit(*iris)
    assert list(model.strengths_) == [0.3, 0.01, 0.001]
    assert list(model.path_.strengths) == [0.001, 0.01, 0.3]
    assert model.sizes_[0] < model.sizes_[2]
    assert model.strength_ == model.strengths_[np.argmax(model.mean_scores_)]
    np.testing.assert_array_equal(model.coefs_[0], model.path_.models[2 - model.best_index_].coefs_[0])


@pytest.mark.parametrize("penalty", [ElasticNet(1.0, l1_ratio=0.5), MCP(1.0), GroupL1(1.0, dim=1)])
def test_other_penalties(diabetes, penalty):
    model = ProxRegressorCV(penalty, n_strengths=5, ratio=0.05, cv=3, tol=1e-4).fit(*diabetes)
    assert model.best_index_ > 0
    assert model.score(*diabetes) > 0.3


SHORT = {"n_strengths": 3, "ratio": 0.2, "tol": 1e-3, "cv": ShuffleSplit(3, random_state=0)}


def test_other_scores(tumours):
    data, classes = tumours[0][:, :6], tumours[1]
    model = ProxClassifierCV(scoring="accuracy", **SHORT).fit(data, classes, np.ones(569))
    for (train, test), scores in zip(SHORT["cv"].split(data), model.scores_path_, strict=True):
        for strength, score in zip(model.strengths_, scores, strict=True):
            plain = ProxClassifier(strength=strength, tol=1e-3).fit(data[train], classes[train])
            assert plain.score(data[test], classes[test]) == pytest.approx(score, abs=1.01 / len(test))


@pytest.mark.processes
def test_folds_in_processes_are_the_same(tumours):
    data, classes = tumours[0][:, :6], tumours[1]
    model = ProxClassifierCV(scoring="roc_auc", **SHORT).fit(data, classes)
    assert np.all((model.scores_path_ >= 0.5) & (model.scores_path_ <= 1))
    parallel = ProxClassifierCV(scoring="roc_auc", n_jobs=2, **SHORT).fit(data, classes)
    np.testing.assert_array_equal(parallel.scores_path_, model.scores_path_)


def test_one_fold_has_no_standard_error(diabetes):
    arguments = {"n_strengths": 3, "cv": ShuffleSplit(1, random_state=0), "tol": 1e-4}
    model = ProxRegressorCV(**arguments).fit(*diabetes)
    assert np.all(np.isnan(model.score_errors_))
    with pytest.raises(ValueError, match=r"errors.* is nan, that of the best score"):
        ProxRegressorCV(choice="one-standard-error", **arguments).fit(*diabetes)


def test_a_fit_that_fails_leaves_the_earlier_one(diabetes):
    data, response = diabetes
    frame = pd.DataFrame(data, columns=[f"f{j}" for j in range(10)])
    model = ProxRegressorCV(n_strengths=3, cv=3, tol=1e-4).fit(frame, response)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((442, 3), np.nan), response)
    with pytest.raises(ValueError, match="strengths is"):
        model.set_params(strengths=[-1.0]).fit(data, response)
    assert {**vars(model), "strengths": None} == before
    assert list(model.feature_names_in_) == list(frame.columns)
    model.set_params(strengths=None).fit(data, response)
    assert not hasattr(model, "feature_names_in_")


def test_scikit_learns_tools(diabetes):
    data, response = diabetes
    pipeline = make_pipeline(StandardScaler(), ProxRegressorCV(n_strengths=3, ratio=0.1, cv=2, tol=1e-3))
    search = GridSearchCV(pipeline, {"proxregressorcv__choice": ["validation", "one-standard-error"]}, cv=2)
    model = search.fit(data, response).best_estimator_[-1]
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict(data), model.predict(data))
    assert restored.strength_ == model.strength_
    assert not hasattr(clone(model), "strength_")
    assert "strength" not in model.get_params()
    path = ProxRegressorCV(tol=1e-4).path(data, response, n_strengths=3)
    assert [type(each) for each in path.models] == [ProxRegressor] * 3
    assert isinstance(ProxClassifierCV()._for_one_strength(), ProxClassifier)


def test_the_curve_is_a_table_and_a_figure(diabetes):
    model = ProxRegressorCV(n_strengths=5, cv=3, choice="knee", tol=1e-4)
    with pytest.raises(NotFittedError):
        model.plot()
    with pytest.raises(NotFittedError):
        model.to_frame()
    model.fit(*diabetes)
    frame = model.to_frame()
    assert list(frame.columns) == ["λ", "score", "standard error", "not zero", "chosen"]
    np.testing.assert_array_equal(frame["score"], model.mean_scores_)
    assert list(np.flatnonzero(frame["chosen"])) == [model.best_index_]
    assert str(model.curve_).startswith(f"λ = {model.strength_:.4g} by knee")
    curve = {"scores": model.mean_scores_, "errors": model.score_errors_, "sizes": model.sizes_}
    assert model.best_index_ == choose("knee", **curve) < choose("validation", **curve)
    validation, size = model.plot().panels
    assert validation.series[0].y == tuple(model.mean_scores_)
    np.testing.assert_allclose(validation.series[0].low, model.mean_scores_ - model.score_errors_)
    assert size.series[0].y == tuple(model.sizes_)
    assert {panel.series[-1].x for panel in (validation, size)} == {(model.strength_,)}


@pytest.mark.parametrize(
    ("arguments", "weights", "message"),
    [
        ({"choice": "best"}, None, "choice is 'best'; accepted are 'validation'"),
        ({"choice": "size"}, None, "size is None, but choice is 'size'"),
        ({"size": 3}, None, "size is 3, but choice is 'validation'"),
        ({"penalty": None}, None, "penalty is None"),
        ({"scoring": "beauty"}, None, "beauty"),
        ({"cv": 1}, None, "n_splits=1"),
        ({"cv": KFold(3)}, np.arange(150) >= 50, "sample_weight is zero throughout the test samples"),
        ({"cv": KFold(3)}, None, "cv has a training fold without class 0"),
    ],
)
def test_what_is_refused_and_how(iris, arguments, weights, message):
    model = ProxClassifierCV(**{"strengths": [0.1], "tol": 1e-2, **arguments})
    with pytest.raises(ValueError, match=message):
        model.fit(*iris, sample_weight=weights)
    assert not hasattr(model, "n_features_in_")
