"""`neurosim eval`: held-out bits per byte, in software and, if asked, on a chip."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from neurosim.chip import ChipDescription, load_chip, parse_values, with_values
from neurosim.cli._chip_options import add_chips, add_set
from neurosim.cli._model_options import add_model_options, load_with_progress
from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, TWIN, LoadedModel, load
from neurosim.models.held_out import (
    TEST_SOURCE,
    compare_held_out,
    held_out,
    held_out_tokens,
    quality,
    test_stream,
)
from neurosim.models.loading import LoadedBrainGPT, is_braingpt
from neurosim.pipeline import chip_bits_per_byte, spiking


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--model", default=str(DEFAULT), help="model folder (default: shipped)")
    parser.add_argument("--twin", default=str(TWIN), help="the ANN twin's folder")
    parser.add_argument(
        "--chip", help="also on this chip: a shipped one (ideal, ag_v2c_w, ...) or a .toml"
    )
    add_set(parser)
    add_chips(parser)
    parser.add_argument(
        "--tokens", type=int, default=512, help="on the chip, or of a BrainGPT (default 512)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="chips to draw (default 0 1 2)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument(
        "--window", type=int, default=512, help="tokens a BrainGPT reads at once (default 512)"
    )
    add_model_options(parser)


def _braingpt(options: argparse.Namespace, console: Console, errors: Console) -> int:
    """Perplexity of a BrainGPT, Qwen2 or Llama folder on held-out text."""
    for name in ("chip", "set"):
        if getattr(options, name):
            raise ValueError(f"--{name} is for the spiking transformer; leave it out here")
    if options.chips != 1:
        raise ValueError("--chips is for the spiking transformer; leave it out here")
    if options.window < 1:
        raise ValueError(f"expected --window >= 1, got {options.window}")
    loaded = load_with_progress(options)
    assert isinstance(loaded, LoadedBrainGPT)
    context = loaded.model.config.max_position_embeddings
    if min(options.window, options.tokens) > context:
        raise ValueError(
            f"expected --window within the model's context of {context}, got {options.window}"
        )
    stream = held_out_tokens(loaded.tokenizer, options.tokens)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("windows", total=None)
        result = quality(
            loaded,
            stream,
            options.window,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    if options.json:
        print(json.dumps(result, indent=1))
        return 0
    error = result["perplexity"] * result["standard_error"]
    for line in (
        f"{result['how']} of {loaded.folder}",
        f"perplexity {result['perplexity']:.3f} (standard error {error:.3f}), "
        f"{result['bits_per_byte']:.4f} bits per byte; {result['tokens']} held-out tokens of "
        f"{TEST_SOURCE}, windows of {options.window}",
    ):
        console.print(line, highlight=False)
    return 0


def _on_chip(
    loaded: LoadedModel, chip: ChipDescription, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """The same windows in software and on the chip, for every seed."""
    network = spiking(loaded).lower()
    stream = test_stream(loaded.tokenizer)[: options.tokens + 1]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    found: dict[str, float] = {}
    quiet = options.json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        for seed in options.seeds:
            task = progress.add_task(f"{chip.name}, seed {seed}")

            def show(stage: str, done: int, total: int, task: Any = task) -> None:
                progress.update(task, description=stage, completed=done, total=total)

            found[str(seed)] = chip_bits_per_byte(
                network, chip, loaded, stream, seed, None, show, options.chips
            )
    return {
        "name": chip.name,
        "flags": list(chip.flags),
        "tokens": len(stream) - 1,
        "ideal_bits_per_byte": held_out(loaded, stream),
        "chip_bits_per_byte": found,
    }


def _print(result: dict[str, Any], console: Console) -> None:
    test = result["test"]
    table = Table(
        title=f"test split of {test['source']}: {test['tokens']} tokens, {test['bytes']} bytes",
        title_justify="left",
        box=None,
    )
    for name in ("", "parameters", "bits per byte"):
        table.add_column(name, justify="left" if not name else "right")
    for part in ("model", "ann_twin"):
        row = result[part]
        table.add_row(row["name"], f"{row['parameters']:,}", f"{row['bits_per_byte']:.4f}")
    ngram = result["kneser_ney"]
    name = f"Kneser-Ney {ngram['order']}-gram ({', '.join(ngram['trained_on'])})"
    table.add_row(name, "", f"{ngram['bits_per_byte']:.4f}")
    console.print(table)
    console.print(f"{100 * result['over_twin']:+.2f} % over the twin", highlight=False)
    if "chip" in result:
        chip = result["chip"]
        seeds = ", ".join(f"{v:.4f} (seed {s})" for s, v in chip["chip_bits_per_byte"].items())
        console.print(
            f"on {chip['name']}, {chip['tokens']} tokens: ideal "
            f"{chip['ideal_bits_per_byte']:.4f}, chip {seeds}",
            highlight=False,
        )
        for flag in chip["flags"]:
            console.print(flag, highlight=False)


def main(options: argparse.Namespace) -> int:
    """Measure and print."""
    fast_blas.enable()
    console, errors = Console(), Console(stderr=True)
    if options.tokens < 1:
        raise ValueError(f"expected --tokens >= 1, got {options.tokens}")
    if is_braingpt(options.model):
        return _braingpt(options, console, errors)
    if not all(0 <= seed < 2**63 for seed in options.seeds):
        raise ValueError(f"expected --seeds from 0 to 2^63 - 1, got {options.seeds}")
    if options.set and not options.chip:
        raise ValueError("expected --chip with --set, got none; --set changes a chip's numbers")
    values = parse_values(options.set)
    chip = with_values(load_chip(options.chip), values) if options.chip else None
    loaded, twin = load(options.model), load(options.twin)
    with errors.status("loading") as status:
        result = compare_held_out(loaded, twin, status.update)
    if chip is not None:
        result["chip"] = _on_chip(loaded, chip, options, errors)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        _print(result, console)
    return 0
