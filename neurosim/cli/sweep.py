"""`neurosim sweep SPEC.toml`: run a sweep, or go on with it; `--table DIR` shows its results."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from neurosim.files import replace_file
from neurosim.sweep.plan import Plan, make_plan
from neurosim.sweep.run import SweepResult, Tally, run_plan
from neurosim.sweep.spec import SweepSpec
from neurosim.sweep.summary import Summary, summarise, to_markdown, to_terminal

_CONNECT_SECONDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("spec", nargs="?", type=Path, metavar="SPEC.toml", help="what to sweep")
    parser.add_argument("--out", type=Path, help="folder of the results (default sweep-NAME)")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes (default 1: this one; 0: one a core)"
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="run on a Dask cluster, tcp://host:port")
    parser.add_argument("--dry-run", action="store_true", help="check the file and count points")
    parser.add_argument("--table", type=Path, metavar="DIR", help="show results that are there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to a file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot into .png, .svg or .pdf")
    parser.add_argument("--x", metavar="KEY", help="chip key along the plot's x axis")
    parser.add_argument("--y", metavar="COLUMN", help="column along the plot's y axis")
    parser.add_argument("--json", action="store_true", help="print JSON only")


def main(options: argparse.Namespace) -> int:
    """Run or show; exit status 1 if a point failed, 130 if interrupted."""
    console, errors = Console(), Console(stderr=True)
    if (options.spec is None) == (options.table is None):
        raise ValueError("expected SPEC.toml to run a sweep, or --table DIR to show one")
    if options.table is not None:
        _show(summarise(options.table), options, console, {"folder": str(options.table)})
        return 0
    if options.workers < 0:
        raise ValueError(f"expected --workers >= 0, got {options.workers}")
    if options.dask and options.workers != 1:
        raise ValueError("expected --workers or --dask, got both; choose one")
    with errors.status("checking the sweep") if errors.is_terminal else _nothing():
        plan = make_plan(SweepSpec.load(options.spec), str(options.spec))
    folder = options.out or Path(f"sweep-{plan.spec.name}")
    if options.dry_run:
        _dry_run(plan, folder, options, console)
        return 0
    try:
        result = _run(plan, folder, options, errors)
    except KeyboardInterrupt:
        print(
            f"neurosim sweep: interrupted; {summarise(folder).done} of {len(plan.axes)} points "
            f"are in {folder}, the same command goes on",
            file=sys.stderr,
        )
        return 130
    tally = result.tally
    data = {
        "folder": str(folder),
        "finished": tally.finished,
        "failed": tally.failed,
        "found": tally.skipped,
        "seconds": tally.seconds,
        "simulated": {"amount": tally.amount, "unit": tally.unit, "per_second": tally.per_second},
    }
    _show(summarise(folder), options, console, data)
    if not options.json:
        console.print(Text(_closing(tally, folder)))
    return 1 if tally.failed else 0


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _run(plan: Plan, folder: Path, options: argparse.Namespace, errors: Console) -> SweepResult:
    """The sweep with its progress on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[note]}"),
    )
    quiet = options.json or not errors.is_terminal
    workers = options.workers or os.cpu_count() or 1
    with (
        _dask(options.dask) as client,
        Progress(*columns, console=errors, transient=True, disable=quiet) as progress,
    ):
        bar = progress.add_task(plan.spec.name, total=None, note="")

        def show(tally: Tally) -> None:
            note = tally.speed if tally.amount else ""
            if tally.failed:
                note += f", {tally.failed} failed"
            progress.update(bar, total=tally.total, completed=tally.done, note=note)

        return run_plan(plan, folder, workers, client, show)


@contextmanager
def _dask(address: str | None) -> Iterator[Any]:
    """A client of an existing cluster; None without an address."""
    if address is None:
        yield None
        return
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise ValueError(
            "--dask needs the package distributed: pip install 'neurosim-memristor[dask]'"
        ) from error
    try:
        client = distributed.Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--dask: no Dask scheduler answers at {address} ({error}); start one with "
            "`dask scheduler` and `dask worker ADDRESS`"
        ) from error
    with client:
        if not client.nthreads():
            raise ValueError(f"--dask: {address} has no workers; start `dask worker {address}`")
        yield client


def _dry_run(plan: Plan, folder: Path, options: argparse.Namespace, console: Console) -> None:
    amount = sum(task.amount for task in plan.tasks.values())
    models = [subject.name for subject in plan.subjects]
    data = {
        "name": plan.spec.name,
        "folder": str(folder),
        "points": len(plan.axes),
        "distinct_points": len(plan.tasks),
        "simulated": {"amount": amount, "unit": plan.unit},
        "models": models,
        "chips": list(plan.spec.chips),
        "seeds": len(plan.spec.seeds),
        "keys": dict(plan.keys),
    }
    if options.json:
        print(json.dumps(data, indent=1))
        return
    same = len(plan.axes) - len(plan.tasks)
    lines = [
        f"{plan.spec.name}: {len(plan.axes)} points"
        + (f", {same} of them equal to another and not run twice" if same else ""),
        f"models {', '.join(models)}; chips {', '.join(plan.spec.chips) or 'none'}; "
        f"{len(plan.spec.seeds)} seeds; keys {', '.join(plan.keys) or 'none'}",
        f"{amount:,.10g} {plan.unit} to simulate; results would go to {folder}",
    ]
    for line in lines:
        console.print(Text(line))


def _show(
    summary: Summary, options: argparse.Namespace, console: Console, data: dict[str, Any]
) -> None:
    """The summary on stdout, and the files that were asked for."""
    written = []
    if options.markdown:
        replace_file(options.markdown, to_markdown(summary).encode())
        written.append(options.markdown)
    if options.plot:
        from neurosim.sweep.figure import plot  # half a second of matplotlib

        plot(summary, options.plot, options.x, options.y)
        written.append(options.plot)
    if options.json:
        print(json.dumps(data | summary.to_dict(), indent=1))
        return
    done = f"{summary.name}: {summary.done} of {summary.points} points"
    console.print(Text(done + (f", {summary.failed} failed" if summary.failed else "")))
    console.print(to_terminal(summary))
    if summary.groups:
        console.print(Text("medians over seeds; in brackets the 10th and 90th percentile"))
    for error in dict.fromkeys(group.error for group in summary.groups if group.error):
        console.print(Text(f"failed: {error}"))
    for flag in summary.flags:
        console.print(Text(flag))
    for path in written:
        console.print(Text(f"wrote {path}"))


def _closing(tally: Tally, folder: Path) -> str:
    parts = [f"{tally.finished} points finished"]
    if tally.failed:
        parts.append(f"{tally.failed} failed (tried again by the next run)")
    if tally.skipped:
        parts.append(f"{tally.skipped} were there")
    return f"{', '.join(parts)}; {tally.seconds:.1f} s, {tally.speed}; results in {folder}"
