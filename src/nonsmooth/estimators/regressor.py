"""Regression: half the mean squared error + λR(w)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from nonsmooth.estimators.choices import Choices
from nonsmooth.estimators.estimator import ProximalEstimator
from nonsmooth.estimators.losses import SquaredError
from nonsmooth.estimators.task import Task, prepare


class ProxRegressor(RegressorMixin, ProximalEstimator):  # type: ignore[misc]
    """A linear model or a small network that minimises 1/(2N)·Σ‖yᵢ - f(xᵢ)‖² + λR(w).

    With one response, no hidden layer and penalty "L1" this is scikit-learn's `Lasso` with alpha = λ, and so are
    `ElasticNet` and `MultiTaskLasso` special cases. Intercepts carry no penalty; in a network the weights of each layer
    do. A weight matrix has the shape (outputs, inputs), so that `GroupL1(λ, dim=1)` groups by input feature.

    "auto" of a linear model on its full batch is SGD with the step size 1/L, L the largest eigenvalue of the Hessian,
    and Nesterov's momentum, which goes from 0.9 nearer to 1 where convergence takes more than 500 steps; it ends at the
    optimum to the tolerance of its certificate. For everything else it is what usually works, and the certificate says
    how far it came.

    Where the penalty of such a model is convex, and `optimizer`, `lr`, `momentum` and `lr_schedule` are all "auto", in
    float64 on the CPU, training has a head start: accelerated proximal gradient with restarts on working sets of
    features, until the residual is half of `tol`. SGD goes on from there, and usually finds nothing left to do; the
    certificate is of where it ends. `optimizer="sgd"` is the same without a head start.

    Args:
        penalty: a penalty of `nonsmooth.penalties`, the name of one in upper or lower case, or None for none.
        strength: λ in place of the penalty's own. None for its own, and 0.01 for a penalty given by name.
        hidden_layer_sizes: numbers of units of the hidden layers, none for a linear model.
        activation: of the hidden layers, "relu", "tanh", "gelu" or "silu".
        fit_intercept: whether layers have intercepts.
        optimizer: "sgd", "adam", "nadam", "rmsprop" or "adagrad", the proximal version of torch's; "auto" is "sgd" for
            a linear model, else "adam".
        lr: step size α.
        momentum: μ in [0, 1) of "sgd" (Nesterov's) and "rmsprop"; "auto" is 0.9 for "sgd"
            with a convex penalty, else 0.
        lr_schedule: "constant", or "cosine" down to 0 at `max_iter`; "auto" is "constant" for a linear model on its
            full batch under "sgd", else "cosine".
        batch_size: number of samples in a step; None for all.
        max_iter: the most passes over the data; "auto" is 50,000 for a linear model on its full batch under "sgd",
            2,000 for other full batches, 200 with a batch size.
        tol: the residual/λ of the certificate (the residual itself where λ is 0) at which training ends; "auto" is 1e-8
            in float64 and 1e-4 in float32.
        warm_start: whether `fit` goes on from the earlier fit.
        random_state: of the weights at the start of a network, and of the order of samples in batches.
        dtype: "float64" or "float32", in training; results are float64.
        device: where to train, such as "cpu" or "cuda"; the fitted model lies on the CPU.

    Attributes:
        coef_: weights of a linear model, (features,), or (outputs, features) if y has two dimensions.
        intercept_: a number, or (outputs,).
        coefs_: weights of each layer, (outputs, inputs).
        intercepts_: intercepts of each layer, (outputs,).
        certificate_: what `nonsmooth.optim.certify` says of the solution; for a linear model with the duality gap.
        n_iter_: passes over the data; a step of the head start counts as one, though it may see some features only.
        module_: the model as a torch module, in float64 on the CPU.
        n_features_in_: number of features.
        feature_names_in_: their names, where X has names.
    """

    def _validated(self, X: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
        features, response = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=1
        )
        response = np.asarray(response, dtype=np.float64)
        self._one_response = response.ndim == 1
        return features, response

    def _task(
        self,
        features: NDArray[np.float64],
        targets: NDArray[Any],
        weights: NDArray[np.float64] | None,
        choices: Choices,
    ) -> Task:
        response = targets.reshape(len(targets), -1)
        return prepare(features, response, SquaredError(), response.shape[1], choices, weights)

    def _single(self) -> bool:
        return self._one_response

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The model's response.

        Args:
            X: (N, features), dense.

        Returns:
            (N,), or (N, outputs) if y had two dimensions.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X has another number of features, or entries that are not finite.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self._one_response else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
