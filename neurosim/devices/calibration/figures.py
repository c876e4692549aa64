"""Figure of a calibration: data against fit, one panel for each kind of file."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from neurosim.devices.calibration.calibrate import Calibration
from neurosim.devices.calibration.laws import Fit
from neurosim.devices.calibration.sweeps import Sweeps
from neurosim.devices.experiments.style import DARK, LIGHT, MIDDLE, panels, settings

_LABELS = {
    "relax": ("compliance current (A)", "relaxation time (s)", "loglog"),
    "pulse": ("pulses to fire, measured", "pulses to fire, predicted (0.7: never)", "loglog"),
    "delay": ("pulse voltage (V)", "delay (s)", "semilogy"),
}


def _draw_sweeps(axes: Any, sweeps: Sweeps, result: Calibration) -> None:
    """Cumulative V_th and V_h of all cycles with the fitted total distribution."""
    for word, values, shade in (
        ("hold", sweeps.hold, MIDDLE),
        ("threshold", sweeps.threshold, DARK),
    ):
        ordered = np.sort(values)
        share = (np.arange(ordered.size) + 0.5) / ordered.size
        preset = result.preset
        total = np.hypot(preset[f"{word}_spread_cycle"], preset[f"{word}_spread_device"])
        grid = np.linspace(ordered[0], ordered[-1], 200)
        if total > 0.0:
            fitted = norm.cdf(grid, preset[f"{word}_voltage"], total)
            axes.plot(grid, fitted, color=LIGHT, lw=3, zorder=0)
        axes.step(ordered, share, color=shade, label=f"{word}, {ordered.size} cycles")
    axes.set_xlabel("voltage (V)")
    axes.set_ylabel("share of cycles below")
    axes.set_ylim(top=1.35)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.set_title("data (dark), fitted normal (light)", fontsize=7.5, loc="left")
    axes.legend(loc="upper left")


def _draw_fit(axes: Any, kind: str, fit: Fit) -> None:
    """Measured points and the fitted law."""
    x, y, scale = _LABELS[kind]
    draw = getattr(axes, scale)
    points = fit.data.T
    if kind == "pulse":
        points = np.array([fit.data[:, 1], np.maximum(fit.curve[:, 1], 0.7)])
    words = f"trains, law {fit.law}" if kind == "pulse" else "data"
    draw(*points, "o", color=LIGHT, mec=MIDDLE, mew=0.4, label=words)
    if kind == "pulse":  # trains of all widths and gaps: only number against number compares
        ends = [1.0, float(max(fit.data[:, 1].max(), fit.curve[:, 1].max()))]
        draw(ends, ends, color=DARK, label="equal", zorder=0)
    else:
        draw(*fit.curve.T, "-", color=DARK, label=f"fit, {fit.law}")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(kind, fontsize=7.5, loc="left")
    axes.legend()


def calibration_figure(result: Calibration) -> Figure:
    """All panels of a calibration."""
    fits = result.fits or {}
    count = len(fits) + (result.sweeps is not None)
    files = ", ".join(table.path.name for table in result.tables)
    figure, grid = panels(count, f"{result.preset.name}; data: {files}")
    left = list(grid)
    with settings():
        if result.sweeps is not None:
            _draw_sweeps(left.pop(0), result.sweeps, result)
        for axes, (kind, fit) in zip(left, fits.items(), strict=True):
            _draw_fit(axes, kind, fit)
    return figure
