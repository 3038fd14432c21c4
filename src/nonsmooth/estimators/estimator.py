"""What the regressor and the classifier share: fit, path, coefficients, certificate."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from nonsmooth import extremes
from nonsmooth.estimators.choices import Choices, resolve, with_strength
from nonsmooth.estimators.networks import coefficients, intercepts, linear_layers
from nonsmooth.estimators.path import Path, chosen_strengths
from nonsmooth.estimators.sample_weights import checked_weights, present
from nonsmooth.estimators.task import Task, as_tensor
from nonsmooth.estimators.training import train
from nonsmooth.optim.certificate import Certificate
from nonsmooth.penalties import Penalty


class ProximalEstimator(BaseEstimator):  # type: ignore[misc]
    """A linear model or a small network, trained on loss + λR by a proximal optimiser.

    `ProxRegressor` and `ProxClassifier` have the arguments and the attributes.
    """

    module_: nn.Sequential
    coefs_: list[NDArray[np.float64]]
    intercepts_: list[NDArray[np.float64]]
    certificate_: Certificate
    n_iter_: int

    def __init__(
        self,
        penalty: Penalty | str | None = "L1",
        *,
        strength: float | None = None,
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
        warm_start: bool = False,
        random_state: Any = None,
        dtype: str = "float64",
        device: str = "cpu",
    ) -> None:
        self.penalty = penalty
        self.strength = strength
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.fit_intercept = fit_intercept
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.device = device

    @abstractmethod
    def _validated(self, X: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Check data, and remember what they are like."""

    @abstractmethod
    def _task(
        self,
        features: NDArray[np.float64],
        targets: NDArray[Any],
        weights: NDArray[np.float64] | None,
        choices: Choices,
    ) -> Task:
        """Prepare data, of which no sample weighs nothing."""

    def _read(self, X: Any, y: Any, sample_weight: Any, choices: Choices) -> Task:
        """Check data, remember what they are like, and prepare them."""
        features, targets = self._validated(X, y)
        return self._task(*present(features, targets, checked_weights(sample_weight, targets)), choices)

    @abstractmethod
    def _single(self) -> bool:
        """Whether `coef_` has no axis for outputs."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ProximalEstimator:
        """Train on data.

        Warns:
            ConvergenceWarning: the certificate does not hold at `tol` when the passes over the data are used up.

        Args:
            X: (N, features), dense.
            y: the response or the classes.
            sample_weight: weights s of the samples, (N,), of at least 0: the loss is then the weighted mean
                Σsᵢℓᵢ/Σsᵢ. A weight of 0 is as if the sample were not there, one of 2 as if it were there twice. In a
                batch, whose samples are drawn without regard to weights, the mean is that of sᵢℓᵢ over the mean of s.

        Returns:
            The estimator.

        Raises:
            TypeError: `penalty` is not a Penalty, or X is sparse.
            ValueError: an argument or the data cannot be used, or the objective does not stay finite.
        """
        choices = resolve(self)
        earlier = self.module_ if self.warm_start and hasattr(self, "module_") else None
        before = dict(self.__dict__)
        try:
            task = self._read(X, y, sample_weight, choices)
            if earlier is not None:
                _check_same_shape(earlier, task, choices)
            self._solve(task, choices, earlier)
        except BaseException:
            # A fit that fails leaves an earlier one as it was, the number of features that it knows included.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        if not self.certificate_.converged:
            _warn(self, f"residual/λ is {self.certificate_.relative_residual:.3g} after {self.n_iter_} passes")
        return self

    def path(
        self,
        X: Any,
        y: Any,
        *,
        strengths: Any = None,
        n_strengths: int = 50,
        ratio: float = 0.01,
        sample_weight: Any = None,
    ) -> Path:
        """Solve for a sequence of λ, each from the solution before. The estimator itself stays as it is.

        A linear model goes from the largest λ down: all weights are 0 at the first, λ_max, and each solution is near
        the one before. A network with hidden layers goes from the smallest λ up, since from weights that are all 0
        it could not return.

        Warns:
            ConvergenceWarning: some certificate does not hold at `tol`.

        Args:
            X: (N, features), dense.
            y: the response or the classes.
            strengths: the λ; None for `n_strengths` from λ_max down to `ratio`·λ_max in a geometric sequence.
            n_strengths: how many, where none are given.
            ratio: the smallest over the largest, where none are given.
            sample_weight: as for `fit`, (N,).

        Returns:
            The fitted estimators, with coefficients, objectives and certificates by λ.

        Raises:
            TypeError: `penalty` is not a Penalty, or X is sparse.
            ValueError: an argument or the data cannot be used, there is no penalty, or no λ_max and no strengths.
        """
        found = self._path(X, y, sample_weight, strengths=strengths, n_strengths=n_strengths, ratio=ratio)
        self._warn_of(found.certificates, "strengths")
        return found

    def _path(
        self, X: Any, y: Any, sample_weight: Any, *, strengths: Any, n_strengths: int = 1, ratio: float = 0.5
    ) -> Path:
        """`path`, without a warning."""
        model = self._for_one_strength()
        choices = resolve(model)
        if choices.penalty is None:
            raise ValueError("penalty is None, which leaves a path nothing to change; accepted is a penalty")
        with_strength(choices.penalty, 0.0)
        task = model._read(X, y, sample_weight, choices)
        largest = task.largest_strength(choices.penalty, choices) if strengths is None and choices.linear else None
        wanted = chosen_strengths(
            strengths, linear=choices.linear, largest=largest, n_strengths=n_strengths, ratio=ratio
        )
        models: list[ProximalEstimator] = []
        for strength in wanted.tolist():
            following = copy.copy(model).set_params(strength=strength)
            following._solve(task, resolve(following), models[-1].module_ if models else None)
            models.append(following)
        return Path(wanted, tuple(models))

    def _for_one_strength(self) -> ProximalEstimator:
        """An estimator that is not fitted and has `strength`, with the arguments of this one."""
        copied: ProximalEstimator = clone(self)
        return copied

    def _warn_of(self, certificates: Sequence[Certificate], what: str) -> None:
        """Warn once of all certificates that do not hold."""
        failed = [each.relative_residual for each in certificates if not each.converged]
        if failed:
            worst = extremes.largest(failed)
            _warn(self, f"residual/λ is up to {worst:.3g} at {len(failed)} of {len(certificates)} {what}", above=1)

    def _solve(self, task: Task, choices: Choices, start: nn.Sequential | None) -> None:
        """Train, and set the attributes of a fitted estimator."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        network = task.untrained(choices, generator) if start is None else task.for_the_optimizer(start, choices)
        outcome = train(network, task, choices, generator)
        self.module_ = task.for_the_data(network, choices)
        self.coefs_, self.intercepts_ = coefficients(self.module_), intercepts(self.module_)
        self.certificate_, self.n_iter_ = outcome.certificate, outcome.passes

    @property
    def coef_(self) -> NDArray[np.float64]:
        """The weights of a linear model: (features,), or (outputs, features) where there may be several."""
        (weights,) = self._linear("coef_", "coefs_", self.coefs_)
        return weights[0] if self._single() else weights

    @property
    def intercept_(self) -> Any:
        """The intercept of a linear model: a number, or (outputs,) where there may be several."""
        (values,) = self._linear("intercept_", "intercepts_", self.intercepts_)
        return float(values[0]) if self._single() else values

    def _linear(self, name: str, instead: str, values: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        if len(values) != 1:
            raise AttributeError(f"{name} is of linear models; a network with hidden layers has {instead}, by layer")
        return values

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """What the model returns, (N, outputs)."""
        check_is_fitted(self)
        inputs = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad():
            outputs: NDArray[np.float64] = self.module_(as_tensor(inputs)).numpy()
        return outputs


def _check_same_shape(earlier: nn.Sequential, task: Task, choices: Choices) -> None:
    """Raise unless training can go on from an earlier fit.

    Raises:
        ValueError: it was of another shape.
    """
    layers = linear_layers(earlier)
    before = [layers[0].in_features, *(layer.out_features for layer in layers)]
    now = [task.features, *choices.hidden_layer_sizes, task.outputs]
    if before != now or (layers[0].bias is not None) is not choices.fit_intercept:
        raise ValueError(
            f"warm_start is True, but the earlier fit had layers of {before} units "
            f"{'with' if layers[0].bias is not None else 'without'} intercepts, and this one {now} "
            f"{'with' if choices.fit_intercept else 'without'}; accepted is the same shape"
        )


def _warn(estimator: ProximalEstimator, what: str, above: int = 0) -> None:
    warnings.warn(
        f"{type(estimator).__name__} is not at an optimum: {what}, see certificate_. Standardise the features, or "
        "allow a larger max_iter or tol.",
        ConvergenceWarning,
        stacklevel=3 + above,
    )
