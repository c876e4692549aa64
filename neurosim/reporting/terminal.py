"""The report on one screen, the answer first; and two reports beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neurosim.energy.units import joules, percent, times
from neurosim.reporting.tables import (
    answer,
    boundary_rows,
    context_rows,
    mechanism_rows,
    quality_of,
)

_BAR = 20


def _plain_table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table


def _contexts(report: Mapping[str, Any]) -> Table:
    marks = {
        point["context"]: "*" if point["extrapolated"] else ""
        for point in report["systems"][0]["curve"]
    }
    names = [f"{context}{marks[context]}" for context in report["contexts"]]
    title = f"J per decoded token by context, batch {report['batch']}"
    table = _plain_table(title, ["", "bits/byte", *names])
    for row in context_rows(report):
        table.add_row(row["row"], row["bits_per_byte"], *(joules(j) for j in row["joules"]))
    return table


def _mechanisms(system: Mapping[str, Any]) -> Table:
    table = _plain_table(f"{system['title']}: J per decoded token", ["", "energy", "share", ""])
    table.columns[3].justify = "left"
    for row in mechanism_rows(system):
        bar = "\N{FULL BLOCK}" * round(row["share"] * _BAR)
        table.add_row(row["mechanism"], joules(row["joules"]), percent(row["share"]), bar)
    return table


def _notes(report: Mapping[str, Any]) -> list[str]:
    rates = [row["rate_median"] for row in report["sites"]]
    over = [
        row for row in report["break_even"] if row["measured_rate"] > row["break_even_rate_shared"]
    ]
    below = [row for row in report["verdicts"] if row["below"]]
    first = report["systems"][0]["key"]
    moved = next(row for row in report["against"] if row["system"] == first)["sensitivity"][:3]
    movers = ", ".join(
        f"{row['assumption'].replace('_', ' ')} {times(row['ratio_at_low'])} to "
        f"{times(row['ratio_at_high'])}"
        for row in moved
    )
    legacy, row = report["legacy"], report["consistency"]
    return [
        f"spike rates per channel and step: {min(rates):.3f} to {max(rates):.3f} over "
        f"{len(rates)} sites (medians over tokens)",
        f"break-even, digital against digital: {len(report['break_even']) - len(over)} of "
        f"{len(report['break_even'])} layers spike less than they may with weights kept over the "
        f"time steps; {len(below)} of {len(report['verdicts'])} published thresholds are met",
        f"what moves the ratio most, each alone over its band: {movers}",
        f"legacy line, not comparable ({legacy['label']}): spiking {joules(legacy['spiking_J'])}, "
        f"ANN twin {joules(legacy['ann_twin_J'])}, context {legacy['context']}",
        f"consistency ({row['what']}): {joules(row['modelled_J_per_token'])} against "
        f"{joules(row['measured_J_per_token'])} measured; {row['label']}",
    ]


def terminal(report: Mapping[str, Any]) -> Group:
    """What is counted, the answer, contexts, mechanisms of the first system, notes; last, what is
    not counted."""
    title, boundary = boundary_rows(report)[0]
    lines: list[RenderableType] = [
        Text(f"counted: {title}, {boundary['counted']}", style="dim"),
        Text(),
        *(Text(line, style="bold" if i == 0 else "") for i, line in enumerate(answer(report))),
        Text(f"quality: {quality_of(report)}"),
        *(
            Text(f"{title} counts {boundary['counted']}", style="dim")
            for title, boundary in boundary_rows(report)[1:]
        ),
        Text(),
        _contexts(report),
    ]
    if any(point["extrapolated"] for point in report["systems"][0]["curve"]):
        trained = report["model"]["trained_context"]
        lines.append(
            Text(
                f"* beyond the {trained} tokens the model was trained with: its spike rates there "
                "are those of its last measured tokens, its quality is not known",
                style="italic",
            )
        )
    lines += [Text(), _mechanisms(report["systems"][0]), Text()]
    lines += [Text(note) for note in (*_notes(report), *report["chip"]["flags"])]
    lines += [Text(), Text(f"not counted: {'; '.join(boundary['excludes'])}", style="dim")]
    return Group(*lines)


def compared(left: Mapping[str, Any], right: Mapping[str, Any], names: tuple[str, str]) -> Group:
    """Two reports, system by system at the contexts they share; what differs is said first."""
    differing = [
        key for key in ("model", "chip", "quality", "batch") if left.get(key) != right.get(key)
    ]
    lines: list[RenderableType] = [
        Text(f"A = {names[0]}: {quality_of(left)}"),
        Text(f"B = {names[1]}: {quality_of(right)}"),
        Text(f"they differ in: {', '.join(differing) or 'nothing but the energies'}"),
        Text(),
    ]
    shared = [context for context in left["contexts"] if context in right["contexts"]]
    others = {system["key"]: system for system in right["systems"]}
    title = f"J per decoded token, batch {left['batch']} and {right['batch']}"
    table = _plain_table(title, ["system", "context", "A", "B", "B / A"])
    for system in left["systems"]:
        if system["key"] not in others:
            continue
        theirs = {p["context"]: p for p in others[system["key"]]["curve"]}
        for point in system["curve"]:
            if point["context"] in shared:
                a = point["decode_J_per_token"]
                b = theirs[point["context"]]["decode_J_per_token"]
                title = system["title"] if system["key"] != "chip" else "memristor chip"
                table.add_row(title, str(point["context"]), joules(a), joules(b), times(b / a))
    if not shared:
        raise ValueError(
            f"{names[0]} and {names[1]} share no context: {left['contexts']}, {right['contexts']}"
        )
    return Group(*lines, table)
