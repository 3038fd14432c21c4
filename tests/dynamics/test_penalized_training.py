import math

import pytest
import torch
from torch import nn

from nonsmooth.dynamics.penalized_training import Schedule, evaluate, magnitudes, train_penalized
from nonsmooth.dynamics.streaming import StreamedAdam, StreamedSgd, StreamedTraining
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint
from nonsmooth.models.vgg16 import vgg16


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % 10


def training(rule=None):
    return StreamedTraining(vgg16(0, width=1 / 64, classes=10), StreamedAdam(1e-3, 0.01) if rule is None else rule)


class KilledError(RuntimeError):
    pass


def test_resumed_run_is_the_uninterrupted_run_bit_for_bit(tmp_path):
    schedule = Schedule(steps=12, batch=4, measurements=6, evaluations=3, checkpoint_every=5)
    whole, broken, resumed = training(), training(), training()
    history = train_penalized(whole, images(10), images(6, 1), schedule, seed=3)

    def stop(fraction):
        if fraction > 0.6:
            raise KilledError

    with pytest.raises(KilledError):
        train_penalized(broken, images(10), images(6, 1), schedule, seed=3, scratch=tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    again = train_penalized(resumed, images(10), images(6, 1), schedule, seed=3, scratch=tmp_path)
    assert resumed.rule.count == 12
    assert again == history
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


@pytest.mark.parametrize("damage", ["bit", "cut", "no fit", "another owner", "a later step"])
def test_a_damaged_checkpoint_counts_as_absent(tmp_path, damage):
    schedule = Schedule(steps=6, batch=4, measurements=3, evaluations=1, checkpoint_every=4)
    whole, other, again = training(), training(), training()
    expected = train_penalized(whole, images(10), images(6, 1), schedule, seed=3)
    train_penalized(other, images(10), images(6, 1), schedule, seed=3, scratch=tmp_path, owner="a")
    path = tmp_path / "checkpoint.pt"
    state = load_checkpoint(path, "a")
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "no fit":
        moments = dict.fromkeys(state["training"]["moments"], ())
        save_checkpoint(path, {**state, "training": {"count": 9, "moments": moments}}, "a")
    elif damage == "a later step":
        save_checkpoint(path, {**state, "step": 7}, "a")
    owner = "b" if damage == "another owner" else "a"
    with pytest.warns(UserWarning, match="starts anew"):
        history = train_penalized(again, images(10), images(6, 1), schedule, seed=3, scratch=tmp_path, owner=owner)
    assert history == expected
    assert again.rule.count == whole.rule.count
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_run_depends_on_its_seed_and_leaves_the_global_generator_alone():
    schedule = Schedule(steps=4, batch=4)
    before = torch.random.get_rng_state()
    first, again, other = (
        train_penalized(training(), images(10), images(6, 1), schedule, seed=seed).train_cross_entropy
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    assert first != other


def test_every_image_is_seen_once_an_epoch():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10))

        def forward(self, x):
            if self.training:
                seen.extend(x[:, 0].tolist())
            return self.weight + x[:, :1] * 0

    data = torch.arange(7.0)[:, None], torch.zeros(7, dtype=torch.int64)
    train_penalized(StreamedTraining(Spy(), StreamedSgd(0.1, 0.0)), data, data, Schedule(steps=6, batch=3), seed=0)
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7))
    assert seen[:7] != seen[7:]


def test_magnitudes_against_plain_float64():
    model = vgg16(0, width=1 / 64, classes=10)
    with torch.no_grad():
        model.classifier[0].weight[:, :5] = 0
    flat = torch.cat([p.detach().double().view(-1) for p in model.parameters()]).abs()
    found = magnitudes(model, (1e-3, 0.01))
    assert found.parameters == flat.numel()
    assert found.l1_norm == pytest.approx(float(flat.sum()), rel=1e-6)
    assert found.exact_zeros == int((flat == 0).sum())
    assert found.below == pytest.approx([float((flat < t).double().mean()) for t in (1e-3, 0.01)])


def test_sum_does_not_stall_where_a_float32_sum_would():
    size = 40_000_000
    layer = nn.Linear(1, 1)
    layer.weight = nn.Parameter(torch.full((size, 1), 5e-4))
    layer.bias = nn.Parameter(torch.zeros(1))
    assert magnitudes(layer).l1_norm == pytest.approx(size * 5e-4, rel=1e-5)


def test_evaluation_counts_classes_and_restores_training_mode():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 10).index_fill(1, torch.tensor([3]), 1e-3)

    model = Constant().train()
    found = evaluate(model, torch.zeros(100, 1), torch.arange(100) % 10)
    assert found.accuracy == pytest.approx(0.1)
    assert found.classes_named == 1
    assert found.cross_entropy == pytest.approx(math.log(10), rel=1e-3)
    assert model.training


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"steps": 0, "batch": 1}, "steps is 0"),
        ({"steps": 1, "batch": 0}, "batch is 0"),
        ({"steps": 1, "batch": 1, "evaluations": -1}, "evaluations is -1"),
    ],
)
def test_bad_schedules_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        Schedule(**arguments)


def test_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch is 20"):
        train_penalized(training(), images(10), images(6), Schedule(steps=1, batch=20), seed=0)
