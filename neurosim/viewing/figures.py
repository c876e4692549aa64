"""Maps of the chip (what stands where, what is used, what is busy) and membrane voltages."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrow, Patch, Rectangle

from neurosim.chip.mesh.grid import STEPS
from neurosim.chip.placement import Placement
from neurosim.energy.units import prefix_of
from neurosim.events.mesh import PhaseTraffic
from neurosim.network import Network

_INCH = 0.62  # of a tile on paper
_SMALLEST_LETTERS = 4.5
_COLOURS = "tab20"
_DEAD = "#d62728"
_ACROSS = 0.13  # the two directions of a pair of tiles stand side by side

Mask = npt.NDArray[np.bool_]


def _figure(width: float, height: float, note: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if note:
        words = "\n".join(textwrap.wrap(note, int(width * 17)))
        figure.supxlabel(words, fontsize=7, x=0.01, ha="left")
    return figure


def _size(placement: Placement) -> tuple[float, float]:
    """Inches of a drawn mesh: tiles of `_INCH`, less where there are very many."""
    inch = min(_INCH, 14.0 / placement.width)
    return placement.width * inch, placement.height * inch


def _draw_mesh(axes: Any, placement: Placement) -> None:
    axes.set_xlim(-0.5, placement.width - 0.5)
    axes.set_ylim(placement.height - 0.5, -0.5)
    axes.set_aspect("equal")
    every = max(1, placement.width // 16)
    axes.set_xticks(range(0, placement.width, every))
    axes.set_yticks(range(0, placement.height, every))
    axes.set_xlabel("x (tiles)", fontsize=8)
    axes.set_ylabel("y (tiles)", fontsize=8)
    axes.tick_params(labelsize=7, length=2)
    width, height = placement.chip_size
    for x in range(width, placement.width, width):
        axes.axvline(x - 0.5, color="black", linewidth=1.5)
    for y in range(height, placement.height, height):
        axes.axhline(y - 0.5, color="black", linewidth=1.5)


def _short(name: str) -> str:
    """The last part of a node's name (two if it is a number); its layer's colour says the rest."""
    parts = name.split(".")
    kept = parts[-2:] if parts[-1].isdigit() else parts[-1:]
    return " ".join(kept).replace("_", " ")


def placement_map(
    placement: Placement, network: Network, note: str = "", dead_tiles: Mask | None = None
) -> Figure:
    """Which tile holds which node, coloured by layer; `dead_tiles` (slots,) are crossed out."""
    from matplotlib import colormaps

    layers = list(dict.fromkeys(network.layer[use.node] for use in placement.use))
    shades = colormaps[_COLOURS]
    colour = {layer: shades(i % shades.N) for i, layer in enumerate(layers)}
    width, height = _size(placement)
    figure = _figure(max(width, 2.8) + 2.4, max(height, 2.0, 0.2 * len(layers)) + 1.2, note)
    axes = figure.add_subplot()
    _draw_mesh(axes, placement)
    letters = 72 * width / placement.width * 0.13
    for use in placement.use:
        x, y = placement.position(use.slot)
        own = colour[network.layer[use.node]]
        axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, color=own, linewidth=0))
        if letters >= _SMALLEST_LETTERS:
            words = "\n".join(textwrap.wrap(_short(use.node), 9))
            axes.text(x, y, words, fontsize=letters, ha="center", va="center")
    share = f"{placement.used_tiles} of {placement.mesh_tiles} tiles"
    axes.set_title(f"placement: {share}, by layer", loc="left", fontsize=10)
    _cross_out(axes, placement, dead_tiles)
    axes.legend(
        handles=[Patch(color=colour[layer], label=layer) for layer in layers],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=8,
    )
    return figure


def _tile_shares(placement: Placement, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Share of every tile's pairs that hold weights, (height, width); nan where there are none."""
    shares = np.full((placement.height, placement.width), np.nan)
    for use in placement.use:
        x, y = placement.position(use.slot)
        if use.rows:
            shares[y, x] = use.rows * use.columns / (rows * columns)
    return shares


def mesh_map(
    placement: Placement,
    tile: tuple[int, int],
    traffic: Mapping[str, PhaseTraffic] | None = None,
    note: str = "",
    dead_tiles: Mask | None = None,
    dead_links: Mask | None = None,
) -> Figure:
    """How full the tiles' crossbars are and, where packets took time, how busy every link was.

    `tile`: rows and columns of one. `traffic`: `Run.traffic`; the last phase is drawn: the share of
    time that links transmit and, if they did, stand still. Without it there is one panel.
    `dead_tiles` (slots,), `dead_links` (slots, 4): crossed out.
    """
    width, height = _size(placement)
    last = list(traffic.items())[-1] if traffic else None
    panels = 1
    if last:
        panels = 3 if last[1].blocked.any() else 2
    figure = _figure(panels * (max(width, 2.8) + 1.9), max(height, 2.0) + 1.3, note)
    axes = figure.add_subplot(1, panels, 1)
    _draw_mesh(axes, placement)
    drawn = axes.imshow(_tile_shares(placement, *tile), vmin=0.0, vmax=1.0, cmap="viridis")
    _bar(figure, axes, drawn, "pairs in use (share of a tile)")
    axes.set_title("crossbars; white: none on this tile", loc="left", fontsize=10)
    _cross_out(axes, placement, dead_tiles)
    if last is None:
        return figure
    phase, report = last
    busy, standing = report.utilisation, report.blocked / max(report.seconds, 1e-300)
    kinds = [("transmits", busy), ("waits for a full buffer", standing)]
    for number, (what, share) in enumerate(kinds[: panels - 1], 2):
        axes = figure.add_subplot(1, panels, number)
        _draw_mesh(axes, placement)
        colours = _draw_links(axes, placement, share, report.load > 0)
        _bar(figure, axes, colours, f"share of the time a link {what}")
        axes.set_title(f"links, {phase}: {what}", loc="left", fontsize=10)
        _cross_out(axes, placement, dead_tiles)
        _cross_out_links(axes, placement, dead_links)
    return figure


def _bar(figure: Figure, axes: Any, drawn: Any, label: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, shrink=0.85)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _draw_links(
    axes: Any, placement: Placement, share: npt.NDArray[np.float64], used: Mask
) -> ScalarMappable:
    """An arrow for every link that was used, coloured by `share` (4 tiles,); the colour scale."""
    from matplotlib import colormaps

    scale = Normalize(0.0, max(float(share.max()), 1e-12))
    shades = colormaps["inferno_r"]
    for link in np.nonzero(used)[0].tolist():
        number, direction = divmod(link, 4)
        y, x = divmod(number, placement.width)
        dx, dy = STEPS[direction]
        arrow = FancyArrow(
            x + 0.18 * dx - _ACROSS * dy,
            y + 0.18 * dy + _ACROSS * dx,
            0.64 * dx,
            0.64 * dy,
            width=0.09,
            head_width=0.24,
            head_length=0.2,
            length_includes_head=True,
            linewidth=0,
            color=shades(scale(float(share[link]))),
        )
        axes.add_patch(arrow)
    axes.scatter(*np.meshgrid(range(placement.width), range(placement.height)), s=4, c="#999999")
    return ScalarMappable(scale, shades)


def _cross_out(axes: Any, placement: Placement, dead: Mask | None) -> None:
    """A cross over every dead tile; `dead` (slots,)."""
    if dead is not None and dead.any():
        spots = np.array([placement.position(slot) for slot in np.nonzero(dead)[0].tolist()])
        axes.scatter(spots[:, 0], spots[:, 1], s=150, c=_DEAD, marker="x", gid="dead tiles")
        axes.set_title("crossed out: dead", loc="right", fontsize=8, color=_DEAD)


def _cross_out_links(axes: Any, placement: Placement, dead: Mask | None) -> None:
    """A small cross on every dead link that leads to a tile; `dead` (slots, 4)."""
    if dead is None:
        return
    spots = []
    for slot, direction in np.argwhere(dead).tolist():
        x, y = placement.position(slot)
        dx, dy = STEPS[direction]
        if 0 <= x + dx < placement.width and 0 <= y + dy < placement.height:
            spots.append((x + 0.5 * dx - _ACROSS * dy, y + 0.5 * dy + _ACROSS * dx))
    if spots:
        axes.scatter(*np.array(spots).T, s=30, c=_DEAD, marker="x", gid="dead links")
        axes.set_title("crossed out: dead", loc="right", fontsize=8, color=_DEAD)


def membranes(
    traces: Sequence[tuple[str, npt.NDArray[np.float64], npt.NDArray[np.float64]]], note: str = ""
) -> Figure:
    """Voltage against time, one panel a neuron: (title, times in s, volts)."""
    if not traces:
        raise ValueError("expected at least one membrane to draw, got none")
    figure = _figure(8.0, 1.0 + 1.35 * len(traces), note)
    panels = figure.subplots(len(traces), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    scale, prefix = prefix_of(max(float(times[-1]) for _, times, _ in traces))
    for axes, (title, times, volts) in zip(panels, traces, strict=True):
        axes.plot(times / scale, volts, color="#2f6fb5", linewidth=1.0)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_ylabel("membrane (V)", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(f"time in the window ({prefix}s)", fontsize=8)
    return figure
