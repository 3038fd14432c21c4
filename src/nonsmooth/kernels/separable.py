"""The prox of a penalty that is a sum over coordinates, for a group of parameters in one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nonsmooth.kernels.arithmetic import HALTED, STRENGTH, TYPES, computed_in, number, place, read, write
from nonsmooth.kernels.numbers import Row
from nonsmooth.kernels.prox import take_prox
from nonsmooth.kernels.tables import Role, Table

KINDS = ("l1", "elastic_net", "mcp", "scad", "transformed_l1", "l0")
"""The penalties, by the names that programs know them by."""

WARPS = 8


def check_call(kind: str, numbers: Tensor, count: int, *, steady: bool) -> None:
    """Raise unless a program can be called so.

    Raises:
        ValueError: the kind is not known, has no slope at zero for a memory of pulls, or the numbers are of another
            shape or type.
    """
    accepted = KINDS[:-1] if steady else KINDS
    if kind not in accepted:
        raise ValueError(f"kind is {kind!r}; accepted are {', '.join(accepted)}")
    if numbers.shape != (len(Row), count) or numbers.dtype != torch.float64:
        raise ValueError(
            f"numbers has shape {tuple(numbers.shape)} and dtype {numbers.dtype}; accepted are {(len(Row), count)} and "
            "torch.float64"
        )


def separable_prox_(
    kind: str,
    points: list[Tensor],
    numbers: Tensor,
    *,
    table: Table,
    squares: Role = None,
    means: Role = None,
    limited: bool = True,
    zeros: Role = None,
    pulls: Role = None,
    strengths: Role = None,
) -> None:
    """Overwrite parameters by their prox, in one launch for each combination of dtypes.

    A launch reads and writes each point once, and reads squares, means, zeros and strengths once, where they are given;
    pulls it reads and writes once.

    Args:
        kind: one of `KINDS`.
        points: w, float16, bfloat16, float32 or float64.
        numbers: rows HALTED, STRENGTH (unless `strengths` are given) and SHAPE (for all kinds but "l1" and "l0");
            STEP, or with squares SCALE and EPSILON, and if limited FULL, TIMES and SLACK; with pulls COUNT, FORGETTING
            and, if limited, WARM_UP.
        table: of this list of parameters.
        squares: the running squares that the metric is made of; None for the Euclidean metric.
        means: the running means, where the square is centred.
        limited: whether an adaptive prox has a limit, as each of torch's optimisers gives it.
        zeros: 1 where a weight was 0 before the step, uint8; needed with pulls, else None for nowhere.
        pulls: the memory of a steady optimiser, in the type that is computed in.
        strengths: λcⱼ by coordinate.

    Raises:
        ValueError: an argument is none of those accepted.
    """
    check_call(kind, numbers, len(points), steady=pulls is not None)
    if pulls is not None and zeros is None:
        raise ValueError("zeros is None; with pulls it has to say where weights were 0")
    metric = "euclidean" if squares is None else "adaptive" if means is None else "centred"
    limited = limited and squares is not None
    if not limited and pulls is None:
        zeros = None
    with table.on_device():
        for launch in table.launches((points, squares, means, zeros, pulls, strengths)):
            _separable_prox[(launch.blocks,)](
                numbers,
                numbers.shape[1],
                launch.layout,
                launch.owners,
                launch.addresses,
                launch.tensors,
                KIND=kind,
                METRIC=metric,
                LIMITED=limited,
                ZEROS=zeros is not None,
                STEADY=pulls is not None,
                NUMBER=strengths is None,
                TYPES=tuple(TYPES[dtype] for dtype in launch.dtypes),
                T=computed_in(launch.dtypes[0]),
                ALIGNED=launch.aligned,
                BLOCK=table.block,
                num_warps=WARPS,
                enable_fp_fusion=False,  # PyTorch rounds a product before it subtracts it
            )


def mark_zeros_(points: list[Tensor], masks: list[Tensor], *, table: Table) -> None:
    """Overwrite masks by 1 where parameters are 0, and 0 elsewhere.

    A launch reads each point once, and writes its mask, of a byte for each coordinate, once.

    Args:
        points: w, float16, bfloat16, float32 or float64.
        masks: uint8, in memory as the points are.
        table: of this list of parameters, for this function.
    """
    with table.on_device():
        for launch in table.launches((points, masks)):
            _mark_zeros[(launch.blocks,)](
                launch.layout,
                launch.owners,
                launch.addresses,
                launch.tensors,
                TYPES=tuple(TYPES[dtype] for dtype in launch.dtypes),
                ALIGNED=launch.aligned,
                BLOCK=table.block,
                num_warps=WARPS,
            )


@triton.jit(do_not_specialize=["count"])
def _mark_zeros(layout, owners, addresses, count, TYPES: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    size = tl.load(layout + owner)
    start = (program - tl.load(layout + (count + owner))) * BLOCK  # int64, as the layout is
    offsets = start + tl.arange(0, BLOCK)
    points = place(addresses, 0, count, owner, TYPES[0], ALIGNED)
    masks = place(addresses, 1, count, owner, TYPES[1], ALIGNED)
    if start + BLOCK <= size:
        write(masks, offsets, size, (read(points, offsets, size, True) == 0).to(tl.uint8), True)
    else:
        write(masks, offsets, size, (read(points, offsets, size, False) == 0).to(tl.uint8), False)


@triton.jit(do_not_specialize=["width", "count"])
def _separable_prox(
    numbers,
    width,
    layout,
    owners,
    addresses,
    count,
    KIND: tl.constexpr,
    METRIC: tl.constexpr,
    LIMITED: tl.constexpr,
    ZEROS: tl.constexpr,
    STEADY: tl.constexpr,
    NUMBER: tl.constexpr,
    TYPES: tl.constexpr,
    T: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    column = tl.load(layout + (count * 2 + owner))
    if number(numbers, HALTED, width, column) > 0:
        return
    size = tl.load(layout + owner)
    start = (program - tl.load(layout + (count + owner))) * BLOCK  # int64, as the layout is
    if start + BLOCK <= size:
        _block(
            numbers, width, column, addresses, count, owner, start, size,
            KIND, METRIC, LIMITED, ZEROS, STEADY, NUMBER, TYPES, T, ALIGNED, BLOCK, True,
        )  # fmt: skip
    else:
        _block(
            numbers, width, column, addresses, count, owner, start, size,
            KIND, METRIC, LIMITED, ZEROS, STEADY, NUMBER, TYPES, T, ALIGNED, BLOCK, False,
        )  # fmt: skip


@triton.jit
def _block(
    numbers,
    width,
    column,
    addresses,
    count,
    owner,
    start,
    size,
    KIND: tl.constexpr,
    METRIC: tl.constexpr,
    LIMITED: tl.constexpr,
    ZEROS: tl.constexpr,
    STEADY: tl.constexpr,
    NUMBER: tl.constexpr,
    TYPES: tl.constexpr,
    T: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    offsets = start + tl.arange(0, BLOCK)
    points = place(addresses, 0, count, owner, TYPES[0], ALIGNED)
    point = read(points, offsets, size, WHOLE).to(T)
    # What is absent is never looked at; the point stands in for it.
    square, mean, pull, pulls = point, point, point, points
    at_zero = offsets < 0  # nowhere
    if METRIC != "euclidean":
        square = read(place(addresses, 1, count, owner, TYPES[1], ALIGNED), offsets, size, WHOLE).to(T)
    if METRIC == "centred":
        mean = read(place(addresses, 2, count, owner, TYPES[2], ALIGNED), offsets, size, WHOLE).to(T)
    if ZEROS:
        at_zero = read(place(addresses, 3, count, owner, TYPES[3], ALIGNED), offsets, size, WHOLE) != 0
    if STEADY:
        pulls = place(addresses, 4, count, owner, TYPES[4], ALIGNED)
        pull = read(pulls, offsets, size, WHOLE).to(T)
    if NUMBER:
        strength = number(numbers, STRENGTH, width, column)
    else:
        strength = read(place(addresses, 5, count, owner, TYPES[5], ALIGNED), offsets, size, WHOLE).to(T)
    found, pull = take_prox(
        point, at_zero, pull, square, mean, strength, numbers, width, column,
        KIND, METRIC, LIMITED, STEADY, NUMBER, T,
    )  # fmt: skip
    write(points, offsets, size, found.to(TYPES[0]), WHOLE)
    if STEADY:
        write(pulls, offsets, size, pull, WHOLE)
