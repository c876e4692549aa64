"""Node voltages of a crossbar with wires, by conjugate gradients over its lines.

Unknowns are word nodes w and bit nodes b, (I, O) each. Along a line the nodal matrix is
tridiagonal, T_w of the rows and T_b of the columns (wires and cells), and the cells G couple them:
    T_w w - G b = s_w,    -G w + T_b b = s_b.
w is eliminated, and (T_b - G T_w^-1 G) b = s_b + G T_w^-1 s_w is solved by conjugate gradients with
T_b as the preconditioner: the stronger the wires against the cells, the fewer steps (a handful for
ohms and tens of microsiemens). A step solves every line once, without filling in anything.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
_LINES = 8  # word lines solved side by side: each is a chain of dependent steps


@compiled
def _pivots(g: Floats, row: float, column: float) -> tuple[Floats, Floats]:
    """1 / pivot of the eliminations along word and bit lines; `row`, `column`: S per segment."""
    rows, columns = g.shape
    word, bit = np.empty_like(g), np.empty_like(g)
    for i in range(rows):
        for j in range(columns):
            own = g[i, j] + row * (2.0 if j < columns - 1 else 1.0)
            if j > 0:
                own -= row * row * word[i, j - 1]
            word[i, j] = 1.0 / own
            own = g[i, j] + column * (2.0 if i > 0 else 1.0)
            if i > 0:
                own -= column * column * bit[i - 1, j]
            bit[i, j] = 1.0 / own
    return word, bit


@compiled
def _solve_words(x: Floats, pivot: Floats, row: float) -> None:
    """x = T_w^-1 x, line by line."""
    rows, columns = x.shape
    for first in range(0, rows, _LINES):
        last = min(first + _LINES, rows)
        for j in range(1, columns):
            for i in range(first, last):
                x[i, j] += row * pivot[i, j - 1] * x[i, j - 1]
        for i in range(first, last):
            x[i, columns - 1] *= pivot[i, columns - 1]
        for j in range(columns - 2, -1, -1):
            for i in range(first, last):
                x[i, j] = (x[i, j] + row * x[i, j + 1]) * pivot[i, j]


@compiled
def _solve_bits(x: Floats, pivot: Floats, column: float) -> None:
    """x = T_b^-1 x, all columns side by side."""
    rows, columns = x.shape
    for i in range(1, rows):
        for j in range(columns):
            x[i, j] += column * pivot[i - 1, j] * x[i - 1, j]
    for j in range(columns):
        x[rows - 1, j] *= pivot[rows - 1, j]
    for i in range(rows - 2, -1, -1):
        for j in range(columns):
            x[i, j] = (x[i, j] + column * x[i + 1, j]) * pivot[i, j]


@compiled
def solve_lines(
    g: Floats, row: float, column: float, word: Floats, bit: Floats, tolerance: float, steps: int
) -> int:
    """Replace the sources `word` and `bit`, A, (I, O), by the node voltages, V.

    g: cells, S. row, column: S per wire segment; the first of a row ends at its driver (at 0 V
    here), the last of a column at ground. tolerance: of the residual, relative. Returns the number
    of steps; `steps` if it did not settle.
    """
    word_pivot, bit_pivot = _pivots(g, row, column)
    through = word.copy()
    _solve_words(through, word_pivot, row)
    residual = bit + g * through
    x = np.zeros_like(g)
    search = np.zeros_like(g)
    along = np.zeros_like(g)  # T_b search, by the recursion of `search`
    product = np.empty_like(g)
    weight = before = start = 0.0
    used = steps
    for step in range(steps):
        product[:] = residual
        _solve_bits(product, bit_pivot, column)
        weight = np.sum(product * residual)
        start = weight if step == 0 else start
        if weight <= tolerance * tolerance * start:
            used = step
            break
        ratio = weight / before if step > 0 else 0.0
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                search[i, j] = product[i, j] + ratio * search[i, j]
                along[i, j] = residual[i, j] + ratio * along[i, j]
                product[i, j] = g[i, j] * search[i, j]
        before = weight
        _solve_words(product, word_pivot, row)
        curvature = 0.0
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                product[i, j] = along[i, j] - g[i, j] * product[i, j]
                curvature += search[i, j] * product[i, j]
        move = weight / curvature
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                x[i, j] += move * search[i, j]
                residual[i, j] -= move * product[i, j]
    word += g * x
    _solve_words(word, word_pivot, row)
    bit += g * word
    _solve_bits(bit, bit_pivot, column)
    return used
