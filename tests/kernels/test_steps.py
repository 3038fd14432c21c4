"""Fused steps are torch's own step in float64, then the eager prox."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from nonsmooth.optim.metric import WARM_UP, adam_step, sgd_step, unit_step_of

from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.kernels.steps import adam_step_, sgd_step_
from nonsmooth.kernels.tables import Table
from nonsmooth.optim import ProxAdam, ProxAdamW, ProxSGD, SteadyAdam, SteadySGD
from nonsmooth.optim.proximal_step import prox_parameter
from nonsmooth.penalties import L1

SHAPES = [(5, 7), (), (0, 4), (2, 3)]
STEPS = 3
# Biases are on purpose among the parameters.
pytestmark = pytest.mark.filterwarnings("ignore:the penalty is on")
STRENGTH = 0.02
PLAIN = SimpleNamespace(name="l1", make=L1, shape=0.0)


def drawn(seed, dtype, device):
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    if seed == 0:
        for point in found:
            point.masked_fill_(point.abs() < 0.3, 0)
    return [tensor.to(device=device, dtype=dtype) for tensor in found]


class Run:
    """An eager optimiser in float64, and the fused step beside it from the same start on the same gradients."""

    def __init__(self, make, kind, dtype, device, strength=STRENGTH, **options):
        self.strength = strength
        self.points = drawn(0, dtype, device)
        self.eager = [torch.nn.Parameter(point.to(torch.float64, copy=True)) for point in self.points]
        self.optimizer = make(self.eager, penalty=kind.make(strength), **options)
        self.kind, self.dtype, self.device = kind, dtype, device
        self.table = Table(device, block=32)
        self.numbers = Numbers(device, len(SHAPES))
        precise = torch.promote_types(dtype, torch.float32)
        self.pulls = [torch.zeros_like(point, dtype=precise) for point in self.points]
        self.options = {}
        if make in (SteadySGD, SteadyAdam):
            self.options["pulls"] = self.pulls

    def gradients(self, step):
        grads = drawn(step + 10, self.dtype, self.device)
        for parameter, grad in zip(self.eager, grads, strict=True):
            parameter.grad = grad.to(torch.float64, copy=True)
        return grads

    def rows(self, step):
        group = self.optimizer.param_groups[0]
        return {
            Row.STRENGTH: self.strength,
            Row.SHAPE: self.kind.shape,
            Row.RATE: group["lr"],
            Row.WEIGHT_DECAY: group["weight_decay"],
            Row.COUNT: float(step + 1),
            Row.FORGETTING: 4.0,
            Row.WARM_UP: float(WARM_UP),
        }


class SGDRun(Run):
    """With momenta, where there is momentum."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        group = self.optimizer.param_groups[0]
        self.momenta = [torch.zeros_like(point) for point in self.points] if group["momentum"] else None

    def step(self, step, scale=None, **more):
        grads, group = self.gradients(step), self.optimizer.param_groups[0]
        self.optimizer.step()
        rows = self.rows(step) | {Row.STEP: sgd_step(group, {}), Row.MOMENTUM: group["momentum"]}
        rows[Row.DAMPENING] = group["dampening"] if step else 0.0
        if scale is not None:
            rows[Row.GRAD_SCALE] = scale
            grads = [grad * scale for grad in grads]
        sgd_step_(
            self.kind.name,
            self.points,
            grads,
            self.momenta,
            self.numbers(rows | more.pop("rows", {})),
            table=self.table,
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            scaled=scale is not None,
            **self.options,
            **more,
        )
        return grads

    def states(self):
        """Pairs of ours and torch's."""
        found = (
            []
            if self.momenta is None
            else [
                (ours, self.optimizer.state[parameter]["momentum_buffer"])
                for ours, parameter in zip(self.momenta, self.eager, strict=True)
            ]
        )
        return found + pulls_of(self)


class AdamRun(Run):
    """With averages, squares and, for AMSGrad, the largest of them."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.averages = [torch.zeros_like(point) for point in self.points]
        self.squares = [torch.zeros_like(point) for point in self.points]
        if self.optimizer.param_groups[0]["amsgrad"]:
            self.options["largest_squares"] = [torch.zeros_like(point) for point in self.points]

    def step(self, step, scale=None, **more):
        grads, group = self.gradients(step), self.optimizer.param_groups[0]
        self.optimizer.step()
        first, second = group["betas"]
        unit = adam_step(group, self.optimizer.state[self.eager[0]])
        rows = self.rows(step) | {
            Row.SCALE: unit.scale,
            Row.EPSILON: unit.epsilon,
            Row.FULL: unit.full,
            Row.TIMES: unit.times,
            Row.SLACK: unit.slack,
            Row.FIRST_BETA: first,
            Row.SECOND_BETA: second,
            Row.DIVISOR: group["eps"],
            Row.CORRECTION: 1 - first ** (step + 1),
            Row.ROOT_CORRECTION: (1 - second ** (step + 1)) ** 0.5,
        }
        if scale is not None:
            rows[Row.GRAD_SCALE] = scale
            grads = [grad * scale for grad in grads]
        adam_step_(
            self.kind.name,
            self.points,
            grads,
            self.averages,
            self.squares,
            self.numbers(rows | more.pop("rows", {})),
            table=self.table,
            decoupled=isinstance(self.optimizer, ProxAdamW),
            maximize=group["maximize"],
            scaled=scale is not None,
            **self.options,
            **more,
        )
        return grads

    def states(self):
        """Pairs of ours and torch's."""
        names = {"exp_avg": self.averages, "exp_avg_sq": self.squares}
        if "largest_squares" in self.options:
            names["max_exp_avg_sq"] = self.options["largest_squares"]
        return [
            (ours, self.optimizer.state[parameter][name])
            for name, tensors in names.items()
            for ours, parameter in zip(tensors, self.eager, strict=True)
        ] + pulls_of(self)


def pulls_of(run):
    if "pulls" not in run.options:
        return []
    return [
        (ours, run.optimizer.state[parameter]["pull"]) for ours, parameter in zip(run.pulls, run.eager, strict=True)
    ]


def assert_same(run, slack=2e-5):
    tolerance = (1e-11, 1e-13) if run.dtype == torch.float64 else (slack, slack)
    pairs = [*zip(run.points, (parameter.detach() for parameter in run.eager), strict=True), *run.states()]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=tolerance[0], atol=tolerance[1])


SGD_OPTIONS = [
    {},
    {"weight_decay": 0.1, "maximize": True},
    {"momentum": 0.9},
    {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05},
    {"momentum": 0.8, "nesterov": True, "maximize": True, "weight_decay": 0.05},
]
ADAM_OPTIONS = [
    {},
    {"weight_decay": 0.1, "maximize": True},
    {"amsgrad": True, "betas": (0.5, 0.6), "eps": 0.01},
]


@pytest.mark.parametrize(("run", "make"), [(SGDRun, ProxSGD), (AdamRun, ProxAdamW)])
def test_a_step_of_every_penalty_is_torchs_step_and_the_eager_prox(kind, run, make, device):
    run = run(make, kind, torch.float64, device, lr=0.05, weight_decay=0.1)
    for step in range(STEPS):
        run.step(step)
    assert_same(run)


@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sgd_with_every_option_is_torchs(dtype, options, device):
    run = SGDRun(ProxSGD, PLAIN, dtype, device, lr=0.1, **options)
    for step in range(STEPS):
        run.step(step)
    assert_same(run)


@pytest.mark.parametrize("make", [ProxAdam, ProxAdamW])
@pytest.mark.parametrize("options", ADAM_OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_with_every_option_is_torchs(make, dtype, options, device):
    run = AdamRun(make, PLAIN, dtype, device, lr=0.05, **options)
    for step in range(STEPS):
        run.step(step)
    assert_same(run)


@pytest.mark.parametrize("make", [SteadySGD, SteadyAdam])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_steady_versions_keep_their_memory_in_the_same_pass(sloping, make, dtype, device):
    kind = SGDRun if make is SteadySGD else AdamRun
    run = kind(make, sloping, dtype, device, lr=0.1, strength=0.8)
    for step in range(STEPS):
        run.step(step)
    assert_same(run)
    assert any(bool(((point == 0) & (pull != 0)).any()) for point, pull in zip(run.points, run.pulls, strict=True))


@pytest.mark.parametrize(("run", "make"), [(SGDRun, ProxSGD), (AdamRun, ProxAdamW)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_rounded_once_and_the_metric_is_read_from_rounded_states(run, make, dtype, device):
    run = run(make, PLAIN, dtype, device, lr=0.05, weight_decay=0.1)
    base = make.parent([parameter.detach().clone() for parameter in run.eager], lr=0.05, weight_decay=0.1)
    zeros = [(point == 0).to(torch.uint8) for point in run.points]
    run.step(0)
    for point, parameter in zip(base.param_groups[0]["params"], run.eager, strict=True):
        point.grad = parameter.grad
    base.step()
    for number, point in enumerate(base.param_groups[0]["params"]):
        state = dict(base.state[point])
        if "exp_avg_sq" in state:
            state["exp_avg_sq"] = state["exp_avg_sq"].to(dtype).double()
        step = unit_step_of(make)(base.param_groups[0], state)
        prox_parameter(L1(STRENGTH), point, step, zeros[number])
        half = torch.finfo(dtype).eps / 2
        torch.testing.assert_close(run.points[number].double(), point, rtol=1.01 * half, atol=1e-6)


@pytest.mark.parametrize(("run", "make"), [(SGDRun, ProxSGD), (AdamRun, ProxAdam)])
def test_scaled_gradients_are_divided_and_stored_and_an_overflow_halts_the_step(run, make, device):
    run = run(make, PLAIN, torch.float64, device, lr=0.05)
    grads = run.step(0, scale=1024.0)
    assert_same(run)
    for grad, parameter in zip(grads, run.eager, strict=True):
        assert torch.equal(grad, parameter.grad)
    before = [point.clone() for point in run.points] + [ours.clone() for ours, _ in run.states()]
    found_inf = torch.ones((), device=device)
    grads = run.step(1, scale=1024.0, rows={Row.HALTED: found_inf})
    after = [*run.points, *(ours for ours, _ in run.states())]
    assert all(torch.equal(now, then) for now, then in zip(after, before, strict=True))
    assert all(torch.equal(grad, 1024 * p.grad) for grad, p in zip(grads, run.eager, strict=True))


@pytest.mark.parametrize(
    ("run", "make", "options", "read", "written"),
    [
        (SGDRun, ProxSGD, {}, 2, 1),
        (SGDRun, ProxSGD, {"momentum": 0.9}, 3, 2),
        (SGDRun, SteadySGD, {"momentum": 0.9}, 4, 3),
        (AdamRun, ProxAdam, {}, 4, 3),
        (AdamRun, ProxAdam, {"amsgrad": True}, 5, 4),
        (AdamRun, SteadyAdam, {}, 5, 4),
    ],
)
def test_a_step_is_one_launch_and_so_many_tensors_of_the_parameters_size(
    run, make, options, read, written, device, launched
):
    run = run(make, PLAIN, torch.float32, device, **{"lr": 0.05, **options})
    size = sum(point.numel() for point in run.points)
    found = launched(lambda: run.step(0))
    assert found.launches == 1
    assert (found.read, found.written) == (read * size, written * size)
