"""Which parameters carry the penalty, on layers of every kind."""

import pytest
import torch
from torch import nn

from nonsmooth.optim import ProxAdam, attach, penalize
from nonsmooth.penalties import L1, Nuclear


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.convolution = nn.Conv1d(4, 5, 3)
        self.norm = nn.BatchNorm1d(5)
        self.attention = nn.MultiheadAttention(4, 2)
        self.layer_norm = nn.LayerNorm(4)
        self.head = nn.Linear(5, 2)
        self.coefficients = nn.Parameter(torch.zeros(3))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def names(groups):
    return [sorted(name for name, _ in group["params"]) for group in groups]


def test_weights_are_penalised_and_biases_and_norms_are_not():
    penalised, rest = names(penalize(Model(), L1(0.1)))
    assert penalised == [
        "attention.in_proj_weight", "attention.out_proj.weight", "convolution.weight", "embedding.weight",
        "head.weight",
    ]  # fmt: skip
    assert rest == [
        "attention.in_proj_bias", "attention.out_proj.bias", "coefficients", "convolution.bias", "head.bias",
        "layer_norm.bias", "layer_norm.weight", "norm.bias", "norm.weight",
    ]  # fmt: skip


def test_patterns_make_exceptions():
    penalised, _ = names(
        penalize(Model(), L1(0.1), include=["coefficients", "norm.*"], exclude=["head.*", "norm.bias"])
    )
    assert "coefficients" in penalised
    assert "norm.weight" in penalised
    assert "norm.bias" not in penalised
    assert "head.weight" not in penalised


def test_an_optimiser_takes_the_groups_and_knows_the_names():
    optimizer = ProxAdam(penalize(Model(), L1(0.1)), lr=0.01)
    assert optimizer.param_groups[0]["penalty"]["strength"] == 0.1
    assert optimizer.param_groups[1]["penalty"] is None
    assert "head.weight" in optimizer.param_groups[0]["param_names"]


@pytest.mark.parametrize("pattern", ["0.*", "1.weight", "1.*"])
def test_a_pattern_may_mean_any_name_of_a_tied_parameter(pattern):
    """ "1.*" matches a bias as well, so that it is not refused for matching nothing."""
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    (weights, rest) = penalize(model, L1(0.1), exclude=[pattern])
    assert [name for name, _ in weights["params"]] == ["2.weight"]
    assert [name for name, _ in rest["params"]] == ["0.weight", "1.bias", "2.bias"]
    weights = penalize(model, L1(0.1), include=[pattern])[0]
    assert ("1.bias" in dict(weights["params"])) == (pattern == "1.*")
    optimizer = attach(torch.optim.SGD(model.parameters(), lr=0.1), L1(0.1), model=model, exclude=[pattern])
    assert optimizer.param_groups[0]["params"][0] is model[2].weight


def test_tied_parameters_appear_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert names(penalize(model, L1(0.1))) == [["0.weight"]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exclude": ["heads.*"]}, ValueError, "heads"),
        ({"include": "head.*"}, TypeError, "several patterns"),
        ({"exclude": ["*"]}, ValueError, "no parameter to penalise"),
        ({"penalty": 0.1}, TypeError, r"penalty is 0\.1"),
        ({"penalty": Nuclear(0.1), "include": ["coefficients"]}, ValueError, "coefficients"),
    ],
)
def test_bad_input_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        penalize(Model(), options.pop("penalty", L1(0.1)), **options)
