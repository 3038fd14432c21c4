"""Work that the dispatcher does not see is not passed over: NumPy, kernels, other threads, what was computed before."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from nonsmooth.kinks import Smoothness, scan
from nonsmooth.kinks.recording.out_of_sight import LEAVING

C0, UNKNOWN = Smoothness.C0, Smoothness.UNKNOWN


class InNumPy(torch.autograd.Function):
    """|x|, computed by NumPy."""

    @staticmethod
    def forward(ctx, inputs):
        return torch.from_numpy(np.abs(inputs.detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class ByKernel(torch.autograd.Function):
    """A copy, by a function that is given addresses, as kernels of other libraries are."""

    @staticmethod
    def forward(ctx, inputs):
        result = torch.empty_like(inputs)
        ctypes.memmove(result.data_ptr(), inputs.data_ptr(), inputs.numel() * inputs.element_size())
        return result

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.fixture
def weight():
    return nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))


def found(closure, weight, **options):
    result = scan(closure, named_parameters={"weight": weight}, **options)
    return {(o.name, o.smoothness) for o in result.operations}


@pytest.mark.parametrize("function", [InNumPy, ByKernel])
@pytest.mark.parametrize("after", [torch.sum, lambda result: result], ids=["used", "returned"])
def test_a_function_that_computes_elsewhere_is_unknown_and_what_went_into_it_is_found(weight, function, after):
    def closure():
        return after(function.apply(weight.relu()))

    assert found(closure, weight) == {("relu", C0), (function.__name__, UNKNOWN)}
    assert found(closure, weight, known={function.__name__: Smoothness.SMOOTH}) == {("relu", C0)}
    for operation in scan(closure, named_parameters={"weight": weight}).operations:
        assert operation.parameters == ("weight",)


def test_calls_of_a_function_are_counted_and_not_those_inside_of_it(weight):
    def closure():
        return sum(InNumPy.apply(weight).abs().sum() for _ in range(3))

    result = scan(closure, named_parameters={"weight": weight})
    assert {(o.name, o.calls) for o in result.operations} == {("InNumPy", 3), ("abs", 3)}


def leaving_for_numpy(weight):
    return weight * torch.from_numpy(np.abs(weight.detach().numpy()))


def leaving_for_an_array(weight):
    return weight * torch.from_numpy(np.abs(np.asarray(weight.detach())))


def leaving_for_a_list(weight):
    return weight * sum(weight.relu().flatten().tolist())


def leaving_by_dlpack(weight):
    return weight * torch.from_dlpack(weight.detach()).abs()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (leaving_for_numpy, {("numpy", UNKNOWN)}),
        (leaving_for_an_array, {("numpy", UNKNOWN)}),
        (leaving_for_a_list, {("relu", C0), ("tolist", UNKNOWN)}),
        (leaving_by_dlpack, {("dlpack", UNKNOWN)}),
    ],
)
def test_numbers_that_leave_are_unknown_from_then_on(weight, function, expected):
    assert found(lambda: function(weight), weight) == expected


def test_what_numpy_writes_to_a_parameter_is_put_back(weight):
    before = weight.detach().clone()

    def closure():
        weight.detach().numpy()[:] = 7
        return weight.sum()

    scan(closure, named_parameters={"weight": weight})
    assert torch.equal(weight, before)


def test_the_methods_of_tensors_are_as_before_also_after_an_exception(weight):
    def methods():
        return {name: getattr(Tensor, name) for name in LEAVING}, {name: name in vars(Tensor) for name in LEAVING}

    def closure():
        assert methods() != before
        raise RuntimeError("half way")

    before = methods()
    with pytest.raises(RuntimeError, match="half way"):
        scan(closure, named_parameters={"weight": weight})
    assert methods() == before


def test_data_that_no_parameter_reaches_may_leave(weight):
    data = torch.ones(4)
    assert found(lambda: weight * data.numpy().sum() * sum(data.tolist()), weight) == set()


def test_another_threads_operations_are_read_off_the_graph(weight):
    def closure():
        with ThreadPoolExecutor() as pool:
            return pool.submit(weight.relu).result().square().sum() + pool.submit(weight.cos).result().sum()

    (relu,) = scan(closure, named_parameters={"weight": weight}).operations
    assert (relu.name, relu.smoothness, relu.parameters, relu.calls) == ("relu", C0, ("weight",), 1)


def test_what_was_computed_before_is_read_off_the_graph_once(weight):
    hidden = weight.relu()
    (relu,) = scan(lambda: hidden.sum() + hidden.exp().sum(), named_parameters={"weight": weight}).operations
    assert (relu.name, relu.parameters, relu.calls) == ("relu", ("weight",), 1)
    assert found(hidden.sum, hidden) == set()  # named itself: what lies behind it was not asked for


def test_operations_before_a_sparse_tensor_count(weight):
    assert found(lambda: torch.sparse.sum(weight.relu().to_sparse()), weight) == {("relu", C0)}


def test_operators_that_run_functions_are_unknown(weight):
    def branch():
        return torch.cond(weight.detach().sum() > 0, lambda x: x.relu(), lambda x: x.tanh(), (weight,)).sum()

    result = scan(branch, named_parameters={"weight": weight})
    assert {(o.name, o.smoothness, o.parameters) for o in result.operations if o.name == "cond"} == {
        ("cond", UNKNOWN, ("weight",))
    }
    assert ("cond", UNKNOWN) not in found(branch, weight, known={"cond": C0})


def test_flexible_attention_is_unknown():
    query = nn.Parameter(torch.randn(1, 1, 16, 16))

    @torch.no_grad()  # on a CPU it has no derivative
    def closure():
        copy = query.clone()
        return flex_attention(copy, copy, copy.abs()).sum()

    assert found(closure, query) == {
        ("flex_attention", UNKNOWN),
        ("abs", C0),
    }
