"""`check_penalty` passes every penalty of the package, and says what is wrong with one that is broken."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
import torch

from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1, MCP, GroupL1, check_penalty, from_specification, names


def test_the_package_s_penalties_pass(case):
    check_penalty(case.make(0.4), case.shape)


@dataclass(frozen=True, eq=False)
class TooWeak(L1):
    def proximal_map(self, point, step):
        return super().proximal_map(point, 0.9 * step)

    def prox_(self, point, step):
        point.copy_(self.proximal_map(point, step))


@dataclass(frozen=True, eq=False)
class OneMinimumOfTwo(MCP):
    """Stationary everywhere, but the shrunk point even where the other one is better."""

    convex = False

    def proximal_map(self, point, step):
        found = super().proximal_map(point, step)
        return torch.where(point.abs() < 1.5, torch.zeros_like(found), found)

    def prox_(self, point, step):
        point.copy_(self.proximal_map(point, step))


@dataclass(frozen=True, eq=False)
class BlindCertificate(L1):
    def subdiff_distance(self, point, gradient):
        return super().subdiff_distance(point, 2 * gradient)


@dataclass(frozen=True, eq=False)
class NotConvex(MCP):
    convex = True


@dataclass(frozen=True, eq=False)
class OtherInPlace(L1):
    def prox_(self, point, step):
        point.zero_()


@dataclass(frozen=True, eq=False)
class HidesNaN(L1):
    def proximal_map(self, point, step):
        return super().proximal_map(point, step).nan_to_num(0.0)

    def prox_(self, point, step):
        point.copy_(self.proximal_map(point, step))


@dataclass(frozen=True, eq=False)
class Negative(L1):
    def value(self, point, dim=None):
        return super().value(point, dim) - 1


@dataclass(frozen=True, eq=False)
class Forgets(L1):
    def specification(self):
        return {**super().specification(), "strength": 0.5}


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (TooWeak(0.7), "not a minimiser"),
        (OneMinimumOfTwo(0.3, 2.5), "not a minimiser"),
        (BlindCertificate(0.7), "certificate is not zero"),
        (NotConvex(0.7, 2.5), "further apart"),
        (OtherInPlace(0.7), "prox_ gives another point"),
        (HidesNaN(0.7), "the prox of NaN must be NaN"),
        (Negative(0.7), "value gives -1"),
        (Forgets(0.7), "another value after a round trip"),
        (GroupL1(0.7, index=torch.tensor([0, 1, 0])), "accepts no point of shape"),
    ],
)
def test_each_broken_law_is_said_in_a_sentence(penalty, words):
    with pytest.raises(AssertionError, match=words):
        check_penalty(penalty)


def test_a_penalty_that_another_package_announces_is_found_by_its_name(tmp_path, monkeypatch):
    code = (
        "from dataclasses import dataclass\nfrom nonsmooth.penalties import L1\n\n"
        "@dataclass(frozen=True, eq=False)\nclass Announced(L1):\n    pass\n"
    )
    (tmp_path / "penalties_of_mine.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("Announced", "penalties_of_mine:Announced", names.ENTRY_POINTS)
    monkeypatch.setattr(names, "entry_points", lambda group: [point] if group == names.ENTRY_POINTS else [])
    assert "penalties_of_mine" not in sys.modules
    with pytest.raises(ValueError, match="name of the penalty is 'Unannounced'"):
        from_specification({"name": "Unannounced", "strength": 0.1})
    assert "penalties_of_mine" not in sys.modules
    penalty = from_specification({"name": "penalties_of_mine.Announced", "strength": 0.1})
    assert type(penalty).__name__ == "Announced"
    assert type(from_specification({"name": "Announced", "strength": 0.1})) is type(penalty)
    ProxSGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, penalty=penalty).state_dict()
