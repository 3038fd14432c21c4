"""Paths of any model: the lasso's against scikit-learn's, and what networks need."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_path
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso, LassoCV, lasso_path
from sklearn.model_selection import KFold
from torch import nn

import nonsmooth as ns
from nonsmooth.lab import LabError
from nonsmooth.select import sparsity_path

FOLDS = 3
DATA, RESPONSE = load_diabetes(return_X_y=True, scaled=False)
# Means that are not zero: λ_max is then right only if the intercept is fitted.
DATA = (DATA - DATA.mean(0)) / DATA.std(0) + 1.0
INPUTS, TARGETS = torch.as_tensor(DATA), torch.as_tensor(RESPONSE)[:, None]
SPLITS = [tuple(map(torch.as_tensor, split)) for split in KFold(FOLDS, shuffle=True, random_state=0).split(DATA)]


def linear_model(seed):
    model = nn.Linear(DATA.shape[1], 1, dtype=torch.float64)
    nn.init.zeros_(model.bias)
    return model


def half_squares(model, rows):
    return (model(INPUTS[rows]) - TARGETS[rows]).square().mean() / 2


def solve(model, penalty, rows, steps=400):
    """Proximal gradient with Nesterov's momentum on centred columns, where 1/L is the step size."""
    columns = torch.cat([INPUTS[rows], torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    curvature = torch.linalg.matrix_norm(columns.T @ columns / len(rows), 2)
    optimizer = ns.ProxSGD(ns.penalize(model, penalty), lr=float(1 / curvature), momentum=0.95, nesterov=True)
    for _ in range(steps):
        optimizer.zero_grad()
        half_squares(model, rows).backward()
        optimizer.step()
    return optimizer


ALL = torch.arange(len(DATA))


def lasso(folder, direction="up", **options):
    return sparsity_path(
        linear_model,
        lambda model, penalty, seed: solve(model, penalty, ALL),
        ns.L1(1.0),
        score=lambda model, seed: -half_squares(model, ALL),
        loss=lambda model, seed: half_squares(model, ALL),
        folder=folder,
        direction=direction,
        **options,
    )


@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_path_of_a_linear_model_is_scikit_learns(tmp_path, direction):
    path = lasso(tmp_path, direction, n_strengths=6, ratio=1e-2)
    centred = DATA - DATA.mean(0), RESPONSE - RESPONSE.mean()
    alphas = np.geomspace(1, 1e-2, 6) * np.abs(centred[0].T @ centred[1]).max() / len(DATA)
    _, coefs, _ = lasso_path(*centred, alphas=alphas, tol=1e-10)
    assert path.exact is True
    assert path.strengths == pytest.approx(alphas, rel=1e-6)
    for point, coef in zip(path.points, coefs.T, strict=True):
        weight = path.model(point).weight.detach().numpy()[0]
        assert weight == pytest.approx(coef, abs=1e-3 * np.abs(coefs).max())
        assert point.residual < 1e-3
        if point.index:  # at λ_max itself a rounding decides
            assert point.size == np.count_nonzero(coef)


def test_the_first_lambda_is_the_smallest_at_which_all_is_zero(tmp_path):
    path = lasso(tmp_path, n_strengths=2)
    for factor, expected in ((1.001, 0), (0.999, 1)):
        assert np.count_nonzero(Lasso(path.strengths[0] * factor, tol=1e-12).fit(DATA, RESPONSE).coef_) == expected


def test_folds_as_seeds_choose_as_cross_validation_does(tmp_path):
    """The rule of one standard error, computed from scikit-learn's own errors on the same folds."""
    strengths = np.geomspace(45, 0.5, 6)
    path = sparsity_path(
        linear_model,
        lambda model, penalty, fold: solve(model, penalty, SPLITS[fold][0]),
        ns.L1(1.0),
        score=lambda model, fold: -2 * half_squares(model, SPLITS[fold][1]),
        folder=tmp_path,
        strengths=strengths,
        seeds=range(FOLDS),
    )
    splits = [tuple(part.numpy() for part in split) for split in SPLITS]
    search = LassoCV(alphas=strengths, cv=splits, tol=1e-10).fit(DATA, RESPONSE)
    errors = search.mse_path_
    assert path.strengths == pytest.approx(search.alphas_)
    assert [-point.score for point in path.points] == pytest.approx(errors.mean(1), rel=1e-4)
    standard_errors = errors.std(1, ddof=1) / math.sqrt(FOLDS)
    assert [point.error for point in path.points] == pytest.approx(standard_errors, rel=1e-3)
    best = errors.mean(1).argmin()
    within = errors.mean(1) <= errors.mean(1)[best] + standard_errors[best]
    assert path.choose("validation").strength == pytest.approx(search.alpha_)
    assert path.choose("one-standard-error").strength == pytest.approx(search.alphas_[within].max())
    assert path.choose("one-standard-error").index < path.choose("validation").index
    assert path.error_of == "seeds"


def test_a_score_by_example_has_an_error_within_one_seed(tmp_path):
    path = toy_path.path(tmp_path)
    values = toy_path.score(path.model(2), 0).detach().double()
    assert path.error_of == "examples"
    assert path.points[2].score == pytest.approx(float(values.mean()))
    assert path.points[2].error == pytest.approx(float(values.std()) / math.sqrt(60))


def test_without_errors_the_rule_of_one_standard_error_is_refused(tmp_path):
    path = lasso(tmp_path, strengths=[1.0, 10.0])
    assert path.error_of == ""
    with pytest.raises(ValueError, match="several seeds"):
        path.choose("one-standard-error")
    assert "±" not in str(path)
    assert [series.name for panel in path.plot().panels for series in panel.series if "standard" in series.name] == []


def test_the_model_of_a_point_is_the_one_that_was_scored(tmp_path):
    path = toy_path.path(tmp_path, seeds=(0, 3))
    for point in path.points:
        for run in point.runs:
            model = path.model(point, seed=run.seed)
            assert not model.training
            assert float(toy_path.score(model, 0).detach().double().mean()) == pytest.approx(run.score)
            weights = torch.cat([p.flatten() for p in model.parameters() if p.ndim > 1])
            assert (run.zeros, run.penalized) == (int((weights == 0).sum()), len(weights))
    assert path.points[0].runs[0].zeros > path.points[-1].runs[0].zeros


def test_each_model_starts_from_the_one_before(tmp_path):
    starts, ends = [], []

    def fit(model, penalty, seed):
        starts.append((penalty.strength, model[0].weight.detach().clone()))
        optimizer = toy_path.fit(model, penalty, seed)
        ends.append(model[0].weight.detach().clone())
        return optimizer

    sparsity_path(
        toy_path.make_model, fit, ns.L1(1.0), score=toy_path.score, folder=tmp_path, strengths=toy_path.STRENGTHS
    )
    assert [strength for strength, _ in starts] == sorted(toy_path.STRENGTHS)
    for (_, start), end in zip(starts[1:], ends[:-1], strict=True):
        assert torch.equal(start, end)


def test_a_network_gets_a_scale_and_starts_dense(tmp_path):
    path = sparsity_path(
        toy_path.make_model, toy_path.fit, ns.L1(1.0), score=toy_path.score, loss=toy_path.loss, folder=tmp_path,
        n_strengths=4, ratio=1e-3,
    )  # fmt: skip
    assert path.exact is False
    assert path.points[0].share > 0.9
    assert path.points[-1].share < 0.2


def test_a_network_that_starts_at_zero_is_refused(tmp_path):
    """It would stay there at every λ, and the path would be flat."""
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))

    def stuck(model, penalty, seed):
        optimizer = ns.ProxSGD(ns.penalize(model, penalty), lr=0.1)
        for _ in range(20):
            optimizer.zero_grad()
            toy_path.loss(model, 0).backward()
            optimizer.step()
        return optimizer

    options = {"score": toy_path.score, "loss": toy_path.loss, "folder": tmp_path, "strengths": [50.0, 1e-3]}
    with pytest.raises(LabError, match=r"does not feel 0\.weight"):
        sparsity_path(lambda seed: network, stuck, ns.L1(1.0), direction="down", **options)
    # And so it does: after a λ that zeroes all, nothing leaves zero again.
    stuck(network, ns.L1(50.0), 0)
    stuck(network, ns.L1(1e-3), 0)
    assert not network[0].weight.any()


@pytest.mark.parametrize(
    ("penalty", "unit", "total"),
    [(ns.GroupL1(1.0), "groups", 9), (ns.Nuclear(1.0), "singular values", 7), (ns.L1(1.0), "", 0)],
)
def test_groups_and_singular_values_are_counted(tmp_path, penalty, unit, total):
    path = sparsity_path(
        toy_path.make_model, toy_path.fit, penalty, score=toy_path.score, folder=tmp_path, strengths=(0.01, 1.0)
    )
    for point in path.points:
        (run,) = point.runs
        model = path.model(point)
        weights = [model[0].weight.detach().numpy(), model[3].weight.detach().numpy()]
        left = {
            "groups": sum(int(np.abs(weight).sum(1).astype(bool).sum()) for weight in weights),
            "singular values": sum(int(np.linalg.matrix_rank(weight)) for weight in weights),
            "": sum(int(np.count_nonzero(weight)) for weight in weights),
        }[unit]
        assert (run.unit, run.units, run.size) == (unit, total, left)
    assert path.points[0].size < path.points[1].size


def test_an_optimizer_with_another_penalty_is_refused(tmp_path):
    def ignores(model, penalty, seed):
        return toy_path.fit(model, ns.L1(0.123), seed)

    def plain(model, penalty, seed):
        return torch.optim.SGD(model.parameters(), lr=0.1)

    for fit, message in ((ignores, "has λ = 0.123"), (plain, "takes no prox")):
        with pytest.raises(LabError, match=message):
            sparsity_path(
                toy_path.make_model, fit, ns.L1(1.0), score=toy_path.score, folder=tmp_path, strengths=(0.1, 0.2)
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": []}, "strengths is"),
        ({"strengths": [-1.0]}, "strengths is"),
        ({"strengths": [1.0, 1.0]}, "strengths is"),
        ({"n_strengths": 1}, "n_strengths is 1"),
        ({"ratio": 1.0}, "ratio is 1.0"),
        ({"seeds": ()}, "seeds is"),
        ({"seeds": (1, 1)}, "seeds is"),
        ({"direction": "sideways"}, "direction is 'sideways'"),
        ({"direction": "down", "loss": None, "strengths": [1.0]}, "loss is None"),
        ({"loss": None}, "strengths and loss are None"),
        ({"name": ""}, "name is ''"),
        ({"settings": {"x": [object()]}}, "settings.x"),
        ({"workers": 0}, "workers is 0"),
        ({"penalty": "L1"}, "penalty is 'L1'"),
        ({"penalty": ns.L1(torch.ones(6))}, "tensor as its strength"),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_is_trained(tmp_path, options, message):
    def never(model, penalty, seed):
        raise AssertionError("it was trained")

    arguments = {"penalty": ns.L1(1.0), "score": toy_path.score, "loss": toy_path.loss, "folder": tmp_path / "x"}
    arguments |= options
    with pytest.raises((ValueError, TypeError), match=message):
        sparsity_path(toy_path.make_model, never, arguments.pop("penalty"), **arguments)
    assert not (tmp_path / "x").exists()


def test_a_model_that_diverges_does_not_take_the_others_along(tmp_path):
    def fit(model, penalty, seed):
        optimizer = toy_path.fit(model, penalty, seed)
        if penalty.strength == 0.03:
            with torch.no_grad():
                model[0].weight.fill_(torch.nan)
        return optimizer

    path = sparsity_path(
        toy_path.make_model, fit, ns.Nuclear(1.0), score=toy_path.score, loss=toy_path.loss, folder=tmp_path,
        strengths=toy_path.STRENGTHS, seeds=(0, 1),
    )  # fmt: skip
    assert [math.isfinite(point.score) for point in path.points] == [True, True, False, True]
    assert math.isnan(path.points[2].residual)
    assert "score nan" in str(path)
    assert path.choose("validation").index != 2
    assert path.plot().panels[0].series[1].y[2] is None


def test_infinite_scores_of_two_seeds_are_no_error(tmp_path):
    path = sparsity_path(
        toy_path.make_model, toy_path.fit, ns.L1(1.0), folder=tmp_path, strengths=(0.1, 0.3), seeds=(0, 1),
        score=lambda model, seed: -math.inf if seed else 1.0,
    )  # fmt: skip
    assert path.points[0].score == -math.inf
    with pytest.raises(ValueError, match="at least one that is finite"):
        path.choose("validation")


def test_rows_of_an_embedding_that_are_behind_are_brought_up_to_date(tmp_path):
    """What a step has not read misses its prox until somebody asks."""
    words = torch.arange(6).reshape(2, 3)

    def fit(model, penalty, seed):
        groups = ns.penalize(model, penalty, exclude=["1.*"])
        optimizer = ns.ProxSGD(groups, lr=0.1)
        optimizer.follow(model)
        for _ in range(100):
            optimizer.zero_grad()
            model(words).square().mean().backward()
            optimizer.step()
        return optimizer

    path = sparsity_path(
        lambda seed: nn.Sequential(nn.EmbeddingBag(200, 4, sparse=True), nn.Linear(4, 1)), fit, ns.GroupL1(1.0),
        score=lambda model, seed: 0.0, folder=tmp_path, strengths=[1.0],
    )  # fmt: skip
    (run,) = path.points[0].runs
    assert (run.units, run.zero_units) == (200, 200)
    assert not path.model(0)[0].weight.any()


@pytest.mark.parametrize(
    "penalty",
    [ns.L1(1.0), ns.ElasticNet(1.0, 0.5), ns.GroupL1(1.0, dim=1), ns.SparseGroupL1(1.0), ns.TransformedL1(1.0),
     ns.MCP(1.0), ns.SCAD(1.0), ns.Nuclear(1.0)],
    ids=lambda penalty: type(penalty).__name__,
)  # fmt: skip
def test_every_penalty_has_a_path(tmp_path, penalty):
    """And its λ_max is the smallest at which zero is stationary, by the distance to the subdifferential."""
    path = sparsity_path(
        lambda seed: nn.Linear(6, 1, dtype=torch.float64),
        lambda model, penalty, seed: toy_fit(model, penalty),
        penalty,
        score=lambda model, seed: -float(toy_loss(model)),
        loss=lambda model, seed: toy_loss(model),
        folder=tmp_path,
        n_strengths=3,
        ratio=0.1,
    )
    assert path.exact
    assert path.points[2].size >= path.points[0].size
    model = path.model(0)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(DOUBLE_TARGETS.mean() - DOUBLE_INPUTS.mean(0) @ model.weight[0])
    (gradient,) = torch.autograd.grad(toy_loss(model), model.weight)
    zero = model.weight.detach()
    for factor, stationary in ((1.001, True), (0.999, False)):
        distance = replace(penalty, strength=path.strengths[0] * factor).subdiff_distance(zero, gradient)
        assert bool((distance < 1e-9).all()) is stationary


DOUBLE_INPUTS, DOUBLE_TARGETS = toy_path.INPUTS.double(), toy_path.TARGETS.double()


def toy_loss(model):
    return (model(DOUBLE_INPUTS) - DOUBLE_TARGETS).square().mean()


def toy_fit(model, penalty):
    optimizer = ns.ProxSGD(ns.penalize(model, penalty), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        toy_loss(model).backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("value", [torch.ones(2, 2), torch.ones(1), torch.ones(0)])
def test_a_score_of_another_shape_is_refused(tmp_path, value):
    with pytest.raises(LabError, match="score returned the shape"):
        sparsity_path(
            toy_path.make_model, toy_path.fit, ns.L1(1.0), score=lambda model, seed: value, folder=tmp_path,
            strengths=[0.1],
        )  # fmt: skip


def test_a_path_shows_itself(tmp_path):
    path = toy_path.path(tmp_path, seeds=(0, 1))
    assert len(path) == 4
    frame = path.to_frame()
    assert list(frame["λ"]) == [value for value in toy_path.STRENGTHS for _ in range(2)]
    assert frame["loss"].notna().all()
    lines = str(path).splitlines()
    assert lines[0] == "4 λ from 0.3 to 0.01, 2 seeds, ± over seeds"
    assert len(lines) == 5
    chosen = path.choose("size", size=20)
    assert chosen.size <= 20
    assert str(chosen).endswith("; size: the best score with at most 20 weights")
    figure = path.plot()
    assert [panel.title for panel in figure.panels] == ["Score", "Zeros"]
    line = next(series for series in figure.panels[1].series if series.kind == "line")
    assert line.y == tuple(point.share for point in path.points)
    marked = [series.name for series in figure.panels[0].series if series.kind == "points"]
    names = [name for mark in marked for name in mark.partition(":")[0].split(", ")]
    assert sorted(names) == ["knee", "one-standard-error", "validation"]
    assert len(marked) == len({path.choose(name).index for name in names})
    with pytest.raises(ValueError, match="seed is 5"):
        path.model(0, seed=5)
    with pytest.raises(ValueError, match="point is 4"):
        path.model(4)
