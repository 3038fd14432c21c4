"""The duality gap in each convention, against scikit-learn's own and against the distance from a solution."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import Lasso

from nonsmooth.optim import lasso_gap

RANDOM = np.random.default_rng(0)
DATA = RANDOM.normal(size=(40, 15)) + 0.5
RESPONSE = DATA[:, 0] - 2 * DATA[:, 1] + 3 + 0.1 * RANDOM.normal(size=40)


def pandas(values):
    return pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(values).squeeze(axis=1)


def objective(weight, lam, factor, intercept=0.0):
    return factor * ((RESPONSE - DATA @ weight - intercept) ** 2).sum() / len(RESPONSE) + lam * np.abs(weight).sum()


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize(("convention", "factor", "scale"), [("1/2N", 0.5, 1.0), ("1/N", 1.0, 2.0)])
def test_zero_at_the_solution_and_a_bound_elsewhere(fit_intercept, convention, factor, scale):
    model = Lasso(alpha=0.1, fit_intercept=fit_intercept, tol=1e-15, max_iter=10**6).fit(DATA, RESPONSE)
    intercept = float(model.intercept_) if fit_intercept else None
    lam = 0.1 * scale

    def gap(weight, constant):
        return lasso_gap(DATA, RESPONSE, weight, lam, convention=convention, intercept=constant)

    assert abs(gap(model.coef_, intercept)) < 1e-12
    best = objective(model.coef_, lam, factor, intercept or 0.0)
    for distance in (1e-3, 1e-1, 1.0):
        weight = model.coef_ + distance * RANDOM.normal(size=15)
        excess = objective(weight, lam, factor, intercept or 0.0) - best
        assert gap(weight, intercept) >= excess - 1e-12
    if fit_intercept:
        # An intercept that is off by δ costs c·δ², at the solution's weights exactly.
        assert gap(model.coef_, intercept + 0.2) == pytest.approx(factor * 0.04, abs=1e-10)


def test_scikit_learns_own_gap():
    """Lasso.dual_gap_ is scaled as the objective is."""
    model = Lasso(alpha=0.1, fit_intercept=False, tol=1e-3).fit(DATA, RESPONSE)
    assert model.dual_gap_ > 1e-9
    # Theirs keeps the residual's scale where it is feasible, ours takes the best: never larger.
    assert lasso_gap(DATA, RESPONSE, model.coef_, 0.1) <= model.dual_gap_ * (1 + 1e-9)


def test_tensors_and_arrays_are_the_same():
    weight = RANDOM.normal(size=15)
    as_tensors = [torch.as_tensor(value) for value in (DATA, RESPONSE, weight)]
    assert lasso_gap(*as_tensors, 0.1) == lasso_gap(DATA, RESPONSE, weight, 0.1)


@pytest.mark.parametrize("kind", [
    lambda v: v[::-1][::-1], lambda v: v[::-1].copy()[::-1], lambda v: v.astype(">f8"), np.asfortranarray,
    lambda v: v.tolist(), lambda v: v.astype(object), lambda v: np.repeat(v, 2, 0)[::2], sparse.coo_array,
    lambda v: torch.as_tensor(v).to_sparse(), pandas,
], ids=["as it is", "backwards", "byte order", "columns", "list", "objects", "strides", "sparse", "sparse tensor",
        "table"])  # fmt: skip
def test_arrays_of_any_kind_are_the_same(kind):
    weight = RANDOM.normal(size=15)
    given = [kind(value) for value in (DATA, RESPONSE, weight)]
    assert lasso_gap(*given, 0.1) == lasso_gap(DATA, RESPONSE, weight, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"X": DATA + 1j}, "X has dtype complex128"), ({"y": torch.ones(40) * 1j}, "y has dtype complex128"),
     ({"w": ["a"] * 15}, "w has dtype <U1"), ({"strength": "a"}, "strength is 'a'"),
     ({"intercept": [1.0, 2.0]}, "intercept is"),
     ({"X": DATA[:, :0], "w": np.zeros(0)}, "none of them empty"), ({"X": DATA[:0], "y": np.zeros(0)}, "none of them"),
     ({"strength": -1.0}, "strength is -1"), ({"strength": float("nan")}, "strength is nan"),
     ({"convention": "1/3N"}, "convention is"),
     ({"w": np.zeros(3)}, "shapes"), ({"y": np.zeros(3)}, "shapes")],
)  # fmt: skip
def test_bad_input_is_refused(change, message):
    given = {"X": DATA, "y": RESPONSE, "w": np.zeros(15), "strength": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        lasso_gap(**given)
