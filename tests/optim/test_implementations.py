"""However the work is cut up, the weights are the same: foreach, fused, blocks, layouts, precisions."""

from __future__ import annotations

import pytest
import torch

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD, local_prox, proximal_step
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1
from nonsmooth.torch_optimizers import AdaptiveStep

SHAPES = [(70, 33), (33,), (20, 3, 3, 3)]


def train(kind, options, penalty=None, dtype=torch.float32, steps=60, layout=lambda tensor: tensor):
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    targets = [0.5 * torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    for start, target in zip(starts, targets, strict=True):  # some groups that are to vanish
        start[:5] *= 0.01
        target[:5] = 0
    parameters = [torch.nn.Parameter(layout(start)) for start in starts]
    given = {} if kind.__module__.startswith("torch") else {"penalty": penalty}
    optimizer = kind(parameters, **options, **given)
    for step in range(steps):
        for parameter, target in zip(parameters, targets, strict=True):
            difference = parameter.detach() - target
            parameter.grad = difference * difference.abs() + 0.02 * (step % 3)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def distance(some, others):
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(some, others, strict=True))


CASES = [
    (ProxSGD, {"lr": 0.1}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    (ProxAdam, {"lr": 0.02}),
    (ProxAdam, {"lr": 0.02, "amsgrad": True, "weight_decay": 0.1}),
    (ProxAdamW, {"lr": 0.02}),
    (ProxNAdam, {"lr": 0.02}),
    (ProxRMSprop, {"lr": 0.01, "momentum": 0.5}),
    (ProxRMSprop, {"lr": 0.01, "centered": True}),
    (ProxAdagrad, {"lr": 0.1, "lr_decay": 0.01}),
]


@pytest.mark.parametrize("penalty", [L1(0.1), GroupL1(0.05)], ids=["L1", "GroupL1"])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_foreach_is_the_loop_over_tensors(kind, options, penalty):
    """Bit for bit, but for NAdam: torch's own foreach rounds its two terms in another order."""
    looped = train(kind, {**options, "foreach": False}, penalty)
    listed = train(kind, {**options, "foreach": True}, penalty)
    if kind is ProxNAdam:
        assert distance(train(kind.parent, {"foreach": False}), train(kind.parent, {"foreach": True})) > 0
        assert distance(looped, listed) < 1e-6
    else:
        assert distance(looped, listed) == 0
    assert any(bool((weight == 0).any()) for weight in looped)


@pytest.mark.parametrize("penalty", [L1(0.1), GroupL1(0.05)], ids=["L1", "GroupL1"])
@pytest.mark.parametrize(("kind", "options"), [case for case in CASES if case[0] not in (ProxNAdam, ProxRMSprop)])
def test_fused_is_the_loop_over_tensors_to_rounding(kind, options, penalty):
    """Torch's fused kernels round otherwise than its loops; the prox that follows is the same code."""
    looped = train(kind, {**options, "foreach": False}, penalty)
    fused = train(kind, {**options, "fused": True}, penalty)
    assert distance(looped, fused) < 2e-6
    for weight, other in zip(looped, fused, strict=True):
        assert torch.equal(weight == 0, other == 0)


SEPARABLE = [
    L1(0.1),
    ElasticNet(0.1, 0.3),
    TransformedL1(0.1),
    MCP(0.1),
    SCAD(0.1),
    L0(0.01),
]


@pytest.mark.parametrize("penalty", SEPARABLE, ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[3], CASES[8], CASES[9]])
def test_blocks_are_the_whole(kind, options, penalty, monkeypatch):
    whole = train(kind, options, penalty, steps=20)
    monkeypatch.setattr(local_prox, "CHUNK", 48)  # whole vectors of the processor, as the real one is
    assert distance(train(kind, options, penalty, steps=20), whole) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[3], CASES[8]])
def test_blocks_are_the_whole_in_other_types(kind, options, dtype, monkeypatch):
    whole = train(kind, options, L1(0.1), dtype, steps=20)
    monkeypatch.setattr(local_prox, "CHUNK", 48)
    blocked = train(kind, options, L1(0.1), dtype, steps=20)
    assert all(torch.equal(a, b) for a, b in zip(blocked, whole, strict=True))


@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[3]])
def test_blocks_of_complex_numbers_are_the_whole(kind, options, monkeypatch):
    """To rounding, as Newton's method in Adam's metric stops when the last weight of a block has converged."""
    whole = train(kind, options, L1(0.1), torch.complex64, steps=20)
    monkeypatch.setattr(local_prox, "CHUNK", 48)
    blocked = train(kind, options, L1(0.1), torch.complex64, steps=20)
    for weight, other in zip(blocked, whole, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)


def test_blocks_of_any_size_are_the_whole_to_rounding(monkeypatch):
    """A processor may round the last elements of a block, too few for a vector, in another way."""
    whole = train(ProxAdam, {"lr": 0.02}, L1(0.1))
    monkeypatch.setattr(local_prox, "CHUNK", 37)
    assert distance(train(ProxAdam, {"lr": 0.02}, L1(0.1)), whole) < 1e-6


@pytest.mark.parametrize("number", [0.05, torch.rand(9, 8, 5, generator=torch.Generator().manual_seed(2)).double()])
@pytest.mark.parametrize("dim", [0, 1, -1, (0, 1), (2, 0)])
def test_slices_of_groups_are_the_whole(dim, number, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    point = torch.randn(9, 8, 5, generator=generator, dtype=torch.float64)
    square = number.square() if isinstance(number, torch.Tensor) else None
    step = number if square is None else AdaptiveStep(0.01, 0.001, square)
    strided = torch.empty(5, 8, 9, dtype=torch.float64).permute(2, 1, 0)
    for penalty in (GroupL1(0.3, dim=dim), SparseGroupL1(0.3, dim=dim), GroupL1(0.3, index=torch.arange(360) % 7)):
        whole = penalty.proximal_map(point, step if square is None else step())
        sizes = []
        prox_ = type(penalty).prox_

        def counting(self, part, here, prox_=prox_, sizes=sizes):
            sizes.append(part.numel())
            prox_(self, part, here)

        monkeypatch.setattr(local_prox, "CHUNK", 100)
        monkeypatch.setattr(type(penalty), "prox_", counting)
        for parameter in (point.clone(), strided.copy_(point)):
            proximal_step.prox_parameter(penalty, parameter, step)
            torch.testing.assert_close(parameter, whole, rtol=1e-13, atol=0)
        monkeypatch.undo()
        assert sum(sizes) == 2 * 360
        assert (max(sizes) < 360) == (penalty.index is None)


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def transposed(tensor):
    return tensor.t().contiguous().t() if tensor.ndim == 2 else tensor


def strided(tensor):
    """Every second element of a tensor: neither order of memory makes it a vector."""
    wide = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)
    wide[..., 0] = tensor
    return wide[..., 0]


@pytest.mark.parametrize("chunk", [pytest.param(48, marks=pytest.mark.slow), 1 << 15])
@pytest.mark.parametrize("layout", [channels_last, transposed, strided])
@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[3], CASES[8]])
def test_the_layout_in_memory_changes_nothing(kind, options, layout, chunk, monkeypatch):
    contiguous = train(kind, options, L1(0.1))
    monkeypatch.setattr(local_prox, "CHUNK", chunk)
    assert distance(train(kind, options, L1(0.1), layout=layout), contiguous) < 1e-6
    assert distance(train(kind, options, GroupL1(0.05), layout=layout), train(kind, options, GroupL1(0.05))) < 1e-6


def test_a_block_is_a_view_of_channels_last_weights(monkeypatch):
    """Else a large convolution would need buffers of its own size."""
    monkeypatch.setattr(local_prox, "CHUNK", 48)
    weight = channels_last(torch.randn(20, 3, 3, 3))
    penalty, seen = L1(0.1), []
    monkeypatch.setattr(L1, "prox_", lambda self, point, step: seen.append(point))
    proximal_step.prox_parameter(penalty, weight, 0.1)
    assert [part.numel() for part in seen] == [48] * (540 // 48) + [540 % 48]
    assert {part.untyped_storage().data_ptr() for part in seen} == {weight.untyped_storage().data_ptr()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("kind", "options", "penalty"),
    [(*case, penalty) for case in CASES for penalty in (L1(0.1), ElasticNet(0.1, 0.3), MCP(0.1), GroupL1(0.05))]
    + [(*CASES[0], Nuclear(0.05))],
)
def test_the_prox_of_half_precision_weights_is_that_of_float32_rounded(kind, options, penalty, dtype, monkeypatch):
    """One step from the same weights; the metric comes from the state in half precision that torch keeps."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.nn.Parameter(torch.randn(40, 9, generator=generator).to(dtype))
    optimizer = kind([weight], **options, penalty=penalty)
    after_torch = {}
    original = proximal_step.prox_parameter

    def watched(penalty, parameter, step, *others):
        after_torch["weight"] = parameter.detach().clone()
        after_torch["step"] = step() if callable(step) else step
        after_torch["limit"] = step.limit(step()) if callable(step) else torch.tensor(torch.inf)
        original(penalty, parameter, step, *others)

    monkeypatch.setattr(proximal_step.ProximalStep, "overwrite", staticmethod(watched))
    weight.grad = torch.randn(40, 9, generator=generator).to(dtype)
    optimizer.step()
    step = after_torch["step"]
    step = step.double() if isinstance(step, torch.Tensor) else step
    point, limit = after_torch["weight"].double(), after_torch["limit"].double()
    exact = penalty.proximal_map(point, step).clamp(point - limit, point + limit)
    assert weight.dtype == dtype
    # Half a unit in the last place of the type, plus the rounding of float32.
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(
        weight.detach().double(), exact, rtol=0.51 * unit, atol=1e-6 if dtype == torch.bfloat16 else 1e-4 * unit
    )
