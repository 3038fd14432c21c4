"""Averages of sparse weights: dense as torch takes them, sparse with the prox, and no more than that."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nonsmooth.optim import ProxAdam, ProxSGD, averaged, penalize
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


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))


def train(model, optimizer, average, steps, before=lambda step: None):
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        before(step)
        inputs = torch.randn(16, 6, generator=generator)
        optimizer.zero_grad()
        (model(inputs) - inputs[:, :1]).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("kind", [ProxSGD, ProxAdam])
@pytest.mark.parametrize("way", ["group", "penalty", "object"])
def test_a_penalty_that_comes_later_counts(kind, decay, way):
    """The first layer gets its penalty in the course of the run; it is as sparse in the average as the weights are."""
    model = network()
    groups = penalize(model[2], L1(0.05))
    if way != "group":
        groups.append({"params": list(model[0].named_parameters()), "penalty": None})
    optimizer = kind(groups, lr=0.1 if kind is ProxSGD else 0.01)
    average = averaged(model, optimizer, decay=decay)

    def before(step):
        if step == 50:
            if way == "group":
                optimizer.add_param_group({"params": list(model[0].named_parameters()), "penalty": L1(0.05)})
            else:
                penalty = L1(0.05)
                optimizer.param_groups[-1]["penalty"] = penalty if way == "object" else penalty.specification()

    train(model, optimizer, average, 400, before)
    now, sparse = (int((m[0].weight == 0).sum()) for m in (model, average.sparse()))
    assert now > 60
    assert sparse > now - 25
    kept = average.sparse()[0].weight != 0
    assert torch.equal(average.sparse()[0].weight[kept], average.module[0].weight[kept])


@pytest.mark.parametrize("kind", [ProxSGD, ProxAdam])
def test_a_penalty_that_is_taken_off_leaves_the_average_dense_and_may_come_back(kind):
    model = network()
    optimizer = kind(penalize(model, L1(0.05)), lr=0.1 if kind is ProxSGD else 0.01)
    average = averaged(model, optimizer, decay=0.9)
    train(model, optimizer, average, 300)
    assert int((average.sparse()[0].weight == 0).sum()) > 60
    specification, optimizer.param_groups[0]["penalty"] = optimizer.param_groups[0]["penalty"], None
    train(model, optimizer, average, 100)
    assert torch.equal(average.sparse()[0].weight, average.module[0].weight)
    assert int((average.sparse()[0].weight == 0).sum()) == 0
    optimizer.param_groups[0]["penalty"] = specification
    train(model, optimizer, average, 300)
    assert int((average.sparse()[0].weight == 0).sum()) > 60


def test_the_pull_of_another_kind_of_penalty_is_forgotten():
    model = network()
    optimizer = ProxSGD(penalize(model, L1(0.05)), lr=0.01)
    average = averaged(model, optimizer)
    train(model, optimizer, average, 100)
    optimizer.param_groups[0]["penalty"] = GroupL1(0.05).specification()
    assert torch.equal(average.sparse()[0].weight, average.module[0].weight)
    train(model, optimizer, average, 1)
    assert int(average.updates_0) == 1
    assert int(average.n_averaged) == 101


@pytest.mark.parametrize("decay", [None, 0.99])
@pytest.mark.parametrize("kind", [ProxSGD, ProxAdam])
def test_a_strength_that_grows_does_not_zero_what_is_not_zero(kind, decay):
    """With the last λ the mean pull of a weight that never was zero would look like that of a zero."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(FEATURES, dtype=torch.float64)
    target[:3] = torch.tensor([1.0, -1.0, 2.0])
    model = Linear()
    with torch.no_grad():
        model.weight.copy_(target)
    optimizer = kind([model.weight], lr=0.01, penalty=L1(0.1))
    average = averaged(model, optimizer, decay=decay)
    for step in range(600):
        optimizer.param_groups[0]["penalty"]["strength"] = 0.05 + 0.2 * step / 600
        noise = 0.5 * torch.randn(FEATURES, generator=generator, dtype=torch.float64)
        model.weight.grad = model.weight.detach() - target + noise
        optimizer.step()
        average.update_parameters(model)
    assert bool((average.sparse().weight[:3] != 0).all())
    assert int((average.sparse().weight == 0).sum()) > 10


def test_a_state_from_before_there_were_counts_loads_and_gives_the_same():
    model, average, _, _ = noisy_run(ProxSGD, lr=0.05)
    old = {k: v for k, v in average.state_dict().items() if not k.startswith(("updates_", "strength_"))}
    fresh = averaged(model, average._training.optimizer)
    fresh.load_state_dict(old)
    assert torch.equal(fresh.sparse().weight, average.sparse().weight)
    assert int((fresh.sparse().weight == 0).sum()) > 10


@pytest.mark.parametrize("late", [True, False])
def test_a_state_loads_where_other_parameters_have_penalties(late):
    """Saved with one layer penalised and loaded with two, or the other way round."""
    model = network()
    two = penalize(model, L1(0.05))
    one = [*penalize(model[2], L1(0.05)), {"params": list(model[0].named_parameters()), "penalty": None}]
    saved, loaded = (one, two) if late else (two, one)
    average = averaged(model, optimizer := ProxSGD(saved, lr=0.01))
    train(model, optimizer, average, 20)
    state = average.state_dict()
    fresh = averaged(model, ProxSGD(loaded, lr=0.01))
    fresh.load_state_dict(state)
    assert fresh.state_dict().keys() >= {"step_2", "pull_2", "updates_2"}
    assert int(fresh.updates_2) == 20
    assert torch.equal(fresh.sparse()[2].weight, average.sparse()[2].weight)
    # A plain average's state is none of this.
    with pytest.raises(RuntimeError, match="Missing key"):
        fresh.load_state_dict(AveragedModel(model).state_dict())


def test_a_strength_of_another_shape_begins_anew():
    weight = torch.nn.Parameter(torch.ones(3, 4))
    model = torch.nn.Module()
    model.weight = weight
    optimizer = ProxSGD([weight], lr=0.1, penalty=L1(torch.full((4,), 0.1)))
    average = averaged(model, optimizer)
    for strength in (torch.full((4,), 0.1), 0.1, torch.full((3, 1), 0.1)):
        optimizer.param_groups[0]["penalty"] = L1(strength)
        weight.grad = torch.zeros(3, 4)
        optimizer.step()
        average.update_parameters(model)
        assert average.strength_0.shape == getattr(strength, "shape", ())
        assert bool(average.sparse().weight.all())


def test_an_optimiser_that_takes_no_prox_is_refused():
    model = torch.nn.Linear(3, 2)
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    plain.param_groups[0]["penalty"] = L1(0.1).specification()
    with pytest.raises(ValueError, match="optimizer is a SGD that takes no prox"):
        averaged(model, plain)
    with pytest.raises(TypeError, match="optimizer is 3; accepted is"):
        averaged(model, 3)
    with pytest.raises(TypeError, match="model is a int; accepted is"):
        averaged(3, plain)


def test_bad_input_is_refused():
    model = Linear()
    with pytest.raises(ValueError, match="decay is 1"):
        averaged(model, ProxSGD([model.weight], lr=0.1, penalty=L1(0.1)), decay=1.0)
    with pytest.raises(ValueError, match="penalty on no parameter"):
        averaged(model, ProxSGD([model.weight], lr=0.1))


def test_a_first_step_without_a_gradient_does_not_outweigh_all_others():
    """D is α/ε in it, 10⁵: the average of D would ask a weight that is in use for a pull of exactly λ at every step."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = ProxAdam(model.parameters(), lr=1e-2, penalty=L1(1e-3))
    average = averaged(model, optimizer)
    for step in range(200):
        model.weight.grad = torch.tensor([[0.0 if step == 0 else 0.1 * (-1.0) ** step, -0.1]])
        optimizer.step()
        average.update_parameters(model)
    assert float(average.step_0.max()) < 1.0
    assert bool((average.sparse().weight != 0).all())
