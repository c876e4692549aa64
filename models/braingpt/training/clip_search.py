"""Calibration of the clip factors: for every site the one with the least squared error."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled_loosely
from neurosim.models.braingpt.clips import source_of

Floats = npt.NDArray[np.float32]
FACTORS = tuple(round(0.05 * i, 2) for i in range(20, 2, -1))
"""Candidates: 1, 0.95, ... 0.15."""


@compiled_loosely
def add_errors(
    x: Floats, top: float, factors: Floats, relative: bool, errors: npt.NDArray[np.float64]
) -> None:
    """errors[c] += sum over rows of |n s - x|^2 with s = factors[c] max |x| / top.

    `relative`: of every row divided by |x|^2, so that all tokens weigh the same.
    """
    limit = np.float32(top)
    for row in range(len(x)):
        values = x[row]
        largest, square = np.float32(0), np.float32(0)
        for i in range(len(values)):
            largest = max(largest, abs(values[i]))
            square += values[i] * values[i]
        if square == 0:
            continue
        for c in range(len(factors)):
            unit = largest * factors[c] / limit
            inverse = np.float32(1) / unit
            total = np.float32(0)
            for i in range(len(values)):
                size = abs(values[i])
                count = min(np.floor(size * inverse + np.float32(0.5)), limit)
                total += (count * unit - size) * (count * unit - size)
            errors[c] += total / square if relative else total


class ClipSearch:
    """An observer of `MlxBrainGPT` that tries every factor on everything it sees.

    Args:
        bits: of the spike counts.
        relative: weigh every token the same, rather than by its size.
    """

    def __init__(self, bits: int, relative: bool = True) -> None:
        self._top, self._relative = float(2 ** (bits - 1) - 1), relative
        self._factors = np.asarray(FACTORS, np.float32)
        self.errors: dict[str, npt.NDArray[np.float64]] = {}

    def __call__(self, site: str, x: mx.array) -> None:
        found = np.ascontiguousarray(np.asarray(x)).reshape(-1, x.shape[-1])
        errors = self.errors.setdefault(site, np.zeros(len(FACTORS)))
        add_errors(found, self._top, self._factors, self._relative, errors)

    def clips(self, sites: list[str]) -> dict[str, float]:
        """The best factor of each of these sites."""
        best = {name: FACTORS[int(errors.argmin())] for name, errors in self.errors.items()}
        return {site: best[source_of(site)] for site in sites if source_of(site) in best}
