"""IR drop: a crossbar with wire resistance, solved node by node (device.md 3.12).

Each cell (i, j) joins a word-line node and a bit-line node. Row i is driven at its left end, column
j is at virtual ground at its bottom end; a wire segment of resistance r lies between neighbours and
before the first (driver side) and after the last (ground side) cell: the circuit of badcrossbar.
The linear system is solved by conjugate gradients over the lines (`_wire_lines`), and by a sparse
LU where wires are so much weaker than cells that they do not settle. Non-linear cells
I = G sinh(a V)/a are solved by Newton, whose matrix is the linear one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from neurosim.devices._wire_lines import solve_lines

Floats = npt.NDArray[np.float64]
_RESIDUAL = 1e-14
_STEPS = 2000


@dataclass(frozen=True, eq=False)
class WireSolution:
    """columns: A into the grounds, (P, O). word, bit: node voltages, V, (P, I, O).

    energy rates, W per pattern (P,): delivered by the drivers, burnt in cells, burnt in wires.
    """

    columns: Floats
    word: Floats
    bit: Floats
    delivered: Floats
    cells: Floats
    wires: Floats


def _wire_matrix(rows: int, columns: int, row_wire: float, column_wire: float) -> coo_matrix:
    """Nodal matrix of the wires alone: word nodes first, then bit nodes, (2 I O, 2 I O)."""
    word = np.arange(rows * columns).reshape(rows, columns)
    bit = word + rows * columns
    ends = [
        (word[:, :-1], word[:, 1:], 1.0 / row_wire),
        (bit[:-1], bit[1:], 1.0 / column_wire),
    ]
    at: list[npt.NDArray[np.int64]] = []
    to: list[npt.NDArray[np.int64]] = []
    values: list[Floats] = []
    for first, second, g in ends:
        a, b = first.ravel(), second.ravel()
        at += [a, b, a, b]
        to += [a, b, b, a]
        values += [np.full(a.size, g), np.full(a.size, g), np.full(a.size, -g), np.full(a.size, -g)]
    for nodes, g in ((word[:, 0], 1.0 / row_wire), (bit[-1], 1.0 / column_wire)):
        at.append(nodes)
        to.append(nodes)
        values.append(np.full(nodes.size, g))
    size = 2 * rows * columns
    where = (np.concatenate(at), np.concatenate(to))
    return coo_matrix((np.concatenate(values), where), shape=(size, size))


def _cell_matrix(slope: Floats) -> coo_matrix:
    """Nodal matrix of the cells with conductances `slope` (I, O)."""
    g = slope.ravel()
    word = np.arange(g.size)
    bit = word + g.size
    at = np.concatenate([word, bit, word, bit])
    to = np.concatenate([word, bit, bit, word])
    return coo_matrix((np.concatenate([g, g, -g, -g]), (at, to)), shape=(2 * g.size, 2 * g.size))


def solve_wires(
    conductance: Floats,
    voltage: npt.ArrayLike,
    row_wire: float,
    column_wire: float | None = None,
    bend: float = 0.0,
    tolerance: float = 1e-12,
) -> WireSolution:
    """Solve the crossbar exactly.

    Args:
        conductance: cells, S, (I, O). voltage: of the row drivers, V, (I,) or (P, I).
        row_wire, column_wire: ohm per segment, > 0; the second defaults to the first.
        bend: a of I = G sinh(a V)/a, 1/V. tolerance: of Newton, relative to the largest voltage.
    """
    g = np.asarray(conductance, dtype=np.float64)
    if g.ndim != 2 or not (np.isfinite(g).all() and (g >= 0.0).all()):
        raise ValueError(f"expected conductances >= 0 (I, O), got shape {g.shape}")
    drivers = np.atleast_2d(np.asarray(voltage, dtype=np.float64))
    if drivers.shape[1] != g.shape[0]:
        raise ValueError(f"expected voltages (P, {g.shape[0]}), got {drivers.shape}")
    column = row_wire if column_wire is None else column_wire
    if not (0.0 < row_wire < math.inf and 0.0 < column < math.inf):
        raise ValueError(
            f"expected wire resistances > 0 ohm, got {row_wire} and {column}; "
            "without wires use column_currents"
        )
    rows, columns = g.shape
    source = np.zeros((len(drivers), 2, rows, columns))
    source[:, 0, :, 0] = drivers / row_wire
    nodes = _linear(g, row_wire, column, source.reshape(len(drivers), -1))
    if bend > 0.0:
        settled = tolerance * np.abs(drivers).max()
        for k, right in enumerate(source.reshape(len(drivers), -1)):
            nodes[k] = _newton(g, row_wire, column, right, nodes[k], bend, settled)
    split = nodes.reshape(len(drivers), 2, rows, columns)
    word, bit = split[:, 0], split[:, 1]
    across = word - bit
    current = g * (np.sinh(bend * across) / bend if bend > 0.0 else across)
    burnt = ((drivers - word[:, :, 0]) ** 2).sum(axis=1) / row_wire
    burnt += (np.diff(word, axis=2) ** 2).sum(axis=(1, 2)) / row_wire
    burnt += (np.diff(bit, axis=1) ** 2).sum(axis=(1, 2)) / column
    burnt += (bit[:, -1] ** 2).sum(axis=1) / column
    return WireSolution(  # line currents as sums of cells: differences of nodes would cancel
        current.sum(axis=1),
        word,
        bit,
        (drivers * current.sum(axis=2)).sum(axis=1),
        (across * current).sum(axis=(1, 2)),
        burnt,
    )


def _linear(slope: Floats, row_wire: float, column_wire: float, right: Floats) -> Floats:
    """Node voltages, V, (P, 2 I O), of ohmic cells `slope` for sources `right`, A, alike."""
    nodes = right.reshape(len(right), 2, *slope.shape).copy()
    if not slope.size:
        return nodes.reshape(right.shape)
    for pattern in nodes:
        steps = solve_lines(
            slope, 1.0 / row_wire, 1.0 / column_wire, pattern[0], pattern[1], _RESIDUAL, _STEPS
        )
        if steps == _STEPS:
            wires = _wire_matrix(slope.shape[0], slope.shape[1], row_wire, column_wire)
            return np.asarray(splu((wires + _cell_matrix(slope)).tocsc()).solve(right.T).T)
    return nodes.reshape(right.shape)


def _newton(
    g: Floats,
    row_wire: float,
    column_wire: float,
    right: Floats,
    start: Floats,
    bend: float,
    tolerance: float,
) -> Floats:
    """Node voltages of one pattern with sinh cells; ValueError if Newton does not settle."""
    nodes = start.copy()
    wires = _wire_matrix(g.shape[0], g.shape[1], row_wire, column_wire).tocsr()
    half = g.size
    for _ in range(60):
        across = (nodes[:half] - nodes[half:]).reshape(g.shape)
        current = (g * np.sinh(bend * across) / bend).ravel()
        error = wires @ nodes - right
        error[:half] += current
        error[half:] -= current
        slope = g * np.cosh(bend * across)
        move = _linear(slope, row_wire, column_wire, error[None])[0]
        limit = 0.5 / bend  # sinh grows e-fold per 1/bend: larger moves overshoot
        largest = float(np.abs(move).max())
        nodes -= move * min(1.0, limit / largest if largest > 0.0 else 1.0)
        if largest <= tolerance:
            return nodes
    raise ValueError(
        f"expected Newton to settle in 60 steps, last move {largest:.3g} V; lower bend or voltages"
    )
