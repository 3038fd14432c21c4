"""The data of §3: the paper's shapes and law, and seeds that stay what they are."""

import pytest
import torch

from nonsmooth.claims.lasso.lasso_data import draw_lasso


def test_shapes_and_law_are_the_papers():
    drawn = draw_lasso(0, 6)
    assert (drawn.data.shape, drawn.response.shape, drawn.start.shape) == ((6, 20, 500), (6, 20), (6, 500))
    for part in (drawn.data, drawn.response, drawn.start):
        assert part.abs().max() <= 1
    assert drawn.data.mean().abs() < 0.01
    assert drawn.data.var().item() == pytest.approx(1 / 3, rel=0.02)


def test_a_seed_does_not_depend_on_its_company():
    together, alone = draw_lasso(3, 4), draw_lasso(5, 1)
    assert torch.equal(together.data[2], alone.data[0])
    assert torch.equal(together.response[2], alone.response[0])
    assert torch.equal(together.start[2], alone.start[0])


def test_a_signal_is_five_columns_and_permuting_it_keeps_its_entries():
    paper, signal, permuted = (draw_lasso(0, 3, response) for response in ("paper", "signal", "permuted"))
    assert torch.equal(paper.data, signal.data)
    assert torch.equal(signal.response.sort(-1).values, permuted.response.sort(-1).values)
    assert not torch.equal(signal.response, permuted.response)
    # Five columns with entries in [-1, 1] explain it: orthogonal matching of all columns leaves nothing.
    assert signal.response.abs().max() > 1
    assert torch.equal(draw_lasso(0, 3, start="zeros").start, torch.zeros(3, 500, dtype=torch.float64))


@pytest.mark.parametrize("words", [{"response": "noise"}, {"start": "ones"}])
def test_other_words_are_refused(words):
    with pytest.raises(ValueError, match="accepted are"):
        draw_lasso(0, 1, **words)
