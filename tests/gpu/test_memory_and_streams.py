"""Checkpoints that change device, other streams, the memory of a step, and tensors of more than 2³¹ elements."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from gpu_runs import CASES, MAIN, combinations, distance, give_gradients, groups_of, parameters

from nonsmooth.optim import ProxAdam, ProxSGD, SteadyAdam
from nonsmooth.penalties import L1, GroupL1

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")


def made(case, fused, penalty, device, dtype=torch.float64):
    weights = parameters(device, dtype)
    return case.kind(
        groups_of(weights, penalty), **case.options, **({} if fused is None else {"fused": fused})
    ), weights


def stepped(optimizer, weights, steps):
    for step in steps:
        give_gradients(weights, step)
        optimizer.step()


@pytest.mark.parametrize("way", ["to the GPU", "from the GPU"])
@pytest.mark.parametrize(("case", "fused", "penalty"), combinations(["L1", "MCP", "GroupL1"], CASES))
def test_training_goes_on_on_another_device(case, fused, penalty, way, device):
    first, second = (CPU, device) if way == "to the GPU" else (device, CPU)
    optimizer, weights = made(case, fused, penalty, first)
    stepped(optimizer, weights, range(3))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "weights": [weight.detach() for weight in weights]}, file)
    file.seek(0)
    saved = torch.load(file, map_location=second, weights_only=True)
    resumed, others = made(case, fused, penalty, second)
    with torch.no_grad():
        for other, weight in zip(others, saved["weights"], strict=True):
            other.copy_(weight)
    resumed.load_state_dict(saved["optimizer"])
    stepped(resumed, others, range(3, 6))
    stepped(optimizer, weights, range(3, 6))
    assert distance(others, weights) <= 5e-5  # torch's own counts of steps are float32 on a device


@pytest.mark.parametrize(("case", "fused", "penalty"), combinations(["L1", "GroupL1"], MAIN))
def test_a_step_on_another_stream_waits_for_nothing_but_what_it_is_given(case, fused, penalty, device):
    """Two optimizers on streams of their own, in turns, while each stream is kept busy."""
    pairs = [made(case, fused, penalty, device, torch.float32) for _ in range(3)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    for step in range(5):
        for (optimizer, weights), stream in zip(pairs, [*streams, torch.cuda.default_stream()], strict=True):
            with torch.cuda.stream(stream):
                torch.cuda._sleep(500_000)
                give_gradients(weights, step)
                optimizer.step()
    torch.cuda.synchronize()
    assert distance(pairs[0][1], pairs[2][1]) <= 1e-6
    assert distance(pairs[1][1], pairs[2][1]) <= 1e-6


SIDE = 4096
PEAKS = [
    # The weights' own bytes are 1: a mask is a quarter.
    (ProxSGD, True, L1(0.1), 0.02),
    (ProxAdam, True, L1(0.1), 0.02),
    (SteadyAdam, True, L1(0.1), 0.02),
    (ProxSGD, None, L1(0.1), 0.02),
    (ProxSGD, True, GroupL1(0.1), 0.02),
    (ProxAdam, True, GroupL1(0.1), 0.6),
    (ProxAdam, False, L1(0.1), 8.0),
]


@pytest.mark.parametrize(("kind", "fused", "penalty", "most"), PEAKS)
def test_a_step_takes_no_memory_of_the_weights_size(kind, fused, penalty, most, device):
    weight = torch.nn.Parameter(torch.randn(SIDE, SIDE, device=device))
    weight.grad = torch.randn_like(weight)
    optimizer = kind([weight], lr=1e-3, penalty=penalty, fused=fused)
    for _ in range(2):
        optimizer.step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    optimizer.step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    assert peak <= most * weight.nbytes
    if fused is False:
        assert peak > 0.02 * weight.nbytes  # what is looked for would be found


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [L1(0.5), GroupL1(0.2)], ids=["L1", "GroupL1"])
def test_more_than_2_to_the_31_elements(penalty, device):
    """The last rows take the steps that they take as a tensor of their own."""
    rows, columns, last = (1 << 20) + 3, 2056, 64
    needed = 3 * 2 * rows * columns
    if torch.cuda.get_device_properties(device).total_memory < 2 * needed:
        pytest.skip(f"needs a GPU with {2 * needed / 2**30:.0f} GiB")
    weight = torch.nn.Parameter(torch.ones(rows, columns, device=device, dtype=torch.bfloat16))
    assert weight.numel() > 1 << 31
    ends = 0.2 * torch.randn(last, columns, device=device, generator=torch.Generator(device).manual_seed(1))
    ends[:8] *= 1e-3  # rows that vanish
    with torch.no_grad():
        weight[-last:] = ends
    small = torch.nn.Parameter(weight.detach()[-last:].clone())
    for each in (weight, small):
        each.grad = torch.full_like(each, 0.1)
        optimizer = ProxSGD([each], lr=0.1, penalty=copy.deepcopy(penalty))
        optimizer.step()
    assert torch.equal(weight[-last:], small)
    assert bool((small == 0).any())
    torch.testing.assert_close(weight[:last], weight[last : 2 * last], rtol=0, atol=0)
    assert bool((weight[:last] != 1).all())
