"""One seed's models along a sequence of λ, each trained from the one before."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nonsmooth.lab import Cell, Context
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint
from nonsmooth.optim import catch_up, certify, takes_prox
from nonsmooth.penalties import Penalty
from nonsmooth.select.running import UserCode, seeded
from nonsmooth.select.zeros import count_zeros, penalized, unfelt

MakeModel = Callable[[int], nn.Module]
Fit = Callable[[Any, Penalty, int], Optimizer]
Score = Callable[[Any, int], Any]
Loss = Callable[[Any, int], Tensor]

WEIGHTS = "weights"
"""The subfolder of the results in which the weights of each point lie."""


@dataclass(frozen=True)
class PathRun:
    """One model: what came of one λ and one seed.

    Attributes:
        strength: λ.
        seed: of the chain.
        score: on validation data, the mean where there is one per example.
        score_error: its standard error over examples; NaN where the score is one number.
        zeros: number of penalised entries that are exactly 0.
        penalized: number of penalised entries.
        unit: what else the penalty sets to zero: "groups", "singular values", or "".
        units: number of these.
        zero_units: number of these that are 0.
        loss: on the training data; NaN without a `loss`, as are the four below.
        penalty: λR(w).
        residual: the certificate's `relative_residual`.
        typical_residual: the certificate's.
        movement: the certificate's; NaN where it is not known.
        seconds: of training and measuring.
    """

    strength: float
    seed: int
    score: float
    score_error: float
    zeros: int
    penalized: int
    unit: str
    units: int
    zero_units: int
    loss: float
    penalty: float
    residual: float
    typical_residual: float
    movement: float
    seconds: float

    @property
    def share(self) -> float:
        """The share of groups or singular values that are zero, or of entries where the penalty is on entries alone."""
        return self.zero_units / self.units if self.unit else self.zeros / self.penalized

    @property
    def size(self) -> int:
        """How many groups or singular values are left, or entries where the penalty is on entries alone."""
        return self.units - self.zero_units if self.unit else self.penalized - self.zeros


@dataclass(frozen=True)
class PathCode(UserCode):
    """What a path is made of; a base class.

    Attributes:
        make_model: a seed → a model with its starting weights.
        fit: model, penalty, seed → the optimizer that has trained the model in place.
        penalty: λR, its λ to be replaced.
        loss: model, seed → the loss on the training data.
    """

    make_model: MakeModel
    fit: Fit
    penalty: Penalty
    loss: Loss | None

    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """The user's functions, by the arguments that they came in."""
        return {"make_model": self.make_model, "fit": self.fit, "loss": self.loss}


@dataclass(frozen=True)
class Chain(PathCode):
    """Trains one seed's chain of models, and keeps the weights of each with what was measured of it.

    A file of weights is the checkpoint as well: a chain that was killed goes on after the last whole one. Behind a
    model whose weights are not all finite, it starts afresh.

    Attributes:
        score: model, seed → how good it is on validation data.
        folder: in which the weights are kept.
        down: whether the chain starts at the largest λ, so that zero must not be a dead end.
    """

    score: Score
    folder: Path
    down: bool

    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """The user's functions, by the arguments that they came in."""
        return {**super().functions(), "score": self.score}

    def __call__(self, cell: Cell, context: Context) -> dict[str, list[Any]]:
        """Train the models that are missing; a list for each number of a `PathRun`."""
        strengths: Any = cell.parameters["strengths"]
        model = self._fresh(cell.seed)
        runs: list[dict[str, Any]] = []
        for place, strength in enumerate(strengths):
            at = weights_file(self.folder, cell, place), f"{cell.key} {place}"
            state = load_checkpoint(*at)
            if state is None:
                self.stop_if_asked()
                model = model if is_finite(model) else self._fresh(cell.seed)
                run = self._train(model, strength, cell.seed, place)
                save_checkpoint(at[0], {"model": model.state_dict(), "run": asdict(run)}, at[1])
                runs.append(asdict(run))
            else:
                model.load_state_dict(state["model"])
                runs.append(state["run"])
            context.progress((place + 1) / len(strengths))
        return {name: [run[name] for run in runs] for name in runs[0]}

    def _fresh(self, seed: int) -> nn.Module:
        with seeded(seed):
            return self.make_model(seed)

    def _train(self, model: nn.Module, strength: float, seed: int, place: int) -> PathRun:
        start = time.perf_counter()
        with seeded(seed, place + 1):
            optimizer = self.fit(model, with_strength(self.penalty, strength), seed)
            check_penalty_used(optimizer, strength)
            catch_up(optimizer)
            counted = count_zeros(optimizer)
            if self.down and counted.zeros == counted.penalized:
                self._check_way_out(model, optimizer, seed)
            certified = self._certified(model, optimizer, seed)
            with _modes_kept(model), torch.no_grad():
                score, error = mean_and_error(self.score(model, seed))
        seconds = time.perf_counter() - start
        return PathRun(strength, seed, score, error, **asdict(counted), **certified, seconds=seconds)

    def _check_way_out(self, model: nn.Module, optimizer: Any, seed: int) -> None:
        """Raise where all weights are zero and some would stay so at every λ."""
        loss = self.loss
        if loss is not None and (stuck := unfelt(optimizer, lambda: loss(model, seed))):
            raise ValueError(
                f"direction is 'down', but where all weights are zero the loss does not feel {', '.join(stuck)}: a "
                "network with hidden layers would stay at zero for every λ; accepted there is direction='up'"
            )

    def _certified(self, model: nn.Module, optimizer: Any, seed: int) -> dict[str, Any]:
        """What a certificate on the training data says; NaN where no loss was given."""
        names = ("loss", "penalty", "residual", "typical_residual", "movement")
        loss = self.loss
        if loss is None:
            return dict.fromkeys(names, math.nan)
        found = certify(optimizer, lambda: loss(model, seed))
        movement = math.nan if found.movement is None else found.movement
        numbers = (found.loss, found.penalty, found.relative_residual, found.typical_residual, movement)
        return dict(zip(names, numbers, strict=True))


def weights_file(folder: Path, cell: Cell, place: int) -> Path:
    """Where the weights of a chain's model lie."""
    return folder / WEIGHTS / cell.key / f"{place:03}.pt"


def is_finite(model: nn.Module) -> bool:
    """Whether all weights of a model are finite numbers."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def with_strength(penalty: Penalty, strength: float) -> Penalty:
    """The penalty with another λ."""
    changed: Penalty = replace(penalty, strength=strength)  # type: ignore[type-var]
    return changed


def check_penalty_used(optimizer: Any, strength: float) -> None:
    """Raise unless what trained the model has the penalty that it was to be trained with.

    Raises:
        TypeError: it is no optimizer.
        ValueError: it takes no prox, or with another λ.
    """
    if not takes_prox(optimizer):
        raise ValueError(
            f"fit returned a {type(optimizer).__name__} that takes no prox; accepted is an optimizer of nonsmooth, or "
            "one that nonsmooth.attach was used on, built with the penalty that fit was given"
        )
    found = sorted({float(torch.as_tensor(penalty.strength).max()) for _, _, penalty in penalized(optimizer)})
    if not any(math.isclose(each, strength, rel_tol=1e-6) for each in found):
        raise ValueError(
            f"fit was given a penalty with λ = {strength:g}, and its optimizer has λ = "
            f"{', '.join(f'{each:g}' for each in found) or 'none'}; accepted is the penalty that it was given"
        )


def mean_and_error(score: Any) -> tuple[float, float]:
    """A score and its standard error, NaN for a single number.

    Raises:
        ValueError: it is neither one number nor a number for each of at least two examples.
    """
    values = torch.as_tensor(score).detach().to("cpu", torch.float64)
    if values.ndim == 0:
        return float(values), math.nan
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"score returned the shape {tuple(values.shape)}; accepted are a number, or one for each of at least two "
            "examples"
        )
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


@contextlib.contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """A block that may switch modules to evaluation: the next fit finds them as this one left them."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
