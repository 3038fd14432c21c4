"""Data for the estimators: real ones that scikit-learn ships, standardised, and some with more features than rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_regression
from sklearn.preprocessing import StandardScaler


@pytest.fixture(scope="session")
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    data, response = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(data), response


@pytest.fixture(scope="session")
def wide() -> tuple[np.ndarray, np.ndarray]:
    return make_regression(71, 500, n_informative=10, noise=5.0, random_state=0)


@pytest.fixture(scope="session")
def tumours() -> tuple[np.ndarray, np.ndarray]:
    data, classes = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(data), classes


@pytest.fixture(scope="session")
def iris() -> tuple[np.ndarray, np.ndarray]:
    return load_iris(return_X_y=True)
