"""How fast the ensemble recursion is, against a loop over seeds and against the machine's memory.

    python benchmarks/ensemble.py [--output docs/benchmarks/ensemble.md]

Both sides run the recursion of the claim `capture` (Z of 20×500, float64, one thread) with the same recordings in one
process, interleaved; ratios of medians are reported, since wall times on a shared machine are noisy.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
from pathlib import Path

import torch

from nonsmooth.claims.rates.capture_runs import RIDGE, draw_data
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Count, FirstStep, LastStep, active_units, loss_rose, norm
from nonsmooth.problems import relu_regression

SEEDS, STEPS, REPEATS = 256, 25, 3
TARGET = 5.0


def recordings():
    """What the claim keeps of a run."""
    size = norm(math.inf)
    return {
        "rises": Count(loss_rose),
        "left": FirstStep(lambda state: size(state) >= 1.0),
        "last_active": LastStep(lambda state: active_units(state) > 0),
    }


def ensemble(data, response, start, alphas, block):
    """All seeds in one call."""
    problem = relu_regression(data, response, l2=RIDGE)
    return iterate(problem, start, Constant(alphas), STEPS, recordings(), block=block)


def loop(data, response, start, alphas):
    """One seed and one step size at a time, with the same code."""
    for i in range(len(data)):
        problem = relu_regression(data[i : i + 1], response[i : i + 1], l2=RIDGE)
        for v in range(alphas.shape[1]):
            iterate(problem, start[i : i + 1, v : v + 1], Constant(alphas[:, v : v + 1]), STEPS, recordings())


def autograd_loop(data, response, start, alphas):
    """One seed and one step size at a time, as a PyTorch user writes it."""
    kept = []
    for i in range(len(data)):
        for v in range(alphas.shape[1]):
            beta = start[i, v].clone().requires_grad_()
            optimiser = torch.optim.SGD([beta], lr=alphas[0, v].item())
            rises, left, last, previous = 0, -1, -1, math.inf
            for step in range(STEPS + 1):
                optimiser.zero_grad()
                preactivation = data[i] @ beta
                value = (response[i] - torch.relu(preactivation)).square().sum() + RIDGE * beta.square().sum()
                current = value.item()
                rises += current > previous
                previous = current
                if left < 0 and beta.detach().abs().max().item() >= 1.0:
                    left = step
                if bool((preactivation > 0).any()):
                    last = step
                if step < STEPS:
                    value.backward()
                    optimiser.step()
            kept.append((rises, left, last))
    return kept


def seconds(function):
    """Wall time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def medians(functions):
    """The median time of each function; they take turns."""
    for function in functions.values():
        function()
    times = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}


def read_bandwidth(size):
    """GB/s at which a dot product reads `size` bytes again and again."""
    first = torch.ones(size // 16, dtype=torch.float64)
    second = torch.ones_like(first)
    rounds = max(3, int(2e8 // size))

    def read():
        for _ in range(rounds):
            torch.dot(first, second)

    read()
    return rounds * size / statistics.median(seconds(read) for _ in range(REPEATS)) / 1e9


def matmul_rate(data, start):
    """GB/s of Z that the two batched products alone read, when a block of instances is used again and again."""
    slope = torch.ones(data.shape[0], start.shape[1], data.shape[1], dtype=data.dtype)

    def products():
        for _ in range(20):
            torch.matmul(start, data.mT)
            torch.matmul(slope, data)

    products()
    return 20 * 2 * data.nbytes / statistics.median(seconds(products) for _ in range(REPEATS)) / 1e9


def table():
    """The report, as Markdown."""
    torch.set_num_threads(1)
    data, response, start = draw_data(0, SEEDS)
    megabyte = 1024 * 1024
    lines = [
        "# The ensemble recursion",
        "",
        f"`{SEEDS}` seeds of the claim `capture`, {STEPS} steps, float64, one thread, torch {torch.__version__} on "
        f"{platform.machine()}. Medians of {REPEATS} interleaved repeats.",
        "",
        "| step sizes | way | time (ms) | µs per seed, step size and step | speed against the ensemble |",
        "|---|---|---|---|---|",
    ]
    ratios = {}
    for variants in (1, 6):
        alphas = torch.logspace(-4, -3, variants, dtype=torch.float64).reshape(1, -1)
        starts = start.unsqueeze(1).expand(-1, variants, -1).contiguous()
        ways = {
            "ensemble": lambda s=starts, a=alphas: ensemble(data, response, s, a, None),
            "ensemble, one block": lambda s=starts, a=alphas: ensemble(data, response, s, a, SEEDS),
            "loop over seeds, same code": lambda s=starts, a=alphas: loop(data, response, s, a),
        }
        if variants == 1:
            ways["loop over seeds, autograd"] = lambda s=starts, a=alphas: autograd_loop(data, response, s, a)
        times = medians(ways)
        runs = SEEDS * variants * STEPS
        for name, value in times.items():
            ratio = value / times["ensemble"]
            ratios[variants, name] = ratio
            lines.append(
                f"| {variants} | {name} | {1e3 * value:.0f} | {1e6 * value / runs:.2f} | 1/{ratio:.1f} of it |"
                if name != "ensemble"
                else f"| {variants} | **{name}** | {1e3 * value:.0f} | {1e6 * value / runs:.2f} | 1 |"
            )
        if variants == 1:
            achieved = 2 * data.nbytes * STEPS / times["ensemble"] / 1e9
    reached = ratios[1, "loop over seeds, same code"]
    lines += [
        "",
        f"The ensemble is **{reached:.1f} times** as fast as the loop over seeds with the same code (the target is "
        f"{TARGET:g}), and {ratios[1, 'loop over seeds, autograd']:.1f} times as fast as autograd.",
        "",
        "## Against the machine",
        "",
        "A step reads each Z twice (80 kB each time); everything else is small. So the bound is the bandwidth of the "
        "memory that the Z of a block lie in.",
        "",
        "| what | GB/s |",
        "|---|---|",
        f"| dot product over 256 kB (second-level cache) | {read_bandwidth(megabyte // 4):.1f} |",
        f"| dot product over 2.5 MB (third-level cache; a block) | {read_bandwidth(5 * megabyte // 2):.1f} |",
        f"| dot product over 20 MB (all {SEEDS} seeds) | {read_bandwidth(20 * megabyte):.1f} |",
        f"| dot product over 512 MB (main memory) | {read_bandwidth(512 * megabyte):.1f} |",
        f"| the two batched products alone, on a block of 32 seeds | {matmul_rate(data[:32], start[:32, None]):.1f} |",
        f"| **the ensemble, recordings and all** | **{achieved:.1f}** |",
        "",
        "What keeps the ensemble from the bandwidth of its cache: each of the batched products is by a single vector, "
        "one multiplication for every number read, and reaches only the rate in the last row but one; and the "
        "recordings (a norm, a count, two comparisons) and the ridge term are about a dozen further calls a step, each "
        "a pass over the iterates of the block (128 kB) with a fixed cost of some microseconds.",
        "",
        "Made by `make bench` (`python benchmarks/ensemble.py --output docs/benchmarks/ensemble.md`).",
    ]
    return "\n".join(lines) + "\n", reached


def main():
    """Print the table, write it where asked, and fail if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    text, reached = table()
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")
    if reached < TARGET:
        raise SystemExit(f"the ensemble is only {reached:.2f} times as fast as the loop; the target is {TARGET:g}")


if __name__ == "__main__":
    main()
