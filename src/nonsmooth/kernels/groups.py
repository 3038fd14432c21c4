"""The prox of GroupL1 and SparseGroupL1 for all parameters of an optimiser's group, one launch for each kind of tile.

A launch reads w once and writes it once, and in the metric of an adaptive optimiser reads the squares once; groups too
long for a tile are read again for each sum (`passes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kernels.group_tiles import FIELDS, NUMBERS, ROWS, Slices, Tile, slices_of, tile_for

Dimensions = int | tuple[int, ...]
Tensors = Sequence[Tensor]

PRECISE = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float32: torch.float32}
"""The type of the arithmetic; double precision is its own."""

KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def qualifies(point: Tensor, dim: Dimensions, *others: Tensor) -> bool:
    """Whether the kernel can take the groups of a parameter.

    Args:
        point: w.
        dim: the dimensions that number the groups.
        others: what goes with it: its running square and mean, the mask of its zeros.

    Returns:
        True where w is real and dense in memory, its groups are a middle part of it there, and the others lie as it.
    """
    if point.dtype not in KINDS or point.layout != torch.strided or slices_of(point, dim) is None:
        return False
    return all(
        other.shape == point.shape
        and other.device == point.device
        and all(n <= 1 or a == b for n, a, b in zip(point.shape, point.stride(), other.stride(), strict=True))
        for other in others
    )


@dataclass
class Launch:
    """One launch of the kernel: all tensors with one kind of tile.

    Attributes:
        tile: of each program.
        arrangement: of the groups in memory.
        kinds: types of w, squares, means and weights.
        aligned: whether addresses and the distances of rows are multiples of 16.
        rows: of the table.
        owners: the row of each program.
        table: `rows` on the device, int64, (tensors, FIELDS).
        programs: `owners` on the device, int32, (programs,).
    """

    tile: Tile
    arrangement: int
    kinds: tuple[torch.dtype | None, ...]
    aligned: bool
    rows: list[list[int]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    table: Any = None
    programs: Any = None


@dataclass
class GroupTable:
    """The launches for some tensors, made anew where an address, a size or a type has changed."""

    launches: list[Launch] = field(default_factory=list)
    _known: Any = None

    def refresh(
        self, points: Tensors, dim: Dimensions, others: Sequence[Tensors | None], weights: Tensors | None
    ) -> None:
        """Make the launches, unless they are those of the same tensors.

        Args:
            points: w.
            dim: the dimensions that number the groups.
            others: squares, means and zeros.
            weights: c_g.

        Raises:
            ValueError: a tensor does not qualify.
        """
        lists = [points, *others, weights]
        known = (
            dim,
            [None if each is None else [t.data_ptr() for t in each] for each in lists],
            [(t.shape, t.stride(), t.dtype) for t in points],
            [None if each is None else [t.dtype for t in each] for each in lists],
        )
        if known == self._known:
            return
        found: dict[Any, Launch] = {}
        for column, point in enumerate(points):
            own = [None if each is None else each[column] for each in lists]
            if not qualifies(point, dim, *(t for t in own[1:4] if t is not None)):
                raise ValueError(
                    f"points has a tensor of shape {tuple(point.shape)} and strides {point.stride()} at place "
                    f"{column}; accepted are real tensors, dense in memory, with groups along dim={dim} that are a "
                    "middle part of it there, and squares, means and zeros with the same strides"
                )
            if point.numel():
                _add(found, column, own, slices_of(point, dim))
        device = points[0].device if points else torch.device("cpu")
        for launch in found.values():
            launch.table = torch.tensor(launch.rows, dtype=torch.int64, device=device)
            launch.programs = torch.tensor(launch.owners, dtype=torch.int32, device=device)
        self.launches, self._known = list(found.values()), known


def _add(found: dict[Any, Launch], column: int, own: list[Tensor | None], slices: Slices) -> None:
    """Put one parameter into the launch of its kind."""
    point, square, mean, zeros, weights = own
    tile = tile_for(slices)
    kinds = tuple(None if tensor is None else tensor.dtype for tensor in (point, square, mean, weights))
    neighbour = slices.length if slices.arrangement == ROWS else slices.count
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in own]
    aligned = neighbour % 16 == 0 and all(address % 16 == 0 for address in addresses[:4])
    key = (tile, slices.arrangement, kinds, aligned)
    launch = found.setdefault(key, Launch(*key))
    stride = 0 if weights is None or weights.numel() == 1 else weights.stride(0)
    sizes = [stride, slices.count, slices.inner, slices.length, len(launch.owners), column]
    programs = -(-slices.count // tile.groups)
    launch.owners.extend([len(launch.rows)] * programs)
    launch.rows.append([*addresses, *sizes])


def group_prox_(
    points: Tensors,
    numbers: Tensor,
    *,
    dim: Dimensions,
    squares: Tensors | None = None,
    means: Tensors | None = None,
    zeros: Tensors | None = None,
    weights: Tensors | None = None,
    limited: bool = False,
    table: GroupTable | None = None,
) -> None:
    """Overwrite tensors by their prox of λ₁‖w‖₁ + λ Σ_g c_g‖w_g‖₂, in the metric D, in as few launches as there are tiles.

    Args:
        points: w, real, of any shapes and types.
        numbers: float64, (NUMBERS, n), a column for each tensor: λ, λ₁; α, or scale and ε of D = scale/(√square + ε);
            full, times and slack of the limit; halted, above 0 where nothing is to change.
        dim: the dimensions that number the groups.
        squares: of the shapes of `points`; None for the step α for all coordinates.
        means: beside the squares where those are to be centred.
        zeros: uint8, 1 where the limit does not hold.
        weights: c_g, (G,) or one number for each tensor; None for the roots of the groups' lengths.
        limited: whether no weight may move further than the limit times·full - slack·D, or with means
            D((√square + ε)·times - slack).
        table: kept from call to call, what it knows of these tensors is not found out again.

    Raises:
        ValueError: a tensor does not qualify (`qualifies`).
    """
    table = GroupTable() if table is None else table
    table.refresh(points, dim, (squares, means, zeros), weights)
    if not table.launches:
        return
    from nonsmooth.kernels.group_program import group_prox, triton_type  # noqa: PLC0415  needs Triton

    for launch in table.launches:
        point, square, mean, weight = map(triton_type, launch.kinds)
        work = PRECISE.get(launch.kinds[0], torch.float64)
        limits = torch.finfo(work)
        group_prox[(len(launch.owners),)](
            launch.table,
            launch.programs,
            numbers,
            numbers.shape[1],
            POINT_TYPE=point,
            SQUARE_TYPE=square,
            MEAN_TYPE=mean,
            WEIGHTS_TYPE=weight,
            WORK=triton_type(work),
            TINY=limits.tiny,
            EPS=limits.eps,
            LARGEST=limits.max,
            LIMITED=limited,
            HELD=zeros is not None,
            ARRANGEMENT=launch.arrangement,
            GROUPS=launch.tile.groups,
            LENGTH=launch.tile.length,
            WHOLE=launch.tile.whole,
            ALIGNED=launch.aligned,
            num_warps=launch.tile.warps,
        )
