"""The precision that a loss computes in, read off the functions that it calls, on a GPU that need not exist."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from nonsmooth.curvature.modes import WatchedFunctions

SINGLE, TENSOR_FLOAT = torch.finfo(torch.float32).eps, 2.0**-10


def multiply():
    square = torch.ones(3, 3, device="cuda")
    return square @ square


def attend():
    token = torch.ones(1, 1, 2, 4, device="cuda")
    return functional.scaled_dot_product_attention(token, token, token)


def convolve():
    image = torch.ones(1, 1, 3, 3, device="cuda")
    return functional.conv2d(image, image)


def recur():
    shapes = (1, 1, 2), (1, 1, 2), (8, 2), (8,)
    token, state, weight, bias = (torch.ones(*shape, device="cuda") for shape in shapes)
    weights = [weight, weight, bias, bias]
    return torch.lstm(token, (state, state), weights, True, 1, 0.0, False, False, True)[0]


def add():
    return torch.ones(3, device="cuda") + 1


def multiply_in_double_precision():
    square = torch.ones(3, 3, device="cuda", dtype=torch.float64)
    return square @ square


def on_the_cpu():
    return torch.ones(3, 3) @ torch.ones(3, 3)


def the_newer_way(precision, operation):
    backend = torch.backends.cuda if operation == "matmul" else torch.backends.cudnn
    getattr(backend, operation).fp32_precision = precision


def the_older_way(precision, operation):
    if operation == "matmul":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    else:
        # What `torch.backends.cudnn.allow_tf32 = ...` calls, which PyTorch's own testing modules forbid once imported.
        torch._C._set_cudnn_allow_tf32(precision == "tf32")


@pytest.fixture(autouse=True)
def settings_of_the_process():
    parts = [(torch.backends.cuda, "matmul"), (torch.backends.cudnn, "conv"), (torch.backends.cudnn, "rnn")]
    before = [getattr(backend, name).fp32_precision for backend, name in parts]
    yield
    for (backend, name), precision in zip(parts, before, strict=True):
        getattr(backend, name).fp32_precision = precision


def precision_of(closure):
    with FakeTensorMode(allow_non_fake_inputs=True), WatchedFunctions() as watched:
        closure()
    return watched.precision


@pytest.mark.parametrize("way", [the_newer_way, the_older_way])
@pytest.mark.parametrize(
    ("closure", "operation"), [(multiply, "matmul"), (attend, "matmul"), (convolve, "conv"), (recur, "rnn")]
)
def test_products_on_a_gpu_are_as_coarse_as_it_was_told(closure, operation, way):
    way("tf32", operation)
    assert precision_of(closure) == TENSOR_FLOAT
    way("ieee", operation)
    assert precision_of(closure) == SINGLE


@pytest.mark.parametrize(
    ("closure", "expected"),
    [
        (lambda: torch.linalg.multi_dot([torch.ones(3, 3, device="cuda")] * 3), TENSOR_FLOAT),
        (lambda: torch.ones(3, 3, device="cuda").addmm_(*[torch.ones(3, 3, device="cuda")] * 2), TENSOR_FLOAT),
        (
            lambda: torch.ones(3, 3, device="cuda", dtype=torch.complex64).matmul(
                *[torch.ones(3, 3, device="cuda", dtype=torch.complex64)]
            ),
            TENSOR_FLOAT,
        ),
        (add, SINGLE),
        (on_the_cpu, SINGLE),
        (multiply_in_double_precision, torch.finfo(torch.float64).eps),
    ],
)
def test_what_is_a_product_in_single_precision_on_a_gpu(closure, expected):
    the_newer_way("tf32", "matmul")
    assert precision_of(closure) == expected
