"""Figures of the claim `depth`: training curves as in Figure 2, effects with intervals, runs that left the plateau."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from nonsmooth.claims.framework import Axis, Estimate, Figure, Findings, Panel, Series
from nonsmooth.claims.networks.factorial import Block
from nonsmooth.claims.networks.plateau import CHANCE, OPTIMISER_LABELS
from nonsmooth.models import ACTIVATIONS

SHOWN = ("gap", "smoothness", "shape", "interaction", "gap_matched")


def figures(blocks: Mapping[str, Sequence[Block]], found: Findings) -> list[Figure]:
    """All three.

    Args:
        blocks: by optimiser.
        found: the contrasts.
    """
    kinds: dict[tuple[str, int, float | None], list[Block]] = defaultdict(list)
    for optimiser, members in blocks.items():
        for block in members:
            kinds[optimiser, block.depth, block.learning_rate].append(block)
    return [
        Figure(
            "Training curves",
            "Training loss by depth, optimiser and step size, mean over seeds. If smoothness made the difference, ReLU "
            "and piecewise linear GELU (dashed, with kinks) would lie together, above smooth ReLU and GELU (solid); if "
            "shape does, ReLU lies with its smooth twin.",
            tuple(
                _curves(f"VGG{depth}, {OPTIMISER_LABELS[optimiser]} {rate:g}", members)
                for (optimiser, depth, rate), members in kinds.items()
            ),
        ),
        _bars(
            "What makes the difference",
            "ReLU minus GELU, and its two parts: kinks minus smooth at the same shape, and the shape of ReLU minus "
            "that of GELU at the same smoothness; last the gap where every activation starts with the signal of ReLU. "
            "Positive is slower training with ReLU, with kinks, or with the shape of ReLU; 95 % intervals over seeds.",
            Axis("difference in mean training loss (nats)"),
            {
                label: [
                    found.get(f"{name.removesuffix('_matched')}_{o}{'_matched' * name.endswith('_matched')}")
                    for name in SHOWN
                ]
                for o, label in OPTIMISER_LABELS.items()
            },
            SHOWN,
        ),
        _bars(
            "Runs that left the plateau",
            "Share of runs whose training loss fell clearly below chance, with exact 95 % intervals. A run that never "
            "left has no time to leave and no speed after it.",
            Axis("share that left the plateau"),
            {
                label: [found.get(f"left_{name.replace('-', '_')}_{o}") for name in ACTIVATIONS]
                for o, label in OPTIMISER_LABELS.items()
            },
            [about.label for about in ACTIVATIONS.values()],
        ),
    ]


def _curves(title: str, blocks: Sequence[Block]) -> Panel:
    """Mean over seeds of the runs that did not diverge; none is shorter than another then."""
    series = []
    for tone, (name, about) in zip("abcd", ACTIVATIONS.items(), strict=True):
        runs = [run for b in blocks if (run := b.runs.get(name)) is not None and run["diverged_at"] is None]
        if runs:
            losses = np.mean([run["curve_loss"] for run in runs], axis=0)
            steps = runs[0]["curve_step"]
            series.append(Series("line", about.label, steps, tuple(losses), tone=tone, dashed=not about.smooth))
    series.append(Series("horizontal", "chance, ln 10", y=(CHANCE,), tone="neutral", dashed=True))
    return Panel(title, Axis("step"), Axis("training loss (nats)"), tuple(series))


def _bars(title: str, caption: str, axis: Axis, groups: Mapping[str, Sequence[object]], names: Sequence[str]) -> Figure:
    """A group of bars for each optimiser; what is missing is a gap."""
    series = []
    for (label, found), tone in zip(groups.items(), "ab", strict=True):
        known = [(e.value, e.lower, e.upper) if isinstance(e, Estimate) else (None,) * 3 for e in found]
        value, low, high = zip(*known, strict=True)
        series.append(Series("bars", label, names, value, low, high, tone=tone))
    return Figure(title, caption, (Panel("All depths", Axis(""), axis, tuple(series)),))
