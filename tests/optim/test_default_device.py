"""A default device that is not the parameters' own, as `torch.set_default_device("cuda")` makes it, changes no bit."""

import itertools

import pytest
import torch

from nonsmooth.optim import (
    RDA,
    XRDA,
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdam,
    SteadySGD,
    attach,
    certify,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

KINDS = {
    "ProxSGD": lambda given, penalty: ProxSGD(given, lr=0.01, momentum=0.9, penalty=penalty),
    "SteadySGD": lambda given, penalty: SteadySGD(given, lr=0.01, penalty=penalty),
    "RDA": lambda given, penalty: RDA(given, lr=0.1, penalty=penalty),
    "XRDA": lambda given, penalty: XRDA(given, lr=0.01, penalty=penalty),
    "attach": lambda given, penalty: attach(torch.optim.Adam(given), penalty),
    **{
        kind.__name__: lambda given, penalty, kind=kind: kind(given, penalty=penalty)
        for kind in (ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad, SteadyAdam)
    },
}
PENALTIES = [
    L1(0.01),
    L1(0.01, weights=torch.ones(6, 5)),
    ElasticNet(0.01, 0.1),
    MCP(0.01),
    SCAD(0.01),
    TransformedL1(0.01),
    L0(0.001),
    GroupL1(0.01),
    SparseGroupL1(0.01, 0.5),
    Nuclear(0.01),
]
FITTING = [
    pytest.param(name, penalty, id=f"{name}-{type(penalty).__name__}{'-weights' if i == 1 else ''}")
    for name, (i, penalty) in itertools.product(KINDS, enumerate(PENALTIES))
    if not (name == "RDA" and isinstance(penalty, MCP | SCAD | TransformedL1 | L0))
    and not (name.startswith("Steady") and isinstance(penalty, L0 | GroupL1 | SparseGroupL1 | Nuclear))
    and not (name not in ("ProxSGD", "RDA", "XRDA") and isinstance(penalty, Nuclear))
]


def train(name, penalty, elsewhere):
    """Four steps, the last three under another default device: the meta device, on which nothing can be read."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 5, generator=generator))
    weight.data[0] = 0
    optimizer = KINDS[name]([weight], penalty)
    for step in range(4):
        weight.grad = torch.randn(6, 5, generator=generator)
        with torch.device("meta" if elsewhere and step else "cpu"):
            optimizer.step()
    return weight.detach(), optimizer


@pytest.mark.filterwarnings("ignore:the penalty is on")
@pytest.mark.parametrize(("name", "penalty"), FITTING)
def test_steps_are_the_same_under_another_default_device(name, penalty):
    assert torch.equal(train(name, penalty, True)[0], train(name, penalty, False)[0])


def test_a_certificate_is_the_same_under_another_default_device():
    _, optimizer = train("ProxAdamW", L1(0.01), False)
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        return (weight**2).sum()

    here = certify(optimizer, closure)
    with torch.device("meta"):
        there = certify(optimizer, closure)
    assert there.residual == here.residual
