"""A measurement changes nothing: random numbers, gradients, modes, buffers, autocast, memory, the run that goes on."""

import contextlib
import gc
import multiprocessing
import os
import random
import threading
import time
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nonsmooth.curvature import evaluate_point, hessian_operator, kink_gap, optimizer_sharpness, sharpness

METHODS = ["double backward", "finite differences"]


class Model(nn.Module):
    """Everything that keeps state: batch statistics, dropout, a spectral norm that iterates, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8))
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.4)
        self.last = nn.Linear(8, 3)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.frozen.eval()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, rows):
        noise = 0.1 * torch.rand(8, generator=self.generator)
        return self.last(self.drop(torch.relu(self.norm(self.first(self.frozen(rows))) + noise)))


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = Model()
    inputs, targets = torch.randn(20, 6), torch.randint(3, (20,))

    def loss():
        random.random()
        np.random.rand()
        return functional.cross_entropy(model(inputs), targets)

    loss().backward()
    return model, loss


def snapshot(model):
    return {
        "random": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": tuple(map(str, np.random.get_state())),
        "generator": model.generator.get_state(),
        "weights": [p.detach().clone() for p in model.parameters()],
        "storage": [p.data_ptr() for p in model.parameters()],
        "gradients": [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        "buffers": [(name, id(b), b.clone()) for name, b in model.named_buffers()],
        "modes": [m.training for m in model.modules()],
        "autocast": (torch.is_autocast_cache_enabled(), torch.is_autocast_enabled("cpu")),
        "requires": [p.requires_grad for p in model.parameters()],
        "grad mode": torch.is_grad_enabled(),
        "hooks": len(torch.nn.modules.module._global_forward_pre_hooks),
    }


def assert_equal(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, (list, tuple)) and first and not isinstance(first[0], (int, str, bool)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    elif isinstance(first, tuple):
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


MEASUREMENTS = {
    **{m: (lambda loss, model, mode, m=m: sharpness(loss, model.parameters(), mode=mode, method=m)) for m in METHODS},
    "named model": lambda loss, model, mode: sharpness(loss, model.parameters(), model=model, mode=mode),
    "point": lambda loss, model, mode: evaluate_point(loss, model.parameters(), mode=mode),
    "kink gap": lambda loss, model, mode: kink_gap(loss, model.parameters(), mode=mode),
    "optimiser": lambda loss, model, mode: optimizer_sharpness(
        torch.optim.SGD(model.parameters(), lr=0.1), loss, mode=mode
    ),
}


@pytest.mark.parametrize("mode", ["train", "eval", "current"])
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_everything_is_as_before(setting, name, mode):
    model, loss = setting
    before = snapshot(model)
    MEASUREMENTS[name](loss, model, mode)
    after = snapshot(model)
    for key, kept in before.items():
        assert_equal(kept, after[key])


@pytest.mark.parametrize("method", METHODS)
def test_everything_is_as_before_after_an_exception(setting, method):
    model, loss = setting
    calls = []

    def failing():
        calls.append(loss())
        if len(calls) == (1 if method == METHODS[0] else 2):
            raise ZeroDivisionError
        return calls[-1]

    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        sharpness(failing, model.parameters(), mode="train", method=method)
    for key, kept in before.items():
        assert_equal(kept, snapshot(model)[key])


def test_a_snapshot_sees_what_a_measurement_without_care_changes(setting):
    """The test of the test: the plain call changes random numbers, buffers and gradients."""
    model, loss = setting
    before = snapshot(model)
    loss().backward()
    after = snapshot(model)
    for key in ("random", "python", "numpy", "generator", "buffers", "gradients"):
        with pytest.raises(AssertionError):
            assert_equal(before[key], after[key])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_measured_ends_with_the_same_bits(method):
    def trained(measured):
        torch.manual_seed(1)
        model = Model()
        inputs, targets = torch.randn(20, 6), torch.randint(3, (20,))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(6):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if measured and step % 2:
                optimizer_sharpness(
                    optimizer, lambda: functional.cross_entropy(model(inputs), targets), mode="train", method=method
                )
        return [*model.parameters(), *model.buffers()]

    for one, other in zip(trained(False), trained(True), strict=True):
        assert torch.equal(one, other)


def test_a_measurement_between_forward_and_backward_does_not_disturb_the_graph(setting):
    model, loss = setting
    rng = torch.get_rng_state()
    expected = torch.autograd.grad(loss(), model.last.parameters())
    torch.set_rng_state(rng)
    model.load_state_dict(model.state_dict())
    pending = loss()
    sharpness(loss, model.parameters(), mode="eval", method="finite differences")
    found = torch.autograd.grad(pending, model.last.parameters())
    assert all(one.shape == other.shape for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_no_graph_survives(setting, method, fails):
    """Every tensor that autograd saved during the measurement is gone after it."""
    model, loss = setting
    saved = []

    class Box:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # else it would keep alive the node whose output it is

    def pack(tensor):
        box = Box(tensor)
        saved.append(weakref.ref(box))
        return box

    def watched():
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
            return loss()

    with hessian_operator(watched, model.parameters(), mode="train", method=method) as operator:
        with contextlib.suppress(ValueError):
            operator.product(torch.ones(operator.size - fails))
        assert any(box() is not None for box in saved) is (method == METHODS[0])
    assert saved
    assert [box for box in saved if box() is not None] == []


def test_a_graph_that_is_kept_is_seen(setting):
    """The test of the test: `backward(create_graph=True)` leaves its graph in `.grad`."""
    loss = setting[1]
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss().backward(create_graph=True)
    gc.collect()
    assert any(tensor() is not None and tensor().grad_fn is not None for tensor in saved)


def test_the_operator_is_gone_after_its_block(setting):
    model, loss = setting
    with hessian_operator(loss, model.parameters(), mode="eval") as operator:
        pass
    with pytest.raises(RuntimeError, match="block of hessian_operator has ended"):
        operator.product(torch.ones(operator.size))


def test_measuring_again_and_again_takes_no_more_memory(setting):
    model, loss = setting

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    sharpness(loss, model.parameters(), mode="train")
    before = tensors()
    for _ in range(3):
        sharpness(loss, model.parameters(), mode="train")
    assert tensors() == before


@pytest.mark.parametrize("method", METHODS)
def test_dropout_draws_the_same_mask_in_each_product(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 1)).double()
    rows = torch.randn(10, 5).double()
    parameters = list(model.parameters())
    with hessian_operator(lambda: model(rows).square().mean(), parameters, mode="train", method=method) as operator:
        vector = torch.randn(operator.size, dtype=torch.float64)
        first, second = operator.product(vector), operator.product(vector)
        doubled = operator.product(2 * vector)
    assert torch.equal(first, second)
    torch.testing.assert_close(doubled, 2 * first, rtol=1e-9, atol=1e-12)


DRAWS = {
    "Python": lambda model: torch.tensor([random.random() > 0.5 for _ in range(30)]),
    "NumPy": lambda model: torch.from_numpy(np.random.rand(30) > 0.5),
    "a generator of the module": lambda model: torch.rand(30, generator=model.generator) > 0.5,
}


@pytest.mark.parametrize("source", DRAWS)
@pytest.mark.parametrize("named", [True, False], ids=["named", "met"])
@pytest.mark.parametrize("method", METHODS)
def test_every_generator_draws_the_same_mask_in_each_product(method, named, source):
    torch.manual_seed(0)

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 30), nn.Linear(30, 1)
            self.generator = torch.Generator().manual_seed(0)

        def forward(self, rows):
            return self.last(torch.tanh(self.first(rows)) * DRAWS[source](self))

    model, rows = Masked().double(), torch.randn(10, 5).double()
    options = {"method": method, "model": model if named else None}
    with hessian_operator(lambda: model(rows).square().mean(), model.parameters(), **options) as operator:
        vector = torch.randn(operator.size, dtype=torch.float64)
        first, second = operator.product(vector), operator.product(vector)
        doubled = operator.product(2 * vector)
    assert torch.equal(first, second)
    torch.testing.assert_close(doubled, 2 * first, rtol=1e-6, atol=1e-9)


def test_a_mode_has_to_be_chosen_where_it_matters(setting):
    model, loss = setting
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"mode is None, but BatchNorm1d, Dropout.*'train', 'eval', 'current'"):
        sharpness(loss, model.parameters())
    for key, kept in before.items():
        assert_equal(kept, snapshot(model)[key])
    plain = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), nn.LayerNorm(2))
    assert sharpness(lambda: plain(torch.ones(3, 2)).square().sum(), plain.parameters()).mode is None


def test_the_modes_are_those_that_were_chosen(setting):
    model, loss = setting
    seen = []

    def watched():
        seen.append([module.training for module in model.modules()])
        return loss()

    for mode, expected in (("train", [True]), ("eval", [False])):
        seen.clear()
        sharpness(watched, model.parameters(), model=model, mode=mode)
        assert sorted({flag for flags in seen for flag in flags}) == expected
    seen.clear()
    sharpness(watched, model.parameters(), model=model, mode="current")
    assert seen == [[module.training for module in model.modules()]]
    assert not all(seen[0])


def test_casts_of_autocast_are_not_those_of_other_weights():
    """Inside an autocast region that caches casts of weights, differences see the weights that are moved."""
    torch.manual_seed(0)
    model, rows = nn.Linear(8, 4), torch.randn(16, 8)

    def loss():
        return model(rows).float().square().mean()

    def cast():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss()

    def cast_and_remembered():
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=True):
            return loss()

    expected = pytest.approx(sharpness(loss, model.parameters()).value, rel=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss()  # fills the cache
        assert sharpness(loss, model.parameters(), method="finite differences").value == expected
        assert sharpness(loss, model.parameters()).value == expected
        assert sharpness(cast_and_remembered, model.parameters(), method="finite differences").value == expected
        assert torch.is_autocast_cache_enabled()
    assert sharpness(cast, model.parameters(), method="finite differences").value == expected


def test_it_works_without_gradients_enabled(setting):
    model, loss = setting
    expected = sharpness(loss, model.parameters(), mode="eval").value
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert sharpness(loss, model.parameters(), mode="eval").value == expected


def test_measurements_in_two_threads_leave_the_class_of_modules_as_it_was():
    """The second to begin would put back what the first one had set, and ended last it would stay."""
    first_begun, first_done = threading.Event(), threading.Event()
    train, found = nn.Module.train, {}

    def measure(name, weight, begun):
        def loss():
            begun()
            return weight.square().sum()

        found[name] = sharpness(loss, [weight]).value

    def measure_first():
        measure("first", nn.Parameter(torch.ones(2)), lambda: (first_begun.set(), time.sleep(0.05)))
        first_done.set()

    thread = threading.Thread(target=measure_first)
    thread.start()
    first_begun.wait()
    measure("second", nn.Parameter(torch.ones(2)), lambda: first_done.wait(0.5))
    thread.join()
    assert found == pytest.approx({"first": 2.0, "second": 2.0})
    assert nn.Module.train is train


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which Windows has not")
def test_a_process_that_is_forked_during_a_measurement_can_measure():
    """As the workers of a DataLoader are, in another thread's time."""
    begun, go_on = threading.Event(), threading.Event()
    weight = nn.Parameter(torch.ones(2))

    def slow_loss():
        begun.set()
        go_on.wait(10)
        return weight.square().sum()

    thread = threading.Thread(target=lambda: sharpness(slow_loss, [weight]))
    thread.start()
    begun.wait()
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    own = nn.Parameter(torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = context.Process(target=lambda: results.put(sharpness(lambda: own.square().sum(), [own]).value))
        child.start()
    child.join(20)
    alive = child.is_alive()
    child.kill()
    go_on.set()
    thread.join()
    assert not alive
    assert results.get() == pytest.approx(2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu(setting, method):
    model, _ = setting
    inputs, targets = torch.randn(20, 6), torch.randint(3, (20,))

    def measured():
        device = next(model.parameters()).device
        return sharpness(
            lambda: functional.cross_entropy(model(inputs.to(device)), targets.to(device)),
            model.parameters(),
            mode="eval",
            method=method,
        )

    expected = measured().value
    model.cuda()
    before = torch.cuda.get_rng_state()
    found = measured()
    assert found.eigenvector.device.type == "cuda"
    assert found.value == pytest.approx(expected, rel=1e-2)
    sharpness(lambda: functional.cross_entropy(model(inputs.cuda()), targets.cuda()), model.parameters(), mode="train")
    assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.parametrize("mode", ["train", "eval", "current"])
@pytest.mark.parametrize("training", [True, False])
def test_a_backward_pass_that_waits_goes_through_batch_statistics(mode, training):
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).train(training), torch.randn(9, 4)

    def loss():
        return model(rows).square().mean()

    expected = torch.autograd.grad(loss(), list(model.parameters()))
    waiting = loss()
    sharpness(loss, model.parameters(), mode=mode)
    waiting.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_buffers_that_come_to_be_in_a_measurement_are_gone_after_it():
    class Caches(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("cache", None)

        def forward(self, rows):
            self.cache = self.layer(rows)
            self.register_buffer("late", self.cache.mean(0), persistent=False)
            return self.cache

    model, rows = Caches(), torch.randn(4, 3)
    keys = set(model.state_dict())
    sharpness(lambda: model(rows).square().mean(), model.parameters())
    assert model.cache is None
    assert "late" not in dict(model.named_buffers())
    assert set(model.state_dict()) == keys
