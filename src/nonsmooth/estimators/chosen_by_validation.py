"""Regression and classification with a λ that cross-validation chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import log_loss, mean_squared_error

from nonsmooth.estimators.classifier import ProxClassifier
from nonsmooth.estimators.cross_validation import CrossValidatedEstimator
from nonsmooth.estimators.regressor import ProxRegressor


def negative_squared_error(model: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Minus the mean squared error, on average over responses."""
    return -float(mean_squared_error(y, model.predict(X), sample_weight=sample_weight))


def negative_log_loss(model: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Minus the mean cross-entropy.

    Raises:
        ValueError: y has a class that the model has never seen.
    """
    unseen = np.setdiff1d(y, model.classes_)
    if len(unseen):
        raise ValueError(
            f"cv has a training fold without class {unseen[0]}; accepted are folds with all classes in each"
        )
    return -float(log_loss(y, model.predict_proba(X), sample_weight=sample_weight, labels=model.classes_))


class ProxRegressorCV(CrossValidatedEstimator, ProxRegressor):
    """`ProxRegressor` with the λ that cross-validation chooses; with penalty "L1" it is scikit-learn's `LassoCV`.

    Each fold's training samples give a path of solutions, which its test samples score; the model is that of the chosen
    λ on the path of all data. Standardise the features, in a pipeline with this estimator.

    Args:
        penalty: a penalty of `nonsmooth.penalties`, or the name of one in upper or lower case. Its own λ is not used.
        strengths: the λ to choose from; None for `n_strengths` from λ_max of all data, at which all weights are 0, down
            to `ratio`·λ_max in a geometric sequence. A network with hidden layers has to be given them.
        n_strengths: how many, where none are given.
        ratio: the smallest over the largest, where none are given.
        cv: None for five folds, a number of folds, a splitter of scikit-learn, or pairs of training and test indices.
            Numbers mean `KFold`, in the order of the samples.
        choice: "validation", the best mean score; "one-standard-error", the largest λ whose score is within one
            standard error of the best one's, `lambda.1se` of glmnet; "knee", where the score stops rising with the
            logarithm of the size; "size", the best score with at most `size` weights. The rules are those of
            `nonsmooth.select.rules.choose`.
        size: the most penalised weights that may be other than 0, with choice "size".
        scoring: a name or a callable of scikit-learn, higher is better; None for minus the mean squared error.
        n_jobs: the number of processes that folds are given to; None for one, -1 for all cores.
        hidden_layer_sizes, activation, fit_intercept, optimizer, lr, momentum, lr_schedule, batch_size: as for
            `ProxRegressor`.
        max_iter, tol, random_state, dtype, device: likewise.

    Attributes:
        strength_: the λ that was chosen.
        strengths_: all λ, (n,), falling.
        best_index_: the place of the chosen one among them.
        scores_path_: the score of each fold on its test samples, (folds, n).
        mean_scores_: their mean, in which a fold weighs as much as its test samples do, (n,).
        score_errors_: its standard error, √(Σw(s - mean)²/Σw/(folds - 1)) for weights w of the folds, (n,); NaN with
            one fold.
        sizes_: penalised weights that are not 0 in the fit to all data, (n,).
        curve_: all of that as a table.
        path_: the fits to all data.
        coef_, intercept_, coefs_, intercepts_, certificate_, n_iter_, module_: of the chosen fit, see `ProxRegressor`.
        n_features_in_: number of features.
        feature_names_in_: their names, where X has names.
    """

    plain = ProxRegressor
    negative_loss = staticmethod(negative_squared_error)


class ProxClassifierCV(CrossValidatedEstimator, ProxClassifier):
    """`ProxClassifier` with the λ that cross-validation chooses.

    Each fold's training samples give a path of solutions, which its test samples score; the model is that of the chosen
    λ on the path of all data. Standardise the features, in a pipeline with this estimator.

    Args:
        penalty: a penalty of `nonsmooth.penalties`, or the name of one in upper or lower case. Its own λ is not used.
        strengths: the λ to choose from; None for `n_strengths` from λ_max of all data, at which all weights are 0, down
            to `ratio`·λ_max in a geometric sequence. A network with hidden layers has to be given them.
        n_strengths: how many, where none are given.
        ratio: the smallest over the largest, where none are given.
        cv: None for five folds, a number of folds, a splitter of scikit-learn, or pairs of training and test indices.
            Numbers mean `StratifiedKFold`, in the order of the samples.
        choice: "validation", the best mean score; "one-standard-error", the largest λ whose score is within one
            standard error of the best one's, `lambda.1se` of glmnet; "knee", where the score stops rising with the
            logarithm of the size; "size", the best score with at most `size` weights. The rules are those of
            `nonsmooth.select.rules.choose`.
        size: the most penalised weights that may be other than 0, with choice "size".
        scoring: a name or a callable of scikit-learn, higher is better; None for minus the mean cross-entropy.
        n_jobs: the number of processes that folds are given to; None for one, -1 for all cores.
        hidden_layer_sizes, activation, fit_intercept, optimizer, lr, momentum, lr_schedule, batch_size: as for
            `ProxClassifier`.
        max_iter, tol, random_state, dtype, device: likewise.

    Attributes:
        strength_: the λ that was chosen.
        strengths_: all λ, (n,), falling.
        best_index_: the place of the chosen one among them.
        scores_path_: the score of each fold on its test samples, (folds, n).
        mean_scores_: their mean, in which a fold weighs as much as its test samples do, (n,).
        score_errors_: its standard error, √(Σw(s - mean)²/Σw/(folds - 1)) for weights w of the folds, (n,); NaN with
            one fold.
        sizes_: penalised weights that are not 0 in the fit to all data, (n,).
        curve_: all of that as a table.
        path_: the fits to all data.
        classes_: the classes, sorted.
        coef_, intercept_, coefs_, intercepts_, certificate_, n_iter_, module_: of the chosen fit, see `ProxClassifier`.
        n_features_in_: number of features.
        feature_names_in_: their names, where X has names.
    """

    plain = ProxClassifier
    negative_loss = staticmethod(negative_log_loss)
