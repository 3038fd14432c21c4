"""Crossings against counts by hand: patterns from the pre-activations themselves, and exact crossings of a segment."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector

from nonsmooth.kinks import crossings
from nonsmooth.kinks.crossings.patterns import Packed, pattern_before

SAMPLES = 7


class Small(nn.Module):
    """Two hidden layers; how the activation is called is a parameter."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)
        self.activation = activation

    def forward(self, inputs):
        hidden = self.activation(self.first(inputs))
        return self.last(self.activation(self.second(hidden)))


def point(model, seed: int, scale: float = 0.3):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + scale * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def preactivations(model, state, data):
    """By hand, outside the model."""
    first = data @ state["first.weight"].T + state["first.bias"]
    return first, model.activation(first.clone()) @ state["second.weight"].T + state["second.bias"]


WAYS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "in place": torch.relu_,
    "method": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min_": lambda x: x.clamp_min_(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "threshold": lambda x: F.threshold(x, 0, 0, inplace=True),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "selu": F.selu,
    "abs": torch.abs,
}


@pytest.mark.parametrize("way", WAYS)
def test_changed_entries_are_those_whose_preactivation_changes_sign(way):
    torch.manual_seed(0)
    model, data = Small(WAYS[way]), torch.randn(SAMPLES, 4)
    before, after = point(model, 1), point(model, 2)
    result = crossings(model, data, before, after, epsilon=0.05)
    pairs = list(zip(preactivations(model, before, data), preactivations(model, after, data), strict=True))
    assert [layer.changed for layer in result.layers] == [int(((a > 0) != (b > 0)).sum()) for a, b in pairs]
    assert [layer.entries for layer in result.layers] == [a.numel() for a, _ in pairs]
    assert [layer.near_before for layer in result.layers] == [int((a.abs() <= 0.05).sum()) for a, _ in pairs]
    assert [layer.near_after for layer in result.layers] == [int((b.abs() <= 0.05).sum()) for _, b in pairs]
    constant = [(torch.cat((a, b)) > 0).float().mean(0) for a, b in pairs]
    assert [layer.never_change for layer in result.layers] == [int(((c == 0) | (c == 1)).sum()) for c in constant]
    dead = 0 if way in {"leaky", "selu", "abs", "maximum"} else sum(int((c == 0).sum()) for c in constant)
    assert result.dead == dead
    assert result.changed == sum(layer.changed for layer in result.layers) > 0
    assert result.samples == SAMPLES
    difference = parameters_to_vector(after.values()) - parameters_to_vector(before.values())
    assert result.distance == pytest.approx(float(difference.norm()), rel=1e-5)


@pytest.mark.parametrize(
    "activation", [F.gelu, F.elu, F.silu, torch.tanh, F.softplus, F.celu], ids=lambda function: function.__name__
)
def test_functions_without_kinks_have_no_crossings(activation):
    model = Small(activation)
    assert crossings(model, torch.randn(SAMPLES, 4), point(model, 1), point(model, 2)).layers == ()


def test_two_kinks_make_three_regions():
    model, data = Small(F.hardtanh), torch.randn(SAMPLES, 4)
    before, after = point(model, 1, 2.0), point(model, 2, 2.0)
    result = crossings(model, data, before, after, epsilon=0.1)
    regions = [
        [torch.bucketize(values, torch.tensor([-1.0, 1.0])) for values in preactivations(model, state, data)]
        for state in (before, after)
    ]
    assert [layer.changed for layer in result.layers] == [int((a != b).sum()) for a, b in zip(*regions, strict=True)]
    values = preactivations(model, after, data)[0]
    assert result.layers[0].near_after == int((torch.minimum((values - 1).abs(), (values + 1).abs()) <= 0.1).sum())


def test_a_segment_crosses_the_kinks_that_lie_on_it():
    """One hidden layer is affine in its own weights: the crossings of a segment have closed form."""
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 50), nn.ReLU()), torch.randn(30, 4)
    start, end = point(model, 1), point(model, 2)
    a, b = (data @ state["0.weight"].T + state["0.bias"] for state in (start, end))
    crossing_times = a / (a - b)
    for fraction in (0.01, 0.1, 0.5, 1.0):
        middle = {name: start[name] + fraction * (end[name] - start[name]) for name in start}
        expected = int(((crossing_times > 0) & (crossing_times <= fraction)).sum())
        assert abs(crossings(model, data, start, middle).changed - expected) <= 1  # rounding at the end


def test_pooling_changes_where_another_entry_of_the_window_is_the_largest():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(3, 2)), torch.randn(SAMPLES, 1, 12, 12)
    before, after = point(model, 1), point(model, 2)
    (layer,) = crossings(model, data, before, after, epsilon=0.01).layers
    images = [F.conv2d(data, state["0.weight"], state["0.bias"]) for state in (before, after)]
    indices = [F.max_pool2d(image, 3, 2, return_indices=True)[1] for image in images]
    assert layer.changed == int((indices[0] != indices[1]).sum()) > 0
    assert layer.entries == indices[0].numel()
    windows = images[1].unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2).sort(-1).values
    assert layer.near_after == int((windows[..., -1] - windows[..., -2] <= 0.01).sum())


class Arguments:
    """A call for the functions that read patterns."""

    def __init__(self, arguments) -> None:
        self._arguments = arguments

    def argument(self, name):
        return self._arguments.get(name)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("ceil", [False, True])
def test_windows_are_those_of_pytorch(dims, ceil):
    torch.manual_seed(0)
    image = torch.randn(2, 3, *(11, 9, 8)[:dims])
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]
    for size, stride, padding, dilation in itertools.product((2, 3), (1, 2, 3), (0, 1), (1, 2)):
        expected = pool(image, size, stride, padding, dilation, ceil_mode=ceil)
        options = {"stride": [stride], "padding": [padding], "dilation": [dilation], "ceil_mode": ceil}
        call = Arguments({"self": image, "kernel_size": [size], **options})
        assert pattern_before(f"max_pool{dims}d", call, 0.0).regions.shape == expected.shape


def test_orders_change_where_two_entries_change_places():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 5)

        def forward(self, inputs):
            hidden = self.layer(inputs)
            return hidden.sort(-1).values.sum() + hidden.amax(-1).sum() + hidden.min(-1).values.sum()

    torch.manual_seed(0)
    model, data = Sorted(), torch.randn(SAMPLES, 4)
    before, after = point(model, 1), point(model, 2)
    result = crossings(model, data, before, after)
    a, b = (data @ state["layer.weight"].T + state["layer.bias"] for state in (before, after))
    assert [(layer.operation, layer.changed) for layer in result.layers] == [
        ("sort", int((a.argsort(-1) != b.argsort(-1)).sum())),
        ("amax", int((a.argmax(-1) != b.argmax(-1)).sum())),
        ("min", int((a.argmin(-1) != b.argmin(-1)).sum())),
    ]
    assert result.layers[0].near_after is None


def test_the_same_point_has_no_crossings_even_under_dropout_and_batch_norm():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU())
    data = torch.randn(SAMPLES, 4)
    for training in (True, False):
        model.train(training)
        assert crossings(model, data, model.state_dict(), model.state_dict()).changed == 0


def test_batch_norm_uses_the_statistics_of_each_point_in_evaluation_mode():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()).eval()
    shifted = {**model.state_dict(), "1.running_mean": torch.full((6,), 10.0)}
    data = torch.randn(SAMPLES, 4)
    assert crossings(model, data, model.state_dict(), shifted).changed > 0
    assert crossings(model.train(), data, model.state_dict(), shifted).changed == 0  # the batch decides


def test_dead_and_linear_units_are_told_apart():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    state = {"0.weight": torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), "0.bias": torch.tensor([0.0, -1.0, 1.0])}
    (layer,) = crossings(model, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), state, state).layers
    assert (layer.units, layer.never_change, layer.dead) == (3, 2, 1)


def test_kinks_that_no_parameter_reaches_are_left_out():
    class Prepared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, inputs):
            return F.relu(self.layer(inputs.abs()))

    model = Prepared()
    result = crossings(model, torch.randn(SAMPLES, 4), point(model, 1), point(model, 2))
    assert [layer.operation for layer in result.layers] == ["relu"]


def test_points_may_be_vectors_and_inputs_may_be_named():
    model, data = Small(F.relu), torch.randn(SAMPLES, 4)
    before, after = point(model, 1), point(model, 2)
    expected = crossings(model, data, before, after)
    vectors = [parameters_to_vector(state.values()) for state in (before, after)]
    assert crossings(model, {"inputs": data}, *vectors) == expected
    assert crossings(model, (data,), before, vectors[1]) == expected
    assert crossings(model, data, {}, {"first.weight": model.first.weight}).changed == 0  # the rest is the model's


def test_points_may_be_those_of_the_parameters_that_are_trained():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU()), torch.randn(20, 3)
    model[0].requires_grad_(False)
    trained = torch.nn.utils.parameters_to_vector(model[2].parameters()).detach()
    frozen = torch.nn.utils.parameters_to_vector(model[0].parameters()).detach()
    short = crossings(model, inputs, trained, -trained)
    whole = crossings(model, inputs, torch.cat([frozen, trained]), torch.cat([frozen, -trained]))
    assert [layer.changed for layer in short.layers] == [layer.changed for layer in whole.layers]
    assert short.layers[0].changed == 0 < short.layers[1].changed
    with pytest.raises(ValueError, match="36, or 20 of those that require a gradient"):
        crossings(model, inputs, trained[:-1], trained)


def test_layers_are_named_by_their_modules():
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 3)), nn.ReLU())
    result = crossings(model, torch.randn(SAMPLES, 4), point(model, 1), point(model, 2))
    assert [layer.module for layer in result.layers] == ["1.0", "2"]
    assert "relu 1.0" in str(result) and "samples" in str(result)


def test_patterns_are_packed_eight_to_a_byte_and_come_back():
    for shape in ((), (1,), (5,), (8,), (3, 7, 2)):
        for largest in (1, 2):
            regions = torch.randint(0, largest + 1, shape, dtype=torch.uint8)
            packed = Packed.of(regions)
            assert torch.equal(packed.regions(), regions)
    assert Packed.of(torch.ones(80, dtype=torch.uint8)).data.numel() == 10


class Branching(nn.Module):
    """A parameter decides how often the activation runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs):
        hidden = F.relu(self.layer(inputs))
        return F.relu(hidden - 1) if float(self.layer.bias.sum()) > 0 else hidden


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((torch.ones(2, 4), {}, {}), {"epsilon": -1.0}, "epsilon is -1.0"),
        ((torch.ones(2, 4), torch.ones(3), {}), {}, "before has shape"),
        ((torch.ones(2, 4), {}, {"layer.wieght": torch.ones(4, 4)}), {}, "after holds 'layer.wieght'"),
        ((torch.ones(2, 4), {}, {"layer.weight": torch.ones(4)}), {}, r"accepted is shape \(4, 4\)"),
        (((), {}, {}), {}, "accepted is a probe batch"),
        (
            (torch.ones(2, 4), {"layer.bias": torch.ones(4)}, {"layer.bias": -torch.ones(4)}),
            {},
            "the parameters decide",
        ),
        (
            (torch.ones(2, 4), {"layer.bias": -torch.ones(4)}, {"layer.bias": torch.ones(4)}),
            {},
            "the parameters decide",
        ),
    ],
)
def test_bad_input_is_named(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        crossings(Branching(), *arguments, **keywords)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 3e38])
def test_entries_that_are_no_numbers_lie_on_no_side(way, bad):
    """One such entry in the data, or an overflow on the way, would have counted as units that never change."""
    model = Small(WAYS[way])
    before, after = point(model, 1), point(model, 2)
    for state in (before, after):  # both signs, so that infinite entries cancel
        state["first.weight"][0] = torch.tensor([1.0, -1.0, 0.5, 0.5])
    data = torch.randn(SAMPLES, 4)
    data[3] = bad
    data[3, 1] *= 2
    counted = any(bool(part.isnan().any()) for s in (before, after) for part in preactivations(model, s, data))
    assert counted or bad == 3e38
    if counted:
        with pytest.raises(ValueError, match=r"gets NaN, which lies on neither side of a kink"):
            crossings(model, data, before, after)
    else:
        assert crossings(model, data, before, after).layers


def test_infinite_entries_lie_on_a_side():
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    first, second = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
    found = crossings(model, torch.tensor([[torch.inf], [1.0]]), {"0.weight": first}, {"0.weight": second})
    assert (found.layers[0].changed, found.layers[0].entries) == (2, 4)
