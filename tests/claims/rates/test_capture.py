"""Claim `capture`: the measurement against a plain loop, and the verdict under evidence of every kind."""

from itertools import pairwise

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import capture
from nonsmooth.lab import Cell, Context, Record

COUNT = 32


def fabricate(box, ball, line=True):
    """Records in which given shares of the seeds leave: `box` and `ball` map a link to a share."""
    records = []
    for test, shares in (("box", box), ("ball", ball)):
        for link in capture.LINKS:
            leaving = round(COUNT * shares.get(link, shares["twins"]))
            left = [1] * leaving + [-1] * (COUNT - leaving)
            values = {
                "step_sizes": [1e-3],
                "fell": [[True] * COUNT],
                "left": [left],
                "first_crossing": [[3] * COUNT],
                "last_active": [[9] * COUNT],
                "euclidean_start": [12.9] * COUNT,
                "minimiser_size": [0.0] * COUNT,
                "curve_step": [0, 1],
                "curve_loss": [[2.0, 1.0]],
                "curve_size": [[0.9, 1.1]],
            }
            records.append(Record(Cell("capture", {"test": test, "link": link}), values))
    values = {"counterexample": line, "farthest": -2.7 if line else -0.5}
    return [*records, Record(Cell("capture", {"test": "line"}), values)]


@pytest.mark.parametrize(
    ("box", "ball", "verdict"),
    [
        ({"relu": 1.0, "twins": 0.0}, {"twins": 0.0}, Verdict.REPRODUCED),
        ({"relu": 1.0, "twins": 1.0}, {"relu": 1.0, "twins": 0.0}, Verdict.REPRODUCED),
        ({"relu": 1.0, "twins": 1.0}, {"twins": 0.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"relu": 1.0, "twins": 1.0}, {"twins": 1.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"relu": 0.0, "twins": 1.0}, {"twins": 0.0}, Verdict.NOT_REPRODUCED),
        ({"relu": 0.5, "twins": 1.0}, {"twins": 0.0}, Verdict.INCONCLUSIVE),
        ({"relu": 1.0, "twins": 0.3}, {"twins": 0.0}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(box, ball, verdict):
    judgement = capture.judge(fabricate(box, ball))
    assert judgement.verdict is verdict
    assert capture.draw(fabricate(box, ball))


def test_a_run_whose_loss_rises_does_not_leave():
    records = fabricate({"relu": 1.0, "twins": 0.0}, {"twins": 0.0})
    next(r for r in records if r.parameters["link"] == "relu").values["fell"][0] = [False] * COUNT
    assert capture.judge(records).verdict is Verdict.NOT_REPRODUCED


def test_the_note_on_the_proposition_follows_the_line():
    false = capture.judge(fabricate({"twins": 1.0}, {"twins": 0.0}, line=True))
    assert any("is false" in note for note in false.notes)
    true = capture.judge(fabricate({"twins": 1.0}, {"twins": 0.0}, line=False))
    assert not any("is false" in note for note in true.notes)


def test_a_measurement_agrees_with_autograd_and_a_loop():
    cell = Cell("capture", {"test": "box", "link": "softplus 0.1", "seeds": 2, "steps": 40}, seed=3)
    values = capture.measure(cell, Context())
    data, response, start = capture._draw(3, 2)
    for column, alpha in enumerate(capture.STEP_SIZES):
        for i in range(2):
            beta, losses, sizes = start[i].clone(), [], []
            for _ in range(41):
                free = beta.clone().requires_grad_()
                fitted = torch.nn.functional.softplus(data[i] @ free, beta=10.0, threshold=1e4)
                loss = (response[i] - fitted).square().sum() + 0.01 * free.square().sum()
                loss.backward()
                losses.append(loss.item())
                sizes.append(beta.abs().max().item())
                beta = beta - alpha * free.grad
            fell = all(b <= a for a, b in pairwise(losses))
            left = next((k for k, size in enumerate(sizes) if size >= 1), -1)
            assert values["fell"][column][i] == fell
            assert values["left"][column][i] == left


def test_a_twins_minimiser_has_no_slope():
    data, response, _ = capture._draw(0, 1)
    for name in ("quadratic 0.1", "softplus 1.0"):
        link = capture._link(name)
        free = capture._minimiser(data[0], response[0], link).requires_grad_()
        loss = (response[0] - link.value(data[0] @ free)).square().sum() + 0.01 * free.square().sum()
        (slope,) = torch.autograd.grad(loss, free)
        assert slope.abs().max() < 1e-4


def test_the_plan_has_the_paper_and_its_controls():
    cells = capture.plan(Settings(seeds=5, first_seed=7))
    assert {c.parameters.get("link") for c in cells} == {None, *capture.LINKS}
    assert all(c.seed == 7 and c.parameters["seeds"] == 5 for c in cells if c.parameters["test"] != "line")
