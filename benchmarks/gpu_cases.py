"""The steps that `gpu_step.py` measures: torch's own, ours and those of others, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from step_time import STRENGTH, penalised, prune_optimizer_step, softshrink_after, split

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdam,
    SteadySGD,
)
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1, SparseGroupL1

SEPARABLE, OWN, STEADY, GROUPS = 1.45, 1.1, 1.6, 2.0
"""Aims for a whole step over torch's fused one: a pass for the prox, none, a memory beside it, groups."""

SGD = {"lr": 1e-3, "momentum": 0.9}
ADAM = {"lr": 1e-3}
OPTIONS = {"SGD": SGD, "RMSprop": {"lr": 1e-4}}
"""By family; for all others `ADAM`."""

PENALTIES = {
    "λ = 0": lambda: L1(0.0),
    "L1": lambda: L1(STRENGTH),
    "elastic net": lambda: ElasticNet(STRENGTH),
    "MCP": lambda: MCP(STRENGTH),
    "GroupL1": lambda: GroupL1(STRENGTH),
    "SparseGroupL1": lambda: SparseGroupL1(STRENGTH),
}


@dataclass(frozen=True)
class Case:
    """A step that is measured.

    Attributes:
        name: as the page says it.
        make: of parameters with gradients, the step; or None where its package is not there.
        aim: for its time over that of the family's first step.
        over: the name of the step whose own cost is in it.
        compiled: whether torch's compiler makes it.
    """

    name: str
    make: Callable[[list[torch.nn.Parameter]], Callable[[], object] | None]
    aim: float | None = None
    over: str | None = None
    compiled: bool = False


def _torchs(kind, options, made):
    return kind(split(made), **options).step


def _ours(kind, penalty, options, made):
    return kind(penalised(made, PENALTIES[penalty]()), **options).step


def _by_hand(kind, options, made):
    return softshrink_after(kind(split(made), **options), made)


def _pruning(kind, options, made):
    return prune_optimizer_step(made, kind, **options)


def _compiled(kind, penalty, options, backend, made):
    return torch.compile(_ours(kind, penalty, options, made), backend=backend)


def with_own_step(family, torchs, proximal, steady):
    """A family whose step torch has fused, and this package with the prox in the same pass."""
    options = OPTIONS.get(family, ADAM)
    fused, foreach = {**options, "fused": True}, {**options, "foreach": True}
    bases = {True: f"{family}, fused", None: f"{family}, foreach"}
    yield Case(bases[True], partial(_torchs, torchs, fused))
    yield Case(bases[None], partial(_torchs, torchs, foreach))
    for implementation, own in ((None, options), (True, fused)):
        separable = OWN if implementation else SEPARABLE
        aims = {"L1": separable, "elastic net": separable, "MCP": separable, "GroupL1": GROUPS, "SparseGroupL1": GROUPS}
        for penalty in PENALTIES:
            name = f"{proximal.__name__}, {penalty}, fused={implementation}"
            make = partial(_ours, proximal, penalty, own)
            yield Case(name, make, aims.get(penalty), bases[implementation])
        name = f"{steady.__name__}, L1, fused={implementation}"
        yield Case(name, partial(_ours, steady, "L1", own), STEADY, bases[implementation])
    yield Case(f"softshrink by hand after {family} fused", partial(_by_hand, torchs, fused), None, bases[True])
    yield Case(f"torchao's PruneOptimizer around {family} fused", partial(_pruning, torchs, fused), None)


def beside_torchs(family, torchs, proximal):
    """A family whose step is torch's own, for a list of tensors."""
    options = OPTIONS.get(family, ADAM)
    base = f"{family}, foreach"
    yield Case(base, partial(_torchs, torchs, {**options, "foreach": True}))
    for penalty in ("λ = 0", "L1", "GroupL1"):
        aim = {"L1": SEPARABLE, "GroupL1": GROUPS}.get(penalty)
        yield Case(f"{proximal.__name__}, {penalty}", partial(_ours, proximal, penalty, options), aim, base)


def families(backend):
    """Lists of steps that are measured in turns, by what they are of; the first of each is what ratios are over.

    Args:
        backend: of torch's compiler.
    """
    own = {
        "SGD": list(with_own_step("SGD", torch.optim.SGD, ProxSGD, SteadySGD)),
        "Adam": list(with_own_step("Adam", torch.optim.Adam, ProxAdam, SteadyAdam)),
        "NAdam": list(beside_torchs("NAdam", torch.optim.NAdam, ProxNAdam)),
        "RMSprop": list(beside_torchs("RMSprop", torch.optim.RMSprop, ProxRMSprop)),
        "Adagrad": list(beside_torchs("Adagrad", torch.optim.Adagrad, ProxAdagrad)),
    }
    for family, kind in (("SGD", ProxSGD), ("Adam", ProxAdam)):
        base, options = own[family][0], {**OPTIONS.get(family, ADAM), "fused": True}
        make = partial(_compiled, kind, "L1", options, backend)
        compiled = Case(f"{kind.__name__}, L1, torch.compile(step)", make, SEPARABLE, base.name, compiled=True)
        own[f"{family}, compiled"] = [base, compiled]
    return own
