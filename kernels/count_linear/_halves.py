"""Products with 4-bit weights: a lane of a vector is a group of inputs, with its multiplier.

A block of 16 groups is 512 inputs: 4 vectors of codes, each of 8 half-bytes in each lane. Sums of
a group stay in its lane, so the multiplier of every group costs one multiplication a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._jit import compiled
from neurosim.kernels._tiles import (
    LANES,
    WORDS,
    added_up,
    constant,
    dot_bytes,
    first_lanes,
    fused,
    load,
    place,
    store_rows,
)
from neurosim.kernels.count_linear._codes import GROUP

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_VECTORS = 4  # of codes, in a block
_INPUTS = LANES * GROUP  # of a block
_FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


def arranged(
    counts: npt.NDArray[np.int8],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """Counts (L, I) as `halves_tile` reads them (L, B * 512), and -8 times their sums by group."""
    length, inputs = counts.shape
    blocks = -(-inputs // _INPUTS)
    out = np.zeros((length, blocks * _INPUTS), np.int8)
    base = np.zeros((length, blocks * LANES), np.int32)
    _arrange(counts, out, base)
    return out, base


def spread(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats (L, I) as `halves_tile` reads them: a vector holds one input of each group."""
    length, inputs = x.shape
    blocks = -(-inputs // _INPUTS)
    out = np.zeros((length, blocks * _INPUTS), x.dtype)
    _spread(x, out)
    return out


@compiled
def _arrange(counts: Any, out: Any, base: Any) -> None:
    length, inputs = counts.shape
    for row in range(length):
        for i in range(inputs):
            group, part, t = i // GROUP, i % GROUP // 4, i % 4
            lane = group % LANES
            out[row, group // LANES * _INPUTS + 64 * part + 4 * lane + t] = counts[row, i]
            base[row, group] -= 8 * counts[row, i]


@compiled
def _spread(x: Any, out: Any) -> None:
    length, inputs = x.shape
    for row in range(length):
        for i in range(inputs):
            group, place = i // GROUP, i % GROUP
            out[row, group // LANES * _INPUTS + LANES * place + group % LANES] = x[row, i]


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def halves_tile(
    typing_context: Any, x: Any, x_first: Any, x_stride: Any, base: Any, base_first: Any,
    base_stride: Any, codes: Any, code_first: Any, multiplier: Any, m_first: Any, groups: Any,
    out: Any, out_first: Any, out_stride: Any, rows: Any,
) -> Any:  # fmt: skip
    """out[r] = sum_i x[r, i] w[i] m[i / 32] for one output and `rows` rows, a literal.

    x int8 as `arranged`, with its base, and out int32; or float as `spread`, out the same.
    """
    signature = types.void(
        x, types.intp, types.intp, base, types.intp, types.intp, codes, types.intp, multiplier,
        types.intp, types.intp, out, types.intp, types.intp, rows,
    )  # fmt: skip
    height, whole = rows.literal_value, x.dtype.name == "int8"
    vector = WORDS if whole else ir.VectorType(_FLOATS[x.dtype.name], LANES)
    form = ir.VectorType(_I8, 4 * LANES) if whole else vector
    small = ir.VectorType(_I8, LANES)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        values, v_first, v_stride, sums, s_first, s_stride = arguments[:6]
        packed, p_first, factors, f_first, count = arguments[6:11]
        cells = [cgutils.alloca_once(builder, vector) for _ in range(height)]
        for cell in cells:
            builder.store(ir.Constant(vector, None), cell)

        def at(kind: Any, array: Any, vector: Any, first: Any, *more: tuple[Any, int]) -> Any:
            for term, factor in more:
                product = builder.mul(term, ir.Constant(_I64, factor))
                first = builder.add(first, product)
            return place(context, builder, kind, array, first, vector)

        one = ir.Constant(_I64, 1)

        def block(index: Any, size: Any, mask: Any) -> None:
            words = [
                load(builder, at(kinds[6], packed, WORDS, p_first, (index, 256), (size, 4 * q)),
                     WORDS, mask)
                for q in range(_VECTORS)
            ]  # fmt: skip
            m = load(builder, at(kinds[8], factors, small, f_first, (index, LANES)), small, mask)
            m = builder.zext(m, WORDS)
            if not whole:
                m = builder.sitofp(m, vector)
            held = []
            for r in range(height):
                if whole:
                    where = at(kinds[3], sums, WORDS, s_first, (s_stride, r), (index, LANES))
                    held.append(load(builder, where, WORDS))
                else:
                    held.append(ir.Constant(vector, None))
            for part in range(8):
                shifted = words[part // 2]
                if whole:
                    if part % 2:
                        shifted = builder.lshr(shifted, constant(WORDS, 4))
                    w = builder.and_(shifted, constant(WORDS, 0x0F0F0F0F))
                    weights = [w]
                else:
                    shifts = (4 * (part % 2) + 8 * t for t in range(4))
                    weights = [_code_as_float(builder, shifted, shift, vector) for shift in shifts]
                for i, w in enumerate(weights):
                    for r in range(height):
                        place_of = 64 * part + LANES * i
                        where = at(
                            kinds[0], values, form, v_first,
                            (v_stride, r), (index, _INPUTS), (one, place_of),
                        )  # fmt: skip
                        x_vector = load(builder, where, form)
                        if whole:
                            x_words = builder.bitcast(x_vector, WORDS)
                            held[r] = dot_bytes(builder, held[r], w, x_words)
                        else:
                            held[r] = fused(builder, x_vector, w, held[r])
            for cell, group_sums in zip(cells, held, strict=True):
                total = builder.load(cell)
                if whole:
                    total = builder.add(total, builder.mul(group_sums, m))
                else:
                    total = fused(builder, group_sums, m, total)
                builder.store(total, cell)

        lanes = ir.Constant(_I64, LANES)
        with cgutils.for_range(builder, builder.sdiv(count, lanes)) as loop:
            block(loop.index, lanes, None)
        rest = builder.srem(count, lanes)
        with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(_I64, 0))):
            block(builder.sdiv(count, lanes), rest, first_lanes(builder, rest, LANES))
        total = added_up(builder, [builder.load(cell) for cell in cells])
        store_rows(context, builder, kinds[11], arguments[11], total, height, 1, *arguments[12:14])
        return context.get_dummy_value()

    return signature, code


def _code_as_float(builder: Any, words: Any, shift: int, vector: Any) -> Any:
    """w of the half-bytes at a bit of every word."""
    half = builder.and_(builder.lshr(words, constant(WORDS, shift)), constant(WORDS, 15))
    return builder.sitofp(builder.sub(half, constant(WORDS, 8)), vector)


def _counts_by(height: int) -> Callable[..., None]:
    @compiled
    def products(
        codes: Any, multiplier: Any, counts: Any, base: Any, out: Any,
        first_row: int, end_row: int, first: int, end: int,
    ) -> None:  # fmt: skip
        (outputs, width), groups = codes.shape, multiplier.shape[1]
        rows, inputs, bases, lanes = (
            counts.reshape(-1),
            counts.shape[1],
            base.reshape(-1),
            base.shape[1],
        )
        packed, factors, sums = codes.reshape(-1), multiplier.reshape(-1), out.reshape(-1)
        for row in range(first_row, end_row, height):
            for o in range(first, end):
                halves_tile(
                    rows, row * inputs, inputs, bases, row * lanes, lanes, packed, o * width,
                    factors, o * groups, groups, sums, row * outputs + o, outputs, height,
                )  # fmt: skip

    return products


def _rows_by(height: int) -> Callable[..., None]:
    @compiled
    def products(
        codes: Any, multiplier: Any, x: Any, scale: Any, out: Any,
        first_row: int, end_row: int, first: int, end: int,
    ) -> None:  # fmt: skip
        (outputs, width), groups = codes.shape, multiplier.shape[1]
        rows, inputs = x.reshape(-1), x.shape[1]
        packed, factors, sums = codes.reshape(-1), multiplier.reshape(-1), out.reshape(-1)
        for row in range(first_row, end_row, height):
            for o in range(first, end):
                halves_tile(
                    rows, row * inputs, inputs, rows, 0, 0, packed, o * width,
                    factors, o * groups, groups, sums, row * outputs + o, outputs, height,
                )  # fmt: skip
        for row in range(first_row, end_row):
            for o in range(first, end):
                out[row, o] *= scale[o]

    return products


_COUNTS = {height: _counts_by(height) for height in (1, 2, 4)}
_ROWS = {height: _rows_by(height) for height in (1, 2, 4)}
count_products = _COUNTS.__getitem__
row_products = _ROWS.__getitem__
