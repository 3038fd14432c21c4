"""Figures of the claim `depth`: training curves as in Figure 2, effects with intervals, runs that left the plateau."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.networks.depth_effects import Effects, left_value
from nonsmooth.claims.networks.factorial import Block, Estimate
from nonsmooth.claims.networks.plateau import CHANCE, OPTIMISER_LABELS
from nonsmooth.models import ACTIVATIONS

TONES = dict(zip(ACTIVATIONS, "abcd", strict=True))
SHOWN_CONTRASTS = {"gap": "ReLU - GELU", "smoothness": "smoothness", "shape": "shape", "interaction": "interaction"}


def training_curves(analysis: Sequence[Effects]) -> Figure:
    """The paper's Figure 2, with four activations instead of two."""
    depths = sorted({block.depth for effects in analysis for block in effects.blocks})
    panels = [_curve_panel(effects, depth) for effects in analysis for depth in depths]
    return Figure(
        "Training curves",
        "Training loss by depth and optimiser, mean over seeds, at the step size whose mean loss over the four "
        "activations is lowest. If smoothness made the difference, ReLU and piecewise linear GELU (dashed, with kinks) "
        "would lie together, above smooth ReLU and GELU (solid); if shape does, ReLU lies with its smooth twin.",
        tuple(panel for panel in panels if panel is not None),
    )


def _curve_panel(effects: Effects, depth: int) -> Panel | None:
    blocks = [block for block in effects.blocks if block.depth == depth]
    if not blocks:
        return None
    groups: dict[tuple[str, float], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.initialisation, block.setting[1]), []).append(block)
    losses = {key: _group_loss(found) for key, found in groups.items()}
    best = min(losses, key=lambda key: (math.isnan(losses[key]), losses[key]))
    series = [_curve(groups[best], activation) for activation in ACTIVATIONS]
    end = max((step for step in series[0].x if isinstance(step, float)), default=1)
    chance = Series("line", "chance, ln 10", (0, end), (CHANCE, CHANCE), tone="neutral", dashed=True)
    title = f"VGG{depth}, {OPTIMISER_LABELS[effects.optimiser]} {best[1]:g}, {best[0]} weights"
    return Panel(title, Axis("step"), Axis("training loss (nats)"), (*series, chance))


def _group_loss(blocks: Sequence[Block]) -> float:
    return float(np.mean([run["mean_loss"] for block in blocks for run in block.runs.values()]))


def _curve(blocks: Sequence[Block], activation: str) -> Series:
    """Mean over seeds of the runs that did not diverge; none is shorter than another then."""
    runs = [block.runs[activation] for block in blocks if block.runs[activation]["diverged_at"] is None]
    steps = runs[0]["curve_step"] if runs else ()
    losses = np.mean([run["curve_loss"] for run in runs], axis=0) if runs else ()
    about = ACTIVATIONS[activation]
    return Series("line", about.label, steps, tuple(losses), tone=TONES[activation], dashed=not about.smooth)


def effect_intervals(analysis: Sequence[Effects]) -> Figure:
    """Main effects and interaction, over all depths and for each."""
    panels = []
    for effects in analysis:
        if not effects.overall:
            continue
        series = [_bars("all depths", effects.overall, "ours")]
        series += [
            _bars(f"VGG{depth}", contrasts, tone)
            for (depth, contrasts), tone in zip(effects.by_depth.items(), "abcdefg", strict=False)
        ]
        panels.append(
            Panel(
                OPTIMISER_LABELS[effects.optimiser],
                Axis("contrast"),
                Axis("difference in mean training loss (nats)"),
                tuple(series),
            )
        )
    return Figure(
        "What makes the difference",
        "ReLU minus GELU, and its two parts: kinks minus smooth at the same shape, and the shape of ReLU minus that of "
        "GELU at the same smoothness. Positive is slower training with ReLU, with kinks, or with the shape of ReLU; "
        "95 % intervals over seeds. The paper expects a positive gap that grows with depth, all of it from smoothness.",
        tuple(panels),
    )


def _bars(name: str, contrasts: Mapping[str, Estimate], tone: str) -> Series:
    chosen = [contrasts[contrast] for contrast in SHOWN_CONTRASTS]
    return Series(
        "bars",
        name,
        tuple(SHOWN_CONTRASTS.values()),
        [e.value for e in chosen],
        [e.low for e in chosen],
        [e.high for e in chosen],
        tone=tone,
    )


def runs_that_left(analysis: Sequence[Effects]) -> Figure:
    """How many runs left the plateau, by activation."""
    series = []
    for effects, tone in zip(analysis, "abcdefg", strict=False):
        values = [left_value(effects, activation) for activation in ACTIVATIONS]
        series.append(
            Series(
                "bars",
                OPTIMISER_LABELS[effects.optimiser],
                [about.label for about in ACTIVATIONS.values()],
                [None if v.value is None else float(v.value) for v in values],
                [v.low for v in values],
                [v.high for v in values],
                tone=tone,
            )
        )
    panel = Panel("All runs", Axis("activation"), Axis("share that left the plateau"), tuple(series))
    return Figure(
        "Runs that left the plateau",
        "Share of runs whose training loss fell clearly below chance, with exact 95 % intervals. A run that never left "
        "has no time to leave and no speed after it.",
        (panel,),
    )
