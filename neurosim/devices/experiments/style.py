"""Look of every device figure: black, grey and line styles, axes with units, small SVG files."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DARK, MIDDLE, LIGHT = "#1a1a1a", "#6e6e6e", "#b4b4b4"
SHADES = (DARK, MIDDLE, LIGHT, "#404040", "#8c8c8c")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
SUFFIXES = (".svg", ".png")
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
_SETTINGS: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "svg.fonttype": "none",
    "svg.hashsalt": "neurosim",
    "path.simplify_threshold": 0.2,
}


def prefix_of(largest: float) -> tuple[float, str]:
    """(scale, SI prefix) that brings `largest` between 1 and 1000."""
    if not math.isfinite(largest) or largest == 0.0:
        return 1.0, ""
    power = 3 * math.floor(math.log10(abs(largest)) / 3 + 1e-9)
    power = min(max(power, -15), 12)
    return 10.0**power, _PREFIXES[power]


def with_prefix(value: float, unit: str, digits: int = 4) -> str:
    """`8.781 kHz` from 8781 Hz; a unit that takes no prefix stays plain."""
    if not unit or not unit[0].isalpha() or unit in ("dec", "pulses"):
        return f"{value:.{digits}g} {unit}".rstrip()
    scale, prefix = prefix_of(value)
    return f"{value / scale:.{digits}g} {prefix}{unit}"


def scaled(values: Any, unit: str) -> tuple[Any, str]:
    """Values in the prefix of their largest magnitude, and that unit: for linear axes."""
    array = np.asarray(values, float)
    finite = array[np.isfinite(array)]
    scale, prefix = prefix_of(float(np.abs(finite).max(initial=0.0)))
    return array / scale, f"{prefix}{unit}"


def panels(count: int, note: str, columns: int = 2) -> tuple[Figure, Sequence[Axes]]:
    """A figure of `count` lettered panels with `note` as its footer; (figure, axes)."""
    across = min(count, columns)
    down = -(-count // across)
    with matplotlib.rc_context(_SETTINGS):
        lines = textwrap.wrap(note, 66 * across)
        strip = 0.14 * len(lines) + 0.06 if lines else 0.0
        height = 2.6 * down + strip
        figure = Figure(figsize=(3.5 * across, height), layout="constrained")
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", rect=(0, strip / height, 1, 1 - strip / height))
        figure.text(0.01, 0.04 / height, "\n".join(lines), fontsize=6.5, va="bottom", color=MIDDLE)
        grid = figure.subplots(down, across, squeeze=False).ravel().tolist()
        for extra in grid[count:]:
            extra.remove()
        for letter, axes in zip("abcdefgh", grid[:count] if count > 1 else [], strict=False):
            axes.text(-0.02, 1.02, f"({letter})", transform=axes.transAxes, ha="right", va="bottom")
    return figure, grid[:count]


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write the figure as .svg or .png, whichever `path` says; folders are made."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"expected a plot file that ends in .svg or .png, got {str(path)!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_SETTINGS):
        if target.suffix.lower() == ".svg":
            figure.savefig(target, metadata={"Date": None})
        else:
            figure.savefig(target, dpi=160)
    return target


def settings() -> Any:
    """Context in which panels are drawn."""
    return matplotlib.rc_context(_SETTINGS)
