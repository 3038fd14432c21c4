import builtins
import importlib
import math

import pytest
import torch
from torch import nn

from nonsmooth.models.vgg16 import PARAMETERS, WEIGHTS_VARIABLE, Vgg16, find_pretrained, load_pretrained, vgg16

# The state_dict of torchvision.models.vgg16, as published with its weights `vgg16-397923af.pth`.
TORCHVISION = {
    "features.0.weight": (64, 3, 3, 3),
    "features.0.bias": (64,),
    "features.2.weight": (64, 64, 3, 3),
    "features.2.bias": (64,),
    "features.5.weight": (128, 64, 3, 3),
    "features.5.bias": (128,),
    "features.7.weight": (128, 128, 3, 3),
    "features.7.bias": (128,),
    "features.10.weight": (256, 128, 3, 3),
    "features.10.bias": (256,),
    "features.12.weight": (256, 256, 3, 3),
    "features.12.bias": (256,),
    "features.14.weight": (256, 256, 3, 3),
    "features.14.bias": (256,),
    "features.17.weight": (512, 256, 3, 3),
    "features.17.bias": (512,),
    "features.19.weight": (512, 512, 3, 3),
    "features.19.bias": (512,),
    "features.21.weight": (512, 512, 3, 3),
    "features.21.bias": (512,),
    "features.24.weight": (512, 512, 3, 3),
    "features.24.bias": (512,),
    "features.26.weight": (512, 512, 3, 3),
    "features.26.bias": (512,),
    "features.28.weight": (512, 512, 3, 3),
    "features.28.bias": (512,),
    "classifier.0.weight": (4096, 25088),
    "classifier.0.bias": (4096,),
    "classifier.3.weight": (4096, 4096),
    "classifier.3.bias": (4096,),
    "classifier.6.weight": (1000, 4096),
    "classifier.6.bias": (1000,),
}

# torchvision's features: positions of pooling and of activations between the convolutions named above.
POOLINGS = (4, 9, 16, 23, 30)


def test_parameters_are_those_of_torchvision():
    model = Vgg16()
    assert {name: tuple(p.shape) for name, p in model.state_dict().items()} == TORCHVISION
    assert list(model.state_dict()) == list(TORCHVISION)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS == 138_357_544


def test_layers_without_parameters_are_those_of_torchvision():
    model = Vgg16(width=1 / 64)
    kinds = [type(layer) for layer in model.features]
    assert tuple(i for i, kind in enumerate(kinds) if kind is nn.MaxPool2d) == POOLINGS
    assert all(kinds[i + 1] is nn.ReLU for i, kind in enumerate(kinds) if kind is nn.Conv2d)
    assert [layer.p for layer in model.classifier if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_forward_against_functional_calls():
    model = vgg16(1, width=1 / 32, classes=7).eval()
    state = model.state_dict()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    x = images
    for position in range(31):
        if position in POOLINGS:
            x = torch.max_pool2d(x, 2)
        elif f"features.{position}.weight" in state:
            x = torch.conv2d(x, state[f"features.{position}.weight"], state[f"features.{position}.bias"], padding=1)
            x = x.clamp(min=0)
    x = torch.nn.functional.adaptive_avg_pool2d(x, 7).flatten(1)
    for position in (0, 3, 6):
        x = x @ state[f"classifier.{position}.weight"].T + state[f"classifier.{position}.bias"]
        x = x.clamp(min=0) if position < 6 else x
    torch.testing.assert_close(model(images), x)


def test_initialisation_is_that_of_torchvision_in_law():
    model = vgg16(3, width=0.25)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        # torchvision: kaiming_normal_(mode="fan_out", nonlinearity="relu") and normal_(0, 0.01).
        expected = 0.01 if name.startswith("classifier") else math.sqrt(2 / (parameter.shape[0] * 9))
        relative_error = 1 / math.sqrt(2 * parameter.numel())
        assert float(parameter.detach().std()) == pytest.approx(expected, rel=5 * relative_error)


def test_initialisation_depends_on_the_seed_alone():
    before = torch.random.get_rng_state()
    first, again, other = (vgg16(seed, width=1 / 64).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_fan_in_initialisation_is_that_of_layers_made_on_their_own():
    model = vgg16(0, width=1 / 8, initialization="fan-in")
    weight = model.classifier[0].weight
    bound = 1 / math.sqrt(weight.shape[1])
    assert float(weight.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(weight.abs().max()) <= bound
    assert model.classifier[0].bias.any()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"width": 0}, "width is 0"), ({"classes": 0}, "classes is 0"), ({"dropout": 1.0}, "dropout is 1.0")],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        Vgg16(**arguments)


def test_unknown_initialisation_is_named():
    with pytest.raises(ValueError, match="initialization is 'zeros'"):
        vgg16(0, width=1 / 64, initialization="zeros")


def test_pretrained_weights_need_a_file_or_torchvision(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights\.pth"):
        load_pretrained(tmp_path / "weights.pth")

    def refuse(name, *_):
        raise builtins.ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(RuntimeError, match="importable torchvision"):
        load_pretrained()


@pytest.mark.slow
def test_pretrained_weights_load_from_a_file(tmp_path):
    path = tmp_path / "vgg16.pth"
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in TORCHVISION.items()}, path)
    assert not any(p.any() for p in load_pretrained(path).parameters())


def test_pretrained_weights_are_looked_for_where_they_are_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    assert find_pretrained() is None
    cached = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    cached.parent.mkdir()
    cached.touch()
    assert find_pretrained() == cached
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "elsewhere.pth"))
    assert find_pretrained() is None
