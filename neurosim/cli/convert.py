"""`neurosim convert SOURCE OUT`: a Qwen2, Llama, BrainGPT or GGUF model made into a BrainGPT."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.memory import estimate_memory, stored_bytes
from neurosim.models.text.weights import WEIGHTS, fetch_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a Qwen2, Qwen2.5, Llama or BrainGPT folder, a GGUF file, or a name that is fetched: "
        + ", ".join(WEIGHTS),
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the converted model")
    parser.add_argument("--to", choices=["braingpt"], default="braingpt", help="architecture made")
    parser.add_argument(
        "--bits",
        type=int,
        choices=range(2, 9),
        help="of the spike counts (default those of a BrainGPT source, else 8)",
    )
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=[32, 16, 8, 4],
        help="of the weights: float32, bfloat16, integers (default 8)",
    )
    parser.add_argument(
        "--staircase",
        type=Path,
        metavar="FILE",
        help="SiLU staircase (silu.* of an approximators.safetensors) for every layer",
    )
    parser.add_argument(
        "--even",
        action="store_true",
        help="even out the channels first: the same ANN, much less lost to few spikes, but about "
        "four times as many of them; needs the model in memory (float32, four times), a tokenizer "
        "and the vital summaries (fetched); see docs/braingpt.md",
    )
    parser.add_argument("--force", action="store_true", help="replace a model that is at OUT")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _peak_bytes() -> int:
    """Most memory this process has had at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(options: argparse.Namespace) -> int:
    """Fetch if asked to, convert, report."""
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)  # so that the unfinished folder is removed
    source = options.source
    if source in WEIGHTS and not Path(source).exists():
        with console.status(f"fetching {WEIGHTS[source].title}"):
            source = fetch_weights(WEIGHTS[source])
    notes: list[str] = []
    start = time.perf_counter()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("weights", total=None)

        def advance(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        given = (options.bits, options.weight_bits, options.staircase, options.force)
        if options.even:
            from neurosim.models.braingpt.even import convert_even  # MLX and its optimisers

            folder = convert_even(source, options.out, *given, advance, notes.append, console.print)
        else:
            folder = convert(source, options.out, *given, advance, notes.append)
    report = _report(folder, time.perf_counter() - start, notes)
    if options.json:
        print(json.dumps(report))
        return 0
    for note in notes:
        console.print(f"warning: {note}", style="yellow", markup=False, highlight=False)
    for line in _lines(report):
        print(line)
    return 0


def _report(folder: Path, seconds: float, notes: list[str]) -> dict[str, Any]:
    config = BrainGPTConfig.from_dict(json.loads((folder / "config.json").read_text("utf-8")))
    return {
        "folder": str(folder),
        "architecture": config.source["architecture"],
        "parameters": config.parameters,
        "layers": config.num_hidden_layers,
        "bits": config.bits,
        "weight_bits": config.weight_bits,
        "weight_bytes": stored_bytes(config),
        "estimated_memory_bytes": estimate_memory(config),
        "tokenizer": (folder / "tokenizer.json").is_file(),
        "stop_ids": list(config.stop_ids),
        "seconds": round(seconds, 2),
        "peak_memory_bytes": _peak_bytes(),
        "warnings": notes,
    }


def _lines(report: dict[str, Any]) -> list[str]:
    weights = report["weight_bytes"]
    each = 8 * weights / report["parameters"]
    return [
        f"{report['folder']}: BrainGPT of {report['parameters']:,} parameters, "
        f"{report['layers']} layers, {report['bits']}-bit spike counts",
        f"weights    {_size(weights)} ({each:.2f} bits each); about "
        f"{_size(report['estimated_memory_bytes'])} of memory to run",
        f"took       {report['seconds']:.1f} s, at most {_size(report['peak_memory_bytes'])} of "
        "memory",
    ]


def _size(count: int) -> str:
    """Bytes as 35.1 kB, 135.2 MB or 3.1 GB."""
    power, unit = next(
        ((power, unit) for power, unit in ((3, "GB"), (2, "MB")) if count >= 1000**power),
        (1, "kB"),
    )
    return f"{count / 1000.0**power:.1f} {unit}"
