"""Averages of sparse weights: dense as torch takes them, sparse with the prox, and no more than that."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nonsmooth.optim import ProxAdam, ProxSGD, averaged
from nonsmooth.penalties import L1, GroupL1

FEATURES = 20


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(FEATURES, dtype=torch.float64))


def noisy_run(optimizer_class, *, decay=None, steps=600, resume_at=None, penalty=None, **options):
    """A LASSO with a diagonal Hessian under gradient noise: three weights are not zero in its solution."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(FEATURES, dtype=torch.float64)
    target[:3] = torch.tensor([1.0, -1.0, 2.0])
    model = Linear()
    optimizer = optimizer_class([model.weight], penalty=penalty or L1(0.1), **options)
    average = averaged(model, optimizer, decay=decay)
    raw = AveragedModel(model, multi_avg_fn=average.multi_avg_fn)
    for step in range(steps):
        noise = 0.5 * torch.randn(FEATURES, generator=generator, dtype=torch.float64)
        model.weight.grad = model.weight.detach() - target + noise
        optimizer.step()
        if step >= steps // 2:
            average.update_parameters(model)
            raw.update_parameters(model)
        if step == resume_at:
            file = io.BytesIO()
            torch.save(average.state_dict(), file)
            file.seek(0)
            average = averaged(model, optimizer, decay=decay)
            average.load_state_dict(torch.load(file, weights_only=True))
    return model, average, raw, target


@pytest.mark.parametrize("decay", [None, 0.99])
@pytest.mark.parametrize(("kind", "options"), [(ProxSGD, {"lr": 0.1}), (ProxAdam, {"lr": 0.01})])
def test_the_average_is_torchs_and_its_sparse_copy_has_the_right_support(kind, options, decay):
    _, average, raw, target = noisy_run(kind, decay=decay, **options)
    assert torch.equal(average.module.weight, raw.module.weight)
    dense, sparse = average.module.weight.detach(), average.sparse().weight.detach()
    wrong = int(((sparse != 0) != (target != 0)).sum())
    assert int((dense == 0).sum()) < FEATURES - 3
    assert wrong <= 1 < int(((dense != 0) != (target != 0)).sum())
    kept = sparse != 0
    assert torch.equal(sparse[kept], dense[kept])


def test_a_step_size_that_fell_to_zero_does_not_switch_the_prox_off():
    _, average, _, _ = noisy_run(ProxSGD, lr=0.1)
    before = average.sparse().weight.detach()
    average._training.optimizer.param_groups[0]["lr"] = 0.0
    assert torch.equal(average.sparse().weight, before)
    assert bool((before == 0).any())


def test_groups_fall_together():
    _, average, _, _ = noisy_run(ProxSGD, lr=0.1, penalty=GroupL1(0.1, index=[[0, 1, 2], list(range(3, FEATURES))]))
    zero = average.sparse().weight == 0
    assert zero[:3].tolist() == [False] * 3
    assert bool(zero[3:].all())


@pytest.mark.parametrize("kind", [ProxSGD, ProxAdam])
def test_an_average_resumes_from_its_state(kind):
    whole, resumed = (noisy_run(kind, lr=0.05, resume_at=at)[1].sparse().weight for at in (None, 450))
    assert torch.equal(whole, resumed)


def test_a_copy_does_not_copy_the_training():
    _, average, _, _ = noisy_run(ProxSGD, lr=0.1)
    twin = copy.deepcopy(average)
    assert twin._training.optimizer is average._training.optimizer
    assert torch.equal(twin.sparse().weight, average.sparse().weight)


def test_bad_input_is_refused():
    model = Linear()
    with pytest.raises(ValueError, match="decay is 1"):
        averaged(model, ProxSGD([model.weight], lr=0.1, penalty=L1(0.1)), decay=1.0)
    with pytest.raises(ValueError, match="penalty on no parameter"):
        averaged(model, ProxSGD([model.weight], lr=0.1))
