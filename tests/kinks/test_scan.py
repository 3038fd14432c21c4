"""What a scan says of where, through which parameters and how it was seen; and of what it cannot see."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import CheckpointFunction, checkpoint

import nonsmooth.kinks
from nonsmooth.kinks import Smoothness, scan
from nonsmooth.models.activations import SmoothReLU

JUMP, C0, C1, UNKNOWN = Smoothness.DISCONTINUOUS, Smoothness.C0, Smoothness.C1, Smoothness.UNKNOWN

SCRIPT = """
import torch
import torch.nn.functional as F
from torch import nn


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 4, 3)
        self.boxes = nn.Linear(36, 4)
        self.score = nn.Linear(36, 1)

    def forward(self, images):
        hidden = F.max_pool2d(F.relu(self.features(images)), 2).flatten(1)
        return torch.clamp(self.boxes(hidden), 0, 1), self.score(hidden)


def loss_function(model, images, boxes, labels, strength=1e-3):
    predicted, score = model(images)
    loss = F.smooth_l1_loss(predicted, boxes) + F.hinge_embedding_loss(score.squeeze(1), labels)
    return loss + strength * model.boxes.weight.abs().sum()
"""


@pytest.fixture
def script(tmp_path):
    """Somebody's training script, imported as a module of its own."""
    path = tmp_path / "detect.py"
    path.write_text(SCRIPT)
    specification = importlib.util.spec_from_file_location("detect", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def line(fragment: str) -> str:
    return f"detect.py:{next(n for n, text in enumerate(SCRIPT.splitlines(), 1) if fragment in text)}"


def detection(script):
    torch.manual_seed(0)
    return script.Detector(), torch.randn(3, 1, 8, 8), torch.rand(3, 4), torch.tensor([1.0, -1.0, 1.0])


EXPECTED = {("relu", C0), ("max_pool2d_with_indices", C0), ("clamp", C0), ("smooth_l1_loss", C1), ("clamp_min", C0),
            ("abs", C0)}  # fmt: skip


def test_a_script_is_read_right_with_its_lines_and_parameters(script):
    model, images, boxes, labels = detection(script)
    result = scan(lambda: script.loss_function(model, images, boxes, labels), named_parameters=model)
    by_name = {operation.name: operation for operation in result.operations}
    assert {(o.name, o.smoothness) for o in result.operations} == EXPECTED
    assert {name: operation.location.split()[-1].strip("()") for name, operation in by_name.items()} == {
        "relu": line("F.relu"),
        "max_pool2d_with_indices": line("F.relu"),
        "clamp": line("torch.clamp"),
        "smooth_l1_loss": line("smooth_l1_loss"),
        "clamp_min": line("hinge"),
        "abs": line("abs()"),
    }
    features, box = ("features.weight", "features.bias"), ("boxes.weight", "boxes.bias")
    assert by_name["relu"].parameters == features
    assert by_name["relu"].module == "" and by_name["abs"].module is None
    assert by_name["clamp"].parameters == features + box
    assert by_name["clamp_min"].parameters == (*features, "score.weight", "score.bias")
    assert by_name["abs"].parameters == ("boxes.weight",)
    assert all(operation.without_gradient == () for operation in result.operations)


def test_the_graph_of_the_same_loss_says_the_same_but_for_the_places(script):
    model, images, boxes, labels = detection(script)
    loss = script.loss_function(model, images, boxes, labels)
    result = scan(loss, named_parameters=model)
    # The graph does not know where a condition comes from; here it is the labels.
    assert {(o.name, o.smoothness) for o in result.operations} == EXPECTED | {("where", UNKNOWN)}
    assert all(operation.source is None and operation.module is None for operation in result.operations)
    loss.backward()  # the graph is as it was


@pytest.mark.filterwarnings("ignore:Anomaly")
def test_pytorch_keeps_lines_in_the_graph_when_it_is_asked_to(script):
    model, images, boxes, labels = detection(script)
    with torch.autograd.set_detect_anomaly(True):
        loss = script.loss_function(model, images, boxes, labels)
    result = scan(loss, named_parameters=model)
    assert {o.name: o.location for o in result.operations}["clamp"] == line("torch.clamp")


def test_calls_at_one_place_are_one_operation():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

        def forward(self, inputs):
            for layer in self.layers:
                inputs = layer(inputs).relu()
            return inputs

    (relu,) = scan(Twice(), torch.randn(2, 3)).operations
    assert relu.calls == 2
    assert relu.parameters == tuple(name for name, _ in Twice().named_parameters())


def test_module_paths_are_those_of_the_model():
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 3), nn.Hardtanh()))
    assert [(o.name, o.module) for o in scan(model, torch.randn(2, 3)).operations] == [
        ("relu", "1.0"),
        ("hardtanh", "1.2"),
    ]


def test_a_kink_that_no_parameter_reaches_does_not_count_against_the_parameters():
    class Prepared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, inputs):
            return self.layer(inputs.abs())

    result = scan(Prepared(), torch.randn(2, 3))
    assert [(o.name, o.parameters) for o in result.operations] == [("abs", ())]
    assert result.smoothness is Smoothness.SMOOTH
    assert scan(nn.ReLU(), torch.randn(2, 3)).smoothness is C0  # without parameters, all operations count


def test_detached_parameters_are_told_from_those_with_a_gradient():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    model = nn.ModuleDict({"first": first, "second": second})
    data = torch.randn(4, 3)
    (relu,) = scan(lambda: second(first(data).detach()).relu().sum(), named_parameters=model).operations
    assert relu.parameters == ("second.weight", "second.bias")
    assert relu.without_gradient == ("first.weight", "first.bias")


def test_frozen_parameters_reach_an_operation_as_well():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model[0].bias.requires_grad_(False)
    (relu,) = scan(model, torch.randn(2, 3)).operations
    assert (relu.parameters, relu.without_gradient) == (("0.weight", "0.bias"), ())


def test_parameters_in_one_buffer_are_kept_apart():
    """Flattened weights, as of recurrent networks on a GPU, share their memory."""
    memory = torch.randn(6)
    left, right = nn.Parameter(memory[:3]), nn.Parameter(memory[3:])
    result = scan(lambda: left.abs().sum() + right.data.norm(), named_parameters={"left": left, "right": right})
    assert [(o.parameters, o.without_gradient) for o in result.operations] == [(("left",), ()), ((), ("right",))]


def test_a_number_that_leaves_for_python_is_said_to_be_lost():
    weight = nn.Parameter(torch.randn(3))
    result = scan(lambda: weight.square().sum() * weight.square().sum().item(), named_parameters={"weight": weight})
    assert [(o.name, o.smoothness) for o in result.unknown] == [("local_scalar_dense", UNKNOWN)]


class Clipped(torch.autograd.Function):
    """Somebody's function with a derivative of its own."""

    @staticmethod
    def forward(ctx, inputs):
        return inputs.clamp(-1, 1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_function_with_its_own_derivative_is_unknown_until_it_is_stated():
    model = nn.Linear(3, 3)
    data = torch.randn(2, 3)
    (operation,) = scan(lambda: Clipped.apply(model(data)).sum(), named_parameters=model).operations
    assert (operation.name, operation.smoothness) == ("Clipped", UNKNOWN)
    assert "clamp" in operation.reason
    assert operation.parameters == ("weight", "bias")
    assert operation.source.endswith(str(inspect.currentframe().f_lineno - 4))
    loss = Clipped.apply(model(data)).sum()
    assert [(o.name, o.smoothness) for o in scan(loss).operations] == [("Clipped", UNKNOWN)]
    for target in (loss, lambda: Clipped.apply(model(data)).sum()):
        stated = scan(target, named_parameters=model, known={"Clipped": C0})
        assert [(o.name, o.smoothness) for o in stated.operations] == [("Clipped", C0)]


def test_the_packages_own_smooth_relu_can_be_stated():
    model = nn.Sequential(nn.Linear(3, 3), SmoothReLU())
    assert [o.name for o in scan(model, torch.randn(2, 3)).unknown] == ["_SmoothReLU"]
    stated = scan(model, torch.randn(2, 3), known={"_SmoothReLU": C1})
    assert stated.smoothness is C1 and stated.unknown == ()


def test_an_operator_of_another_library_is_unknown():
    library = torch.library.Library("nonsmooth_test", "DEF")
    library.define("warp(Tensor x) -> Tensor")
    library.impl("warp", lambda x: x * 2, "CompositeExplicitAutograd")
    model = nn.Linear(3, 3)

    def closure():
        return torch.ops.nonsmooth_test.warp(model(torch.ones(2, 3))).sum()

    assert [o.name for o in scan(closure, named_parameters=model).unknown] == ["nonsmooth_test::warp"]
    assert scan(closure, named_parameters=model, known={"nonsmooth_test::warp": Smoothness.SMOOTH}).unknown == ()


def test_checkpointed_parts_are_seen_through():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    data = torch.randn(2, 3, requires_grad=True)
    for reentrant in (True, False):
        result = scan(lambda r=reentrant: checkpoint(model, data, use_reentrant=r).sum(), named_parameters=model)
        (relu,) = result.operations
        assert (relu.name, relu.smoothness) == ("relu", C0)
        assert (relu.parameters, relu.without_gradient) == (("0.weight", "0.bias"), ())


def test_a_reentrant_checkpoint_of_inputs_without_a_gradient_gives_none():
    model, data = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(2, 3)
    for reentrant, without in ((True, ("0.weight", "0.bias")), (False, ())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says the same
            read = scan(lambda r=reentrant: checkpoint(model, data, use_reentrant=r).sum(), named_parameters=model)
        assert read.operations[0].without_gradient == without
    assert "apply" not in vars(CheckpointFunction)


@pytest.mark.filterwarnings("error")
def test_named_tensors_may_be_computed_from_others():
    first = nn.Parameter(torch.randn(3))
    doubled, (left, right) = 2 * first, (3 * first).split([1, 2])
    names = {"doubled": doubled, "left": left, "right": right}

    def closure():
        return doubled.abs().sum() + left.relu().sum() + right.detach().floor().sum()

    result = scan(closure, named_parameters=names)
    assert [(o.name, o.parameters, o.without_gradient) for o in result.operations] == [
        ("abs", ("doubled",), ()),
        ("relu", ("left", "right"), ()),
        ("floor", (), ("left", "right")),
    ]
    loss = scan(closure(), named_parameters=names)
    assert [(o.name, o.parameters) for o in loss.operations] == [("abs", ("doubled",)), ("relu", ("left", "right"))]


@pytest.mark.parametrize("folder", [Path(torch.__file__).parent, Path(nonsmooth.kinks.__file__).parent])
def test_lines_of_packages_whose_names_begin_alike_are_shown(folder):
    path = folder.with_name(f"{folder.name}metrics") / "losses.py"
    names = {}
    exec(compile("def loss(weight):\n    return weight.abs().sum()", str(path), "exec"), names)
    weight = nn.Parameter(torch.ones(3))
    (operation,) = scan(lambda: names["loss"](weight), named_parameters={"weight": weight}).operations
    assert operation.source == f"{path}:2"


def test_what_is_compiled_on_the_way_is_seen_through_without_loading_the_compiler(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    compiler, data = torch.compile, torch.randn(2, 3)
    model = nn.Linear(3, 3)

    def closure():
        decorated = torch.compile(dynamic=True)(lambda x: x.relu())
        return decorated(torch.compile(model)(data)).sum()

    (relu,) = scan(closure, named_parameters=model).operations
    assert (relu.name, relu.parameters) == ("relu", ("weight", "bias"))
    assert torch.compile is compiler
    assert "torch._dynamo" not in sys.modules


@pytest.mark.slow
def test_a_scan_does_not_load_the_compiler():
    program = (
        "import sys, torch; from nonsmooth.kinks import scan; "
        "scan(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()), torch.ones(2, 3)); "
        "print('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert result.stdout.strip() == "False"


def test_a_gradient_penalty_has_the_slope_of_a_relu_in_it():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    data = torch.randn(2, 3, requires_grad=True)

    def closure():
        (slope,) = torch.autograd.grad(model(data).sum(), data, create_graph=True)
        return slope.square().sum()

    names = {(o.name, o.smoothness) for o in scan(closure, named_parameters=model).operations}
    assert ("threshold_backward", JUMP) in names


def relu_at_one(result):
    return [(o.name, o.smoothness, o.parameters) for o in result.operations] == [("relu", C0, ("0.weight", "0.bias"))]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_other_ways_to_run_a_module_are_seen_through():
    model, data = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(4, 3)
    assert relu_at_one(scan(lambda: torch.vmap(model)(data).sum(), named_parameters=model))
    assert relu_at_one(scan(torch.jit.script(model), data))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert relu_at_one(scan(model, data))
    assert relu_at_one(scan(model.to("meta"), data.to("meta")))  # without memory for its weights


def test_losses_that_pytorch_puts_together_itself():
    model, data = nn.Linear(3, 3), torch.randn(4, 3)

    def found(loss):
        return {(o.name, o.smoothness) for o in scan(lambda: loss(model(data)), named_parameters=model).operations}

    ones = torch.ones(4)
    assert found(lambda x: F.cosine_embedding_loss(x, -x, ones)) == {("clamp_min", C0)}
    assert found(lambda x: F.triplet_margin_loss(x, -x, 2 * x)) == {("norm", C0), ("clamp_min", C0)}
    assert found(lambda x: F.margin_ranking_loss(x[:, 0], x[:, 1], ones)) == {("clamp_min", C0)}
    assert found(lambda x: F.multi_margin_loss(x, ones.long(), p=2)) == {("multi_margin_loss", C1)}
    assert found(lambda x: F.multi_margin_loss(x, ones.long())) == {("multi_margin_loss", C0)}
    assert found(lambda x: F.multilabel_margin_loss(x, torch.ones(4, 3).long())) == {
        ("multilabel_margin_loss_forward", C0)
    }
    assert found(lambda x: F.huber_loss(x, -data)) == {("huber_loss", C1)}
    assert found(lambda x: F.l1_loss(x, data)) == {("abs", C0)}
    for smooth in (
        lambda x: F.cross_entropy(x, ones.long(), label_smoothing=0.1),
        lambda x: F.nll_loss(x.log_softmax(-1), ones.long()),
        lambda x: F.kl_div(x.log_softmax(-1), data.softmax(-1), reduction="batchmean"),
        lambda x: F.binary_cross_entropy(x.sigmoid(), data.sigmoid()),
        lambda x: F.mse_loss(x, data),
        lambda x: F.poisson_nll_loss(x, data.exp()),
        lambda x: F.soft_margin_loss(x, data.sign()),
        lambda x: F.multilabel_soft_margin_loss(x, data.sigmoid()),
        lambda x: F.ctc_loss(x[:, None].log_softmax(-1), torch.tensor([[1]]), torch.tensor([4]), torch.tensor([1])),
    ):
        assert found(smooth) == set()


@pytest.mark.parametrize(
    ("order", "where"),
    [
        (0, "differing coordinates"),
        (1, "share a coordinate"),
        (1.5, "share a coordinate"),
        (2, "two points coincide"),
        (3, "two points coincide"),
        (float("inf"), "largest differences of two points tie"),
    ],
)
def test_it_says_where_a_distance_has_its_kinks(order, where):
    points = nn.Parameter(torch.randn(3, 4))
    (distance,) = scan(lambda: torch.cdist(points, torch.zeros(2, 4), p=order)).operations
    assert where in distance.reason


def test_backward_inside_the_closure_adds_nothing():
    model = nn.Sequential(nn.Linear(3, 3), nn.Softplus(), nn.Linear(3, 1))

    def closure():
        loss = model(torch.ones(2, 3)).abs().mean()
        loss.backward()
        return loss

    assert [(o.name, o.smoothness) for o in scan(closure, named_parameters=model).operations] == [("abs", C0)]


def test_without_inputs_the_tree_says_what_it_cannot_see():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.activation = nn.Linear(3, 3), nn.ELU(2.0)

        def forward(self, inputs):
            return F.relu(self.activation(self.layer(inputs)))

    result = scan(Hidden())
    assert [(o.name, o.smoothness, o.module, o.parameters) for o in result.operations] == [
        ("ELU", C0, "activation", None)
    ]
    assert any("Hidden" in note for note in result.notes)
    assert {o.name for o in scan(Hidden(), torch.randn(2, 3)).operations} == {"elu", "relu"}


def test_names_are_given_to_parameters_that_have_none():
    weight = nn.Parameter(torch.randn(2, 3))
    (operation,) = scan(lambda: weight.abs().sum()).operations
    assert operation.parameters == ("unnamed 0 of shape (2, 3)",)
    assert scan(weight.abs().sum()).operations[0].parameters == ("unnamed 0 of shape (2, 3)",)


def test_the_table_is_readable():
    text = str(scan(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(2, 3)))
    assert text.splitlines()[0] == "C⁰: 1 operation to look at (forward pass)"
    assert "relu" in text and "0.weight, 0.bias" in text and "at 0" in text


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((3,), {}, TypeError, "target is 3"),
        ((nn.LazyLinear(2), torch.ones(2, 3)), {}, ValueError, "'weight' has no shape yet"),
        ((torch.ones(2),), {}, ValueError, "without a graph"),
        ((lambda: None, torch.ones(2)), {}, TypeError, "inputs are given for a function"),
        ((nn.ReLU(), torch.ones(2)), {"named_parameters": nn.ReLU()}, TypeError, "which has its own"),
        ((lambda: None,), {"named_parameters": [torch.ones(2)]}, TypeError, "named_parameters holds a Tensor"),
        ((lambda: None,), {"named_parameters": 3}, TypeError, "named_parameters is 3; accepted are a module"),
        (
            (lambda: None,),
            {"named_parameters": torch.optim.SGD([nn.Parameter(torch.ones(1))])},
            TypeError,
            "named_parameters is an SGD; accepted are a module",
        ),
        ((nn.ReLU,), {}, TypeError, "target is the class ReLU; accepted is an instance"),
        ((nn.ReLU(), torch.ones(2)), {"known": {"relu": "smooth"}}, TypeError, r"known\['relu'\] is 'smooth'"),
    ],
)
def test_bad_input_is_named(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        scan(*arguments, **keywords)
