"""The two pictures of the edge of stability: four cases of the pair, and every network at its optimiser's threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from line_figure import Axis, Curve, Panel, picture

from nonsmooth.lab import Record

CASES_NAME, RUNS_NAME = "edge-of-stability.svg", "edge-of-stability-runs.svg"
CASES = {
    "tanh": "tanh network: smooth edge of stability",
    "gelu": "GELU network, small step: stable",
    "huber": "Huber regression, large step: bounded cycle",
    "lasso": "LASSO, large λ: across kinks",
}
"""The model of each panel of the first picture, and its title."""
LOOKS = {
    "sharpness": ("ours", "circle", "sharpness"),
    "midpoint": ("theory", "square-hollow", "sharpness at the midpoint"),
    "directional": ("control", "diamond-hollow", "directional smoothness"),
    "oscillation": ("c", "triangle-hollow", "smoothness of the oscillation"),
}
"""What is drawn, with its tone, its mark and its label."""


def cases(records: Sequence[Record]) -> str:
    """Sharpness and directional smoothness under gradient descent, on a logarithmic axis.

    Args:
        records: one for each of `CASES`.
    """
    panels = [
        _panel(record, title, ("sharpness", "directional"), Axis("over the threshold", 0.01, 10, log=True))
        for name, title in CASES.items()
        for record in records
        if record.parameters["model"] == name
    ]
    return picture(panels, 2, "Sharpness and directional smoothness over the stability threshold, four cases")


def runs(records: Iterable[Record], band: tuple[float, float]) -> str:
    """What sits at the threshold in every network's run, on a linear axis."""
    panels = []
    for record in records:
        p = record.parameters
        title = f"{p['model']}, {p['optimiser']}, α = {p['lr']:g}"
        shown = _panel(
            record, title, ("sharpness", "midpoint", "oscillation"), Axis("over the threshold", 0, 1.5), band
        )
        panels.append(shown)
    return picture(panels, 2, "Sharpness over the stability threshold against the step, for each network and optimiser")


def _panel(
    record: Record, title: str, readings: Sequence[str], height: Axis, band: tuple[float, float] | None = None
) -> Panel:
    last = record.parameters["steps"]
    edge = Curve("the threshold", "paper", [(0, 1), (last, 1)], dashed=True)
    if band is not None:
        label = "the threshold, " + " to ".join(f"{end:g}" for end in band) + " of it"
        edge = Curve(label, "paper", edge.points, [(x, *band) for x in (0, last)], dashed=True)
    curves = [edge]
    for name in readings:
        tone, mark, label = LOOKS[name]
        points = list(zip(record["step"], record[name], strict=True))
        curves.append(Curve(label, tone, points, marks=[mark] * len(points)))
    return Panel(title, Axis("step", 0, last), height, curves)
