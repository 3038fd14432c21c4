"""Every generator draws the same numbers again."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from nonsmooth.preserve_state import RandomState


def module_with(seed):
    module = nn.Linear(2, 2)
    module.generator = torch.Generator().manual_seed(seed)
    return module


def test_all_draw_the_same_numbers_again():
    first, second = module_with(1), module_with(2)

    def drawn():
        own = [torch.rand((), generator=module.generator).item() for module in (first, second)]
        return [torch.rand(()).item(), random.random(), float(np.random.rand()), float(np.random.randn()), *own]

    np.random.randn()  # NumPy keeps the second of a pair
    state = RandomState([first])
    state.add(second)
    with state.watched():
        expected = drawn()
    assert drawn() != expected
    for _ in range(2):
        state.restore()
        assert drawn() == expected


def test_numpy_may_have_another_bit_generator():
    kept = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(0))
        state = RandomState()
        with state.watched():
            expected = np.random.rand()
        state.restore()
        assert np.random.rand() == expected
    finally:
        np.random.set_bit_generator(kept)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_same_numbers_again_wherever_the_parameters_lie():
    torch.rand((), device="cuda")
    state = RandomState([nn.Linear(2, 2)])
    with state.watched():
        expected = torch.rand(3, device="cuda")
    state.restore()
    assert torch.equal(torch.rand(3, device="cuda"), expected)
