"""Golden data and small models for the tests of BrainGPT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_folders import add_tokenizer, small_config, write_folder

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "braingpt"
MICRO = Path(__file__).parents[1] / "data" / "braingpt_micro"
MODELS = ("micro", "tiny_tied", "trained")
needs_golden = pytest.mark.skipif(
    not (GOLDEN / "micro" / "io.npz").is_file(), reason=f"no golden data at {GOLDEN}"
)


def golden(model: str) -> dict[str, np.ndarray]:
    """The arrays of io.npz."""
    with np.load(GOLDEN / model / "io.npz") as file:
        return dict(file)


def write_model(folder: Path, seed: int = 0, tokenizer: bool = False, **changes: object) -> Path:
    """A folder of two layers with random weights of about unit gain; changes as in config.json."""
    sizes: dict[str, object] = {
        "vocab_size": 320 if tokenizer else 97,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 72,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "stop_ids": (),
    } | changes
    family = str(sizes.pop("model_type", "qwen2"))
    sizes.setdefault("head_dim", sizes["hidden_size"] // sizes["num_attention_heads"])
    config = small_config(biases=family != "llama", **sizes)
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.weight_shapes().items():
        values = rng.standard_normal(shape)
        gain = name.endswith("norm.weight")
        values = 1 + 0.1 * values if gain else values / np.sqrt(shape[-1])
        weights[name] = values.astype(np.float32)
    write_folder(folder, config, weights, family)
    if tokenizer:
        add_tokenizer(folder)
    return folder
