"""How much non-smoothness a network has: kinks on a line, distance to the nearest, and curvature that sits in kinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nonsmooth.claims.framework import Axis, Figure, Panel, Series, median_interval
from nonsmooth.curvature import kink_gap
from nonsmooth.lab import Record
from nonsmooth.models import cross_entropies, preactivations

Activate = Callable[[Tensor], Tensor]

ROWS, LINES, POINTS = 64, 8, 256
"""Images, lines between two of them, and points on a line."""
LEARNING_RATE = 0.003
MEASURES = {
    "line": "kinks on a line between two images, over its length",
    "near": "nearness of the nearest kink, 1 over its distance",
    "move": "kinks crossed as the weights move, over the length of the move",
    "gap": "share of the curvature that sits in kinks",
}
DISPLACEMENT = 1e-2
"""Length of a move in parameter space, over the norm of the weights: of the order of a step of training."""


def crossings_between(signs: Tensor) -> Tensor:
    """Changes of sign along the first of the last two dimensions, summed over both: (..., points, units) → (...)."""
    return (signs[..., 1:, :] != signs[..., :-1, :]).sum((-2, -1))


def points_on_lines(inputs: Tensor, lines: int, points: int) -> tuple[Tensor, Tensor]:
    """Points on the straight lines between inputs 2i and 2i + 1: (lines · points, ...), and lengths, (lines,)."""
    ends = inputs[: 2 * lines].view(lines, 2, *inputs.shape[1:])
    share = torch.linspace(0, 1, points).view(1, points, *[1] * (inputs.ndim - 1))
    along = ends[:, :1] * (1 - share) + ends[:, 1:] * share
    return along.flatten(0, 1), (ends[:, 1] - ends[:, 0]).flatten(1).norm(dim=1)


def kinks_per_length(layers: list[Tensor], inputs: Tensor, lines: int, points: int) -> Tensor:
    """Kinks of each stacked ReLU network on a line between two inputs, over its length; mean of the lines."""
    along, length = points_on_lines(inputs, lines, points)
    hidden = torch.cat(preactivations(layers, along, torch.relu)[:-1], -1)
    return (crossings_between((hidden > 0).view(len(hidden), lines, points, -1)) / length).mean(1)


def kinks_of_model(model: nn.Sequential, inputs: Tensor, lines: int, points: int) -> tuple[float, int]:
    """The same of a network of layers, and how many ReLUs it has for one input."""
    signal, length = points_on_lines(inputs, lines, points)
    kinks, units = torch.zeros(lines), 0
    for layer in model:
        if isinstance(layer, nn.ReLU):
            signs = (signal > 0).flatten(1).view(lines, points, -1)
            kinks, units = kinks + crossings_between(signs), units + signs.shape[-1]
        signal = layer(signal)
    return float((kinks / length).mean()), units


def nearest_kink(layers: list[Tensor], inputs: Tensor) -> Tensor:
    """Distance in input space from each input to the nearest kink of the stacked ReLU networks; medians over inputs.

    Within its linear region a network is linear in its input, so the distance to a unit's kink is |z|/‖∇z‖, and the
    smallest of these is exact: the nearest kink bounds the region.
    """
    hidden = preactivations(layers, inputs, torch.relu)[:-1]
    slope = torch.eye(inputs.shape[1]).expand(len(layers[0]), len(inputs), -1, -1)
    nearest = torch.full(hidden[0].shape[:2], torch.inf)
    for weight, signal in zip(layers[::2], hidden, strict=False):
        slope = slope @ weight[:, None]
        distance = signal.abs() / slope.norm(dim=-2).clamp(min=1e-30)
        nearest = torch.minimum(nearest, distance.amin(-1))
        slope = slope * (signal > 0)[:, :, None]
    return nearest.median(1).values


def kinks_per_move(layers: list[Tensor], inputs: Tensor, seed: int) -> Tensor:
    """Kinks crossed, per input and over its length, where the weights move by `DISPLACEMENT` in a random direction."""
    drawn = [
        torch.randn(part.shape, generator=torch.Generator().manual_seed(seed + i)) for i, part in enumerate(layers)
    ]
    share = DISPLACEMENT * _norms(layers) / _norms(drawn)
    moved = [part + share[:, None, None] * shift for part, shift in zip(layers, drawn, strict=True)]
    before, after = (torch.cat(preactivations(state, inputs, torch.relu)[:-1], -1) > 0 for state in (layers, moved))
    return (before != after).sum((1, 2)) / len(inputs) / (DISPLACEMENT * _norms(layers))


def _norms(layers: Sequence[Tensor]) -> Tensor:
    """Of all weights of each stacked network, (networks,)."""
    norms: Tensor = torch.linalg.vector_norm(torch.cat([part.flatten(1) for part in layers], 1), dim=1)
    return norms


def trained(layers: list[Tensor], inputs: Tensor, labels: Tensor, steps: int) -> list[Tensor]:
    """The stacked ReLU networks after full-batch steps of Adam."""
    leaves = [part.clone().requires_grad_() for part in layers]
    optimizer = torch.optim.Adam(leaves, lr=LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropies(leaves, inputs, labels, torch.relu).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [leaf.detach() for leaf in leaves]


def gap_of(layers: list[Tensor], inputs: Tensor, labels: Tensor, activate: Activate, seed: int) -> list[float]:
    """The kink gap of each stacked network's cross-entropy, along a random direction over `DISPLACEMENT` of ‖w‖."""
    gaps = []
    for network in range(len(layers[0])):
        leaves = [part[network : network + 1].double().requires_grad_() for part in layers]

        def loss(leaves: list[Tensor] = leaves) -> Tensor:
            return cross_entropies(leaves, inputs.double(), labels, activate).sum()

        length = float(torch.cat([leaf.detach().flatten() for leaf in leaves]).norm())
        gaps.append(kink_gap(loss, leaves, epsilons=(DISPLACEMENT * length,), seed=seed).gaps[0])
    return gaps


def measures(layers: list[Tensor], inputs: Tensor, labels: Tensor, seed: int) -> dict[str, list[float]]:
    """`MEASURES` of each stacked ReLU network, and its training loss."""
    few = inputs[:ROWS]
    with torch.no_grad():
        found = {
            "line": kinks_per_length(layers, few, LINES, POINTS),
            "near": 1 / nearest_kink(layers, few),
            "move": kinks_per_move(layers, inputs, seed),
            "loss": cross_entropies(layers, inputs, labels, torch.relu),
        }
    gap = gap_of(layers, few, labels[:ROWS], torch.relu, seed)
    return {name: values.tolist() for name, values in found.items()} | {"gap": gap}


def figure(families: Mapping[str, Sequence[Record]], labels: Mapping[str, str]) -> Figure:
    """Measures against depth, with the first weights.

    Args:
        families: records by what stays the same.
        labels: of the measures.
    """
    panels = []
    for measure, label in labels.items():
        series = []
        for (text, records), tone in zip(families.items(), ("ours", "a", "control"), strict=True):
            rows = [median_interval(record[measure][0]) for record in records]
            middle, low, high = zip(*rows, strict=True) if rows else ((), (), ())
            series.append(Series("points", text, [r.parameters["depth"] for r in records], middle, low, high, tone))
        panels.append(Panel(label, Axis("hidden layers", True), Axis("with the first weights", True), tuple(series)))
    return Figure(
        "Non-smoothness against depth",
        "Four measures of non-smoothness of ReLU networks with their first weights, medians and intervals over seeds. "
        "What grows with depth at equal width but not at an equal number of units grows with the units.",
        tuple(panels),
    )
