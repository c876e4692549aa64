"""Perplexity of a real model under BrainGPT's neurons, on held-out text.

    python -m benchmarks.braingpt_quality FLOAT_FOLDER [--tokens 20480] [--window 512]
        [--staircase FILE] [--only NAME ...]

FLOAT_FOLDER has float weights (`neurosim convert smollm2-135m DIR --weight-bits 32`); the same
windows of the test split of the vital summaries for every variant. One JSON line a variant. Weights
are of 8 bits (`neurosim convert`'s default) where nothing else is said.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from neurosim.models.braingpt.loading import LoadOptions
from neurosim.models.held_out import held_out_tokens, quality
from neurosim.models.loading import LoadedBrainGPT, load
from neurosim.pipeline import versions


def variants(staircase: Path | None) -> dict[str, LoadOptions]:
    """Name -> how to load."""
    found = {
        "ANN, float32": LoadOptions(mode="ann", backend="mlx"),
        "8 bits, exact SiLU": LoadOptions(silu="exact", weight_bits=8),
        "8 bits, table": LoadOptions(silu="table", weight_bits=8),
        "8 bits, staircase": LoadOptions(silu="staircase", weight_bits=8, staircase=staircase),
        "6 bits, exact SiLU": LoadOptions(silu="exact", bits=6, weight_bits=8),
        "4 bits, exact SiLU": LoadOptions(silu="exact", bits=4, weight_bits=8),
        "8 bits, exact SiLU, 4-bit weights": LoadOptions(silu="exact", weight_bits=4),
        "8 bits, exact SiLU, float weights": LoadOptions(silu="exact"),
        "8 bits, exact SiLU, float weights, spiking attention": LoadOptions(
            silu="exact", attention="spiking", backend="numpy"
        ),
        "8 bits, exact SiLU, float weights, scale per tensor (reference)": LoadOptions(
            mode="reference", silu="exact", backend="numpy"
        ),
    }
    if staircase is None:
        del found["8 bits, staircase"]
    return found


def measure(folder: Path, options: LoadOptions, tokens: int, window: int) -> dict[str, Any]:
    """Quality of one variant."""
    loaded = load(folder, options)
    assert isinstance(loaded, LoadedBrainGPT)
    stream = held_out_tokens(loaded.tokenizer, tokens)
    started = time.process_time()
    found = quality(loaded, stream, window)
    return found | {"cpu_s": time.process_time() - started}


def main() -> None:
    """Print one JSON line a variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=20480)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--staircase", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    for name, how in variants(options.staircase).items():
        if options.only and not any(name.startswith(part) for part in options.only):
            continue
        found = measure(options.folder, how, options.tokens, options.window)
        print(json.dumps({"variant": name, **found, "versions": versions()}), flush=True)
        print(f"{name}: perplexity {found['perplexity']:.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
