"""The stationary law of each optimiser on λ|w|, λ over five decades: a picture for each, and the table of their scales.

    python benchmarks/stationary_laws.py [--output docs/concepts/stationary-law.md]

The pictures are written beside the page, and the table between its two comments.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
from line_figure import Axis, Curve, Panel, picture
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from nonsmooth import extremes
from nonsmooth.dynamics.stationary import StationaryLaw, stationary_law

STEP_SIZE = 0.01
PENALTIES = tuple(10.0 ** (-5 + k / 2) for k in range(11))
SHOWN = {1e-1: "ours", 1e-4: "control"}
"""λ whose whole distribution is drawn, and its tone."""

OPTIMISERS: dict[str, tuple[str, Callable[[list[Tensor], float], Optimizer]]] = {
    "sgd": ("SGD", lambda parameters, lr: SGD(parameters, lr=lr)),
    "momentum": ("SGD, momentum 0.9", lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9)),
    "nesterov": ("SGD, Nesterov 0.9", lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9, nesterov=True)),
    "adam": ("Adam", lambda parameters, lr: Adam(parameters, lr=lr)),
    "adamw": ("AdamW", lambda parameters, lr: AdamW(parameters, lr=lr)),
    "rmsprop": ("RMSprop", lambda parameters, lr: RMSprop(parameters, lr=lr)),
    "adagrad": ("Adagrad", lambda parameters, lr: Adagrad(parameters, lr=lr)),
}
TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)


def law_of(key: str, lam: float, step_size: float = STEP_SIZE) -> StationaryLaw:
    """The law of an optimiser with its default options."""
    return stationary_law(lambda parameters: OPTIMISERS[key][1](parameters, step_size), lam)


def draw(key: str, laws: dict[float, StationaryLaw]) -> str:
    """Mean and middle of |w| against λ, and the distribution of |w| at two λ."""
    name = OPTIMISERS[key][0]

    def shown(value: float) -> float:
        return extremes.largest(value, 1e-9)

    magnitudes = Axis("|w|", 1e-9, 1e-1, log=True)
    against = Panel(
        f"{name}, α = {STEP_SIZE:g}: |w| against λ",
        Axis("λ", PENALTIES[0], PENALTIES[-1], log=True),
        magnitudes,
        [
            Curve(
                "αλ/2", "neutral", [(lam, STEP_SIZE * lam / 2) for lam in (PENALTIES[0], PENALTIES[-1])], dashed=True
            ),
            Curve(
                "mean, middle 80 % (open: not settled)",
                "ours",
                [(lam, shown(law.mean_magnitude)) for lam, law in laws.items()],
                band=[(lam, shown(law.quantile(0.1)), shown(law.quantile(0.9))) for lam, law in laws.items()],
                marks=["circle" if law.settled else "circle-open" for law in laws.values()],
            ),
        ],
    )
    thresholds = [10.0 ** (-9 + k / 40) for k in range(321)]
    below = Panel(
        "share of |w| below τ",
        Axis("τ", 1e-9, 1e-1, log=True),
        Axis("share", 0, 1),
        [
            Curve(
                f"λ = {lam:g}",
                tone,
                [(threshold, nearest(laws, lam).fraction_below(threshold)) for threshold in thresholds],
                dashed=tone == "control",
            )
            for lam, tone in SHOWN.items()
        ],
    )
    return picture([against, below], 2, f"The stationary law of {name} against λ, and its distribution")


def nearest(laws: dict[float, StationaryLaw], lam: float) -> StationaryLaw:
    """The law at a λ that was measured up to rounding."""
    return min(laws.items(), key=lambda item: abs(math.log(item[0] / lam)))[1]


def growth(ratio: float) -> str:
    """A ratio that may be large, for a reader."""
    return f"{ratio:,.0f}" if ratio > 100 else f"{ratio:.3f}"


def table(measured: dict[str, dict[float, StationaryLaw]]) -> str:
    """A line for each optimiser: its floor at one λ, and how it changes with λ and with α."""
    lines = [
        "| optimiser | E\\|w\\| | in units of αλ | in units of α | λ times 10⁵ | α times 2 | exact zeros "
        "| flips per step | settled after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, laws in measured.items():
        law = nearest(laws, 0.1)
        ends = [nearest(laws, lam).mean_magnitude for lam in (PENALTIES[0], PENALTIES[-1])]
        doubled = law_of(key, 0.1, 2 * STEP_SIZE).mean_magnitude / law.mean_magnitude
        settled = f"{law.steps:,} steps" if law.settled else f"not within {law.steps:,} ({law.drift:+.2%})"
        lines.append(
            f"| {OPTIMISERS[key][0]} | {law.mean_magnitude:.3g} ± {law.standard_error:.1g} | "
            f"{law.mean_magnitude / (STEP_SIZE * 0.1):.3g} | {law.mean_magnitude / STEP_SIZE:.3g} | "
            f"× {growth(ends[1] / ends[0])} | × {doubled:.3g} | {law.exact_zeros:.1%} | {law.flips_per_step:.3f} | "
            f"{settled} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table and write it and the pictures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured = {}
    for key in OPTIMISERS:
        measured[key] = {lam: law_of(key, lam) for lam in PENALTIES}
        print(OPTIMISERS[key][0], "done", flush=True)
        if arguments.output is not None:
            picture_of = arguments.output.with_name(f"{arguments.output.stem}-{key}.svg")
            picture_of.write_text(draw(key, measured[key]), encoding="utf-8")
    text = table(measured)
    print(text)
    if arguments.output is not None:
        page = arguments.output.read_text(encoding="utf-8")
        arguments.output.write_text(TABLE.sub(rf"\g<1>\n{text}\n\g<2>", page), encoding="utf-8")


if __name__ == "__main__":
    main()
