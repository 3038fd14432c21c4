"""The program that takes the prox of a tile of groups: norm, Newton's method and scaling, all in registers.

One program owns neighbouring groups of one tensor. Where a tile holds a whole group, each tensor is read once; a longer
group is gone over chunk by chunk, once for each sum. The equation and its reasons stand in
`nonsmooth.penalties.solution_norms`, from where the start, the floor, the step and the end of the iteration come.

Signs play no part: the program works on |w|, and the result takes the sign of w, that of a zero included.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nonsmooth.kernels import group_tiles as tiles
from nonsmooth.kernels.arithmetic import HALTED, STRENGTH, capped, positive, quotient, root, smaller, with_sign_of
from nonsmooth.kernels.numbers import Row

LARGEST_ITERATIONS = tl.constexpr(100)
NEAR = tl.constexpr(0.1)
ROUNDINGS = tl.constexpr(8)
ALL = tl.constexpr(tl.PropagateNan.ALL)

L1_STRENGTH, STEP, SCALE, EPSILON, FULL, TIMES, SLACK = (
    tl.constexpr(int(Row[name])) for name in ("L1_STRENGTH", "STEP", "SCALE", "EPSILON", "FULL", "TIMES", "SLACK")
)
FIELDS = tl.constexpr(len(tiles.FIELDS))
POINT, SQUARE, MEAN, ZEROS, WEIGHTS, WEIGHTS_STRIDE, COUNT, INNER, SIZE, FIRST, COLUMN = (
    tl.constexpr(place) for place, _ in enumerate(tiles.FIELDS)
)
ROWS, COLUMNS = tl.constexpr(tiles.ROWS), tl.constexpr(tiles.COLUMNS)
EUCLIDEAN, ADAPTIVE, CENTRED = (tl.constexpr(metric) for metric in tiles.METRICS)

ARRANGEMENT, GROUPS, LENGTH, WHOLE, METRIC, SPARSE, T, TINY, ROUNDING, LARGEST = map(tl.constexpr, range(10))
"""Places in FORM, what a program is compiled for: how groups lie in memory, how many of them and how many coordinates
of each a tile has, whether those are all; the metric; whether coordinates are thresholded; the type that is computed
in, its smallest number with all digits, its rounding and its largest number."""


@triton.jit
def _power_below(sizes):
    """The power of two up to a factor of 2 below a size, so that to divide by it rounds nothing; 1 for 0, inf, NaN."""
    if sizes.dtype == tl.float64:
        powers = sizes.to(tl.int64, bitcast=True) & 0x7FF0000000000000
    else:
        powers = sizes.to(tl.int32, bitcast=True) & 0x7F800000
    powers = powers.to(sizes.dtype, bitcast=True)
    return tl.where((sizes > 0) & (sizes < float("inf")), powers, 1.0)


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
def _tile(first, where, FORM: tl.constexpr):
    """w, D and √square of the coordinates from `first` on, where they lie, and which of them there are.

    In the Euclidean metric the step is a factor of λ, and D is 1.
    """
    point, square, mean, groups, count, inner, length, scale, epsilon = where
    places, inside = _places(first, groups, count, inner, length, FORM[ARRANGEMENT], FORM[LENGTH])
    w = tl.load(point + places, mask=inside, other=0.0).to(FORM[T])
    if FORM[METRIC] == EUCLIDEAN:
        step = tl.full([1, 1], 1.0, FORM[T])
        spread = step
    else:
        value = tl.load(square + places, mask=inside, other=1.0).to(FORM[T])
        spread = root(value)
        divisor = spread
        if FORM[METRIC] == CENTRED:
            centre = tl.load(mean + places, mask=inside, other=0.0).to(FORM[T])
            divisor = root(positive(value - centre * centre))
        step = quotient(scale, divisor + epsilon)
    return w, step, spread, places, inside


@triton.jit
def _read(first, held, where, FORM: tl.constexpr):
    """The tile that a program holds, or the next of several."""
    tile = held
    if not FORM[WHOLE]:
        tile = _tile(first, where, FORM)
    return tile


@triton.jit
def _kept(tile, factors, FORM: tl.constexpr):
    """|w| after the soft threshold."""
    kept = tl.abs(tile[0])
    if FORM[SPARSE]:
        kept = positive(kept - smaller(tile[1] * factors[1], FORM[LARGEST]))
    return kept


@triton.jit
def _in_unit(tile, factors, inverse, FORM: tl.constexpr):
    """|w| after the soft threshold and d = λ_g D, in units of each group's power of two."""
    scaled = smaller(smaller(tile[1] * factors[0], FORM[LARGEST]) * inverse, FORM[LARGEST])
    return _kept(tile, factors, FORM) * inverse, scaled


@triton.jit
def _sums(held, where, factors, end, FORM: tl.constexpr):
    """Σw² and Σw²d of each group in a unit of its own, and the inverse of that.

    The largest |w| so far gives the unit, without which squares leave the range of the type.
    """
    size = tl.full([FORM[GROUPS]], 0.0, FORM[T])
    unit = tl.full([FORM[GROUPS]], 1.0, FORM[T])
    square_sum = size
    weighed = size
    for first in range(0, end, FORM[LENGTH]):
        tile = _read(first, held, where, FORM)
        larger = tl.maximum(size, tl.max(_kept(tile, factors, FORM), 1))
        following = tl.maximum(_power_below(larger), FORM[TINY])
        inverse = quotient(tl.full([FORM[GROUPS]], 1.0, FORM[T]), following)[:, None]
        kept, scaled = _in_unit(tile, factors, inverse, FORM)
        # What was summed up in the old unit; a ratio may overflow where there is nothing yet.
        ratio = tl.where(size == 0, 0.0, quotient(unit, following))
        square_sum = square_sum * ratio * ratio + tl.sum(kept * kept, 1)
        if FORM[METRIC] != EUCLIDEAN:
            weighed = weighed * ratio * ratio * ratio + tl.sum(kept * kept * scaled, 1)
            weighed = smaller(weighed, FORM[LARGEST])
        size = larger
        unit = following
    return square_sum, weighed, quotient(tl.full([FORM[GROUPS]], 1.0, FORM[T]), unit)[:, None]


@triton.jit
def _solution_norms(held, where, factors, end, square_sum, weighed, inverse, FORM: tl.constexpr):
    """θ of each group by Newton's method, 0 for a group that is zero, in its unit."""
    norms = root(square_sum)
    floor = norms * FORM[TINY] ** 0.4 + FORM[TINY]
    theta = norms * (1 - ROUNDINGS * FORM[ROUNDING]) - weighed / tl.maximum(square_sum, FORM[TINY], propagate_nan=ALL)
    theta = tl.maximum(theta, floor, propagate_nan=ALL)
    iteration = 0
    left = 1
    while (iteration < LARGEST_ITERATIONS) & (left > 0):
        total = tl.full([FORM[GROUPS]], 0.0, FORM[T])
        slope = total
        for first in range(0, end, FORM[LENGTH]):
            tile = _read(first, held, where, FORM)
            kept, scaled = _in_unit(tile, factors, inverse, FORM)
            share = theta[:, None] / (scaled + theta[:, None])
            values = kept * share * (kept * share)
            total += tl.sum(values, 1)
            slope += tl.sum(values * share, 1)
        stretch = total / tl.maximum(slope, FORM[TINY], propagate_nan=ALL)
        excess = root(total) / theta - 1.0
        following = tl.maximum(theta + theta * excess * stretch, theta + theta * excess, propagate_nan=ALL)
        following = tl.maximum(following, floor, propagate_nan=ALL)
        predicted = (stretch - 1.0) * excess * excess
        going_on = (predicted > ROUNDINGS * FORM[ROUNDING] / 3) | (excess > NEAR)
        going_on &= (excess > ROUNDINGS * FORM[ROUNDING]) & ((iteration <= 2) | (following > theta))
        theta = following
        left = tl.sum(going_on.to(tl.int32))
        iteration += 1
    return tl.where(theta == floor, 0.0, theta)


@triton.jit
def _limited(result, tile, number, columns, CENTRE: tl.constexpr):
    """The result, or w moved towards it as far as the limit goes."""
    w, step, spread, _, _ = tile
    times = tl.load(number + TIMES * columns)
    slack = tl.load(number + SLACK * columns).to(w.dtype)
    if CENTRE:
        epsilon = tl.load(number + EPSILON * columns).to(w.dtype)
        limit = step * ((spread + epsilon) * times.to(w.dtype) - slack)
    else:
        limit = (times * tl.load(number + FULL * columns)).to(w.dtype) - step * slack
    return tl.maximum(result, tl.abs(w) - limit, propagate_nan=ALL)


@triton.jit
def _address(row, FIELD: tl.constexpr, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """A pointer to one of a parameter's tensors."""
    pointer = tl.load(row + FIELD).to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _factors(row, number, columns, where, WEIGHTS_TYPE: tl.constexpr, FORM: tl.constexpr):
    """λ_g and λ₁, times the step where that is one number; the products are float64."""
    _, _, _, groups, count, _, length, _, _ = where
    if WEIGHTS_TYPE is None:
        weight = root(length.to(tl.float64)) + tl.full([FORM[GROUPS]], 0.0, tl.float64)
    else:
        weights = _address(row, WEIGHTS, WEIGHTS_TYPE, False)
        places = groups * tl.load(row + WEIGHTS_STRIDE)
        weight = tl.load(weights + places, mask=groups < count, other=0.0).to(tl.float64)
    pull = tl.load(number + STRENGTH * columns) * weight
    shift = tl.load(number + L1_STRENGTH * columns)
    if FORM[METRIC] == EUCLIDEAN:
        step = tl.load(number + STEP * columns)
        pull, shift = pull * step, shift * step
    return capped(pull, FORM[T])[:, None], capped(shift, FORM[T])


@triton.jit
def _where(program, row, number, columns, TYPES: tl.constexpr, FORM: tl.constexpr, ALIGNED: tl.constexpr):
    """What a tile is read with: addresses, the numbers of the groups, sizes, and the numbers of the metric."""
    count = tl.load(row + COUNT)
    inner = tl.load(row + INNER)
    length = tl.load(row + SIZE)
    if ALIGNED and FORM[ARRANGEMENT] == ROWS:
        length = tl.multiple_of(length, 16)
    elif ALIGNED:
        count = tl.multiple_of(count, 16)
    groups = (program - tl.load(row + FIRST)) * FORM[GROUPS] + tl.arange(0, FORM[GROUPS]).to(tl.int64)
    point = _address(row, POINT, TYPES[0], ALIGNED)
    square, mean = point, point
    if FORM[METRIC] != EUCLIDEAN:
        square = _address(row, SQUARE, TYPES[1], ALIGNED)
    if FORM[METRIC] == CENTRED:
        mean = _address(row, MEAN, TYPES[2], ALIGNED)
    scale = tl.load(number + SCALE * columns).to(FORM[T])
    epsilon = tl.load(number + EPSILON * columns).to(FORM[T])
    return (point, square, mean, groups, count, inner, length, scale, epsilon)


@triton.jit(do_not_specialize=["columns"])
def group_prox(
    table,
    owners,
    numbers,
    columns,
    TYPES: tl.constexpr,
    FORM: tl.constexpr,
    LIMITED: tl.constexpr,
    HELD: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Overwrite the groups of one program.

    Args:
        table: int64, (tensors, FIELDS): addresses and sizes.
        owners: int32, (programs,): the row of the table.
        numbers: float64, (len(Row), columns).
        columns: its number of columns.
        TYPES: of w, squares, means and weights; None for what is not there. Without weights those are the roots of the
            groups' lengths.
        FORM: what a tile is, and the metric and the arithmetic.
        LIMITED: whether the prox may move no weight beyond a limit.
        HELD: whether it may where a mask says so.
        ALIGNED: whether addresses and the distance of neighbouring rows are multiples of 16.
    """
    program = tl.program_id(0)
    row = table + tl.load(owners + program).to(tl.int64) * FIELDS
    number = numbers + tl.load(row + COLUMN)
    if tl.load(number + HALTED * columns) > 0:
        return
    where = _where(program, row, number, columns, TYPES, FORM, ALIGNED)
    factors = _factors(row, number, columns, where, TYPES[3], FORM)

    end = where[6]
    held = where
    if FORM[WHOLE]:
        end = FORM[LENGTH]
        held = _tile(0, where, FORM)
    square_sum, weighed, inverse = _sums(held, where, factors, end, FORM)
    theta = root(square_sum)
    if FORM[METRIC] != EUCLIDEAN:
        if FORM[LENGTH] == 1:
            kept, scaled = _in_unit(held, factors, inverse, FORM)
            theta = tl.sum(positive(kept - scaled), 1)
        else:
            theta = _solution_norms(held, where, factors, end, square_sum, weighed, inverse, FORM)
    norm = tl.where(theta == 0, 1.0, theta)[:, None]
    # Nothing shrinks a group whose norm is infinite; where there is NaN beside it, the sum of squares is NaN.
    endless = (square_sum == float("inf"))[:, None]

    for first in range(0, end, FORM[LENGTH]):
        tile = _read(first, held, where, FORM)
        kept, scaled = _in_unit(tile, factors, inverse, FORM)
        if FORM[METRIC] == EUCLIDEAN:
            share = positive(1.0 - quotient(scaled, norm))
        else:
            share = quotient(theta[:, None], scaled + norm)
        result = _kept(tile, factors, FORM) * tl.where(endless, 1.0, share)
        if LIMITED:
            near = _limited(result, tile, number, columns, FORM[METRIC] == CENTRED)
            if HELD:
                zeros = _address(row, ZEROS, tl.uint8, ALIGNED)
                near = tl.where(tl.load(zeros + tile[3], mask=tile[4], other=0) != 0, result, near)
            result = near
        tl.store(where[0] + tile[3], with_sign_of(result, tile[0]).to(TYPES[0]), mask=tile[4])
