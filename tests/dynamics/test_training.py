"""The training loop against App. B's own loop, its penalty, its resumption, and its stopping."""

import math
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn import functional

from nonsmooth.data import Images
from nonsmooth.dynamics import training
from nonsmooth.dynamics.training import CHECKPOINT, evaluate, sgd, train
from nonsmooth.lab.checkpoint import save_checkpoint

COUNT, CLASSES = 23, 3


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(COUNT, 1, 4, 4, generator=generator)
    return Images(inputs, torch.randint(CLASSES, (COUNT,), generator=generator), "noise", CLASSES)


def network(seed=0, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, CLASSES, bias=False)
        )


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def same_parameters(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def close_parameters(first, second):
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("penalty", [0.0, 0.03])
def test_a_full_batch_run_is_the_loop_of_appendix_b(penalty):
    """With all images in one batch their order is immaterial, so the paper's loop is an oracle."""
    data, ours, theirs = images(), network(), network()
    history = train(ours, data, optimizer=sgd(0.05), batch_size=COUNT, epochs=12, seed=1, penalty=penalty)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    losses = []
    for _ in range(12):
        cross_entropy = functional.cross_entropy(theirs(data.inputs), data.labels)
        losses.append(cross_entropy.item())
        loss = cross_entropy + penalty * sum(torch.abs(p).sum() for p in theirs.parameters())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    close_parameters(ours, theirs)
    assert history.losses == pytest.approx(losses, rel=1e-5)
    assert history.steps == list(range(1, 13))


def test_the_penalty_pulls_on_parameters_that_the_loss_does_not_reach_and_leaves_zeros_alone():
    class WithIdle(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.idle = network(), nn.Parameter(torch.tensor([1.0, 0.0, -2.0]))

        def forward(self, inputs):
            return self.inner(inputs)

    model = WithIdle()
    train(model, images(), optimizer=sgd(0.1), batch_size=COUNT, steps=3, seed=0, penalty=0.5)
    assert model.idle.tolist() == pytest.approx([0.85, 0.0, -1.85])


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own():
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 2)

        def forward(self, inputs):
            seen.append(inputs.flatten().int().tolist())
            return self.layer(inputs.view(-1, 1))

    numbered = Images(torch.arange(10.0).view(10, 1, 1, 1), torch.zeros(10, dtype=torch.int64), "numbers", 2)
    train(Watch(), numbered, optimizer=sgd(0.0), batch_size=4, epochs=3, seed=5)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 3
    epochs = [list(chain.from_iterable(seen[i : i + 3])) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize(("length", "expected"), [({"epochs": 2}, 6), ({"steps": 6}, 6), ({"steps": 4}, 4)])
def test_the_length_is_in_epochs_or_steps(length, expected):
    history = train(network(), images(), optimizer=adam, batch_size=10, seed=0, **length)
    assert history.steps[-1] == expected
    assert history.evaluations["epoch"] == [0, 1, 2]
    assert history.evaluations["step"] == [0, 3, expected]


def test_the_same_seed_gives_the_same_bits_and_the_global_random_numbers_stay():
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        model = network(dropout=0.5)
        history = train(model, images(), optimizer=adam, batch_size=5, epochs=3, seed=7)
        assert torch.equal(before, torch.get_rng_state())
        runs.append((history.losses, model))
    assert runs[0][0] == runs[1][0]
    assert same_parameters(runs[0][1], runs[1][1])
    other = train(network(dropout=0.5), images(), optimizer=adam, batch_size=5, epochs=3, seed=8)
    assert other.losses != runs[0][0]


class Interrupted(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("optimizer", [adam, sgd(0.05, 0.9)])
@pytest.mark.parametrize("stop", [0.3, 0.75])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, optimizer, stop):
    settings = dict(  # noqa: C408
        optimizer=optimizer, batch_size=5, epochs=6, seed=7, penalty=0.01, observe={"size": size}, record_every=2
    )
    whole = network(dropout=0.5)
    expected = train(whole, images(), **settings)

    def interrupt(fraction):
        if fraction > stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(network(dropout=0.5), images(), checkpoint=tmp_path, progress=interrupt, **settings)
    done = []
    resumed = network(seed=99, dropout=0.5)
    history = train(resumed, images(), checkpoint=tmp_path, progress=done.append, **settings)
    assert done[0] > 0.1, "it went on, and did not begin again"
    assert same_parameters(whole, resumed)
    assert history == expected
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << place % 8
    path.write_bytes(data)


def test_a_damaged_checkpoint_never_gives_another_result(tmp_path):
    """Forty single-bit flips, spread over the file: each is noticed, and the run begins again from its own start."""
    settings = dict(optimizer=adam, batch_size=5, epochs=2, seed=7)  # noqa: C408
    whole = network()
    expected = train(whole, images(), **settings)
    train(network(), images(), checkpoint=tmp_path / "ck", **settings)
    path = tmp_path / "ck" / CHECKPOINT
    content = path.read_bytes()
    for number in range(40):
        path.write_bytes(content)
        flipped(path, number * len(content) // 40 + number)
        again = network()
        with pytest.warns(UserWarning, match="starts anew"):
            assert train(again, images(), checkpoint=path.parent, **settings) == expected
        assert same_parameters(whole, again)


def test_a_checkpoint_that_does_not_fit_leaves_the_run_as_it_was(tmp_path):
    settings = dict(optimizer=adam, batch_size=5, epochs=2, seed=7)  # noqa: C408
    whole = network()
    expected = train(whole, images(), **settings)
    state = {"settings": {"batch_size": 5, "seed": 7, "penalty": 0.0, "images": len(images())}, "epoch": 1}
    first = next(iter(network().state_dict()))
    model = {**network(seed=5).state_dict(), first: torch.zeros(1)}
    save_checkpoint(tmp_path / CHECKPOINT, {**state, "model": model, "optimiser": {}, "history": {}})
    again = network()
    with pytest.warns(UserWarning, match="starts anew"):
        assert train(again, images(), checkpoint=tmp_path, **settings) == expected
    assert same_parameters(whole, again)


def test_a_checkpoint_of_another_owner_is_not_used(tmp_path):
    settings = dict(optimizer=adam, batch_size=5, epochs=2, seed=7, checkpoint=tmp_path)  # noqa: C408
    train(network(seed=3), images(), owner="first", **settings)
    with pytest.warns(UserWarning, match="belongs to another measurement"):
        history = train(network(), images(), owner="second", **settings)
    assert history == train(network(), images(), optimizer=adam, batch_size=5, epochs=2, seed=7)


def size(model):
    return sum(p.abs().sum().item() for p in model.parameters())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(network(), images(), optimizer=adam, batch_size=5, epochs=1, seed=7, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="was made with"):
        train(network(), images(), optimizer=adam, batch_size=5, epochs=2, seed=8, checkpoint=tmp_path)


def test_a_finished_run_is_not_trained_further(tmp_path):
    model, again = network(), network()
    first = train(model, images(), optimizer=adam, batch_size=5, epochs=2, seed=7, checkpoint=tmp_path)
    second = train(again, images(), optimizer=adam, batch_size=5, epochs=2, seed=7, checkpoint=tmp_path)
    assert first == second
    assert same_parameters(model, again)


def test_a_run_that_diverges_stops_and_says_where():
    model = network()
    history = train(model, images(), optimizer=sgd(1e20), batch_size=COUNT, epochs=50, seed=0, evaluate_on={})
    assert history.diverged_at is not None
    assert history.diverged_at < 50
    assert history.steps[-1] == history.diverged_at
    assert not math.isfinite(history.losses[-1])
    assert all(math.isfinite(loss) for loss in history.losses[:-1])


def test_what_is_recorded_can_be_thinned_without_changing_the_run():
    dense_model, thin_model = network(), network()
    dense = train(dense_model, images(), optimizer=adam, batch_size=5, epochs=4, seed=0)
    thin = train(thin_model, images(), optimizer=adam, batch_size=5, epochs=4, seed=0, record_every=6)
    assert thin.steps == [6, 12, 18, 20]
    assert thin.losses == [dense.losses[step - 1] for step in thin.steps]
    assert same_parameters(dense_model, thin_model)


def test_observing_and_evaluating_do_not_change_the_run():
    quiet, watched = network(dropout=0.5), network(dropout=0.5)
    train(quiet, images(), optimizer=adam, batch_size=5, epochs=3, seed=0)
    history = train(
        watched,
        images(),
        optimizer=adam,
        batch_size=5,
        epochs=3,
        seed=0,
        evaluate_on={"test": images(1)},
        observe={"size": size},
    )
    assert same_parameters(quiet, watched)
    assert len(history.evaluations["test loss"]) == 4
    assert history.evaluations["size"][-1] == pytest.approx(size(watched))
    assert watched.training


def test_evaluation_is_in_evaluation_mode_over_all_images():
    model, data = network(dropout=0.9), images()
    loss, accuracy = evaluate(model, data, batch_size=4)
    assert model.training
    model.eval()
    outputs = model(data.inputs)
    assert loss == pytest.approx(functional.cross_entropy(outputs, data.labels).item(), rel=1e-6)
    assert accuracy == pytest.approx((outputs.argmax(1) == data.labels).double().mean().item())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": None}, "exactly one of them"),
        ({"steps": 3}, "exactly one of them"),
        ({"penalty": -1.0}, "penalty is -1.0"),
        ({"penalty": math.nan}, "penalty is nan"),
        ({"record_every": 0}, "record_every is 0"),
    ],
)
def test_bad_settings_are_named_before_anything_changes(changed, message):
    model = network()
    settings = {"optimizer": adam, "batch_size": 5, "epochs": 1, "seed": 0, **changed}
    with pytest.raises(ValueError, match=message):
        train(model, images(), **settings)
    assert same_parameters(model, network())


def test_each_seed_and_each_epoch_has_an_order_of_its_own():
    orders = {
        (seed, epoch): tuple(torch.cat(training._batches(50, 8, seed, epoch)).tolist())
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(set(orders.values())) == len(orders)
    assert all(sorted(order) == list(range(50)) for order in orders.values())
