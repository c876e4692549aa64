"""IR drop for every input at once: the transfer matrix of a crossbar with wire resistance.

Cells are ohmic and every row is held by its driver, at a voltage or at ground, so the array is
linear: column currents are T^T U for any drivers U, and charges are T^T (sum of U t), whether the
rows' pulses overlap or not. T is exact, of the circuit of `synapse_wires.solve_wires`.

Columns are eliminated from the far end to the drivers. With K_j = (L_j)^-1 of column j's wire and
cells (tridiagonal), the column loads the word nodes with A_j = g_j - g_j K_j g_j. Word voltages
follow w_j = P_j w_(j-1), w_0 = U, with the continued fraction
    P_j = (2 + r A_j - P_(j+1))^-1,    P_last = (1 + r A_last)^-1,
r: ohm per row segment. Column j gives c_j^T P_j ... P_1 U with c_j = g_j K_j[last] / r_column, so
one sweep of products collects all of T; the drivers see the admittance (1 - P_1) / r. Cost: one
Cholesky inverse and one product of an I x I matrix per column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Transfer:
    """current (I, O): A of each column (or pair of columns) per V on each row, S.

    admittance (I,): A out of each row's driver per V on it, all others at 0 V, S.
    """

    current: Floats
    admittance: Floats


@compiled
def _column(
    g: Floats, wire: float, row_wire: float, matrix: Floats, sense: Floats, sign: float
) -> None:
    """matrix += r A of one column, lower triangle, and sense += sign c; `g` (I,) its cells, S."""
    rows = g.size
    h = 1.0 / wire
    below = np.empty(rows)  # pivots of the elimination from the grounded end
    for i in range(rows - 1, -1, -1):
        own = g[i] + h * (1.0 if i == 0 else 2.0)
        below[i] = own if i == rows - 1 else own - h * h / below[i + 1]
    above = np.empty(rows)
    ratio = np.empty(rows)
    for i in range(rows):
        own = g[i] + h * (1.0 if i == 0 else 2.0)
        above[i] = own if i == 0 else own - h * h / above[i - 1]
        ratio[i] = h / above[i]  # K[i, k] = ratio[i] K[i + 1, k] for k > i
    for k in range(rows):
        own = g[k] + h * (1.0 if k == 0 else 2.0)
        inverse = 1.0 / (above[k] + below[k] - own)  # K[k, k]
        scale = row_wire * g[k]
        matrix[k, k] += scale * (1.0 - g[k] * inverse)
        for i in range(k - 1, -1, -1):
            inverse *= ratio[i]
            matrix[k, i] -= scale * g[i] * inverse
            if k == rows - 1:
                sense[i] += sign * h * g[i] * inverse
        if k == rows - 1:
            sense[k] += sign * h * g[k] / (above[k] + below[k] - own)


@compiled
def _next_matrix(inverse: Floats, matrix: Floats) -> None:
    """matrix = 2 - P in the lower triangle; `inverse`: P there."""
    for k in range(matrix.shape[0]):
        for i in range(k):
            matrix[k, i] = -inverse[k, i]
        matrix[k, k] = 2.0 - inverse[k, k]


def transfer(
    conductance: npt.ArrayLike,
    row_wire: float,
    column_wire: float | None = None,
    differential: bool = False,
) -> Transfer:
    """The exact transfer matrix of a crossbar.

    Args:
        conductance: cells, S, (I, C). row_wire, column_wire: ohm per segment, > 0; the second
            defaults to the first.
        differential: columns 2p and 2p + 1 are the two halves of pair p, whose currents are
            subtracted: `current` is (I, C / 2), else (I, C).
    """
    from scipy.linalg.blas import dsymm  # a tenth of a second that other chips do not need
    from scipy.linalg.lapack import dpotrf, dpotri

    g = np.ascontiguousarray(np.asarray(conductance, dtype=np.float64).T)  # (C, I)
    if g.ndim != 2 or not (np.isfinite(g).all() and (g >= 0.0).all()):
        raise ValueError(f"expected conductances >= 0 (I, C), got shape {g.T.shape}")
    if differential and len(g) % 2:
        raise ValueError(f"expected an even number of columns for pairs, got {len(g)}")
    wire = row_wire if column_wire is None else column_wire
    if not (0.0 < row_wire < math.inf and 0.0 < wire < math.inf):
        raise ValueError(f"expected wire resistances > 0 ohm, got {row_wire} and {wire}")
    columns, rows = g.shape
    per_output = 2 if differential else 1
    sensed = np.zeros((columns // per_output, rows), order="C")
    if not g.size:
        return Transfer(sensed.T, np.zeros(rows))
    matrix = np.eye(rows)
    for column in range(columns - 1, -1, -1):
        output, side = divmod(column, per_output)
        _column(g[column], wire, row_wire, matrix, sensed[output], -1.0 if side else 1.0)
        factor, failed = dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
        upper, bad = dpotri(factor, lower=0, overwrite_c=1)
        if failed or bad:
            raise ValueError(
                f"expected a solvable crossbar, but column {column} is not; got wires of "
                f"{row_wire:g} and {wire:g} ohm and conductances up to {g.max():g} S"
            )
        reached = sensed[output:]
        sensed[output:] = dsymm(1.0, upper, reached.T, lower=0).T
        _next_matrix(upper.T, matrix)
    return Transfer(sensed.T, (np.diagonal(matrix) - 1.0) / row_wire)
