"""Estimators that choose λ: a path in each fold, and one through all data, of which the chosen model is a point.

They are the plain estimators with another `fit`: what a fitted one can do and knows is inherited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from nonsmooth.estimators.estimator import ProximalEstimator
from nonsmooth.estimators.path import Path
from nonsmooth.estimators.sample_weights import checked_weights
from nonsmooth.estimators.validation_curve import ValidationCurve, mean_and_error
from nonsmooth.figures import Figure
from nonsmooth.optim.certificate import Certificate
from nonsmooth.penalties import Penalty
from nonsmooth.select.rules import check_criterion, choose


class CrossValidatedEstimator(ProximalEstimator):
    """A linear model or a small network whose λ is chosen by cross-validation.

    `ProxRegressorCV` and `ProxClassifierCV` have the arguments and the attributes.
    """

    plain: ClassVar[type[ProximalEstimator]]
    negative_loss: ClassVar[Callable[..., float]]
    curve_: ValidationCurve
    path_: Path
    strength_: float
    best_index_: int
    strengths_: NDArray[np.float64]
    scores_path_: NDArray[np.float64]
    mean_scores_: NDArray[np.float64]
    score_errors_: NDArray[np.float64]
    sizes_: NDArray[np.int64]

    def __init__(
        self,
        penalty: Penalty | str = "L1",
        *,
        strengths: Any = None,
        n_strengths: int = 50,
        ratio: float = 0.01,
        cv: Any = None,
        choice: str = "validation",
        size: float | None = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        hidden_layer_sizes: tuple[int, ...] = (),
        activation: str = "relu",
        fit_intercept: bool = True,
        optimizer: str = "auto",
        lr: float | str = "auto",
        momentum: float | str = "auto",
        lr_schedule: str = "auto",
        batch_size: int | None = None,
        max_iter: int | str = "auto",
        tol: float | str = "auto",
        random_state: Any = None,
        dtype: str = "float64",
        device: str = "cpu",
    ) -> None:
        super().__init__(
            penalty,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            fit_intercept=fit_intercept,
            optimizer=optimizer,
            lr=lr,
            momentum=momentum,
            lr_schedule=lr_schedule,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            random_state=random_state,
            dtype=dtype,
            device=device,
        )
        self.strengths = strengths
        self.n_strengths = n_strengths
        self.ratio = ratio
        self.cv = cv
        self.choice = choice
        self.size = size
        self.scoring = scoring
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CrossValidatedEstimator:
        """Choose λ, and train on all data.

        Warns:
            ConvergenceWarning: some certificate does not hold at `tol`, in a fold or on all data.

        Args:
            X: (N, features), dense.
            y: the response or the classes.
            sample_weight: weights of the samples, (N,), of at least 0, in training and in validation.

        Returns:
            The estimator.

        Raises:
            TypeError: `penalty` is not a Penalty, or X is sparse.
            ValueError: an argument or the data cannot be used, a test fold weighs nothing, or a training fold lacks a
                class.
        """
        check_criterion(self.choice, self.size, argument="choice")
        model = self._for_one_strength()
        score = self.negative_loss if self.scoring is None else check_scoring(model, scoring=self.scoring)
        features, targets = model._validated(X, y)
        weights = checked_weights(sample_weight, targets)
        splits = list(check_cv(self.cv, targets, classifier=is_classifier(self)).split(features, targets))
        path = self._path(X, y, sample_weight, strengths=self.strengths, n_strengths=self.n_strengths, ratio=self.ratio)
        folds = Parallel(n_jobs=self.n_jobs)(
            delayed(_fold)(model, features, targets, weights, train, test, path.strengths, score)
            for train, test in splits
        )
        self._choose(path, folds)
        self._warn_of([*path.certificates, *(each for fold in folds for each in fold.certificates)], "fits")
        return self

    def _choose(self, path: Path, folds: list[_Fold]) -> None:
        """Set the attributes of a fitted estimator."""
        order = np.argsort(-path.strengths, kind="stable")  # that of a network rises
        fold_scores = np.array([fold.scores for fold in folds])[:, order]
        scores, errors = mean_and_error(fold_scores, np.array([fold.weight for fold in folds]))
        certificates = [path.certificates[place] for place in order]
        sizes = np.array([each.penalized - each.zeros for each in certificates])
        # Along a path a size may fall for once as λ does. What glmnet means by the simplest model is the largest λ.
        simplicity = np.arange(len(order)) if self.choice == "one-standard-error" else sizes
        best = choose(self.choice, scores=scores, errors=errors, sizes=simplicity, size=self.size)
        self.curve_ = ValidationCurve(path.strengths[order], fold_scores, scores, errors, sizes, self.choice, best)
        self.path_ = path
        chosen = path.models[order[best]]
        self.__dict__.pop("feature_names_in_", None)  # an earlier fit may have had names
        arguments = chosen.get_params(deep=False)
        self.__dict__.update({name: value for name, value in vars(chosen).items() if name not in arguments})
        self.strength_, self.best_index_ = float(self.curve_.strengths[best]), best
        self.strengths_, self.scores_path_ = self.curve_.strengths, fold_scores
        self.mean_scores_, self.score_errors_, self.sizes_ = scores, errors, sizes

    def plot(self) -> Figure:
        """The scores with their standard errors, and the sizes, over λ.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        return self.curve_.plot()

    def to_frame(self) -> Any:
        """A row for each λ, as a `pandas.DataFrame`.

        Raises:
            ImportError: pandas is not installed.
            sklearn.exceptions.NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        return self.curve_.to_frame()

    def _for_one_strength(self) -> ProximalEstimator:
        arguments = self.get_params(deep=False)
        shared = {name: arguments[name] for name in self.plain().get_params(deep=False) if name in arguments}
        copied: ProximalEstimator = clone(self.plain(**shared))
        return copied


@dataclass(frozen=True)
class _Fold:
    """What the test samples of a fold say of each strength, in the order of the path."""

    scores: list[float]
    weight: float
    certificates: tuple[Certificate, ...]


def _fold(
    model: ProximalEstimator, features: NDArray[np.float64], targets: NDArray[Any],
    weights: NDArray[np.float64] | None, train: NDArray[np.intp], test: NDArray[np.intp],
    strengths: NDArray[np.float64], score: Callable[..., float],
) -> _Fold:  # fmt: skip
    """Fit a path to the training samples and score it on the test samples."""
    path = model._path(
        features[train], targets[train], None if weights is None else weights[train], strengths=strengths
    )
    if weights is None:
        data: tuple[Any, Any] = features[test], targets[test]
        return _Fold([score(each, *data) for each in path.models], float(len(test)), path.certificates)
    test = test[weights[test] > 0]
    if not len(test):
        raise ValueError("sample_weight is zero throughout the test samples of a fold; accepted is one above 0 in each")
    data, shares = (features[test], targets[test]), weights[test]
    scores = [score(each, *data, sample_weight=shares) for each in path.models]
    return _Fold(scores, float(shares.sum()), path.certificates)
