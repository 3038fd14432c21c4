"""Any layout of the same numbers in memory is the same fit, and numbers out of range are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nonsmooth.estimators import ProxClassifier, ProxRegressor
from nonsmooth.penalties import L1, MCP, GroupL1

GENERATOR = np.random.default_rng(0)
DATA = np.round(GENERATOR.standard_normal((60, 5)) * 8) / 8  # which half precision holds
RESPONSE = np.round((DATA[:, 0] - 0.5 * DATA[:, 3]) * 8) / 8
CLASSES = (RESPONSE > 0).astype(int)


class Frame:
    """What a data frame is to NumPy."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)

    def __len__(self):
        return len(self.values)


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


LAYOUTS = {
    "rows backwards": lambda values: values[::-1].copy()[::-1],
    "columns backwards": lambda values: values[..., ::-1].copy()[..., ::-1],
    "every second": lambda values: np.repeat(values, 2, axis=0)[::2],
    "read-only": read_only,
    "another byte order": lambda values: values.astype(">f8"),
    "single, another byte order": lambda values: values.astype(">f4"),
    "half": lambda values: values.astype(np.float16),
    "long double": lambda values: values.astype(np.longdouble),
    "by columns": np.asfortranarray,
    "lists": lambda values: values.tolist(),
    "objects": lambda values: values.astype(object),
    "a frame": Frame,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", ["X", "y", "both"])
def test_the_layout_in_memory_changes_nothing(layout, which):
    store = LAYOUTS[layout]
    frame = layout == "a frame"
    data = store(DATA) if which != "y" else DATA
    response = store(RESPONSE) if which != "X" and not frame else RESPONSE
    classes = CLASSES[::-1].copy()[::-1] if which != "X" else CLASSES
    for kind, target, plain in ((ProxRegressor, response, RESPONSE), (ProxClassifier, classes, CLASSES)):
        expected = kind(strength=0.05).fit(DATA, plain)
        found = kind(strength=0.05).fit(data, target)
        assert np.array_equal(found.coef_, expected.coef_)
        assert np.array_equal(found.predict(data), expected.predict(DATA))
    path = ProxRegressor().path(data, response, n_strengths=3)
    assert np.array_equal(path.coefs, ProxRegressor().path(DATA, RESPONSE, n_strengths=3).coefs)


@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
@pytest.mark.parametrize(("dtype", "value"), [("float64", 1e300), ("float64", -1e300), ("float32", 1e30)])
def test_data_whose_squares_are_infinite_are_named(kind, dtype, value):
    data = DATA.copy()
    data[3, 2] = value
    target = RESPONSE if kind is ProxRegressor else CLASSES
    with pytest.raises(ValueError, match=rf"X has an entry of size {abs(value):.3g}".replace("+", r"\+")) as error:
        kind(dtype=dtype).fit(data, target)
    assert "scale the data" in str(error.value)


def test_a_response_whose_squares_are_infinite_is_named():
    with pytest.raises(ValueError, match="y has an entry of size"):
        ProxRegressor().fit(DATA, RESPONSE * 1e300)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinity_and_nan_are_refused_as_scikit_learn_does(value):
    data = DATA.copy()
    data[3, 2] = value
    with pytest.raises(ValueError, match="Input X contains"):
        ProxRegressor().fit(data, RESPONSE)


@pytest.mark.parametrize("scale", [1e-310, 1e-160, 1e-100])
@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_data_of_which_nothing_is_left_when_squared_are_fitted(kind, scale):
    found = kind(strength=0.05).fit(DATA * scale, RESPONSE if kind is ProxRegressor else CLASSES)
    assert np.array_equal(found.coef_, np.zeros_like(found.coef_))


@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e150, 7e-200])
def test_features_that_are_constant_leave_the_intercept(value):
    """Their mean over 59 samples is off by rounding, and the rest of it is no feature."""
    found = ProxRegressor(strength=0.05).fit(np.full((59, 3), value), RESPONSE[:59])
    assert np.array_equal(found.coef_, np.zeros(3))
    assert found.intercept_ == pytest.approx(RESPONSE[:59].mean(), abs=1e-12)
    mixed = ProxRegressor(strength=0.05).fit(np.c_[DATA[:59], np.full(59, value)], RESPONSE[:59])
    assert mixed.coef_[-1] == 0
    assert mixed.coef_[:-1] == pytest.approx(ProxRegressor(strength=0.05).fit(DATA[:59], RESPONSE[:59]).coef_, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.parametrize("penalty", ["L1", MCP(0.05), GroupL1(0.05, dim=1), "TransformedL1"])
@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_a_zero_coefficient_has_no_sign(penalty, kind):
    found = kind(penalty, strength=0.1, max_iter=500).fit(DATA, RESPONSE if kind is ProxRegressor else CLASSES)
    zeros = found.coef_[found.coef_ == 0]
    assert len(zeros)
    assert not np.signbit(zeros).any()
    weight = next(found.module_.parameters()).detach()
    assert not bool(torch.signbit(weight[weight == 0]).any())


FREE = torch.tensor([0.0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    "penalty",
    [L1(0.5, weights=FREE), L1(0.5 * FREE), GroupL1(0.5, dim=1, weights=FREE)],
    ids=lambda p: type(p).__name__,
)
def test_a_weight_of_zero_leaves_a_gap_that_closes(penalty):
    found = ProxRegressor(penalty).fit(DATA, RESPONSE)
    assert all("rounding" in note for note in found.certificate_.notes)
    assert 0 <= found.certificate_.gap + 1e-14 < 1e-6 * found.certificate_.objective
    # Least squares on the one feature that is free, where the others are zero.
    centred, response = DATA - DATA.mean(0), RESPONSE - RESPONSE.mean()
    if not found.coef_[1:].any():
        assert found.coef_[0] == pytest.approx(centred[:, 0] @ response / (centred[:, 0] @ centred[:, 0]))
