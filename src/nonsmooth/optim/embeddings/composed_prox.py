"""Many proxes in a row as one: those of L1, the elastic net and the norms of rows, where the step is a number.

Such a prox takes a magnitude s, of a coordinate or a row, to max(s - a, 0)/(1 + b): a = λrα and b = λ(1-r)α under the
elastic net with the ratio r, b = 0 under a norm. Those from the i-th on take it to max(qᵢs - tᵢ, 0), with
qᵢ = Π_{j≥i} 1/(1 + bⱼ) and tᵢ = Σ_{j≥i} aⱼqⱼ. Added up from the last one these lose no digits: all terms are positive,
and no sum is a difference of longer ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth.penalties import L1, ElasticNet, GroupL1, Penalty


class ComposedProx:
    """The last proxes of a sequence, of any number of them.

    Args:
        shrinkage: q, one for each number of proxes, none at the end, float64.
        threshold: t, likewise.
        on_rows: whether s is the norm of a row.
    """

    def __init__(self, shrinkage: Tensor, threshold: Tensor, *, on_rows: bool) -> None:
        self._shrinkage, self._threshold, self._on_rows = shrinkage, threshold, on_rows

    def take_(self, part: Tensor, first: Tensor) -> None:
        """Overwrite rows by their proxes.

        Args:
            part: rows, (rows, …), float32 or float64.
            first: the number of the first prox that each row takes, (rows,), int64.
        """
        sides = (-1, *[1] * (part.ndim - 1))
        shrinkage, threshold = self._shrinkage[first].view(sides), self._threshold[first].view(sides)
        exact = part.double()
        if self._on_rows:
            norms = torch.linalg.vector_norm(exact.flatten(1), dim=1).view(sides) if part.ndim > 1 else exact.abs()
            part.copy_(exact.mul_((1 - threshold / torch.where(norms == 0, 1, norms)).clamp_(min=0)))
        else:
            part.copy_(torch.copysign((exact.abs() * shrinkage).sub_(threshold).clamp_(min=0), exact))


Numbers = tuple[float, float, float]
"""Whether s is the norm of a row, 1 or 0, then a and b."""


def composed(steps: Sequence[Numbers | None], like: Tensor) -> ComposedProx | None:
    """The composition of proxes; None where there is no such formula.

    Args:
        steps: what `numbers_of` gave for each, in the order in which they are taken.
        like: rows that they are on. Half precision is left out: each prox rounds it anew.
    """
    if like.dtype not in (torch.float32, torch.float64) or None in steps:
        return None
    table = torch.tensor(steps, dtype=torch.float64, device="cpu").reshape(-1, 3).flip(0)
    on_rows = table[:, 0] > 0
    if bool(on_rows.any()) and not bool(on_rows.all()):
        return None
    # So that ∞·q and ∞ - t stay ∞.
    shrinkage = (1 / (1 + table[:, 2])).cumprod(0).clamp(min=math.ulp(0.0))
    threshold = (table[:, 1] * shrinkage).cumsum(0).clamp(max=torch.finfo(torch.float64).max)
    none = table.new_zeros(1)
    tables = (torch.cat([shrinkage.flip(0), none + 1]), torch.cat([threshold.flip(0), none]))
    return ComposedProx(*(each.to(like.device) for each in tables), on_rows=bool(on_rows.any()))


def numbers_of(penalty: Penalty, step: Any, size: torch.Size) -> Numbers | None:
    """What a prox is here; None where it has no such numbers.

    Args:
        penalty: λR.
        step: D.
        size: the shape of the rows, or of all rows.
    """
    if not isinstance(step, float | int) or isinstance(penalty.strength, Tensor):
        return None
    if type(penalty) is GroupL1:
        dims = (penalty.dim,) if isinstance(penalty.dim, int) else penalty.dim
        if penalty.index is not None or penalty.weights is not None or {dim % len(size) for dim in dims} != {0}:
            return None
        return 1.0, penalty.strength * step * math.sqrt(math.prod(size[1:])), 0.0
    if type(penalty) not in (L1, ElasticNet) or penalty.weights is not None:  # type: ignore[attr-defined]
        return None
    ratio = getattr(penalty, "l1_ratio", 1.0)
    return 0.0, penalty.strength * ratio * step, penalty.strength * (1 - ratio) * step
