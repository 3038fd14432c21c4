"""Independent copies of the problem λ|w| of one coordinate, moved by an optimiser of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.preserve_state import RandomState

MakeOptimizer = Callable[[list[Tensor]], Optimizer]
"""Makes an optimiser of a list of parameters."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

CHUNK = 1 << 16
"""Coordinates that one optimiser holds: with its state they stay in the cache, and memory does not grow with more."""

PILOT_STEPS = 100
PILOT_COORDINATES = 32
FAR = 1000.0
"""How much larger the others are made when it is tested whether a coordinate notices."""
SEPARATION_STEPS, CHANGE = 40, 7
"""Steps of that test, and the one from which the others may pull otherwise."""


class UnsuitableOptimizerError(ValueError):
    """An optimiser that no law can be told of.

    Attributes:
        kind: the name of its class.
        fault: what is wrong with it, a clause about the class.
        accepted: which optimisers are accepted.
    """

    def __init__(self, kind: str, fault: str, accepted: str) -> None:
        super().__init__(f"make_optimizer gives {kind}, {fault}; accepted are {accepted}")
        self.kind = kind
        self.fault = fault
        self.accepted = accepted


@dataclass(frozen=True)
class KinkProblem:
    """What all copies have in common.

    Attributes:
        make_optimizer: makes the optimiser.
        strength: λ.
        noise: standard deviation of the gradient's noise, σ.
        dtype: of the coordinates.

    Raises:
        TypeError: a `make_optimizer` that cannot be called.
        ValueError: a `dtype` that is none of float64, float32, bfloat16 and float16.
    """

    make_optimizer: MakeOptimizer
    strength: float
    noise: float
    dtype: torch.dtype

    def __post_init__(self) -> None:
        if not callable(self.make_optimizer):
            raise TypeError(
                f"make_optimizer is of type {type(self.make_optimizer).__name__}; accepted is a function that makes an "
                "optimiser of a list of parameters, such as lambda parameters: torch.optim.Adam(parameters, lr=0.01)"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype}; accepted are {', '.join(map(str, DTYPES))}")

    def optimizer_of(self, parameter: Tensor) -> Optimizer:
        """An optimiser of one parameter, looked at before it steps.

        Raises:
            TypeError: it is none.
            ValueError: it holds something else than `parameter`, or a penalty other than λ|w|.
        """
        optimizer = self.make_optimizer([parameter])
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"make_optimizer gives {optimizer!r}; accepted is a torch.optim.Optimizer")
        held = [one for group in optimizer.param_groups for one in group["params"]]
        if len(held) != 1 or held[0] is not parameter:
            raise ValueError(
                f"make_optimizer gives an optimiser of {len(held)} parameters; accepted is one of the parameter that "
                "it is called with"
            )
        self._check_penalty(optimizer.param_groups[0].get("penalty"))
        return optimizer

    def _check_penalty(self, penalty: Any) -> None:
        """Raise unless an optimiser's own penalty is none, or the one of this problem."""
        if penalty is None:
            return
        written: Mapping[str, Any] = penalty if isinstance(penalty, Mapping) else {"name": repr(penalty)}
        own = written.get("strength")
        if written.get("name") != "L1" or written.get("weights") is not None or isinstance(own, Tensor):
            raise ValueError(
                f"the optimiser's penalty is {dict(written)}; accepted is L1 of strength {self.strength:g}"
            )
        if own is None or not math.isclose(own, self.strength, rel_tol=1e-9):
            raise ValueError(f"strength is {self.strength:g}, but the optimizer's penalty has {own}; accepted is one λ")


class KinkEnsemble:
    """Copies on their way, as one parameter of shape (1, coordinates), or (coordinates, 1).

    It is a matrix, since some optimisers treat vectors as biases, and otherwise than weights.

    Args:
        problem: what they are copies of.
        start: where they start, shape (coordinates,).
        generator: of the noise.
        in_column: whether they stand below each other.
    """

    def __init__(
        self, problem: KinkProblem, start: Tensor, generator: torch.Generator, *, in_column: bool = False
    ) -> None:
        self._parameter = start.to(problem.dtype, copy=True).unsqueeze(int(in_column)).requires_grad_()
        self.optimizer = problem.optimizer_of(self._parameter)
        self.steps = 0
        self._noise = problem.noise
        self._pull = 0.0 if self.optimizer.param_groups[0].get("penalty") is not None else problem.strength
        self._generator = generator
        self._gradient = torch.empty(len(start), dtype=problem.dtype)
        self._draw = torch.empty(len(start), dtype=torch.float32 if problem.dtype.itemsize == 2 else problem.dtype)

    @property
    def weight(self) -> Tensor:
        """w, shape (coordinates,); read it anew after a step, for an optimiser may put another tensor in its place."""
        return self._parameter.detach().view(-1)

    def step(self) -> None:
        """One step of the optimiser."""
        torch.sign(self.weight, out=self._gradient)
        self._gradient.mul_(self._pull)
        if self._noise:
            self._gradient += self._draw.normal_(0.0, self._noise, generator=self._generator)
        self.push(self._gradient)

    def push(self, gradient: Tensor) -> None:
        """One step with this gradient, shape (coordinates,).

        Raises:
            UnsuitableOptimizerError: the optimiser's step needs a closure.
        """
        self._parameter.grad = gradient.view_as(self._parameter)
        try:
            self.optimizer.step()
        except TypeError as error:
            if "closure" not in str(error) and "'NoneType' object is not callable" not in str(error):
                raise
            raise UnsuitableOptimizerError(
                type(self.optimizer).__name__, "whose step needs a closure", "optimisers that step on a gradient"
            ) from error
        self.steps += 1

    def check_finite(self) -> None:
        """Raise once coordinates are infinite or not a number.

        Raises:
            FloatingPointError: they are.
        """
        if not bool(torch.isfinite(self.weight).all()):
            raise FloatingPointError(
                f"{type(self.optimizer).__name__} diverges on λ|w|: after {self.steps} steps some coordinates are not "
                "finite"
            )


def steady_step(problem: KinkProblem) -> float:
    """How far the optimiser goes in a step, on average, under the pull of λ alone: the mean of its first hundred steps.

    Measured in float64 from 0 on, where nothing is lost in rounding, nor pulled back by weight decay. 0 if the
    optimiser does not move in that time.
    """
    exact = KinkProblem(problem.make_optimizer, problem.strength, 0.0, torch.float64)
    ensemble = KinkEnsemble(exact, torch.zeros(1, dtype=torch.float64), torch.Generator())
    # A prox moves a coordinate towards zero by λ per unit of step, and what pushes it away has to be larger.
    penalized = ensemble.optimizer.param_groups[0].get("penalty") is not None
    gradient = torch.full((1,), 2 * problem.strength if penalized else problem.strength, dtype=torch.float64)
    for _ in range(PILOT_STEPS):
        ensemble.push(gradient.clone())
    ensemble.check_finite()
    return abs(float(ensemble.weight)) / PILOT_STEPS


def check_separate(problem: KinkProblem, step: float) -> None:
    """Raise if what the optimiser does to a coordinate depends on the other coordinates.

    Half of the coordinates take the same steps again and again, beside others that pull as they do, far harder, harder
    or weaker from some step on, always the same way, or without a rule. An optimiser that acts on each coordinate alone
    gives them the same bits. One that goes by the history of a norm tells only once that history has changed, one that
    goes by norms of columns only where the coordinates stand in one.

    Args:
        problem: with the optimiser.
        step: how far the optimiser goes in a step; where half of the coordinates lie depends on it.

    Raises:
        UnsuitableOptimizerError: it does.
    """
    half = PILOT_COORDINATES // 2
    for in_column in (False, True):
        ends = [_beside(others, problem, step, in_column) for others in _OTHERS]
        if not all(torch.equal(end.weight[:half], ends[0].weight[:half]) for end in ends):
            raise UnsuitableOptimizerError(
                type(ends[0].optimizer).__name__,
                "which moves a coordinate by what the others are, or were",
                "optimisers that treat each coordinate on its own, for only these have a law per coordinate",
            )


def _beside(others: Callable[[int], float], problem: KinkProblem, step: float, in_column: bool) -> KinkEnsemble:
    """After the test's steps: half of the coordinates, and then others with that pull."""
    half = PILOT_COORDINATES // 2
    start = step * torch.linspace(1.0, 8.0, PILOT_COORDINATES, dtype=torch.float64)
    start[half:] *= abs(others(0))
    pull = torch.full_like(start, problem.strength).to(problem.dtype)
    random_state = RandomState()
    with random_state.watched():
        ensemble = KinkEnsemble(problem, start, torch.Generator(), in_column=in_column)
        for index in range(SEPARATION_STEPS):
            gradient = pull * _alike(index)
            gradient[half:] = pull[half:] * others(index)
            ensemble.push(gradient)
    random_state.restore()
    return ensemble


def _alike(index: int) -> float:
    """Three steps one way, three the other."""
    return (-1.0) ** (index // 3)


def _far(index: int) -> float:
    return FAR * _alike(index)


def _burst(index: int) -> float:
    return (FAR if index >= CHANGE else 1.0) * _alike(index)


def _fade(index: int) -> float:
    return (1.0 if index >= CHANGE else FAR) * _alike(index)


def _one_way(index: int) -> float:
    del index
    return 1.0


def _without_rule(index: int) -> float:
    return 20 * math.sin(index**2 + 1)


_OTHERS = (_alike, _far, _burst, _fade, _one_way, _without_rule)
