"""The stationary law of an optimiser on λ|w|: where a weight ends when only the penalty pulls on it.

A subgradient method with a constant step does not settle at the kink, it rattles across it. The law of |w| it then
follows, times the number of weights, is the L1 norm at which a penalised network gets stuck, before it is trained.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.deprecation import renamed_arguments
from nonsmooth.dynamics.burn_in import burn_in
from nonsmooth.dynamics.kink_ensemble import (
    CHUNK,
    KinkEnsemble,
    KinkProblem,
    MakeOptimizer,
    check_separate,
    steady_step,
)
from nonsmooth.dynamics.magnitude_histogram import MagnitudeHistogram
from nonsmooth.preserve_state import RandomState

LARGEST_SHARE = 1e6
"""By how much λ is to be below the largest number of the type: steps and the test of separation multiply it."""
START_STEPS = 30.0
"""Without a start of their own, coordinates start that many steady steps away from the kink, in standard deviations:
far enough that the law does not remember the start, near enough to arrive within some hundred steps."""
OFF_ZERO = (0.01, 0.03)
"""Weights of 0 start that many steady steps from it. From 0 itself there is no way out, as λ·sign(w) is 0 there; in a
network the loss moves a weight off it at once. Little of a step, as the loss is weak beside λ; and more than half a
unit in the last place of a step in bfloat16, or a step away and one back would end on 0 again."""


@dataclass(frozen=True)
class StationaryLaw:
    """The law of |w| of one coordinate.

    Attributes:
        mean_magnitude: E|w|.
        standard_error: of `mean_magnitude`, from the spread between coordinates; 0 for a closed form.
        exact_zeros: probability that w is exactly 0.
        flips_per_step: probability that a step changes the sign of w.
        stalled: probability that w is not 0 and did not move at all while the law was recorded, as where a step is
            lost in the rounding of the weight.
        magnitudes: |w| at which the distribution is kept, increasing.
        cumulative: P(|w| < magnitude) there, for the first one P(w = 0); linear in between.
        settled: whether burn-in was over when the law was recorded. If not, it is what held at that step, and goes on
            changing.
        steps: before the law was recorded.
        drift: relative change of the mean of |w| between the last two windows before that, the second twice as long
            as the first.
        unsettled: what kept burn-in from being over, in words; empty where it was.
        closed_form: E|w| in exact arithmetic where there is a formula (plain SGD), else None.
    """

    mean_magnitude: float
    standard_error: float
    exact_zeros: float
    flips_per_step: float
    stalled: float
    magnitudes: tuple[float, ...] = field(repr=False)
    cumulative: tuple[float, ...] = field(repr=False)
    settled: bool
    steps: int
    drift: float
    unsettled: str
    closed_form: float | None

    def __str__(self) -> str:
        """The mean, which is the L1 norm per weight, the exact zeros, and whether the law has settled."""
        state = f"settled after {self.steps:,} steps" if self.settled else f"not settled: {self.unsettled}"
        return (
            f"law of |w| at the kink: L1 norm {self.mean_magnitude:.4g} ± {self.standard_error:.1g} per weight, "
            f"{self.exact_zeros:.2%} exactly zero, {state}"
        )

    def fraction_below(self, threshold: float) -> float:
        """P(|w| < `threshold`), exact zeros included."""
        if threshold <= 0:
            return 0.0
        return float(np.interp(threshold, self.magnitudes, self.cumulative))

    def quantile(self, probability: float) -> float:
        """The magnitude below which a weight lies with this probability.

        Raises:
            ValueError: `probability` does not lie between 0 and 1.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; accepted are numbers from 0 to 1")
        return float(np.interp(probability, self.cumulative, self.magnitudes))

    def l1_norm(self, parameters: int) -> float:
        """The expected L1 norm of that many independent weights: P·E|w|."""
        return parameters * self.mean_magnitude


@renamed_arguments(step_size="lr", lam="strength")
def subgradient_law(lr: float, strength: float) -> StationaryLaw:
    """The law of plain SGD on λ|w| without noise, in closed form.

    Proposition 3.2: w alternates between γ and γ - αλ. From a start whose density hardly changes over a length of αλ,
    γ is uniform on (0, αλ), so |w| is too: E|w| = αλ/2 and P(|w| < τ) = min(1, τ/(αλ)).

    Args:
        lr: α.
        strength: λ.

    Raises:
        TypeError: either is not a number.
        ValueError: either is not positive.
    """
    width = _positive("lr", lr) * _positive("strength", strength)
    return StationaryLaw(
        mean_magnitude=width / 2,
        standard_error=0.0,
        exact_zeros=0.0,
        flips_per_step=1.0,
        stalled=0.0,
        magnitudes=(0.0, width),
        cumulative=(0.0, 1.0),
        settled=True,
        steps=0,
        drift=0.0,
        unsettled="",
        closed_form=width / 2,
    )


@renamed_arguments(step_size="lr", lam="strength")
def subgradient_mean(lr: float, strength: float, noise: float = 0.0) -> float:
    """E|w| of plain SGD on λ|w| whose gradient has noise of standard deviation σ: α(λ² + σ²)/(2λ).

    In the stationary state E w² is the same after a step w - α(λ sign(w) + ξ) as before it, which is this equation; it
    does not depend on the law of ξ.

    Args:
        lr: α.
        strength: λ.
        noise: σ.

    Raises:
        TypeError: one of them is not a number.
        ValueError: α or λ is not positive, or σ is negative.
    """
    lr, strength, noise = _positive("lr", lr), _positive("strength", strength), _not_negative("noise", noise)
    return lr * (strength + noise * (noise / strength)) / 2  # squares could leave the range of a float


@renamed_arguments(lam="strength")
def stationary_law(
    make_optimizer: MakeOptimizer,
    strength: float,
    noise: float = 0.0,
    *,
    coordinates: int = 8192,
    start: float | Tensor | None = None,
    window: int = 256,
    max_steps: int = 1 << 15,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> StationaryLaw:
    """The law of any torch optimiser on λ|w|, by running that optimiser on independent copies of the problem.

    A coordinate's gradient is λ·sign(w), with sign(0) = 0, plus noise. An optimiser whose groups have a `penalty`, as
    those of `nonsmooth.optim`, takes the prox of λ|w| itself, and its gradient is the noise alone.

    Burn-in is over when the mean of |w|, the flips and the exact zeros of three successive windows, each twice as long
    as the one before, agree up to 0.2 % or their sampling error, and all but one coordinate in a thousand have reached
    the kink, or stand still. Windows that grow by a factor see a drift that slows down for ever, such as Adagrad's.

    Args:
        make_optimizer: makes the optimiser of a list with one parameter, such as
            ``lambda parameters: torch.optim.Adam(parameters, lr=0.01)``; it must act on each coordinate on its own.
        strength: λ.
        noise: σ, the standard deviation of normal noise in each coordinate's gradient, independent between steps.
        coordinates: independent copies.
        start: where coordinates start: a number is the standard deviation of a normal law; a tensor holds weights to
            draw from, such as a network's before training; None takes a normal law 30 steps wide. An optimiser with
            memory has several cycles, and a start within a few steps of the kink has a say in which. Weights of 0,
            or that are lost in the rounding of a step, start 1 to 3 % of a step beside it, on either side, since in a
            network the loss would move them. A proximal optimiser takes them back to 0.
        window: steps over which the law is recorded, after burn-in.
        max_steps: the most steps of burn-in.
        seed: of the starts and of the noise, and of random numbers that the optimiser draws.
        dtype: of the coordinates, float64, float32 or bfloat16; a network's own shows what rounding does to the law.

    Returns:
        The law, with whether it has settled. Where it has not, more `max_steps` may help, or there is no such law.

    Raises:
        TypeError: `make_optimizer` is no function or does not give a torch optimiser, `strength` or `noise` is not a
            number, or `start` is neither a number nor a tensor.
        ValueError: a number is out of its range; the optimiser's penalty is not the L1 penalty of this λ; or it treats
            a coordinate by what others are or were, as LAMB, a clipped norm or Prodigy does, or it needs a closure.
        FloatingPointError: the coordinates do not stay finite.
    """
    coordinates = _count("coordinates", coordinates)
    window = _count("window", window)
    max_steps = _count("max_steps", max_steps)
    seed = _count("seed", seed, least=0)
    strength, noise = _positive("strength", strength), _not_negative("noise", noise)
    if dtype == torch.float16:
        raise ValueError(
            f"dtype is {dtype}; accepted are float64, float32 and bfloat16, which hold the squares of steps"
        )
    problem = KinkProblem(make_optimizer, strength, noise, dtype)
    if strength > torch.finfo(dtype).max / LARGEST_SHARE:
        raise ValueError(f"strength is {strength}; accepted are numbers that {dtype} can count with")
    with _seeded(problem, seed):
        step = steady_step(problem)
        check_separate(problem, step or 1.0)
        if start is None and step == 0:
            raise ValueError(
                "start is None, and the optimiser does not move a weight of 0 in its first steps, so that it does not "
                "say how far away to start; accepted is a start, or an optimiser with a larger step size"
            )
        generator = torch.Generator().manual_seed(seed)
        starts = _starts(coordinates, START_STEPS * step if start is None else start, generator)
        _move_off_zero(starts, step, dtype, generator)
        chunks = torch.split(starts, CHUNK)
        ensemble = KinkEnsemble(problem, chunks[0], generator)
        closed_form = _closed_form(ensemble.optimizer, strength, noise)
        end = burn_in(ensemble, max_steps)
        histogram = MagnitudeHistogram()
        histogram.record(ensemble, window)
        for chunk in chunks[1:]:
            ensemble = KinkEnsemble(problem, chunk, generator)
            for _ in range(end.steps):
                ensemble.step()
            histogram.record(ensemble, window)
    magnitudes, cumulative = histogram.distribution()
    return StationaryLaw(
        mean_magnitude=histogram.mean,
        standard_error=histogram.standard_error,
        exact_zeros=histogram.exact_zeros,
        flips_per_step=histogram.flips_per_step,
        stalled=histogram.stalled,
        magnitudes=magnitudes,
        cumulative=cumulative,
        settled=end.settled,
        steps=end.steps,
        drift=end.drift,
        unsettled=end.unsettled,
        closed_form=closed_form,
    )


@contextmanager
def _seeded(problem: KinkProblem, seed: int) -> Iterator[None]:
    """A block in which an optimiser that draws random numbers draws those of a seed.

    The generator belongs to all threads. It is left alone where the optimiser draws nothing, as hardly one does.
    """
    random_state = RandomState()
    with random_state.watched():
        steady_step(problem)
    random_state.restore()
    if not random_state.drew_from_torch:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _starts(coordinates: int, start: float | Tensor, generator: torch.Generator) -> Tensor:
    """Where the coordinates start, float64, shape (coordinates,)."""
    if isinstance(start, Tensor):
        weights = start.detach().double().cpu().reshape(-1)
        if not len(weights) or not torch.isfinite(weights).all():
            raise ValueError(f"start has {len(weights)} weights; accepted are finite weights, at least one")
        return weights[torch.randint(len(weights), (coordinates,), generator=generator)]
    if not isinstance(start, Real):
        raise TypeError(f"start is a {type(start).__name__}; accepted are a standard deviation and a tensor of weights")
    return torch.empty(coordinates, dtype=torch.float64).normal_(0.0, _positive("start", start), generator=generator)


def _move_off_zero(starts: Tensor, step: float, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Put what would start at 0, or would be lost in the rounding of the first step, beside 0, on either side."""
    first_step = torch.tensor(step, dtype=dtype)
    zero = starts.to(dtype) + first_step == first_step
    if bool(zero.any()):
        least, most = OFF_ZERO
        side = torch.empty_like(starts[zero]).uniform_(-1.0, 1.0, generator=generator)
        starts[zero] = step * (least * side.sign() + (most - least) * side)


def _closed_form(optimizer: Optimizer, strength: float, noise: float) -> float | None:
    """E|w| where there is a formula: plain SGD."""
    group = optimizer.param_groups[0]
    plain = type(optimizer) is torch.optim.SGD and group.get("penalty") is None
    if not plain or any(group[option] for option in ("momentum", "weight_decay", "maximize")) or not group["lr"] > 0:
        return None
    return subgradient_mean(float(group["lr"]), strength, noise)


def _count(name: str, value: Any, least: int = 1) -> int:
    """A whole number of any library, as Python's."""
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ValueError(f"{name} is {value!r}; accepted is a whole number of at least {least}")
    return count


def _positive(name: str, value: Any) -> float:
    return _number(name, value, "a positive number", lambda number: 0 < number < math.inf)


def _not_negative(name: str, value: Any) -> float:
    return _number(name, value, "a number of at least 0", lambda number: 0 <= number < math.inf)


def _number(name: str, value: Any, accepted: str, accepts: Callable[[float], bool]) -> float:
    """A number of any library, as Python's."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; accepted is {accepted}")
    number = float(value)
    if not accepts(number):
        raise ValueError(f"{name} is {value}; accepted is {accepted}")
    return number
