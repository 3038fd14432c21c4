"""Parameters that are not weights as they stand are never penalised silently."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from nonsmooth.optim import RDA, ProxAdam, ProxSGD, attach, certify, penalize
from nonsmooth.penalties import L1, GroupL1


class CosineHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8))

    def forward(self, inputs):
        return F.linear(F.normalize(inputs), F.normalize(self.weight, dim=1))


class WrittenOut(CosineHead):
    def forward(self, inputs):
        weight = self.weight
        return inputs @ (weight / weight.norm(dim=1, keepdim=True)).mT


class Inherited(CosineHead):
    pass


class InAMethod(CosineHead):
    def direction(self):
        return self.weight.flatten(1) / torch.linalg.vector_norm(self.weight.flatten(1), dim=1, keepdim=True)

    def forward(self, inputs):
        return inputs @ self.direction().mT


class RootOfSquares(CosineHead):
    def forward(self, inputs):
        return inputs @ (self.weight / (self.weight**2).sum(1, keepdim=True).sqrt()).mT


class SumOfSizes(CosineHead):
    def forward(this, inputs):  # noqa: N805  nobody has to call it self
        return inputs @ this.weight.div(this.weight.abs().sum()).mT


class InverseRoot(CosineHead):
    def forward(self, inputs):
        return inputs @ (self.weight * torch.rsqrt(self.weight.square().sum())).mT


class AProperty(CosineHead):
    @property
    def direction(self):
        return F.normalize(self.weight)

    def forward(self, inputs):
        return inputs @ self.direction.mT


def unit(inputs, rows):
    return inputs @ (rows / rows.std()).mT


class AFunctionOfOnesOwn(CosineHead):
    def forward(self, inputs):
        return unit(inputs, rows=self.weight)


class AMethodWithArguments(CosineHead):
    @staticmethod
    def unit(rows):
        return rows / rows.norm()

    def forward(self, inputs):
        return inputs @ self.unit(self.weight).mT


class SeveralNames(CosineHead):
    def forward(self, inputs):
        weight, scale = self.weight, 2.0
        if (size := torch.linalg.norm(weight)) > 0:
            weight = scale * weight / size
        return inputs @ weight.mT


class Columns(CosineHead):
    def forward(self, inputs):
        return inputs @ torch.linalg.qr(self.weight.mT)[0]


class NormalisedOutput(nn.Module):
    """What data pass through is no parameter, and a property that raises is not called."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8))
        self.scale = nn.Parameter(torch.ones(3, 1))

    @property
    def places(self):
        raise RuntimeError

    def forward(self, inputs, *more):
        hidden = inputs @ self.weight.mT
        outputs = hidden / hidden.norm() / self.scale.mT
        for each in more:
            outputs = outputs + F.normalize(self.weight * more[0]) + F.normalize(each)
        return outputs if inputs is not None else F.normalize(self.places)


class NotAtAll(nn.Module):
    """Norms of other things, and of the weight where it is not used: nothing to warn of."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8))
        self.places = nn.Parameter(torch.randn(1, 8))
        self.norm = nn.LayerNorm(8)
        with torch.no_grad():
            self.weight.div_(self.weight.norm())

    def size(self):
        return self.weight.norm()

    def forward(self, inputs):
        places = self.places
        return F.linear(F.normalize(inputs), self.weight) + self.norm(places).sum()


class Standardised(nn.Conv2d):
    """As in networks with weight standardisation."""

    def forward(self, inputs):
        weight = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True)
        return self._conv_forward(inputs, weight.reshape_as(self.weight), self.bias)


class OverTheChild(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        return F.linear(inputs, F.normalize(self.head.weight))


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).mT


def custom(layer):
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


MADE = {
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
                    {"parametrizations.weight.original0", "parametrizations.weight.original1"}),
    "weight norm of a convolution": (lambda: parametrizations.weight_norm(nn.Conv1d(8, 8, 3)),
                                     {"parametrizations.weight.original0", "parametrizations.weight.original1"}),
    "weight norm of old": (lambda: torch.nn.utils.weight_norm(nn.Linear(8, 8)), {"weight_g", "weight_v"}),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(8, 8)), {"parametrizations.weight.original"}),
    "spectral norm of old": (lambda: torch.nn.utils.spectral_norm(nn.Linear(8, 8)), {"weight_orig"}),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(8, 8)), {"parametrizations.weight.original"}),
    "one of one's own": (lambda: custom(nn.Linear(8, 8)), {"parametrizations.weight.original"}),
    "a cosine head": (CosineHead, {"weight"}),
    "a norm written out": (WrittenOut, {"weight"}),
    "a head that inherits": (Inherited, {"weight"}),
    "a norm in a method": (InAMethod, {"weight"}),
    "weight standardisation": (lambda: Standardised(3, 4, 3), {"weight"}),
    "the root of a sum of squares": (RootOfSquares, {"weight"}),
    "a sum of sizes": (SumOfSizes, {"weight"}),
    "an inverse root": (InverseRoot, {"weight"}),
    "a property": (AProperty, {"weight"}),
    "a function of one's own": (AFunctionOfOnesOwn, {"weight"}),
    "a method with arguments": (AMethodWithArguments, {"weight"}),
    "several names": (SeveralNames, {"weight"}),
    "orthonormal columns": (Columns, {"weight"}),
    "the weight of a child": (OverTheChild, {"head.weight"}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", MADE)
def test_it_is_left_out_and_a_warning_names_it(name):
    make, parameters = MADE[name]
    model = nn.ModuleDict({"first": nn.Linear(4, 8), "made": make()})
    with pytest.warns(UserWarning, match="not penalised") as record:
        groups = penalize(model, L1(0.1))
    assert [found for found, _ in groups[0]["params"]] == ["first.weight"]
    assert all(f"made.{parameter}" in str(record[0].message) for parameter in parameters)
    assert record[0].filename == __file__
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="not penalised"):
        attach(optimizer, L1(0.1), model=model)
    assert optimizer.param_groups[0]["params"] == [model["first"].weight]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", MADE)
def test_naming_it_takes_it_in_or_says_why_not(name):
    make, parameters = MADE[name]
    model = nn.ModuleDict({"first": nn.Linear(4, 8), "made": make()})
    for parameter in parameters:
        rest = [f"made.{other}" for other in parameters - {parameter}]
        if parameter.endswith(("original1", "_v", "_orig")) or name.startswith("spectral"):
            with pytest.raises(ValueError, match=rf"made\.{parameter}.*divides by its norm"):
                penalize(model, L1(0.1), include=[f"made.{parameter}"], exclude=rest)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            groups = penalize(model, L1(0.1), include=[f"made.{parameter}"], exclude=rest)
        assert f"made.{parameter}" in [found for found, _ in groups[0]["params"]]


@pytest.mark.parametrize(
    "module",
    [nn.Linear(3, 3), nn.Conv2d(3, 3, 3), nn.Embedding(4, 3, max_norm=1.0), nn.LSTM(3, 3),
     nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2), nn.Bilinear(3, 3, 3), NotAtAll(),
     NormalisedOutput()],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_other_layers_have_weights(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        penalize(nn.Sequential(module, nn.BatchNorm1d(3), nn.LayerNorm(3)), L1(0.1))


def test_nothing_but_weight_norm_is_refused_with_the_reason():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 16)), nn.ReLU())
    with pytest.raises(ValueError, match=r"Not penalised: .*original1, which weight norm divides by its norm"):
        penalize(model, L1(2e-3))


def test_rows_of_weight_norm_fall_to_zero_by_their_scale():
    """The advice of the warning, followed: no number that is none in 300 steps, and whole rows are zero."""
    torch.manual_seed(0)
    inputs = torch.randn(100, 6)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 16)), nn.ReLU(), nn.Linear(16, 1))
    groups = penalize(model, L1(2e-2), include=["0.*.original0"], exclude=["0.*.original1", "2.weight"])
    optimizer = ProxAdam(groups, lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (model(inputs) - inputs[:, :1]).square().mean()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    assert int((model[0].weight == 0).all(1).sum()) > 0


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 1)), nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyLinear(2)),
     nn.Sequential(nn.Linear(3, 3), nn.LazyBatchNorm1d())],
    ids=["linear", "all lazy", "norm"],
)  # fmt: skip
def test_a_lazy_module_has_to_know_its_shapes_first(model):
    with pytest.raises(ValueError, match="run one forward pass first"):
        penalize(model, L1(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="run one forward pass first"):
        attach(optimizer, L1(0.5), model=model)
    for build in (lambda: attach(optimizer, GroupL1(0.5)), lambda: ProxAdam(model.parameters(), penalty=L1(0.5)),
                  lambda: RDA(model.parameters(), penalty=L1(0.5))):  # fmt: skip
        with pytest.raises(ValueError, match=r"belongs to a lazy module.* run one forward pass first"):
            build()
    assert "penalty" not in optimizer.param_groups[0]


@pytest.mark.parametrize("with_closure", [False, True])
def test_a_penalty_may_be_set_before_a_lazy_module_has_run(with_closure):
    model = nn.LazyLinear(2)
    optimizer = ProxSGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["penalty"] = L1(100.0)

    def closure():
        loss = model(torch.ones(3, 4)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure) if with_closure else (closure(), optimizer.step())
    assert not model.weight.any()


def test_a_certificate_leaves_out_a_lazy_module_that_does_not_run():
    model = nn.ModuleList([nn.Linear(2, 1), nn.LazyLinear(1)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = certify(optimizer, lambda: model[0](torch.ones(3, 2)).square().mean())
    assert len(found.tensors) == 2
    assert any("neither moved nor certified: 0.2, 0.3" in note for note in found.notes)


def test_a_lazy_module_that_is_excluded_or_has_run_is_none_of_it():
    model = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 1))
    assert [name for name, _ in penalize(model, L1(0.5), exclude=["0.*"])[0]["params"]] == ["2.weight"]
    model(torch.randn(2, 7))
    assert [name for name, _ in penalize(model, L1(0.5))[0]["params"]] == ["0.weight", "2.weight"]


@pytest.mark.parametrize("head", [RootOfSquares, SumOfSizes, InverseRoot, AFunctionOfOnesOwn, SeveralNames])
def test_the_certificate_finds_a_norm_of_the_whole(head):
    torch.manual_seed(0)
    model, inputs, labels = head(), torch.randn(30, 8), torch.randint(3, (30,))
    for _ in range(2):
        optimizer = ProxSGD([model.weight], lr=0.1, penalty=L1(1e-3))
        found = certify(optimizer, lambda: F.cross_entropy(model(inputs.to(model.weight)), labels))
        assert any("does not feel the norm of" in note and "0.0, as where" in note for note in found.notes)
        model.to(torch.float64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_certificate_finds_no_norm_by_chance(dtype):
    """In bfloat16 each of 4,000 random coordinates' angles is one of rounding."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4000).to(dtype))
    slope = torch.randn(8, 4000).to(dtype)
    found = certify(ProxSGD([weight], lr=0.1, penalty=L1(1e-3)), lambda: weight.flatten() @ slope.flatten())
    assert not any("does not feel" in note for note in found.notes)


@pytest.mark.parametrize("head", [CosineHead, WrittenOut])
def test_the_certificate_says_that_the_loss_does_not_feel_a_norm(head):
    """Whoever named it, or gave it without a model, hears of it there."""
    torch.manual_seed(0)
    model, inputs, labels = head(), torch.randn(30, 8), torch.randint(3, (30,))
    optimizer = ProxSGD([model.weight], lr=0.1, penalty=L1(1e-3))
    found = certify(optimizer, lambda: F.cross_entropy(model(inputs), labels))
    assert any("does not feel the norm of rows of 0.0" in note for note in found.notes)
    plain = nn.Linear(8, 3)
    found = certify(ProxSGD([plain.weight], lr=0.1, penalty=L1(1e-3)), lambda: F.cross_entropy(plain(inputs), labels))
    assert not any("does not feel" in note for note in found.notes)
