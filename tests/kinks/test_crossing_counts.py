"""What is counted, what is listed as not counted, and units: against patterns that are computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nonsmooth.kinks import Smoothness, crossings, scan

EPSILON = 0.05


class Layered(nn.Module):
    """A linear layer, and a function of its outputs."""

    def __init__(self, function, width: int = 6) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, width), function

    def forward(self, inputs):
        return self.function(self.layer(inputs))


def points(model, scale: float = 0.5):
    generator = torch.Generator().manual_seed(3)
    noises = [{n: torch.randn(v.shape, generator=generator) for n, v in model.state_dict().items()} for _ in range(2)]
    return [{name: value + scale * noise[name] for name, value in model.state_dict().items()} for noise in noises]


def hidden(state, data):
    return data @ state["layer.weight"].T + state["layer.bias"]


def to_zero(x):
    return x.abs()


def to_whole(x, shift=0.0):
    """Distance from the nearest of shift, shift ± 1, …, by trying them."""
    return torch.stack([(x - shift - k).abs() for k in range(-30, 31)]).amin(0)


def gap(x):
    ordered = x.sort(-1).values
    return ordered[..., -1] - ordered[..., -2]


COUNTED = {
    "where": ("gt", lambda h: torch.where(h > 0, h, 0.0), lambda h: h > 0, to_zero),
    "product with a mask": ("gt", lambda h: h * (h > 0), lambda h: h > 0, to_zero),
    "masked_fill": ("lt", lambda h: h.masked_fill(h < 0, 0.0), lambda h: h > 0, to_zero),
    "ge": ("ge", lambda h: h * (h >= 0.5), lambda h: h > 0.5, lambda h: (h - 0.5).abs()),
    "le of two": (
        "le",
        lambda h: torch.where(h <= h.flip(-1), h, h.flip(-1)),
        lambda h: h > h.flip(-1),
        lambda h: (h - h.flip(-1)).abs(),
    ),
    "in place": ("gt", lambda h: h.clone().gt_(0) * h, lambda h: h > 0, to_zero),
    "with a truth value": ("gt", lambda h: h * (h > torch.tensor(True)), lambda h: h > 1, lambda h: (h - 1).abs()),
    "fmax": ("fmax", lambda h: torch.fmax(h, torch.zeros(())), lambda h: h > 0, to_zero),
    "fmin": ("fmin", lambda h: torch.fmin(h, torch.ones(())), lambda h: h > 1, lambda h: (h - 1).abs()),
    "sgn": ("sgn", lambda h: h * h.sgn(), lambda h: h > 0, to_zero),
    "heaviside": ("heaviside", lambda h: h * torch.heaviside(h, torch.zeros(())), lambda h: h > 0, to_zero),
    "argmax": ("argmax", lambda h: F.one_hot(h.argmax(1), 6) * h, lambda h: h.argmax(1), gap),
    "argmin": ("argmin", lambda h: F.one_hot(h.argmin(1), 6) * h, lambda h: h.argmin(1), lambda h: gap(-h)),
    "norm ∞": (
        "linalg_vector_norm",
        lambda h: h.norm(math.inf, 1),
        lambda h: h.abs().argmax(1),
        lambda h: gap(h.abs()),
    ),
    "round": ("round", lambda h: h + h.round(), torch.round, lambda h: to_whole(h, 0.5)),
    "round to tens": (
        "round",
        lambda h: h + (10 * h).round(decimals=-1),
        torch.round,
        lambda h: 10 * to_whole(h, 0.5),
    ),
    "floor": ("floor", lambda h: h + h.floor(), torch.floor, to_whole),
    "ceil": ("ceil", lambda h: h + h.ceil(), torch.ceil, to_whole),
    "trunc": ("trunc", lambda h: h + h.trunc(), torch.trunc, lambda h: torch.where(h.abs() < 0.5, 1.0, to_whole(h))),
    "frac": ("frac", lambda h: h.frac(), torch.trunc, lambda h: torch.where(h.abs() < 0.5, 1.0, to_whole(h))),
    "cummax": ("cummax", lambda h: h.cummax(1).values, lambda h: h.cummax(1).indices, None),
    "cummin": ("cummin", lambda h: h.cummin(1).values, lambda h: h.cummin(1).indices, None),
    "nanmedian": ("nanmedian", lambda h: h.nanmedian(1).values, lambda h: h.argsort(1)[:, 2], None),
    "argsort": ("sort", lambda h: h.gather(1, h.argsort(1)), lambda h: h.argsort(1), None),
}


@pytest.mark.parametrize("case", COUNTED)
def test_entries_are_counted_as_by_hand(case):
    name, function, regions, distance = COUNTED[case]
    torch.manual_seed(0)
    model, data = Layered(function), torch.randn(200, 4)
    before, after = points(model)
    result = crossings(model, data, before, after, epsilon=EPSILON)
    was, now = (hidden(state, data) for state in (before, after))
    (layer,) = result.layers  # and nothing is counted twice
    assert layer.operation == name
    assert layer.changed == int((regions(was) != regions(now)).sum()) > 0
    assert layer.entries == regions(now).numel()
    if distance is None:
        assert (layer.near_before, layer.near_after, layer.on_kink) == (None, None, None)
    else:
        expected = [int((distance(h) <= EPSILON).sum()) for h in (was, now)]
        assert [layer.near_before, layer.near_after] == expected
        assert min(expected) > 0 == layer.on_kink
    assert result.uncounted == ()


@pytest.mark.parametrize(
    "activation",
    [F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.softshrink],
    ids=lambda function: function.__name__,
)
def test_no_activation_is_counted_twice(activation):
    model = Layered(activation)
    result = crossings(model, torch.randn(9, 4), *points(model))
    assert (len(result.layers), result.uncounted) == (1, ())


UNCOUNTED = {
    "linalg_vector_norm": lambda h: h / h.norm(dim=1, keepdim=True),
    "cdist_forward": lambda h: torch.cdist(h, h.detach() + 1),
    "scatter_reduce": lambda h: h.new_zeros(3, 6).scatter_reduce(0, torch.zeros_like(h, dtype=torch.long), h, "amax"),
    "multi_margin_loss": lambda h: F.multi_margin_loss(h, torch.zeros(len(h), dtype=torch.long)),
    "aminmax": lambda h: h.aminmax(dim=1).max,
    "median": lambda h: h.median(),
    "embedding_bag_forward_only": lambda h: F.embedding_bag(torch.tensor([[0, 1], [2, 3]]), h, mode="max"),
    "lp_pool1d": lambda h: F.lp_pool1d(h, 2, 2),
    "abs": lambda h: torch.fft.fft(h).abs(),  # of complex numbers: a kink at a point, with no sides
}


@pytest.mark.parametrize("name", UNCOUNTED)
def test_kinks_that_are_not_counted_are_listed(name):
    torch.manual_seed(0)
    model, data = Layered(UNCOUNTED[name]), torch.randn(9, 4)
    result = crossings(model, data, *points(model))
    assert [operation.name for operation in result.uncounted] == [name]
    assert result.uncounted[0].smoothness is Smoothness.C0
    assert result.uncounted[0].parameters == ("layer.weight", "layer.bias")
    assert f"not counted: {name} " in str(result)
    assert (result.entries, result.layers) == (0, ())


@pytest.mark.parametrize(
    "function", [F.softsign, F.celu, F.gelu, lambda h: h.norm() ** 2, lambda h: (h.abs(), h)[1]],
    ids=["softsign", "celu", "gelu", "squared norm", "thrown away"],
)  # fmt: skip
def test_what_has_no_kink_is_neither_counted_nor_listed(function):
    model = Layered(function)
    result = crossings(model, torch.randn(9, 4), *points(model))
    assert (result.layers, result.uncounted) == ((), ())


@pytest.mark.parametrize("functions", [COUNTED, UNCOUNTED], ids=["counted", "not counted"])
def test_what_a_scan_finds_is_counted_or_listed(functions):
    for case, entry in functions.items():
        model, data = Layered(entry[1] if isinstance(entry, tuple) else entry), torch.randn(9, 4)
        result = crossings(model, data, *points(model))
        names = {layer.operation for layer in result.layers} | {operation.name for operation in result.uncounted}
        found = {operation.name.removesuffix(" (indices)") for operation in scan(model, data).operations}
        assert {name.removesuffix("_forward_only") for name in names} == found, case


def test_the_extreme_of_a_single_number_has_no_kink():
    model = Layered(lambda h: h + h.sum().max(dim=0).values)
    (layer,) = crossings(model, torch.randn(9, 4), *points(model)).layers
    assert (layer.entries, layer.changed, layer.near_after, layer.on_kink) == (1, 0, 0, 0)


def test_numbers_that_leave_are_listed():
    model = Layered(lambda h: h + torch.from_numpy(h.detach().numpy()) * h.sum().item())
    result = crossings(model, torch.randn(9, 4), *points(model))
    assert [(operation.name, operation.smoothness) for operation in result.uncounted] == [
        ("numpy", Smoothness.UNKNOWN),
        ("local_scalar_dense", Smoothness.UNKNOWN),
    ]


class Quantised(torch.autograd.Function):
    """Its jumps are counted; what else it does is smooth."""

    @staticmethod
    def forward(ctx, inputs):
        return 2 * inputs.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Rooted(Quantised):
    @staticmethod
    def forward(ctx, inputs):
        return inputs.round() + inputs.abs().sqrt()


def test_operations_inside_a_function_with_its_own_derivative():
    found = []
    for function in (Quantised, Rooted):
        model = Layered(function.apply)
        result = crossings(model, torch.randn(9, 4), *points(model))
        found.append(([layer.operation for layer in result.layers], [o.name for o in result.uncounted]))
    assert found == [(["round"], []), (["round", "abs"], ["Rooted"])]


def test_comparisons_that_the_data_alone_decide_are_left_out():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, inputs):
            scores = self.layer(inputs).masked_fill(inputs < 0, -math.inf)
            return scores.softmax(-1) * (inputs.argmax(-1, keepdim=True) > 1)

    model = Masked()
    result = crossings(model, torch.randn(9, 4), *points(model))
    assert (result.layers, result.uncounted) == ((), ())


def constant(regions):
    """Which columns are the same in all rows."""
    return (regions == regions[:1]).all(0)


LAYOUTS = {
    "apart": lambda x: x,
    "folded": lambda x: x.reshape(-1, 4),
    "sequence first": lambda x: x.transpose(0, 1),
}


class Sequences(nn.Module):
    """A layer for each position of a sequence, in several layouts."""

    def __init__(self, layout) -> None:
        super().__init__()
        self.layer, self.layout = nn.Linear(4, 64), LAYOUTS[layout]

    def forward(self, inputs):
        return F.relu(self.layer(self.layout(inputs)))


@pytest.mark.parametrize("layout", ["apart", "folded"])
def test_units_are_those_of_a_sample_also_where_positions_are_folded_into_the_batch(layout):
    torch.manual_seed(0)
    model, data = Sequences(layout), torch.randn(10, 7, 4)
    before, after = points(model)
    before["layer.bias"][:2] = after["layer.bias"][:2] = torch.tensor([-50.0, 50.0])  # one dead, one linear
    (layer,) = crossings(model, data, before, after).layers
    arranged = model.layout(data)
    active = torch.cat([hidden(state, arranged) > 0 for state in (before, after)]).flatten(1)
    same = constant(active)
    assert layer.units == active.shape[1] == {"apart": 7 * 64, "folded": 64}[layout]
    assert layer.never_change == int(same.sum())
    assert layer.dead == int((same & ~active[0]).sum()) > 0


def test_there_are_no_units_without_samples():
    """The first dimension is no multiple of the batch; or it is, and that of a weight."""

    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 10)

        def forward(self, inputs):
            return F.linear(inputs, self.layer.weight.clamp(-0.5, 0.5))

    model, data = Sequences("sequence first"), torch.randn(10, 7, 4)
    found = [crossings(model, data, *points(model)), crossings(Clipped(), torch.randn(5, 4), {}, {})]
    for result in found:
        (layer,) = result.layers
        assert (layer.units, layer.never_change, layer.dead, result.dead) == (None, None, None, 0)
        assert "units" not in str(result)
    assert found[0].changed > 0


def test_samples_are_found_behind_tokens():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.ReLU())
    tokens = torch.randint(9, (5, 3))
    (layer,) = crossings(model, tokens, {}, {}).layers
    assert (layer.units, layer.never_change) == (12, int(constant(model[0].weight[tokens].flatten(1) > 0).sum()))


def test_windows_of_zeros_behind_a_relu_are_not_near_a_kink():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(20, 1, 8, 8)
    result = crossings(model, data, {}, {}, epsilon=EPSILON)
    activations = F.relu(F.conv2d(data, model[0].weight, model[0].bias))
    windows = activations.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).detach()
    empty = (windows == 0).all(-1)
    relu, pool = result.layers
    assert pool.near_after == int((~empty & (gap(windows) <= EPSILON)).sum())
    assert (pool.on_kink, relu.on_kink, result.on_kink) == (int(empty.sum()), 0, int(empty.sum()))
    assert pool.on_kink > 0
    assert result.near == (relu.near_after + pool.near_after) / (relu.entries + pool.entries)
    assert f"{pool.on_kink} exactly on one" in str(result)


def test_entries_exactly_on_a_kink_are_told_from_near_ones():
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU())
    state = {"0.weight": torch.zeros(3, 1), "0.bias": torch.tensor([0.0, 1e-4, 1.0])}
    (layer,) = crossings(model, torch.ones(2, 1), state, state).layers
    assert (layer.near_before, layer.near_after, layer.on_kink) == (2, 2, 2)
