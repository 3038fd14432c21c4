"""A measurement touches the modules and the thread that it measures, and nothing that another thread computes."""

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from nonsmooth.curvature import evaluate_point, kink_gap, optimizer_sharpness, sharpness
from nonsmooth.dynamics import stationary_law
from nonsmooth.kinks import crossings, penalty_terms, scan
from nonsmooth.optim import ProxSGD, certify
from nonsmooth.penalties import L1

STEPS = 150


class Measured:
    """What is measured: batch normalisation and attention, nothing drawn."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Unflatten(1, (2, 4)),
            nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), nn.Flatten(), nn.Linear(8, 1)
        )  # fmt: skip
        for parameter in self.model.parameters():
            parameter.data.normal_(0.0, 0.3, generator=generator)
        self.rows = torch.randn(16, 6, generator=generator)
        self.optimizer = ProxSGD(self.model.parameters(), lr=0.01, penalty=L1(1e-3))
        self.before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.after = {name: tensor + 0.01 if tensor.is_floating_point() else tensor
                      for name, tensor in self.before.items()}  # fmt: skip

    def loss(self):
        return self.model(self.rows).square().mean()


MEASUREMENTS = {
    "sharpness": lambda m: sharpness(m.loss, m.model.parameters(), mode="train"),
    "sharpness, differences": lambda m: sharpness(
        m.loss, m.model.parameters(), mode="eval", method="finite differences", max_products=3
    ),
    "optimizer_sharpness": lambda m: optimizer_sharpness(m.optimizer, m.loss, mode="eval"),
    "evaluate_point": lambda m: evaluate_point(m.loss, m.model.parameters(), mode="train"),
    "kink_gap": lambda m: kink_gap(m.loss, m.model.parameters(), mode="train"),
    "crossings": lambda m: crossings(m.model, m.rows, m.before, m.after),
    "scan": lambda m: scan(m.loss, named_parameters=m.model),
    "penalty_terms": lambda m: penalty_terms(
        lambda: m.loss() + 0.1 * sum(p.detach().abs().sum() for p in m.model.parameters()), m.model
    ),
    "certify": lambda m: certify(m.optimizer, m.loss),
    "stationary_law": lambda m: stationary_law(
        lambda p: torch.optim.Adam(p, lr=0.01), 0.1, coordinates=8, max_steps=64, window=8
    ),
}


def trained(steps, beside=None):
    """Weights after some steps of a network with dropout, batch normalisation, attention and a checkpoint."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))
    attention, head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(8, 1)
    parameters = [*model.parameters(), *attention.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    rows = torch.randn(12, 5)
    failures = []

    def run():
        try:
            for _ in range(steps):
                optimizer.zero_grad()
                hidden = torch.utils.checkpoint.checkpoint(model, rows[torch.randperm(12)], use_reentrant=False)
                tokens = hidden.view(12, 2, 4)
                mixed = attention(tokens, tokens, tokens, need_weights=False)[0]
                head(mixed.flatten(1)).square().mean().backward()
                optimizer.step()
        except Exception as error:
            failures.append(error)

    if beside is None:
        run()
        count = 0
    else:
        thread, count = threading.Thread(target=run), 0
        thread.start()
        while thread.is_alive():
            beside()
            count += 1
        thread.join()
    assert not failures, failures
    buffers = [tensor.clone() for tensor in model.buffers()]
    return [parameter.detach().clone() for parameter in parameters], buffers, torch.get_rng_state(), count


def assert_the_same_bits_beside(name, runs):
    measured = Measured()
    MEASUREMENTS[name](measured)
    weights, buffers, numbers, _ = trained(STEPS)
    for _ in range(runs):
        *beside, count = trained(STEPS, lambda: MEASUREMENTS[name](measured))
        assert count > 0
        for one, other in zip((*weights, *buffers, numbers), (*beside[0], *beside[1], beside[2]), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_training_thread_beside_a_measurement_computes_the_bits_that_it_computes_alone(name):
    assert_the_same_bits_beside(name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_training_thread_beside_a_measurement_computes_the_same_bits_in_each_of_twenty_runs(name):
    assert_the_same_bits_beside(name, 20)


def during(measure, act):
    """Run `act` in another thread, while the closure of a measurement runs in this one."""
    results, failures = [], []

    def run():
        try:
            results.append(act())
        except Exception as error:
            failures.append(error)

    def pause():
        if not results:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

    measure(pause)
    assert not failures, failures
    return results[0]


WEIGHT = torch.ones(3, requires_grad=True)


def pausing(pause):
    def loss():
        pause()
        return nn.functional.relu(WEIGHT).square().sum()

    return loss


class Pausing(nn.Module):
    def __init__(self, pause):
        super().__init__()
        self.weight, self.pause = nn.Parameter(torch.ones(3)), pause

    def forward(self, rows):
        self.pause()
        return torch.relu(rows * self.weight)


def crossed(pause):
    model = Pausing(pause)
    return crossings(model, torch.ones(2, 3), torch.ones(3), -torch.ones(3))


PAUSED = {
    "sharpness": lambda pause: sharpness(pausing(pause), [WEIGHT]),
    "kink_gap": lambda pause: kink_gap(pausing(pause), [WEIGHT]),
    "evaluate_point": lambda pause: evaluate_point(pausing(pause), [WEIGHT]),
    "scan": lambda pause: scan(pausing(pause), named_parameters={"weight": WEIGHT}),
    "penalty_terms": lambda pause: penalty_terms(pausing(pause), {"weight": WEIGHT}),
    "crossings": crossed,
}


@pytest.mark.parametrize("name", PAUSED)
def test_a_model_that_another_thread_runs_meanwhile_keeps_gradient_mode_and_statistics(name):
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def act():
        before = other.training
        other(torch.ones(5, 3)).square().mean().backward()
        return before, other.training, other[0].weight.grad is not None

    assert during(PAUSED[name], act) == (True, True, True)
    assert other[0].weight.grad is not None
    assert int(other[1].num_batches_tracked) == 1


def process():
    """What belongs to the whole process, as another thread finds it."""
    hooks = torch.nn.modules.module
    return (
        len(hooks._global_forward_pre_hooks), len(hooks._global_forward_hooks), nn.Module.train, nn.Module.__call__,
        torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cuda.math_sdp_enabled(),
        torch.is_autocast_cache_enabled(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype(),
    )  # fmt: skip


@pytest.mark.parametrize("name", PAUSED)
def test_hooks_and_flags_of_the_process_are_the_same_for_another_thread(name):
    assert during(PAUSED[name], process) == process()


@pytest.mark.parametrize("name", PAUSED)
def test_another_thread_compiles_and_checkpoints_meanwhile(name):
    def doubled(x):
        return x * 2

    def act():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            module = torch.compile(nn.Linear(2, 2), backend="eager")
            module(torch.ones(1, 2))
        x = torch.ones(2, requires_grad=True)
        result = torch.utils.checkpoint.checkpoint(doubled, x, use_reentrant=True)
        return type(module).__name__, type(result.grad_fn).__name__, torch.ones(2).numpy().tolist()

    assert during(PAUSED[name], act) == ("OptimizedModule", "CheckpointFunctionBackward", [1.0, 1.0])


def test_numbers_that_another_thread_takes_to_numpy_are_not_put_back():
    kept, calls = torch.zeros(2), []

    def add():
        numbers = kept.numpy()
        numbers += 1

    def closure():
        calls.append(None)
        thread = threading.Thread(target=add)
        thread.start()
        thread.join()
        return WEIGHT.square().sum() + 0.1 * WEIGHT.detach().abs().sum()

    penalty_terms(closure, {"weight": WEIGHT})
    assert len(calls) > 1
    assert kept.tolist() == [len(calls)] * 2


@pytest.mark.parametrize("name", ["sharpness", "kink_gap", "scan", "certify"])
def test_a_closure_that_draws_beside_an_idle_thread_is_repeated_and_leaves_the_generator(name):
    """Where the closure draws, the numbers are its own, and are put back as they are alone."""
    weight = torch.ones(6, requires_grad=True)

    def loss():
        return functional.dropout(weight, 0.5).square().sum()

    optimizer = torch.optim.SGD([weight], lr=0.1)
    measures = {
        "sharpness": lambda: sharpness(loss, [weight], mode="train").value,
        "kink_gap": lambda: kink_gap(loss, [weight], mode="train").hessian,
        "scan": lambda: scan(loss, named_parameters={"weight": weight}),
        "certify": lambda: certify(optimizer, loss),
    }
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    state = torch.get_rng_state()
    alone = measures[name]()
    thread.start()
    try:
        beside = measures[name]()
    finally:
        go_on.set()
        thread.join()
    assert str(beside) == str(alone)
    assert torch.equal(torch.get_rng_state(), state)
