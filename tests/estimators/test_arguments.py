"""Arguments: how a penalty is given, what is refused, and that scikit-learn's tools can handle all of them."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import Lasso
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nonsmooth.estimators import ProxClassifier, ProxRegressor
from nonsmooth.penalties import L1, ElasticNet, GroupL1, Nuclear, SparseGroupL1


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ({}, {"penalty": L1(0.01)}),
        ({"penalty": "l1", "strength": 2.0}, {"penalty": L1(2.0)}),
        ({"penalty": "ElasticNet", "strength": 2.0}, {"penalty": ElasticNet(2.0)}),
        ({"penalty": L1(5.0), "strength": 2.0}, {"penalty": L1(2.0)}),
        ({"penalty": L1(5.0), "strength": 0}, {"penalty": None}),
        ({"penalty": GroupL1(5.0, dim=1), "strength": 2.0}, {"penalty": L1(2.0)}),
        ({"penalty": SparseGroupL1(2.0, dim=1, l1_ratio=1.0)}, {"penalty": L1(2.0)}),
        ({"penalty": Nuclear(2.0)}, {"penalty": GroupL1(2.0, dim=0, weights=torch.ones(1))}),
        ({"penalty": L1(2.0, weights=torch.arange(10))}, {"penalty": L1(2.0 * torch.arange(10.0))}),
    ],
)
def test_ways_to_say_the_same_penalty(diabetes, arguments, same):
    model, other = (ProxRegressor(tol=1e-9, **each).fit(*diabetes) for each in (arguments, same))
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"penalty": "l7"}, ValueError, "'l7'; accepted are .*ElasticNet"),
        ({"penalty": 0.1}, TypeError, "penalty is 0.1"),
        ({"penalty": None, "strength": 0.1}, ValueError, "strength is 0.1, but penalty is None"),
        ({"strength": -1}, ValueError, "strength is -1"),
        ({"strength": np.nan}, ValueError, "strength is nan"),
        ({"strength": "auto"}, ValueError, "strength is 'auto'"),
        ({"penalty": L1(torch.ones(10)), "strength": 1.0}, ValueError, "strength is 1.0.*weights"),
        ({"penalty": L1(torch.ones(3))}, ValueError, "strength has shape"),
        ({"hidden_layer_sizes": (3, 0)}, ValueError, r"hidden_layer_sizes is \(3, 0\)"),
        ({"hidden_layer_sizes": None}, ValueError, "hidden_layer_sizes is None"),
        ({"hidden_layer_sizes": (2.5,)}, ValueError, "hidden_layer_sizes is"),
        ({"activation": "softmax"}, ValueError, "activation is 'softmax'; accepted are 'relu'"),
        ({"optimizer": "lbfgs"}, ValueError, "optimizer is 'lbfgs'; accepted are 'auto', 'sgd'"),
        ({"lr": 0}, ValueError, "lr is 0"),
        ({"lr": "fast"}, ValueError, "lr is 'fast'"),
        ({"momentum": 1.0}, ValueError, "momentum is 1.0"),
        ({"momentum": 0.9, "optimizer": "adam"}, ValueError, "momentum is 0.9, but optimizer 'adam'"),
        ({"lr_schedule": "linear"}, ValueError, "lr_schedule is 'linear'"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"batch_size": 2.0}, ValueError, "batch_size is 2.0"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"max_iter": True}, ValueError, "max_iter is True"),
        ({"tol": -1e-3}, ValueError, "tol is -0.001"),
        ({"dtype": "float16"}, ValueError, "dtype is 'float16'; accepted are 'float32', 'float64'"),
        ({"device": "abacus"}, ValueError, "device is 'abacus'"),
    ],
)
@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_what_is_refused_and_how(tumours, kind, arguments, error, message):
    data, target = tumours[0][:, :10], tumours[1]
    model = kind(**arguments)  # arguments are judged when they are used, as scikit-learn wants it
    with pytest.raises(error, match=message):
        model.fit(data, target)
    assert not hasattr(model, "module_")


def test_data_that_are_refused(iris):
    data, classes = iris
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        ProxRegressor().fit(sparse.csr_array(data), classes)
    with pytest.raises(ValueError, match="y has one class, 1"):
        ProxClassifier().fit(data, np.ones(150, dtype=int))
    with pytest.raises(NotFittedError):
        ProxRegressor().predict(data)
    with pytest.raises(ValueError, match="features"):
        ProxRegressor().fit(data, classes).predict(data[:, :3])


def test_a_warm_start_of_another_shape_is_refused(iris):
    data, classes = iris
    model = ProxRegressor(warm_start=True).fit(data, classes)
    before = model.coef_
    with pytest.raises(ValueError, match=r"warm_start is True.*\[4, 1\].*\[3, 1\]"):
        model.fit(data[:, :3], classes)
    with pytest.raises(ValueError, match=r"warm_start is True.*\[4, 1\].*\[4, 5, 1\]"):
        model.set_params(hidden_layer_sizes=(5,)).fit(data, classes)
    np.testing.assert_array_equal(model.coefs_[0][0], before)
    assert model.predict(data).shape == (150,), "the earlier fit is as it was"
    assert model.n_features_in_ == 4
    classifier = ProxClassifier(warm_start=True).fit(data, classes)
    with pytest.raises(ValueError, match=r"warm_start is True.*classes"):
        classifier.fit(data, classes + 1)


def test_a_network_has_no_coef_and_says_where_its_weights_are(iris):
    model = ProxClassifier(hidden_layer_sizes=3, max_iter=10, random_state=0, tol=1e4).fit(*iris)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "intercept_")
    with pytest.raises(AttributeError, match="coefs_"):
        _ = model.coef_
    assert [weights.shape for weights in model.coefs_] == [(3, 4), (3, 3)]


@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_clone_and_pickle(tumours, kind):
    model = kind(L1(0.05, weights=torch.ones(30)), random_state=0).fit(*tumours)
    copied = clone(model)
    assert not hasattr(copied, "module_")
    assert copied.penalty is not model.penalty
    assert copied.penalty.specification().keys() == model.penalty.specification().keys()
    np.testing.assert_array_equal(copied.fit(*tumours).coef_, model.coef_)
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict(tumours[0]), model.predict(tumours[0]))
    assert stored.certificate_.objective == model.certificate_.objective
    buffer = io.BytesIO()
    torch.save(model.module_.state_dict(), buffer)
    buffer.seek(0)
    weights = torch.load(buffer, weights_only=True)["0.weight"]
    np.testing.assert_array_equal(weights.numpy(), model.coefs_[0])


def test_a_grid_search_over_strengths_chooses_as_with_lasso(diabetes):
    strengths = [0.3, 1.0, 3.0, 10.0]
    search = GridSearchCV(make_pipeline(StandardScaler(), ProxRegressor()), {"proxregressor__strength": strengths})
    search.fit(*diabetes)
    other = GridSearchCV(make_pipeline(StandardScaler(), Lasso(tol=1e-10)), {"lasso__alpha": strengths}).fit(*diabetes)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"], atol=1e-7)
    assert search.best_params_["proxregressor__strength"] == other.best_params_["lasso__alpha"]
    assert search.best_estimator_[-1].certificate_.converged


def test_a_grid_search_over_penalties(iris):
    penalties = [L1(0.5), L1(0.01), GroupL1(0.01, dim=1)]
    search = GridSearchCV(ProxClassifier(tol=1e-5), {"penalty": penalties}, cv=3).fit(*iris)
    assert search.cv_results_["mean_test_score"][1] > search.cv_results_["mean_test_score"][0]
    assert isinstance(search.best_params_["penalty"], L1 | GroupL1)


def test_other_tools_of_scikit_learn(tumours):
    data, classes = tumours
    selected = SelectFromModel(ProxClassifier(strength=0.1), threshold=1e-12).fit(data, classes)
    model = ProxClassifier(strength=0.1).fit(data, classes)
    np.testing.assert_array_equal(selected.get_support(), model.coef_[0] != 0)
    assert 0 < selected.get_support().sum() < 10
    assert cross_val_score(ProxClassifier(strength=0.01, tol=1e-4), data, classes, cv=3).min() > 0.93
    frame = pd.DataFrame(data, columns=[f"f{j}" for j in range(30)])
    named = ProxClassifier(strength=0.1).fit(frame, classes)
    assert list(named.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(named.predict(frame), model.predict(data))
