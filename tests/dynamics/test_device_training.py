"""Training for an accelerator against the streamed one, on the CPU at small shapes."""

import copy

import pytest
import torch

from nonsmooth.dynamics.device_training import DeviceTraining
from nonsmooth.dynamics.penalized_training import Schedule, magnitudes, train_penalized
from nonsmooth.dynamics.streaming import RULES, StreamedTraining
from nonsmooth.models.vgg16 import vgg16

LR, STRENGTH = {"sgd": 0.05, "proximal-sgd": 0.05, "adam": 0.002}, 0.01
COUNT = 12


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(COUNT, 3, 32, 32, generator=generator), torch.randint(10, (COUNT,), generator=generator)


def network():
    return vgg16(0, width=1 / 16, classes=10, initialization="fan-in")


def trained(training, tmp_path=None, steps=6, **schedule):
    options = {"measurements": 3, "evaluations": 2} | schedule
    return train_penalized(
        training, data(), data(), Schedule(steps, 4, **options), seed=3, scratch=tmp_path, owner="me"
    )


@pytest.mark.parametrize("rule", list(RULES))
def test_takes_the_streamed_steps(rule):
    streamed = StreamedTraining(network(), RULES[rule](LR[rule], STRENGTH))
    dense = DeviceTraining(network(), rule, LR[rule], STRENGTH, "float32")
    expected, found = trained(streamed), trained(dense)
    assert found.step == expected.step
    assert found.l1_norm == pytest.approx(expected.l1_norm, rel=1e-4)
    assert found.train_cross_entropy == pytest.approx(expected.train_cross_entropy, rel=1e-3)
    assert found.test_cross_entropy == pytest.approx(expected.test_cross_entropy, rel=1e-3)
    assert (magnitudes(dense.model, (1.0,)).exact_zeros > 0) == (rule == "proximal-sgd")


def test_bfloat16_products_leave_weights_and_penalty_exact():
    """At a λ that rules, the two-cycle is that of float32: the floor is met as closely."""
    dense = DeviceTraining(network(), "sgd", 0.01, 1.0, "bfloat16")
    found = trained(dense, steps=60)
    weights = torch.cat([parameter.detach().flatten() for parameter in dense.model.parameters()])
    assert weights.dtype is torch.float32
    assert found.l1_norm[-1] == pytest.approx(len(weights) * 0.01 / 2, rel=0.1)
    reference = DeviceTraining(network(), "sgd", 0.01, 1.0, "float32")
    assert found.l1_norm[-1] == pytest.approx(trained(reference, steps=60).l1_norm[-1], rel=0.01)


def test_goes_on_from_a_checkpoint(tmp_path):
    whole = DeviceTraining(network(), "adam", 0.002, STRENGTH, "float32")
    expected = trained(whole, steps=6)
    part = DeviceTraining(network(), "adam", 0.002, STRENGTH, "float32")
    trained(part, tmp_path, steps=4, checkpoint_every=4, measurements=2)
    later = DeviceTraining(network(), "adam", 0.002, STRENGTH, "float32")
    trained(later, tmp_path, steps=6, checkpoint_every=4)
    for one, other in zip(whole.model.parameters(), later.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert expected.l1_norm[-1] == pytest.approx(magnitudes(later.model).l1_norm)


def test_a_step_returns_its_loss_on_the_device_and_leaves_no_gradients():
    dense = DeviceTraining(network(), "sgd", 0.05, STRENGTH, "float32")
    dense.model.eval()
    inputs, labels = data()
    expected = torch.nn.functional.cross_entropy(copy.deepcopy(dense.model)(inputs), labels)
    loss = dense.step(inputs, labels)
    assert isinstance(loss, torch.Tensor)
    torch.testing.assert_close(loss, expected.detach())
    assert all(parameter.grad is None for parameter in dense.model.parameters())


@pytest.mark.parametrize(("name", "value"), [("rule", "lion"), ("precision", "float16")])
def test_refuses_what_it_does_not_know(name, value):
    options = {"rule": "sgd", "precision": "float32"} | {name: value}
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        DeviceTraining(network(), lr=0.1, strength=0.1, **options)
