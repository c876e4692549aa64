"""Panels of the RC neuron's experiments: f-I, output spikes, energy of a spike."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from neurosim.devices.experiments.result import Experiment
from neurosim.devices.experiments.style import DARK, LIGHT, MIDDLE, scaled


def draw_frequency(axes: Axes, found: Experiment) -> None:
    """E11: rate against current on logarithmic axes, rheobase and lock-up marked."""
    current, rate = found.series["current"], found.series["rate"]
    fires = rate > 0.0
    if fires.any():
        axes.loglog(
            current[fires], found.series["line"][fires], color=LIGHT, ls="--", label="I/(C ΔV)"
        )
        axes.loglog(current[fires], rate[fires], "o-", color=DARK, label="closed form")
        floor = float(rate[fires].min())
        axes.plot(
            current[~fires], np.full((~fires).sum(), floor), "x", color=MIDDLE, label="silent"
        )
        axes.legend(loc="upper left")
    for key, text in (("rheobase_A", "rheobase"), ("lock_up_A", "lock-up")):
        axes.axvline(found.values[key], color=MIDDLE, ls=":", lw=0.9)
        axes.annotate(
            text,
            (found.values[key], 0.35),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=7,
        )
    axes.set_xlabel("injected current (A)")
    axes.set_ylabel("firing rate (Hz)")


def draw_output(axes: Axes, found: Experiment) -> None:
    """E10: membrane and output voltage of the first spikes."""
    if "time" not in found.series:
        axes.text(0.5, 0.5, "no supra-threshold strength", ha="center", transform=axes.transAxes)
        return
    time, unit = scaled(found.series["time"], "s")
    axes.plot(time, found.series["membrane"], color=MIDDLE, label="membrane")
    axes.plot(time, found.series["output"], color=DARK, label="output on R_o")
    axes.set_ylim(top=1.25 * float(found.series["membrane"].max()))
    axes.set_xlabel(f"time ({unit})")
    axes.set_ylabel("voltage (V)")
    axes.legend(loc="upper left", ncols=2)


def draw_strength(axes: Axes, found: Experiment) -> None:
    """E10: rate against source voltage, zero below threshold."""
    strength, rate = found.series["strength"], found.series["rate"]
    values, unit = scaled(rate, "Hz")
    axes.plot(strength, values, "o-", color=DARK)
    axes.set_xlabel("source voltage (V)")
    axes.set_ylabel(f"firing rate ({unit})")


def draw_energy(axes: Axes, found: Experiment) -> None:
    """E12: energy burnt in a cycle by branch, ON beside OFF."""
    names = found.series["names"].tolist()
    places = np.arange(len(names))
    both, unit = scaled(np.array([found.series["on"], found.series["off"]]), "J")
    axes.bar(places - 0.19, both[0], 0.36, color=DARK, label="ON (discharge)")
    axes.bar(
        places + 0.19, both[1], 0.36, color=LIGHT, edgecolor=DARK, hatch="///", label="OFF (climb)"
    )
    for place, on, off in zip(places, *both.tolist(), strict=True):
        for shift, value in ((-0.19, on), (0.19, off)):
            axes.text(place + shift, value, f"{value:.3g}", ha="center", va="bottom", fontsize=7)
    axes.set_xticks(places, names)
    axes.set_ylabel(f"energy burnt per cycle ({unit})")
    axes.legend(loc="upper right")
