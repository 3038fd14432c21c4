"""A full report of invented results: every verdict, every kind of series, long and short texts."""

import math
import random

import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.framework.quantity import Value
from nonsmooth.claims.framework.registry import CLAIM_IDS
from nonsmooth.claims.framework.results import _seeds, summarise, value_entries
from nonsmooth.figures.figure import Axis, Figure, Panel, Series
from nonsmooth.lab import Cell, Record

TITLES = (
    "Iterates leave the unit ball although the loss falls",
    "Non-smooth problems need quadratically more steps",
    "ReLU networks train slower than GELU networks, and depth widens the gap",
    "StepLR stops short of the minimum",
    "No coefficient becomes exactly zero",
    "The iterates end in a cycle of two",
    "A larger penalty, a larger norm, in two dimensions",
    "A larger penalty, a larger norm, on a LASSO problem",
    "The limit of the L1 norm is below αλ₁",
    "VGG16 with an L1 penalty under SGD",
    "The same paradox under Adam",
    "Convex functions never diverge",
    "Huber regression oscillates faster and never diverges",
    "The edge-of-stability threshold does not describe Huber regression",
    "Quadratic growth at the minimum, and still unstable convergence",
    "The ReLU regression is convex where no response is positive",
    "Specialised methods do give sparse solutions",
)


def value(name, label, number, spread=0.0, count=None, unit=""):
    low, high = (number - spread, number + spread) if spread else (None, None)
    return Value(name, label, number, low, high, count, unit)


def entry(index, claim_id, verdict):
    shared = ("norm_large", "L1 norm at the end, λ = 10")
    measured = (
        value(*shared, 25.37, 0.62, 128),
        value("norm_small", "L1 norm at the end, λ = 0.01", 1.618, 0.04, 128),
        value("share", "share of seeds in which the larger penalty ends with the larger norm", 1.0, count=128),
        value("parameters", "parameters", 138_357_544),
    )
    control = (
        value("norm_large", "the same with the responses permuted", 25.41, 0.66, 128),
        value("exact", "L1 norm of the certified solution", 0.0),
    )
    texts = (
        "With the same step size and the same start, the run with the larger penalty ends with the larger L1 norm. "
        "The penalty does not do what it is there for."
    )
    because = "The median norm is 25.37 at λ = 10 and 1.618 at λ = 0.01; permuting the responses leaves 25.41."
    judged = verdict is not None
    return {
        "id": claim_id,
        "title": TITLES[index % len(TITLES)],
        "where": ("§3, eq. 11", "§2, Proposition 2.1, Figure 1", "§4, eq. 13, Figure 3")[index % 3],
        "status": "judged" if judged else ("failed", "incomplete")[index % 2],
        "verdict": str(verdict) if judged else None,
        "because": because if judged else None,
        "error": None if judged else "2 of 12 cells failed",
        "plain": "A larger penalty should shrink the weights, and does the opposite.",
        "statement": texts,
        "explanation": "The method is not gradient descent: at a kink the penalty's subgradient does not vanish, so "
        "the iterates rattle across it with an amplitude that grows with αλ.",
        "control_experiment": "The same run with *permuted responses*: if the floor carries no information about "
        "the data, the norm stays where it is. The certified LASSO solution says what the penalty should have done.",
        "edition": "February 2024 (arXiv 2401.08426, early version)",
        "headline": {
            "paper": ("25.4 against 1.62", "O(1/ε²)", "0.0106 ≥ ‖β‖₁")[index % 3],
            "ours": ("25.37 against 1.618", "slope −1.98 [−2.01, −1.95]", "17 of 17 numbers")[index % 3],
            "control": ("25.41, permuted responses", "3 of 6 twins leave", "0 (certified)")[index % 3],
        }
        if judged
        else None,
        "paper": value_entries((value(*shared, 25.4), value("norm_small", "L1 norm at the end, λ = 0.01", 1.62))),
        "measured": value_entries(measured) if judged else [],
        "control": value_entries(control) if judged else [],
        "predicted": value_entries((value("norm_large", "P · αλ/2", 25.0),)) if judged else [],
        "correction": "‖β_k‖∞ < αλ₁, so ‖β_k‖₁ < P·αλ₁." if verdict is Verdict.WITH_CORRECTION else None,
        "decided_by": "about 400 seeds instead of 128" if verdict is Verdict.INCONCLUSIVE else None,
        "notes": ["The paper's text has λ = 0.01 and 0.1 for the same run.", "α is not given; it was swept."],
        "says": "the penalty does it" if judged else "",
        "asked": ["share", "norm_large"],
        "would_change": ["not reproduced, if the share of seeds: below 0.5 (now 1)"] if judged else [],
        "robustness": {
            "verdict": str(verdict),
            "stands": 6,
            "alternatives": 7,
            "flips": [{"what": "run length: 100 instead of 1,000", "verdict": "inconclusive"}],
            "not_judged": ["widths: 0.1 instead of 1: no records"],
            "unchanged": ["tolerance: 0.2 instead of 0.1"],
        }
        if judged
        else None,
        "choices": [
            {"name": "length", "label": "run length", "value": "1,000", "alternatives": ["100"], "why": "It is long."}
        ],
        "afterthoughts": [{"what": "the length", "when": "2026-11", "why": "It was short.", "changed": "Nothing."}],
        "rule": "Reproduced, if the larger penalty ends with the larger norm in more than half of the seeds.\n\n"
        "- The interval lies below one half: *not reproduced*.\n- It lies above, and the control differs by more\n"
        "  than a tenth: *reproduced, explanation not supported*.\n- Anything else: *inconclusive*.",
        "cells": 12,
        "seeds": _seeds([Cell(claim_id, {"seeds": 128})]),
        "seconds": 12.7 + index,
    }


def invented_figures():
    draw = random.Random(0)
    steps = [10 ** (i / 20) for i in range(80)]
    falling = [3 / step**0.5 * (1 + 0.1 * draw.random()) for step in steps]
    gap = [None if 30 < i < 35 else 2 / step for i, step in enumerate(steps)]
    loss = Panel(
        "loss",
        Axis("step + 1", log=True),
        Axis("loss L₂", log=True),
        (
            Series("band", "ReLU", steps, low=[y * 0.7 for y in falling], high=[y * 1.4 for y in falling], tone="ours"),
            Series("line", "ReLU", steps, falling, tone="ours"),
            Series("line", "softplus, width 0.1", steps, gap, tone="control", dashed=True),
            Series("line", "theory, 1/√k", steps, [3 / s**0.5 for s in steps], tone="theory", dashed=True),
            Series("horizontal", "αλ/2", y=(0.05,), tone="paper", dashed=True),
            Series("vertical", "last ReLU switches off", x=(300.0,), tone="neutral", dashed=True),
        ),
    )
    penalties = [10.0**k for k in range(-4, 3)]
    u_shape = Panel(
        "norm",
        Axis("penalty λ", log=True),
        Axis("L1 norm at the end", log=True),
        (
            Series("line", "ReLU", penalties, [3, 2.2, 1.6, 1.9, 4, 25, 240],
                   low=[2.6, 2, 1.5, 1.7, 3.6, 24, 230], high=[3.5, 2.5, 1.8, 2.2, 4.6, 27, 250]),
            Series("points", "the paper's numbers", [0.01, 10], [1.62, 25.4], tone="paper"),
        ),
    )  # fmt: skip
    categories = ("SGD", "Adam", "proximal SGD", "dual averaging")
    bars = Panel(
        "",
        Axis("method"),
        Axis("exact zeros, share"),
        tuple(
            Series("bars", f"{name} features", categories, [0, 0, 0.6 + i / 20, 0.7], low=[0, 0, 0.5 + i / 20, 0.6],
                   high=[0, 0.01, 0.75 + i / 20, 0.8], tone=tone)
            for i, (name, tone) in enumerate((("64", "a"), ("500", "b"), ("4,088", "c"), ("20", "d")))
        ),
    )  # fmt: skip
    cloud = Panel(
        "cloud",
        Axis("mean magnitude"),
        Axis("predicted, αλ/2"),
        tuple(
            Series("points", f"group {tone}", [draw.gauss(i, 0.3) for _ in range(200)],
                   [draw.gauss(i, 0.3) for _ in range(200)], tone=tone)
            for i, tone in enumerate("efg")
        ),
    )  # fmt: skip
    return [
        Figure("Loss and norm", "Left, the loss of one seed falls; right, the norm is U-shaped in λ.", (loss, u_shape)),
        Figure("Exact zeros", "Only the proximal methods and dual averaging reach zero exactly.", (bars,)),
        Figure("Prediction and measurement", "The three groups lie on the diagonal.", (cloud, u_shape, loss)),
    ]


@pytest.fixture(scope="session")
def invented():
    """Results of all claims, and figures of each that has a verdict."""
    cycle = [*Verdict, Verdict.REPRODUCED, Verdict.WITH_CORRECTION]
    entries = [entry(i, c, None if i == 13 else cycle[i % len(cycle)]) for i, c in enumerate(CLAIM_IDS)]
    origin = {
        "nonsmooth": "0.1.0",
        "torch": "2.13.0",
        "processor": "An invented processor",
        "cores": 2,
        "device": "cpu",
    }
    results = summarise(
        entries,
        Settings(),
        [Record(Cell("capture", {}), {}, origin=origin)],
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:09:17+00:00",
        seconds=312.4,
    )
    figures = {e["id"]: invented_figures()[: 1 + i % 3] for i, e in enumerate(entries) if e["verdict"]}
    assert math.isclose(results["seconds"], 312.4)
    return results, figures
