"""λ Σ_g ‖w_g‖₂, the group LASSO (Yuan & Lin 2006), alone and together with the L1 norm (Simon et al. 2013)."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import beyond, product, widened
from nonsmooth.penalties.group_prox import group_prox, group_prox_, one_for_all
from nonsmooth.penalties.groups import Groups, along, as_dimensions, as_index, by_coordinate, indexed
from nonsmooth.penalties.l1 import soft_threshold_
from nonsmooth.penalties.penalty import Penalty, Step, Strength, check_not_negative, check_share, check_weights
from nonsmooth.penalties.scalars import tensor_like


@dataclass(frozen=True, eq=False, kw_only=True)
class _Grouped(Penalty):
    """A penalty on the norms of groups, given by dimensions or by an index."""

    convex: ClassVar[bool] = True
    is_norm: ClassVar[bool] = True

    dim: int | tuple[int, ...] = 0
    index: Any = None
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        check_not_negative("strength", self.strength)
        if isinstance(self.strength, Tensor) and self.strength.numel() != 1:
            raise ValueError(
                f"strength has shape {tuple(self.strength.shape)}; a penalty on groups accepts one number, and weights "
                "by group"
            )
        object.__setattr__(self, "dim", as_dimensions(self.dim))
        if self.index is not None:
            object.__setattr__(self, "index", as_index(self.index))
        check_weights(self.weights)

    def numbers(self, shape: torch.Size) -> Tensor:
        """The number of each coordinate's group, where there is an index."""
        return by_coordinate(shape, self.index, self.dim)

    def groups(self, shape: torch.Size) -> Groups:
        """The partition of a tensor of that shape.

        Raises:
            ValueError: the dimension or the index does not fit the shape.
        """
        return along(shape, self.dim) if self.index is None else indexed(shape, self.numbers(shape))

    def check_shape(self, shape: torch.Size) -> None:
        """Raise unless groups and weights fit a tensor of that shape.

        Raises:
            ValueError: they do not.
        """
        self._check_count(self.groups(shape))

    def _check_count(self, groups: Groups) -> None:
        if self.weights is not None and self.weights.numel() not in (1, groups.count):
            raise ValueError(
                f"weights has {self.weights.numel()} entries; accepted are {groups.count}, one for each group"
            )

    def check_metric(self, *, by_parts: bool) -> None:
        """Raise, since the norm of complex numbers has no formula in a diagonal metric.

        Raises:
            ValueError: always.
        """
        del by_parts
        raise ValueError(
            f"{type(self).__name__} has no prox of complex numbers in a diagonal metric, which adaptive optimisers "
            "use; accepted there are real parameters"
        )

    def sliced_along(self, ndim: int) -> int | None:
        """The first of the dimensions that number the groups; None for an index, or weights by group."""
        if self.index is not None or self.weights is not None:
            return None
        dims = (self.dim,) if isinstance(self.dim, int) else self.dim
        return min(dim % ndim for dim in dims)

    def group_strength(self, point: Tensor, groups: Groups) -> Strength:
        """λ_g: a number, where it is the same for all groups, else (G,)."""
        strength = self.strength * self.group_share()
        if isinstance(strength, Tensor):
            weights = self.group_weights(point, groups)
            strength = strength.reshape(()).clamp(max=torch.finfo(weights.dtype).max).to(weights)
        elif self.weights is None and groups.dimensions is not None:
            return product(strength, math.sqrt(point.numel() / max(groups.count, 1)), point)
        return product(strength, self.group_weights(point, groups), point)

    def group_weights(self, point: Tensor, groups: Groups) -> Tensor:
        """c_g, (G,): the weights given, or the square root of each group's size.

        Raises:
            ValueError: there are not as many weights as groups.
        """
        self._check_count(groups)
        real = point.abs() if point.is_complex() else point
        if self.weights is None:
            return groups.sizes(real.detach()).sqrt()
        return self.weights.to(device=real.device, dtype=real.dtype).reshape(-1).expand(groups.count)

    def free_coordinates(self, point: Tensor) -> Tensor | None:
        """The groups whose weight is 0, where there is no L1 norm beside the groups'."""
        groups = self.groups(point.shape)
        strength = self.strength * self.group_share() * self.group_weights(point, groups)
        each = torch.as_tensor(self.strength * (1 - self.group_share()), device=strength.device)
        free = (groups.spread((strength == 0).to(strength.dtype)) != 0).expand(point.shape) & (each == 0)
        return free if bool(free.any()) else None

    @abstractmethod
    def group_share(self) -> float:
        """What part of λ is on the norms of the groups; the rest is on the L1 norm."""

    def value(self, point: Tensor, dim: int | None = None) -> Tensor:
        """λR(w), a real number.

        Raises:
            ValueError: `dim` is given; groups need not lie along it.
        """
        if dim is not None:
            raise ValueError(f"dim is {dim}; a penalty on groups has a value for the whole tensor only")
        groups, share = self.groups(point.shape), self.group_share()
        grouped = (self.group_weights(point, groups) * groups.norms(point)).sum()
        return self.strength * (share * grouped + (1 - share) * point.abs().sum())

    def proximal_map(self, point: Tensor, step: Step) -> Tensor:
        """The soft threshold of the coordinates, then that of the groups: exact in a diagonal metric as well."""
        return self.prox_in(self.groups(point.shape), point, step)

    def prox_in(self, groups: Groups, point: Tensor, step: Step) -> Tensor:
        """`proximal_map` with another description of the partition, such as that of a part of the parameter."""
        if self._extreme(groups, point, step):
            return self.prox_in(groups, *widened(point, step)).to(point.dtype)
        if point.is_complex():
            return self._complex_prox(groups, point, step)
        share = self.group_share()
        if share < 1:
            threshold = product(self.strength * (1 - share), step, point)
            threshold = tensor_like(threshold, point)
            point = point - torch.clamp(point, -threshold, threshold)
        return group_prox(point, self.group_strength(point, groups), step, groups)

    def prox_(self, point: Tensor, step: Step) -> None:
        """The same in place."""
        share, groups = self.group_share(), self.groups(point.shape)
        if point.is_complex() or self._extreme(groups, point, step):
            super().prox_(point, step)
            return
        if share < 1:
            soft_threshold_(point, self.strength * (1 - share), step)
        group_prox_(point, self.group_strength(point, groups), step, groups)

    def _extreme(self, groups: Groups, point: Tensor, step: Step) -> bool:
        """Whether λ_g, the step or their product leave the range of the point's type."""
        size = 1.0 if self.weights is not None else math.sqrt(max(point.numel(), 1))
        return not groups.shared and beyond(point.dtype, self.strength * size, step, *_one(self.strength))

    def _complex_prox(self, groups: Groups, point: Tensor, step: Step) -> Tensor:
        share = self.group_share()
        if not one_for_all(step, groups):
            self.check_metric(by_parts=True)
        if share < 1:
            size = point.abs()
            kept = (size - product(self.strength * (1 - share), step, size)).clamp(min=0)
            point = torch.where(size == 0, point, point * (kept / torch.where(size == 0, 1, size)))
        return group_prox(point, self.group_strength(point, groups), step, groups)

    def subgradient(self, point: Tensor) -> Tensor:
        """λ_g w_g/‖w_g‖ + λ₁ sign(w), 0 in groups, and in the second term coordinates, that are 0."""
        groups, share = self.groups(point.shape), self.group_share()
        strength = self.strength * share * self.group_weights(point, groups)
        norms = groups.norms(point)
        direction = point * groups.spread(strength / torch.where(norms == 0, 1, norms))
        return direction + (1 - share) * self.strength * torch.sgn(point)

    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """Distance of -g_g from λ∂R for each group, (G,)."""
        groups, share = self.groups(point.shape), self.group_share()
        strength = self.strength * share * self.group_weights(point, groups)
        each = (1 - share) * self.strength
        norms = groups.norms(point)
        whole = groups.spread(norms)
        direction = point / torch.where(whole == 0, 1, whole)
        pull = gradient + groups.spread(strength) * direction
        # At a zero coordinate of a group that is not zero the L1 part may take any value in [-λ₁, λ₁].
        beside = torch.where(point == 0, (gradient.abs() - each).clamp(min=0), (pull + each * torch.sgn(point)).abs())
        away = groups.total(beside.square()).sqrt()
        within = (groups.total((gradient.abs() - each).clamp(min=0).square()).sqrt() - strength).clamp(min=0)
        return torch.where(norms == 0, within, away)

    def largest_pull(self, point: Tensor) -> Strength:
        """λ_g + λ₁√size of each group, (G,)."""
        groups, share = self.groups(point.shape), self.group_share()
        sizes = groups.sizes((point.abs() if point.is_complex() else point).detach())
        pull: Tensor = self.strength * (share * self.group_weights(point, groups) + (1 - share) * sizes.sqrt())
        return pull

    def units(self, shape: torch.Size) -> int:
        """The number of groups."""
        return self.groups(shape).count

    def unit_sizes(self, point: Tensor) -> Tensor:
        """The root mean square of each group, (G,), which does not grow with the group's size."""
        groups = self.groups(point.shape)
        real = point.abs() if point.is_complex() else point
        return groups.norms(point) / groups.sizes(real).clamp(min=1).sqrt()

    def zero_units(self, point: Tensor) -> Tensor:
        """How many groups are zero as a whole."""
        real = point.real.dtype if point.is_complex() else point.dtype
        return (self.groups(point.shape).total((point != 0).to(real)) == 0).sum()

    def above(self, point: Tensor, size: float) -> Tensor:
        """Where the groups are whose root mean square exceeds `size`, or is NaN."""
        sizes = self.unit_sizes(point)
        return self.groups(point.shape).spread((sizes <= size).to(sizes.dtype)) == 0

    def cut_(self, point: Tensor, chosen: Tensor) -> None:
        """Set groups to zero, in place; `chosen` is (G,)."""
        real = point.real.dtype if point.is_complex() else point.dtype
        point.masked_fill_(self.groups(point.shape).spread(chosen.to(real)) != 0, 0)

    def lam_max(self, gradient_at_zero: Tensor) -> Tensor:
        """The smallest λ for which every group's ‖S(g, λ₁)‖ ≤ λ_g; by bisection where both parts are there."""
        groups, share = self.groups(gradient_at_zero.shape), self.group_share()
        weights, size = self.group_weights(gradient_at_zero, groups), gradient_at_zero.abs()
        if size.numel() == 0:
            return size.new_zeros(())
        norms = groups.total(size.square()).sqrt()
        if share == 1:
            return torch.where(norms == 0, torch.zeros_like(norms), norms / weights).max()
        if share == 0:
            return size.max()
        low = torch.zeros_like(norms)
        high = torch.full_like(norms, float(size.max()) / (1 - share))
        for _ in range(200):
            middle = (low + high) / 2
            left = (size - groups.spread(middle) * (1 - share)).clamp(min=0)
            zero = groups.total(left.square()).sqrt() <= share * middle * weights
            low, high = torch.where(zero, low, middle), torch.where(zero, middle, high)
        return high.max()


def _one(strength: Strength) -> tuple[float, ...]:
    return () if isinstance(strength, Tensor) else (strength,)


@dataclass(frozen=True, eq=False)
class GroupL1(_Grouped):
    """λ Σ_g c_g‖w_g‖₂: a group is zero as a whole or not at all.

    Attributes:
        strength: λ ≥ 0.
        dim: the dimension or dimensions that number the groups, where no index is given: 0 for the rows of a matrix or
            the filters of a convolution, 1 for input features or channels, (0, 1) for the kernels of a convolution.
        index: the groups in another way: the number of each coordinate's group, or of each slice's along `dim` (with
            `dim=1`, which input features belong together), as a tensor, an array or a sequence of integers, or a
            sequence of groups, each a sequence of coordinates of the flattened tensor. They have to be a partition.
        weights: c_g ≥ 0, (G,); None for the square roots of the groups' sizes.

    Raises:
        TypeError: `dim` or `index` is not of its kind.
        ValueError: a strength or a weight is negative, or the index is not a partition.
    """

    strength: Strength

    def group_share(self) -> float:
        """All of it."""
        return 1.0


@dataclass(frozen=True, eq=False)
class SparseGroupL1(_Grouped):
    """λ(r‖w‖₁ + (1-r) Σ_g c_g‖w_g‖₂): whole groups are zero, and single weights in the others.

    Attributes:
        strength: λ ≥ 0.
        l1_ratio: r in [0, 1], the share of the L1 norm.
        dim: as for `GroupL1`.
        index: as for `GroupL1`.
        weights: as for `GroupL1`.

    Raises:
        TypeError: `dim` or `index` is not of its kind.
        ValueError: a strength or a weight is negative, the ratio is outside [0, 1], or the index is not a partition.
    """

    strength: Strength
    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("l1_ratio", self.l1_ratio)

    def group_share(self) -> float:
        """1 - r."""
        return 1 - self.l1_ratio
