"""scikit-learn estimators: linear models and small networks with any penalty, trained by the proximal optimisers."""

from nonsmooth.extras import require

require("sklearn", "nonsmooth.estimators")

from nonsmooth.estimators.chosen_by_validation import ProxClassifierCV, ProxRegressorCV
from nonsmooth.estimators.classifier import ProxClassifier
from nonsmooth.estimators.path import Path
from nonsmooth.estimators.regressor import ProxRegressor
from nonsmooth.estimators.validation_curve import ValidationCurve

__all__ = ["Path", "ProxClassifier", "ProxClassifierCV", "ProxRegressor", "ProxRegressorCV", "ValidationCurve"]
