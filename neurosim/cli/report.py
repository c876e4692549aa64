"""`neurosim report`: what a token costs, on several systems and beside fair baselines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from neurosim.chip import load_chip, parse_values, with_values
from neurosim.cli._chip_options import add_set
from neurosim.files import replace_file
from neurosim.models.checkpoint import DEFAULT, TWIN
from neurosim.reporting.study import CONTEXTS, FORMAT, SYSTEMS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument(
        "saved",
        nargs="*",
        type=Path,
        metavar="REPORT.json",
        help="show a saved report (or run), or compare two; without it a new one is made",
    )
    parser.add_argument("--model", default=str(DEFAULT), help="model folder (default: shipped)")
    parser.add_argument("--twin", default=str(TWIN), help="the ANN twin's folder")
    parser.add_argument("--chip", default="ag_v2c_w", help="ideal, ag_v2c_w or a .toml")
    add_set(parser)
    parser.add_argument(
        "--contexts",
        default=",".join(map(str, CONTEXTS)),
        help="context lengths (default %(default)s)",
    )
    parser.add_argument(
        "--systems",
        default="chip,loihi1,digital_45nm",
        help=f"out of {', '.join(SYSTEMS)} (default %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="chips to draw (default 0 1 2)"
    )
    parser.add_argument("--batch", type=int, default=1, help="texts decoded at once (default 1)")
    parser.add_argument("--html", type=Path, help="write one self-contained page")
    parser.add_argument("--json", type=Path, help="write every number, to be shown again later")
    parser.add_argument("--csv", type=Path, metavar="DIR", help="write the tables as CSV files")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also measure the host's energy (RAPL or zeus-apple-silicon), three minutes",
    )


def _contexts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(
            f"--contexts: expected numbers such as 1,128,1024, got {text!r}"
        ) from error


def read_saved(path: Path) -> dict[str, Any]:
    """A saved JSON file; ValueError names the file and what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a report: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a report, got a {type(data).__name__}")
    return data


def _new(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run the study with its progress on stderr."""
    from neurosim.reporting import study

    if options.measure:
        from neurosim.energy.measured import find_sensor

        find_sensor()  # a missing sensor is told before the work, not after it
    chip = load_chip(options.chip)
    if options.set:
        chip = with_values(chip, parse_values(options.set))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[str, Any] = {}
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        report = study(
            options.model,
            chip,
            _contexts(options.contexts),
            [part.strip() for part in options.systems.split(",") if part.strip()],
            options.twin,
            options.seeds,
            options.batch,
            show,
        )
    if options.measure:
        from neurosim.reporting.host import measure_host

        report["measured"] = measure_host(options.model, chip)
    return report


def _write(report: Mapping[str, Any], options: argparse.Namespace, console: Console) -> None:
    written = []
    if options.json:
        replace_file(options.json, (json.dumps(report, indent=1) + "\n").encode())
        written.append(options.json)
    if options.html:
        from neurosim.reporting.page import page

        replace_file(options.html, page(report).encode())
        written.append(options.html)
    if options.csv:
        from neurosim.reporting.tables import write_csv

        written += write_csv(report, options.csv)
    for path in written:
        console.print(f"wrote {path}", highlight=False)


def main(options: argparse.Namespace) -> int:
    """Make, show, compare, write."""
    from neurosim.reporting.check import check_report
    from neurosim.reporting.terminal import compared, terminal

    out, errors = Console(), Console(stderr=True)
    if len(options.saved) > 2:
        raise ValueError(f"expected one or two saved reports, got {len(options.saved)}")
    if len(options.saved) == 2:
        left, right = (read_saved(path) for path in options.saved)
        for report, path in zip((left, right), options.saved, strict=True):
            check_report(report, str(path))
        out.print(compared(left, right, (str(options.saved[0]), str(options.saved[1]))))
        return 0
    if options.saved:
        report = read_saved(options.saved[0])
        if "energy" in report and report.get("format") != FORMAT:  # of neurosim run --out
            from neurosim.energy.table import terminal as run_terminal

            if "quality" not in report:
                raise ValueError(
                    f"{options.saved[0]}: a run without a quality number (--no-quality); an "
                    "energy without quality is not shown"
                )
            out.print(run_terminal(report))
            return 0
    else:
        report = _new(options, errors)
    check_report(report, str(options.saved[0]) if options.saved else "report")
    out.print(terminal(report))
    _write(report, options, errors)
    return 0
