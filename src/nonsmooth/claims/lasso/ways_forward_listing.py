"""What the page of claim `ways-forward` lists."""

from __future__ import annotations

import numpy as np

from nonsmooth import extremes
from nonsmooth.claims.framework import Finding, Quantity, format_number
from nonsmooth.claims.lasso.sparse_methods import ITERATIVE, METHODS, NAMED, ON_NETWORK, ON_SAMPLES, PLAIN
from nonsmooth.claims.lasso.sparse_runs import WIDTHS
from nonsmooth.claims.lasso.ways_forward_evidence import STEPS, Methods, place


def list_measured(methods: Methods) -> list[Finding]:
    """Zeros and residuals of NGDM and the named methods at λ = 0.1, and zeros and accuracy on the network."""
    values: list[Finding] = []
    at = methods.labels("full batch").index("0.1")
    for name in (PLAIN, *NAMED):
        for value, word in (("zeros", "exact zeros"), ("residual", "optimality residual / λ")):
            samples = methods.table("full batch", name, value)[at]
            values.append(Quantity(f"{value} {name}", f"{name}: {word}, λ = 0.1").median(samples))
    strongest = methods.labels("network")[0]
    for name in (PLAIN, *ITERATIVE):
        for value, word in (("zero_share", "share of exact zeros"), ("accuracy", "test accuracy")):
            samples = methods.table("network", name, value)[0]
            label = f"network, {name}: {word}, λ = {strongest}"
            values.append(Quantity(f"network {value} {name}", label).median(samples))
    return values


def list_controls(methods: Methods) -> list[Finding]:
    """The rounded NGDM, the wrong threshold, and the methods that the paper does not name, at λ = 0.1."""
    at = methods.labels("full batch").index("0.1")
    wanted = [
        (PLAIN, "rounded_wrong_in_support", "NGDM rounded at αλ: wrong entries in the support"),
        (PLAIN, "rounded_residual", "NGDM rounded at αλ: optimality residual / λ"),
        ("zero at crossing", "zeros", "zero at crossing: exact zeros"),
        ("zero at crossing", "residual", "zero at crossing: optimality residual / λ"),
        ("zero at crossing", "flicker", "zero at crossing: sign changes per step"),
        *((name, "residual", f"{name}: optimality residual / λ") for name in METHODS if name not in (*NAMED, PLAIN)),
    ]
    values: list[Finding] = [
        Quantity(f"{name} {value}", f"{label}, λ = 0.1").median(methods.table("full batch", name, value)[at])
        for name, value, label in dict.fromkeys(wanted)
    ]
    strength = methods.labels("network")[0]
    for value, word in (("rounded_zero_share", "share of zeros"), ("rounded_accuracy", "test accuracy")):
        samples = methods.table("network", PLAIN, value)[0]
        label = f"network, NGDM rounded at αλ: {word}, λ = {strength}"
        values.append(Quantity(f"network {value}", label).median(samples))
    return values


def list_notes(methods: Methods) -> tuple[str, ...]:
    """What a careful reader should know."""
    flicker = ", ".join(
        f"{name} {format_number(float(methods.medians('rows', name, 'flicker')[0]))}" for name in ON_SAMPLES
    )
    wrong = ", ".join(
        f"{name} {format_number(float(methods.medians('rows', name, 'wrong_in_support')[0]))}" for name in ON_SAMPLES
    )
    network = {name: float(methods.medians("network", PLAIN, f"{name}zero_share")[0]) for name in ("", "rounded_")}
    best = extremes.smallest(float(methods.medians("rows", name, "residual")[0]) for name in ON_SAMPLES)
    nearest = extremes.smallest(float(methods.medians("network", name, "residual")[0]) for name in ON_NETWORK)
    objective = float(methods.medians("network", PLAIN, "rounded_objective")[0])
    proximal = [float(methods.medians("network", "proximal gradient", k)[0]) for k in ("zero_share", "objective")]
    truncated, adaptive = (
        float(methods.medians("full batch", name, "lasso_residual")[1])
        for name in ("truncated gradient", "xRDA, adaptive")
    )
    settings = "; ".join(f"{name}: {method.settings}" for name, method in METHODS.items() if method.settings)
    return (
        f"With gradients from a few rows the smallest optimality residual at λ = 0.1 is {format_number(best)} λ. "
        f"Coordinates that change sign or leave or reach zero, per step: {flicker}. Wrong entries in the support: "
        f"{wrong}.",
        f"On the network NGDM has {format_number(network[''])} of its weights at zero; rounded at αλ "
        f"{format_number(network['rounded_'])}, with the objective {format_number(objective)}, where proximal SGD has "
        f"{format_number(proximal[0])} and {format_number(proximal[1])}. The smallest optimality residual among the "
        f"methods there is {format_number(nearest)} λ.",
        f"Transformed L1 and adaptive xRDA minimise objectives of their own, and are held to these; in the LASSO's "
        f"terms adaptive xRDA ends {format_number(adaptive)} λ from optimal at λ = 0.1. The truncated gradient, which "
        f"truncates after every tenth step, ends {format_number(truncated)} λ from it.",
        f"Settings: {settings}.",
    )


def list_budgets(methods: Methods) -> list[Finding]:
    """The residual of each named method at the slowest strength, by budget."""
    return [
        Quantity(
            f"budget_{n}_{name}".replace(" ", "_"), f"{name}: optimality residual / λ after {n:,} steps, λ = 0.01"
        ).median(row[0])
        for name in ITERATIVE
        for record in (methods.one("budgets", method=name),)
        for n, row in zip(record.parameters["budgets"], np.array(record["residual"]), strict=True)
    ]


def list_rounded(methods: Methods) -> list[Finding]:
    """Wrong entries in the support of the rounded NGDM at λ = 0.1, by width."""
    record, at = methods.one("rounded"), methods.labels("full batch").index("0.1")
    wrong = np.array(record["wrong_in_support"])[place(STEPS, record), :, at]
    return [
        Quantity(f"wrong_{i}", f"NGDM rounded at {name}: wrong entries in the support, λ = 0.1").median(row)
        for i, (name, row) in enumerate(zip(WIDTHS, wrong, strict=True))
    ]
