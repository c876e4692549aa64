"""The energy report for people: one screen in the terminal, one fragment of HTML.

Both are made from the report's dictionary alone, keys "energy" (`EnergyReport.to_dict`) and
optionally "baseline" (`Comparison.to_dict`), so that a saved JSON file prints the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neurosim.energy.units import joules, percent, times, with_unit

_BAR = 24


def _answer(report: Mapping[str, Any]) -> list[str]:
    """The answer in sentences: J per token, and the twin beside it."""
    energy = report["energy"]
    phases = energy["phases"]
    parts = [
        f"{name} {joules(phase['J_per_token'])}/token "
        f"({with_unit(phase['seconds_per_token'], 's')} each, {phase['tokens']} tokens)"
        for name, phase in phases.items()
    ]
    lines = ["spiking chip: " + ", ".join(parts)]
    baseline = report.get("baseline")
    if baseline:
        phase = baseline["phase"]
        band = baseline["uncertainty"]["ratio"]
        twin = joules(baseline[f"ann_twin_{phase}_J_per_token"])
        digital = joules(baseline[f"spiking_on_digital_{phase}_J_per_token"])
        bare = times(baseline["ratio_without_static"])
        static = baseline["static_share"]
        seconds = with_unit(baseline["ann_twin_seconds_per_token"], "s")
        lines += [
            f"ANN twin, same size, int8, digital: {twin}/token, {seconds} each = "
            f"{times(baseline['ratio'])} the spiking chip's energy ({phase}, context "
            f"{baseline['context']}, batch 1; 5-95 % of the price bands, with a decade each way "
            f"for integrated energy: {times(band['p5'])} to {times(band['p95'])})",
            f"without static power {bare}: static is {percent(static['spiking_chip'])} of the "
            f"spiking chip, {percent(static['ann_twin'])} of the twin; what is left is "
            "mostly weights not fetched, which an ANN on the same crossbars (not modelled) would "
            "save too",
            f"the same spikes on the twin's digital chip: {digital}/token",
        ]
    return lines


def _legacy(report: Mapping[str, Any]) -> str | None:
    baseline = report.get("baseline")
    if not baseline:
        return None
    legacy = baseline["legacy"]
    return (
        f"legacy line, not comparable ({legacy['label']}): spiking {joules(legacy['spiking_J'])}, "
        f"ANN twin {joules(legacy['ann_twin_J'])}"
    )


def _notes(report: Mapping[str, Any]) -> list[str]:
    energy = report["energy"]
    weak = [name for name, level in energy["evidence_by_mechanism"].items() if level == "assumed"]
    note = f"weakest evidence: {energy['evidence']}"
    if weak:
        note += f" ({', '.join(weak)} rest on assumed numbers)"
    return [f"{energy['kind']}; {note}", *energy["flags"]]


def _movers(report: Mapping[str, Any]) -> str | None:
    """The three assumptions that move the ratio most, each alone over its band."""
    baseline = report.get("baseline")
    if not baseline:
        return None
    parts = [
        f"{row['assumption'].replace('_', ' ')} {times(row['ratio_at_low'])} to "
        f"{times(row['ratio_at_high'])}"
        for row in baseline["sensitivity"][:3]
    ]
    return f"what moves that ratio most, each alone over its band: {', '.join(parts)}"


def _rows(report: Mapping[str, Any]) -> list[tuple[str, float, float, str]]:
    """(mechanism, J, share, evidence), largest first, what is zero left out."""
    energy = report["energy"]
    parts: Mapping[str, float] = energy["by_mechanism_J"]
    total = sum(parts.values())
    order = sorted(parts, key=lambda name: -parts[name])
    return [
        (name, parts[name], parts[name] / total, energy["evidence_by_mechanism"][name])
        for name in order
        if parts[name] > 0
    ]


def _layers(report: Mapping[str, Any]) -> str:
    layers: Mapping[str, float] = report["energy"]["by_layer_J"]
    return ", ".join(f"{name} {joules(value)}" for name, value in layers.items() if value > 0)


def _contexts(report: Mapping[str, Any]) -> Group | None:
    baseline = report.get("baseline")
    if not baseline:
        return None
    curve: Mapping[str, Mapping[str, float]] = baseline["contexts_decode_J_per_token"]
    trained = baseline["trained_context"]
    title = "decode J/token by context (spike rates as in this run"
    title += f"; the model was trained to {trained})" if trained else ")"
    table = Table(pad_edge=False, box=None)
    table.add_column("")
    for context in curve:
        table.add_column(context, justify="right")
    for side in next(iter(curve.values())):
        table.add_row(side.replace("_", " "), *(joules(row[side]) for row in curve.values()))
    return Group(Text(title, style="italic"), table)


def terminal(report: Mapping[str, Any]) -> Group:
    """One screen at 100 columns: boundary, answer, mechanisms, contexts, evidence, legacy line."""
    energy = report["energy"]
    lines: list[RenderableType] = [
        Text(f"counted: {energy['boundary']}", style="dim"),
        Text(f"not counted: {'; '.join(energy['excludes'])}", style="dim"),
        Text(f"assumed: {'; '.join(energy['assumes'])}", style="dim"),
        Text(),
        *(Text(line, style="bold" if i == 0 else "") for i, line in enumerate(_answer(report))),
        Text(),
    ]
    table = Table(
        title=f"{energy['phase']} J/token by mechanism",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("mechanism", "energy", "share", "", "evidence"):
        table.add_column(name, justify="right" if name in ("energy", "share") else "left")
    for name, value, share, evidence in _rows(report):
        bar = "\N{FULL BLOCK}" * max(round(share * _BAR), 0)
        table.add_row(name, joules(value), percent(share), bar, evidence)
    lines += [table, Text(f"by layer: {_layers(report)}"), Text()]
    contexts = _contexts(report)
    if contexts is not None:
        lines += [contexts, Text()]
    last = (_movers(report), _legacy(report))
    lines += [Text(note) for note in (*_notes(report), *last) if note]
    return Group(*lines)


def to_html(report: Mapping[str, Any]) -> str:
    """The same as a fragment of HTML with its own inline style and no script."""
    energy = report["energy"]
    cell = 'style="padding:2px 10px;text-align:left;font-variant-numeric:tabular-nums"'
    rows = "".join(
        f"<tr><td {cell}>{escape(name)}</td><td {cell}>{joules(value)}</td>"
        f"<td {cell}>{percent(share)}</td><td {cell}>"
        f'<div style="background:#555;height:10px;width:{200 * share:.0f}px"></div></td>'
        f"<td {cell}>{escape(evidence)}</td></tr>"
        for name, value, share, evidence in _rows(report)
    )
    answer = [escape(line) for line in _answer(report)]
    small = [*_notes(report), _movers(report), _legacy(report)]
    head = "".join(
        f"<th {cell}>{name}</th>" for name in ("mechanism", "energy", "share", "", "evidence")
    )
    return (
        '<div style="font-family:sans-serif;font-size:13px;max-width:60em">'
        f"<p>counted: {escape(energy['boundary'])}<br>"
        f"not counted: {escape('; '.join(energy['excludes']))}<br>"
        f"assumed: {escape('; '.join(energy['assumes']))}</p>"
        f"<p><b>{answer[0]}</b>{''.join('<br>' + line for line in answer[1:])}</p>"
        f'<table style="border-collapse:collapse"><caption style="text-align:left">'
        f"{escape(energy['phase'])} J/token by mechanism</caption>"
        f"<tr>{head}</tr>{rows}</table>"
        f"<p>by layer: {escape(_layers(report))}</p>"
        f"<p>{'<br>'.join(escape(line) for line in small if line)}</p></div>"
    )
