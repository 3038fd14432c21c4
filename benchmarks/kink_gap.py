"""The kink curvature gap of tanh, GELU and ReLU networks: differences of gradients against autograd's Hessian.

    python benchmarks/kink_gap.py [--output docs/benchmarks/kink-gap.md]

One network per activation on scikit-learn's digits, in float64, as initialised and trained; the loss on a fixed batch.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from digits_networks import SETTING, WIDTH, digits, network, train
from line_figure import Axis, Curve, Panel, picture
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.curvature import KinkGap, kink_gap, sharpness

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU}
LOOKS = {"tanh": ("theory", "square"), "GELU": ("control", "diamond"), "ReLU": ("ours", "circle")}
EPSILONS = tuple(10.0**power for power in range(-5, -1))
IMAGES, DIRECTIONS, SEED = 500, 8, 0
LOWEST = 1e-10
"""Where the figure ends."""
THREE_DIGITS = 1e-3
FIGURE = "kink-gap.svg"

Gaps = list[KinkGap]
Found = dict[tuple[str, str, str], Gaps]
"""By state, direction and activation."""


def gaps_of(closure: Callable[[], Tensor], model: nn.Module) -> dict[str, Gaps]:
    """Along the top eigenvector, and along random directions."""
    parameters = list(model.parameters())
    top = sharpness(closure, parameters, tolerance=1e-6, max_products=200).eigenvector
    directions = range(DIRECTIONS)
    return {
        "top eigenvector": [kink_gap(closure, parameters, direction=top, epsilons=EPSILONS)],
        "random": [kink_gap(closure, parameters, epsilons=EPSILONS, seed=seed) for seed in directions],
    }


def measured() -> tuple[Found, dict[str, float]]:
    """The gaps of every network, and the training accuracies."""
    data, target = digits()
    found: Found = {}
    accuracies = {}
    for name, activation in ACTIVATIONS.items():
        model = network(SEED, activation)

        def loss(model: nn.Module = model) -> Tensor:
            return nn.functional.cross_entropy(model(data[:IMAGES]), target[:IMAGES])

        for state in ("as initialised", "trained"):
            if state == "trained":
                accuracies[name] = train(model, data, target)
            found |= {(state, direction, name): gaps for direction, gaps in gaps_of(loss, model).items()}
    return found, accuracies


def median_gap(gaps: Gaps, index: int) -> float:
    """Over directions, at one ε."""
    return statistics.median(found.gaps[index] for found in gaps)


def rows(found: Found) -> str:
    """A line for each network and kind of direction."""
    lines = []
    for (state, direction, name), gaps in found.items():
        cells = " | ".join(f"{median_gap(gaps, index):.1e}" for index in range(len(EPSILONS)))
        ratios = [each / gap.hessian for gap in gaps for each in gap.differences]
        hessian = statistics.median(gap.hessian for gap in gaps)
        span = f"{extremes.smallest(ratios):.3g} to {extremes.largest(ratios):.3g}"
        lines.append(f"| {name} | {state} | {direction} | {hessian:.3g} | {cells} | {span} |")
    return "\n".join(lines)


def summary(found: Found) -> str:
    """What the smooth ones and the other one do, in words."""

    def largest(name: str, index: int) -> float:
        return extremes.largest(gap.gaps[index] for key, gaps in found.items() if key[2] == name for gap in gaps)

    smooth = [extremes.largest(largest("tanh", index), largest("GELU", index)) for index in range(len(EPSILONS))]
    agree = [epsilon for epsilon, gap in zip(EPSILONS, smooth, strict=True) if gap < THREE_DIGITS]
    kinked = [largest("ReLU", index) for index in range(len(EPSILONS))]
    return (
        f"Of all directions and both points, tanh and GELU agree to three digits up to ε = {max(agree):g}, where their "
        f"largest gap is {smooth[len(agree) - 1]:.1e}; at ε = {EPSILONS[-1]:g} it is {smooth[-1]:.1e}, because the "
        "curvature of a trained network changes over such a distance, and it falls with ε², by a hundred for each "
        f"decade. The largest gaps of ReLU are {', '.join(f'{gap:.2g}' for gap in kinked)}, and do not fall so."
    )


def figure(found: Found) -> str:
    """A panel for each state and kind of direction, a curve for each activation."""
    panels = []
    for state, direction in dict.fromkeys(key[:2] for key in found):
        curves = [
            Curve(
                name,
                tone,
                [(epsilon, median_gap(found[state, direction, name], i)) for i, epsilon in enumerate(EPSILONS)],
                marks=[mark] * len(EPSILONS),
            )
            for name, (tone, mark) in LOOKS.items()
        ]
        x, y = Axis("ε", EPSILONS[0], EPSILONS[-1], log=True), Axis("gap", LOWEST, 1, log=True)
        panels.append(Panel(f"{state}, {direction}", x, y, curves))
    return picture(panels, 2, "The kink curvature gap against ε for tanh, GELU and ReLU networks")


def page(found: Found, accuracies: dict[str, float]) -> str:
    """The page."""
    heads = " | ".join(f"ε = {epsilon:g}" for epsilon in EPSILONS)
    accuracy = extremes.smallest(accuracies.values())
    return f"""# The kink curvature gap

How much of the curvature does autograd's Hessian not see? Networks 64-{WIDTH}-{WIDTH}-10 with three activations, in
float64, on the digits, as PyTorch initialises them and after {SETTING};
the lowest training accuracy is {accuracy:.4f}). The cross-entropy of {IMAGES} images; along the eigenvector
of its largest eigenvalue, and along {DIRECTIONS} random directions u of length 1, the central difference
⟨∇f(w+εu) - ∇f(w-εu), u⟩/2ε against uᵀHu. The gap is their distance over the larger of the two; the table has its median
over directions, and in the last column the range of the difference over uᵀHu, over all directions and ε.

| network | at | direction | uᵀHu | {heads} | difference / uᵀHu |
|---|---|---|---|{"---|" * len(EPSILONS)}---|
{rows(found)}

{summary(found)}

![The gap against ε]({FIGURE})

A difference sees the jumps of the gradient at the kinks between its ends, and the Hessian, which is that of the piece
around w, sees none of them. A smaller ε does not mend that while there are many kinks: the jumps become fewer in
proportion to ε ([crossings](crossings.md)), and so does the divisor. Where ε is so small that no kink lies between,
both agree again.

Made by `make bench-gap` (`python benchmarks/kink_gap.py --output docs/benchmarks/kink-gap.md`), with torch
{torch.__version__} on {platform.machine()}.
"""


def main() -> None:
    """Print the page, and write it and its figure where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found, accuracies = measured()
    text = page(found, accuracies)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")
        (arguments.output.parent / FIGURE).write_text(figure(found), encoding="utf-8")


if __name__ == "__main__":
    main()
