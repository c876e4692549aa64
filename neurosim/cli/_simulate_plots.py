"""Raster and membrane traces of a recording; legible in grey, spikes as pixels in the SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neurosim.events.recording import Recording
from neurosim.populations import LIF, Population, SpikingNetwork

_MOST_NEURONS = 400  # of a population in the raster; more do not fit into its pixels
_MOST_SECONDS = 1.0
_BIN = 5e-3  # s, of the rates; at most _BINS of them
_BINS = 200
_DARK, _LIGHT = "#262626", "#6e6e6e"


def save(figure: Figure, path: Path) -> None:
    """As .svg and .png."""
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _never_fires(population: Population) -> bool:
    model = population.model
    return isinstance(model, LIF) and bool(np.isinf(model.threshold_voltage).all())


def can_fire(network: SpikingNetwork) -> bool:
    """Whether a raster of it could have anything in it."""
    return not all(_never_fires(item) for item in network)


def raster(recording: Recording) -> Figure:
    """Spikes of the last second, some neurons of each population, and the rates over time.

    Populations that never fire (readouts) are left out; one at least must fire, see `can_fire`.
    """
    end = recording.duration
    start = max(end - _MOST_SECONDS, 0.0)
    fires = [item for item in recording.network if not _never_fires(item)]
    shown = {item.name: min(item.size, _MOST_NEURONS) for item in fires}
    bins = int(np.clip((end - start) / _BIN, 40, _BINS))
    heights = {name: 0.35 + 2.2 * np.sqrt(count / _MOST_NEURONS) for name, count in shown.items()}
    figure = _figure(9, 2.6 + sum(heights.values()))
    grid = figure.subplots(
        len(shown) + 1, 1, sharex=True, height_ratios=[*heights.values(), 1.6], squeeze=False
    )[:, 0]
    for number, (axes, item) in enumerate(zip(grid, fires, strict=False)):
        times, neurons = recording.spikes(item.name)
        late = times >= start
        times, neurons = times[late], neurons[late]
        chosen = np.linspace(0, item.size - 1, shown[item.name]).round().astype(np.int64)
        row = np.full(item.size, -1)
        row[chosen] = chosen
        kept = row[neurons] >= 0
        axes.plot(
            times[kept] * 1e3, neurons[kept], "|", color=_DARK, markersize=3.0,
            markeredgewidth=0.7, rasterized=True,
        )  # fmt: skip
        axes.set_ylim(-0.5, item.size - 0.5)
        axes.set_yticks(sorted({0, item.size - 1}))
        some = f", {shown[item.name]} drawn" if shown[item.name] < item.size else ""
        text = f"{item.name}: {item.size} neurons{some}, {recording.rate(item.name):.2f} Hz"
        axes.set_title(text, loc="left", fontsize=9)
        axes.set_ylabel("neuron", fontsize=8)
        axes.tick_params(labelsize=8)
        edges = np.linspace(start, end, bins + 1)
        counts, _ = np.histogram(times, edges)
        rate = counts / (item.size * (end - start) / bins)
        style = ("-", "--", ":", "-.")[number % 4]
        shade = (_DARK, _LIGHT)[number // 4 % 2]
        grid[-1].stairs(
            rate,
            edges * 1e3,
            baseline=None,
            linestyle=style,
            color=shade,
            linewidth=0.9,
            label=item.name,
        )
    grid[-1].set_ylim(bottom=0.0)
    grid[-1].set_xlim(start * 1e3, end * 1e3)
    grid[-1].set_xlabel("time / ms", fontsize=9)
    grid[-1].set_ylabel("rate / Hz", fontsize=8)
    width = (end - start) / bins * 1e3
    grid[-1].set_title(f"population rate in bins of {width:.3g} ms", loc="left", fontsize=9)
    grid[-1].tick_params(labelsize=8)
    if len(shown) > 1:
        grid[-1].legend(
            fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=4,
            borderaxespad=0.0,
        )  # fmt: skip
    figure.align_ylabels(grid)
    total = f"{len(recording.times)} spikes in {recording.duration * 1e3:g} ms"
    part = f"; the last {(end - start) * 1e3:g} ms drawn" if start > 0.0 else ""
    figure.suptitle(f"{total} by engine {recording.engine}{part}", x=0.01, ha="left", fontsize=10)
    return figure


def traces(recording: Recording, neurons: Mapping[str, Sequence[int]]) -> Figure:
    """Membrane voltages, one panel a neuron; strokes mark its spikes."""
    rows = [(name, place) for name in recording.traces for place in range(len(neurons[name]))]
    figure = _figure(9, 0.9 + 1.25 * len(rows))
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, place) in zip(grid, rows, strict=True):
        times, values = recording.traces[name]
        voltage = values[:, place]
        size = max(float(np.abs(voltage).max(initial=0.0)), 1e-12)
        factor, unit = (1e3, "mV") if size < 1.0 else (1.0, "V")
        axes.plot(times * 1e3, voltage * factor, color=_DARK, linewidth=0.8)
        fired, who = recording.spikes(name)
        mine = fired[who == neurons[name][place]] * 1e3
        (strokes,) = axes.plot(
            mine, np.full(len(mine), 1.0), "|", color=_DARK, markersize=7, clip_on=False,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
        strokes.set_in_layout(False)  # they stick out of the axes
        title = f"{name}, neuron {neurons[name][place]}: {len(mine)} spikes"
        axes.set_title(title, loc="left", fontsize=9, pad=8)
        axes.set_ylabel(f"V / {unit}", fontsize=8)
        axes.tick_params(labelsize=8)
    grid[-1].set_xlabel("time / ms", fontsize=9)
    grid[-1].set_xlim(0.0, recording.duration * 1e3)
    figure.align_ylabels(grid)
    return figure
