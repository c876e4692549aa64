"""Panels of sweeps, pulse trains, relaxation and scatter."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from neurosim.devices.experiments.result import Experiment
from neurosim.devices.experiments.style import (
    DARK,
    DASHES,
    LIGHT,
    MARKERS,
    MIDDLE,
    SHADES,
    scaled,
    with_prefix,
)


def draw_sweeps(axes: Axes, found: Experiment) -> None:
    """E1: |I| against V, both polarities, three compliances."""
    for k, row in enumerate(found.rows):
        volts, amps = found.series[f"v{k}"], np.abs(found.series[f"i{k}"])
        keep = volts > 0.0
        label = f"I_cc {with_prefix(float(row[0] or 0.0), 'A', 3)}"
        axes.semilogy(volts[keep], amps[keep], color=SHADES[k], ls=DASHES[k], label=label)
    volts, amps = found.series["v_back"], np.abs(found.series["i_back"])
    keep = volts < 0.0
    axes.semilogy(volts[keep], amps[keep], color=DARK, ls=":", label="other polarity")
    axes.set_xlabel("voltage (V)")
    axes.set_ylabel("current magnitude (A)")
    axes.legend(loc="center", bbox_to_anchor=(0.7, 0.5))


def draw_statistics(axes: Axes, found: Experiment) -> None:
    """E2: cumulative distribution of V_th and V_h with the normal law."""
    for name, shade, dash in (("V_h", MIDDLE, "--"), ("V_th", DARK, "-")):
        values = np.sort(found.series[name])
        share = (np.arange(values.size) + 0.5) / values.size
        axes.step(values, share, color=shade, label=f"{name}, {values.size} cycles")
        mean, sigma = found.series[f"{name}_law"]
        if sigma > 0.0:
            from scipy.stats import norm

            grid = np.linspace(values[0], values[-1], 200)
            axes.plot(grid, norm.cdf(grid, mean, sigma), color=LIGHT, ls=dash, lw=2.2, zorder=0)
    axes.set_xlabel("voltage (V)")
    axes.set_ylabel("share of cycles below")
    axes.set_ylim(top=1.35)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.legend(loc="upper left")


def draw_ramp(axes: Axes, found: Experiment) -> None:
    """E3: median V_th against ramp rate."""
    s = found.series
    axes.errorbar(s["ramp"], s["median"], s["deviation"], fmt="o", color=DARK, label="draws")
    axes.plot(s["ramp"], s["theory"], color=MIDDLE, ls="--", label="theory")
    axes.set_xscale("log")
    axes.set_xlabel("ramp rate (V/s)")
    axes.set_ylabel("median V_th, bars: deviation (V)")
    axes.legend(loc="upper left")


def draw_delay(axes: Axes, found: Experiment) -> None:
    """E4: delay against voltage."""
    s = found.series
    axes.fill_between(s["volts"], *s["bands"].T, color=LIGHT, alpha=0.6, label="5-95 % of draws")
    axes.semilogy(s["volts"], s["mean"], "o-", color=DARK, label="hazard, mean")
    axes.semilogy(s["volts"], s["gap"], "s--", color=MIDDLE, label="gap closing")
    axes.set_xlabel("pulse voltage (V)")
    axes.set_ylabel("delay (s)")
    axes.legend(loc="upper right")


def draw_relaxation(axes: Axes, found: Experiment) -> None:
    """E5: tau_r against compliance."""
    s = found.series
    axes.loglog(s["current"], s["tau"], "o", color=DARK, label="fitted decays")
    axes.loglog(s["line_current"], s["line"], color=MIDDLE, ls="--", label="power law")
    axes.set_xlabel("compliance current (A)")
    axes.set_ylabel("relaxation time (s)")
    axes.legend(loc="upper left")


def draw_arrhenius(axes: Axes, found: Experiment) -> None:
    """E5: tau_r against inverse temperature."""
    axes.semilogy(found.series["inverse"], found.series["taus"], "o-", color=DARK)
    axes.set_xlabel("1000 / temperature (1/K)")
    axes.set_ylabel("relaxation time (s)")


def draw_integration(axes: Axes, found: Experiment) -> None:
    """E6: the state climbs and decays under two trains."""
    s = found.series
    largest = max(float(s["time0"].max()), float(s["time1"].max()))
    for k in (1, 0):
        time, unit = scaled(np.append(s[f"time{k}"], largest), "s")
        label = f"gap {with_prefix(float(s[f'gap{k}'][0]), 's', 3)}"
        axes.plot(time[:-1], s[f"state{k}"], color=SHADES[k], ls=DASHES[k], label=label)
        axes.set_xlabel(f"time ({unit})")
    axes.axhline(float(s["threshold"][0]), color=LIGHT, ls=":")
    axes.text(
        0.99,
        float(s["threshold"][0]),
        "x_th",
        ha="right",
        va="bottom",
        fontsize=7,
        transform=axes.get_yaxis_transform(),
    )
    axes.set_ylabel("filament state x")
    axes.legend(loc="lower right")


def draw_pulses(axes: Axes, found: Experiment) -> None:
    """E7: pulses to fire against amplitude, one line for each width."""
    s = found.series
    for k, width in enumerate(s["widths"].tolist()):
        fires = s["table"][:, k] > 0
        axes.semilogy(
            s["volts"][fires],
            s["table"][fires, k],
            marker=MARKERS[k],
            color=SHADES[k],
            ls=DASHES[k],
            label=f"width {with_prefix(width, 's', 3)}",
        )
    axes.axvline(found.values["critical_voltage_V"], color=MIDDLE, ls=":", lw=0.9)
    axes.annotate(
        "critical",
        (found.values["critical_voltage_V"], 0.6),
        rotation=90,
        ha="right",
        xycoords=("data", "axes fraction"),
        xytext=(-2, 0),
        textcoords="offset points",
        fontsize=7,
    )
    axes.set_xlabel("pulse amplitude (V)")
    axes.set_ylabel("pulses to fire")
    axes.legend(loc="upper right")


def draw_again(axes: Axes, found: Experiment) -> None:
    """E8: pulses of the second fire against the wait."""
    s = found.series
    axes.semilogx(s["waits"], s["second"], "o-", color=DARK, label="second fire")
    axes.axhline(float(s["first"][0]), color=MIDDLE, ls="--", label="first fire")
    axes.set_xlabel("wait / relaxation time")
    axes.set_ylabel("pulses to fire")
    axes.legend(loc="lower right")


def draw_strength(axes: Axes, found: Experiment) -> None:
    """E9: spike rate against amplitude, both laws."""
    s = found.series
    top, unit = scaled(np.array([s["power"], s["exp"]]), "Hz")
    axes.plot(s["volts"], top[0], "o-", color=DARK, label="law power, p = 1")
    axes.plot(s["volts"], top[1], "s--", color=MIDDLE, label="law exp")
    axes.set_xlabel("pulse amplitude (V)")
    axes.set_ylabel(f"spike rate ({unit})")
    axes.legend(loc="upper left")


def draw_resonance(axes: Axes, found: Experiment) -> None:
    """E14: response to a weak periodic drive against noise."""
    s = found.series
    axes.plot(s["noise"], s["theory"], color=MIDDLE, ls="--", label="theory")
    axes.plot(s["noise"], s["signal"], "o", color=DARK, label="simulated")
    axes.set_xlabel("noise kT / barrier")
    axes.set_ylabel("spikes in phase, per cycle")
    axes.legend(loc="lower right")


def draw_population(axes: Axes, found: Experiment) -> None:
    """E15: cumulative rates of the population and the push-forward."""
    rates, unit = scaled(np.sort(found.series["rates"]), "Hz")
    scale = float(rates[-1] / np.sort(found.series["rates"])[-1])
    axes.plot(
        found.series["grid"] * scale, found.series["below"], color=LIGHT, lw=3, label="theory"
    )
    axes.step(rates, (np.arange(rates.size) + 0.5) / rates.size, color=DARK, label="devices")
    axes.set_xlim(float(rates[0]), float(rates[-1]))
    axes.set_xlabel(f"firing rate ({unit})")
    axes.set_ylabel("share of devices below")
    axes.legend(loc="lower right")
