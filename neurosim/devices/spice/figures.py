"""Figure of the SPICE cross-check: relative errors beside their tolerances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from neurosim.devices.experiments.style import DARK, LIGHT, panels, settings
from neurosim.devices.preset import DevicePreset
from neurosim.devices.spice.compare import Comparison


def spice_figure(found: Sequence[Comparison], device: DevicePreset, version: str) -> Figure:
    """|ngspice - closed form| relative, one row a comparison; pulse counts (exact) left out."""
    shown = [one for one in found if one.tolerance > 0.0]
    note = f"device {device.name} without delays, ngspice {version}. {device.flag}".strip()
    figure, (axes,) = panels(1, note)
    figure.set_size_inches(5.5, 0.9 + 0.24 * len(shown))
    with settings():
        rows = np.arange(len(shown))[::-1]
        errors = [max(abs(one.error), 1e-12) for one in shown]
        axes.barh(rows, [one.tolerance for one in shown], color=LIGHT, label="tolerance")
        axes.plot(errors, rows, "o", color=DARK, label="error")
        axes.set_xscale("log")
        axes.set_xlim(5e-13, 3e-3)
        axes.set_yticks(rows, [f"{one.check} {one.name}" for one in shown], fontsize=7)
        axes.set_xlabel("relative difference (below 1e-12 drawn there)")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
