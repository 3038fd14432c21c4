"""The L1 norm that the stationary law predicts before training, against that of a penalised network after it.

    python benchmarks/floor_of_a_network.py [--quick] [--output docs/benchmarks/floor.md]

The network of Figure 2 (App. A) with 9 layers of weights, on scikit-learn's digits, cross-entropy + λ‖w‖₁ over all
parameters by torch's own optimisers. Three predictions: from the weights that the network starts with, from the
optimiser alone, and in closed form. The picture is written beside the page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from line_figure import Axis, Curve, Panel, picture
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from nonsmooth import extremes
from nonsmooth.data import load_images
from nonsmooth.dynamics.stationary import StationaryLaw, stationary_law
from nonsmooth.models import vgg

STEP_SIZE = 0.01
PENALTIES = (1.0, 0.1, 0.01)
BATCH, WINDOW, COORDINATES = 8, 256, 1 << 16
THRESHOLD = 1e-4
OPTIMISERS: dict[str, tuple[Callable[[list[Tensor]], Optimizer], float]] = {
    "SGD": (lambda parameters: SGD(parameters, lr=STEP_SIZE), 0.01),
    "SGD, momentum 0.9": (lambda parameters: SGD(parameters, lr=STEP_SIZE, momentum=0.9), 0.01),
    "Adam": (lambda parameters: Adam(parameters, lr=STEP_SIZE), 0.03),
}
"""What makes the optimiser, and the relative error that its prediction may have."""


@dataclass(frozen=True)
class Comparison:
    """A network against its predictions.

    Attributes:
        name: of the optimiser.
        lam: λ.
        seed: of the network and of its batches.
        parameters: P.
        norms: Σ|w| before the first step and after each.
        magnitudes: |w| at steps of the window, sorted.
        pull: mean of the absolute gradient of the loss without the penalty, over λ, in the window.
        from_start: the law from the network's own start.
        alone: the law of the optimiser alone.
    """

    name: str
    lam: float
    seed: int
    parameters: int
    norms: list[float]
    magnitudes: np.ndarray
    pull: float
    from_start: StationaryLaw
    alone: StationaryLaw

    @property
    def norm(self) -> float:
        """Mean of Σ|w| over the window."""
        return float(np.mean(self.norms[-WINDOW:]))

    def error(self, law: StationaryLaw) -> float:
        """Of a prediction, relative to the network."""
        return law.l1_norm(self.parameters) / self.norm - 1

    @property
    def below(self) -> float:
        """Share of the weights below the threshold."""
        return float(np.searchsorted(self.magnitudes, THRESHOLD) / len(self.magnitudes))


def compare(name: str, lam: float, seed: int) -> Comparison:
    """Predict, then train for as long as the prediction says that burn-in takes, and a window more."""
    make, _ = OPTIMISERS[name]
    model = vgg(11, generator=torch.Generator().manual_seed(seed))
    parameters = list(model.parameters())
    start = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    settings = {"coordinates": COORDINATES, "seed": seed, "dtype": torch.float32}
    from_start = stationary_law(make, lam, start=start, **settings)
    alone = stationary_law(make, lam, **settings)
    norms, magnitudes, pull = train(model, make(parameters), lam, from_start.steps + WINDOW, seed)
    return Comparison(name, lam, seed, len(start), norms, magnitudes, pull, from_start, alone)


def train(
    model: nn.Module, optimizer: Optimizer, lam: float, steps: int, seed: int
) -> tuple[list[float], np.ndarray, float]:
    """Penalised training as App. B does it: the norms, magnitudes at a few steps of the window, and the loss's pull."""
    images = load_images("digits", "train")
    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())

    def norm() -> float:
        return sum(float(parameter.detach().abs().sum(dtype=torch.float64)) for parameter in parameters)

    norms, kept, pulls = [norm()], [], []
    for step in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(images.inputs[chosen]), images.labels[chosen]).backward()
        if steps - step <= WINDOW and step % 15 == 0:
            pulls.append(float(torch.cat([parameter.grad.reshape(-1) for parameter in parameters]).abs().mean()))
            kept.append(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]).abs())
        for parameter in parameters:
            parameter.grad.add_(torch.sign(parameter.detach()), alpha=lam)
        optimizer.step()
        norms.append(norm())
    return norms, np.sort(torch.cat(kept).numpy()), float(np.mean(pulls)) / lam


def report(rows: list[Comparison], seconds: float, command: str) -> str:
    """The page."""
    strongest = [row for row in rows if row.lam == max(PENALTIES)]
    lines = [
        "# The floor of a network",
        "",
        "The stationary law predicts, from the optimiser, α and λ, at which L1 norm a network under an L1 penalty gets "
        "stuck. Here are such predictions, made before training, beside what training does.",
        "",
        f"The network is VGG11 of the paper's App. A ({rows[0].parameters:,} parameters) on scikit-learn's digits at "
        f"32×32 pixels, batches of {BATCH}, cross-entropy + λ‖w‖₁ over all parameters, torch's own optimisers with "
        f"α = {STEP_SIZE:g}. It trains for as many steps as the prediction says that burn-in takes; the norm is the "
        f"mean over the {WINDOW} steps after that.",
        "",
        "- **from its start**: `stationary_law(..., start=weights)`, the weights being those of the network before its "
        f"first step, {COORDINATES:,} of them drawn at random.",
        "- **from the optimiser alone**: `stationary_law(...)`, which knows nothing of the network but P.",
        "- **pull of the loss**: mean |∂loss/∂w| over λ, after burn-in. Where it is small, λ dominates.",
        "",
        "![The norm of the network along training against the prediction, and the distribution of its weights at the "
        "end](floor.svg)",
        "",
        "| optimiser | λ | seed | steps | pull of the loss | L1 norm of the network | predicted from its start | error "
        "| predicted from the optimiser alone | error |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.lam:g} | {row.seed} | {row.from_start.steps:,} | {row.pull:.1e} | {row.norm:,.2f} | "
        f"{row.from_start.l1_norm(row.parameters):,.2f} | {row.error(row.from_start):+.2%} | "
        f"{row.alone.l1_norm(row.parameters):,.2f} | {row.error(row.alone):+.2%} |"
        for row in rows
    ]
    unsettled = [f"{row.name} at λ = {row.lam:g}" for row in rows if not row.from_start.settled]
    if unsettled:
        lines += ["", f"Not settled when training began to be measured: {', '.join(dict.fromkeys(unsettled))}."]
    lines += ["", f"## With λ = {max(PENALTIES):g}, which dominates", ""]
    lines += [
        f"| optimiser | largest error of the norm | may be | below {THRESHOLD:g}, network | predicted |",
        "|---|---|---|---|---|",
    ]
    for name, (_, allowed) in OPTIMISERS.items():
        own = [row for row in strongest if row.name == name]
        worst = extremes.largest(abs(row.error(row.from_start)) for row in own)
        verdict = "" if worst <= allowed else " (**missed**)"
        lines.append(
            f"| {name} | {worst:.3%}{verdict} | {allowed:.0%} | {np.mean([row.below for row in own]):.2%} | "
            f"{np.mean([row.from_start.fraction_below(THRESHOLD) for row in own]):.2%} |"
        )
    sgd = next(row for row in strongest if row.name == "SGD")
    lines += [
        "",
        f"For plain SGD the law is also known in closed form: P·αλ/2 = "
        f"{sgd.parameters * STEP_SIZE * sgd.lam / 2:,.2f} at λ = {sgd.lam:g}.",
        "",
        "Momentum and Adam have memory, and with it several cycles across the kink. Which of them a weight ends on "
        "depends on where it starts, if that is within the few steps that the memory lasts; so the prediction from the "
        "optimiser alone, which comes from far away, differs.",
        "",
        f"Made by `{command}` in {seconds:,.0f} seconds on one core.",
    ]
    return "\n".join(lines) + "\n"


def draw(rows: list[Comparison]) -> str:
    """For each optimiser the norm along training, and the distribution of |w| after it, at the largest λ."""
    top, bottom = [], []
    for name in OPTIMISERS:
        row = next(row for row in rows if row.name == name and row.lam == max(PENALTIES))
        per_weight = np.array(row.norms) / row.parameters
        steps = np.unique(np.geomspace(1, len(per_weight) - 1, 220).astype(int))
        mean = row.from_start.mean_magnitude
        along = [
            Curve("network", "ours", [(float(step), float(per_weight[step])) for step in steps]),
            Curve("law, from the network's start", "theory", [(1, mean), (len(per_weight), mean)], dashed=True),
            Curve(
                "law, from the optimiser alone",
                "control",
                [(1, row.alone.mean_magnitude), (len(per_weight), row.alone.mean_magnitude)],
                dashed=True,
            ),
        ]
        y = Axis("mean |w|", 1e-3, 1e-1, log=True)
        top.append(Panel(f"{name}, λ = {row.lam:g}", Axis("step", 1, len(per_weight), log=True), y, along))
        x = Axis("τ", 1e-5, 1e-1, log=True)
        grid = np.geomspace(x.low, x.high, 160)
        shares = np.searchsorted(row.magnitudes, grid) / len(row.magnitudes)
        bottom.append(
            Panel(
                f"{name}: share of |w| below τ",
                x,
                Axis("share", 0, 1),
                [
                    Curve("network", "ours", list(zip(grid.tolist(), shares.tolist(), strict=True))),
                    *(
                        Curve(label, tone, [(t, law.fraction_below(t)) for t in grid.tolist()], dashed=True)
                        for label, tone, law in (
                            ("law, from the network's start", "theory", row.from_start),
                            ("law, from the optimiser alone", "control", row.alone),
                        )
                    ),
                ],
            )
        )
    return picture([*top, *bottom], len(OPTIMISERS), "The norm of a network against the stationary law's prediction")


def main() -> None:
    """Print the page and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, the largest λ alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    penalties, seeds = (PENALTIES[:1], 1) if arguments.quick else (PENALTIES, 3)
    rows = []
    for name in OPTIMISERS:
        for lam in penalties:
            for seed in range(seeds if lam == max(PENALTIES) else 1):
                rows.append(compare(name, lam, seed))
                print(name, lam, seed, f"{rows[-1].error(rows[-1].from_start):+.3%}", flush=True)
    command = "make bench-floor"
    text = report(rows, time.perf_counter() - began, command)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")
        arguments.output.with_suffix(".svg").write_text(draw(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
