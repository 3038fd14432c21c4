"""Old public names work, say so, and give what the new ones give."""

import pickle
import sys
from importlib import import_module

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
from nonsmooth.models import vgg
from nonsmooth.optim import ProxSGD, certify, lasso_gap
from nonsmooth.penalties import L1
from nonsmooth.problems import Evaluation, Problem, l1_norm

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


RENAMED = [
    ("nonsmooth.models", "INITIALISATIONS", "INITIALIZATIONS"),
    ("nonsmooth.models.vgg", "INITIALISATIONS", "INITIALIZATIONS"),
    ("nonsmooth.models.vgg16", "INITIALISATIONS", "INITIALIZATIONS"),
    ("nonsmooth.models.vgg16", "fan_in_initialisation", "fan_in_initialization"),
    ("nonsmooth.models.vgg16", "torchvision_initialisation", "torchvision_initialization"),
]


@pytest.mark.parametrize(("module", "old", "new"), RENAMED)
def test_a_name_in_a_module_has_its_old_spelling_too(module, old, new):
    home = import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{module}.{old} is now called {new}") as caught:
        assert getattr(home, old) is getattr(home, new)
    assert caught[0].filename == __file__
    with pytest.raises(AttributeError, match="no attribute 'INITIALISATION'"):
        home.INITIALISATION  # noqa: B018


def test_the_initialization_of_a_network_has_its_old_spelling_too():
    def weights(**options):
        return vgg(11, generator=torch.Generator().manual_seed(0), **options)[0].weight

    with pytest.warns(DeprecationWarning, match="'initialisation' is now called 'initialization'"):
        old = weights(initialisation="kaiming")
    assert torch.equal(old, weights(initialization="kaiming"))


def test_the_minimizer_of_a_problem_has_its_old_spelling_too():
    problem = l1_norm(3, 0.1)
    with pytest.warns(DeprecationWarning, match="'minimiser' is now called 'minimizer'"):
        assert torch.equal(problem.minimiser, problem.minimizer)


def test_a_problem_that_defines_the_old_spelling_of_its_minimizer_has_it():
    with pytest.warns(DeprecationWarning, match=r"Old\.minimiser is now called 'minimizer'") as caught:

        class Old(Problem):
            instances, features, bytes_per_instance = 1, 2, 0

            @property
            def minimiser(self):
                return torch.zeros(1, 1, 2)

            def evaluate(self, point):
                value = point.abs().sum(-1)
                return Evaluation(value, point.sign(), point.sign())

            def select(self, instances):
                return self

    assert caught[0].filename == __file__
    assert torch.equal(Old().minimizer, torch.zeros(1, 1, 2))
    assert Old().minimum == 0


@pytest.mark.parametrize(("old", "new", "renamed"), [
    ("optimised", "optimizer_rule", {"Optimised": "OptimizerRule"}),
    ("penalised_training", "penalized_training", {"History": "PenalizedHistory", "train_penalised": "train_penalized"}),
])  # fmt: skip
def test_an_old_module_has_the_names_of_the_new_one(old, new, renamed):
    old_module, new_module = (import_module(f"nonsmooth.dynamics.{name}") for name in (old, new))
    assert set(renamed) <= set(old_module.__all__)
    for name in old_module.__all__:
        assert getattr(old_module, name) is getattr(new_module, renamed.get(name, name))


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


@pytest.mark.parametrize(("old", "name"), [
    ("claims.registry", "load_claim"), ("claims.results", "stored_records"), ("claims.run_folder", "read_settings"),
    ("claims.checking", "check_claim"), ("report.figures", "panel_specification"),
])  # fmt: skip
def test_a_module_that_moved_is_found_at_its_old_place(old, name):
    sys.modules.pop(f"nonsmooth.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"nonsmooth.{old} is now"):
        assert callable(getattr(import_module(f"nonsmooth.{old}"), name))
