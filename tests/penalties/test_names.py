"""A penalty's name means one class: the package's, or one of a module, whatever else is defined in the process."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import types
from dataclasses import dataclass

import pytest
import torch

from nonsmooth import penalties
from nonsmooth.estimators import ProxRegressor
from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1, Penalty, from_specification
from nonsmooth.penalties.penalty import known_penalties

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
import nonsmooth.penalties

@dataclass(frozen=True, eq=False{slots})
class {name}(nonsmooth.penalties.L1):
    def prox_(self, point, step):
        point.mul_({factor})
"""
OWN = [
    kind
    for kind in vars(penalties).values()
    if isinstance(kind, type) and "strength" in getattr(kind, "__dataclass_fields__", {})
]


def defined(module, name, factor, slots=""):
    """A class of a module of its own, as an import makes it; a second time, as a notebook's cell does."""
    if module not in sys.modules:
        sys.modules[module] = types.ModuleType(module)
    exec(SOURCE.format(name=name, factor=factor, slots=slots), vars(sys.modules[module]))
    return getattr(sys.modules[module], name)


@pytest.fixture(autouse=True)
def modules_go_again():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("theirs"):
            del sys.modules[name]


def moved(optimizer):
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = torch.zeros_like(weight)
    before = weight.detach().clone()
    optimizer.step()
    return (weight.detach() / before).tolist()


def optimizer_with(penalty):
    return ProxSGD([torch.nn.Parameter(torch.tensor([1.0, -2.0]))], lr=0.1, penalty=penalty)


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_a_class_of_the_same_name_elsewhere_takes_no_place_of_the_packages(kind):
    theirs = defined("theirs", kind.__name__, 0.5)
    extra = {"gamma": 3.0} if kind.__name__ in ("MCP", "SCAD") else {}
    assert type(from_specification({"name": kind.__name__, "strength": 1.0, **extra})) is kind
    assert type(from_specification(kind(1.0).specification())) is kind
    assert type(from_specification(theirs(1.0).specification())) is theirs
    assert theirs(1.0).specification()["name"] == f"theirs.{kind.__name__}"


def test_a_running_optimiser_keeps_its_penalty_where_another_class_of_the_name_appears():
    optimizer = optimizer_with(L1(1.0))
    defined("theirs", "L1", 0.5)
    assert moved(optimizer) == pytest.approx([0.9, 0.95])
    optimizer.load_state_dict(optimizer.state_dict())
    assert moved(optimizer) == pytest.approx([0.8 / 0.9, 1.8 / 1.9])
    fitted = ProxRegressor("l1", strength=0.1).fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0])
    assert fitted.coef_ == pytest.approx([1 - 0.1 / (2 / 3)])  # soft, not halved


@pytest.mark.parametrize("slots", ["", ", slots=True"])
@pytest.mark.parametrize("store", ["deepcopy", "pickle", "state", "file"])
def test_a_class_of_the_users_survives_every_way_of_storing(store, slots):
    optimizer = optimizer_with(defined("theirs", "Halved", 0.5, slots)(1.0))
    assert moved(optimizer) == [0.5, 0.5]
    if store == "deepcopy":
        again = copy.deepcopy(optimizer)
    elif store == "pickle":
        again = pickle.loads(pickle.dumps(optimizer))
    else:
        again, state = optimizer_with(None), optimizer.state_dict()
        if store == "file":
            file = io.BytesIO()
            torch.save(state, file)
            file.seek(0)
            state = torch.load(file, weights_only=True)
        again.load_state_dict(state)
    assert moved(again) == [0.5, 0.5]
    again.param_groups[0]["penalty"]["strength"] = 2.0
    assert moved(again) == [0.5, 0.5]


def test_two_classes_of_one_name_in_different_modules_are_kept_apart():
    first, second = defined("theirs.one", "Mine", 0.5), defined("theirs.two", "Mine", 0.25)
    for kind, factor in ((first, 0.5), (second, 0.25)):
        assert moved(copy.deepcopy(optimizer_with(kind(1.0)))) == [factor, factor]
    with pytest.raises(ValueError, match=r"'Mine', which theirs\.one\.Mine and theirs\.two\.Mine have; say which"):
        from_specification({"name": "Mine", "strength": 1.0})
    del sys.modules["theirs.one"]
    with pytest.raises(ValueError, match=r"'theirs\.three\.Mine'; accepted are .*theirs\.two\.Mine"):
        from_specification({"name": "theirs.three.Mine", "strength": 1.0})


def test_an_older_checkpoints_bare_name_is_the_only_class_of_that_name():
    kind = defined("theirs", "OnlyOne", 0.5)
    assert type(from_specification({"name": "OnlyOne", "strength": 1.0})) is kind


def test_a_cell_that_is_run_again_defines_the_class_that_counts():
    first = defined("theirs", "Mine", 0.5)
    running = optimizer_with(first(1.0))
    assert moved(running) == [0.5, 0.5]
    second = defined("theirs", "Mine", 0.25)
    assert second is not first
    assert moved(optimizer_with(second(1.0))) == [0.25, 0.25]
    assert moved(copy.deepcopy(optimizer_with(second(1.0)))) == [0.25, 0.25]
    # An optimiser that has begun goes on as it began, also with another λ, until a state is loaded.
    running.param_groups[0]["penalty"]["strength"] = 2.0
    assert moved(running) == [0.5, 0.5]
    running.load_state_dict(running.state_dict())
    assert moved(running) == [0.25, 0.25]


def made(factor):
    @dataclass(frozen=True, eq=False)
    class Made(L1):
        def prox_(self, point, step):
            point.mul_(factor)

    return Made


def test_two_classes_that_one_function_makes_are_not_confused():
    first = made(0.5)
    running = optimizer_with(first(1.0))
    second = made(0.25)
    assert moved(optimizer_with(second(1.0))) == [0.25, 0.25]
    running.param_groups[0]["penalty"]["strength"] = 2.0
    assert moved(running) == [0.5, 0.5]
    with pytest.raises(ValueError, match="Made has been defined again"):
        optimizer_with(first(1.0))


def test_two_modules_of_the_package_may_not_share_a_name():
    defined("nonsmooth.penalties.theirs", "L1", 0.5)
    try:
        with pytest.raises(TypeError, match="both define L1"):
            known_penalties()
    finally:
        kind = sys.modules.pop("nonsmooth.penalties.theirs").L1
        kind.__module__ = "theirs"  # it goes only with the garbage


def test_a_script_and_its_worker_processes_speak_of_the_same_class():
    kind = defined("theirs", "Mine", 0.5)
    kind.__module__ = "__mp_main__"
    assert kind(1.0).specification()["name"] == "__main__.Mine"
    kind.__module__ = "theirs"


def test_a_script_finds_its_own_class():
    program = SOURCE.format(name="L1", factor=0.5, slots="") + (
        "from nonsmooth.penalties import from_specification\n"
        "found = from_specification(L1(1.0).specification())\n"
        "assert type(found) is L1, found\n"
        "print(found.specification()['name'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "__main__.L1"


def test_no_class_is_kept_alive_by_being_known():
    import gc  # noqa: PLC0415
    import weakref  # noqa: PLC0415

    gone = weakref.ref(made(0.5))
    known_penalties()
    gc.collect()
    assert gone() is None
    assert issubclass(L1, Penalty)
