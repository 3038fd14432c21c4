"""The program that takes the prox of a tile of groups: norm, Newton's method and scaling, all in registers.

One program owns GROUPS neighbouring groups of one tensor. Where a tile of LENGTH coordinates holds a whole group, each
tensor is read once; a longer group is gone over chunk by chunk, once for each sum. The numbers are those of
`nonsmooth.penalties.solution_norms`, from where the start, the floor, the step and the end of the iteration come; there
the reasons stand.

Signs play no part: the program works on |w|, and the result takes the sign of w, that of a zero included.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nonsmooth.kernels import group_tiles as tiles
from nonsmooth.kernels.numbers import Row

LARGEST_ITERATIONS = tl.constexpr(100)
NEAR = tl.constexpr(0.1)
ROUNDINGS = tl.constexpr(8)
ALL = tl.constexpr(tl.PropagateNan.ALL)

STRENGTH = tl.constexpr(int(Row.STRENGTH))
L1_STRENGTH = tl.constexpr(int(Row.L1_STRENGTH))
STEP = tl.constexpr(int(Row.STEP))
SCALE = tl.constexpr(int(Row.SCALE))
EPSILON = tl.constexpr(int(Row.EPSILON))
FULL = tl.constexpr(int(Row.FULL))
TIMES = tl.constexpr(int(Row.TIMES))
SLACK = tl.constexpr(int(Row.SLACK))
HALTED = tl.constexpr(int(Row.HALTED))

FIELDS = tl.constexpr(len(tiles.FIELDS))
POINT = tl.constexpr(tiles.FIELDS.index("point"))
SQUARE = tl.constexpr(tiles.FIELDS.index("square"))
MEAN = tl.constexpr(tiles.FIELDS.index("mean"))
ZEROS = tl.constexpr(tiles.FIELDS.index("zeros"))
WEIGHTS = tl.constexpr(tiles.FIELDS.index("weights"))
WEIGHTS_STRIDE = tl.constexpr(tiles.FIELDS.index("weights_stride"))
COUNT = tl.constexpr(tiles.FIELDS.index("count"))
INNER = tl.constexpr(tiles.FIELDS.index("inner"))
SIZE = tl.constexpr(tiles.FIELDS.index("size"))
FIRST = tl.constexpr(tiles.FIELDS.index("first"))
COLUMN = tl.constexpr(tiles.FIELDS.index("column"))

ROWS = tl.constexpr(tiles.ROWS)
COLUMNS = tl.constexpr(tiles.COLUMNS)


@triton.jit
def _divided(numerator, denominator):
    """A quotient that is exactly 1 for equal numbers."""
    if denominator.dtype == tl.float32:
        quotient = tl.div_rn(numerator, denominator)
    else:
        quotient = numerator / denominator
    return quotient


@triton.jit
def _root(value):
    """A square root, rounded and of subnormal numbers as well; Triton's own is so in double precision alone."""
    if value.dtype == tl.float32:
        root = tl.sqrt_rn(value)
    else:
        root = tl.sqrt(value)
    return root


@triton.jit
def _bounded(value, largest):
    return tl.minimum(value, largest, propagate_nan=ALL)


@triton.jit
def _not_negative(value):
    return tl.maximum(value, 0.0, propagate_nan=ALL)


@triton.jit
def _power_below(size, tiny, WORK: tl.constexpr):
    """The power of two up to a factor of 2 below a size, so that to divide by it rounds nothing; 1 for 0, inf, NaN."""
    if WORK == tl.float64:
        power = (size.to(tl.int64, bitcast=True) & 0x7FF0000000000000).to(tl.float64, bitcast=True)
    else:
        power = (size.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    ordinary = (size > 0) & (size < float("inf"))
    return tl.where(ordinary, tl.maximum(power, tiny), 1.0)


@triton.jit
def _with_sign(size, like, WORK: tl.constexpr):
    """A number of at least 0 with the sign of another."""
    if WORK == tl.float64:
        sign = like.to(tl.int64, bitcast=True) & -0x8000000000000000
        signed = (size.to(tl.int64, bitcast=True) | sign).to(tl.float64, bitcast=True)
    else:
        sign = like.to(tl.int32, bitcast=True) & -0x80000000
        signed = (size.to(tl.int32, bitcast=True) | sign).to(tl.float32, bitcast=True)
    return signed


@triton.jit
def _places(first, groups, count, inner, length, ARRANGEMENT: tl.constexpr, LENGTH: tl.constexpr):
    """Where the coordinates from `first` on of some groups lie, and which of them there are; all numbers are int64."""
    along = first + tl.arange(0, LENGTH).to(tl.int64)
    if ARRANGEMENT == ROWS:
        places = groups[:, None] * length + along[None, :]
    elif ARRANGEMENT == COLUMNS:
        places = along[None, :] * count + groups[:, None]
    else:
        places = (along // inner * (count * inner) + along % inner)[None, :] + (groups * inner)[:, None]
    return places, (groups < count)[:, None] & (along < length)[None, :]


@triton.jit
def _metric(square, mean, places, inside, scale, epsilon, CENTRED: tl.constexpr, WORK: tl.constexpr):
    """D, and the root of the square itself."""
    value = tl.load(square + places, mask=inside, other=1.0).to(WORK)
    whole = _root(value)
    root = whole
    if CENTRED:
        centre = tl.load(mean + places, mask=inside, other=0.0).to(WORK)
        root = _root(_not_negative(value - centre * centre))
    return _divided(scale, root + epsilon), whole


@triton.jit
def _kept(w, metric, shift, largest, SPARSE: tl.constexpr):
    """|w| after the soft threshold."""
    kept = tl.abs(w)
    if SPARSE:
        kept = _not_negative(kept - _bounded(metric * shift, largest))
    return kept


@triton.jit
def _in_units(w, metric, shift, pull, inverse, largest, SPARSE: tl.constexpr):
    """|w| after the soft threshold and d = λ_g D, in units of each group's power of two."""
    scaled = _bounded(_bounded(metric * pull, largest) * inverse, largest)
    return _kept(w, metric, shift, largest, SPARSE) * inverse, scaled


@triton.jit(do_not_specialize=["columns"])
def group_prox(
    table,
    owners,
    numbers,
    columns,
    POINT_TYPE: tl.constexpr,
    SQUARE_TYPE: tl.constexpr,
    MEAN_TYPE: tl.constexpr,
    WEIGHTS_TYPE: tl.constexpr,
    WORK: tl.constexpr,
    TINY: tl.constexpr,
    EPS: tl.constexpr,
    LARGEST: tl.constexpr,
    SPARSE: tl.constexpr,
    LIMITED: tl.constexpr,
    HELD: tl.constexpr,
    ARRANGEMENT: tl.constexpr,
    GROUPS: tl.constexpr,
    LENGTH: tl.constexpr,
    WHOLE: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Overwrite the groups of one program.

    Args:
        table: int64, (tensors, FIELDS): addresses and sizes.
        owners: int32, (programs,): the row of the table.
        numbers: float64, (len(Row), columns).
        columns: its number of columns.
        POINT_TYPE: type of w.
        SQUARE_TYPE: type of the running squares; None in the Euclidean metric.
        MEAN_TYPE: type of the running means; None where the squares are not centred.
        WEIGHTS_TYPE: type of the weights c_g; None for the root of a group's length.
        WORK: type of the arithmetic.
        TINY: its smallest normal number.
        EPS: its rounding.
        LARGEST: its largest number.
        SPARSE: whether coordinates are thresholded first.
        LIMITED: whether the prox may move no weight beyond a limit.
        HELD: whether it may where a mask says so.
        ARRANGEMENT: of the groups in memory.
        GROUPS: number of groups of a tile.
        LENGTH: number of coordinates of a tile in each group.
        WHOLE: whether all groups fit.
        ALIGNED: whether addresses and the distance of neighbouring rows are multiples of 16.
    """
    program = tl.program_id(0)
    row = table + tl.load(owners + program).to(tl.int64) * FIELDS
    number = numbers + tl.load(row + COLUMN)
    if tl.load(number + HALTED * columns) > 0:
        return
    count = tl.load(row + COUNT)
    inner = tl.load(row + INNER)
    length = tl.load(row + SIZE)
    point = tl.load(row + POINT).to(tl.pointer_type(POINT_TYPE))
    if ALIGNED:
        point = tl.multiple_of(point, 16)
        if ARRANGEMENT == ROWS:
            length = tl.multiple_of(length, 16)
        else:
            count = tl.multiple_of(count, 16)
    groups = (program - tl.load(row + FIRST)) * GROUPS + tl.arange(0, GROUPS).to(tl.int64)

    # λ times the weight of each group, and times a step that is a number, in double precision.
    if WEIGHTS_TYPE is None:
        weight = _root(length.to(tl.float64)) + tl.full([GROUPS], 0.0, tl.float64)
    else:
        weights = tl.load(row + WEIGHTS).to(tl.pointer_type(WEIGHTS_TYPE))
        places = groups * tl.load(row + WEIGHTS_STRIDE)
        weight = tl.load(weights + places, mask=groups < count, other=0.0).to(tl.float64)
    pull = tl.load(number + STRENGTH * columns) * weight
    shift = tl.load(number + (L1_STRENGTH if SPARSE else STRENGTH) * columns)
    if SQUARE_TYPE is None:
        step = tl.load(number + STEP * columns)
        pull, shift = pull * step, shift * step
        metric = tl.full([1, 1], 1.0, WORK)
    else:
        square = tl.load(row + SQUARE).to(tl.pointer_type(SQUARE_TYPE))
        mean = square
        if MEAN_TYPE is not None:
            mean = tl.load(row + MEAN).to(tl.pointer_type(MEAN_TYPE))
        if ALIGNED:
            square = tl.multiple_of(square, 16)
            mean = tl.multiple_of(mean, 16)
        scale = tl.load(number + SCALE * columns).to(WORK)
        epsilon = tl.load(number + EPSILON * columns).to(WORK)
    largest = tl.full([1, 1], LARGEST, WORK)
    pull = _bounded(pull, tl.full([1], LARGEST, tl.float64)).to(WORK)[:, None]
    shift = _bounded(shift, tl.full([1, 1], LARGEST, tl.float64)).to(WORK)

    end = length
    if WHOLE:
        end = LENGTH
        places, inside = _places(0, groups, count, inner, length, ARRANGEMENT, LENGTH)
        w = tl.load(point + places, mask=inside, other=0.0).to(WORK)
        if SQUARE_TYPE is not None:
            metric, root = _metric(square, mean, places, inside, scale, epsilon, MEAN_TYPE is not None, WORK)

    # The largest |w| of each group so far gives its unit, without which squares leave the range of the type.
    size = tl.full([GROUPS], 0.0, WORK)
    unit = tl.full([GROUPS], 1.0, WORK)
    square_sum = tl.full([GROUPS], 0.0, WORK)
    weighed = tl.full([GROUPS], 0.0, WORK)
    for first in range(0, end, LENGTH):
        if not WHOLE:
            places, inside = _places(first, groups, count, inner, length, ARRANGEMENT, LENGTH)
            w = tl.load(point + places, mask=inside, other=0.0).to(WORK)
            if SQUARE_TYPE is not None:
                metric, root = _metric(square, mean, places, inside, scale, epsilon, MEAN_TYPE is not None, WORK)
        larger = tl.maximum(size, tl.max(_kept(w, metric, shift, largest, SPARSE), 1))
        following_unit = _power_below(larger, tl.full([1], TINY, WORK), WORK)
        inverse = _divided(tl.full([GROUPS], 1.0, WORK), following_unit)[:, None]
        kept, scaled = _in_units(w, metric, shift, pull, inverse, largest, SPARSE)
        # What was summed up in the old unit; a ratio may overflow where there is nothing yet.
        ratio = tl.where(size == 0, 0.0, _divided(unit, following_unit))
        square_sum = square_sum * ratio * ratio + tl.sum(kept * kept, 1)
        if SQUARE_TYPE is not None:
            weighed = weighed * ratio * ratio * ratio + tl.sum(kept * kept * scaled, 1)
            weighed = _bounded(weighed, tl.full([1], LARGEST, WORK))
        size, unit = larger, following_unit
    inverse = _divided(tl.full([GROUPS], 1.0, WORK), unit)[:, None]

    norms = _root(square_sum)
    if SQUARE_TYPE is None:
        threshold = _bounded(pull * inverse, largest)
        share = _not_negative(1.0 - _divided(threshold, tl.where(norms == 0, 1.0, norms)[:, None]))
    elif LENGTH == 1:
        kept, scaled = _in_units(w, metric, shift, pull, inverse, largest, SPARSE)
        theta = tl.sum(_not_negative(kept - scaled), 1)
    else:
        floor = norms * TINY**0.4 + TINY
        theta = norms * (1 - ROUNDINGS * EPS) - weighed / tl.maximum(square_sum, TINY, propagate_nan=ALL)
        theta = tl.maximum(theta, floor, propagate_nan=ALL)
        iteration = 0
        left = 1
        while (iteration < LARGEST_ITERATIONS) & (left > 0):
            total = tl.full([GROUPS], 0.0, WORK)
            slope = tl.full([GROUPS], 0.0, WORK)
            for first in range(0, end, LENGTH):
                if not WHOLE:
                    places, inside = _places(first, groups, count, inner, length, ARRANGEMENT, LENGTH)
                    w = tl.load(point + places, mask=inside, other=0.0).to(WORK)
                    metric, root = _metric(square, mean, places, inside, scale, epsilon, MEAN_TYPE is not None, WORK)
                kept, scaled = _in_units(w, metric, shift, pull, inverse, largest, SPARSE)
                part = theta[:, None] / (scaled + theta[:, None])
                values = kept * part * (kept * part)
                total += tl.sum(values, 1)
                slope += tl.sum(values * part, 1)
            stretch = total / tl.maximum(slope, TINY, propagate_nan=ALL)
            excess = _root(total) / theta - 1.0
            following = theta + theta * excess * stretch
            following = tl.maximum(following, theta + theta * excess, propagate_nan=ALL)
            following = tl.maximum(following, floor, propagate_nan=ALL)
            predicted = (stretch - 1.0) * excess * excess
            going_on = (excess > ROUNDINGS * EPS) & ((predicted > ROUNDINGS * EPS / 3) | (excess > NEAR))
            going_on = going_on & ((iteration <= 2) | (following > theta))
            theta = following
            left = tl.sum(going_on.to(tl.int32))
            iteration += 1
        theta = tl.where(theta == floor, 0.0, theta)

    # Nothing shrinks a group whose norm is infinite; where there is NaN beside it, the sum of squares is NaN.
    endless = (square_sum == float("inf"))[:, None]
    for first in range(0, end, LENGTH):
        if not WHOLE:
            places, inside = _places(first, groups, count, inner, length, ARRANGEMENT, LENGTH)
            w = tl.load(point + places, mask=inside, other=0.0).to(WORK)
            if SQUARE_TYPE is not None:
                metric, root = _metric(square, mean, places, inside, scale, epsilon, MEAN_TYPE is not None, WORK)
        if SQUARE_TYPE is not None:
            _, scaled = _in_units(w, metric, shift, pull, inverse, largest, SPARSE)
            whole = theta[:, None]
            share = _divided(whole, scaled + tl.where(whole == 0, 1.0, whole))
        result = _kept(w, metric, shift, largest, SPARSE) * tl.where(endless, 1.0, share)
        if LIMITED:
            times = tl.load(number + TIMES * columns)
            slack = tl.load(number + SLACK * columns).to(WORK)
            if MEAN_TYPE is None:
                limit = (times * tl.load(number + FULL * columns)).to(WORK) - metric * slack
            else:
                limit = metric * ((root + epsilon) * times.to(WORK) - slack)
            near = tl.maximum(result, tl.abs(w) - limit, propagate_nan=ALL)
            if HELD:
                zeros = tl.load(row + ZEROS).to(tl.pointer_type(tl.uint8))
                if ALIGNED:
                    zeros = tl.multiple_of(zeros, 16)
                near = tl.where(tl.load(zeros + places, mask=inside, other=0) != 0, result, near)
            result = near
        tl.store(point + places, _with_sign(result, w, WORK).to(POINT_TYPE), mask=inside)


def triton_type(kind):
    """A type of torch's as one of Triton's; None stays None."""
    return None if kind is None else getattr(tl, str(kind).removeprefix("torch."))
