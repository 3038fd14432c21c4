"""Old public names work, say so, and give what the new ones give."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import nonsmooth as ns
from nonsmooth.curvature import stability_threshold
from nonsmooth.deprecation import renamed_arguments
from nonsmooth.dynamics import stationary_law
from nonsmooth.dynamics.stationary import subgradient_law, subgradient_mean
from nonsmooth.kinks import penalty_terms
from nonsmooth.optim import ProxSGD, certify, lasso_gap
from nonsmooth.penalties import L1

WEIGHT = nn.Parameter(torch.ones(3))
DATA, RESPONSE = np.eye(3), np.ones(3)


def make_optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


SETTINGS = {"coordinates": 64, "max_steps": 64, "window": 8}
ARGUMENTS = {
    "lasso_gap": lambda **names: lasso_gap(DATA, RESPONSE, np.zeros(3), **names),
    "stationary_law": lambda **names: stationary_law(make_optimizer, **names, **SETTINGS),
    "subgradient_law": lambda **names: subgradient_law(0.01, **names),
    "subgradient_mean": lambda **names: subgradient_mean(0.01, **names),
}
ATTRIBUTES = {
    "step_size": ("lr", lambda: stability_threshold(torch.optim.SGD([WEIGHT], lr=0.1))),
    "centred": ("centered", lambda: penalty_terms(0.1 * WEIGHT.abs().sum(), {"weight": WEIGHT})[0]),
    "penalised": ("penalized", lambda: certify(ProxSGD([WEIGHT], lr=0.1, penalty=L1(0.1)), WEIGHT.sum)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_lam_is_called_strength(name):
    with pytest.warns(DeprecationWarning, match="'lam' is now called 'strength'") as caught:
        old = ARGUMENTS[name](lam=0.1)
    assert caught[0].filename == __file__
    assert old == ARGUMENTS[name](strength=0.1)


@pytest.mark.parametrize("law", [subgradient_law, subgradient_mean])
def test_the_step_size_of_a_law_is_called_lr(law):
    with pytest.warns(DeprecationWarning, match="'step_size' is now called 'lr'"):
        assert law(step_size=0.01, strength=0.1) == law(lr=0.01, strength=0.1)


@pytest.mark.parametrize("old", ATTRIBUTES)
def test_an_attribute_has_its_old_name_too(old):
    new, found = ATTRIBUTES[old][0], ATTRIBUTES[old][1]()
    with pytest.warns(DeprecationWarning, match=f"'{old}' is now called '{new}'") as caught:
        assert getattr(found, old) == getattr(found, new)
    assert caught[0].filename == __file__


def test_an_argument_under_both_names_is_refused():
    @renamed_arguments(lam="strength")
    def function(strength):
        return strength

    with pytest.raises(TypeError, match="function got both 'strength' and its old name 'lam'"):
        function(strength=1, lam=2)


@pytest.mark.parametrize(
    "kind",
    [ns.ProxSGD, ns.ProxAdam, ns.ProxAdamW, ns.ProxNAdam, ns.ProxRMSprop, ns.ProxAdagrad],
    ids=lambda k: k.__name__,
)
def test_an_optimizer_that_was_pickled_whole_under_the_old_module_loads(kind):
    optimizer = kind([torch.ones(3, requires_grad=True)], lr=0.1, penalty=ns.L1(0.5))
    pickled = pickle.dumps(optimizer)
    assert b"nonsmooth.optim.optimizers" in pickled
    again = pickle.loads(pickled.replace(b"nonsmooth.optim.optimizers", b"nonsmooth.optim.optimisers"))
    assert type(again) is kind
    assert again.param_groups[0]["penalty"] == optimizer.param_groups[0]["penalty"]
