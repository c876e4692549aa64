"""Bits of a matrix transposed with Numba, 64 x 64 at a time.

Halves of halves are swapped (Warren, Hacker's Delight 7-3, 2012): bits of rows 32 apart, then 16,
..., 1. The 64 rows are 8 vectors of 8 rows, so the first three swaps are between vectors and the
last three between lanes of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from neurosim.kernels import _simd
from neurosim.kernels._jit import compiled
from neurosim.kernels._scratch import on_stack
from neurosim.kernels.packed._words import Words, new_words

_ROWS = 8
_V = _simd.Vector("int64", _ROWS)
_block = on_stack(np.uint64, 64)


def transpose(words: Words, columns: int) -> Words:
    """See reference.py."""
    planes, rows, _ = words.shape
    out = new_words((planes, columns, -(-rows // 64)))
    _transpose(words, out)
    return out


def _constant(values: list[int]) -> Any:
    return ir.Constant(_V.llvm, values)


def _low_halves(size: int) -> int:
    """A word in which every second group of `size` bits is set, the lowest first."""
    return sum(1 << bit for bit in range(64) if not bit & size)


def _between(builder: Any, rows: list[Any], size: int) -> None:
    """Swap the high bits of row i with the low bits of row i + size >= 8."""
    low, by = _constant([_low_halves(size)] * _ROWS), _constant([size] * _ROWS)
    step = size // _ROWS
    for k in range(8):
        if k & step:
            continue
        a, b = rows[k], rows[k + step]
        swap = builder.and_(builder.xor(builder.lshr(a, by), b), low)
        rows[k + step] = builder.xor(b, swap)
        rows[k] = builder.xor(a, builder.shl(swap, by))


def _within(builder: Any, rows: list[Any], size: int) -> None:
    """The same for rows of one vector."""
    low, by = _low_halves(size), _constant([size] * _ROWS)
    upper = [bool(lane & size) for lane in range(_ROWS)]
    kept = [low ^ (2**64 - 1) if high else low for high in upper]
    other = ir.Constant(
        ir.VectorType(ir.IntType(32), _ROWS), [lane ^ size for lane in range(_ROWS)]
    )
    high_lane = ir.Constant(ir.VectorType(ir.IntType(1), _ROWS), upper)
    for k, row in enumerate(rows):
        partner = builder.shuffle_vector(row, ir.Constant(_V.llvm, ir.Undefined), other)
        moved = builder.select(high_lane, builder.lshr(partner, by), builder.shl(partner, by))
        taken = builder.and_(moved, _constant([mask ^ (2**64 - 1) for mask in kept]))
        rows[k] = builder.or_(builder.and_(row, _constant(kept)), taken)


@intrinsic  # type: ignore[untyped-decorator]
def _transpose_block(typing_context: Any, block: Any) -> Any:
    """_transpose_block(block): 64 words, transposed in place."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(data, _V.llvm.as_pointer())
        places = [builder.gep(pointer, [ir.Constant(ir.IntType(64), k)]) for k in range(8)]
        rows = [builder.load(place, align=8) for place in places]
        for size in (32, 16, 8):
            _between(builder, rows, size)
        for size in (4, 2, 1):
            _within(builder, rows, size)
        for row, place in zip(rows, places, strict=True):
            builder.store(row, place, align=8)
        return context.get_dummy_value()

    return types.void(block), code


@compiled
def _transpose(words: Any, out: Any) -> None:
    planes, rows, width = words.shape
    columns = out.shape[1]
    block = _block()
    for p in range(planes):
        for first in range(0, rows, 64):
            for w in range(width):
                here = min(64, rows - first)
                for i in range(here):
                    block[i] = words[p, first + i, w]
                for i in range(here, 64):
                    block[i] = np.uint64(0)
                _transpose_block(block)
                for i in range(min(64, columns - 64 * w)):
                    out[p, 64 * w + i, first // 64] = block[i]
