"""A profile on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from neurosim.profiling.analysis import BreakEven, Measured, break_evens
from neurosim.profiling.case import Kind
from neurosim.profiling.roofline import Roofline

_UNITS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))
_COLUMNS = (
    "p", "ours", "time", "20 .. 80 %", "dense", "x", "int8", "x", "SOP/s", "bytes", "roof",
)  # fmt: skip
_KINDS: tuple[tuple[Kind, str], ...] = (
    ("dense", "dense"),
    ("int8", "int8"),
    ("other", "other result"),
)
_WIDTH, _ANY_WIDTH = 116, 1000
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def duration(seconds: float) -> str:
    """Three digits and a unit: 12.3 us."""
    factor, unit = next((factor, unit) for limit, factor, unit in _UNITS if seconds < limit)
    return f"{seconds * factor:.3g} {unit}"


def amount(value: float | None, unit: str = "") -> str:
    """Three digits and a prefix: 1.2 G."""
    if value is None:
        return ""
    factor, prefix = next(((f, p) for f, p in _PREFIXES if value >= f), (1.0, ""))
    return f"{value / factor:.3g} {prefix}{unit}".rstrip()


def _median(one: Measured, name: str) -> float:
    return one.times[name].median


def _times(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}x" if value >= 99.5 else f"{value:.3g}x"


def wide_console() -> Console:
    """Standard output, at least as wide as the table: long lines wrap rather than lose columns."""
    console = Console()
    return console if console.width >= _WIDTH else Console(width=_WIDTH)


def print_whole(table: Table, console: Console) -> None:
    """At the table's own width, whatever the console's: no number is cut short."""
    needed = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum
    Console(file=console.file, width=needed).print(table)


def print_head(head: Mapping[str, Any], roofline: Roofline, console: Console) -> None:
    """Machine, versions, BLAS, threads, load, limits."""
    machine = head["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    blas = f"numpy: {head['numpy_blas']}; mlx: {head['mlx_blas']}"
    if head["torch_blas"] is not None:
        blas += f"; torch: {head['torch_blas']}"
    levels = ", ".join(
        f"{level.bandwidth / 1e9:.3g} GB/s {level.name} ({amount(level.size, 'B')})"
        for level in roofline.levels
    )
    for line in (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        versions,
        f"BLAS: {blas}",
        f"{head['threads']} thread(s), load {machine['load']:.2f}, commit "
        + (head["commit"][:12] or "unknown"),
        f"measured limits of one thread: read and add {levels}; "
        f"sgemm {roofline.products / 1e9:.3g} GMAC/s",
        f"times: {head['clock']} per call, median (20 .. 80 percentile); x: rival over ours",
    ):
        console.print(line, highlight=False, markup=False, style="dim", soft_wrap=True)


def print_measured(
    measured: Sequence[Measured], roofline: Roofline, console: Console, texts: Mapping[str, str]
) -> None:
    """One table per operation and shape."""
    evens = break_evens(measured)
    groups: dict[tuple[str, tuple[Any, ...]], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.case.operation, tuple(one.case.shape.items())), []).append(one)
    for (name, shape), members in groups.items():
        sizes = " ".join(f"{letter}={size}" for letter, size in shape)
        table = Table(
            title=f"{name} {sizes}: {texts[name]}", title_justify="left", box=None, pad_edge=False
        )
        with_int8 = any(one.case.of("int8") for one in members)
        for column in _COLUMNS if with_int8 else (*_COLUMNS[:6], *_COLUMNS[8:]):
            table.add_column(column, justify="left" if column == "ours" else "right", no_wrap=True)
        for one in members:
            _add(table, one, roofline, with_int8)
        print_whole(table, console)
        _print_others(members, console)
        for even in evens:
            if (even["operation"], tuple(even["shape"].items())) == (name, shape):
                found = BreakEven(even["density"], even["state"])
                pair = f"{even['candidate']} and the best {even['against']} form"
                console.print(f"  break-even density of {pair}: {found}", highlight=False)
        console.print()


def _add(table: Table, one: Measured, roofline: Roofline, with_int8: bool) -> None:
    for name, candidate in one.case.of("ours").items():
        times, traffic = one.times[name], candidate.traffic
        fraction = None if traffic is None else roofline.fraction(traffic, times.median)
        cells = [
            "" if one.case.density is None else f"{one.case.density:g}",
            name if candidate.algo in (None, name) else f"{name} ({candidate.algo})",
            duration(times.median),
            f"{duration(times.counted.p20)} .. {duration(times.counted.p80)}",
        ]
        for kind in ("dense", "int8") if with_int8 else ("dense",):
            rival = one.best(kind)
            cells.append("" if rival is None else duration(one.times[rival].median))
            cells.append(_times(one.ratio(name, kind)))
        cells += [
            amount(one.rate(name)),
            "" if traffic is None else amount(traffic.moved, "B"),
            "" if fraction is None else f"{100 * fraction:.0f} %",
        ]
        table.add_row(*cells)


def _print_others(members: Sequence[Measured], console: Console) -> None:
    """Every rival's time, fastest first, and those that compute something else in that role."""
    for one in members:
        parts = []
        for kind, text in _KINDS:
            names = sorted(one.case.of(kind), key=partial(_median, one))
            rivals = ", ".join(f"{name} {duration(one.times[name].median)}" for name in names)
            if rivals:
                parts.append(f"{text}: {rivals}")
        density = "" if one.case.density is None else f"p={one.case.density:g}  "
        console.print(
            f"  {density}{'; '.join(parts)}", highlight=False, markup=False, style="dim",
            soft_wrap=True,
        )  # fmt: skip


def print_energy(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Measured joules per call, one line for each of our candidates."""
    for row in rows:
        sizes = " ".join(f"{letter}={size}" for letter, size in row["shape"].items())
        density = "" if row["density"] is None else f" p={row['density']:g}"
        console.print(
            f"{row['operation']} {sizes}{density} {row['candidate']}: {row['cpu_J']:.3g} J CPU, "
            f"{row['gpu_J']:.3g} J GPU per call, whole machine ({row['source']})",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
