"""Two figures: energy by mechanism, and the spikes of one token. Legible in grey."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKUP, MarkerStyle

from neurosim.energy.units import joules, percent, prefix_of

_GREYS = ("#262626", "#b4b4b4", "#6e6e6e", "#dedede")
_HATCHES = ("", "///", "...", "xxx")
_DOMINANT = 0.6  # a mechanism above this share gets a panel of its own
_LIGHTEST = 0.68  # shade of a single spike where more can come; 0 is black
_LINE = 0.13  # inches of a line of the footer
_LETTERS = 18  # letters of the footer to an inch
_ROW = 0.19  # inches of a row of the legend
_ABREAST = 4  # entries in a row of the legend


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Figure, note: str, handles: Sequence[Any] = ()) -> None:
    """The legend under the axes and `note` as a footer under the legend."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(note, int(width * _LETTERS))
    footer = (len(lines) + 0.6) * _LINE if lines else 0.0
    strip = footer + (0.1 + _ROW * -(-len(handles) // _ABREAST) if handles else 0.0)
    height += footer
    figure.set_size_inches(width, height)
    figure.set_layout_engine("constrained", rect=(0, strip / height, 1, 1 - strip / height))
    figure.text(0.01, 0.4 * _LINE / height, "\n".join(lines), fontsize=7, va="bottom")
    if handles:
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, footer / height),
            ncols=_ABREAST,
            frameon=False,
            fontsize=8,
        )


def energy_by_mechanism(energy: Mapping[str, Any], note: str = "") -> Figure:
    """Horizontal bars, J per token of each mechanism, stacked by layer.

    A mechanism that dwarfs the others stands above them in a panel of its own scale.
    `energy`: `EnergyReport.to_dict()`, or the "energy" part of a saved report; its evidence and
    flags stand in the footer, after `note` (the chip's name).
    """
    parts: Mapping[str, Mapping[str, float]] = energy["by_layer_and_mechanism_J"]
    totals: Mapping[str, float] = energy["by_mechanism_J"]
    names = sorted((name for name in totals if totals[name] > 0), key=lambda name: totals[name])
    if not names:
        raise ValueError("expected a report with at least one energy above zero, got none")
    total = sum(totals.values())
    alone = len(names) > 2 and totals[names[-1]] > _DOMINANT * total
    panels = [[names[-1]], names[:-1]] if alone else [names]
    layers = [layer for layer, row in parts.items() if any(row.get(name) for name in names)]
    figure = _figure(
        8, 1.4 + 0.7 * len(panels) + 0.3 * len(names) + 0.2 * -(-len(layers) // _ABREAST)
    )
    heights = [len(panel) + 0.5 for panel in panels]
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _bars(axes, parts, totals, panel, layers)
    phase = energy["phase"]
    whole = joules(energy[f"{phase}_J_per_token"])
    figure.suptitle(f"{phase}: {whole} per token, modelled", fontsize=11, x=0.01, ha="left")
    flags = [flag for flag in energy["flags"] if flag not in note]
    parts_of_note = [note, f"weakest evidence: {energy['evidence']}", *flags]
    handles, _ = grid[0, 0].get_legend_handles_labels()
    _finish(figure, "; ".join(part for part in parts_of_note if part), handles)
    return figure


def _bars(
    axes: Any,
    parts: Mapping[str, Mapping[str, float]],
    totals: Mapping[str, float],
    names: Sequence[str],
    layers: Sequence[str],
) -> None:
    """One panel: a bar for each of `names`, stacked by layer, with its joules and share."""
    scale, prefix = prefix_of(max(totals[name] for name in names))
    left = np.zeros(len(names))
    for i, layer in enumerate(layers):
        widths = np.array([parts[layer].get(name, 0.0) / scale for name in names])
        axes.barh(
            names,
            widths,
            left=left,
            color=_GREYS[i % len(_GREYS)],
            hatch=_HATCHES[i // len(_GREYS) % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.4,
            label=layer,
        )
        left += widths
    total = sum(totals.values())
    for i, name in enumerate(names):
        axes.annotate(
            f"{joules(totals[name])}, {percent(totals[name] / total)}",
            (left[i], i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(0, left.max() * 1.25)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(f"{prefix}J per token (beside the bars: share of the total)", fontsize=8)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def spike_raster(
    spikes: Mapping[str, npt.NDArray[np.int8]],
    token: int,
    layer: Mapping[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Spikes of one token: sites in execution order from top to bottom, channels along x.

    A stroke up is an ON neuron, down an OFF neuron; more spikes are darker and longer.

    Args:
        spikes: site -> counts (tokens, N), negative for OFF neurons.
        token: which row to draw; negative counts from the end.
        layer: site -> layer name to group by (`Network.layer`); else the name up to its last dot.
        note: footer: the chip's name, evidence and flags.
    """
    if not spikes:
        raise ValueError("expected the spikes of at least one site, got none")
    length = min(len(rows) for rows in spikes.values())
    if not -length <= token < length:
        raise ValueError(f"expected a token from {-length} to {length - 1}, got {token}")
    token %= length
    groups = [layer[site] if layer else site.rpartition(".")[0] for site in spikes]
    rows = {site: values[token].astype(np.int64) for site, values in spikes.items()}
    figure = _figure(10, 1.5 + 0.28 * len(rows))
    axes = figure.add_subplot()
    most = max(int(np.abs(values).max(initial=0)) for values in rows.values())
    heights = _site_heights(groups)
    for values, y in zip(rows.values(), heights, strict=True):
        axes.hlines(y, 0, 1, color="#d8d8d8", linewidth=0.5, zorder=0)
        (channels,) = np.nonzero(values)
        share = np.abs(values[channels]) / max(most, 1)
        axes.vlines(
            (channels + 0.5) / values.size,
            y + 0.04 * np.sign(values[channels]),
            y + np.sign(values[channels]) * (0.16 + 0.26 * share),
            colors=[str(shade) for shade in _shade(share)],
            linewidth=0.8 if values.size > 400 else 1.5,
        )
    _label_raster(figure, axes, rows, heights, groups)
    total = sum(int(np.abs(values).sum()) for values in rows.values())
    channels = sum(values.size for values in rows.values())
    title = f"token {token}: {total} spikes of {channels} channels (in brackets: how many fired)"
    axes.set_title(title, loc="left", fontsize=10)
    _finish(figure, note, _raster_handles(most) if most else ())
    return figure


def _shade(share: Any) -> Any:
    return _LIGHTEST * (1 - share)


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
    rows: Mapping[str, npt.NDArray[np.int64]],
    heights: Sequence[float],
    groups: Sequence[str],
) -> None:
    """Site names and active channels at the left, layers at the right."""
    labels = [
        f"{site.rpartition('.')[2].replace('_', ' ')} ({np.count_nonzero(values)}/{values.size})"
        for site, values in rows.items()
    ]
    axes.set_yticks(heights, labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    for group in dict.fromkeys(groups):
        own = [y for y, name in zip(heights, groups, strict=True) if name == group]
        line = axes.plot([1.01, 1.01], [own[-1] - 0.4, own[0] + 0.4], color="black", linewidth=1)
        line[0].set_clip_on(False)
        axes.text(1.018, (own[0] + own[-1]) / 2, group, fontsize=9, va="center")
    axes.set_xlim(0, 1)
    axes.set_ylim(heights[-1] - 0.7, heights[0] + 0.7)
    axes.set_xticks([0, 1], ["first channel", "last channel"], fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _raster_handles(most: int) -> list[Line2D]:
    """Legend: ON and OFF strokes, and the shade of one and of the most spikes."""
    handles = [
        Line2D([], [], linestyle="", marker=MarkerStyle(marker), color="black", label=name)
        for name, marker in (("ON (up)", TICKUP), ("OFF (down)", TICKDOWN))
    ]
    for count in sorted({1, most}):
        label = f"{count} spike{'s' if count > 1 else ''}"
        shade = str(_shade(count / most))
        handles.append(Line2D([], [], color=shade, linewidth=5, label=label))
    return handles


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write PNG and SVG under `path` without its suffix; folders are made. Returns both paths."""
    stem = Path(path).with_suffix("")
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    figure.savefig(written[0], dpi=160)
    figure.savefig(written[1], metadata={"Date": None})
    return written
