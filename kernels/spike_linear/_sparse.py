"""Products of sparse float rows and a dense matrix, for training: multiply and add what is not 0.

Training needs three such products: spikes W, spikes^T g, and g W^T where the surrogate's slope is
zero for most neurons. All are one kernel: 64 sums stay in registers while the listed rows of a
64-column panel, copied so that it stays in the cache, are added to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed._words import new_words

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

_PANEL, _WIDE, _LANES = 64, 256, 32
_WIDE_ROWS = 1024  # whose panel of 256 columns is 1 MB: about what a cache of one core holds
_BLOCKED_ROWS, _DENSE_SHARE = 128, 0.08
_BLOCK = 16  # floats of a cache line: a panel is transposed in blocks of so many rows

_Panel, _Part = _simd.Vector("float32", _PANEL), _simd.Vector("float32", _LANES)
_zero_panel, _load_panel, _store_panel = (
    _simd.zero(_Panel),
    _simd.load(_Panel),
    _simd.store(_Panel),
)
_splat_panel = _simd_masks.splat_float(_Panel)
_zero, _load, _splat = _simd.zero(_Part), _simd.load(_Part), _simd_masks.splat_float(_Part)
_subtract, _times_part = _simd.binary(_Part, "fsub"), _simd.binary(_Part, "fmul")
_times_panel, _size = _simd.binary(_Panel, "fmul"), _simd_masks.unary(_Part, "fabs")
_differ, _above, _at_least = (_simd_masks.compare(_Part, sign) for sign in ("!=", ">", ">="))
_lowest_bit = _simd.lowest_bit


@intrinsic  # type: ignore[untyped-decorator]
def _multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where the machine can."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_Panel.llvm, [_Panel.llvm] * 3)
        name = f"llvm.fmuladd.v{_PANEL}f32"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, arguments)

    return _Panel(_Panel, _Panel, _Panel), code


class Rows(NamedTuple):
    """What is not 0 in each row of a matrix (R, C), in ascending columns."""

    pointer: Integers  # row r is pointer[r] .. pointer[r + 1], (R + 1,)
    column: Integers
    value: Floats
    columns: int  # C

    def transposed(self) -> Rows:
        """The same for the columns."""
        pointer = np.zeros(self.columns + 1, np.int32)
        row, value = np.empty_like(self.column), np.empty_like(self.value)
        _transpose(self.pointer, self.column, self.value, pointer, row, value)
        return Rows(pointer, row, value, len(self.pointer) - 1)

    def times(
        self,
        matrix: Floats,
        out: Floats,
        transposed: bool = False,
        carry: float = 0.0,
        ahead: int = 0,
    ) -> None:
        """Fill out (R, N) with these rows times matrix (C, N), or matrix^T of an (N, C) one.

        To each row `carry` times the row `ahead` of it is added, from the last row to the first.
        Columns that `out` has beyond N, up to a multiple of 64, become 0.
        """
        inner, outputs = matrix.shape[::-1] if transposed else matrix.shape
        width = _WIDE if outputs > _PANEL and inner <= _WIDE_ROWS else _PANEL
        panel = new_words((inner, width // 2)).view(np.float32)
        _times(
            self.pointer,
            self.column,
            self.value,
            matrix,
            transposed,
            np.float32(carry),
            ahead,
            panel,
            out,
        )

    def transposed_times(self, matrix: Floats, out: Floats) -> None:
        """Add the transpose of these rows times matrix (R, N) to out (C, N).

        Blocks of rows: the fewer, the better `matrix` stays in the cache, the more often `out`
        passes through it. Measured at R = 1024, C = N = 512.
        """
        rows, events = len(self.pointer) - 1, len(self.column)
        block = _BLOCKED_ROWS if events > _DENSE_SHARE * rows * self.columns else 4 * _BLOCKED_ROWS
        for first in range(0, rows, block):
            pointer = self.pointer[first : first + block + 1]
            part = slice(pointer[0], pointer[-1])
            some = Rows(pointer - pointer[0], self.column[part], self.value[part], self.columns)
            some.transposed().times(matrix[first : first + block], out, carry=1)


def listed(x: Floats, share: float) -> Rows | None:
    """The rows of x (R, C), C-contiguous; None if more than `share` of it is not 0."""
    pointer = np.zeros(x.shape[0] + 1, np.int32)
    column, value = _room(x.size, share)
    found = _list(x, pointer, column, value)
    return Rows(pointer, column[:found], value[:found], x.shape[1]) if found >= 0 else None


def listed_slopes(
    gradient: Floats,
    membrane: Floats,
    threshold: Floats,
    gain: Floats,
    levels: int,
    sharpness: float,
    share: float,
) -> Rows | None:
    """`listed` of gradient surrogate'(membrane) gain, (R, C) and (C,), C a multiple of 64.

    For the surrogates that are 0 beyond a range: the boxcar, or with `levels` the straight-through
    one of integer spikes (see `lif_scan.Neuron`).
    """
    pointer = np.zeros(gradient.shape[0] + 1, np.int32)
    column, value = _room(gradient.size, share)
    slope = (np.float32(1) / threshold if levels else np.float32(sharpness)) * gain
    half = np.float32(1 / (2 * sharpness))
    found = _list_slopes(
        gradient, membrane, threshold, slope, np.float32(levels), half, pointer, column, value
    )
    return Rows(pointer, column[:found], value[:found], len(gain)) if found >= 0 else None


def _room(size: int, share: float) -> tuple[Integers, Floats]:
    most = int(share * size) + _LANES
    return np.empty(most, np.int32), np.empty(most, np.float32)


@compiled
def _list(x: Any, pointer: Integers, column: Integers, value: Floats) -> int:
    """Fill the lists; their length, or -1 where there is no room."""
    rows, columns = x.shape
    flat = x.reshape(-1)
    whole = columns - columns % _LANES
    zero = _zero()
    found = 0
    for r in range(rows):
        for c in range(0, whole, _LANES):
            mask = _differ(_load(x, r * columns + c), zero)
            if mask != np.uint64(0) and found + _LANES > column.size:
                return -1
            while mask != np.uint64(0):
                at = c + _lowest_bit(mask)
                column[found] = at
                value[found] = flat[r * columns + at]
                found += 1
                mask &= mask - np.uint64(1)
        for c in range(whole, columns):
            if flat[r * columns + c] != np.float32(0):
                if found == column.size:
                    return -1
                column[found] = c
                value[found] = flat[r * columns + c]
                found += 1
        pointer[r + 1] = found
    return found


@compiled
def _list_slopes(
    gradient: Any,
    membrane: Any,
    threshold: Any,
    slope: Floats,
    levels: Any,
    half: Any,
    pointer: Integers,
    column: Integers,
    value: Floats,
) -> int:
    """As `_list`."""
    rows, columns = gradient.shape
    flat = gradient.reshape(-1)
    zero, width, top = _zero(), _splat(half), _splat(levels)
    found = 0
    for r in range(rows):
        for c in range(0, columns, _LANES):
            u, edge = _load(membrane, r * columns + c), _load(threshold, c)
            mask = _differ(_load(gradient, r * columns + c), zero)
            if levels > np.float32(0):
                mask &= _at_least(u, zero) & _at_least(_times_part(top, edge), u)
            else:
                mask &= _above(width, _size(_subtract(u, edge)))
            if mask != np.uint64(0) and found + _LANES > column.size:
                return -1
            while mask != np.uint64(0):
                at = c + _lowest_bit(mask)
                column[found] = at
                value[found] = flat[r * columns + at] * slope[at]
                found += 1
                mask &= mask - np.uint64(1)
        pointer[r + 1] = found
    return found


@compiled
def _transpose(
    pointer: Integers,
    column: Integers,
    value: Floats,
    other: Integers,
    row: Integers,
    moved: Floats,
) -> None:
    """Counting sort by column; `other` (C + 1,) starts at 0."""
    for event in range(column.size):
        other[column[event] + 1] += 1
    for c in range(1, other.size):
        other[c] += other[c - 1]
    for r in range(pointer.size - 1):
        for event in range(pointer[r], pointer[r + 1]):
            to = other[column[event]]
            row[to] = r
            moved[to] = value[event]
            other[column[event]] = to + 1
    for c in range(other.size - 1, 0, -1):  # each now holds its end: the start of the next
        other[c] = other[c - 1]
    other[0] = 0


@compiled
def _times(
    pointer: Integers,
    column: Integers,
    value: Floats,
    matrix: Any,
    transposed: bool,
    carry: Any,
    ahead: int,
    panel: Floats,
    out: Any,
) -> None:
    rows, width = out.shape
    inner, wide = panel.shape
    outputs = matrix.shape[0] if transposed else matrix.shape[1]
    rest = np.empty(_PANEL, np.float32)
    for start in range(0, width, wide):
        stop = min(start + wide, outputs, width)
        _fill(matrix, transposed, start, stop, panel)
        for back in range(rows):
            r = rows - 1 - back
            first, last = pointer[r], pointer[r + 1]
            scale = carry if r + ahead < rows else np.float32(0)
            to, source = r * width, (r + ahead) * width
            if wide == _WIDE and start + _WIDE <= width:
                _row_of_256(
                    column, value, first, last, panel, scale, out, source + start, to + start
                )
            else:
                for c in range(start, min(start + wide, width), _PANEL):
                    _row_of_64(
                        column, value, first, last, panel, c - start, scale,
                        out, source + c, to + c, min(_PANEL, width - c), rest,
                    )  # fmt: skip


@compiled
def _fill(matrix: Any, transposed: bool, start: int, stop: int, panel: Floats) -> None:
    """panel (C, 64 or 256) = columns start..stop of the matrix, or of its transpose, and zeros."""
    inner, wide = panel.shape
    if stop < start + wide:
        panel[:] = np.float32(0)
    if transposed:
        for first in range(0, inner, _BLOCK):
            for c in range(start, stop):
                line = matrix[c]
                for k in range(first, min(first + _BLOCK, inner)):
                    panel[k, c - start] = line[k]
    else:
        for k in range(inner):
            line, part = matrix[k, start:stop], panel[k]
            for c in range(stop - start):
                part[c] = line[c]


@inlined
def _row_of_256(
    column: Integers,
    value: Floats,
    first: int,
    last: int,
    panel: Any,
    scale: Any,
    out: Any,
    source: int,
    to: int,
) -> None:
    """out[to : to + 256] = scale out[source : source + 256] + sum of value times panel row."""
    a, b, c, d = _zero_panel(), _zero_panel(), _zero_panel(), _zero_panel()
    if scale != np.float32(0):
        factor = _splat_panel(scale)
        a = _times_panel(factor, _load_panel(out, source))
        b = _times_panel(factor, _load_panel(out, source + _PANEL))
        c = _times_panel(factor, _load_panel(out, source + 2 * _PANEL))
        d = _times_panel(factor, _load_panel(out, source + 3 * _PANEL))
    for event in range(first, last):
        factor, at = _splat_panel(value[event]), np.int64(column[event]) * _WIDE
        a = _multiply_add(factor, _load_panel(panel, at), a)
        b = _multiply_add(factor, _load_panel(panel, at + _PANEL), b)
        c = _multiply_add(factor, _load_panel(panel, at + 2 * _PANEL), c)
        d = _multiply_add(factor, _load_panel(panel, at + 3 * _PANEL), d)
    _store_panel(out, to, a)
    _store_panel(out, to + _PANEL, b)
    _store_panel(out, to + 2 * _PANEL, c)
    _store_panel(out, to + 3 * _PANEL, d)


@inlined
def _row_of_64(
    column: Integers,
    value: Floats,
    first: int,
    last: int,
    panel: Any,
    offset: int,
    scale: Any,
    out: Any,
    source: int,
    to: int,
    columns: int,
    rest: Floats,
) -> None:
    """The same for out[to : to + columns], at most 64, from the panel's columns from `offset`."""
    flat = out.reshape(-1)
    total = _zero_panel()
    for event in range(first, last):
        at = np.int64(column[event]) * panel.shape[1] + offset
        total = _multiply_add(_splat_panel(value[event]), _load_panel(panel, at), total)
    if columns == _PANEL:
        if scale != np.float32(0):
            total = _multiply_add(_splat_panel(scale), _load_panel(out, source), total)
        _store_panel(out, to, total)
    else:
        _store_panel(rest, 0, total)
        for c in range(columns):
            before = scale * flat[source + c] if scale != np.float32(0) else np.float32(0)
            flat[to + c] = rest[c] + before
