"""Claim `depth`: the plan, and the verdict under evidence of every kind."""

import math
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
        "left_at": None if stuck else round(1000 * math.exp(loss)),
        "mean_loss": CHANCE if stuck else loss,
        "loss_after": None if stuck else loss - 0.2,
        "final_loss": CHANCE if stuck else loss - 0.5,
        "diverged_at": None,
        "curve_step": [65, STEPS],
        "curve_loss": [CHANCE if stuck else loss, CHANCE if stuck else loss - 0.5],
        "test_loss": 1.0,
        "test_accuracy": 0.5,
    }
    parameters = {
        "activation": activation,
        "depth": d,
        "initialisation": "kaiming",
        "optimiser": optimiser,
        "learning_rate": rate,
        "steps": STEPS,
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
        ("smoothness", "shape", Verdict.WITH_CORRECTION),
        ("reversed", "reversed", Verdict.NOT_REPRODUCED),
        ("nothing", "nothing", Verdict.NOT_REPRODUCED),
        ("constant", "narrowing", Verdict.NOT_REPRODUCED),
        ("constant", "smoothness", Verdict.WITH_CORRECTION),
    ],
)
def test_the_verdict_follows_the_effects(sgd, adam, verdict):
    records = fabricate("sgd", *EFFECTS[sgd]) + fabricate("adam", *EFFECTS[adam])
    judgement = depth.study.judge(records)
    assert judgement.verdict is verdict
    if verdict is Verdict.WITH_CORRECTION:
        holds = "Adam" if adam == "smoothness" else "SGD with momentum 0.9"
        assert judgement.robustness.flips, "each optimiser alone says another thing"
        assert judgement.correction.startswith(f"It holds under {holds}, and not under")
    assert len(depth.study.draw(records)) == 3


def both(*effects, **options):
    return [record for o in ("sgd", "adam") for record in fabricate(o, *effects, **options)]


def judged(records):
    return depth.study.judge(records)


@pytest.mark.parametrize(
    ("effects", "noise", "question"),
    [
        ((widening, none), 0.6, "mean training loss, ReLU - GELU"),
        ((lambda d: 0.5 + 0.005 * (d - 11), none), 0.1, "its growth"),
        ((widening, widening), 0.05, "smoothness effect minus shape effect"),
    ],
)
def test_noise_leaves_a_question_open_and_more_seeds_are_asked_for(effects, noise, question):
    judgement = judged(both(*effects, noise=noise))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert f"{question} is" in judgement.decided_by.replace(" from shallowest to deepest", "")
    assert "repetitions would tell" in judgement.decided_by


@pytest.mark.parametrize("missing", ["sgd", "adam"])
@pytest.mark.parametrize("effects", EFFECTS.values())
def test_one_optimiser_alone_decides_nothing(missing, effects):
    """SGD's runs alone once gave "not reproduced", under a title that did not say so."""
    records = [record for record in both(*effects) if record.parameters["optimiser"] != missing]
    assert judged(records).verdict is Verdict.INCONCLUSIVE


def test_one_open_optimiser_keeps_the_verdict_open():
    noisy = fabricate("sgd", widening, none, noise=0.6)
    assert judged(noisy + fabricate("adam", widening, none)).verdict is Verdict.INCONCLUSIVE
    assert judged(noisy + fabricate("adam", none, reversed_)).verdict is Verdict.INCONCLUSIVE


def test_one_seed_and_losses_that_are_no_numbers_decide_nothing():
    one_seed = [record for record in both(widening, none) if record.cell.seed == 0]
    assert judged(one_seed).verdict is Verdict.INCONCLUSIVE
    no_number = [Record(r.cell, {**r.values, "mean_loss": math.nan}) for r in both(widening, none)]
    assert judged(no_number).verdict is Verdict.INCONCLUSIVE
    assert judged([]).verdict is Verdict.INCONCLUSIVE


def test_runs_that_never_leave_the_plateau_are_counted_and_enter_no_mean():
    def all_deep(d, _activation):
        return d > 11

    judgement = judged(both(widening, none, stuck=all_deep))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "networks of two depths" in judgement.decided_by
    values = {value.name: value for value in judgement.measured}
    assert values["left_relu_sgd"].value == pytest.approx(1 / 3)
    assert values["left_relu_sgd"].count == 3 * SEEDS
    assert values["gap_sgd"].value == pytest.approx(0.1, abs=0.02), "VGG11 alone"
    assert any(f"in {2 * SEEDS} of {3 * SEEDS} blocks" in note for note in judgement.notes)


def test_a_twin_that_stays_while_the_others_leave_counts_with_the_loss_it_had():
    """ReLU alone stuck in the deep networks is the paper's effect, and must not vanish with the blocks it is in."""

    def relu_deep(d, activation):
        return d > 11 and activation in ("relu", "piecewise-linear-gelu")

    judgement = judged(both(widening, none, stuck=relu_deep))
    assert judgement.verdict is Verdict.REPRODUCED
    times = next(value for value in judgement.measured if value.name == "time_gap_sgd")
    assert times.value == pytest.approx(math.exp(0.1), rel=0.02), "from VGG11, where all four left"


def test_when_no_run_leaves_the_verdict_is_open():
    records = both(widening, none, stuck=lambda _d, _a: True)
    assert judged(records).verdict is Verdict.INCONCLUSIVE
    assert len(depth.study.draw(records)) == 3


def test_a_part_of_the_factorial_decides_no_more_than_it_can():
    records = [r for r in both(none, widening) if r.parameters["activation"] in ("relu", "gelu")]
    assert judged(records).verdict is Verdict.INCONCLUSIVE, "what carries the gap is not known"
    records = [r for r in both(none, reversed_) if r.parameters["activation"] in ("relu", "gelu")]
    assert judged(records).verdict is Verdict.NOT_REPRODUCED, "there is no gap to carry"


def test_a_gap_that_equal_signals_take_away_is_not_given_to_shape():
    records = both(none, widening)
    matched = [
        Record(Cell("depth", {**r.parameters, "initialisation": "matched"}, seed=r.cell.seed), {**r.values, **same})
        for r in records
        if r.parameters["activation"] != "relu"
        for relu in records
        if relu.cell.seed == r.cell.seed and relu.parameters == {**r.parameters, "activation": "relu"}
        for same in ({name: relu[name] for name in ("mean_loss", "left_at", "loss_after", "curve_loss")},)
    ]
    assert judged(records).verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    judgement = judged(records + matched)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("first weights: matched" in flip.what for flip in judgement.robustness.flips)
    values = {value.name: value for value in judgement.control}
    assert values["gap_sgd_matched"].value == pytest.approx(0, abs=1e-9)


def test_equal_step_sizes_decide_and_own_best_stands_beside():
    good = both(none, widening, rates=(0.01,))
    bad_for_gelu = [Record(r.cell, {**r.values, "mean_loss": 2.2}) for r in both(none, widening, rates=(0.1,))]
    values = {value.name: value for value in judged(good + bad_for_gelu).control}
    assert values["shape_adam_tuned"].value == pytest.approx(2 * values["shape_adam"].value, rel=0.01)


def test_the_plan_crosses_everything_with_all_four_activations():
    cells = depth.study.plan(Settings(scale="standard"))
    kaiming = [cell for cell in cells if cell.parameters["initialisation"] == "kaiming"]
    for optimiser in ("sgd", "adam"):
        part = [cell for cell in kaiming if cell.parameters["optimiser"] == optimiser]
        assert len(part) == 4 * 3 * 3 * 3
    plain = [cell for cell in cells if cell.parameters["initialisation"] != "matched"]
    assert set(Counter(cell.parameters["activation"] for cell in plain).values()) == {len(plain) // 4}
    assert {cell.parameters["images"] for cell in cells} == {"cifar10"}
    quick = depth.study.plan(Settings(seeds=2, first_seed=5))
    assert {cell.seed for cell in quick} == {5, 6}
    assert {cell.parameters["images"] for cell in quick} == {"digits"}
    assert sum(cell.cost for cell in depth.study.plan(Settings())) < 160


def test_a_measured_cell_can_be_judged_and_drawn():
    cells = [
        Cell("depth", {**cell.parameters, "limit": 16, "test_limit": 10, "steps": 3, "batch_size": 4}, seed=0)
        for cell in depth.study.plan(Settings(seeds=1))
        if cell.parameters["depth"] == 11
    ]
    records = [Record(cell, depth.study.measure(cell, Context())) for cell in cells]
    assert depth.study.judge(records).verdict is Verdict.INCONCLUSIVE
    assert len(depth.study.draw(records)) == 3
