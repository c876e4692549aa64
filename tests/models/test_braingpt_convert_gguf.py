"""Conversion from GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from model_folders import (
    random_weights,
    small_config,
    trained_tokenizer,
    write_gguf,
)

from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.stored import read_config
from neurosim.models.tensor_files import TensorFolder
from neurosim.models.text.chat_tokenizer import ChatTokenizer


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q5_0"])
def test_gguf(tmp_path: Path, architecture: str, kind: str) -> None:
    """Rows of q and k come back to the order of Hugging Face, whatever the quantisation."""
    config = small_config(biases=architecture == "qwen2")
    weights = random_weights(config)
    stored = GGMLQuantizationType[kind]
    pre = {"llama": "smollm", "qwen2": "qwen2"}[architecture]
    path = write_gguf(tmp_path / "model.gguf", config, weights, architecture, stored, pre)
    out = convert(path, tmp_path / "out", weight_bits=32)
    found = TensorFolder(out)
    for name, array in weights.items():
        expected = array if array.ndim == 1 else dequantize(quantize(array, stored), stored)
        np.testing.assert_array_equal(found.read(name), expected.reshape(array.shape))
    made = read_config(out)
    assert made.rms_norm_eps == 1e-6
    assert made.rope_theta == 1e6
    assert made.stop_ids == (0, 2)
    assert made.source["format"] == "gguf"
    tokenizer = ChatTokenizer.load(out)
    text = "the cat sat on the log, it's 1234  said"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == trained_tokenizer().get_vocab_size()
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "the cat"}])
    assert (ids[0], tokenizer.decode(ids)) == (1, "user\nthe cat\nassistant\n")


def test_gguf_rotary_table_of_llama_3(tmp_path: Path) -> None:
    """Its table of frequencies is recognised; any other is refused."""
    from neurosim.models.braingpt.rotary import frequencies

    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = small_config(biases=False, rope_theta=5e5, head_dim=16, num_attention_heads=2)
    scaled = small_config(
        biases=False, rope_theta=5e5, head_dim=16, num_attention_heads=2, rope_scaling=scaling
    )
    weights = random_weights(config)
    table = frequencies(config, np.float64) / frequencies(scaled, np.float64)
    weights["rope_freqs.weight"] = table.astype(np.float32)
    path = write_gguf(tmp_path / "a.gguf", config, weights, kind=GGMLQuantizationType.Q8_0)
    assert dict(read_config(convert(path, tmp_path / "out")).rope_scaling or {}) == scaling
    weights["rope_freqs.weight"][3] *= 1.5
    path = write_gguf(tmp_path / "b.gguf", config, weights)
    with pytest.raises(ValueError, match="rope_freqs.weight is not Llama 3's scaling"):
        convert(path, tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma"}, "expected the architecture llama or qwen2, got 'gemma'"),
        ({"pre": "falcon"}, "expected tokenizer.ggml.pre of .* got 'falcon'"),
        ({"llama__rope__scaling__type": "yarn"}, "rope.scaling.type none or linear, got 'yarn'"),
    ],
    ids=["architecture", "splitting", "rotary scaling"],
)
def test_gguf_refusals(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    config = small_config(biases=False)
    path = write_gguf(tmp_path / "model.gguf", config, random_weights(config), **options)
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("keep", [0, 3, 40, 2000, -1])
def test_a_truncated_gguf_file(tmp_path: Path, keep: int) -> None:
    config = small_config(biases=False)
    path = write_gguf(tmp_path / "model.gguf", config, random_weights(config))
    path.write_bytes(path.read_bytes()[: keep if keep != -1 else -64])
    with pytest.raises(ValueError, match=r"model\.gguf: "):
        convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_gguf_missing_and_unknown_tensors(tmp_path: Path) -> None:
    config = small_config(biases=False)
    weights = random_weights(config)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    path = write_gguf(tmp_path / "a.gguf", config, weights)
    with pytest.raises(ValueError, match=r"missing tensor model\.layers\.1\.mlp\.up_proj"):
        convert(path, tmp_path / "out")
    weights = random_weights(config) | {"blk.0.attn_q_norm.weight": np.ones(8, np.float32)}
    path = write_gguf(tmp_path / "b.gguf", config, weights)
    with pytest.raises(ValueError, match=r"unknown tensors blk\.0\.attn_q_norm\.weight"):
        convert(path, tmp_path / "out")
    assert len(GGUFReader(path).tensors) == len(weights)
