"""Claim `depth`: the plan, and the verdict under evidence of every kind."""

from collections import Counter

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import depth
from nonsmooth.claims.networks.plateau import CHANCE
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models import ACTIVATIONS

DEPTHS = (11, 13, 19)
SEEDS = 4
STEPS = 130


def fabricate(optimiser, smoothness, shape, *, noise=0.01, rates=(0.01,), stuck=lambda _depth, _activation: False):
    """Runs whose mean losses have given effects: functions of the depth, in nats."""
    records = []
    for d in DEPTHS:
        for rate in rates:
            for seed in range(SEEDS):
                for position, (name, about) in enumerate(ACTIVATIONS.items()):
                    kinks, like_relu = 1 - 2 * about.smooth, 1 if about.shape == "relu" else -1
                    jitter = noise * np.random.default_rng((d, seed, position)).normal()
                    loss = 1.5 + kinks * smoothness(d) / 2 + like_relu * shape(d) / 2 + jitter
                    records.append(one(optimiser, d, rate, seed, name, loss, stuck=stuck(d, name)))
    return records


def one(optimiser, d, rate, seed, activation, loss, *, stuck=False):
    values = {
        "left_at": None if stuck else max(20, round(20 * loss)),
        "mean_loss": CHANCE if stuck else loss,
        "loss_after": None if stuck else loss - 0.2,
        "final_loss": CHANCE if stuck else loss - 0.5,
        "diverged_at": None,
        "curve_step": [65, STEPS],
        "curve_loss": [CHANCE, CHANCE if stuck else loss - 0.5],
        "test_loss": 1.0,
        "test_accuracy": 0.5,
    }
    parameters = {
        "activation": activation,
        "depth": d,
        "initialisation": "kaiming",
        "optimiser": optimiser,
        "learning_rate": rate,
    }
    return Record(Cell("depth", parameters, seed=seed), values)


def widening(depth):
    return 0.1 + 0.03 * (depth - 11)


def narrowing(depth):
    return 0.4 - 0.03 * (depth - 11)


def none(_depth):
    return 0.0


def constant(_depth):
    return 0.3


def reversed_(depth):
    return -widening(depth)


EFFECTS = {
    "smoothness": (widening, none),
    "shape": (none, widening),
    "reversed": (none, reversed_),
    "nothing": (none, none),
    "constant": (constant, none),
    "narrowing": (narrowing, none),
}


@pytest.mark.parametrize(
    ("sgd", "adam", "verdict"),
    [
        ("smoothness", "smoothness", Verdict.REPRODUCED),
        ("smoothness", "reversed", Verdict.WITH_CORRECTION),
        ("nothing", "smoothness", Verdict.WITH_CORRECTION),
        ("shape", "shape", Verdict.EXPLANATION_NOT_SUPPORTED),
        ("reversed", "shape", Verdict.EXPLANATION_NOT_SUPPORTED),
        ("smoothness", "shape", Verdict.EXPLANATION_NOT_SUPPORTED),
        ("reversed", "reversed", Verdict.NOT_REPRODUCED),
        ("nothing", "nothing", Verdict.NOT_REPRODUCED),
        ("constant", "narrowing", Verdict.NOT_REPRODUCED),
        ("constant", "smoothness", Verdict.WITH_CORRECTION),
    ],
)
def test_the_verdict_follows_the_effects(sgd, adam, verdict):
    records = fabricate("sgd", *EFFECTS[sgd]) + fabricate("adam", *EFFECTS[adam])
    judgement = depth.judge(records)
    assert judgement.verdict is verdict
    if verdict is Verdict.WITH_CORRECTION:
        holds = "Adam" if adam == "smoothness" else "SGD with momentum 0.9"
        assert judgement.correction.startswith(f"It holds under {holds}, and not under")
    assert len(depth.draw(records)) == 3


@pytest.mark.parametrize(
    ("effects", "noise", "question"),
    [
        ((widening, none), 0.6, "the gap between ReLU and GELU"),
        ((lambda d: 0.5 + 0.005 * (d - 11), none), 0.1, "whether the gap widens with depth"),
        ((widening, widening), 0.05, "whether smoothness or shape is larger"),
    ],
)
def test_noise_leaves_a_question_open_and_more_seeds_are_asked_for(effects, noise, question):
    judgement = depth.judge(fabricate("adam", *effects, noise=noise))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert question in judgement.because
    assert "seeds" in judgement.decided_by
    assert question in judgement.decided_by


def test_one_open_optimiser_keeps_the_verdict_open_unless_shape_refutes_the_explanation():
    noisy = fabricate("sgd", widening, none, noise=0.6)
    assert depth.judge(noisy + fabricate("adam", widening, none)).verdict is Verdict.INCONCLUSIVE
    assert depth.judge(noisy + fabricate("adam", none, widening)).verdict is Verdict.EXPLANATION_NOT_SUPPORTED


def test_runs_that_never_leave_the_plateau_are_counted_and_enter_no_mean():
    def all_deep(d, _activation):
        return d > 11

    records = fabricate("sgd", widening, none, stuck=all_deep)
    judgement = depth.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "longer runs" in judgement.decided_by
    values = {value.name: value for value in judgement.measured}
    assert values["left_relu_sgd"].value == pytest.approx(1 / 3)
    assert values["left_relu_sgd"].count == 3 * SEEDS
    assert values["gap_sgd"].value == pytest.approx(0.1, abs=0.02), "VGG11 alone"
    assert any(note.startswith(f"In {2 * SEEDS} of {3 * SEEDS} blocks") for note in judgement.notes)


def test_a_twin_that_stays_while_the_others_leave_counts_with_the_loss_it_had():
    """ReLU alone stuck in the deep networks is the paper's effect, and must not vanish with the blocks it is in."""

    def relu_deep(d, activation):
        return d > 11 and activation in ("relu", "piecewise-linear-gelu")

    records = fabricate("sgd", widening, none, stuck=relu_deep)
    judgement = depth.judge(records)
    assert judgement.verdict is Verdict.REPRODUCED
    times = next(value for value in judgement.measured if value.name == "time_gap_sgd")
    assert times.value == pytest.approx(31 / 29, abs=0.05), "from VGG11, where all four left"


def test_when_no_run_leaves_the_verdict_is_open():
    judgement = depth.judge(fabricate("sgd", widening, none, stuck=lambda _d, _a: True))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "none of 48 runs left the plateau" in judgement.because
    assert judgement.headline.ours == "no run left the plateau"
    assert len(depth.draw(fabricate("sgd", widening, none, stuck=lambda _d, _a: True))) == 3


def test_a_part_of_the_factorial_can_be_judged():
    records = [r for r in fabricate("adam", none, widening) if r.parameters["activation"] != "gelu"]
    assert depth.judge(records).verdict is Verdict.INCONCLUSIVE
    assert depth.judge(records).because == "No block of four activations was measured."
    assert depth.judge(fabricate("adam", none, widening)).verdict is Verdict.EXPLANATION_NOT_SUPPORTED


def test_equal_step_sizes_decide_and_own_best_stands_beside():
    good = fabricate("adam", none, widening, rates=(0.01,))
    bad_for_gelu = [
        Record(r.cell, {**r.values, "mean_loss": 2.2}) for r in fabricate("adam", none, widening, rates=(0.1,))
    ]
    values = {value.name: value for value in depth.judge(good + bad_for_gelu).control}
    assert values["shape_adam_tuned"].value == pytest.approx(2 * values["shape_adam"].value, rel=0.01)


def test_the_plan_crosses_everything_with_all_four_activations():
    cells = depth.plan(Settings(scale="standard"))
    kaiming = [cell for cell in cells if cell.parameters["initialisation"] == "kaiming"]
    for optimiser in ("sgd", "adam"):
        part = [cell for cell in kaiming if cell.parameters["optimiser"] == optimiser]
        assert len(part) == 4 * 3 * 3 * 3
    assert set(Counter(cell.parameters["activation"] for cell in cells).values()) == {len(cells) // 4}
    assert {cell.parameters["images"] for cell in cells} == {"cifar10"}
    quick = depth.plan(Settings(seeds=2, first_seed=5))
    assert {cell.seed for cell in quick} == {5, 6}
    assert {cell.parameters["images"] for cell in quick} == {"digits"}
    assert sum(cell.cost for cell in depth.plan(Settings())) < 150


def test_a_measured_cell_can_be_judged_and_drawn():
    cells = [
        Cell("depth", {**cell.parameters, "limit": 16, "test_limit": 10, "steps": 3, "batch_size": 4}, seed=0)
        for cell in depth.plan(Settings(seeds=1))
        if cell.parameters["depth"] == 11
    ]
    records = [Record(cell, depth.measure(cell, Context())) for cell in cells]
    assert depth.judge(records).verdict is Verdict.INCONCLUSIVE
    assert len(depth.draw(records)) == 3
