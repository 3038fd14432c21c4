"""Figures of the claims about VGG16 under an L1 penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nonsmooth import extremes
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.dynamics.stationary import subgradient_law
from nonsmooth.lab import Record
from nonsmooth.models.vgg16 import PARAMETERS

TONES = {"trained": "ours", "random labels": "control", "another initialisation": "c", "proximal twin": "b"}


def subgradient_figures(
    records: Sequence[Record], paper_norms: Mapping[float, float], paper_below: Mapping[float, float]
) -> list[Figure]:
    """The norm along the run, the norm against λ, and the fraction below τ."""
    panels = [_norm_along(records, paper_norms), _norm_against_penalty(records), _below_threshold(records, paper_below)]
    return [
        Figure(
            "Where the weights of VGG16 end",
            "Left: the L1 norm falls until it meets P·αλ/2, and stays there. Middle: against λ the norm is U-shaped; "
            "its right-hand branch is that floor, for true labels and random ones. Right: below αλ the weights are "
            "uniform.",
            tuple(panel for panel in panels if panel.series),
        )
    ]


def _norm_along(records: Sequence[Record], paper_norms: Mapping[float, float]) -> Panel:
    series = []
    chosen = [r for r in runs.select(records, part="full") if r.parameters["step_size"] == runs.STEP_SIZE]
    for r in chosen:
        kind, penalty = runs.role(r), r.parameters["penalty"]
        series.append(
            Series(
                "line",
                f"{kind}, λ = {penalty:g}",
                runs.thinned(r["step"]),
                runs.thinned([extremes.largest(v, 1e-3) for v in r["l1_norms"]]),
                tone=TONES[kind] if penalty == 0.1 else "neutral",
            )
        )
    for penalty in sorted({r.parameters["penalty"] for r in chosen}):
        floor = PARAMETERS * runs.STEP_SIZE * penalty / 2
        series.append(Series("horizontal", f"P·αλ/2, λ = {penalty:g}", y=[floor], tone="theory", dashed=True))
        if penalty in paper_norms:
            series.append(Series("horizontal", f"the paper, λ = {penalty:g}", y=[paper_norms[penalty]], tone="paper"))
    return Panel("Full size: along the run", Axis("step"), Axis("L1 norm", log=True), tuple(series))


def _norm_against_penalty(records: Sequence[Record]) -> Panel:
    series = []
    for kind, tone in TONES.items():
        found = runs.select(records, part="narrow", role=kind)
        if not found:
            continue
        penalties = [r.parameters["penalty"] for r in found]
        norms = [extremes.largest(runs.settled_norm(r) / r["parameters"], 1e-9) for r in found]
        series.append(Series("points", kind, penalties, norms, tone=tone))
        if kind == "trained":
            floor = [r.parameters["step_size"] * r.parameters["penalty"] / 2 for r in found]
            series.append(Series("line", "αλ/2", penalties, floor, tone="theory", dashed=True))
    return Panel("Narrow: against λ", Axis("λ", log=True), Axis("L1 norm per weight", log=True), tuple(series))


def _below_threshold(records: Sequence[Record], paper_below: Mapping[float, float]) -> Panel:
    series = []
    for penalty, tone in ((0.1, "ours"), (0.001, "b")):
        main = runs.full_size_run(records, penalty)
        if main is None:
            continue
        shown = [(t, b) for t, b in zip(main["thresholds"], main["below"], strict=True) if b > 0]
        law = subgradient_law(runs.STEP_SIZE, penalty)
        x = [t for t, _ in shown]
        series += [
            Series("points", f"ours, λ = {penalty:g}", x, [b for _, b in shown], tone=tone),
            Series(
                "line", f"τ/(αλ), λ = {penalty:g}", x, [law.fraction_below(t) for t in x], tone="theory", dashed=True
            ),
            Series("points", f"the paper, λ = {penalty:g}", [runs.SMALL], [paper_below[penalty]], tone="paper"),
        ]
    return Panel("Full size: below a threshold", Axis("τ", log=True), Axis("fraction below τ", log=True), tuple(series))


def optimiser_figures(records: Sequence[Record]) -> list[Figure]:
    """The L1 norm per weight along Adam's runs, and where each optimiser ends against λ."""
    panels = (*_along_adam(records), _ends(records))
    return [
        Figure(
            "Adam's floor is set by α, plain SGD's by α·λ",
            "The L1 norm per weight falls to the floor that the optimiser's law on λ|w| predicts (dashed). Under Adam "
            "the runs at both λ meet at one floor; under plain SGD the floor grows with λ.",
            tuple(panel for panel in panels if panel.series),
        )
    ]


def _along_adam(records: Sequence[Record]) -> list[Panel]:
    """Along the runs with Adam: a panel for the full size and one for the narrow network."""
    panels = []
    tones = {(0.01, 0.001): "b", (0.01, 0.1): "ours", (0.001, 0.001): "d", (0.001, 0.1): "c"}
    for part, title in (("full", "Adam, full size"), ("narrow", "Adam, narrow")):
        found = runs.select(records, part=part, rule="adam", role="trained")
        series = []
        for r in (r for r in found if r.seed == found[0].seed):
            p = r.parameters
            tone = tones.get((p["step_size"], p["penalty"]), "neutral")
            norms = [extremes.largest(v / r["parameters"], 1e-9) for v in runs.thinned(r["l1_norms"])]
            label = f"α = {p['step_size']:g}, λ = {p['penalty']:g}"
            series.append(Series("line", label, runs.thinned(r["step"]), norms, tone=tone))
        for (rule, step_size, penalty), law in sorted(runs.laws_of(records).items()):
            if series and rule == "adam" and penalty == max(runs.PENALTIES):
                floor = [law["mean_magnitude"]]
                series.append(Series("horizontal", f"law, α = {step_size:g}", y=floor, tone="theory", dashed=True))
        panels.append(Panel(title, Axis("step"), Axis("L1 norm per weight", log=True), tuple(series)))
    return panels


def _ends(records: Sequence[Record]) -> Panel:
    """Where settled runs end, against λ."""
    series = []
    tones = iter("abcdefg")
    trained = [r for r in runs.select(records, role="trained") if runs.has_settled(r)]
    for rule, step_size in sorted({(r.parameters["rule"], r.parameters["step_size"]) for r in trained}):
        found = [r for r in trained if (r.parameters["rule"], r.parameters["step_size"]) == (rule, step_size)]
        x = [r.parameters["penalty"] for r in found]
        y = [runs.settled_norm(r) / r["parameters"] for r in found]
        series.append(Series("points", f"{runs.NAMES[rule]}, α = {step_size:g}", x, y, tone=next(tones)))
        law = {
            p: r["mean_magnitude"]
            for (o, a, p), r in sorted(runs.laws_of(records).items())
            if (o, a) == (rule, step_size)
        }
        if law:
            name = f"law, {runs.NAMES[rule]}, α = {step_size:g}"
            series.append(Series("line", name, list(law), list(law.values()), tone="theory", dashed=True))
    return Panel("At the end", Axis("λ", log=True), Axis("L1 norm per weight", log=True), tuple(series))
