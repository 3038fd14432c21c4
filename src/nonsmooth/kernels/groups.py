"""The prox of GroupL1 and SparseGroupL1 for all parameters of an optimiser's group, one launch for each kind of tile.

A launch reads w once and writes it once, and in the metric of an adaptive optimiser reads the squares once: two passes
over tensors of the parameters' size, or three (four where squares are centred). A group too long for a tile is read
once more to scale it, and w and the squares once for each step of Newton's method, mostly three or four.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nonsmooth.kernels import tables
from nonsmooth.kernels.arithmetic import TYPES
from nonsmooth.kernels.group_program import group_prox
from nonsmooth.kernels.group_tiles import METRICS, ROWS, Slices, Tile, slices_of, tile_for
from nonsmooth.kernels.numbers import Row
from nonsmooth.kernels.upload import Upload

Dimensions = int | tuple[int, ...]
Role = Sequence[Tensor] | None
"""Tensors that play the same part, one for each parameter; None where there is no such part."""


def qualifies(point: Tensor, dim: Dimensions, *others: Tensor) -> bool:
    """Whether the kernel can take the groups of a parameter.

    Args:
        point: w.
        dim: the dimensions that number the groups.
        others: what goes with it: its running square and mean, the mask of its zeros.

    Returns:
        True where w is real and dense in memory, the dimensions are a middle part of it there, as those of filters,
        rows and columns are, and the others lie as it does.
    """
    return tables.qualifies(point, *others) and slices_of(point, dim) is not None


class Kind(NamedTuple):
    """What is compiled for: parameters alike in it share a launch.

    Attributes:
        tile: what each program takes.
        arrangement: of the groups in memory.
        types: of w, squares, means and weights; None for what is not there.
        aligned: whether addresses and the distance of neighbouring rows are multiples of 16.
    """

    tile: Tile
    arrangement: int
    types: tuple[torch.dtype | None, ...]
    aligned: bool


@dataclass
class Launch:
    """One launch of the kernel.

    Attributes:
        kind: what is compiled for.
        rows: of the table (`group_tiles.FIELDS`).
        owners: which row each program belongs to.
        table: `rows` on the device, int64.
        programs: `owners` on the device, int32.
    """

    kind: Kind
    rows: list[list[int]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    table: Any = None
    programs: Any = None


class GroupTable:
    """The launches for some parameters, made anew where an address, a shape or a type has changed.

    Args:
        device: where the parameters lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._upload = Upload(device)
        self._known: Any = None
        self._launches: list[Launch] = []

    def on_device(self) -> AbstractContextManager[Any]:
        """Makes the table's device the current one, on which Triton launches."""
        return self._upload.on_device()

    def launches(self, roles: Sequence[Role], dim: Dimensions) -> list[Launch]:
        """One launch for each kind of tile.

        Args:
            roles: lists of the same length: points, squares, means, zeros and weights.
            dim: the dimensions that number the groups.

        Raises:
            ValueError: a tensor does not qualify, weights are none for the groups, or lists differ in length.
        """
        seen = [
            None if role is None else [(each.data_ptr(), each.dtype, each.stride()) for each in role] for role in roles
        ]
        known = (dim, [each.shape for each in roles[0] or ()], seen)
        launches = self._launches
        if known != self._known:
            launches = planned(roles, dim)
            for launch in launches:
                launch.table = self._upload(torch.tensor(launch.rows, dtype=torch.int64, device="cpu"))
                launch.programs = self._upload(torch.tensor(launch.owners, dtype=torch.int32, device="cpu"))
            # What is copied in a capture is there only once the graph is replayed.
            if not self._upload.capturing():
                self._known, self._launches = known, launches
        self._upload.keep(*(array for launch in launches for array in (launch.table, launch.programs)))
        return launches


def planned(roles: Sequence[Role], dim: Dimensions) -> list[Launch]:
    """One launch for each kind of tile, with nothing on the device yet; see `GroupTable.launches`."""
    points = roles[0] or ()
    if any(role is not None and len(role) != len(points) for role in roles):
        raise ValueError(
            f"lists have {[len(role) for role in roles if role is not None]} tensors; accepted are equal numbers"
        )
    found: dict[Kind, Launch] = {}
    for column, point in enumerate(points):
        own = [None if role is None else role[column] for role in roles]
        slices = slices_of(point, dim)
        if slices is None or not tables.qualifies(point, *(each for each in own[1:4] if each is not None)):
            raise ValueError(
                f"a tensor of shape {tuple(point.shape)} and strides {point.stride()} has groups along dim={dim}; "
                "accepted are real tensors, dense in memory, of which these dimensions are a middle part there, with "
                "squares, means and zeros that have the same strides"
            )
        if point.numel():
            _add(found, column, point, own, slices)
    return list(found.values())


def _add(found: dict[Kind, Launch], column: int, point: Tensor, own: list[Tensor | None], slices: Slices) -> None:
    """Put one parameter into the launch of its kind.

    Raises:
        ValueError: the weights are none for these groups.
    """
    _, square, mean, _, weights = own
    if weights is not None and not _fits(weights, point, slices.count):
        raise ValueError(
            f"weights has shape {tuple(weights.shape)} and dtype {weights.dtype}; accepted are {slices.count} "
            "floating-point numbers, one for each group, or one for all, that lie in order on the parameter's device"
        )
    types = tuple(None if each is None else each.dtype for each in (point, square, mean, weights))
    tile = tile_for(slices, adaptive=square is not None, double=types[0] == torch.float64)
    addresses = [0 if each is None else each.data_ptr() for each in own]
    distance = slices.length if slices.arrangement == ROWS else slices.count
    aligned = distance % 16 == 0 and all(address % 16 == 0 for address in addresses[:4])
    kind = Kind(tile, slices.arrangement, types, aligned)
    launch = found.setdefault(kind, Launch(kind))
    stride = 0 if weights is None or weights.numel() == 1 else weights.stride(-1)
    sizes = [stride, slices.count, slices.inner, slices.length, len(launch.owners), column]
    launch.owners.extend([len(launch.rows)] * -(-slices.count // tile.groups))
    launch.rows.append([*addresses, *sizes])


def _fits(weights: Tensor, point: Tensor, count: int) -> bool:
    """Whether the kernel finds a weight for each group."""
    in_order = weights.ndim <= 1 or weights.is_contiguous()
    known = weights.dtype in tables.FLOATS and weights.device == point.device
    return weights.numel() in (1, count) and in_order and known


def group_prox_(
    points: Sequence[Tensor],
    numbers: Tensor,
    *,
    dim: Dimensions,
    squares: Role = None,
    means: Role = None,
    zeros: Role = None,
    weights: Role = None,
    sparse: bool = False,
    limited: bool = True,
    table: GroupTable | None = None,
) -> None:
    """Overwrite tensors by their prox of λ₁‖w‖₁ + λ Σ_g c_g‖w_g‖₂ in the metric D.

    Args:
        points: w, real, of any shapes and floating types.
        numbers: float64, (len(Row), n), a column for each tensor: STRENGTH λ, L1_STRENGTH λ₁ where there is one; STEP,
            or SCALE and EPSILON of D = SCALE/(√square + EPSILON); FULL, TIMES and SLACK of the limit; HALTED.
        dim: the dimensions that number the groups.
        squares: of the shapes of `points`; None for STEP at all coordinates.
        means: beside the squares where those are to be centred.
        zeros: uint8, 1 where the limit does not hold.
        weights: c_g, (G,) or one number, for each tensor; None for the roots of the groups' lengths.
        sparse: whether there is a λ₁.
        limited: whether with squares no weight may move further than TIMES·FULL - SLACK·D, and with means
            D((√square + EPSILON)·TIMES - SLACK).
        table: kept from call to call, it is not made again for the same tensors.

    Raises:
        ValueError: a tensor does not qualify (`qualifies`), weights are none for the groups, lists differ in length,
            or the numbers are of another shape or type.
    """
    if numbers.shape != (len(Row), len(points)) or numbers.dtype != torch.float64:
        raise ValueError(
            f"numbers has shape {tuple(numbers.shape)} and dtype {numbers.dtype}; accepted are "
            f"{(len(Row), len(points))} and torch.float64"
        )
    if not points:
        return
    table = GroupTable(points[0].device) if table is None else table
    metric = METRICS[0 if squares is None else 1 if means is None else 2]
    limited = limited and squares is not None
    for launch in table.launches((points, squares, means, zeros, weights), dim):
        compiled_for = constants(launch.kind, metric, sparse=sparse, limited=limited, held=zeros is not None)
        with table.on_device():
            group_prox[(len(launch.owners),)](
                launch.table,
                launch.programs,
                numbers,
                numbers.shape[1],
                **compiled_for,
                num_warps=launch.kind.tile.warps,
                enable_fp_fusion=False,  # PyTorch rounds a product before it subtracts it
            )


def constants(kind: Kind, metric: str, *, sparse: bool, limited: bool, held: bool) -> dict[str, Any]:
    """The arguments of `group_prox` that a program is compiled for; none of them changes from step to step.

    Args:
        kind: of the launch.
        metric: one of `METRICS`.
        sparse: whether there is a λ₁.
        limited: whether there is a limit.
        held: whether there is a mask of zeros.
    """
    tile, arrangement, types, aligned = kind
    work = torch.float64 if types[0] == torch.float64 else torch.float32
    numbers = torch.finfo(work)
    return {
        "TYPES": tuple(None if each is None else TYPES[each] for each in types),
        "FORM": (
            *(arrangement, tile.groups, tile.length, tile.whole, metric, sparse),
            *(TYPES[work], numbers.tiny, numbers.eps, numbers.max),
        ),
        "LIMITED": limited,
        "HELD": held,
        "ALIGNED": aligned,
    }
