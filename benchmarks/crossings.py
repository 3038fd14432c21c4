"""How many kinks a step crosses as it gets shorter: at a trained network, and at random points.

    python benchmarks/crossings.py [--output docs/benchmarks/crossings.md]

A ReLU network on scikit-learn's digits, in float64. From each point, steps of length ε‖w‖ in random directions; the
probe batch is the same throughout. The control is a random point whose layers have the norms of the trained ones, since
a step that is relative to ‖w‖ is another step where the layers are of another size.
"""

from __future__ import annotations

import argparse
import copy
import platform
from pathlib import Path

import torch
from digits_networks import SETTING, WIDTH, digits, network, train
from torch.nn.utils import parameters_to_vector

from nonsmooth import extremes
from nonsmooth.kinks import crossings

PROBE, DIRECTIONS, POINTS = 500, 8, 4
LENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
NEAR = 1e-3


def with_norms_of(trained, seed):
    """A random network whose tensors have the norms of the trained one's."""
    model = copy.deepcopy(trained)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(noise * parameter.norm() / noise.norm())
    return model


def counts(models, probe, length):
    """Mean fraction of entries that a step changes, over points and directions, and how many steps change none."""
    fractions = []
    for model in models:
        point = parameters_to_vector(model.parameters()).detach()
        for seed in range(DIRECTIONS):
            generator = torch.Generator().manual_seed(1000 + seed)
            direction = torch.randn(point.shape, generator=generator, dtype=point.dtype)
            step = length * point.norm() * direction / direction.norm()
            fractions.append(crossings(model, probe, point, point + step, epsilon=NEAR).fraction)
    return sum(fractions) / len(fractions), sum(fraction == 0 for fraction in fractions), len(fractions)


def standing(models, probe):
    """Mean fraction of entries within `NEAR` of a kink, and mean number of dead units."""
    found = [crossings(model, probe, {}, {}, epsilon=NEAR) for model in models]
    return sum(f.near for f in found) / len(found), sum(f.dead for f in found) / len(found)


def page():
    """The lines of the report, as Markdown."""
    torch.set_num_threads(1)
    data, target = digits()
    trained = [network(seed) for seed in range(POINTS)]
    accuracy = extremes.smallest(train(model, data, target) for model in trained)
    groups = {
        "trained": trained,
        "random, as initialised": [network(seed) for seed in range(POINTS)],
        "random, norms of the trained": [with_norms_of(model, seed) for seed, model in enumerate(trained)],
    }
    probe = data[:PROBE]
    entries = PROBE * 2 * WIDTH
    rates = {name: [counts(models, probe, length) for length in LENGTHS] for name, models in groups.items()}
    lines = [
        "# Crossings of a step",
        "",
        f"How many kinks lie within a step? A ReLU network (64-{WIDTH}-{WIDTH}-10, float64) on the digits, before "
        f"and after {SETTING}; the lowest training "
        f"accuracy is {accuracy:.4f}), and at random points whose tensors have the norms of the trained ones; "
        f"{POINTS} points of each kind. From a point w, steps of length ε‖w‖ in {DIRECTIONS} random directions; a "
        f"probe batch of {PROBE} images, so {entries:,} entries of ReLU patterns.",
        "",
        "The mean fraction of the entries that a step changes; in brackets, how many steps changed none.",
        "",
        "| ε | " + " | ".join(groups) + " |",
        "|---|" + "---|" * len(groups),
    ]
    for row, length in enumerate(LENGTHS):
        cells = [f"{rates[name][row][0]:.3g} ({rates[name][row][1]} of {rates[name][row][2]})" for name in groups]
        lines.append(f"| {length:g} | " + " | ".join(cells) + " |")
    lines += ["", "The same over ε: crossings per entry and relative length.", ""]
    lines += ["| ε | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for row, length in enumerate(LENGTHS):
        lines.append(f"| {length:g} | " + " | ".join(f"{rates[name][row][0] / length:.3g}" for name in groups) + " |")
    near = {name: standing(models, probe) for name, models in groups.items()}
    dead = f"a unit, of {2 * WIDTH}, is dead if no image of the probe batch activates it"
    lines += ["", f"At the points themselves ({dead}):", ""]
    lines += ["| | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    lines.append(f"| entries within {NEAR:g} of a kink | " + " | ".join(f"{near[n][0]:.3%}" for n in groups) + " |")
    lines.append("| dead units | " + " | ".join(f"{near[n][1]:g}" for n in groups) + " |")
    row = LENGTHS.index(1e-3)
    initial, control = (rates["trained"][row][0] / rates[name][row][0] for name in list(groups)[1:])
    lines += [
        "",
        f"At ε = 1e-3 a trained point has {initial:.2f} times the crossings of its initialisation and {control:.2f} "
        "times those of the control. At all three kinds of point the number of crossings is proportional to ε while "
        "there are many: a step that is ten times shorter crosses a tenth of the kinks. One entry of this probe batch "
        f"is {1 / entries:.2g} of all, so the last two rows count single entries, and give no rate.",
        "",
        "Made by `make bench-crossings` (`python benchmarks/crossings.py --output docs/benchmarks/crossings.md`), with "
        f"torch {torch.__version__} on {platform.machine()}.",
    ]
    return lines


def main():
    """Print the page and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    text = "\n".join(page()) + "\n"
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
