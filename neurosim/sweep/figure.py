"""A sweep as a figure: medians over the seeds with a band from the 10th to the 90th percentile."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neurosim.sweep.design import BASE
from neurosim.sweep.schema import AXES
from neurosim.sweep.summary import HEADINGS, Group, Summary

_STYLES = (
    ("#1b1b1b", "o", "-"),
    ("#b2451f", "s", "--"),
    ("#2b6ca3", "^", "-."),
    ("#6b8e23", "D", ":"),
    ("#7a4b94", "v", "-"),
    ("#c08a00", "P", "--"),
    ("#00796b", "X", "-."),
    ("#8d8d8d", "<", ":"),
)
_ABREAST = 3  # panels in a row
_FORMATS = (".png", ".svg", ".pdf")


def plot(summary: Summary, path: Path, x: str | None = None, y: str | None = None) -> None:
    """Write the figure. `x`: the chip key along the axis (default: the first that has numbers);
    `y`: a column of the results (default: bits per byte, else energy per token).

    In design "each" every key has a panel of its own and the base is a dashed line.
    """
    if path.suffix not in _FORMATS:
        raise ValueError(f"expected a plot in {', '.join(_FORMATS)}, got {path}")
    y = _column(summary, y)
    groups = [group for group in summary.groups if y in group.statistics]
    if not groups:
        raise ValueError(f"no finished point has {y}; there is nothing to plot yet")
    moved = [key for key in summary.keys if any(g.axes["varied"] == key for g in groups)]
    if moved and x is None:
        figure = _panels(summary, groups, moved, y)
    else:
        key = _x_key(summary, groups, x)
        figure = _lines(summary, groups, key, y) if key else _bars(summary, groups, y)
    note = "; ".join([f"sweep {summary.name}", _seeds(groups), *summary.flags])
    if moved and x is None:
        note = f"dotted: the base; {note}"
    figure.supxlabel(
        "\n".join(textwrap.wrap(note, int(17 * figure.get_figwidth()))),
        fontsize=7,
        x=0.01,
        ha="left",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    figure.savefig(part, dpi=160)
    part.replace(path)


def _column(summary: Summary, y: str | None) -> str:
    known = {name for group in summary.groups for name in group.statistics}
    if y is None:
        return next(iter(summary.shown()), "bits_per_byte")
    if y not in known:
        raise ValueError(f"--y: expected one of {', '.join(sorted(known))}, got {y!r}")
    return y


def _numbers(groups: Sequence[Group], key: str) -> list[float]:
    values = {group.axes[key] for group in groups}
    if any(isinstance(value, str | bool) or value is None for value in values):
        return []
    return sorted(float(value) for value in values)


def _x_key(summary: Summary, groups: Sequence[Group], x: str | None) -> str | None:
    usable = [key for key in summary.keys if len(_numbers(groups, key)) > 1]
    if x is None:
        return usable[0] if usable else None
    if x not in usable:
        known = ", ".join(usable) or "none in this sweep"
        raise ValueError(f"--x: expected a key with several numbers ({known}), got {x!r}")
    return x


def _canvas(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=True)


def _series(
    summary: Summary, groups: Sequence[Group], without: Sequence[str]
) -> dict[str, list[Group]]:
    """Groups by what differs beside the x axis; the label names it."""
    names = [name for name in [*AXES, *summary.keys] if name not in without]
    names = [name for name in names if name in groups[0].axes]
    differing = [name for name in names if len({group.axes[name] for group in groups}) > 1]
    found: dict[str, list[Group]] = {}
    for group in groups:
        parts = []
        for name in differing:
            value = group.axes[name]
            plain = f"{value:.4g}" if isinstance(value, float) else str(value)
            parts.append(plain if name in AXES else f"{name} = {plain}")
        found.setdefault(", ".join(part for part in parts if part), []).append(group)
    if len(found) > len(_STYLES):
        raise ValueError(
            f"expected at most {len(_STYLES)} lines in a plot, got {len(found)} (they differ in "
            f"{', '.join(differing)}); choose another --x, or sweep fewer values"
        )
    return found


def _draw(axes: Any, groups: Sequence[Group], key: str, y: str, style: int, label: str) -> None:
    colour, marker, dashes = _STYLES[style]
    groups = sorted(groups, key=lambda group: float(group.axes[key]))
    xs = [float(group.axes[key]) for group in groups]
    found = [group.statistics[y] for group in groups]
    axes.fill_between(
        xs, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.15, linewidth=0
    )
    middle = [f.median for f in found]
    axes.plot(xs, middle, color=colour, marker=marker, linestyle=dashes, ms=4, label=label)


def _scale(axes: Any, values: Sequence[float]) -> None:
    """Logarithmic where the positive values span more than a factor of 100."""
    positive = [value for value in values if value > 0]
    if positive and min(values) >= 0 and max(positive) > 100 * min(positive):
        if min(values) == 0:
            axes.set_xscale("symlog", linthresh=min(positive))
        else:
            axes.set_xscale("log")


def _finish(axes: Any, summary: Summary, key: str, values: Sequence[float]) -> None:
    unit = summary.keys[key]
    axes.set_xlabel(f"{key} ({unit})" if unit not in ("", "1") else key, fontsize=9)
    _scale(axes, values)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _label(summary: Summary, y: str) -> str:
    name = HEADINGS.get(y, y.replace(".", " of ", 1) if y.startswith(("rate.", "cv.")) else y)
    unit = summary.units[y]
    if y == "bits_per_byte" or unit in ("", "1"):
        return name
    return f"{name} ({unit})"


def _legend(figure: Figure, axes: Any, lines: int) -> None:
    if lines > 1:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=min(lines, 4),
            frameon=False,
            fontsize=8,
        )


def _lines(summary: Summary, groups: Sequence[Group], key: str, y: str) -> Figure:
    series = _series(summary, groups, [key, "varied"])
    figure, grid = _canvas(1, 1, 7.0, 4.6)
    axes = grid[0, 0]
    for style, (label, members) in enumerate(series.items()):
        _draw(axes, members, key, y, style, label)
    _finish(axes, summary, key, _numbers(groups, key))
    axes.set_ylabel(_label(summary, y), fontsize=9)
    _legend(figure, axes, len(series))
    return figure


def _panels(summary: Summary, groups: Sequence[Group], moved: Sequence[str], y: str) -> Figure:
    keys = [key for key in moved if _numbers([g for g in groups if g.axes["varied"] == key], key)]
    if not keys:
        return _bars(summary, groups, y)
    columns = min(len(keys), _ABREAST)
    rows = math.ceil(len(keys) / columns)
    figure, grid = _canvas(rows, columns, max(3.2 * columns, 5.0), 3.0 * rows + 0.8)
    panels = grid.reshape(-1)
    series = _series(summary, groups, [*summary.keys, "varied"])
    for axes, key in zip(panels, keys, strict=False):
        for style, (label, members) in enumerate(series.items()):
            own = [group for group in members if group.axes["varied"] == key]
            if own:
                _draw(axes, own, key, y, style, label)
            for group in members:
                if group.axes["varied"] == BASE:
                    level = group.statistics[y].median
                    axes.axhline(level, color=_STYLES[style][0], linestyle=(0, (1, 2)), linewidth=1)
        _finish(axes, summary, key, _numbers([g for g in groups if g.axes["varied"] == key], key))
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(_label(summary, y), fontsize=9)
    _legend(figure, panels[0], len(series))
    return figure


def _bars(summary: Summary, groups: Sequence[Group], y: str) -> Figure:
    """No key with numbers: one line of the figure for each group."""
    names = [name for name in summary.differing() if name in groups[0].axes]
    labels = [
        ", ".join(textwrap.shorten(str(g.axes[name]), 32) for name in names if g.axes[name] != "")
        for g in groups
    ]
    figure, grid = _canvas(1, 1, 7.0, 1.4 + 0.32 * len(groups))
    axes = grid[0, 0]
    heights = range(len(groups), 0, -1)
    for height, group in zip(heights, groups, strict=True):
        found = group.statistics[y]
        axes.plot([found.low, found.high], [height, height], color="#8d8d8d", linewidth=3)
        axes.plot([found.median], [height], color="#1b1b1b", marker="o", ms=5)
    axes.set_yticks(list(heights), labels, fontsize=8)
    axes.set_ylim(0.4, len(groups) + 0.6)
    axes.set_xlabel(_label(summary, y), fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _seeds(groups: Sequence[Group]) -> str:
    counts = sorted({group.seeds for group in groups})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] == 1:
        return "one seed"
    return f"medians over {number} seeds, bands from the 10th to the 90th percentile"
