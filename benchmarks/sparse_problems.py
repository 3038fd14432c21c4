"""Ten convex problems with an L1 penalty whose solution is certified: what minibatch methods are measured on.

f(w) is the mean over rows of half the squared error, or of the logistic loss; the objective is f(w) + λ‖w‖₁, without
intercept. All are padded to the same number of columns by columns of zeros, so that they run as one batch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes

COLUMNS = 100


@dataclass(frozen=True)
class SparseProblem:
    """Data, loss and λ of a problem.

    Attributes:
        name: what kind it is.
        data: X, (N, COLUMNS).
        response: y, (N,); of a logistic problem -1 and 1.
        logistic: whether the loss is logistic.
        strength: λ.
        optimum: the certified solution, (COLUMNS,).
        residual: the largest distance of -∇f from λ∂‖·‖₁ there, relative to λ.
        gap: its duality gap, relative to the objective at 0.
    """

    name: str
    data: np.ndarray
    response: np.ndarray
    logistic: bool
    strength: float
    optimum: np.ndarray
    residual: float
    gap: float


def _rows(generator: np.random.Generator, samples: int, correlation: float) -> np.ndarray:
    """Normal rows, columns j and k correlated by ρ^|j-k|."""
    drawn = generator.standard_normal((samples, COLUMNS))
    for j in range(1, COLUMNS):
        drawn[:, j] = correlation * drawn[:, j - 1] + np.sqrt(1 - correlation**2) * drawn[:, j]
    return drawn


def _signal(generator: np.random.Generator, nonzero: int) -> np.ndarray:
    weights = np.zeros(COLUMNS)
    where = generator.choice(COLUMNS, nonzero, replace=False)
    weights[where] = generator.choice([-1, 1], nonzero) * generator.uniform(0.5, 1.5, nonzero)
    return weights


def _regression(
    seed: int, samples: int, correlation: float, ratio: float, scales: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and a response whose signal has `ratio` times the variance of its noise."""
    generator = np.random.default_rng(seed)
    data = _rows(generator, samples, correlation)
    if scales:
        data = data * np.exp(generator.uniform(np.log(0.3), np.log(3), COLUMNS))
    clean = data @ _signal(generator, 10)
    noise = generator.standard_normal(samples) * clean.std() / np.sqrt(ratio)
    response = clean + noise
    return data, response / response.std()


def _classification(seed: int, samples: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    data = _rows(generator, samples, correlation)
    odds = 2 * data @ _signal(generator, 10)
    return data, np.where(generator.random(samples) < 1 / (1 + np.exp(-odds)), 1.0, -1.0)


def _padded(data: np.ndarray) -> np.ndarray:
    """Standardised columns, those that do not vary left out, and zeros up to COLUMNS."""
    varying = data.std(0) > 1e-9
    data = data[:, varying]
    data = (data - data.mean(0)) / data.std(0)
    return np.pad(data, ((0, 0), (0, COLUMNS - data.shape[1])))


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Diabetes with squares and products of its columns: 442 rows, 65 columns, strongly correlated."""
    from sklearn.datasets import load_diabetes  # noqa: PLC0415 - heavy
    from sklearn.preprocessing import PolynomialFeatures  # noqa: PLC0415 - heavy

    data, response = load_diabetes(return_X_y=True)
    response = (response - response.mean()) / response.std()
    return _padded(PolynomialFeatures(2, include_bias=False).fit_transform(data)), response


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: is it an 8?"""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy

    data, label = load_digits(return_X_y=True)
    return _padded(data), np.where(label == 8, 1.0, -1.0)


def _tumours() -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer (Wisconsin): 569 rows, 30 columns, some nearly equal."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415 - heavy

    data, label = load_breast_cancer(return_X_y=True)
    return _padded(data), np.where(label == 1, 1.0, -1.0)


def sparse_problems() -> list[SparseProblem]:
    """The ten, solved."""
    sets = [
        ("LASSO, N 400", *_regression(1, 400, 0.0, 10), False, 0.2),
        ("LASSO, N 2000, ρ 0.5", *_regression(2, 2000, 0.5, 5), False, 0.15),
        ("LASSO, N 400, ρ 0.9", *_regression(3, 400, 0.9, 10), False, 0.1),
        ("LASSO, N 60 < P", *_regression(4, 60, 0.3, 10), False, 0.3),
        ("LASSO, N 400, noise as strong as signal", *_regression(5, 400, 0.3, 1), False, 0.3),
        ("LASSO, N 400, scales of 0.3 to 3", *_regression(6, 400, 0.3, 10, True), False, 0.1),
        ("LASSO, diabetes with products", *_diabetes(), False, 0.15),
        ("logistic, N 1000, ρ 0.5", *_classification(8, 1000, 0.5), True, 0.15),
        ("logistic, digits: an 8?", *_digits(), True, 0.1),
        ("logistic, breast cancer", *_tumours(), True, 0.05),
    ]
    return [_solved(*parts) for parts in sets]


def _solved(name: str, data: np.ndarray, response: np.ndarray, logistic: bool, share: float) -> SparseProblem:
    useful = np.abs(data.T @ response).max() / len(data) / (2 if logistic else 1)
    strength = share * useful
    point = _coordinate_descent(data, response, logistic, strength)
    slope, dual, primal, at_zero = _evaluate(data, response, logistic, strength, point)
    distance = np.where(point == 0, np.maximum(np.abs(slope) - strength, 0), np.abs(slope + strength * np.sign(point)))
    residual, gap = float(distance.max() / strength), float(extremes.largest(primal - dual, 0) / at_zero)
    return SparseProblem(name, data, response, logistic, float(strength), point, residual, gap)


def _coordinate_descent(data: np.ndarray, response: np.ndarray, logistic: bool, strength: float) -> np.ndarray:
    import celer  # noqa: PLC0415 - an extra

    kept = data.any(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if logistic:
            solver = celer.LogisticRegression(
                C=1 / (strength * len(data)), fit_intercept=False, tol=1e-13, max_iter=500, max_epochs=1_000_000
            )
        else:
            solver = celer.Lasso(strength, fit_intercept=False, tol=1e-14, max_iter=500, max_epochs=1_000_000)
        point = np.zeros(data.shape[1])
        point[kept] = solver.fit(np.asfortranarray(data[:, kept]), response).coef_.reshape(-1)
    return point


def _evaluate(data: np.ndarray, response: np.ndarray, logistic: bool, strength: float, point: np.ndarray):
    """∇f, the dual objective at the scaled dual point, the primal one, and the primal one at 0."""
    samples, fitted = len(data), data @ point
    if logistic:
        margin = response * fitted
        dual_point = response / (1 + np.exp(margin)) / samples
        primal, at_zero = np.logaddexp(0, -margin).mean(), np.log(2)
    else:
        dual_point = (response - fitted) / samples
        primal, at_zero = ((response - fitted) ** 2).mean() / 2, (response**2).mean() / 2
    slope = -data.T @ dual_point
    scaled = dual_point * extremes.smallest(1.0, strength / np.abs(slope).max())
    if logistic:
        share = np.clip(samples * response * scaled, 1e-300, 1)
        rest = np.clip(1 - share, 1e-300, 1)
        dual = -(share * np.log(share) + rest * np.log(rest)).mean()
    else:
        dual = response @ scaled - samples / 2 * scaled @ scaled
    return slope, float(dual), float(primal + strength * np.abs(point).sum()), float(at_zero)


class Batch:
    """Problems as one batch: gradients on rows drawn at random, and objectives and gradients on all rows.

    Points have the shape (problems, seeds, settings, COLUMNS); the settings of one seed see the same rows.
    """

    def __init__(self, problems: list[SparseProblem], seeds: int, rows: int) -> None:
        self.problems, self.seeds, self.rows = problems, seeds, rows
        self.sizes = torch.tensor([len(p.data) for p in problems])
        longest = int(self.sizes.max())
        self._data = torch.zeros(len(problems), longest, COLUMNS, dtype=torch.float64)
        self._response = torch.zeros(len(problems), longest, dtype=torch.float64)
        for i, problem in enumerate(problems):
            self._data[i, : len(problem.data)] = torch.from_numpy(problem.data)
            self._response[i, : len(problem.data)] = torch.from_numpy(problem.response)
        self._logistic = torch.tensor([p.logistic for p in problems])[:, None, None, None]
        self.strength = torch.tensor([p.strength for p in problems], dtype=torch.float64)
        self.optimum = torch.stack([torch.from_numpy(p.optimum) for p in problems])[:, None, None, :]
        self.lowest = self.objective(self.optimum)
        self.at_zero = self.objective(torch.zeros_like(self.optimum))
        self._flat = torch.arange(len(problems))[:, None, None] * longest

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows with replacement and their responses, anew for each problem and seed."""
        shape = (len(self.problems), self.seeds, self.rows)
        chosen = (torch.rand(shape, generator=generator, dtype=torch.float64) * self.sizes[:, None, None]).long()
        flat = (chosen + self._flat).reshape(-1)
        data = self._data.reshape(-1, COLUMNS)[flat].reshape(*shape, COLUMNS)
        return data, self._response.reshape(-1)[flat].reshape(*shape, 1)

    def _slope(self, fitted: Tensor, response: Tensor) -> Tensor:
        """The derivative of each row's loss."""
        return torch.where(self._logistic, -response * torch.sigmoid(-response * fitted), fitted - response)

    def gradient(self, point: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        """∇f on the rows drawn."""
        data, response = drawn
        fitted = data @ point.mT
        return (data.mT @ self._slope(fitted, response)).mT / self.rows

    def objective(self, point: Tensor) -> Tensor:
        """f(w) + λ‖w‖₁ on all rows, (problems, seeds, settings)."""
        fitted = self._data[:, None] @ point.mT
        response = self._response[:, None, :, None]
        losses = torch.where(
            self._logistic, torch.nn.functional.softplus(-response * fitted), (fitted - response).square() / 2
        )
        # A row of zeros with response 0 costs nothing, or log 2.
        losses = losses * (torch.arange(losses.shape[2]) < self.sizes[:, None])[:, None, :, None]
        return losses.sum(2) / self.sizes[:, None, None] + self.strength[:, None, None] * point.abs().sum(-1)

    def excess(self, point: Tensor) -> Tensor:
        """How far the objective is above its minimum, relative to that of w = 0, (problems, seeds, settings)."""
        return (self.objective(point) - self.lowest) / (self.at_zero - self.lowest)

    def wrong(self, point: Tensor) -> Tensor:
        """How many coordinates are zero in one of w and w* and not in the other, (problems, seeds, settings)."""
        return ((point != 0) != (self.optimum != 0)).sum(-1)
