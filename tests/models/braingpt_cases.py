"""Golden data and small models for the tests of BrainGPT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurosim.models.braingpt import BrainGPTConfig
from neurosim.models.tensor_files import TensorWriter

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "braingpt"
MICRO = Path(__file__).parents[1] / "data" / "braingpt_micro"
MODELS = ("micro", "tiny_tied", "trained")
needs_golden = pytest.mark.skipif(
    not (GOLDEN / "micro" / "io.npz").is_file(), reason=f"no golden data at {GOLDEN}"
)
TINY = {
    "model_type": "qwen2",
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


def golden(model: str) -> dict[str, np.ndarray]:
    """The arrays of io.npz."""
    with np.load(GOLDEN / model / "io.npz") as file:
        return dict(file)


def write_model(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A folder with random weights of the given configuration, float32, no tokenizer."""
    data = TINY | changes
    config = BrainGPTConfig.from_dict(data)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = config.weight_shapes()
    with TensorWriter(folder, {name: ("F32", shape) for name, shape in shapes.items()}) as writer:
        for name, shape in shapes.items():
            if name.endswith("norm.weight"):
                values = 1 + 0.1 * rng.standard_normal(shape)
            else:
                values = rng.standard_normal(shape) / np.sqrt(shape[-1])
            writer.write(name, values.astype(np.float32))
    (folder / "config.json").write_text(json.dumps(data))
    return folder
