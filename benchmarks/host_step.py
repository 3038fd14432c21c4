"""What a step on a GPU keeps Python busy for: optimizers on many small tensors, with kernels that do nothing.

    python benchmarks/host_step.py [--output docs/benchmarks/host-step.md]

Needs Triton and no GPU: the tensors lie on the CPU and are so small that arithmetic takes no time, and programs are not
launched. What is not seen is what a launch itself takes on a GPU, torch's and Triton's alike.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import platform
import pstats
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from gpu_cases import ADAM, PENALTIES, SGD
from step_time import parameters, penalised, split, transformer_shapes

from nonsmooth import kernels
from nonsmooth.optim import ProxAdam, ProxNAdam, ProxSGD, SteadyAdam, SteadySGD

PARTS = {
    "checks": ("check_before_step",),
    "what kernels take": ("accepts",),
    "masks of zeros": ("weights_at_zero",),
    "numbers": ("_metric_rows", "_begin_adam", "_begin_sgd", "_remember", "__call__ numbers.py"),
    "tables and launches": ("sgd_step_", "adam_step_", "separable_prox_", "group_prox_"),
    "after it": ("remember_weights",),
    "torch's own step": ("step torch",),
}
"""Parts of a step, by the functions of which they consist; none of them calls another."""


@dataclass(frozen=True)
class Case:
    """A step.

    Attributes:
        name: as the page says it.
        optimizer: takes it.
        on_device: whether its counts of steps would lie on the device.
    """

    name: str
    optimizer: torch.optim.Optimizer
    on_device: bool

    @property
    def is_ours(self) -> bool:
        """Whether it is not torch's."""
        return self.name.startswith(("Prox", "Steady"))


@contextmanager
def as_on_a_device(on_device: bool) -> Iterator[None]:
    """The way that a step takes on a device, on the CPU, without launches.

    Args:
        on_device: whether counts of steps are taken for the device's.
    """
    compiled = importlib.import_module("triton.runtime.jit").JITFunction
    interpreted = importlib.import_module("triton.runtime.interpreter").GridExecutor
    with (
        mock.patch.object(compiled, "run", lambda *arguments, **options: None),
        mock.patch.object(interpreted, "__call__", lambda *arguments, **options: None),
        mock.patch.object(kernels, "runs_on", lambda device: True),
        mock.patch.object(kernels, "INTERPRETED", on_device),
    ):
        yield


def cases(made: list[torch.nn.Parameter]) -> list[Case]:
    """Torch's steps, and ours."""
    found = []
    for name, kind, options in (("SGD", torch.optim.SGD, SGD), ("Adam", torch.optim.Adam, ADAM)):
        found += [
            Case(f"{name}, {way}", kind(split(made), **options, **{way: True}), False) for way in ("fused", "foreach")
        ]
    for kind, options in ((ProxSGD, SGD), (SteadySGD, SGD), (ProxAdam, ADAM), (SteadyAdam, ADAM), (ProxNAdam, ADAM)):
        for penalty in ("L1", "GroupL1"):
            if penalty == "GroupL1" and "Steady" in kind.__name__:
                continue
            for fused in (None, True) if kind is not ProxNAdam else (None,):
                # On a CPU a list of tensors is not torch's choice, as it is on a GPU.
                way = {"foreach": True} if fused is None else {"fused": True}
                optimizer = kind(penalised(made, PENALTIES[penalty]()), **options, **way)
                found.append(Case(f"{kind.__name__}, {penalty}, fused={fused}", optimizer, fused is True))
    return found


def step(case: Case) -> None:
    """Take it."""
    with as_on_a_device(case.on_device):
        case.optimizer.step()


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def medians(listed: list[Case], repeats: int) -> dict[str, float]:
    """Milliseconds by step, taken in turns in another order each time."""
    taken: dict[str, list[float]] = {case.name: [] for case in listed}
    order, shuffled = list(listed), random.Random(0)
    for _ in range(repeats):
        shuffled.shuffle(order)
        for case in order:
            with as_on_a_device(case.on_device):
                taken[case.name].append(1e3 * seconds(case.optimizer.step))
    return {name: statistics.median(values) for name, values in taken.items()}


def parts(case: Case, repeats: int) -> dict[str, float]:
    """The share of a step's time in each of its parts, and in what is left, as a profiler sees it."""
    profile = cProfile.Profile()
    with as_on_a_device(case.on_device):
        profile.enable()
        for _ in range(repeats):
            case.optimizer.step()
        profile.disable()
    found = dict.fromkeys(PARTS, 0.0)
    whole = 0.0
    for (file, _, function), (_, _, own, cumulative, _) in pstats.Stats(profile).stats.items():
        whole += own
        for part, names in PARTS.items():
            for name in names:
                wanted, _, place = name.partition(" ")
                inside = f"/{place}" in file.replace("\\", "/") if place else "nonsmooth" in file
                if function == wanted and inside and not (wanted == "step" and "optimizer.py" in file):
                    found[part] += cumulative
    shares = {part: taken / whole for part, taken in found.items()}
    return {**shares, "the rest": 1 - sum(shares.values())}


def page(made: list[torch.nn.Parameter], repeats: int) -> str:
    """The page, as Markdown."""
    listed = cases(made)
    for case in listed:
        for _ in range(3):
            step(case)
    times = medians(listed, repeats)
    matrices = sum(parameter.ndim > 1 for parameter in made)
    lines = [
        "# The host's side of a step",
        "",
        f"How long a step keeps Python: the {len(made)} tensors of GPT-2 small, {matrices} of them with a penalty, "
        "made so small that arithmetic takes no time, and kernels that are not launched. Where this is longer than the "
        "step takes on a GPU, the GPU may have to wait. What launches take there is missing, torch's and ours alike, "
        f"and torch's own steps do their arithmetic here. Medians of {repeats} repeats in one process, each in another "
        f"order; torch {torch.__version__}, one thread of {platform.machine()}.",
        "",
        "| step | ms | beyond torch's of the kind |",
        "|---|---|---|",
    ]
    for case in listed:
        family = "SGD" if "SGD" in case.name else "Adam"
        base = times[f"{family}, {'fused' if case.name.endswith('True') else 'foreach'}"]
        beyond = f"{times[case.name] - base:.2f}" if case.is_ours and "NAdam" not in case.name else ""
        name = case.name if case.is_ours else f"**{case.name}**"
        lines.append(f"| {name} | {times[case.name]:.2f} | {beyond} |")
    lines += [
        "",
        "Where the time goes, in percent, as a profiler sees it, which makes small functions look larger:",
        "",
    ]
    lines += [f"| step | {' | '.join(PARTS)} | the rest |", "|---" * (len(PARTS) + 2) + "|"]
    for case in listed:
        if case.is_ours:
            shares = parts(case, repeats)
            lines.append(f"| {case.name} | " + " | ".join(f"{100 * share:.0f}" for share in shares.values()) + " |")
    lines += ["", "Made by `make bench-host` (`python benchmarks/host_step.py --output docs/benchmarks/host-step.md`)."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    small = [tuple(max(1, length // 256) for length in shape) for shape in transformer_shapes()]
    text = page(parameters(small), arguments.repeats)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
