"""Iterate a first-order method over an ensemble: seeds × step sizes × penalties in one tensor.

An instance's data is read twice a step and nothing else is large, so the speed is that of the memory that the data
lies in. Instances are therefore taken in blocks, and each block runs all its steps before the next begins: small
enough for the data to stay in the cache, large enough for the fixed cost of some twenty calls a step to be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth.dynamics.recording import Accumulator, Recording, State
from nonsmooth.dynamics.step_sizes import StepSize
from nonsmooth.problems import Problem

CACHE_BYTES = 2560 * 1024
"""Data per block: a core's modest share of a third-level cache (see `make bench` for the measured optimum)."""

Method = Callable[[State, Tensor], Tensor]
"""(state, α_t of shape (instances, variants, 1)) → β_{t+1}."""


def subgradient_step(state: State, step_size: Tensor) -> Tensor:
    """β - α g, the recursion of eq. (1) and (2), which the paper calls GD or NGDM by the function it is applied to."""
    return torch.addcmul(state.point, state.evaluation.subgradient, step_size, value=-1)


@dataclass(frozen=True)
class Run:
    """What an ensemble did.

    Attributes:
        point: the last iterates, shape (instances, variants, features).
        recorded: what was asked for, by name; the last two dimensions are (instances, variants).
    """

    point: Tensor
    recorded: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.recorded[name]


def iterate(
    problem: Problem,
    start: Tensor,
    step_size: StepSize,
    steps: int,
    record: Mapping[str, Recording] | None = None,
    *,
    method: Callable[[], Method] = lambda: subgradient_step,
    block: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Run:
    """Run `steps` steps from `start` on every instance and variant.

    Args:
        problem: what is minimised.
        start: β_0, shape (instances, variants, features).
        step_size: α_t; its initial value broadcasts to (instances, variants).
        steps: number of steps.
        record: what to keep, by name. Recordings see `steps` + 1 states, the start and the end included.
        method: makes the update rule; called once a block, so that a rule with memory starts afresh.
        block: instances per block; by default as many as fit `CACHE_BYTES`.
        progress: called now and then with the fraction done.

    Returns:
        The last points and what was recorded.

    Raises:
        ValueError: shapes that do not fit, or a negative number of steps.
    """
    if start.ndim != 3 or start.shape[-1] != problem.features or problem.instances not in (1, start.shape[0]):
        raise ValueError(
            f"start has shape {tuple(start.shape)}; the problem asks for "
            f"({problem.instances}, variants, {problem.features})"
        )
    if steps < 0:
        raise ValueError(f"steps is {steps}; accepted is a number of at least 0")
    recordings = {} if record is None else record
    instances, variants, _ = start.shape
    initial = torch.as_tensor(step_size.initial, dtype=start.dtype, device=start.device)
    initial = initial.broadcast_to(instances, variants).unsqueeze(-1)
    if block is None:
        block = max(1, CACHE_BYTES // max(problem.bytes_per_instance, 1)) if start.device.type == "cpu" else instances
    points, results = [], []
    for first in range(0, instances, block):
        chosen = slice(first, first + block)
        part = problem.select(chosen) if problem.instances > 1 else problem
        accumulators = {name: recording.start() for name, recording in recordings.items()}

        def report(fraction: float, first: int = first) -> None:
            if progress is not None:
                progress(min(1.0, (first + fraction * block) / instances))

        points.append(
            _run_block(part, start[chosen], initial[chosen], step_size, steps, accumulators, method(), report)
        )
        results.append({name: accumulator.result() for name, accumulator in accumulators.items()})
    recorded = {name: torch.cat([result[name] for result in results], dim=-2) for name in recordings}
    return Run(torch.cat(points), recorded)


def _run_block(
    problem: Problem,
    start: Tensor,
    initial: Tensor,
    step_size: StepSize,
    steps: int,
    accumulators: Mapping[str, Accumulator],
    method: Method,
    report: Callable[[float], None],
) -> Tensor:
    """All steps of one block; returns its last points."""
    point, previous = start, None
    current, factor = initial * step_size.factor(0), step_size.factor(0)
    every = max(1, steps // 50)
    for step in range(steps + 1):
        evaluation = problem.evaluate(point)
        state = State(step, point, evaluation, previous)
        for accumulator in accumulators.values():
            accumulator.update(state)
        if step == steps:
            break
        if step_size.factor(step) != factor:
            factor = step_size.factor(step)
            current = initial * factor
        point = method(state, current)
        previous = evaluation
        if step % every == 0:
            report(step / steps)
    return point
