"""Claim `capture`: the measurement against a plain loop, and the verdict under evidence of every kind."""

from itertools import pairwise

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import capture, capture_runs
from nonsmooth.lab import Cell, Context, Record

COUNT = 32


def fabricate(box, ball, line=True, count=COUNT):
    """Records in which given shares of the seeds leave: `box` and `ball` map a link to a share."""
    records = []
    for test, shares in (("box", box), ("ball", ball)):
        for link in capture.LINKS:
            leaving = round(count * shares.get(link, shares["twins"]))
            # Mixed, so that each group of seeds has its share.
            left = [1 if i * leaving % count < leaving else -1 for i in range(count)]
            values = {
                "step_sizes": list(capture.STEP_SIZES),
                "fell": [[True] * count] * len(capture.STEP_SIZES),
                "left": [left] * len(capture.STEP_SIZES),
                "first_crossing": [[3] * count] * len(capture.STEP_SIZES),
                "last_active": [[9] * count] * len(capture.STEP_SIZES),
                "euclidean_start": [12.9] * count,
                "minimiser_size": [0.0] * count,
                "curve_step": [0, 1],
                "curve_loss": [[2.0, 1.0]] * len(capture.STEP_SIZES),
                "curve_size": [[0.9, 1.1]] * len(capture.STEP_SIZES),
            }
            records.append(Record(Cell("capture", {"test": test, "link": link, "seeds": count, "steps": 1}), values))
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
        ({"relu": 1.0, "twins": 0.4}, {"twins": 0.0}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(box, ball, verdict):
    judgement = capture.study.judge(fabricate(box, ball))
    assert judgement.verdict is verdict
    assert capture.study.draw(fabricate(box, ball))


def test_a_run_whose_loss_rises_does_not_leave():
    records = fabricate({"relu": 1.0, "twins": 0.0}, {"twins": 0.0})
    next(r for r in records if r.parameters["link"] == "relu").values["fell"][:] = [[False] * COUNT] * len(
        capture.STEP_SIZES
    )
    assert capture.study.judge(records).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize("records", [[], fabricate({"relu": 1.0, "twins": 0.0}, {"twins": 0.0})[1:]])
def test_a_missing_part_decides_nothing(records):
    assert capture.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_one_seed_decides_nothing():
    records = fabricate({"relu": 1.0, "twins": 1.0}, {"twins": 1.0}, count=1)
    assert capture.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_wide_twin_that_stays_is_named_and_does_not_turn_the_verdict_silently():
    ball = {link: 0.0 if link.endswith("1.0") else 1.0 for link in capture.LINKS}
    judgement = capture.study.judge(fabricate({"relu": 1.0, "twins": 1.0}, {**ball, "twins": 1.0}))
    assert judgement.verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    assert [(f.verdict, "widths" in f.what) for f in judgement.robustness.flips] == [(Verdict.REPRODUCED, True)]
    assert "This holds with joints of all widths" in judgement.because


def test_the_note_on_the_proposition_follows_the_line():
    false = capture.study.judge(fabricate({"twins": 1.0}, {"twins": 0.0}, line=True))
    assert any("is false" in note for note in false.notes)
    true = capture.study.judge(fabricate({"twins": 1.0}, {"twins": 0.0}, line=False))
    assert not any("is false" in note for note in true.notes)


def test_a_measurement_agrees_with_autograd_and_a_loop():
    cell = Cell("capture", {"test": "box", "link": "softplus 0.1", "seeds": 2, "steps": 40}, seed=3)
    values = capture.study.measure(cell, Context())
    data, response, start = capture_runs.draw_data(3, 2)
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
    data, response, _ = capture_runs.draw_data(0, 1)
    for name in ("quadratic 0.1", "softplus 1.0"):
        link = capture_runs.twin_link(name)
        free = capture_runs.find_minimizer(data[0], response[0], link).requires_grad_()
        loss = (response[0] - link.value(data[0] @ free)).square().sum() + 0.01 * free.square().sum()
        (slope,) = torch.autograd.grad(loss, free)
        assert slope.abs().max() < 1e-4


def test_the_plan_has_the_paper_and_its_controls():
    cells = capture.study.plan(Settings(seeds=5, first_seed=7))
    assert {c.parameters.get("link") for c in cells} == {None, *capture.LINKS}
    assert all(c.seed == 7 and c.parameters["seeds"] == 5 for c in cells if c.parameters["test"] != "line")


def test_a_step_that_is_no_number_decides_nothing():
    records = fabricate({"relu": 1.0, "twins": 1.0}, {"twins": 0.0})
    first = next(r for r in records if r.parameters.get("link") == "relu")
    first.values["left"][:] = [[float("nan")] * COUNT] * len(capture.STEP_SIZES)
    assert capture.study.judge(records).verdict is Verdict.INCONCLUSIVE
