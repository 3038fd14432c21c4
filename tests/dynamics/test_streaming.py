import pytest
import torch
from torch import nn
from torch.nn import functional

from nonsmooth.dynamics.streaming import RULES, StreamedAdam, StreamedProximalSgd, StreamedSgd, StreamedTraining
from nonsmooth.models.vgg16 import vgg16

STEPS = 6
STRENGTH = 0.02


def network(dtype=torch.float64):
    return vgg16(0, width=1 / 32, classes=10).to(dtype)


def batches(count=STEPS, size=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 3, 32, 32, generator=generator).to(dtype), torch.randint(10, (size,), generator=generator))
        for _ in range(count)
    ]


def appendix_b(model, make_optimizer, data, l1_strength=STRENGTH):
    """The training loop of appendix B, line by line."""
    optimizer = make_optimizer(model.parameters())
    criterion = nn.CrossEntropyLoss()
    losses = []
    for step, (inputs, labels) in enumerate(data):
        torch.manual_seed(step)
        outputs = model(inputs)
        loss_ce = criterion(outputs, labels)
        l1_penalty = 0
        for param in model.parameters():
            l1_penalty += torch.abs(param).sum()
        loss = loss_ce + l1_strength * l1_penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss_ce.item())
    return losses


def streamed(model, rule, data):
    training = StreamedTraining(model, rule)
    losses = []
    for step, (inputs, labels) in enumerate(data):
        torch.manual_seed(step)
        losses.append(training.step(inputs, labels))
    return losses


@pytest.mark.parametrize(
    ("rule", "make_optimizer"),
    [
        (StreamedSgd(0.05, STRENGTH), lambda p: torch.optim.SGD(p, lr=0.05)),
        (StreamedAdam(1e-3, STRENGTH), lambda p: torch.optim.Adam(p, lr=1e-3)),
    ],
    ids=["sgd", "adam"],
)
def test_same_weights_as_appendix_b(rule, make_optimizer):
    ours, theirs = network(), network()
    data = batches()
    assert streamed(ours, rule, data) == pytest.approx(appendix_b(theirs, make_optimizer, data), rel=1e-12)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12, msg=name)
        assert mine.grad is None


def test_same_weights_as_appendix_b_in_float32_to_rounding():
    ours, theirs = network(torch.float32), network(torch.float32)
    data = batches(dtype=torch.float32)
    streamed(ours, StreamedSgd(0.01, 0.1), data)
    appendix_b(theirs, lambda p: torch.optim.SGD(p, lr=0.01), data, 0.1)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7, msg=name)


def test_proximal_step_is_the_soft_threshold_of_the_gradient_step():
    ours, theirs = network(), network()
    step_size, strength = 0.05, 0.1
    (inputs, labels), *_ = batches(1)
    torch.manual_seed(0)
    StreamedTraining(ours, StreamedProximalSgd(step_size, strength)).step(inputs, labels)
    torch.manual_seed(0)
    functional.cross_entropy(theirs(inputs), labels).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        moved = other.detach() - step_size * other.grad
        torch.testing.assert_close(
            mine.detach(), functional.softshrink(moved, step_size * strength), rtol=1e-9, atol=1e-15
        )
    share = sum(int((p == 0).sum()) for p in ours.parameters()) / sum(p.numel() for p in ours.parameters())
    assert share > 0.3


@pytest.mark.parametrize("name", RULES)
def test_a_dead_network_is_still_penalised(name):
    """With no path from the weights to the loss their gradient is 0, and autograd still shrinks them."""
    model = network()
    with torch.no_grad():
        model.classifier[6].weight.zero_()
    before = model.features[0].weight.detach().clone()
    StreamedTraining(model, RULES[name](0.01, STRENGTH)).step(*batches(1)[0])
    moved = model.features[0].weight.detach() - before
    expected = 0.01 if name == "adam" else 0.01 * STRENGTH
    torch.testing.assert_close(moved, -expected * torch.sign(before), rtol=1e-4, atol=1e-12)


def test_state_resumes_bit_for_bit():
    data = batches()
    whole, first, second = network(), network(), network()
    streamed(whole, StreamedAdam(1e-3, STRENGTH), data)
    training = StreamedTraining(first, StreamedAdam(1e-3, STRENGTH))
    for step in range(3):
        torch.manual_seed(step)
        training.step(*data[step])
    second.load_state_dict(first.state_dict())
    resumed = StreamedTraining(second, StreamedAdam(1e-3, STRENGTH))
    resumed.load_state_dict(training.state_dict())
    for step in range(3, STEPS):
        torch.manual_seed(step)
        resumed.step(*data[step])
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_weight_used_twice_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x))

    with pytest.raises(ValueError, match=r"shape \(4, 4\) is used twice"):
        StreamedTraining(Tied(), StreamedSgd(0.1, 0.0)).step(torch.randn(2, 4), torch.tensor([0, 1]))


def test_strided_parameters_are_refused():
    layer = nn.Linear(3, 4)
    layer.weight = nn.Parameter(torch.randn(3, 4).t())
    with pytest.raises(ValueError, match="'weight'"):
        StreamedTraining(layer, StreamedSgd(0.1, 0.0))


@pytest.mark.parametrize("rule", RULES.values())
@pytest.mark.parametrize(("lr", "strength", "named"), [(0.0, 0.1, "lr"), (0.1, -1.0, "strength")])
def test_bad_rules_are_refused(rule, lr, strength, named):
    with pytest.raises(ValueError, match=named):
        rule(lr, strength)
