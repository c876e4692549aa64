"""`neurosim profile`: what the spike kernels cost, beside the best dense forms."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from neurosim.profiling.environment import fixed_threads, header, restart

if TYPE_CHECKING:  # importing them loads numpy, whose thread count must be fixed first
    from neurosim.profiling.analysis import Measured
    from neurosim.profiling.case import Operation
    from neurosim.profiling.session import Job

_SHORT_DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.365, 0.5)


_FEW_DENSITIES = (0.05, 0.2, 0.5)  # of all operations in a short run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("operations", nargs="*", metavar="OP", help="default: all; see --list")
    parser.add_argument("--list", action="store_true", help="list the operations")
    parser.add_argument(
        "--density", help="shares of spiking neurons, e.g. 0.05,0.2 (default: six from 0.02 to 0.5)"
    )
    parser.add_argument("--shape", help="of one operation, e.g. 1024x512x512 (rows x I x O)")
    parser.add_argument("--backend", default="auto", help="auto, cpu, reference or metal")
    parser.add_argument("--algo", help="of spike_linear, e.g. auto,gather,lut (default auto)")
    parser.add_argument("--threads", type=int, default=1, help="of BLAS and kernels (default 1)")
    parser.add_argument("--thorough", action="store_true", help="15 longer samples instead of 7")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="JSON to stdout, or into FILE"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help=".png, .svg or .pdf")
    parser.add_argument(
        "--model", metavar="CHIP", help="m1: predict Metal's time from emulated counts; no Mac"
    )
    parser.add_argument("--capture", type=Path, metavar="FILE.gputrace", help="on a Mac only")
    parser.add_argument("--energy", action="store_true", help="joules per call; on a Mac only")


def main(options: argparse.Namespace) -> int:
    """Fix the threads, measure or predict, and print."""
    if options.threads < 1:
        raise ValueError(f"expected --threads >= 1, got {options.threads}")
    _fix_threads(options.threads)
    chosen = _operations(options.operations)
    if options.list:
        for operation in chosen:
            shape = "x".join(f"{a}={b}" for a, b in operation.named(operation.shape).items())
            print(f"{operation.name:22s} {operation.text} ({shape})")
        return 0
    if options.model is not None:
        return _predict(options, chosen)
    return _measure(options, chosen)


def _fix_threads(threads: int) -> None:
    """Start again with the thread count in the environment, where BLAS reads it."""
    if fixed_threads(threads):
        return
    started = Path(sys.argv[0])
    ours = Path(__file__).resolve().parents[1] / "__main__.py"
    if started.name != "neurosim" and started.resolve() != ours:  # some other program
        raise ValueError(
            f"expected {threads} thread(s) set in the environment before numpy is imported: "
            "OPENBLAS_NUM_THREADS, OMP_NUM_THREADS, MKL_NUM_THREADS and NUMBA_NUM_THREADS"
        )
    restart([sys.executable, *sys.orig_argv[1:]], threads)


def _operations(names: list[str]) -> list[Operation]:
    from neurosim.profiling.operations import OPERATIONS

    unknown = [name for name in names if name not in OPERATIONS]
    if unknown:
        raise ValueError(
            f"unknown operation {', '.join(unknown)}; choose from {', '.join(OPERATIONS)}"
        )
    return [OPERATIONS[name] for name in dict.fromkeys(names)] or list(OPERATIONS.values())


def _densities(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if text is None:
        return default
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError as error:
        raise ValueError(f"expected densities like 0.05,0.2, got {text!r}") from error


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ValueError(f"expected a shape like 1024x512x512, got {text!r}") from error


def _jobs(options: argparse.Namespace, chosen: list[Operation]) -> list[Job]:
    from neurosim.profiling.session import DENSITIES, jobs

    if options.backend.startswith("metal-"):
        raise ValueError(
            f"the time of backend {options.backend} is the emulator's and says nothing; "
            "--model m1 predicts Metal's from its counts"
        )
    some = options.operations or options.thorough
    densities = _densities(options.density, DENSITIES if some else _FEW_DENSITIES)
    algos = tuple(dict.fromkeys((options.algo or "auto").split(",")))
    shape = _shape(options.shape)
    return jobs(chosen, densities, shape, options.backend, options.threads, algos)


def _progress(console: Console, quiet: bool) -> Progress:
    """Drawn when told to only: a refreshing thread would count as CPU time."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    return Progress(
        *columns, console=console, transient=True, auto_refresh=False,
        disable=quiet or not console.is_terminal,
    )  # fmt: skip


def _measure(options: argparse.Namespace, chosen: list[Operation]) -> int:
    from neurosim.kernels import fast_blas
    from neurosim.profiling import mac, plot, roofline, table, timing
    from neurosim.profiling.analysis import break_evens
    from neurosim.profiling.session import by_wall_clock, measured

    wanted = _jobs(options, chosen)
    if options.plot is not None:
        plot.check_suffix(options.plot)
        if not any(operation.by_density for operation in chosen):
            raise ValueError("expected an operation whose time depends on density for --plot")
    if options.json not in (None, "-") and not Path(options.json).resolve().parent.is_dir():
        raise ValueError(f"expected an existing folder for the JSON, got {options.json}")
    if options.capture is not None:
        mac.check_capture(options.capture)
    source = mac.energy_source() if options.energy else None
    clock = "wall time" if by_wall_clock(options.threads) else "process CPU time"
    head = header(fast_blas.enable(), options.threads, clock)
    console, errors = table.wide_console(), Console(stderr=True)
    found: list[Measured] = []
    recording = nullcontext() if options.capture is None else mac.capture(options.capture)
    with _progress(errors, options.json == "-") as progress:
        task = progress.add_task("roofline", total=len(wanted))
        progress.refresh()
        limits = roofline.measure()

        def show(text: str, done: int, total: int) -> None:
            progress.update(task, description=text, completed=done, refresh=True)

        effort = timing.LONG if options.thorough else timing.SHORT
        with recording:
            for one in measured(wanted, effort, show):
                found.append(one)
    result: dict[str, Any] = {
        "header": head,
        "roofline": limits.to_dict(),
        "rows": [row for one in found for row in one.rows(limits)],
        "break_even": break_evens(found),
    }
    if source is not None:
        result["energy"] = _energies(found, source)
    if options.json is not None:
        _write(result, options.json)
    if options.json != "-":
        table.print_head(head, limits, console)
        texts = {operation.name: operation.text for operation in chosen}
        table.print_measured(found, limits, console, texts)
        table.print_energy(result.get("energy", []), console)
    if options.plot is not None:
        machine = head["machine"]
        load = f"load {machine['load']:.2f}"
        plot.save(found, options.plot, f"{machine['cpu']}, {options.threads} thread(s), {load}")
    return 0


def _energies(found: list[Measured], source: str) -> list[dict[str, Any]]:
    """Measured J per call of each of our candidates."""
    from neurosim.profiling import mac

    return [
        {
            "operation": one.case.operation,
            "shape": dict(one.case.shape),
            "density": one.case.density,
            "candidate": name,
            "source": source,
            **mac.energy(candidate.run, source),
        }
        for one in found
        for name, candidate in one.case.of("ours").items()
    ]


def _predict(options: argparse.Namespace, chosen: list[Operation]) -> int:
    from neurosim.profiling import m1
    from neurosim.profiling.predictions import predictions, print_predictions
    from neurosim.profiling.table import wide_console

    if options.model not in m1.CHIPS:
        raise ValueError(f"unknown chip {options.model}; choose from {', '.join(m1.CHIPS)}")
    for name in ("plot", "capture"):
        if getattr(options, name) is not None:
            raise ValueError(f"--model predicts, it measures nothing: leave out --{name}")
    densities = _densities(options.density, (0.05, 0.2))
    chip = m1.CHIPS[options.model]
    errors = Console(stderr=True)
    with errors.status("emulating"):
        result = predictions(chosen, densities, _shape(options.shape), chip)
    if options.json is not None:
        _write(result, options.json)
    if options.json != "-":
        print_predictions(result, wide_console())
    return 0


def _write(result: dict[str, Any], target: str) -> None:
    text = json.dumps(result, indent=1)
    if target == "-":
        print(text)
    else:
        Path(target).write_text(text + "\n")
