"""The report's charts, each made from its plain values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurosim.energy.units import joules, percent, times
from neurosim.reporting.svg import (
    WIDTH,
    Axis,
    box,
    dot,
    figure,
    horizontal,
    line,
    log_axis,
    path,
    ribbon,
    text,
    vertical,
)
from neurosim.reporting.tables import mechanism_rows

MECHANISMS = (
    "static",
    "routing",
    "attention",
    "accumulator",
    "conversion",
    "word lines",
    "synapse",
    "neuron",
    "embedding",
    "state",
    "compute",
    "weights",
    "events",
    "other",
)
_ROW = 15.0


def _css(mechanism: str) -> str:
    """Colour class of a mechanism; the parts of a neuron share one."""
    name = mechanism.split()[0] if mechanism.startswith("neuron") else mechanism
    return f"c{MECHANISMS.index(name) if name in MECHANISMS else len(MECHANISMS) - 1}"


def _shortened(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def by_context(report: Mapping[str, Any]) -> str:
    """Energy per decoded token against context, both axes logarithmic."""
    contexts = [float(context) for context in report["contexts"]]
    curves = [
        (f"{s['title']}, spiking", [p["decode_J_per_token"] for p in s["curve"]])
        for s in report["systems"]
    ]
    for row in report["baselines"]:
        if row["key"] == "ann_int8":
            curves.append((f"{row['title']}, cache in SRAM", _column(row, "")))
            curves.append((f"{row['title']}, cache in DRAM", _column(row, "_cache_in_dram")))
        elif row["key"] == "ann_narrow_sparse":
            curves.append((f"{row['title']}", _column(row, "")))
    left, top, bottom = 50.0, 26.0, 200.0
    y = log_axis([value for _, values in curves for value in values], bottom, top)
    wide = contexts if len(contexts) > 1 else [contexts[0], contexts[0] * 10]
    x = Axis(min(wide) / 1.2, max(wide) * 1.2, left, WIDTH - 10, logarithmic=True)
    parts = vertical(y, left, WIDTH - 10 - left, "energy per decoded token (J)", "J")
    for context in contexts:
        parts += [
            line(x.at(context), top, x.at(context), bottom, "grid"),
            text(x.at(context), bottom + 12, f"{context:g}", "middle", "small"),
        ]
    parts += [line(left, bottom, WIDTH - 10, bottom, "axis")]
    parts.append(text((left + WIDTH) / 2, bottom + 26, "context (tokens)", "middle"))
    trained = report["model"]["trained_context"]
    if min(contexts) < trained < max(contexts):
        parts.append(line(x.at(trained), top, x.at(trained), bottom, "mark"))
        words = f"trained to {trained}"
        parts.append(text(x.at(trained) + 3, top + 9, words, "start", "small"))
    for i, (name, values) in enumerate(curves):
        points = [(x.at(c), y.at(v)) for c, v in zip(contexts, values, strict=True)]
        parts.append(path(points, f"stroke s{i}"))
        for (px, py), context, value in zip(points, contexts, values, strict=True):
            parts.append(dot(px, py, f"c{i}", f"{name}, context {context:g}: {joules(value)}"))
        row = bottom + 44 + i * _ROW
        parts += [line(10, row - 4, 28, row - 4, f"stroke s{i}"), text(34, row, name)]
    height = bottom + 44 + len(curves) * _ROW
    return figure(
        "by-context",
        "Energy per decoded token against context",
        "Lines on logarithmic axes; the same numbers are in the table below.",
        height,
        parts,
    )


def _column(row: Mapping[str, Any], suffix: str) -> list[float]:
    return [point[f"decode_J_per_token{suffix}"] for point in row["curve"]]


def by_layer(system: Mapping[str, Any], identity: str) -> str:
    """Dynamic energy of every layer, stacked by mechanism; static power is left out."""
    layers = {
        layer: {k: v for k, v in parts.items() if k != "static" and v > 0}
        for layer, parts in system["main"]["by_layer_and_mechanism_J"].items()
    }
    layers = {layer: parts for layer, parts in layers.items() if parts}
    totals = {layer: sum(parts.values()) for layer, parts in layers.items()}
    left, top = 78.0, 8.0
    bottom = top + len(layers) * _ROW
    x = Axis(0.0, max(totals.values(), default=1.0) * 1.02, left, WIDTH - 12)
    parts = horizontal(x, bottom, bottom - top, "dynamic energy per decoded token (J)", "J")
    used: dict[str, str] = {}
    for i, (layer, mechanisms) in enumerate(layers.items()):
        y, at = top + i * _ROW, 0.0
        parts.append(text(left - 4, y + 11, layer, "end"))
        for name in sorted(mechanisms, key=lambda n: -mechanisms[n]):
            wide = x.at(at + mechanisms[name]) - x.at(at)
            tip = f"{layer}, {name}: {joules(mechanisms[name])}"
            parts.append(box(x.at(at), y + 2, wide, _ROW - 4, _css(name), tip))
            used.setdefault("neuron" if name.startswith("neuron") else name, _css(name))
            at += mechanisms[name]
    keys, height = _legend(used, bottom + 40)
    return figure(
        identity,
        f"Dynamic energy by layer and mechanism, {system['title']}",
        "Stacked bars, one a layer; static power is not in them.",
        height,
        parts + keys,
    )


def _legend(entries: Mapping[str, str], y: float) -> tuple[list[str], float]:
    """Colour keys in three columns, and the height after them."""
    parts = []
    for i, (name, css) in enumerate(entries.items()):
        x, row = 10 + (i % 3) * 116, y + (i // 3) * _ROW
        parts += [box(x, row - 9, 10, 10, css), text(x + 15, row, name)]
    return parts, y + ((len(entries) + 2) // 3) * _ROW - 4


def sankey(system: Mapping[str, Any], identity: str, with_static: bool) -> str:
    """Where a joule goes: all of it, by mechanism, by layer. Flows below 1 % are joined."""
    flows: dict[tuple[str, str], float] = {}
    for layer, parts in system["main"]["by_layer_and_mechanism_J"].items():
        for name, value in parts.items():
            if value > 0 and (with_static or name != "static"):
                key = ("neuron" if name.startswith("neuron") else name, layer)
                flows[key] = flows.get(key, 0.0) + value
    total = sum(flows.values())
    mechanisms, layers = _shares(flows, 0, total), _shares(flows, 1, total)
    top, field, gap = 18.0, 200.0, 5.0
    columns = (10.0, 104.0, 246.0)
    mine = _stack(mechanisms, top, field, gap)
    theirs = _stack(layers, top, field, gap)
    what = "all energy" if with_static else "dynamic energy"
    parts = [
        text(columns[0], 10, "one joule", css="small"),
        text(columns[1], 10, "mechanism", css="small"),
        text(columns[2], 10, "layer", css="small"),
        box(columns[0], top, 8, field, _css("other"), f"{what}: {joules(total)} per decoded token"),
    ]
    out = {name: y for name, (y, _) in mine.items()}
    into = {name: y for name, (y, _) in theirs.items()}
    start = top
    for name, (y, tall) in mine.items():
        share = f"{name}: {percent(mechanisms[name])}"
        parts.append(
            ribbon(columns[0] + 8, start, columns[1], y, tall, f"flow {_css(name)}", share)
        )
        start += tall
        parts.append(box(columns[1], y, 8, tall, _css(name), share))
    joined: dict[tuple[str, str], float] = {}
    for (name, layer), value in flows.items():
        key = (name if name in mechanisms else "other", layer if layer in layers else "other")
        joined[key] = joined.get(key, 0.0) + value
    for (name, layer), value in sorted(
        joined.items(),
        key=lambda item: (list(mine).index(item[0][0]), list(theirs).index(item[0][1])),
    ):
        tall = value / total * field
        tip = f"{name} in {layer}: {percent(value / total)}"
        parts.append(
            ribbon(
                columns[1] + 8, out[name], columns[2], into[layer], tall, f"flow {_css(name)}", tip
            )
        )
        out[name] += tall
        into[layer] += tall
    parts += _sankey_labels(mine, mechanisms, columns[1] + 11)
    for layer, (y, tall) in theirs.items():
        parts.append(
            box(columns[2], y, 8, tall, _css("other"), f"{layer}: {percent(layers[layer])}")
        )
    parts += _sankey_labels(theirs, layers, columns[2] + 11)
    lowest = max([y + tall for y, tall in (*mine.values(), *theirs.values())])
    return figure(
        identity,
        f"Where a joule goes, {what}, {system['title']}",
        "Flows from the whole to mechanisms and on to layers; numbers in the table below.",
        lowest + 14,
        parts,
    )


def _shares(flows: Mapping[tuple[str, str], float], side: int, total: float) -> dict[str, float]:
    """Name -> share of the total, largest first, what is below 1 % as "other"."""
    sums: dict[str, float] = {}
    for key, value in flows.items():
        sums[key[side]] = sums.get(key[side], 0.0) + value / total
    order = sorted(sums, key=lambda name: -sums[name])
    kept = {name: sums[name] for name in order if sums[name] >= 0.01}
    rest = sum(sums[name] for name in order if sums[name] < 0.01)
    return {**kept, "other": kept.get("other", 0.0) + rest} if rest > 0 else kept


def _stack(
    shares: Mapping[str, float], top: float, field: float, gap: float
) -> dict[str, tuple[float, float]]:
    """Name -> (upper edge, height)."""
    found, y = {}, top
    for name, share in shares.items():
        found[name] = (y, share * field)
        y += share * field + gap
    return found


def _sankey_labels(
    nodes: Mapping[str, tuple[float, float]], shares: Mapping[str, float], x: float
) -> list[str]:
    """Labels beside the nodes, pushed down where they would overlap."""
    parts, lowest = [], 0.0
    for name, (y, tall) in nodes.items():
        middle = max(y + tall / 2 + 4, lowest + 11)
        parts.append(
            text(x, middle, f"{_shortened(name, 12)} {percent(shares[name])}", css="small")
        )
        lowest = middle
    return parts


def spike_rates(sites: Sequence[Mapping[str, Any]]) -> str:
    """Rate of every site: least to most over tokens, and the median."""
    left, top = 118.0, 6.0
    bottom = top + len(sites) * 12.0
    high = max(max(row["rate_max"] for row in sites), 1e-3)
    x = Axis(0.0, high * 1.05, left, WIDTH - 12)
    label = "spikes per channel and time step (1)"
    parts = horizontal(x, bottom, bottom - top, label, None)
    for i, row in enumerate(sites):
        y = top + i * 12.0 + 6
        tip = (
            f"{row['site']}: median {row['rate_median']:.3f}, {row['rate_min']:.3f} to "
            f"{row['rate_max']:.3f}; silent {percent(row['silent_share'])}"
        )
        parts += [
            text(
                left - 4, y + 3, _shortened(row["site"].replace("_neurons", ""), 20), "end", "small"
            ),
            line(x.at(row["rate_min"]), y, x.at(row["rate_max"]), y, "stroke s0"),
            dot(x.at(row["rate_median"]), y, "c0", tip),
        ]
    return figure(
        "spike-rates",
        "Spike rates of every site",
        "A line from the least to the most active token, a dot at the median.",
        bottom + 34,
        parts,
    )


def break_even(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measured input rate of every layer beside its break-even rates."""
    left, top = 118.0, 6.0
    bottom = top + len(rows) * 12.0
    x = Axis(0.0, 1.0, left, WIDTH - 12)
    parts = horizontal(x, bottom, bottom - top, "input spike rate per time step (1)", None)
    for i, row in enumerate(rows):
        y = top + i * 12.0 + 6
        alone, shared = row["break_even_rate"], row["break_even_rate_shared"]
        first, last = (min(max(rate, 0.0), 1.0) for rate in (alone, max(shared, alone)))
        tip = f"{row['crossbar']}: measured {row['measured_rate']:.3f}, break-even {alone:.3f}"
        parts += [
            text(left - 4, y + 3, _shortened(row["crossbar"], 20), "end", "small"),
            line(x.at(first), y, x.at(last), y, "stroke s1"),
            dot(x.at(row["measured_rate"]), y, "c0", tip),
        ]
    y = bottom + 42
    parts += [dot(14, y - 4, "c0"), text(22, y, "measured")]
    parts += [line(90, y - 4, 108, y - 4, "stroke s1")]
    parts.append(text(112, y, "break-even: fetched each step, or once"))
    return figure(
        "break-even",
        "Measured spike rates beside break-even rates",
        "A dot left of the line spikes less than the break-even rate, at digital prices.",
        y + 6,
        parts,
    )


def sensitivity(row: Mapping[str, Any], most: int = 12) -> str:
    """The ratio with one assumption at a time at the ends of its band."""
    moves = row["sensitivity"][:most]
    left, top = 118.0, 6.0
    bottom = top + len(moves) * _ROW
    ends = [value for move in moves for value in (move["ratio_at_low"], move["ratio_at_high"])]
    x = log_axis([*ends, row["ratio"]], left, WIDTH - 12)
    parts = horizontal(x, bottom, bottom - top, "energy ratio, baseline / system (1)", None)
    for i, move in enumerate(moves):
        y = top + i * _ROW
        low, high = sorted((move["ratio_at_low"], move["ratio_at_high"]))
        name = move["assumption"].replace("_", " ")
        tip = f"{name}: {times(low)} to {times(high)}"
        wide = x.at(high) - x.at(low)
        parts += [
            text(left - 4, y + 11, _shortened(name, 20), "end", "small"),
            box(x.at(low), y + 3, wide, _ROW - 6, "c1", tip),
        ]
    parts.append(line(x.at(row["ratio"]), top, x.at(row["ratio"]), bottom, "mark"))
    return figure(
        "sensitivity",
        f"What moves the ratio to {row['baseline']}",
        "Bars from one end of a band to the other; the line is the nominal ratio.",
        bottom + 34,
        parts,
    )


def shares(system: Mapping[str, Any], identity: str) -> str:
    """Share of every mechanism, as bars with their numbers."""
    rows = mechanism_rows(system)
    left = 100.0
    x = Axis(0.0, 1.0, left, WIDTH - 110)
    parts = []
    for i, row in enumerate(rows):
        y = 4 + i * _ROW
        parts += [
            text(left - 4, y + 11, row["mechanism"], "end"),
            box(left, y + 2, max(x.at(row["share"]) - left, 0.8), _ROW - 4, _css(row["mechanism"])),
            text(
                x.at(row["share"]) + 5,
                y + 11,
                f"{joules(row['joules'])}, {percent(row['share'])}",
                css="small",
            ),
        ]
    return figure(
        identity,
        f"Energy per decoded token by mechanism, {system['title']}",
        "Bars with their joules and shares.",
        8 + len(rows) * _ROW,
        parts,
    )
