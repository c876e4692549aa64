"""Decoding speed of converted models on a CPU, beside MLX's own float32.

    python -m benchmarks.braingpt_speed FOLDER [--threads 1] [--tokens 32] [--samples 5]
        [--context 64] [--peers] [--json]

Milliseconds for a generated token after a prompt of `--context` tokens: forward pass and greedy
choice, CPU time and wall time, median and 20th and 80th percentile over the samples, interleaved.
`--peers` adds the same model (mode "ann", float32) in MLX with its BLAS pointed at OpenBLAS, and,
where mlx-lm is installed, mlx-lm's own Llama or Qwen2. Also: seconds to load, the largest resident
memory, tokens per second of the prompt.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.kernels import fast_blas
from neurosim.models.braingpt import load
from neurosim.models.braingpt.stored import StoredModel
from neurosim.profiling.environment import header, restart

Decode = Callable[[int], int]


def greedy(model: Any, context: int) -> Decode:
    """One token further for every call, from a cache with a random prompt."""
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, context)
    cache = model.new_cache()
    token = [int(np.asarray(model(ids, cache, last=True)).argmax())]

    def step(count: int) -> int:
        for _ in range(count):
            token[0] = int(np.asarray(model(np.array(token), cache, last=True)).argmax())
        return token[0]

    return step


def mlx_lm(folder: Path, context: int) -> Decode:
    """mlx-lm's own model class with these weights, and its own cache."""
    import mlx.core as mx
    from mlx_lm.models import llama, qwen2
    from mlx_lm.models.cache import make_prompt_cache

    stored = StoredModel(folder)
    config = stored.config
    sizes = {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
        "num_key_value_heads": config.num_key_value_heads,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
    }
    if config.biases:
        model = qwen2.Model(qwen2.ModelArgs(model_type="qwen2", **sizes))
    else:
        model = llama.Model(llama.ModelArgs(model_type="llama", head_dim=config.head_dim, **sizes))
    weights = [(name, mx.array(stored.floats(name))) for name in config.weight_shapes()]
    model.load_weights(weights)
    mx.eval(model.parameters())
    cache = make_prompt_cache(model)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, context)
    token = [int(mx.argmax(model(mx.array(ids)[None], cache=cache)[0, -1]).item())]

    def step(count: int) -> int:
        for _ in range(count):
            logits = model(mx.array([token]), cache=cache)
            token[0] = int(mx.argmax(logits[0, -1]).item())
        return token[0]

    return step


def measure(ways: dict[str, Decode], tokens: int, samples: int) -> dict[str, dict[str, Any]]:
    """Milliseconds a token of every way, interleaved."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for sample in range(samples + 1):
        for name, step in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step(tokens)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            if sample:  # the first warms up
                found[name].append((spent[0] / tokens * 1e3, spent[1] / tokens * 1e3))
    return {
        name: {
            kind: {
                "median": statistics.median(values),
                "p20": float(np.percentile(values, 20)),
                "p80": float(np.percentile(values, 80)),
            }
            for kind, values in zip(("cpu_ms", "wall_ms"), zip(*rows, strict=True), strict=True)
        }
        for name, rows in found.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    restart([sys.executable, "-m", "benchmarks.braingpt_speed", *sys.argv[1:]], options.threads)
    fast_blas.enable()
    started = time.perf_counter()
    model = load(options.folder, threads=options.threads)
    loaded = time.perf_counter() - started
    ways = {"ours": greedy(model, options.context)}
    prompt = np.random.default_rng(1).integers(0, model.config.vocab_size, 256)
    started = time.perf_counter()
    model(prompt, model.new_cache(), last=True)
    prompt_s = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if options.peers:
        ann = load(options.folder, mode="ann", backend="mlx")
        ways["MLX float32, our model class"] = greedy(ann, options.context)
        if find_spec("mlx_lm"):
            ways["MLX float32, mlx-lm"] = mlx_lm(options.folder, options.context)
    rows = measure(ways, options.tokens, options.samples)
    facts = {
        "model": repr(model),
        "load_s": loaded,
        "peak_GB": peak,
        "prompt_tokens_per_s": len(prompt) / prompt_s,
        "decode": rows,
    }
    if options.json:
        print(json.dumps(header(str(fast_blas.active()), options.threads, "cpu")))
        print(json.dumps(facts))
        return
    print(f"{model}: loaded in {loaded:.1f} s, at most {peak:.2f} GB, ", end="")
    print(f"prompt {facts['prompt_tokens_per_s']:.0f} tokens/s")
    ours = rows["ours"]["cpu_ms"]["median"]
    for name, row in rows.items():
        cpu, wall = row["cpu_ms"], row["wall_ms"]
        print(
            f"{name:32s} {cpu['median']:8.2f} ms CPU ({cpu['p20']:.2f} to {cpu['p80']:.2f}), "
            f"{wall['median']:8.2f} ms wall = {1e3 / wall['median']:.1f} tokens/s; "
            f"{cpu['median'] / ours:.2f} x ours"
        )


if __name__ == "__main__":
    main()
