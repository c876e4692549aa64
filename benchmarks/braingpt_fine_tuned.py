"""What calibration and fine-tuning recover of a model with few-bit spike counts, on held-out text.

    python -m benchmarks.braingpt_fine_tuned SOURCE RUN [--control RUN] [--tokens 20480]

SOURCE is the float model a run started from, RUN the folder of `neurosim train` with `prepared` and
`model` in it, the control the same run with mode = "ann". All on one backend (MLX, float32), over
the same windows of the test split of the vital summaries, which no run trains on. One JSON line a
variant; the loss is the mean over predicted tokens in nats, its exponential the perplexity.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.models.braingpt.mlx_model import MlxBrainGPT, from_weights
from neurosim.models.braingpt.model import Options
from neurosim.models.braingpt.stored import StoredModel
from neurosim.models.braingpt.training import losses_of
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.tokenizer import split_stream
from neurosim.pipeline import versions

WINDOW = 512
_ANN = Options("ann", "exact")


def _model(folder: Path, options: Options, clips: bool = True) -> MlxBrainGPT:
    stored = StoredModel(folder)
    return from_weights(
        stored.config,
        stored.floats,
        options,
        [*(stored.staircases() or [])] or None,
        stored.clips if clips else {},
        stored.gains(),
    )


def variants(
    source: Path, run: Path, control: Path | None
) -> Iterator[tuple[str, Path, Options, bool]]:
    """(name, folder, options, whether with its clip factors)."""
    recipe = json.loads((run / "train.json").read_text())
    bits, silu = recipe["convert"]["bits"], recipe["convert"]["silu"]
    few = Options("causal", silu, "float", bits)
    yield "ANN", source, _ANN, False
    yield "8 bits", source, Options("causal", silu), False
    plain = Options("causal", "exact" if silu == "staircase" else silu, "float", bits)
    yield f"{bits} bits", source, plain, False
    yield f"{bits} bits, rotated and evened out", run / "prepared", few, False
    yield f"{bits} bits, calibrated", run / "prepared", few, True
    if (run / "model").is_dir():
        yield f"{bits} bits, fine-tuned", run / "model", few, True
    if control is not None:
        yield "ANN, fine-tuned", control / "model", _ANN, False


def main() -> None:
    """Print one JSON line a variant, and what was recovered."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--control", type=Path)
    parser.add_argument("--tokens", type=int, default=20480, help="predicted tokens")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of names")
    options = parser.parse_args()
    stream = split_stream("test", ChatTokenizer.load(options.source), sources=["vital"])
    for name, folder, how, clips in variants(options.source, options.run, options.control):
        if options.only and not any(name.startswith(part) for part in options.only):
            continue
        started = time.process_time()
        losses = losses_of(_model(folder, how, clips), stream[: options.tokens + 1], WINDOW)
        loss = float(losses.mean())
        found: dict[str, Any] = {
            "variant": name,
            "folder": str(folder),
            "tokens": len(losses),
            "window": WINDOW,
            "nats_per_token": loss,
            "standard_error": float(losses.std() / np.sqrt(len(losses))),
            "perplexity": math.exp(loss),
            "cpu_s": time.process_time() - started,
            "versions": versions(),
        }
        print(json.dumps(found), flush=True)
        print(f"{name}: {loss:.3f} nats, perplexity {math.exp(loss):.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
