"""Energy per token of a BrainGPT: activity counted on text, four spike codes beside the ANN.

    python -m benchmarks.braingpt_energy MODEL [--tokens 20480] [--window 512]
        [--contexts 128,4096] [--weight-bits 8] [--kv-bits 16] [--silu table] [--random]
        [--chip ideal] [--json FILE]

Runs MODEL over windows of the held-out vital summaries (--random: over random token ids, for a
model without tokenizer) and counts every event of every site; `docs/braingpt-energy.md` has the
results. With --chip the first tokens are simulated on that chip as well, in both drives, and
compared with the engine bit by bit. MODEL "3b" is the published 3B configuration with synthetic
activity (Gaussian and Laplace rows): nothing is run, nothing is counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neurosim.chip import load_chip
from neurosim.energy import chip_prices
from neurosim.energy import energy_report as chip_energy
from neurosim.energy.units import joules, with_unit
from neurosim.events.engine import Simulator
from neurosim.models.braingpt import QWEN25_3B, EventCounter, SiteRecord, load
from neurosim.models.braingpt.activity import Activity
from neurosim.models.braingpt.energy import energy_report, token_energy
from neurosim.models.braingpt.energy_table import terminal
from neurosim.models.braingpt.lowered import lower
from neurosim.models.braingpt.sites import EVENT_CODES, PROJECTIONS
from neurosim.models.held_out import held_out_tokens
from neurosim.models.text.chat_tokenizer import ChatTokenizer

SYNTHETIC = (("gaussian", 3.9), ("laplace", 10.9))
_CHIP_TOKENS = 8


def token_ids(options: argparse.Namespace, vocabulary: int) -> npt.NDArray[np.int64]:
    """What the model reads."""
    if options.random:
        found = np.random.default_rng(0).integers(0, vocabulary, options.tokens)
        return found.astype(np.int64)
    stream = held_out_tokens(ChatTokenizer.load(options.model), options.tokens)
    return stream[: options.tokens].astype(np.int64)


def by_projection(counter: EventCounter) -> dict[str, dict[str, float]]:
    """Events of an input value, by the kind of linear layer and code."""
    found: dict[str, dict[str, float]] = {}
    for name in PROJECTIONS:
        sites = [site for site in counter.events if site.endswith(f"{name}.pre")]
        inputs = sum(counter.elements[site] for site in sites)
        found[name] = {
            code: sum(counter.events[site][code] for site in sites) / inputs for code in EVENT_CODES
        }
    return found


def on_chip(engine: Any, ids: npt.NDArray[np.int64], name: str) -> list[dict[str, Any]]:
    """The first tokens, decoded one by one on a chip, in both drives."""
    chip, found = load_chip(name), []
    for drive in ("pulse_width", "bit_plane"):
        seen, started = SiteRecord(), time.perf_counter()
        network = lower(engine, drive, len(ids), seen)
        simulator = Simulator(network, chip)
        built = time.perf_counter() - started
        simulator.begin("decode")
        cache, wrong, compared, seconds = engine.new_cache(), 0, 0, []
        for token in ids.tolist():
            expected = SiteRecord()
            logits = engine(np.array([token]), cache, listener=expected)[0]
            started = time.perf_counter()
            got = simulator.step(token)
            seconds.append(time.perf_counter() - started)
            wrong += int((got != logits).sum())
            compared += got.size
            for site, counts in expected.counts.items():
                wrong += int((seen.counts[site] != counts).sum())
                compared += counts.size
        run = simulator.run()
        prices = chip_prices(chip.numbers())
        report = chip_energy(network, prices, simulator.placement, run.phases, flags=chip.flags)
        tiles: dict[str, int] = {}
        for node in network:
            kind = type(node).__name__
            tiles[kind] = tiles.get(kind, 0) + simulator.placement.tiles[node.name]
        found.append(
            {
                "chip": name,
                "drive": drive,
                "tokens": len(ids),
                "differences": wrong,
                "compared": compared,
                "tiles": tiles,
                "windows_per_token": simulator.placement.depth,
                "seconds_per_token": report.main.seconds_per_token,
                "counts_per_token": run.phases["decode"].per_token(),
                "by_mechanism_J": report.main.by_mechanism(),
                "J_per_token": report.main.total,
                "excludes": list(report.excludes),
                "build_s": built,
                "step_s": float(np.median(seconds)),
                "peak_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            }
        )
    return found


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Count, price, simulate."""
    engine = load(
        options.model,
        backend="cpu",
        silu=options.silu,
        weight_bits=options.weight_bits,
        threads=options.threads,
    )
    ids, counter = token_ids(options, engine.config.vocab_size), EventCounter()
    started = time.perf_counter()
    for start in range(0, len(ids), options.window):
        engine(ids[start : start + options.window], listener=counter, last=True)
    seconds = time.perf_counter() - started
    result: dict[str, Any] = {
        "model": str(options.model),
        "engine": repr(engine),
        "read": "random token ids" if options.random else "held-out vital summaries",
        "tokens": len(ids),
        "window": options.window,
        "seconds": seconds,
        "by_projection": by_projection(counter),
        "reports": [
            energy_report(
                counter, engine.config, context, options.weight_bits, options.kv_bits, options.silu
            ).to_dict()
            for context in options.contexts
        ],
    }
    if options.chip:
        result["chip"] = on_chip(engine, ids[:_CHIP_TOKENS], options.chip)
    return result


def synthetic(options: argparse.Namespace) -> dict[str, Any]:
    """The 3B configuration with made-up rows."""
    return {
        "model": "Qwen2.5-3B configuration, synthetic activity",
        "reports": [
            token_energy(
                Activity.synthetic(QWEN25_3B, name, ratio),
                QWEN25_3B,
                context,
                options.weight_bits,
                options.kv_bits,
                options.silu,
            ).to_dict()
            for name, ratio in SYNTHETIC
            for context in options.contexts
        ],
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Tables for a terminal."""
    if "by_projection" in result:
        table = Table(title=f"events of an input value, {result['tokens']} tokens", box=None)
        for name in ("layer", *EVENT_CODES):
            table.add_column(name)
        for name, row in result["by_projection"].items():
            table.add_row(name, *(f"{rate:.3g}" for rate in row.values()))
        console.print(table)
    groups: dict[str, list[dict[str, Any]]] = {}
    for report in result["reports"]:
        groups.setdefault(report["activity"]["source"], []).append(report)
    for reports in groups.values():
        console.print(terminal(reports))
    for row in result.get("chip", []):
        parts = ", ".join(f"{k} {joules(v)}" for k, v in row["by_mechanism_J"].items() if v)
        console.print(
            Text(
                f"chip {row['chip']}, {row['drive']}: {row['differences']} of {row['compared']} "
                f"values differ from the engine; {row['tiles']} tiles, {row['windows_per_token']} "
                f"windows = {with_unit(row['seconds_per_token'], 's')} a token; "
                f"{joules(row['J_per_token'])} a token (decode, modelled): {parts}; simulated in "
                f"{with_unit(row['step_s'], 's')} a token after {row['build_s']:.1f} s, peak "
                f"{row['peak_GB']:.2f} GB"
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=20480)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--contexts", default="128,4096")
    parser.add_argument("--weight-bits", type=int, default=8)
    parser.add_argument("--kv-bits", type=int, default=16)
    parser.add_argument("--silu", default="table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--chip")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.contexts = [int(part) for part in options.contexts.split(",")]
    result = synthetic(options) if options.model == "3b" else measured(options)
    show(result, Console())
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
