"""Train on without the penalty, on the weights that it has left."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.foreign_text import visible
from nonsmooth.optim.parameter_groups import check_model, choose
from nonsmooth.select.kept_zeros import set_to_zero, zeros_kept


@dataclass(frozen=True)
class Refit:
    """What training on without the penalty did.

    Attributes:
        before: the score before; NaN where there is no `score`.
        after: the score after.
        error: the standard error of the difference, over validation examples; NaN where the score is one number.
        zeros: number of entries that were held at zero.
        entries: number of entries of the tensors that they lie in.
        written: names of tensors in which something but an optimizer's step had written to what was held: it is zero
            again, but the training saw other weights.
    """

    before: float
    after: float
    error: float
    zeros: int
    entries: int
    written: tuple[str, ...] = ()

    @property
    def change(self) -> float:
        """What the score has risen by."""
        return self.after - self.before

    def __str__(self) -> str:
        held = f"{self.zeros:,} of {self.entries:,} weights held at zero"
        if math.isnan(self.before):
            return held
        error = "" if math.isnan(self.error) else f" ± {self.error:.2g}"
        return f"{held}; score {self.before:.4g} before, {self.after:.4g} after ({self.change:+.2g}{error})"


def refit(
    model: nn.Module,
    fit: Callable[[Any], Any],
    *,
    score: Callable[[Any], Any] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Refit:
    """Train a sparse model on without its penalty: the shrinkage of the other weights goes, the zeros stay.

    A penalty makes weights smaller as well as fewer. Fitted again without it, those that are left lose this bias
    (Belloni & Chernozhukov 2013). Of a small training set they may also learn too much: the effect on validation is
    reported, and a warning says where it got worse.

    Zeros are held whatever optimizer `fit` builds, with momentum, weight decay or closures: their gradients are zero
    before any optimizer sees them, and after each step they are set to zero.

    Args:
        model: trained with a penalty; it is changed.
        fit: model → trains it in place, with an optimizer of its own and without the penalty.
        score: model → how good it is on validation data, higher being better: a number, or one for each example,
            (examples,). No gradients are kept.
        include: patterns of parameters whose zeros are held in any case, such as a vector of coefficients. Of the
            others it is those of at least two dimensions, as `penalize` has them.
        exclude: patterns of parameters whose zeros are not held.

    Raises:
        TypeError: the model is none.
        ValueError: no parameter has a zero to hold.
    """
    check_model(model)
    named = dict(model.named_parameters())
    wanted = {name: named[name] for name in choose(model, named, include, exclude)}
    held = {name: parameter for name, parameter in wanted.items() if bool((parameter == 0).any())}
    if not held:
        raise ValueError(f"model has no zeros in {', '.join(map(visible, wanted))}; accepted is a model that is sparse")
    before = _scored(model, score)
    with zeros_kept(held) as masks:
        fit(model)
        now = dict(model.named_parameters())
        written = tuple(name for name, mask in masks.items() if bool(now[name][mask.to(now[name].device)].any()))
        set_to_zero({now[name]: mask for name, mask in masks.items()})
    after = _scored(model, score)
    change = after - before
    error = float(change.std()) / math.sqrt(len(change)) if change.ndim else math.nan
    found = Refit(
        before=float(before.mean()),
        after=float(after.mean()),
        error=error,
        zeros=sum(int(mask.sum()) for mask in masks.values()),
        entries=sum(mask.numel() for mask in masks.values()),
        written=written,
    )
    _warn(found)
    return found


def _scored(model: nn.Module, score: Callable[[Any], Any] | None) -> Tensor:
    """A score as a number or a number for each example, float64."""
    if score is None:
        return torch.tensor(math.nan)
    modes = [(module, module.training) for module in model.modules()]
    with torch.no_grad():
        values = torch.as_tensor(score(model)).detach().to("cpu", torch.float64)
    for module, mode in modes:
        module.training = mode
    return values


def _warn(found: Refit) -> None:
    if found.change < 0:
        warnings.warn(
            f"refitting has lowered the score from {found.before:.4g} to {found.after:.4g}: without the penalty the "
            "weights that are left fit the training data too closely, or the training was too long or too coarse",
            stacklevel=3,
        )
    if found.written:
        warnings.warn(
            f"something other than an optimizer's step has written to zeros of {', '.join(map(visible, found.written))}"
            ": they are zero again, but the training saw other weights",
            stacklevel=3,
        )
