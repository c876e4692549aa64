"""Time against density: ours and the dense forms, legible in grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from neurosim.profiling.analysis import Measured

_OURS = (("#000000", "o"), ("#000000", "s"), ("#000000", "^"), ("#000000", "D"))
_RIVALS = (
    ("#8c8c8c", (0, (6, 2))),
    ("#8c8c8c", (0, (1, 1.5))),
    ("#5a5a5a", (0, (7, 2, 1, 2))),
    ("#5a5a5a", (0, (2, 1))),
    ("#b0b0b0", "-"),
    ("#b0b0b0", (0, (6, 2))),
)
_OTHER_LAYOUT = " (O, I)"
_ABREAST = 2
SUFFIXES = (".png", ".svg", ".pdf")


def figure(measured: Sequence[Measured], note: str = "") -> Figure:
    """One panel per operation and shape; ValueError without a case that has a density."""
    groups: dict[tuple[Any, ...], list[Measured]] = {}
    for one in measured:
        if one.case.density is not None:
            groups.setdefault((one.case.operation, *one.case.shape.items()), []).append(one)
    if not groups:
        raise ValueError("expected an operation whose time depends on density to plot, got none")
    abreast = min(_ABREAST, len(groups))
    down = -(-len(groups) // abreast)
    drawn = Figure(figsize=(6.4 * abreast, 3.9 * down + 0.3), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(down, abreast, squeeze=False)
    for axis, (key, members) in zip(axes.flat, groups.items(), strict=False):
        _panel(axis, key, sorted(members, key=lambda one: one.case.density or 0))
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    if note:
        drawn.supxlabel(note, fontsize=7, x=0.01, ha="left")
    return drawn


def _panel(axis: Any, key: tuple[Any, ...], members: Sequence[Measured]) -> None:
    name, *shape = key
    densities = [one.case.density or 0 for one in members]
    ours, rivals = iter(_OURS * 4), iter(_RIVALS * 4)
    for candidate in members[0].case.of("ours"):
        points = [one.times[candidate].counted for one in members]
        below = [1e6 * (t.median - t.p20) for t in points]
        above = [1e6 * (t.p80 - t.median) for t in points]
        colour, marker = next(ours)
        axis.errorbar(
            densities, [1e6 * t.median for t in points], yerr=(below, above), color=colour,
            marker=marker, markersize=5, lw=1.6, markerfacecolor="white", capsize=2,
            label=f"ours, {candidate}", zorder=3,
        )  # fmt: skip
    for library, names in _libraries(members[0]).items():
        middle = [1e6 * min(one.times[name].median for name in names) for one in members]
        colour, dashes = next(rivals)
        axis.plot(densities, middle, color=colour, ls=dashes, lw=1.5, label=library)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(densities))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("density of spikes (share of neurons that are not silent)")
    by_wall = any(times.by_wall for times in members[0].times.values())
    axis.set_ylabel(f"{'wall' if by_wall else 'CPU'} time per call (µs)")
    axis.set_title(f"{name}  {' '.join(f'{a}={b}' for a, b in shape)}", loc="left", fontsize=10)
    axis.grid(True, which="major", color="#e4e4e4", lw=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)


def _libraries(one: Measured) -> dict[str, list[str]]:
    """Rivals by library; of two layouts of the weights the faster one is drawn."""
    found: dict[str, list[str]] = {}
    for name in one.case.of("dense", "int8", "other"):
        found.setdefault(name.removesuffix(_OTHER_LAYOUT), []).append(name)
    return found


def save(measured: Sequence[Measured], path: Path, note: str = "") -> None:
    """Write a .png, .svg or .pdf."""
    check_suffix(path)
    figure(measured, note).savefig(path, dpi=150)


def check_suffix(path: Path) -> None:
    """Refuse a file that is no figure, before anything is measured."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"expected a plot file ending in {', '.join(SUFFIXES)}, got {path.name}")
    if not path.resolve().parent.is_dir():
        raise ValueError(f"expected an existing folder for the plot, got {path.parent}")
