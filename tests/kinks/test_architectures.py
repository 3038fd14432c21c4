"""Small architectures whose kinks are known by hand: none missed and none invented, recorded and from the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nonsmooth.kinks import Smoothness, scan

JUMP, C0, C1, UNKNOWN = Smoothness.DISCONTINUOUS, Smoothness.C0, Smoothness.C1, Smoothness.UNKNOWN
RELU = {("relu", C0)}


class Calls(nn.Module):
    """A linear layer, some function of it, and another linear layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], width: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.last = nn.Linear(width, 3)
        self.function = function

    def forward(self, inputs):
        return self.last(self.function(self.first(inputs)))


class Residual(nn.Module):
    """Convolution, batch norm, ReLU in place, residual sum, functional pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs):
        hidden = self.relu(self.norm(self.convolution(inputs)))
        return F.max_pool2d(hidden + inputs, 2).mean((2, 3))


class Gated(nn.Module):
    """A mask by comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return hidden * (hidden > 0.1)


class StraightThrough(nn.Module):
    """Rounds in the forward pass, and pretends not to in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return hidden + (hidden.round() - hidden).detach()


class Experts(nn.Module):
    """The best two of four experts: their weights have a kink at a tie, the choice of the experts jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 4)
        self.experts = nn.Parameter(torch.randn(4, 4, 4))

    def forward(self, inputs):
        weights, chosen = self.router(inputs).softmax(-1).topk(2)
        return (weights[..., None] * torch.einsum("bi,bkij->bkj", inputs, self.experts[chosen])).sum(1)


class ValuesOfTopK(nn.Module):
    """The sum of the two largest: continuous, since the indices are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)

    def forward(self, inputs):
        return self.first(inputs).topk(2).values.sum(-1)


class Logged(nn.Module):
    """Kinks and jumps that nothing of the result depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.seen = None

    def forward(self, inputs):
        hidden = self.first(inputs)
        self.seen = (hidden.abs().max(), hidden.argmax(-1), hidden > 0)
        return torch.tanh(hidden)


class MaskedAttention(nn.Module):
    """Comparisons and fills on positions only: no parameter reaches them."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs):
        length = inputs.shape[1]
        causal = torch.arange(length)[:, None] >= torch.arange(length)
        scores = self.query(inputs) @ self.key(inputs).mT
        return scores.masked_fill(~causal, float("-inf")).softmax(-1) @ inputs


class WrittenNorm(nn.Module):
    """x/√(mean x² + ε) is smooth, since ε keeps the root away from 0."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.epsilon = epsilon

    def forward(self, inputs):
        hidden = self.first(inputs)
        square = hidden.pow(2).mean(-1, keepdim=True)
        return hidden / torch.sqrt(square + self.epsilon if self.epsilon else square)


class WithExponent(nn.Module):
    """A power with a trained exponent, as of generalised-mean pooling."""

    def __init__(self, base: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.exponent = nn.Parameter(torch.tensor(3.0))
        self.base = base

    def forward(self, inputs):
        return self.base(self.first(inputs)) ** self.exponent


@dataclass(frozen=True)
class Case:
    """An architecture, its input, what a recording finds in it, and what the graph shows if that differs."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Any
    found: set[tuple[str, Smoothness]]
    in_graph: set[tuple[str, Smoothness]] | None = None


def sequence(*modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*modules)


def calls(function, width: int = 6) -> Callable[[], nn.Module]:
    return lambda: Calls(function, width)


VECTORS = torch.linspace(-1, 1, 20).reshape(5, 4)
PICTURES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).sin().reshape(2, 3, 8, 8)
SERIES = torch.linspace(-1, 1, 2 * 5 * 4).reshape(2, 5, 4)
TOKENS = torch.arange(8).reshape(2, 4)
POOL = ("max_pool2d_with_indices", C0)

CASES = [
    Case("linear", sequence(nn.Linear(4, 3)), VECTORS, set()),
    Case("relu-mlp", sequence(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), VECTORS, RELU),
    Case("relu-in-place", sequence(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)), VECTORS, RELU),
    Case("functional-relu", calls(F.relu), VECTORS, RELU),
    Case("method-relu", calls(lambda x: x.relu_()), VECTORS, RELU),
    Case("gelu", calls(F.gelu), VECTORS, set()),
    Case("tanh-gelu", calls(lambda x: F.gelu(x, approximate="tanh")), VECTORS, set()),
    Case("silu-mish-softplus", calls(lambda x: F.silu(x) + F.mish(x) + F.softplus(x)), VECTORS, set()),
    Case("tanhshrink-logsigmoid", calls(lambda x: F.tanhshrink(x) * F.logsigmoid(x)), VECTORS, set()),
    Case("leaky-relu", calls(lambda x: F.leaky_relu(x, 0.2)), VECTORS, {("leaky_relu", C0)}),
    Case("leaky-relu-of-slope-1", calls(lambda x: F.leaky_relu(x, 1.0)), VECTORS, set()),
    Case("prelu", sequence(nn.Linear(4, 6), nn.PReLU(), nn.Linear(6, 3)), VECTORS, {("prelu_kernel", C0)}),
    Case("rrelu", sequence(nn.Linear(4, 6), nn.RReLU()), VECTORS, {("rrelu_with_noise", C0)}),
    Case("elu", calls(F.elu), VECTORS, {("elu", C1)}),
    Case("elu-of-alpha-2", calls(lambda x: F.elu(x, 2.0)), VECTORS, {("elu", C0)}),
    Case("celu", calls(lambda x: F.celu(x, 2.0)), VECTORS, {("celu", C1)}),
    Case("selu", calls(F.selu), VECTORS, {("elu", C0)}),
    Case("relu6-hardtanh", calls(lambda x: F.relu6(x) + F.hardtanh(x)), VECTORS, {("hardtanh", C0)}),
    Case("hard", calls(lambda x: F.hardswish(x) * F.hardsigmoid(x)), VECTORS,
         {("hardswish", C0), ("hardsigmoid", C0)}),
    Case("softsign", calls(F.softsign), VECTORS, {("softsign", C1)}),
    Case("softshrink", calls(F.softshrink), VECTORS, {("softshrink", C0)}),
    Case("hardshrink", calls(F.hardshrink), VECTORS, {("hardshrink", JUMP)}),
    Case("threshold-with-a-jump", calls(lambda x: F.threshold(x, 0.1, 1.0)), VECTORS, {("threshold", JUMP)},
         {("threshold", UNKNOWN)}),
    Case("threshold-as-relu", calls(lambda x: F.threshold(x, 0.0, 0.0)), VECTORS, {("threshold", C0)},
         {("threshold", UNKNOWN)}),
    Case("residual", Residual, PICTURES, RELU | {POOL}),
    Case("max-pool-module", sequence(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2)), PICTURES, {POOL}),
    Case("adaptive-max-pool", sequence(nn.Conv2d(3, 2, 3), nn.AdaptiveMaxPool2d(2)), PICTURES,
         {("adaptive_max_pool2d", C0)}),
    Case("average-pool", sequence(nn.Conv2d(3, 2, 3), nn.AvgPool2d(2), nn.GroupNorm(1, 2), nn.SiLU()), PICTURES, set()),
    Case("lp-pool", sequence(nn.Conv2d(3, 2, 3), nn.LPPool2d(2, 2)), PICTURES, {("lp_pool2d", C0)},
         {("abs", C0), ("relu", C0), ("pow", C0), ("sign", JUMP)}),
    Case("lp-pool-of-order-1", sequence(nn.Conv2d(3, 2, 3), nn.LPPool2d(1, 2)), PICTURES, set(),
         {("abs", C0), ("relu", C0), ("sign", JUMP)}),
    Case("local-response-norm", sequence(nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(2)), PICTURES, set()),
    Case("upsampling", sequence(nn.Conv2d(3, 2, 3), nn.Upsample(scale_factor=2, mode="bilinear")), PICTURES, set()),
    Case("maxout", calls(lambda x: x.view(-1, 3, 2).amax(-1), 3), VECTORS, {("amax", C0)}),
    Case("maximum", calls(lambda x: torch.maximum(x, x.flip(-1))), VECTORS, {("maximum", C0)}),
    Case("clamp", calls(lambda x: x.clamp(-1, 1)), VECTORS, {("clamp", C0)}),
    Case("sort-median", calls(lambda x: x.sort().values + x.median(-1, keepdim=True).values), VECTORS,
         {("sort", C0), ("median", C0)}),
    Case("normalise", calls(F.normalize), VECTORS, {("linalg_vector_norm", C0), ("clamp_min", C0)}),
    Case("root-mean-square-norm", lambda: WrittenNorm(1e-6), VECTORS, set()),
    Case("root-without-epsilon", lambda: WrittenNorm(0.0), VECTORS, {("sqrt", C0)}),
    Case("product-of-two-norms",
         calls(lambda x: x / ((x.square().sum(-1, keepdim=True) + 1e-6) * (x.square().mean() + 1e-6)).sqrt()), VECTORS,
         set()),
    Case("standard-deviation", calls(lambda x: x / x.std(-1, keepdim=True)), VECTORS, {("std", C0)}),
    Case("fractional-power", calls(lambda x: F.relu(x).pow(1.5)), VECTORS, RELU | {("pow", C0)}),
    Case("whole-power", calls(lambda x: x.pow(3) + x.square()), VECTORS, set()),
    Case("squared-relu", calls(lambda x: F.relu(x).square()), VECTORS, {("relu", C1)}),
    Case("squared-relu-in-place", calls(lambda x: torch.relu_(x) ** 2), VECTORS, {("relu", C1)}),
    Case("relu-squared-in-place", calls(lambda x: F.relu(x).pow_(2)), VECTORS, {("relu", C1)}),
    Case("relu-times-itself-in-place", calls(lambda x: (y := F.relu(x)).mul_(y)), VECTORS, {("relu", C1)}),
    Case("relu-squared-in-part", calls(lambda x: (y := F.relu(x), y[:1].pow_(2))[0]), VECTORS, RELU,
         RELU | {("CopySlices", UNKNOWN)}),
    Case("relu-cubed", calls(lambda x: F.relu(x) ** 3), VECTORS, {("relu", C1)}),
    Case("relu-to-a-power-below-2", calls(lambda x: F.relu(x) ** 1.75), VECTORS, RELU | {("pow", C0)}),
    Case("relu-and-its-square", calls(lambda x: (y := F.relu(x)) + y.square()), VECTORS, RELU),
    Case("squared-hinge", calls(lambda x: (1 - x).clamp(min=0).pow(2)), VECTORS, {("clamp", C1)}),
    Case("squared-clamp-elsewhere", calls(lambda x: x.clamp(min=0.5).pow(2)), VECTORS, {("clamp", C0)}),
    Case("squared-absolute-value", calls(lambda x: x.abs() ** 2), VECTORS, set()),
    Case("absolute-value-times-itself", calls(lambda x: (y := x.abs()) * y), VECTORS, set()),
    Case("cubed-absolute-value", calls(lambda x: x.abs() ** 3), VECTORS, {("abs", C0)}),
    Case("squared-norm", calls(lambda x: x.norm(dim=-1, keepdim=True) ** 2, 1), VECTORS, set()),
    Case("squared-norm-of-order-1", calls(lambda x: x.norm(1, -1, keepdim=True) ** 2, 1), VECTORS,
         {("linalg_vector_norm", C0)}),
    Case("root-of-a-view", calls(lambda x: (x.square() + 1e-6)[:, None].transpose(1, 2).squeeze(-1).sqrt()), VECTORS,
         set()),
    Case("root-of-a-sum", calls(lambda x: (x + 1).abs().add(x.abs()).sqrt()), VECTORS, {("abs", C0), ("sqrt", C0)}),
    Case("root-after-a-shift", calls(lambda x: torch.exp(x).add(1).log().add(x).sqrt()), VECTORS, {("sqrt", C0)}),
    Case("root-of-a-square-and-a-constant", calls(lambda x: (torch.ones(6) + x.square()).sqrt()), VECTORS, set()),
    Case("trained-exponent", lambda: WithExponent(F.relu), VECTORS, RELU | {("pow", C0)}),
    Case("trained-exponent-of-a-positive-number", lambda: WithExponent(torch.sigmoid), VECTORS, set()),
    Case("entropy", calls(lambda x: torch.special.entr(x.softmax(-1))), VECTORS, set()),
    Case("entropy-of-a-square", calls(lambda x: torch.special.entr(x.square())), VECTORS, {("special_entr", C0)}),
    Case("eigenvalues", calls(lambda x: torch.linalg.eigvalsh(x.mT @ x)), VECTORS, {("linalg_eigh", C0)}),
    Case("eigenvectors", calls(lambda x: torch.linalg.eigh(x.mT @ x)[1]), VECTORS,
         {("linalg_eigh (vectors)", JUMP)}),
    Case("singular-vectors", calls(lambda x: torch.linalg.svd(x)[0], 5), VECTORS, {("linalg_svd (vectors)", JUMP)}),
    Case("singular-values-and-vectors", calls(lambda x: (s := torch.linalg.svd(x))[1] * s[0], 5), VECTORS,
         {("linalg_svd", C0), ("linalg_svd (vectors)", JUMP)}),
    Case("orthonormal-basis", calls(lambda x: torch.linalg.qr(x)[0], 5), VECTORS, {("linalg_qr", JUMP)}),
    Case("mean-beside-a-deviation", calls(lambda x: torch.std_mean(x, -1, keepdim=True)[1], 1), VECTORS, set()),
    Case("deviation-beside-a-mean", calls(lambda x: torch.std_mean(x, -1, keepdim=True)[0], 1), VECTORS,
         {("std_mean", C0)}),
    Case("bits-of-a-number", calls(lambda x: x * (x.detach().view(torch.int32) >> 8)), VECTORS,
         {("view", JUMP)}, set()),
    Case("softplus-with-a-low-threshold", sequence(nn.Linear(4, 6), nn.Softplus(threshold=1.0)), VECTORS,
         {("softplus", JUMP)}),
    Case("mask", Gated, VECTORS, {("gt", UNKNOWN)}, set()),
    Case("where", calls(lambda x: torch.where(x > 0, x, 0.1 * x)), VECTORS, {("gt", UNKNOWN)}, {("where", UNKNOWN)}),
    Case("sign", calls(lambda x: x * x.sign()), VECTORS, {("sign", JUMP)}),
    Case("quantised", calls(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127)), VECTORS,
         {("fake_quantize_per_tensor_affine_cachemask", JUMP)}),
    Case("straight-through", StraightThrough, VECTORS, {("round", JUMP)}, set()),
    Case("mixture-of-experts", Experts, VECTORS, {("topk", C0), ("topk (indices)", JUMP)}, {("topk", C0)}),
    Case("values-of-topk", ValuesOfTopK, VECTORS, {("topk", C0)}),
    Case("logged-only", Logged, VECTORS, set()),
    Case("masked-attention", MaskedAttention, SERIES, set(), {("masked_fill", UNKNOWN)}),
    Case("transformer-layer", lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True), SERIES, RELU),
    Case("transformer-layer-gelu", lambda: nn.TransformerEncoderLayer(4, 2, 8, activation="gelu", batch_first=True),
         SERIES, set()),
    Case("transformer-layer-in-evaluation", lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval(),
         SERIES, RELU),
    Case("relu-rnn", lambda: nn.RNN(4, 3, nonlinearity="relu"), SERIES, RELU),
    Case("tanh-rnn", lambda: nn.RNN(4, 3), SERIES, set()),
    Case("lstm", lambda: nn.LSTM(4, 3), SERIES, set()),
    Case("gru", lambda: nn.GRU(4, 3), SERIES, set()),
    Case("embedding", sequence(nn.Embedding(9, 4), nn.Linear(4, 2), nn.Dropout(), nn.LayerNorm(2)), TOKENS, set()),
    Case("bag-of-sums", sequence(nn.EmbeddingBag(9, 4, mode="sum"), nn.Linear(4, 2)), TOKENS, set()),
    Case("bag-of-maxima", sequence(nn.EmbeddingBag(9, 4, mode="max"), nn.Linear(4, 2)), TOKENS,
         {("embedding_bag", C0)}),
]  # fmt: skip


def found(result):
    return {(operation.name, operation.smoothness) for operation in result.operations}


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    torch.manual_seed(0)
    return request.param


def test_a_recorded_pass_finds_the_kinks_that_are_there(case):
    assert found(scan(case.make(), case.inputs)) == case.found


def test_the_graph_shows_those_that_have_a_derivative(case):
    model = case.make()
    result = model(case.inputs)
    result = result[0] if isinstance(result, tuple) else result
    expected = case.found if case.in_graph is None else case.in_graph
    assert found(scan(result.sum(), named_parameters=model)) == expected


def test_the_worst_class_is_that_of_the_worst_part(case):
    classes = [smoothness for _, smoothness in case.found if smoothness is not UNKNOWN]
    assert scan(case.make(), case.inputs).smoothness is min(classes, default=Smoothness.SMOOTH)


SHARED_NAMES = {
    "max_pool2d_with_indices": "MaxPool2d", "adaptive_max_pool2d": "AdaptiveMaxPool2d", "prelu_kernel": "PReLU",
    "rrelu_with_noise": "RReLU", "softplus": "Softplus", "lp_pool2d": "LPPool2d", "relu": "ReLU",
    "embedding_bag": "EmbeddingBag",
}  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if isinstance(c.make(), nn.Sequential)], ids=lambda c: c.name)
def test_the_tree_of_a_sequential_network_says_the_same(case):
    expected = {(SHARED_NAMES[name], smoothness) for name, smoothness in case.found}
    assert found(scan(case.make())) == expected


def test_there_are_enough_architectures():
    assert len(CASES) >= 25
