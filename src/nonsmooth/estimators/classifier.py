"""Classification: mean cross-entropy + λR(w)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from nonsmooth.estimators.choices import Choices
from nonsmooth.estimators.estimator import ProximalEstimator
from nonsmooth.estimators.losses import BinaryCrossEntropy, CrossEntropy
from nonsmooth.estimators.task import Task, prepare


class ProxClassifier(ClassifierMixin, ProximalEstimator):  # type: ignore[misc]
    """A linear model or a small network that minimises the mean cross-entropy + λR(w).

    Two classes have one output, the logarithm of the odds of the second; more have one output each. With no hidden
    layer and penalty "L1" this is scikit-learn's `LogisticRegression` with an L1 penalty and C = 1/(Nλ). Intercepts
    carry no penalty; in a network the weights of each layer do. A weight matrix has the shape (outputs, inputs), so
    that `GroupL1(λ, dim=1)` groups by input feature.

    "auto" of a linear model on its full batch is SGD with the step size 1/L, L a bound of the largest eigenvalue of the
    Hessian, and Nesterov's momentum, which goes from 0.9 nearer to 1 where convergence takes more than 500 steps; it
    ends at the optimum to the tolerance of its certificate. For everything else it is what usually works, and the
    certificate says how far it came.

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
        classes_: the classes, sorted.
        coef_: weights of a linear model, (1, features) for two classes, else (classes, features).
        intercept_: (1,) or (classes,).
        coefs_: weights of each layer, (outputs, inputs).
        intercepts_: intercepts of each layer, (outputs,).
        certificate_: what `nonsmooth.optim.certify` says of the solution.
        n_iter_: passes over the data; a step of the head start counts as one, though it may see some features only.
        module_: the model as a torch module, in float64 on the CPU.
        n_features_in_: number of features.
        feature_names_in_: their names, where X has names.
    """

    classes_: NDArray[Any]

    def _validated(self, X: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
        features, labels = validate_data(self, X, y, dtype=np.float64)
        labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        return features, labels

    def _task(
        self,
        features: NDArray[np.float64],
        targets: NDArray[Any],
        weights: NDArray[np.float64] | None,
        choices: Choices,
    ) -> Task:
        classes, codes = np.unique(targets, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class, {classes[0]}; a classifier accepts at least two classes")
        if self.warm_start and hasattr(self, "classes_") and not np.array_equal(self.classes_, classes):
            raise ValueError(
                f"warm_start is True, but the earlier fit had classes {self.classes_}, and y has {classes}"
            )
        self.classes_ = classes
        if len(classes) == 2:
            return prepare(features, codes.astype(np.float64), BinaryCrossEntropy(), 1, choices, weights)
        return prepare(features, codes.astype(np.int64), CrossEntropy(), len(classes), choices, weights)

    def _single(self) -> bool:
        return False

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """The outputs before sigmoid or softmax.

        Args:
            X: (N, features), dense.

        Returns:
            (N,) for two classes, else (N, classes).

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X has another number of features, or entries that are not finite.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class.

        Args:
            X: (N, features), dense.

        Returns:
            (N, classes), in the order of `classes_`.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X has another number of features, or entries that are not finite.
        """
        outputs = self._outputs(X)
        if outputs.shape[1] == 1:
            return np.hstack([expit(-outputs), expit(outputs)])
        probabilities: NDArray[np.float64] = softmax(outputs, axis=1)
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class.

        Args:
            X: (N, features), dense.

        Returns:
            (N,), entries of `classes_`.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X has another number of features, or entries that are not finite.
        """
        decision = self.decision_function(X)
        codes = (decision > 0).astype(int) if decision.ndim == 1 else decision.argmax(1)
        found: NDArray[Any] = self.classes_[codes]
        return found
