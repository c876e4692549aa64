"""Two figures: energy by mechanism, and the spikes of one token. Legible in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurosim.energy.units import joules, prefix_of

_GREYS = ("#1f1f1f", "#9a9a9a", "#5c5c5c", "#d0d0d0", "#3d3d3d", "#b5b5b5", "#7b7b7b", "#e6e6e6")
_HATCHES = ("", "//", "", "..", "xx", "", "\\\\", "oo")


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def energy_by_mechanism(energy: Mapping[str, Any]) -> Figure:
    """Horizontal bars, J per token of each mechanism, stacked by layer.

    `energy`: `EnergyReport.to_dict()`, or the "energy" part of a saved report.
    """
    parts: Mapping[str, Mapping[str, float]] = energy["by_layer_and_mechanism_J"]
    totals: Mapping[str, float] = energy["by_mechanism_J"]
    names = sorted((name for name in totals if totals[name] > 0), key=lambda name: totals[name])
    if not names:
        raise ValueError("expected a report with at least one energy above zero, got none")
    scale, prefix = prefix_of(max(totals.values()))
    layers = [layer for layer, row in parts.items() if any(row.get(name) for name in names)]
    figure = _figure(8, 1.6 + 0.36 * len(names) + 0.2 * ((len(layers) + 3) // 4))
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for i, layer in enumerate(layers):
        widths = np.array([parts[layer].get(name, 0.0) / scale for name in names])
        style = i % len(_GREYS)
        axes.barh(
            names,
            widths,
            left=left,
            color=_GREYS[style],
            hatch=_HATCHES[style],
            edgecolor="white",
            linewidth=0.5,
            label=layer,
        )
        left += widths
    for i, name in enumerate(names):
        share = totals[name] / sum(totals.values())
        axes.annotate(
            f"{joules(totals[name])} ({share:.1%})",
            (left[i], i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(0, left.max() * 1.22)
    axes.set_xlabel(f"{prefix}J per token")
    phase, total = energy["phase"], energy[f"{energy['phase']}_J_per_token"]
    axes.set_title(f"{phase}: {joules(total)} per token (modelled)", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    return figure


def spike_raster(
    spikes: Mapping[str, npt.NDArray[np.int8]],
    token: int,
    layer: Mapping[str, str] | None = None,
) -> Figure:
    """Spikes of one token: sites in execution order from top to bottom, channels along x.

    Args:
        spikes: site -> counts (tokens, N), negative for OFF neurons.
        token: which row to draw; negative counts from the end.
        layer: site -> layer name to group by (`Network.layer`); else the name up to its last dot.
    """
    sites = list(spikes)
    if not sites:
        raise ValueError("expected the spikes of at least one site, got none")
    length = min(len(rows) for rows in spikes.values())
    if not -length <= token < length:
        raise ValueError(f"expected a token from {-length} to {length - 1}, got {token}")
    groups = [layer[site] if layer else site.rpartition(".")[0] for site in sites]
    figure = _figure(10, 1.5 + 0.25 * len(sites))
    axes = figure.add_subplot()
    most = max(int(np.abs(rows[token].astype(np.int64)).max(initial=0)) for rows in spikes.values())
    heights = _site_heights(groups)
    for site, y in zip(sites, heights, strict=True):
        values = spikes[site][token].astype(np.int64)
        axes.hlines(y, 0, 1, color="#e4e4e4", linewidth=0.6, zorder=0)
        for sign, shift, marker in ((1, 0.17, "^"), (-1, -0.17, "v")):
            (channels,) = np.nonzero(values * sign > 0)
            shade = 0.72 * (1 - np.abs(values[channels]) / max(most, 1))
            axes.scatter(
                (channels + 0.5) / values.size,
                np.full(channels.size, y + shift),
                c=np.repeat(shade[:, None], 3, axis=1),
                marker=marker,
                s=11,
                linewidths=0,
            )
    _label_raster(figure, axes, spikes, token, heights, groups, most)
    return figure


def _site_heights(groups: Sequence[str]) -> list[float]:
    """y of each site, downwards, with a gap between groups."""
    heights: list[float] = []
    y = 0.0
    for i, group in enumerate(groups):
        y -= 1.0 if i == 0 or group == groups[i - 1] else 1.6
        heights.append(y)
    return heights


def _label_raster(
    figure: Figure,
    axes: Any,
    spikes: Mapping[str, npt.NDArray[np.int8]],
    token: int,
    heights: Sequence[float],
    groups: Sequence[str],
    most: int,
) -> None:
    names = [site.rpartition(".")[2].replace("_", " ") for site in spikes]
    labels = [
        f"{name} ({np.count_nonzero(rows[token])}/{rows.shape[1]})"
        for name, rows in zip(names, spikes.values(), strict=True)
    ]
    axes.set_yticks(heights, labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    for group in dict.fromkeys(groups):
        own = [y for y, name in zip(heights, groups, strict=True) if name == group]
        axes.text(1.012, (own[0] + own[-1]) / 2, group, fontsize=9, va="center")
        axes.vlines(1.006, own[-1] - 0.4, own[0] + 0.4, color="black", linewidth=1.2)
    axes.set_xlim(0, 1)
    for line in axes.collections:
        line.set_clip_on(False)
    axes.set_ylim(heights[-1] - 0.7, heights[0] + 0.7)
    axes.set_xticks([0, 0.5, 1], ["first channel", "middle", "last channel"], fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    total = sum(int(np.abs(rows[token].astype(np.int64)).sum()) for rows in spikes.values())
    neurons = sum(rows.shape[1] for rows in spikes.values())
    axes.set_title(
        f"token {token}: {total} spikes from {neurons} channels (in brackets: channels that fired)",
        loc="left",
        fontsize=10,
    )
    marks = [("^", "ON", "black"), ("v", "OFF", "black")]
    steps = sorted({1, most}) if most else []
    shades = [(f"{n} spike{'s' if n > 1 else ''}", str(0.72 * (1 - n / most))) for n in steps]
    handles = [
        Line2D([], [], linestyle="", marker=mark, color=colour, label=name, markersize=5)
        for mark, name, colour in (*marks, *(("s", name, shade) for name, shade in shades))
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8)


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write PNG and SVG under `path` without its suffix; folders are made. Returns both paths."""
    stem = Path(path).with_suffix("")
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    figure.savefig(written[0], dpi=160)
    figure.savefig(written[1], metadata={"Date": None})
    return written
