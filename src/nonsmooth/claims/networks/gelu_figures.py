"""Claim `gelu-figures`: networks with smooth activations converge faster than with ReLU (§2, Hendrycks & Gimpel)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Claim,
    Estimate,
    Evidence,
    Figure,
    Finding,
    Findings,
    Headline,
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
)
from nonsmooth.claims.networks.digit_rows import CLASSES, PIXELS, digit_rows
from nonsmooth.lab import Cell
from nonsmooth.models import SmoothReLU, cross_entropies, draw_perceptrons, match_perceptrons

SHARPENED = (2, 4, 16)
"""k of GELU(kx)/k; 1 is GELU and ∞ is ReLU."""
ROUNDED = (0.1, 0.4, 1.6)
"""ε of C¹ ReLUs: ReLU's kink rounded off over [-ε, ε]."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ReLU": torch.relu,
    "GELU": functional.gelu,
    "ELU": functional.elu,
    "SiLU": functional.silu,
    **{f"GELU({k}x)/{k}": lambda x, k=k: functional.gelu(k * x) / k for k in SHARPENED},  # type: ignore[misc]
    **{f"C¹ ReLU {width:g}": SmoothReLU(width) for width in ROUNDED},
}
LAYERS = 7
"""Hidden layers: with the output layer eight, as in Hendrycks & Gimpel's network for MNIST (Figure 2)."""
RATES = (0.001, 0.003, 0.01)
"""Step sizes of Adam."""
BATCH = 32
IDENTIFIERS = {"GELU": "gelu", "ELU": "elu", "SiLU": "silu"}

LENGTH = Choice(
    "length", "whole", ("half", "quarter"), "length of the runs", "The paper's figures compare curves at every length."
)
STEP_SIZE = Choice(
    "step_size",
    "own best",
    RATES,
    "step size",
    "Hendrycks & Gimpel tune the step size of each activation; a common one may suit one of them.",
)
START = Choice(
    "start",
    "matched",
    ("kaiming",),
    "first weights",
    "Every activation starts with the signal that ReLU has; weights made for ReLU are too small for the others.",
)
TWIN = Choice(
    "twin",
    f"C¹ ReLU {ROUNDED[0]:g}",
    (f"GELU({SHARPENED[-1]}x)/{SHARPENED[-1]}",),
    "smooth function of ReLU's shape",
    "The narrowest of each family: nearly ReLU, without its kink.",
)
RELEVANT = Choice(
    "relevant", 0.1, (0.05, 0.2), "smallest difference of ln loss that counts", "About a tenth of the loss."
)

GAP = Quantity("gap", "ln of ReLU's training loss less that of GELU's")
SMOOTHNESS = Quantity("smoothness", "ln of ReLU's training loss less that of the smooth function of its shape")
SHAPE = Quantity("shape", "ln of the training loss of the smooth function of ReLU's shape less that of GELU's")

CLAIM = Claim(
    id="gelu-figures",
    title="Networks with GELU converge faster than networks with ReLU",
    where="§2 (Hendrycks & Gimpel 2016, figures 2 to 7)",
    statement="Across architectures and data sets, networks with GELU converge faster than networks with ReLU.",
    explanation="GELU is smooth and ReLU is not; smooth networks are expected to converge faster.",
    control=(
        "Smoothness as a dose: GELU(kx)/k and C¹ ReLUs run from GELU or a wide rounding to ReLU. If the kink is what "
        "slows training, rounding it off narrowly, which leaves the shape of ReLU, must do what GELU does. ELU and "
        "SiLU stand beside them. Every activation starts with the signal that ReLU has."
    ),
    plain="Networks with the smooth activation GELU learn faster than networks with ReLU.",
)

RULE = Rule(
    Row(~above(GAP, RELEVANT), Outcome(Verdict.NOT_REPRODUCED, "GELU is not faster")),
    Row(
        ~above(SMOOTHNESS, RELEVANT),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "its shape, not its smoothness",
            "Without its kink, and with its shape kept, ReLU does not train faster.",
        ),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "smooth is faster", "Without its kink alone, ReLU trains faster as well."),
    always="On the digits ln of ReLU's training loss less GELU's is {gap}; rounding off the kink makes {smoothness} of "
    "it and the rest of the shape {shape}.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="GELU converges faster than ReLU",
        ours="ln loss, ReLU - GELU: {gap}",
        control="kink rounded off alone: {smoothness}",
    ),
    choices=(LENGTH, STEP_SIZE, START, TWIN, RELEVANT),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each activation, which holds all seeds and step sizes; at scale quick from matched weights alone."""
    width, steps, seeds = scale(32, 128), scale(160, 2000), scale.seeds(5, 10)
    for start in scale(("matched",), ("matched", "kaiming")):
        for name in ACTIVATIONS:
            cost = steps * (3e-4 + 2.3e-9 * len(seeds) * len(RATES) * BATCH * LAYERS * width**2)
            yield curve.cell(activation=name, start=start, width=width, steps=steps, seeds=seeds, cost=cost)


@study.experiment(seed_axes={"loss": 2})
def curve(run: Run, *, activation: str, start: str, width: int, steps: int, seeds: int) -> Mapping[str, Any]:
    """Cross-entropy over all training images, [step size][step][seed], at eight steps of Adam's run."""
    inputs, labels = digit_rows(None)
    activate, numbers = ACTIVATIONS[activation], range(run.seed, run.seed + seeds)
    first = draw_perceptrons((PIXELS, *[width] * LAYERS, CLASSES), numbers)
    if start == "matched":
        first = match_perceptrons(first, inputs[:200], activate)
    layers = [[part.clone().requires_grad_() for part in first] for _ in RATES]
    optimizer = torch.optim.Adam([{"params": part, "lr": lr} for part, lr in zip(layers, RATES, strict=True)])
    orders = [torch.Generator().manual_seed(seed) for seed in numbers]
    at, losses = [steps * (i + 1) // 8 for i in range(8)], []
    for step in range(1, steps + 1):
        rows = torch.stack([torch.randint(len(inputs), (BATCH,), generator=order) for order in orders])
        rows = rows.repeat(len(RATES), 1)
        optimizer.zero_grad()
        _losses(layers, inputs[rows], labels[rows], activate).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step in at:
            with torch.no_grad():
                whole = _losses(layers, inputs, labels, activate)
            losses.append(whole.reshape(len(RATES), seeds))
        run.context.progress(step / steps)
    return {"at": at, "loss": torch.stack(losses, 1).tolist()}


def _losses(layers: list[list[Tensor]], inputs: Tensor, labels: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean cross-entropy of the networks of all step sizes."""
    return cross_entropies([torch.cat(parts) for parts in zip(*layers, strict=True)], inputs, labels, activate)


def _best(logs: np.ndarray) -> int:
    """The step size with the lowest mean over the seeds; one that diverged is not the best."""
    means = logs.mean(1)
    return int(np.where(np.isnan(means), np.inf, means).argmin())


def _log_losses(evidence: Evidence, choices: Choices) -> dict[str, np.ndarray]:
    """The logarithm of the training loss by activation, (seeds,), at the chosen length and step size."""
    found = {}
    for name in ACTIVATIONS:
        record = evidence[curve].one(activation=name, start=choices.start)
        index = {"quarter": 1, "half": 3, "whole": 7}[choices.length]
        logs = np.log(np.array(record["loss"])[:, index])
        found[name] = logs[_best(logs) if choices.step_size == "own best" else RATES.index(choices.step_size)]
    return found


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Differences of ln loss, paired by seed."""
    logs = _log_losses(evidence, choices)
    relu, twin = logs["ReLU"], logs[choices.twin]
    controls: list[Finding] = [SMOOTHNESS.mean(relu - twin), SHAPE.mean(twin - logs["GELU"])]
    for name in [*ACTIVATIONS][4:]:
        quantity = Quantity(_identifier(name), f"ln of ReLU's training loss less that of {name}")
        controls.append(quantity.mean(relu - logs[name]))
    others = [
        Quantity(f"gap_{IDENTIFIERS[name]}", f"ln of ReLU's training loss less that of {name}")
        for name in ("ELU", "SiLU")
    ]
    return Findings(
        [
            GAP.mean(relu - logs["GELU"]),
            *(quantity.mean(relu - logs[name]) for quantity, name in zip(others, ("ELU", "SiLU"), strict=True)),
            Quantity("loss", "ReLU's training loss, geometric mean").number(float(np.exp(relu.mean())), len(relu)),
        ],
        controls,
        notes=(
            "One small network on one small data set: what it decides is whether the trend is there, not how general "
            "it is. Each activation's own best step size is chosen on the runs that are compared.",
        ),
    )


def _identifier(name: str) -> str:
    """Of an activation, as in a finding's name."""
    return "ln_" + "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_")


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Training curves as in Hendrycks & Gimpel's figures, and the response to the dose."""
    curves = []
    for name, tone in zip(("ReLU", "GELU", "ELU", "SiLU"), ("ours", "a", "b", "c"), strict=True):
        record = evidence[curve].one(activation=name, start=START.value)
        logs = np.log(np.array(record["loss"]))
        best = logs[_best(logs[:, -1])].mean(1)
        curves.append(Series("line", name, record["at"], tuple(np.exp(best)), tone=tone))
    doses = {
        "GELU(kx)/k": [(1 / k, f"ln_gelu_{k}x__{k}") for k in reversed(SHARPENED)] + [(1.0, "gap")],
        "C¹ ReLU of width ε": [(width, _identifier(f"C¹ ReLU {width:g}")) for width in ROUNDED],
    }
    response = []
    for (label, points), tone in zip(doses.items(), ("a", "control"), strict=True):
        known = [(dose, e) for dose, name in points if isinstance(e := found.get(name), Estimate)]
        response.append(
            Series(
                "points",
                label,
                [d for d, _ in known],
                [e.value for _, e in known],
                [e.lower for _, e in known],
                [e.upper for _, e in known],
                tone,
            )
        )
    response.append(Series("horizontal", "ReLU", y=(0.0,), tone="ours"))
    return [
        Figure(
            "Smooth activations, and smoothness as a dose",
            "Left: training loss of each activation at its own best step size, geometric mean over seeds. Right: by "
            "how much ln of the training loss falls below ReLU's as the kink is rounded off; 95 % intervals over "
            "paired seeds. If the kink is what slows training, the narrowest rounding lies as high as the widest.",
            (
                Panel("Training curves", Axis("step"), Axis("training loss (nats)", True), tuple(curves)),
                Panel(
                    "Dose",
                    Axis("width of the rounding: 1/k, or ε", True),
                    Axis("ln loss, ReLU less it"),
                    tuple(response),
                ),
            ),
        )
    ]
