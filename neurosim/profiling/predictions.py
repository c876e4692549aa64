"""Predictions for a GPU that is not here: what was emulated, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from neurosim.profiling import m1
from neurosim.profiling.case import Operation
from neurosim.profiling.session import jobs
from neurosim.profiling.table import amount, duration, print_whole

_MOST_WORK = 2**24  # products of the sizes; the emulator takes minutes beyond


def predictions(
    operations: Sequence[Operation],
    densities: Sequence[float],
    shape: tuple[int, ...] | None,
    chip: m1.Chip,
) -> dict[str, Any]:
    """Predict every operation that has Metal kernels, at a shape the emulator can run.

    Nothing is scaled to another shape: what a larger one reads twice, caches and occupancy decide.

    Raises:
        ValueError: a shape was given that the emulator cannot run in reasonable time, or one
            operation was asked for that has no Metal kernels.
    """
    rows, without = [], []
    for operation in operations:
        if operation.small is None:
            without.append(operation.name)
            continue
        wanted = shape if shape is not None else operation.small
        _check_size(operation, wanted)
        for job in jobs([operation], densities, wanted):
            for name, found in m1.model(operation, job.request, chip).items():
                rows.append(
                    {
                        "operation": operation.name,
                        "candidate": name,
                        "shape": operation.named(wanted),
                        "density": job.request.density if operation.by_density else None,
                        "launches": found.launches,
                        "bytes": found.moved,
                        "issue_cycles": found.cycles,
                        "predicted_us": found.seconds * 1e6,
                        "bound": found.bound,
                    }
                )
    if without and not rows:
        raise ValueError(f"no Metal kernels to predict for {', '.join(without)}")
    return {"chip": chip.name, "label": m1.LABEL, "rows": rows, "without_metal": without}


def _check_size(operation: Operation, shape: tuple[int, ...]) -> None:
    work = 1
    for size in operation.named(shape).values():
        work *= size
    if work > _MOST_WORK:
        small = "x".join(map(str, operation.small or ()))
        raise ValueError(
            f"expected a shape of {operation.name} whose sizes multiply to at most {_MOST_WORK}, "
            f"because every access is emulated, got {'x'.join(map(str, shape))}; the default is "
            f"{small}"
        )


def print_predictions(result: Mapping[str, Any], console: Console) -> None:
    """The table, its label first."""
    console.print(f"{result['chip']}: {result['label']}", highlight=False)
    table = Table(box=None, pad_edge=False)
    columns = ("operation", "shape emulated", "p", "form", "launches", "bytes", "issue cycles",
               "at least", "bound by")  # fmt: skip
    for column in columns:
        left = column in ("operation", "shape emulated", "form", "bound by")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            row["operation"],
            " ".join(f"{letter}={size}" for letter, size in row["shape"].items()),
            "" if row["density"] is None else f"{row['density']:g}",
            row["candidate"],
            str(row["launches"]),
            amount(row["bytes"], "B"),
            amount(row["issue_cycles"]),
            duration(row["predicted_us"] * 1e-6),
            row["bound"],
        )
    print_whole(table, console)
    if result["without_metal"]:
        names = ", ".join(result["without_metal"])
        console.print(f"no Metal kernels: {names}", highlight=False)
