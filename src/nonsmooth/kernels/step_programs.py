"""The programs of `nonsmooth.kernels.steps`, written for Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from nonsmooth.kernels.arithmetic import HALTED, STRENGTH, larger, number, place, quotient, read, root, write
from nonsmooth.kernels.numbers import Row
from nonsmooth.kernels.prox import take_prox

RATE = tl.constexpr(int(Row.RATE))
WEIGHT_DECAY = tl.constexpr(int(Row.WEIGHT_DECAY))
MOMENTUM = tl.constexpr(int(Row.MOMENTUM))
DAMPENING = tl.constexpr(int(Row.DAMPENING))
FIRST_BETA = tl.constexpr(int(Row.FIRST_BETA))
SECOND_BETA = tl.constexpr(int(Row.SECOND_BETA))
DIVISOR = tl.constexpr(int(Row.DIVISOR))
CORRECTION = tl.constexpr(int(Row.CORRECTION))
ROOT_CORRECTION = tl.constexpr(int(Row.ROOT_CORRECTION))
GRAD_SCALE = tl.constexpr(int(Row.GRAD_SCALE))


@triton.jit
def _gradient(
    numbers, width, column, grads, point, offsets, size,
    MAXIMIZE: tl.constexpr, SCALED: tl.constexpr, COUPLED: tl.constexpr, TYPE: tl.constexpr, T: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    """The gradient that a step uses: divided by its scale, turned around, with coupled weight decay."""
    grad = read(grads, offsets, size, WHOLE).to(T)
    if SCALED:
        grad = quotient(grad, number(numbers, GRAD_SCALE, width, column).to(T))
        write(grads, offsets, size, grad.to(TYPE), WHOLE)
    if MAXIMIZE:
        grad = -grad
    if COUPLED:
        # Without weight decay an infinite weight does not reach its gradient.
        decay = number(numbers, WEIGHT_DECAY, width, column).to(T)
        grad = tl.where(decay != 0, grad + decay * point, grad)
    return grad


@triton.jit(do_not_specialize=["width", "count"])
def sgd_program(
    numbers,
    width,
    layout,
    owners,
    addresses,
    count,
    KIND: tl.constexpr,
    SCALED: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    STEADY: tl.constexpr,
    NUMBER: tl.constexpr,
    MOMENTA: tl.constexpr,
    NESTEROV: tl.constexpr,
    TYPES: tl.constexpr,
    T: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """SGD's step of the block that this program has, and its prox."""
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    column = tl.load(layout + (count * 2 + owner))
    if number(numbers, HALTED, width, column) > 0:
        return
    size = tl.load(layout + owner)
    start = (program - tl.load(layout + (count + owner))) * BLOCK  # int64, as the layout is
    if start + BLOCK <= size:
        _sgd_block(
            numbers, width, column, addresses, count, owner, start, size,
            KIND, SCALED, MAXIMIZE, STEADY, NUMBER, MOMENTA, NESTEROV, TYPES, T, ALIGNED, BLOCK, True,
        )  # fmt: skip
    else:
        _sgd_block(
            numbers, width, column, addresses, count, owner, start, size,
            KIND, SCALED, MAXIMIZE, STEADY, NUMBER, MOMENTA, NESTEROV, TYPES, T, ALIGNED, BLOCK, False,
        )  # fmt: skip


@triton.jit
def _sgd_block(
    numbers, width, column, addresses, count, owner, start, size,
    KIND: tl.constexpr, SCALED: tl.constexpr, MAXIMIZE: tl.constexpr, STEADY: tl.constexpr, NUMBER: tl.constexpr,
    MOMENTA: tl.constexpr, NESTEROV: tl.constexpr, TYPES: tl.constexpr, T: tl.constexpr, ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    offsets = start + tl.arange(0, BLOCK)
    points = place(addresses, 0, count, owner, TYPES[0], ALIGNED)
    point = read(points, offsets, size, WHOLE).to(T)
    at_zero = point == 0
    grads = place(addresses, 1, count, owner, TYPES[1], ALIGNED)
    grad = _gradient(
        numbers, width, column, grads, point, offsets, size, MAXIMIZE, SCALED, True, TYPES[1], T, WHOLE
    )  # fmt: skip
    if MOMENTA:
        momenta = place(addresses, 2, count, owner, TYPES[2], ALIGNED)
        momentum = number(numbers, MOMENTUM, width, column).to(T)
        kept = (1 - number(numbers, DAMPENING, width, column)).to(T)
        average = momentum * read(momenta, offsets, size, WHOLE).to(T) + kept * grad
        write(momenta, offsets, size, average.to(TYPES[2]), WHOLE)
        grad = grad + momentum * average if NESTEROV else average
    point = point - number(numbers, RATE, width, column).to(T) * grad
    pull, pulls = point, points
    if STEADY:
        pulls = place(addresses, 3, count, owner, TYPES[3], ALIGNED)
        pull = read(pulls, offsets, size, WHOLE).to(T)
    if NUMBER:
        strength = number(numbers, STRENGTH, width, column)
    else:
        strength = read(place(addresses, 4, count, owner, TYPES[4], ALIGNED), offsets, size, WHOLE).to(T)
    found, pull = take_prox(
        point, at_zero, pull, point, point, strength, numbers, width, column,
        KIND, "euclidean", False, STEADY, NUMBER, T,
    )  # fmt: skip
    write(points, offsets, size, found.to(TYPES[0]), WHOLE)
    if STEADY:
        write(pulls, offsets, size, pull, WHOLE)


@triton.jit(do_not_specialize=["width", "count"])
def adam_program(
    numbers,
    width,
    layout,
    owners,
    addresses,
    count,
    KIND: tl.constexpr,
    SCALED: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    STEADY: tl.constexpr,
    NUMBER: tl.constexpr,
    AMSGRAD: tl.constexpr,
    DECOUPLED: tl.constexpr,
    TYPES: tl.constexpr,
    T: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adam's step of the block that this program has, and its prox."""
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    column = tl.load(layout + (count * 2 + owner))
    if number(numbers, HALTED, width, column) > 0:
        return
    size = tl.load(layout + owner)
    start = (program - tl.load(layout + (count + owner))) * BLOCK  # int64, as the layout is
    if start + BLOCK <= size:
        _adam_block(
            numbers, width, column, addresses, count, owner, start, size,
            KIND, SCALED, MAXIMIZE, STEADY, NUMBER, AMSGRAD, DECOUPLED, TYPES, T, ALIGNED, BLOCK, True,
        )  # fmt: skip
    else:
        _adam_block(
            numbers, width, column, addresses, count, owner, start, size,
            KIND, SCALED, MAXIMIZE, STEADY, NUMBER, AMSGRAD, DECOUPLED, TYPES, T, ALIGNED, BLOCK, False,
        )  # fmt: skip


@triton.jit
def _adam_block(
    numbers, width, column, addresses, count, owner, start, size,
    KIND: tl.constexpr, SCALED: tl.constexpr, MAXIMIZE: tl.constexpr, STEADY: tl.constexpr, NUMBER: tl.constexpr,
    AMSGRAD: tl.constexpr, DECOUPLED: tl.constexpr, TYPES: tl.constexpr, T: tl.constexpr, ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    offsets = start + tl.arange(0, BLOCK)
    points = place(addresses, 0, count, owner, TYPES[0], ALIGNED)
    point = read(points, offsets, size, WHOLE).to(T)
    at_zero = point == 0
    averages = place(addresses, 2, count, owner, TYPES[2], ALIGNED)
    average = read(averages, offsets, size, WHOLE).to(T)
    squares = place(addresses, 3, count, owner, TYPES[3], ALIGNED)
    square = read(squares, offsets, size, WHOLE).to(T)
    grads = place(addresses, 1, count, owner, TYPES[1], ALIGNED)
    grad = _gradient(
        numbers, width, column, grads, point, offsets, size, MAXIMIZE, SCALED, not DECOUPLED, TYPES[1], T, WHOLE
    )  # fmt: skip
    rate = number(numbers, RATE, width, column)
    if DECOUPLED:
        decay = number(numbers, WEIGHT_DECAY, width, column)
        point = tl.where(decay != 0, point - (rate * decay).to(T) * point, point)
    beta = number(numbers, FIRST_BETA, width, column)
    average = beta.to(T) * average + (1 - beta).to(T) * grad
    beta = number(numbers, SECOND_BETA, width, column)
    square = beta.to(T) * square + (1 - beta).to(T) * grad * grad
    write(averages, offsets, size, average.to(TYPES[2]), WHOLE)
    write(squares, offsets, size, square.to(TYPES[3]), WHOLE)
    # The metric is read from what is stored, torch's own step is not.
    stored = square.to(TYPES[3]).to(T)
    if AMSGRAD:
        largest_squares = place(addresses, 4, count, owner, TYPES[4], ALIGNED)
        largest = read(largest_squares, offsets, size, WHOLE).to(T)
        square = larger(largest, square)
        write(largest_squares, offsets, size, square.to(TYPES[4]), WHOLE)
        stored = square.to(TYPES[4]).to(T)
    size_of_step = (rate / number(numbers, CORRECTION, width, column)).to(T)
    correction = number(numbers, ROOT_CORRECTION, width, column).to(T)
    below = quotient(root(square), correction) + number(numbers, DIVISOR, width, column).to(T)
    point = point - quotient(size_of_step * average, below)
    pull, pulls = point, points
    if STEADY:
        pulls = place(addresses, 5, count, owner, TYPES[5], ALIGNED)
        pull = read(pulls, offsets, size, WHOLE).to(T)
    if NUMBER:
        strength = number(numbers, STRENGTH, width, column)
    else:
        strength = read(place(addresses, 6, count, owner, TYPES[6], ALIGNED), offsets, size, WHOLE).to(T)
    found, pull = take_prox(
        point, at_zero, pull, stored, stored, strength, numbers, width, column,
        KIND, "adaptive", True, STEADY, NUMBER, T,
    )  # fmt: skip
    write(points, offsets, size, found.to(TYPES[0]), WHOLE)
    if STEADY:
        write(pulls, offsets, size, pull, WHOLE)
