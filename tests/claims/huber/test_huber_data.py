"""The shared data of §4: the paper's shapes, one data set a seed, the same one for every loss."""

import pytest
import torch

from nonsmooth.claims.huber.huber_data import draw_regression, draw_start, interpolant
from nonsmooth.problems import Power


@pytest.mark.parametrize("entries", ["uniform", "normal"])
def test_a_seed_has_its_own_data_whatever_the_loss_and_the_company(entries):
    several = draw_regression(entries, 3, 2)
    alone = draw_regression(entries, 4, 1, Power(2.0))
    assert several.data.shape == (2, 50, 200)
    assert torch.equal(several.data[1:], alone.data)
    assert torch.equal(several.response[1:], alone.response)
    assert torch.equal(draw_start(entries, 3, 2)[1:], draw_start(entries, 4, 1))
    assert (several.data.abs() <= 1).all() == (entries == "uniform")


def test_the_start_is_not_a_row_of_the_data():
    problem = draw_regression("uniform", 0, 1)
    assert not torch.isclose(problem.data, draw_start("uniform", 0, 1)).any()
    assert not draw_start("zero", 0, 1).any()


def test_unknown_entries_are_named():
    with pytest.raises(ValueError, match="entries are 'cauchy'"):
        draw_regression("cauchy", 0, 1)


def test_data_that_no_model_interpolates_have_no_interpolant():
    with pytest.raises(ValueError, match="not interpolated"):
        interpolant(draw_regression("normal", 0, 1, shape=(20, 5)))
