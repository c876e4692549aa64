"""`neurosim simulate`: a network of populations in time, from NIR, an example or your own code."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from neurosim.cli._simulate_network import EXAMPLES, Subject, subject
from neurosim.cli._simulate_report import report, show
from neurosim.events.recording import Recording
from neurosim.events.simulate import Options, simulate
from neurosim.populations import PoissonSource, Population, SpikeSource, SpikingNetwork


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("file", nargs="?", metavar="FILE.nir", help="a network in NIR")
    parser.add_argument(
        "--example", metavar="NAME", help=f"{', '.join(EXAMPLES)}, or MODULE:FUNCTION of your own"
    )
    parser.add_argument("--size", type=int, help="neurons of an example (default: its own)")
    parser.add_argument("--duration-ms", type=float, default=1000.0, help="default %(default)g")
    parser.add_argument("--engine", default="auto", help="auto, or one of those it then lists")
    parser.add_argument("--step-ms", type=float, help="of clock-driven engines (default 0.1)")
    parser.add_argument("--precision", default="float64", help="float64 or float32")
    parser.add_argument("--threads", type=int, default=1, help="default 1; same result for any")
    parser.add_argument("--seed", type=int, default=0, help="connections, noise, devices")
    parser.add_argument(
        "--nir-step-ms",
        type=float,
        help="read NIR as a training framework steps it, with this step; also sets --step-ms",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE[:LAYER]",
        help="spikes of an input: .parquet, .csv or .npz with time_s and neuron",
    )
    parser.add_argument("--rate", type=float, metavar="HZ", help="Poisson trains at all inputs")
    parser.add_argument(
        "--trace",
        action="append",
        default=[],
        metavar="POPULATION:0,1,2",
        help="record membrane voltages",
    )
    parser.add_argument("--trace-step-ms", type=float, help="default: --step-ms")
    parser.add_argument("--checkpoint", type=Path, help="save the state here, and go on from it")
    parser.add_argument("--out", type=Path, help="folder for events, raster, traces, report.json")
    parser.add_argument("--export-nir", type=Path, metavar="FILE", help="write the network as NIR")
    parser.add_argument("--export-sanafe", type=Path, metavar="DIR", help="write it for SANA-FE")
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        help="what --export-nir may lose: initial, refractory_period, drives",
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")


def _traces(texts: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for text in texts:
        name, _, numbers = text.rpartition(":")
        try:
            found.setdefault(name, []).extend(int(part) for part in numbers.split(","))
        except ValueError as error:
            raise ValueError(f"--trace {text}: expected POPULATION:0,1,2") from error
    return found


def _settings(options: argparse.Namespace, chosen: Subject) -> Options:
    for name in ("step_ms", "nir_step_ms", "trace_step_ms"):
        value = getattr(options, name)
        if value is not None and not 0.0 < value < math.inf:
            raise ValueError(f"expected --{name.replace('_', '-')} > 0 ms, got {value:g}")
    step_ms = options.step_ms or options.nir_step_ms or 0.1
    if options.nir_step_ms is not None and step_ms != options.nir_step_ms:
        raise ValueError(
            f"--step-ms {step_ms:g} and --nir-step-ms {options.nir_step_ms:g}: a network read on a "
            "clock runs on that clock; leave out --step-ms"
        )
    traces = _traces(options.trace)
    for name, neurons in traces.items():
        size = chosen.network[name].size
        if not all(0 <= neuron < size for neuron in neurons):
            raise ValueError(f"--trace {name}: expected neurons 0..{size - 1}, got {neurons}")
    return Options(
        time_step=step_ms * 1e-3,
        precision=options.precision,
        seed=options.seed,
        threads=options.threads,
        trace=traces,
        trace_step=(options.trace_step_ms or step_ms) * 1e-3,
    )


def _export_nir(options: argparse.Namespace, chosen: Subject) -> list[str]:
    """Write the network as NIR if asked to; lines about it."""
    if options.export_nir is None:
        return []
    from neurosim.io.nir import write_nir

    step = None if options.nir_step_ms is None else options.nir_step_ms * 1e-3
    notes = write_nir(chosen.network, options.export_nir, time_step=step, drop=options.drop)
    return [f"wrote {options.export_nir}", *(f"note: {note}" for note in notes)]


def _with_given_spikes(network: SpikingNetwork, recording: Recording | None) -> SpikingNetwork:
    """Noise as the spikes it was in the recording; silent without one."""
    none = np.zeros(0), np.zeros(0, np.int64)
    populations = tuple(
        Population(p.name, p.size, SpikeSource(*(recording.spikes(p.name) if recording else none)))
        if isinstance(p.model, PoissonSource)
        else p
        for p in network
    )
    return replace(network, populations=populations)


def _export_sanafe(options: argparse.Namespace, recording: Recording, step: float) -> list[str]:
    """Write the network for SANA-FE if asked to, with the noise that was; lines about it."""
    if options.export_sanafe is None:
        return []
    from neurosim.io import sanafe

    made = sanafe.export(
        _with_given_spikes(recording.network, recording),
        options.export_sanafe,
        time_step=step,
        duration=recording.duration,
    )
    lines = [f"wrote {made.architecture} and {made.network} ({made.steps} steps)"]
    return [*lines, *(f"note: {note}" for note in made.notes)]


def main(options: argparse.Namespace) -> int:
    """Build, simulate, print and write; exit status 130 when interrupted."""
    console, errors = Console(), Console(stderr=True)
    if options.out and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"expected a folder for --out, got the file {options.out}")
    chosen = subject(options)
    settings = _settings(options, chosen)
    engine = options.engine
    if engine == "auto" and options.nir_step_ms is not None:
        engine = "steps"  # equal to the framework on its clock only
    if options.export_sanafe is not None:  # before the simulation, not after it
        from neurosim.io import sanafe

        sanafe.check(_with_given_spikes(chosen.network, None), settings.time_step)
    duration = options.duration_ms * 1e-3
    resumed = options.checkpoint is not None and options.checkpoint.exists()
    before = time.process_time()
    simulate(chosen.network, min(duration, 2.0 * settings.time_step), engine=engine,
             options=settings)  # fmt: skip
    warm = time.process_time()
    lines = _export_nir(options, chosen)  # now that every option is known to be good
    recording = simulate(
        chosen.network,
        duration,
        engine=engine,
        options=settings,
        progress=errors.is_terminal and not options.json,
        checkpoint=options.checkpoint,
    )
    cpu = {"warm_up": warm - before, "run": time.process_time() - warm}
    clocked = options.nir_step_ms is not None
    data = report(chosen, recording, settings, options.engine, cpu, clocked, resumed)
    written = []
    if options.out is not None:
        from neurosim.cli import _simulate_files  # matplotlib and pyarrow take a second

        written = _simulate_files.write(data, recording, settings, options.out)
    if options.json:
        print(json.dumps(data, indent=1))
    else:
        show(data, console)
        for line in [*lines, *(f"wrote {path}" for path in written)]:
            console.print(Text(line), soft_wrap=True)
    for line in _export_sanafe(options, recording, settings.time_step):
        if not options.json:
            console.print(Text(line), soft_wrap=True)
    if recording.interrupted:
        where = f"go on with the same command ({options.checkpoint})" if options.checkpoint else (
            "give --checkpoint FILE to be able to go on"
        )  # fmt: skip
        errors.print(Text(f"interrupted at {recording.duration * 1e3:g} ms; {where}"))
        return 130
    return 0
