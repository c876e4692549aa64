"""`neurosim run`: text on the simulated chip, and what a token costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from neurosim.chip import load_chip, parse_values, with_values
from neurosim.cli._chip_options import add_chips, add_set
from neurosim.cli._model_options import (
    add_model_options,
    add_sampling,
    load_with_progress,
    refuse_model_options,
    sampler,
)
from neurosim.converted import run_converted
from neurosim.digital_unit import DRIVES
from neurosim.energy.table import terminal
from neurosim.energy.units import with_unit
from neurosim.files import replace_file
from neurosim.models.checkpoint import DEFAULT
from neurosim.models.generation import GenerationResponse
from neurosim.models.loading import LoadedBrainGPT, is_braingpt
from neurosim.models.sampling import Sampler
from neurosim.pipeline import DEFAULT_CHIP, DEFAULT_PROMPT, RunReport, run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--model", default=str(DEFAULT), help="model folder (default: shipped)")
    parser.add_argument("--prompt", default=DEFAULT_PROMPT, help="text to continue")
    parser.add_argument(
        "--tokens", type=int, default=32, help="to generate (default 32; of a BrainGPT at least 2)"
    )
    parser.add_argument(
        "--chip", help=f"a shipped chip or a .toml (default {DEFAULT_CHIP}; BrainGPT: none)"
    )
    add_set(parser)
    add_chips(parser)
    parser.add_argument("--seed", type=int, default=0, help="devices, noise and sampling")
    add_sampling(parser, Sampler.temperature, Sampler.top_k)
    parser.add_argument(
        "--check", action="store_true", help="compare every spike with the model's forward pass"
    )
    parser.add_argument("--no-quality", action="store_true", help="skip bits per byte on the chip")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="folder for report.json, events, trace and plots")
    parser.add_argument(
        "--drive",
        choices=DRIVES,
        default=DRIVES[0],
        help="of a BrainGPT's word lines on a chip (default %(default)s)",
    )
    add_model_options(parser)


def run_options(options: argparse.Namespace, progress: Progress) -> RunReport:
    """The job with its progress on stderr."""
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total)
        progress.update(tasks[stage], completed=done)

    return run(
        options.prompt,
        options.model,
        with_values(load_chip(options.chip or DEFAULT_CHIP), parse_values(options.set)),
        options.tokens,
        options.seed,
        Sampler(options.temperature, options.top_k, top_p=options.top_p),
        options.check,
        not options.no_quality,
        show,
        options.chips,
        record_times=options.out is not None,
    )


def _write(report: RunReport, folder: Path) -> list[Path]:
    """Everything there is to look at; see docs/chip.md, "Seeing a run"."""
    from neurosim.energy import plots  # takes half a second to import: matplotlib
    from neurosim.viewing.folder import write_views

    written = [folder / "report.json"]
    replace_file(written[0], (json.dumps(report.to_dict(), indent=1) + "\n").encode())
    data = report.to_dict()
    chip = data["chip"]
    note = "; ".join([f"chip {chip['name']}, evidence {chip['evidence']}", *chip["flags"]])
    written += plots.save(plots.energy_by_mechanism(data["energy"], note), folder / "energy")
    raster = plots.spike_raster(report.spikes, -1, report.network.layer, note)
    written += plots.save(raster, folder / "spikes")
    return written + write_views(report.result, report.simulator, report.words, folder, note)


def _check_line(check: dict[str, int], exact: bool) -> str:
    line = (
        f"check: {check['mismatches']} of {check['spikes_compared']} spike counts at "
        f"{check['sites']} sites differ from the model's own (integer) forward pass"
    )
    return line if exact or not check["mismatches"] else f"{line} (what this chip changes)"


def _calibration_line(found: dict[str, Any]) -> str:
    left = f", {found['skipped']} could not be trimmed" if found["skipped"] else ""
    return (
        f"calibration: {found['neurons']} neurons measured in {found['windows']} windows "
        f"({found['seconds'] * 1e3:.3g} ms, {found['joules'] * 1e6:.3g} µJ, not in the energy "
        f"below){left}"
    )


def _quality_line(quality: dict[str, Any]) -> str:
    line = f"quality: {quality['ideal_bits_per_byte']:.3f} bits per byte ideal"
    seeds = quality["chip_bits_per_byte"]
    if seeds:
        parts = ", ".join(f"{value:.3f} (seed {seed})" for seed, value in seeds.items())
        line += f"; on this chip {parts}"
    return f"{line}; {quality['tokens']} tokens, {quality['text']}"


def _time_line(data: dict[str, Any]) -> str:
    """Simulated time of a generated token, and how busy the mesh was."""
    traffic = data["traffic"]["decode"]
    tokens, links, spikes = traffic["token_seconds"], traffic["links"], traffic["spikes"]
    return (
        f"a token takes {sum(tokens) / len(tokens) * 1e3:.4g} ms; packets "
        f"{with_unit(spikes['median_s'], 's')} (median), {with_unit(spikes['longest_s'], 's')} "
        f"(longest), {spikes['congestion']:.1%} of it "
        f"waiting, {traffic['late']} late and {traffic['late_packets_are']}, "
        f"{traffic['dropped']} dropped; busiest link {links['highest_utilisation']:.2%} of the time"
    )


def _print(report: RunReport, console: Console) -> None:
    data = report.to_dict()
    console.print(Text(data["text"]), style="bold", highlight=False)
    console.print()
    model, chip = data["model"], data["chip"]
    width, height = chip["mesh"]
    spread = f" of {chip['chips']} chips" if chip["chips"] > 1 else ""
    lines = [
        f"{model['name']} ({model['parameters'] / 1e6:.2f} M parameters, sha256 "
        f"{model['sha256'][:12]}) on {chip['name']}",
        f"{chip['tiles']} tiles on a {width} x {height} mesh{spread}, "
        f"{chip['windows_per_token']} windows a token, seed {data['seed']}",
        f"{data['spikes']['total']} spikes, {data['spikes']['rate']:.3f} per neuron and window; "
        f"{data['counts']['synaptic_operations']} synaptic operations, "
        f"{data['counts']['multiplies']} multiplications",
    ]
    if "traffic" in data:
        lines.append(_time_line(data))
    if "calibration" in data:
        lines.append(_calibration_line(data["calibration"]))
    if "quality" in data:
        lines.append(_quality_line(data["quality"]))
    if "check" in data:
        lines.append(_check_line(data["check"], chip["exact"]))
    for line in lines:
        console.print(Text(line))
    console.print()
    console.print(terminal(data))


def _converted(options: argparse.Namespace, console: Console) -> int:
    """Text from a BrainGPT, Qwen2 or Llama folder, its spikes and a token's energy."""
    chip = None
    if options.chips != 1:
        raise ValueError("--chips is for the spiking transformer; a BrainGPT takes one chip")
    if options.chip:
        chip = with_values(load_chip(options.chip), parse_values(options.set))
    elif options.set or options.check:
        raise ValueError("--set and --check need --chip NAME with a BrainGPT, which has no default")
    loaded = load_with_progress(options)
    assert isinstance(loaded, LoadedBrainGPT)
    begun = False

    def show(response: GenerationResponse) -> None:
        nonlocal begun
        if not options.json:  # the prompt only once nothing can be refused any more
            print(response.text if begun else options.prompt + response.text, end="", flush=True)
        begun = True

    report = run_converted(
        loaded,
        options.prompt,
        options.tokens,
        sampler(options),
        options.seed,
        chip=chip,
        drive=options.drive,
        check=options.check,
        chips=options.chips,
        show=show,
    )
    if options.out:
        text = json.dumps(report.to_dict(), indent=1) + "\n"
        replace_file(options.out / "report.json", text.encode())
    if options.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        console.print("\n")
        console.print(report)
        if options.out:
            console.print(Text(f"wrote {options.out / 'report.json'}"))
    wrong = chip is not None and chip.computes_exactly and options.check
    return 1 if wrong and report.data["chip"]["check"]["differences"] else 0


def main(options: argparse.Namespace) -> int:
    """Run, print and write; exit status 1 if an exact chip differs from the software."""
    console, errors = Console(), Console(stderr=True)
    if options.out and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"expected a folder for --out, got the file {options.out}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    if is_braingpt(options.model):
        return _converted(options, console)
    refuse_model_options(options)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    quiet = options.json or not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        report = run_options(options, progress)
    data = report.to_dict()
    written = _write(report, options.out) if options.out else []
    if options.json:
        print(json.dumps(data, indent=1))
    else:
        _print(report, console)
        for path in written:
            console.print(Text(f"wrote {path}"))
    wrong = data["chip"]["exact"] and data.get("check", {}).get("mismatches")
    return 1 if wrong else 0
