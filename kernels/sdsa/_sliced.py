"""Column sums against an edge with Numba: counters in bit slices, eight streams side by side.

For streams of one word a token. Bit p of the counters of 64 channels is one word, so that adding a
token is a ripple of AND and XOR over the planes. A counter starts at 2^P - edge, P the least with
2^P >= edge; it carries out of its last plane when the edge is reached, and that is kept. Eight
streams are one vector: 8 x 8 words are transposed between token order and stream order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from neurosim.kernels import _simd
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_attention import _memory

LANES = 8
_WORD = ir.IntType(64)
_ROW = ir.VectorType(_WORD, LANES)

_V = _simd.Vector("int64", LANES)
_zero, _load, _store, _splat = (
    f(_V) for f in (_simd.zero, _memory.load, _memory.store, _simd.splat)
)
_and, _or, _xor = (_simd.binary(_V, name) for name in ("and_", "or_", "xor"))
_address, _word, _put = _memory.address, _memory.load_word, _memory.store_word


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """8 x 8 words: blocks of 1, 2 and 4 change places with those across the diagonal."""
    for size in (1, 2, 4):
        swapped = list(rows)
        for i in range(LANES):
            if i & size:
                continue
            low = [n if not n & size else n - size + LANES for n in range(LANES)]
            high = [n + size if not n & size else n + LANES for n in range(LANES)]
            pair = rows[i], rows[i + size]
            for at, order in ((i, low), (i + size, high)):
                mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
                swapped[at] = builder.shuffle_vector(*pair, mask)
        rows = swapped
    return rows


def _row(builder: Any, start: Any, index: Any) -> Any:
    pointer = builder.gep(builder.inttoptr(start, _WORD.as_pointer()), [index])
    return builder.bitcast(pointer, _ROW.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def _gather(typing_context: Any, a: Any, b: Any, at: Any, stride: Any, to: Any) -> Any:
    """_gather(a, b, at, stride, to): rows at, at + stride, ... of a & b (8, 8), transposed."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second, at, stride, to = arguments
        rows = []
        for i in range(LANES):
            index = builder.add(at, builder.mul(stride, ir.Constant(_WORD, i)))
            pair = [builder.load(_row(builder, x, index), align=1) for x in (first, second)]
            rows.append(builder.and_(*pair))
        for i, row in enumerate(_transposed(builder, rows)):
            builder.store(row, _row(builder, to, ir.Constant(_WORD, LANES * i)), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


@intrinsic  # type: ignore[untyped-decorator]
def _scatter(typing_context: Any, q: Any, source: Any, at: Any, stride: Any, to: Any) -> Any:
    """_scatter(q, source, at, stride, to): to = q & transposed (8, 8), rows as in `_gather`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        q, source, at, stride, to = arguments
        rows = [
            builder.load(_row(builder, source, ir.Constant(_WORD, LANES * i)), align=1)
            for i in range(LANES)
        ]
        for i, row in enumerate(_transposed(builder, rows)):
            index = builder.add(at, builder.mul(stride, ir.Constant(_WORD, i)))
            kept = builder.and_(row, builder.load(_row(builder, q, index), align=1))
            builder.store(kept, _row(builder, to, index), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


@inlined
def _counted(planes: Any, count: Any, reached: Any, fired: Any) -> Any:
    """Add one to the counters of the channels that fired; those that have reached the edge."""
    carry = fired
    for p in range(count):
        old = _load(planes, p * LANES)
        _store(planes, p * LANES, _xor(old, carry))
        carry = _and(old, carry)
    return _or(reached, carry)


@inlined
def _counted_eight(planes: Any, count: Any, reached: Any, tile: Any, causal: Any) -> Any:
    """`_counted` for the eight rows of the tile; `causal` leaves there what it gives after each.

    Plane by plane, so that a plane stays in a register while eight tokens are added to it.
    """
    a, b, c, d = (
        _load(tile, 0), _load(tile, LANES), _load(tile, 2 * LANES), _load(tile, 3 * LANES)
    )  # fmt: skip
    e, f, g, h = (
        _load(tile, 4 * LANES), _load(tile, 5 * LANES), _load(tile, 6 * LANES),
        _load(tile, 7 * LANES),
    )  # fmt: skip
    for p in range(count):
        first = _load(planes, p * LANES)
        second = _xor(first, a)
        third = _xor(second, b)
        fourth = _xor(third, c)
        fifth = _xor(fourth, d)
        sixth = _xor(fifth, e)
        seventh = _xor(sixth, f)
        eighth = _xor(seventh, g)
        _store(planes, p * LANES, _xor(eighth, h))
        a, b, c, d = _and(first, a), _and(second, b), _and(third, c), _and(fourth, d)
        e, f, g, h = _and(fifth, e), _and(sixth, f), _and(seventh, g), _and(eighth, h)
    a = _or(reached, a)
    b = _or(a, b)
    c = _or(b, c)
    d = _or(c, d)
    e = _or(d, e)
    f = _or(e, f)
    g = _or(f, g)
    h = _or(g, h)
    if causal:
        _store(tile, 0, a)
        _store(tile, LANES, b)
        _store(tile, 2 * LANES, c)
        _store(tile, 3 * LANES, d)
        _store(tile, 4 * LANES, e)
        _store(tile, 5 * LANES, f)
        _store(tile, 6 * LANES, g)
        _store(tile, 7 * LANES, h)
    return h


@compiled
def gated(
    q_: Any, k_: Any, v_: Any, edge: int, causal: bool, out_: Words, planes_: Words, tile_: Words
) -> int:
    """Words (G, L, 1) of the first 8 n streams, edge 1..L; how many streams those are.

    Scratch: planes (P, 8), tile (8, 8).
    """
    groups, tokens, _ = q_.shape
    q, k, v, out = _address(q_), _address(k_), _address(v_), _address(out_)
    planes, tile, count = _address(planes_), _address(tile_), planes_.shape[0]
    start = (np.int64(1) << count) - edge
    whole = tokens - tokens % LANES
    done: int = groups - groups % LANES
    for g in range(0, done, LANES):
        for p in range(count):
            _store(planes, p * LANES, _splat(-((start >> p) & 1)))
        reached = _zero()
        for t in range(0, whole, LANES):
            at = g * tokens + t
            _gather(k, v, at, tokens, tile)
            reached = _counted_eight(planes, count, reached, tile, causal)
            if causal:
                _scatter(q, tile, at, tokens, out)
        for t in range(whole, tokens):
            for s in range(LANES):
                at = (g + s) * tokens + t
                _put(tile, s, _word(k, at) & _word(v, at))
            reached = _counted(planes, count, reached, _load(tile, 0))
            if causal:
                _store(tile, 0, reached)
                for s in range(LANES):
                    at = (g + s) * tokens + t
                    _put(out, at, _word(q, at) & _word(tile, s))
        if not causal:
            _store(tile, 0, reached)
            for s in range(LANES):
                mask, at = _splat(np.int64(_word(tile, s))), (g + s) * tokens
                for t in range(0, whole, LANES):
                    _store(out, at + t, _and(_load(q, at + t), mask))
                for t in range(whole, tokens):
                    _put(out, at + t, _word(q, at + t) & _word(tile, s))
    return done
