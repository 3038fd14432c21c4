"""The abstract's pruning: what can be removed from networks that learnt under an L1 penalty, and at what cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Claim,
    Evidence,
    Figure,
    Finding,
    Findings,
    Headline,
    NotStoredError,
    Outcome,
    Panel,
    Quantity,
    Row,
    Rule,
    Run,
    Scale,
    Series,
    Study,
    Verdict,
    above,
    below,
    median_interval,
)
from nonsmooth.claims.networks import small_networks as small
from nonsmooth.claims.networks.small_networks import LEARNT, NETWORK, worst
from nonsmooth.lab import Cell, Record

FRACTIONS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)
THRESHOLDS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
WINDOW = 100
"""Steps over which each weight's mean |gradient| is measured."""

STRENGTH = Choice(
    "strength",
    "middle",
    ("largest",),
    "λ: of those trained the",
    "At the largest one the penalty itself costs accuracy.",
    condition="at the {value} λ",
)
THRESHOLD = Choice(
    "threshold",
    1e-5,
    (1e-6, 1e-4, 1e-3, 1e-2),
    "threshold τ below which a weight is removed",
    "The paper's. It lies far below αλ, as it does at the paper's λ = 0.1.",
    condition="for a threshold of {value}",
)
SPARSITY = Choice(
    "sparsity",
    0.9,
    (0.8, 0.95),
    "share of the weights that is removed by magnitude",
    "Han et al. (2015) remove nine tenths.",
    condition="where {value} of the weights are removed",
)
FEW = Choice("few", 0.5, (0.25, 0.75), "share removed by τ that counts as a result", "More than half of the weights.")
COST = Choice("cost", 0.01, (0.005, 0.02), "loss of accuracy that counts as none", "One image in a hundred.")
LENGTH = Choice("length", -1, (0,), "run length, of those recorded, number", "The longest; the first is half of it.")

ACCURACY = Quantity("accuracy", "test accuracy before pruning, the least over the trainings")
GAIN = Quantity("gain", "accuracy after removal by magnitude: L1 penalty less none")
TWIN_GAIN = Quantity("twin_gain", "accuracy after removal by magnitude: subgradient less proximal steps")
BELOW = Quantity("below", "share of the weights below τ")
ZEROS = Quantity("zeros", "share of the weights at exactly 0, subgradient steps")
WIDTH = Quantity("width", "share of the weights within their swing α(λ+|g|) of 0")
WIDTH_COST = Quantity("width_cost", "accuracy lost by removing the weights within their swing")
WITHOUT = Quantity("without", "share removed by magnitude without a penalty, at least as many as within the swing")
WITHOUT_COST = Quantity("without_cost", "accuracy lost by that, without a penalty")
TWIN_ZEROS = Quantity("twin_zeros", "share of the weights at exactly 0, proximal steps")

CLAIM = Claim(
    id="pruning",
    plain="Removing small weights after training with an L1 penalty does not work as well as people expect.",
    title="L1 penalties for pruning",
    where="abstract, §3",
    statement=(
        "The subgradient method has no sparse solutions and a larger penalty may leave a larger norm; so L1 "
        "penalisation for network pruning does not yield the expected results."
    ),
    explanation="Weights oscillate within ±αλ of 0 and do not become small: below 1e-5 there is hardly any at λ = 0.1.",
    control=(
        "The same networks without a penalty, pruned by magnitude: a penalty that yields nothing prunes no better. "
        "Proximal steps at the same α and λ, which do reach 0: if the subgradient is the fault, they prune better."
    ),
    paper=(Quantity("below", "share of the weights below 1e-5 at λ = 0.1, VGG16").number(0.0001),),
)
RULE = Rule(
    Row(
        ~above(ACCURACY, LEARNT),
        Outcome(Verdict.INCONCLUSIVE, "the networks learn nothing", decided_by="smaller λ, or longer runs"),
    ),
    Row(~above(GAIN, 0), Outcome(Verdict.REPRODUCED, "the penalty prunes no better")),
    Row(~below(BELOW, FEW), Outcome(Verdict.NOT_REPRODUCED, "it prunes as expected")),
    Row(
        ~below(WIDTH_COST, COST),
        Outcome(
            Verdict.WITH_CORRECTION,
            "it prunes, by magnitude only",
            correction="A fixed threshold below αλ removes {below:.1%} of the weights; sorted by magnitude they can "
            "be removed.",
        ),
    ),
    otherwise=Outcome(
        Verdict.WITH_CORRECTION,
        "only the fixed threshold fails",
        correction="The weights never are 0 ({zeros:.1%}), and a threshold far below αλ removes {below:.1%} of them. "
        "But they lie within their swing: removing those within α(λ+|g|) of 0 removes {width:.0%} and costs "
        "{width_cost:.2%} of accuracy (without a penalty, removing {without:.0%} by magnitude costs "
        "{without_cost:.2%}), where proximal steps at the same α and λ have {twin_zeros:.0%} exact zeros; "
        "by magnitude the penalty keeps {gain:+.1%} accuracy against none, {twin_gain:+.2%} against proximal steps.",
    ),
    always="After removal by magnitude the accuracy with a penalty is {gain:+.1%} from that without.",
)
study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="L1 penalties do not prune as expected; 0.01 % of the weights below 1e-5",
        ours="{below:.1%} below τ, {width:.0%} within α(λ+|g|) at a cost of {width_cost:.2%}",
        control="against no penalty {gain:+.1%}, against proximal steps {twin_gain:+.2%}",
    ),
    choices=(LEARNT, STRENGTH, THRESHOLD, SPARSITY, FEW, COST, LENGTH, NETWORK),
)
SEED_AXES = {
    "accuracy": 1,
    "magnitude": 2,
    "below": 2,
    "below_accuracy": 2,
    "width": 1,
    "width_accuracy": 1,
    "zeros": 1,
}


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """For each network no penalty, and two λ by subgradient and by proximal steps."""
    for network in scale(("mlp",), tuple(small.NETWORKS)):
        images = scale.data if network != "mlp" else "digits"
        steps = 1600 if network == "mlp" else 10_000
        cost = steps * small.SECONDS_PER_STEP[network]
        rules = [("subgradient", 0.0)]
        rules += [(rule, one) for rule in ("subgradient", "proximal") for one in small.PENALTIES[network][1:]]
        for rule, penalty in rules:
            setting: dict[str, Any] = {"network": network, "images": images, "train_images": None, "steps": steps}
            yield pruned.cell(seeds=scale.seeds(6, 8), cost=cost, rule=rule, penalty=penalty, **setting)


@study.experiment(part="pruned", seed_axes=SEED_AXES)
def pruned(
    run: Run, *, network: str, images: str, train_images: int | None, steps: int, rule: str, penalty: float, seeds: int
) -> Mapping[str, Any]:
    """Shares removed and accuracies left, at half the run and at its end.

    Lists [length][seed]; `magnitude` [length][fraction][seed] and `below`, `below_accuracy` [length][threshold][seed].
    """
    networks = small.stack(run, network, images, train_images, penalty, rule, seeds)
    test = small.load(run, network, images, "test", None)
    values: dict[str, list[Any]] = {name: [] for name in SEED_AXES}
    pull = torch.zeros_like(networks.weights)
    for step in range(1, steps + 1):
        slope = networks.step()
        if (steps // 2 - step) % (steps - steps // 2) < WINDOW:
            pull += slope.abs() / WINDOW
        if step not in (steps // 2, steps):
            continue
        size = networks.weights.abs()

        def without(removed: Tensor) -> list[float]:
            return networks.accuracy(test, networks.weights.masked_fill(removed, 0.0)).tolist()

        order = size.argsort(1).argsort(1)
        within = size <= networks.lr * (penalty + pull)
        values["accuracy"].append(networks.accuracy(test).tolist())
        values["zeros"].append((size == 0).double().mean(1).tolist())
        values["magnitude"].append([without(order < fraction * size.shape[1]) for fraction in FRACTIONS])
        values["below"].append([(size < one).double().mean(1).tolist() for one in THRESHOLDS])
        values["below_accuracy"].append([without(size < one) for one in THRESHOLDS])
        values["width"].append(within.double().mean(1).tolist())
        values["width_accuracy"].append(without(within))
        pull.zero_()
    return {"lengths": [steps // 2, steps], "weights": networks.weights.shape[1], **values}


def _trained(evidence: Evidence, choices: Choices) -> dict[str, Record]:
    """The record without a penalty, and those of both rules at the λ that is asked for."""
    chosen = evidence[pruned].where(network=choices.network)
    if not len(chosen):
        raise NotStoredError(f"no network {choices.network} was trained")
    at = small.PENALTIES[choices.network][1 if choices.strength == "middle" else 2]
    return {
        "none": chosen.one(rule="subgradient", penalty=0.0),
        "subgradient": chosen.one(rule="subgradient", penalty=at),
        "proximal": chosen.one(rule="proximal", penalty=at),
    }


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """What each way of removing takes away and costs; differences are paired by seed."""
    records, at = _trained(evidence, choices), choices.length
    left = {name: np.asarray(r["magnitude"][at][FRACTIONS.index(choices.sparsity)]) for name, r in records.items()}
    ours, threshold = records["subgradient"], THRESHOLDS.index(choices.threshold)
    accuracy = np.asarray(ours["accuracy"][at])
    measured: list[Finding] = [
        worst(ACCURACY, [r["accuracy"][at] for r in records.values()], largest=False),
        BELOW.median(ours["below"][at][threshold]),
        ZEROS.median(ours["zeros"][at]),
        WIDTH.median(ours["width"][at]),
        WIDTH_COST.mean(accuracy - ours["width_accuracy"][at]),
    ]
    control: list[Finding] = [
        GAIN.mean(left["subgradient"] - left["none"]),
        TWIN_GAIN.mean(left["subgradient"] - left["proximal"]),
        TWIN_ZEROS.median(records["proximal"]["zeros"][at]),
    ]
    share = float(np.median(ours["width"][at]))
    if (fraction := next((one for one in FRACTIONS if one >= share), None)) is not None:
        none = records["none"]
        lost = np.asarray(none["accuracy"][at]) - none["magnitude"][at][FRACTIONS.index(fraction)]
        control += [WITHOUT.number(fraction), WITHOUT_COST.mean(lost)]
    else:
        control += [WITHOUT.missing(), WITHOUT_COST.missing()]
    for name, r in records.items():
        text = {"none": "no penalty", "subgradient": "L1, subgradient", "proximal": "L1, proximal"}[name]
        control.append(Quantity(f"accuracy_{name}", f"{text}: test accuracy").mean(r["accuracy"][at]))
        control.append(Quantity(f"left_{name}", f"{text}: test accuracy after removal by magnitude").mean(left[name]))
    lost = accuracy - ours["below_accuracy"][at][threshold]
    measured.append(Quantity("below_cost", "accuracy lost by removing the weights below τ").mean(lost))
    return Findings(measured, control)


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Accuracy against the share removed, at each λ."""
    del found
    panels = []
    for strength in (STRENGTH.value, *STRENGTH.alternatives):
        try:
            records = _trained(evidence, Choices(study.choices, {"strength": strength}))
        except NotStoredError:
            continue
        ours, lines = records["subgradient"], []
        for name, text, tone in (
            ("none", "no penalty, by magnitude", "control"),
            ("subgradient", "L1, by magnitude", "ours"),
            ("proximal", "L1 by proximal steps, by magnitude", "b"),
        ):
            middle, low, high = zip(*(median_interval(row) for row in records[name]["magnitude"][-1]), strict=True)
            lines.append(Series("line", text, FRACTIONS, middle, low, high, tone))
        tau = THRESHOLDS.index(THRESHOLD.value)
        for share, kept, text, tone in (
            (ours["below"][-1][tau], ours["below_accuracy"][-1][tau], f"below τ = {THRESHOLD.value:g}", "paper"),
            (ours["width"][-1], ours["width_accuracy"][-1], "within α(λ+|g|)", "theory"),
        ):
            value, least, most = median_interval(kept)
            lines.append(Series("points", text, [float(np.median(share))], [value], [least], [most], tone))
        penalty = ours.parameters["penalty"]
        panels.append(Panel(f"λ = {penalty:g}", Axis("share removed"), Axis("test accuracy"), tuple(lines)))
    return [
        Figure(
            "What can be removed",
            "Test accuracy against the share of weights removed. The fixed threshold of the paper removes almost "
            "nothing; the width of the swing removes about as much as proximal steps set to 0, or more.",
            tuple(panels),
        )
    ]
