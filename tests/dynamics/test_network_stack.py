"""Networks side by side, against torch.optim.SGD on one network at a time."""

import copy

import pytest
import torch
from torch import nn

from nonsmooth.data import Images
from nonsmooth.dynamics.network_stack import NetworkStack

SEEDS, LR, STRENGTH, BATCH = (3, 5), 0.1, 0.01, 7


def images():
    generator = torch.Generator().manual_seed(0)
    return Images(
        torch.randn(40, 3, 6, 6, generator=generator), torch.randint(4, (40,), generator=generator), "noise", 4
    )


def make(generator):
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


def stack(**options):
    return NetworkStack(make, SEEDS, images(), **{"batch": BATCH, "lr": LR, "strength": STRENGTH} | options)


def by_hand(seed, steps, proximal):
    generator, data = torch.Generator().manual_seed(seed), images()
    model = make(generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for _ in range(steps):
        drawn = torch.randint(len(data), (BATCH,), generator=generator)
        loss = nn.functional.cross_entropy(model(data.inputs[drawn]), data.labels[drawn])
        if not proximal:
            loss = loss + STRENGTH * sum(parameter.abs().sum() for parameter in model.parameters())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if proximal:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(nn.functional.softshrink(parameter, LR * STRENGTH))
    return model


@pytest.mark.parametrize("proximal", [False, True])
def test_each_network_takes_torchs_steps(proximal):
    networks = stack(proximal=proximal)
    for _ in range(8):
        networks.step()
    right = networks.accuracy(images())
    for index, seed in enumerate(SEEDS):
        model = by_hand(seed, 8, proximal)
        alone = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        torch.testing.assert_close(networks.weights[index], alone, rtol=1e-4, atol=1e-5)
        named = copy.deepcopy(model).eval()(images().inputs).argmax(1)
        assert float(right[index]) == pytest.approx(float((named == images().labels).double().mean()))
    assert bool((networks.weights == 0).any()) == proximal


def test_the_gradient_returned_is_the_losss_before_the_step():
    networks, other = stack(), stack()
    before = networks.weights.clone()
    slope = networks.step()
    torch.testing.assert_close(slope, other.gradient())
    torch.testing.assert_close(networks.weights, before - LR * (slope + STRENGTH * before.sign()))


def test_accuracy_of_other_weights_leaves_the_networks_as_they_are():
    networks = stack()
    before = networks.weights.clone()
    none = networks.accuracy(images(), torch.zeros_like(before))
    assert torch.equal(networks.weights, before)
    assert float(none[0]) == pytest.approx(float((images().labels == 0).double().mean()))
    networks.step()
    assert not torch.equal(networks.weights, before)
