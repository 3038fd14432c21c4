"""What a penalty costs on a GPU: steps against torch's fused ones, bandwidth, training steps, memory.

    python benchmarks/gpu_step.py [--output docs/benchmarks/gpu.md]

Needs a device that Triton compiles for, and no data; without one it says so. Where TRITON_INTERPRET=1 is in the
environment, everything runs on the CPU, in miniature and with no meaning, which shows that the script works. The page,
and a JSON file beside it, are written after each measurement, so that a run that is cut off keeps what it has.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_cases import Case, families
from gpu_page import COPY, page
from gpu_training import FULL, MINIATURE, NETWORKS, training_steps
from step_time import parameters, peak, transformer_shapes, vgg16_shapes

from nonsmooth import kernels

MODELS = {"VGG16": vgg16_shapes, "GPT-2 small": transformer_shapes}
BUSY = 8_000_000
"""Cycles, some 5 ms, that the device waits before a step, so that the host is ahead of it as in training."""

SECONDS = 225.0
"""What has not begun by then is left out: compilers take the most of the time, and more on a slow host."""

Step = Callable[[], object]


class Device:
    """A GPU, and its clock."""

    name = property(lambda self: torch.cuda.get_device_name(self.device))
    backend, repeats, warm_up = "inductor", 25, 5

    def __init__(self) -> None:
        self.device = torch.device("cuda")
        self._cache = torch.empty(1 << 28, dtype=torch.uint8, device=self.device)
        self.size = FULL

    def shapes(self, model: str) -> list[tuple[int, ...]]:
        """The shapes of a model's parameters."""
        return MODELS[model]()

    def times(self, step: Step) -> tuple[float, float]:
        """Take a step: how long the device had to do with it, and how long the host; in ms."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(BUSY)
        self._cache.zero_()
        begin.record()
        started = time.perf_counter()
        step()
        host = time.perf_counter() - started
        end.record()
        end.synchronize()
        return begin.elapsed_time(end), 1e3 * host

    def peak(self, step: Step, made: list[torch.nn.Parameter]) -> int:
        """Bytes that a step holds at most beyond what was there."""
        del made
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def clear(self) -> None:
        """Let go of what is not used any more."""
        gc.collect()
        torch.cuda.empty_cache()


class Interpreter:
    """A CPU on which Triton's programs are interpreted, with few and small tensors."""

    name, backend, repeats, warm_up = "the interpreter, in miniature and with no meaning", "eager", 1, 1

    def __init__(self) -> None:
        self.device, self.size = torch.device("cpu"), MINIATURE

    def shapes(self, model: str) -> list[tuple[int, ...]]:
        """Some of the shapes of a model's parameters, smaller."""
        return [tuple(max(1, length // 1024) for length in shape) for shape in MODELS[model]()[::20]]

    def times(self, step: Step) -> tuple[float, float]:
        """As on a device."""
        started = time.perf_counter()
        step()
        took = 1e3 * (time.perf_counter() - started)
        return took, took

    def peak(self, step: Step, made: list[torch.nn.Parameter]) -> int:
        """As on a device."""
        return peak(step, made)

    def clear(self) -> None:
        """Let go of what is not used any more."""
        gc.collect()


class Report:
    """What has been measured so far, printed and written as it comes."""

    def __init__(self, machine: Device | Interpreter, output: Path | None) -> None:
        triton = importlib.import_module("triton").__version__
        self._found: dict[str, Any] = {"torch": torch.__version__, "triton": triton, "device": machine.name}
        self._found |= {"records": [], "left_out": []}
        self._output, self._began = output, time.perf_counter()

    def add(self, **record: Any) -> None:
        """A record, with its section, model and step."""
        self._found["records"].append(record)
        numbers = ", ".join(f"{key} {value:.3g}" for key, value in record.items() if isinstance(value, float))
        print(f"{record['section']}, {record['model']}: {record['step']}: {numbers}", flush=True)
        self._write()

    def has_time_for(self, what: str) -> bool:
        """Whether there is time left; what is left out is noted."""
        if time.perf_counter() - self._began < SECONDS:
            return True
        self.leave_out(what, "the time was up")
        return False

    def leave_out(self, what: str, why: str) -> None:
        """Note what there is no figure of."""
        self._found["left_out"].append(f"{what} ({why})")
        print(f"left out: {what} ({why})", flush=True)
        self._write()

    def _write(self) -> None:
        if self._output is not None:
            self._output.write_text(page(self._found), encoding="utf-8")
            self._output.with_suffix(".json").write_text(json.dumps(self._found, indent=1) + "\n", encoding="utf-8")


def medians(machine: Device | Interpreter, steps: dict[str, Step]) -> dict[str, tuple[float, float]]:
    """Milliseconds of the device and of the host, by step, taken in turns in another order each time."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    order, shuffled = list(steps), random.Random(0)
    for _ in range(machine.repeats):
        shuffled.shuffle(order)
        for name in order:
            taken[name].append(machine.times(steps[name]))
    return {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in taken.items()}


def warmed_up(machine: Device | Interpreter, steps: dict[str, Step], report: Report, where: str) -> dict[str, Step]:
    """Take some steps with each, which make the state and compile; one that raises is left out."""
    found = {}
    for name, step in steps.items():
        if not report.has_time_for(f"{name}, {where}"):
            continue
        try:
            for _ in range(machine.warm_up):
                step()
        except Exception as error:
            report.leave_out(f"{name}, {where}", f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")
            continue
        found[name] = step
    return found


def measure_steps(machine: Device | Interpreter, report: Report, model: str, family: str, listed: list[Case]) -> None:
    """The steps of a family."""
    made = parameters(machine.shapes(model), machine.device)
    steps = {case.name: step for case in listed if (step := case.make(made)) is not None}
    steps = warmed_up(machine, steps, report, model)
    found = medians(machine, steps)
    size = sum(parameter.nbytes for parameter in made)
    base = found.get(listed[0].name)
    for case in listed:
        if case.name not in found or base is None:
            continue
        elapsed, host = found[case.name]
        own = found.get(case.over or "")
        report.add(
            section="steps", model=model, family=family, step=case.name, ms=elapsed, host_ms=host,
            ratio=elapsed / base[0], over_own=None if own is None else elapsed / own[0],
            memory=None if case.compiled else machine.peak(steps[case.name], made) / size,
        )  # fmt: skip


def measure_kernels(machine: Device | Interpreter, report: Report) -> None:
    """The bandwidth of each kernel."""
    from gpu_kernels import kernels as listed  # noqa: PLC0415  needs Triton

    made = parameters(machine.shapes("VGG16"), machine.device)
    found = {kernel.name: kernel for kernel in listed(made)}
    ready = warmed_up(machine, {name: kernel.call for name, kernel in found.items()}, report, "kernels")
    rates = {}
    for name, (elapsed, _) in medians(machine, ready).items():
        passes = found[name].passes
        rates[name] = rate = passes * found[name].bytes / elapsed / 1e6  # bytes over ms, in GB/s
        share = rate / rates[COPY] if COPY in rates else None
        report.add(section="kernels", model="VGG16", step=name, passes=passes, ms=elapsed, rate=rate, share=share)


def measure_training(machine: Device | Interpreter, report: Report, network: str) -> None:
    """Training steps of a network."""
    model, loss = NETWORKS[network](machine.size, machine.device)
    steps = warmed_up(machine, training_steps(model, loss), report, network)
    found = medians(machine, steps)
    for name, (elapsed, host) in found.items():
        base = found.get("SGD" if "SGD" in name else "Adam")
        ratio = None if base is None else elapsed / base[0]
        report.add(section="training", model=network, step=name, ms=elapsed, host_ms=host, ratio=ratio)


def measure(machine: Device | Interpreter, report: Report) -> None:
    """Everything, what matters most first, and what torch's compiler takes long for last."""
    listed = families(machine.backend)
    main = ("SGD", "Adam")
    plan: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    plan += [(measure_steps, ("VGG16", family, listed[family])) for family in main]
    plan += [(measure_kernels, ()), *((measure_training, (network,)) for network in NETWORKS)]
    plan += [(measure_steps, ("GPT-2 small", family, listed[family])) for family in main]
    rest = [family for family in listed if family not in main]
    plan += [(measure_steps, (model, f, listed[f])) for f in rest if not listed[f][-1].compiled for model in MODELS]
    plan += [(measure_steps, ("VGG16", f, listed[f])) for f in rest if listed[f][-1].compiled]
    for function, arguments in plan:
        function(machine, report, *arguments)
        machine.clear()


def main() -> None:
    """Print what is found, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if kernels.INTERPRETED:
        machine: Device | Interpreter = Interpreter()
    elif torch.cuda.is_available() and kernels.runs_on(torch.device("cuda")):
        machine = Device()
    else:
        print("No GPU on which Triton's programs run: nothing is measured, and nothing written.")
        return
    measure(machine, Report(machine, arguments.output))


if __name__ == "__main__":
    main()
