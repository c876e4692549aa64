"""Products with 4-bit weights: a lane of a vector belongs to a group of inputs and its multiplier.

A block of r groups (16, or 8, 4, 2, 1) has 4 r words of codes: ceil(r / 4) vectors of 16 lanes,
lane k for group k mod r. Its sums stay in their lanes and cost one multiplication a block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._features import has
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._tiles import (
    LANES,
    WORDS,
    added_up,
    call,
    constant,
    dot_bytes,
    fused,
    load,
    place,
    prefetch,
    store_rows,
)
from neurosim.kernels.count_linear._codes import GROUP, block_of, blocks

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
_SIZES = (16, 8, 4, 2, 1)
_VECTOR = 4 * LANES  # counts that meet the low or the high halves of a vector of codes


def _vectors(size: int) -> int:
    """Of codes in a block."""
    return max(1, size // 4)


@functools.cache
def _width(groups: int) -> tuple[int, int]:
    """Elements of a row of counts or floats, and of its base, as arranged."""
    sizes = [size for _, size in blocks(groups)]
    return sum(2 * _VECTOR * _vectors(size) for size in sizes), LANES * len(sizes)


def arranged(
    counts: npt.NDArray[np.int8],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """Counts (L, I) in the order of the codes' lanes, and -8 times their sums by group."""
    width, lanes = _width(-(-counts.shape[1] // GROUP))
    out = np.zeros((len(counts), width), np.int8)
    base = np.zeros((len(counts), lanes), np.int32)
    _arrange(counts, out, base)
    return out, base


def spread(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats (L, I) in the order of the codes' lanes: a vector holds one input of each group."""
    out = np.zeros((len(x), _width(-(-x.shape[1] // GROUP))[0]), x.dtype)
    _spread(x, out)
    return out


@inlined
def _starts(group: int, groups: int) -> tuple[int, int, int, int]:
    """First element and first lane of a group's block, its size, and the group's place in it."""
    start, size = block_of(group, groups)
    element, lane = start // LANES * 8 * _VECTOR, start // LANES * LANES
    at = start // LANES * LANES
    step = LANES // 2
    while at < start:  # the blocks of 8, 4, 2 before it
        if groups & step:
            at += step
            element += 2 * _VECTOR * max(1, step // 4)
            lane += LANES
        step //= 2
    return element, lane, size, group - start


@compiled
def _arrange(counts: Any, out: Any, base: Any) -> None:
    length, inputs = counts.shape
    groups = -(-inputs // GROUP)
    for group in range(groups):
        element, lane, size, j = _starts(group, groups)
        end = min(GROUP, inputs - group * GROUP)
        for row in range(length):
            total = 0
            for i in range(end):
                word = i // 8 * size + j
                vector, place = word // LANES, word % LANES
                at = element + (2 * vector + i // 4 % 2) * _VECTOR + 4 * place + i % 4
                out[row, at] = counts[row, group * GROUP + i]
                total += counts[row, group * GROUP + i]
            base[row, lane + j] = -8 * total


@compiled
def _spread(x: Any, out: Any) -> None:
    length, inputs = x.shape
    groups = -(-inputs // GROUP)
    for group in range(groups):
        element, _, size, j = _starts(group, groups)
        end = min(GROUP, inputs - group * GROUP)
        for row in range(length):
            for i in range(end):
                word = i // 8 * size + j
                vector, place = word // LANES, word % LANES
                half = 2 * vector + i // 4 % 2
                out[row, element + half * _VECTOR + i % 4 * LANES + place] = x[
                    row, group * GROUP + i
                ]


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def halves_tile(
    typing_context: Any, x: Any, x_first: Any, x_stride: Any, base: Any, base_first: Any,
    base_stride: Any, codes: Any, first_output: Any, multiplier: Any, groups: Any,
    out: Any, out_first: Any, out_stride: Any, rows: Any, outputs: Any,
) -> Any:  # fmt: skip
    """out[r, o] = sum_i x[r, i] w[o, i] m[o, i / 32]; r < rows, o < outputs: literals.

    x int8 as `arranged`, with its base, and out int32; or float as `spread`, out the same. The
    codes and multipliers of all outputs, flat, of which the first to use has the number
    `first_output`.
    """
    signature = types.void(
        x, types.intp, types.intp, base, types.intp, types.intp, codes, types.intp, multiplier,
        types.intp, out, types.intp, types.intp, rows, outputs,
    )  # fmt: skip
    height, width, whole = rows.literal_value, outputs.literal_value, x.dtype.name == "int8"
    vector = WORDS if whole else ir.VectorType(_FLOATS[x.dtype.name], LANES)
    form = ir.VectorType(_I8, 4 * LANES) if whole else vector

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        values, v_first, v_stride, sums, s_first, s_stride = arguments[:6]
        packed, number, factors, count = arguments[6:10]
        cells = [cgutils.alloca_once(builder, vector) for _ in range(height * width)]
        for cell in cells:
            builder.store(ir.Constant(vector, None), cell)

        def word(value: int) -> Any:
            return ir.Constant(_I64, value)

        def times(a: Any, b: int) -> Any:
            return builder.mul(a, word(b))

        # Where a block starts: element of x, lane of base, group; the same for all outputs.
        element, lane, group = (cgutils.alloca_once(builder, _I64) for _ in range(3))
        for counter in (element, lane, group):
            builder.store(word(0), counter)

        def of_row(first: Any, stride: Any, row: int, counter: Any, more: int = 0) -> Any:
            start = builder.add(first, times(stride, row))
            return builder.add(start, builder.add(builder.load(counter), word(more)))

        def block(size: int) -> None:
            lanes = min(LANES, 4 * size)
            for o in range(width):
                output = builder.add(number, word(o))
                g = builder.add(builder.mul(output, count), builder.load(group))
                small = ir.VectorType(_I8, size)
                m = load(builder, place(context, builder, kinds[8], factors, g, small), small)
                m = builder.zext(m, ir.VectorType(_I32, size))
                order = ir.Constant(WORDS, [k % size for k in range(LANES)])
                m = builder.shuffle_vector(m, m, order)
                if not whole:
                    m = builder.sitofp(m, vector)
                held = []
                for r in range(height):
                    at = of_row(s_first, s_stride, r, lane)
                    start = place(context, builder, kinds[3], sums, at, WORDS) if whole else None
                    held.append(load(builder, start, WORDS) if whole else ir.Constant(vector, None))
                for v in range(_vectors(size)):
                    at = builder.add(times(g, GROUP // 2), word(_VECTOR * v))
                    part = ir.VectorType(_I32, lanes)
                    if height == 1:  # the next block of outputs; there is not enough else to do
                        ahead = builder.add(at, builder.mul(times(count, GROUP // 2), word(width)))
                        prefetch(context, builder, kinds[6], packed, ahead)
                    words = load(builder, place(context, builder, kinds[6], packed, at, part), part)
                    if lanes < LANES:
                        padded = [k if k < lanes else lanes for k in range(LANES)]
                        nothing = ir.Constant(part, None)
                        words = builder.shuffle_vector(words, nothing, ir.Constant(WORDS, padded))
                    for half in range(2):
                        for i, w in enumerate(_weights(builder, words, half, vector)):
                            more = (2 * v + half) * _VECTOR + LANES * i
                            for r in range(height):
                                at = of_row(v_first, v_stride, r, element, more)
                                start = place(context, builder, kinds[0], values, at, form)
                                x_vector = load(builder, start, form)
                                if whole:
                                    x_words = builder.bitcast(x_vector, WORDS)
                                    held[r] = dot_bytes(builder, held[r], w, x_words)
                                else:
                                    held[r] = fused(builder, x_vector, w, held[r])
                for r, group_sums in enumerate(held):
                    cell = cells[r * width + o]
                    total = builder.load(cell)
                    if whole:
                        total = builder.add(total, builder.mul(group_sums, m))
                    else:
                        total = fused(builder, group_sums, m, total)
                    builder.store(total, cell)
            steps = (2 * _VECTOR * _vectors(size), LANES, size)
            for counter, step in zip((element, lane, group), steps, strict=True):
                builder.store(builder.add(builder.load(counter), word(step)), counter)

        with cgutils.for_range(builder, builder.sdiv(count, word(LANES))):
            block(LANES)
        for size in _SIZES[1:]:
            present = builder.icmp_signed("!=", builder.and_(count, word(size)), word(0))
            with builder.if_then(present):
                block(size)
        total = added_up(builder, [builder.load(cell) for cell in cells])
        store_rows(
            context, builder, kinds[10], arguments[10], total, height, width, *arguments[11:13]
        )
        return context.get_dummy_value()

    return signature, code


def _weights(builder: Any, words: Any, half: int, vector: Any) -> list[Any]:
    """Of the low or high halves of 16 words: all four bytes together, w + 8; or one by one, w."""
    if vector == WORDS:
        shifted = builder.lshr(words, constant(WORDS, 4)) if half else words
        return [builder.and_(shifted, constant(WORDS, 0x0F0F0F0F))]
    return [_code_as_float(builder, words, 4 * half + 8 * t, vector) for t in range(4)]


def _code_as_float(builder: Any, words: Any, shift: int, vector: Any) -> Any:
    """w of the half-bytes at a bit of every word."""
    shifted = builder.lshr(words, constant(WORDS, shift))
    if vector.element == _FLOATS["float32"] and has("avx512f"):  # looks at the low four bits
        table = ir.Constant(vector, [float(k - 8) for k in range(LANES)])
        return call(builder, "llvm.x86.avx512.permvar.sf.512", vector, table, shifted)
    half = builder.and_(shifted, constant(WORDS, 15))
    return builder.sitofp(builder.sub(half, constant(WORDS, 8)), vector)


def _counts_by(height: int, width: int) -> Callable[..., None]:
    @compiled
    def products(
        codes: Any, multiplier: Any, counts: Any, base: Any, out: Any,
        first_row: int, end_row: int, first: int, end: int,
    ) -> None:  # fmt: skip
        outputs, groups = multiplier.shape
        rows, inputs, bases, lanes = (
            counts.reshape(-1),
            counts.shape[1],
            base.reshape(-1),
            base.shape[1],
        )
        packed, factors, sums = codes.reshape(-1), multiplier.reshape(-1), out.reshape(-1)
        whole = first + (end - first) // width * width
        for row in range(first_row, end_row, height):
            x, b, to = row * inputs, row * lanes, row * outputs
            for o in range(first, whole, width):
                halves_tile(
                    rows, x, inputs, bases, b, lanes, packed, o, factors, groups,
                    sums, to + o, outputs, height, width,
                )  # fmt: skip
            for o in range(whole, end):
                halves_tile(
                    rows, x, inputs, bases, b, lanes, packed, o, factors, groups,
                    sums, to + o, outputs, height, 1,
                )  # fmt: skip

    return products


def _rows_by(height: int, width: int) -> Callable[..., None]:
    @compiled
    def products(
        codes: Any, multiplier: Any, x: Any, scale: Any, out: Any,
        first_row: int, end_row: int, first: int, end: int,
    ) -> None:  # fmt: skip
        outputs, groups = multiplier.shape
        rows, inputs = x.reshape(-1), x.shape[1]
        packed, factors, sums = codes.reshape(-1), multiplier.reshape(-1), out.reshape(-1)
        whole = first + (end - first) // width * width
        for row in range(first_row, end_row, height):
            for o in range(first, whole, width):
                halves_tile(
                    rows, row * inputs, inputs, rows, 0, 0, packed, o, factors, groups,
                    sums, row * outputs + o, outputs, height, width,
                )  # fmt: skip
            for o in range(whole, end):
                halves_tile(
                    rows, row * inputs, inputs, rows, 0, 0, packed, o, factors, groups,
                    sums, row * outputs + o, outputs, height, 1,
                )  # fmt: skip
        for row in range(first_row, end_row):
            for o in range(first, end):
                out[row, o] *= scale[o]

    return products


_COUNTS = {1: _counts_by(1, 4), 2: _counts_by(2, 2), 4: _counts_by(4, 2)}
_ROWS = {1: _rows_by(1, 4), 2: _rows_by(2, 2), 4: _rows_by(4, 1)}
count_products = _COUNTS.__getitem__
row_products = _ROWS.__getitem__
