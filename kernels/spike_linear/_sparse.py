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
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._scratch import on_stack
from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.lif_scan import _vectors as v64
from neurosim.kernels.lif_scan._backward import binary_slope, integer_slope, slope_scale
from neurosim.kernels.lif_scan._fire import padded, read

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

_PANEL, _WIDE = v64.LANES, 256
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_WIDE_ROWS = 1024  # whose panel of 256 columns is 1 MB: about what a cache of one core holds
_BLOCKED_ROWS, _DENSE_SHARE = 128, 0.08
_LINE = 64  # bytes of a cache line
_BLOCK = 16  # floats of a cache line: a panel is transposed in blocks of so many rows

_Panel = v64.FLOATS
_zero_panel, _load_panel, _store_panel = v64.zero, v64.load, v64.store
_splat_panel, _times_panel = v64.splat, v64.times
_panel_on_stack = on_stack(np.float32, _PANEL)
_differ, _lowest_bit = _simd_masks.compare(_Panel, "!="), _simd.lowest_bit


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
        on_lines = matrix.ctypes.data % _LINE == 0 and outputs % _WIDE == 0
        as_it_is = on_lines and not transposed and width == _WIDE
        panel = matrix if as_it_is else aligned((inner, width), np.float32)
        _times(
            self.pointer,
            self.column,
            self.value,
            matrix,
            transposed,
            np.float32(carry),
            ahead,
            panel,
            width,
            as_it_is,
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
    neuron: Neuron,
    share: float,
) -> Rows | None:
    """`listed` of gain gradient surrogate'(membrane), from (R, C) and (C,).

    For integer neurons and the boxcar, which are 0 beyond a range.
    """
    pointer = np.zeros(gradient.shape[0] + 1, np.int32)
    column, value = _room(gradient.size, share)
    edge = padded(threshold, 1)
    found = _list_slopes(
        gradient, membrane.reshape(-1), edge, padded(gain), neuron.levels, neuron.signed,
        neuron.clip_bounds, neuron.levels is not None and bool((edge == 1).all()),
        *slope_scale(neuron), pointer, column, value,
    )  # fmt: skip
    return Rows(pointer, column[:found], value[:found], len(gain)) if found >= 0 else None


def _room(size: int, share: float) -> tuple[Integers, Floats]:
    most = int(share * size) + _PANEL
    return np.empty(most, np.int32), np.empty(most, np.float32)


@compiled
def _list(x: Any, pointer: Integers, column: Integers, value: Floats) -> int:
    """Fill the lists; their length, or -1 where there is no room."""
    rows, columns = x.shape
    flat = x.reshape(-1)
    zero = _zero_panel()
    found = 0
    for r in range(rows):
        for c in range(0, columns, _PANEL):
            at = r * columns + c
            whole = c + _PANEL <= columns
            some = _ALL if whole else _ALL >> np.uint64(c + _PANEL - columns)
            hit = _differ(read(flat, at, some, not whole), zero)
            if hit != np.uint64(0) and found + _PANEL > column.size:
                return -1
            while hit != np.uint64(0):
                lane = _lowest_bit(hit)
                column[found] = c + lane
                value[found] = flat[at + lane]
                found += 1
                hit &= hit - np.uint64(1)
        pointer[r + 1] = found
    return found


@compiled
def _list_slopes(
    gradient: Any, membrane: Any, threshold: Any, gain: Any,
    levels: int | None, signed: bool, bounds: bool, unit: bool, surrogate: int, a: Any, scale: Any,
    pointer: Integers, column: Integers, value: Floats,
) -> int:  # fmt: skip
    """As `_list`."""
    rows, columns = gradient.shape
    flat = gradient.reshape(-1)
    part = _panel_on_stack()
    zero = _zero_panel()
    found = 0
    for r in range(rows):
        for c in range(0, columns, _PANEL):
            at = r * columns + c
            whole = c + _PANEL <= columns
            some = _ALL if whole else _ALL >> np.uint64(c + _PANEL - columns)
            ds, u = read(flat, at, some, not whole), read(membrane, at, some, not whole)
            edge = _load_panel(threshold, c)
            if levels is None:
                e = binary_slope(ds, u, edge, surrogate, a, scale)
            else:
                e = integer_slope(ds, u, edge, levels, signed, bounds, unit)
            hit = _differ(e, zero)
            if hit != np.uint64(0) and found + _PANEL > column.size:
                return -1
            _store_panel(part, 0, _times_panel(e, _load_panel(gain, c)))
            while hit != np.uint64(0):
                lane = _lowest_bit(hit)
                column[found] = c + lane
                value[found] = part[lane]
                found += 1
                hit &= hit - np.uint64(1)
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
    panel: Any,
    wide: int,
    as_it_is: bool,
    out: Any,
) -> None:
    rows, width = out.shape
    outputs = matrix.shape[0] if transposed else matrix.shape[1]
    rest = _panel_on_stack()
    for start in range(0, width, wide):
        stop = min(start + wide, outputs, width)
        offset = start if as_it_is else 0
        if not as_it_is:
            _fill(matrix, transposed, start, stop, panel)
        for back in range(rows):
            r = rows - 1 - back
            first, last = pointer[r], pointer[r + 1]
            scale = carry if r + ahead < rows else np.float32(0)
            to, source = r * width, (r + ahead) * width
            if wide == _WIDE and start + _WIDE <= width:
                _row_of_256(
                    column, value, first, last, panel, offset, scale,
                    out, source + start, to + start,
                )  # fmt: skip
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
    offset: int,
    scale: Any,
    out: Any,
    source: int,
    to: int,
) -> None:
    """out[to : to + 256] = scale out[source : source + 256] + sum of value times panel row.

    The 256 columns of the panel start at `offset`.
    """
    stride = panel.shape[1]
    a, b, c, d = _zero_panel(), _zero_panel(), _zero_panel(), _zero_panel()
    if scale != np.float32(0):
        factor = _splat_panel(scale)
        a = _times_panel(factor, _load_panel(out, source))
        b = _times_panel(factor, _load_panel(out, source + _PANEL))
        c = _times_panel(factor, _load_panel(out, source + 2 * _PANEL))
        d = _times_panel(factor, _load_panel(out, source + 3 * _PANEL))
    for event in range(first, last):
        factor, at = _splat_panel(value[event]), np.int64(column[event]) * stride + offset
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
