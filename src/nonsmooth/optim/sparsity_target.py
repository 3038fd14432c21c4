"""The share of zeros that one wants, instead of a λ: λ follows in the course of training.

Most of what an L1 penalty costs in accuracy comes from shrinking the weights that stay. So the penalty is used to find
the weights that can go, and is then taken away: after a share `release` of the steps the zeros are kept, λ is 0, and
the other weights train on without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch.optim import Optimizer

from nonsmooth.extremes import largest
from nonsmooth.optim.dual_averaging import DualAveraging
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.optim.prox_taken import takes_prox
from nonsmooth.optim.sparsity_control import Schedule
from nonsmooth.optim.sparsity_pool import Group, as_patterns, bases, choose_parameters, members, split, unit_name
from nonsmooth.optim.sparsity_steering import Steering, state_of
from nonsmooth.optim.tensor_certificate import largest_strength
from nonsmooth.optim.zero_counts import count_units, count_zeros


class SparsityTarget:
    """Moves λ so that a share of the penalized weights becomes zero, then lets the other weights recover.

    Attached by its constructor, through the hooks of the optimizer's step; nothing else is to be called. The goal rises
    from 0 to `sparsity` as 1 - (1-t)³, and λ follows: log λ is a proportional and integral control of the goal minus
    the share of zeros. After `release` of the steps the zeros are kept, λ is 0, and the other weights train on. With
    `release=None` λ settles instead, and what is left at the end is a solution for that λ, which `certify` measures.

    What is counted is what the penalty zeroes: single weights, groups under `GroupL1` and `SparseGroupL1`, singular
    values under `Nuclear`. The λ that the penalty brings is not used as it stands: λ starts from 0. But where groups of
    parameters bring different ones, their ratios stay.

    λ lies in the groups as ever, and so does the state of the target: it is in the optimizer's `state_dict`, and a run
    that is resumed with a new target of the same settings goes on bit for bit. As of all hooks, copies and pickles of
    the optimizer have none of it; build the target again.

    Example:
        >>> optimizer = SteadyAdam(penalize(model, L1(1.0)), lr=1e-3)
        >>> target = SparsityTarget(optimizer, sparsity=0.95, steps=epochs * len(loader))

    Args:
        optimizer: one of `nonsmooth.optim`, or one that `attach` was used on.
        sparsity: the share of zeros to arrive at, in (0, 1).
        steps: the length of training, in steps of the optimizer; those that a GradScaler skips are none.
        release: after which share of the steps the zeros are kept and the penalty goes, in (0, 1]; None for never.
        over: patterns of names, as in a shell, of the parameters that are counted together and get one λ; None for all
            that have a penalty. Several targets with patterns that do not overlap give layers sparsities of their own.

    Raises:
        TypeError: not an optimizer, or `over` is one string instead of several.
        ValueError: a number is out of its range, the optimizer takes no prox, no parameter with a penalty matches, or
            one has a target already; nothing has been changed then.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sparsity: float,
        steps: int,
        *,
        release: float | None = 0.6,
        over: Iterable[str] | None = None,
    ) -> None:
        inner = unwrapped(optimizer)
        self._steering = Steering(Schedule(sparsity, steps, release), as_patterns(over))
        if not takes_prox(inner):
            raise ValueError(
                f"optimizer is a {type(inner).__name__} that takes no prox, so it sets no weight to zero; accepted are "
                "optimizers of nonsmooth.optim, or attach(optimizer, penalty, model=model) first"
            )
        if release is not None and isinstance(inner, DualAveraging):
            raise ValueError(
                f"release is {release}; {type(inner).__name__} computes weights anew from sums of gradients, which "
                "would jump without the penalty; accepted there is None"
            )
        pool = split(inner, choose_parameters(inner, self._steering.over))
        self._optimizer = inner
        self._steering.begin(inner, pool, bases(pool))

    @property
    def step(self) -> int:
        """How many steps have been taken."""
        return int(state_of(self._pool)["step"])

    @property
    def released(self) -> bool:
        """Whether the zeros are kept and λ is 0."""
        return bool(state_of(self._pool)["released"])

    @property
    def goal(self) -> float:
        """The share of zeros that is due now."""
        return self._steering.schedule.goal(self.step)

    @property
    def share(self) -> float:
        """The share of zeros now."""
        found = members(self._pool)
        return count_zeros(found)() / count_units(found)

    @property
    def strength(self) -> float:
        """λ now, the largest where groups have different ones."""
        return largest(largest_strength(penalty) for penalty, _ in members(self._pool))

    def __str__(self) -> str:
        found, schedule, step = members(self._pool), self._steering.schedule, self.step
        aim = f"aim {schedule.sparsity:.1%}"
        if step < schedule.steps and not self.released:
            aim += f", {self.goal:.1%} due now"
        return (
            f"{self.share:.1%} of {count_units(found):,} {unit_name(found)} are zero ({aim}), step {step:,} of "
            f"{schedule.steps:,}, "
            + ("released: zeros are kept, λ = 0" if self.released else f"λ = {self.strength:.3g}")
        )

    @property
    def _pool(self) -> list[Group]:
        return self._steering.pool(self._optimizer)
