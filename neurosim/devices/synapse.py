"""Crossbar cells as conductances: pairs, levels, programming, faults, drift, read (device.md 3.12).

Plain functions and frozen dataclasses on conductance matrices (I rows, O columns), siemens. A
weight w is the pair G+ = G_min + max(w, 0) s, G- = G_min + max(-w, 0) s with s = (G_max - G_min) /
w_max; a column reads (sum U G+ - sum U G-) / s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConductanceRange:
    """What a cell can hold: low, high in S, and how many levels (0: any value)."""

    low: float
    high: float
    levels: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high < math.inf:
            raise ValueError(f"expected 0 <= low < high (S), got {self.low} and {self.high}")
        if self.levels < 0 or self.levels == 1:
            raise ValueError(f"expected levels 0 (any) or 2 and more, got {self.levels}")

    @property
    def span(self) -> float:
        """high - low, S."""
        return self.high - self.low

    def to_levels(self, conductance: npt.ArrayLike) -> Floats:
        """The nearest level of each conductance, inside the range."""
        held = np.clip(np.asarray(conductance, dtype=np.float64), self.low, self.high)
        if self.levels == 0:
            return held
        step = self.span / (self.levels - 1)
        return np.asarray(self.low + np.rint((held - self.low) / step) * step)


@dataclass(frozen=True, eq=False)
class Pair:
    """A differential pair of matrices G+ and G-, S, (I, O), and S per unit of weight."""

    plus: Floats
    minus: Floats
    scale: float

    def __post_init__(self) -> None:
        if self.plus.shape != self.minus.shape or self.plus.ndim != 2:
            raise ValueError(
                f"expected two matrices (I, O), got {self.plus.shape} and {self.minus.shape}"
            )

    @property
    def weight(self) -> Floats:
        """(G+ - G-) / s, in units of the weights, (I, O)."""
        return (self.plus - self.minus) / self.scale

    def __repr__(self) -> str:
        return f"Pair({self.plus.shape[0]} x {self.plus.shape[1]}, {self.scale:.4g} S per weight)"


def to_pair(weight: npt.ArrayLike, cells: ConductanceRange, largest: float | None = None) -> Pair:
    """The pair of a weight matrix (I, O); `largest`: weight that takes G_max, default max |w|."""
    w = np.asarray(weight, dtype=np.float64)
    if w.ndim != 2 or not np.isfinite(w).all():
        raise ValueError(f"expected finite weights (I, O), got shape {w.shape}")
    top = float(np.abs(w).max(initial=0.0)) if largest is None else largest
    scale = cells.span / (top if top > 0.0 else 1.0)
    plus, minus = (cells.low + np.maximum(part, 0.0) * scale for part in (w, -w))
    return Pair(cells.to_levels(plus), cells.to_levels(minus), scale)


@dataclass(frozen=True)
class Variation:
    """Relative deviations of a programmed conductance.

    shape "gaussian": G = target + sigma G_high eps; "lognormal": G = target e^(sigma eps -
    sigma^2/2), mean kept. cycle: sigma of each programming event, a polynomial in target / G_high
    (constant first, level dependent). device: sigma of each cell, the same at every programming.
    """

    cycle: tuple[float, ...] = (0.0,)
    device: float = 0.0
    shape: str = "gaussian"

    def __post_init__(self) -> None:
        if self.shape not in ("gaussian", "lognormal"):
            raise ValueError(f'expected shape "gaussian" or "lognormal", got {self.shape!r}')
        if not self.cycle or not all(map(math.isfinite, self.cycle)) or not self.device >= 0.0:
            raise ValueError(
                f"expected finite sigmas, device >= 0, got {self.cycle}, {self.device}"
            )

    def device_factors(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """One lognormal factor of mean 1 per cell (device to device); draw it once per array."""
        eps = rng.standard_normal(shape)
        return np.asarray(np.exp(self.device * eps - 0.5 * self.device**2))

    def program(
        self,
        target: Floats,
        cells: ConductanceRange,
        rng: np.random.Generator,
        factors: Floats | None = None,
    ) -> Floats:
        """Conductances after one programming of `target` (S), never below 0."""
        sigma = np.polynomial.polynomial.polyval(target / cells.high, np.array(self.cycle))
        sigma = np.maximum(sigma, 0.0)
        eps = rng.standard_normal(target.shape)
        if self.shape == "gaussian":
            written = target + sigma * cells.high * eps
        else:
            written = target * np.exp(sigma * eps - 0.5 * sigma**2)
        if factors is not None:
            written = written * factors
        return np.asarray(np.maximum(written, 0.0))


@dataclass(frozen=True)
class Faults:
    """Chance of a cell to be stuck at low (HRS) and at high (LRS) conductance."""

    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not (self.low >= 0.0 and self.high >= 0.0 and self.low + self.high <= 1.0):
            raise ValueError(
                f"expected chances >= 0 with a sum of at most 1, got {self.low} and {self.high}"
            )

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.int8]:
        """-1 stuck low, 1 stuck high, 0 good; draw it once per array."""
        chance = rng.random(shape)
        return np.where(chance < self.low, -1, np.where(chance >= 1.0 - self.high, 1, 0)).astype(
            np.int8
        )


def with_faults(
    conductance: Floats, faults: npt.NDArray[np.int8], cells: ConductanceRange
) -> Floats:
    """Conductances with the stuck cells at their bounds."""
    return np.where(faults < 0, cells.low, np.where(faults > 0, cells.high, conductance))


def drifted(
    conductance: Floats, time: float, exponent: npt.ArrayLike, reference: float = 1.0
) -> Floats:
    """G(t) = G_0 (t/t_0)^-nu after `time` s, t_0 = `reference` s; nu a number or one per cell.

    Before t_0 the conductance is G_0.
    """
    if not (time >= 0.0 and 0.0 < reference < math.inf):
        raise ValueError(f"expected time >= 0 s and reference > 0 s, got {time}, {reference}")
    return np.asarray(conductance * max(time / reference, 1.0) ** -np.asarray(exponent, float))


def read_noisy(conductance: Floats, sigma: float, rng: np.random.Generator) -> Floats:
    """Conductances as one read sees them: G (1 + sigma eps), never below 0."""
    if not sigma >= 0.0:
        raise ValueError(f"expected sigma >= 0, got {sigma}")
    return np.asarray(
        np.maximum(conductance * (1.0 + sigma * rng.standard_normal(conductance.shape)), 0.0)
    )


def cell_current(conductance: npt.ArrayLike, voltage: npt.ArrayLike, bend: float = 0.0) -> Floats:
    """I = G sinh(a V)/a, A; a = `bend` in 1/V, 0 for an ohmic cell. dI/dV at 0 V is G."""
    g, v = np.asarray(conductance, dtype=np.float64), np.asarray(voltage, dtype=np.float64)
    return np.asarray(g * (np.sinh(bend * v) / bend if bend > 0.0 else v))


def column_currents(conductance: Floats, voltage: npt.ArrayLike, bend: float = 0.0) -> Floats:
    """Currents into virtual grounds, A, (..., O), from row voltages (..., I); no wires."""
    v = np.asarray(voltage, dtype=np.float64)
    if bend == 0.0:
        return np.asarray(v @ conductance)
    return np.asarray((np.sinh(bend * v) / bend) @ conductance)


def read_weights(pair: Pair, voltage: npt.ArrayLike, read: float, bend: float = 0.0) -> Floats:
    """Column sums in weight units, (..., O): (I+ - I-)/(s U), U = `read` V of a full input."""
    currents = column_currents(pair.plus, voltage, bend) - column_currents(
        pair.minus, voltage, bend
    )
    full = float(cell_current(1.0, read, bend))
    return currents / (pair.scale * full)


def pulse_energy(
    conductance: npt.ArrayLike, voltage: float, width: float, bend: float = 0.0
) -> Floats:
    """Energy of one clamped pulse per cell: U I(U) w, J (U^2 G w for an ohmic cell)."""
    return np.asarray(voltage * width * cell_current(conductance, voltage, bend))


def column_load(
    conductance: Floats, voltage: npt.ArrayLike, low_z: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Voltage summing (no virtual ground): (sum G, sum G U, sum G U^2) per column, S, A, W.

    voltage (I,): U of the active rows, 0 else; low_z (I,): rows that load the node (active, or
    idle and held at 0 V). Goes into `Stimulus`; it changes tau and the firing law.
    """
    g = conductance * np.asarray(low_z, dtype=np.float64)[:, None]
    u = np.asarray(voltage, dtype=np.float64)[:, None]
    return g.sum(axis=0), (g * u).sum(axis=0), (g * u * u).sum(axis=0)
