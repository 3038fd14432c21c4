"""A measurement changes nothing, bit for bit, also when it fails; and no graph outlives it."""

from __future__ import annotations

import gc
import random
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from nonsmooth.kinks import crossings, penalty_terms, scan


class Network(nn.Module):
    """Everything that a forward pass can leave behind."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 8, max_norm=0.5)  # rescales its weights in place
        self.convolution = parametrizations.spectral_norm(nn.Conv1d(8, 8, 3, padding=1))  # updates two buffers
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(3))
        self.generator = torch.Generator().manual_seed(0)
        self.fails = False

    def forward(self, tokens):
        self.calls += 1
        self.replaced = self.replaced + 1
        shift = random.random() + np.random.rand() + torch.rand((), generator=self.generator)
        hidden = self.embedding(tokens).mT + shift * torch.linspace(-1, 1, tokens.shape[1])
        hidden = self.dropout(F.relu(self.norm(self.convolution(hidden)), inplace=True))
        if self.fails:
            raise RuntimeError("half way through")
        return self.head(hidden.amax(-1))


TOKENS = torch.arange(12).reshape(3, 4) % 6


def snapshot(model: nn.Module):
    """Everything that has to be as it was, as bits where it is a tensor."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "bits": {name: bits(tensor) for name, tensor in tensors.items()},
        "identities": {name: id(tensor) for name, tensor in tensors.items()},
        "gradients": {
            name: (id(p.grad), None if p.grad is None else bits(p.grad)) for name, p in model.named_parameters()
        },
        "flags": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "random": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "generator": model.generator.get_state(),
        "grad_enabled": torch.is_grad_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "fastpath": torch.backends.mha.get_fastpath_enabled(),
    }


def bits(tensor):
    return tensor.detach().clone().reshape(-1).view(torch.uint8)


def same(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def made(*, training: bool) -> Network:
    torch.manual_seed(0)
    model = Network().train(training)
    model.head.eval()  # a mixture of modes, as of a frozen part
    model(TOKENS).sum().backward()
    model.norm.weight.grad = None
    return model


def closure(model):
    def loss():
        result = model(TOKENS).square().mean() + 0.1 * model.head.weight.data.abs().sum()
        result.backward()
        model.eval()
        return result

    return loss


def moved(model):
    return {name: value * 1.5 if value.is_floating_point() else value for name, value in model.state_dict().items()}


MEASUREMENTS = {
    "scan of a module": lambda model: scan(model, TOKENS),
    "scan of a closure": lambda model: scan(closure(model), named_parameters=model),
    "scan of the tree": scan,
    "scan of a graph": lambda model: scan(model.head(torch.ones(2, 8)).relu().sum(), named_parameters=model),
    "penalty terms of a closure": lambda model: penalty_terms(
        lambda: model(TOKENS).square().mean() + 0.1 * model.head.weight.data.abs().sum(), model
    ),
    "crossings": lambda model: crossings(model, TOKENS, model.state_dict(), moved(model)),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_everything_is_as_before(name, training):
    model = made(training=training)
    before = snapshot(model)
    MEASUREMENTS[name](model)
    assert same(before, snapshot(model))


@pytest.mark.parametrize("name", ["scan of a module", "scan of a closure", "penalty terms of a closure", "crossings"])
def test_everything_is_as_before_after_an_exception(name):
    model = made(training=True)
    model.fails = True
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="half way"):
        MEASUREMENTS[name](model)
    assert same(before, snapshot(model))


def test_the_network_does_leave_a_trace_when_nobody_looks_after_it():
    model = made(training=True)
    before = snapshot(model)
    model(TOKENS)
    after = snapshot(model)
    assert not any(same(before[key], after[key]) for key in ("random", "python", "numpy", "generator"))
    changed = {name for name, value in before["bits"].items() if not same(value, after["bits"][name])}
    assert {"calls", "replaced", "norm.running_mean", "norm.num_batches_tracked"} <= changed


def test_both_passes_of_crossings_draw_the_same_numbers():
    model = made(training=True)
    result = crossings(model, TOKENS, model.state_dict(), model.state_dict())
    assert result.entries > result.changed == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_the_context_that_a_scan_is_called_in_is_kept(enabled):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        (relu,) = scan(model, torch.randn(2, 4)).operations
        assert relu.parameters == ("0.weight", "0.bias")  # gradients are recorded all the same
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu") is enabled


def test_training_goes_on_bit_for_bit_as_without_measuring():
    def trained(*, measured: bool):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(TOKENS).square().mean()
            if measured:
                scan(loss, named_parameters=model)
                scan(model, TOKENS)
                crossings(model, TOKENS, model.state_dict(), moved(model))
                penalty_terms(lambda m=model: m(TOKENS).square().mean(), model)
            loss.backward()
            optimizer.step()
        return snapshot(model)["bits"]

    assert same(trained(measured=False), trained(measured=True))


class Kept(nn.Module):
    """Remembers every activation and every node, weakly."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen = []

    def forward(self, inputs):
        hidden = self.layer(inputs).relu()
        self.seen += [weakref.ref(hidden), weakref.ref(hidden.untyped_storage())]
        if hidden.requires_grad:
            hidden.register_hook(Kept.Sentinel(self.seen))
        return hidden.sum()

    class Sentinel:
        """A hook lives as long as the node that it is registered on."""

        def __init__(self, seen) -> None:
            seen.append(weakref.ref(self))

        def __call__(self, gradient):
            return gradient


@pytest.mark.parametrize(
    "measure",
    [
        scan,
        lambda model, data: scan(lambda: model(data), named_parameters=model),
        lambda model, data: penalty_terms(lambda: model(data) + model.layer.weight.data.abs().sum(), model),
        lambda model, data: crossings(model, data, model.state_dict(), moved(model)),
    ],
    ids=["scan", "scan of a closure", "penalty terms", "crossings"],
)
def test_no_graph_outlives_a_measurement(measure):
    model, data = Kept(), torch.randn(3, 4)
    result = measure(model, data)
    gc.collect()
    assert model.seen
    assert [reference() for reference in model.seen if reference() is not None] == []
    assert result is not None


def test_a_graph_that_is_scanned_goes_when_its_owner_lets_it_go():
    model = Kept()
    loss = model(torch.randn(3, 4))
    result = scan(loss, named_parameters=model)
    terms = penalty_terms(loss, model)
    assert any(reference() is not None for reference in model.seen)
    del loss
    gc.collect()
    assert all(reference() is None for reference in model.seen)
    assert result.operations and terms == ()


def test_measurements_in_two_threads_leave_what_the_process_shares_as_it_was():
    """The second to begin would put back what the first one had set, and ended last it would stay."""
    begun, other_begun, done = (threading.Event() for _ in range(3))

    class First(nn.Linear):
        def forward(self, inputs):
            begun.set()
            other_begun.wait(0.5)
            return super().forward(inputs).relu()

    class Second(nn.Linear):
        def forward(self, inputs):
            other_begun.set()
            done.wait(0.5)
            return super().forward(inputs).relu()

    def measure_first():
        found.append(scan(First(2, 2), torch.ones(1, 2)))
        done.set()

    before = [vars(torch.Tensor).get(name) for name in ("numpy", "tolist", "__dlpack__")]
    found = []
    thread = threading.Thread(target=measure_first)
    thread.start()
    begun.wait()
    found.append(scan(Second(2, 2), torch.ones(1, 2)))
    thread.join()
    assert [[operation.name for operation in result.operations] for result in found] == [["relu"]] * 2
    assert [vars(torch.Tensor).get(name) for name in ("numpy", "tolist", "__dlpack__")] == before
    assert torch.backends.mha.get_fastpath_enabled()
