"""Conversion to a BrainGPT folder: exact round trips, every refusal, and interruption."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from model_folders import (
    SPECIAL,
    add_tokenizer,
    config_json,
    random_weights,
    small_config,
    trained_tokenizer,
    write_folder,
    write_gguf,
)

from neurosim.kernels.count_linear import IntegerWeight
from neurosim.models.braingpt import memory
from neurosim.models.braingpt.config import QWEN25_3B, BrainGPTConfig
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.folder_source import FolderSource
from neurosim.models.braingpt.stored import StoredModel
from neurosim.models.tensor_files import SINGLE, TensorFolder, TensorWriter
from neurosim.models.text.chat_tokenizer import ChatTokenizer

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "braingpt"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="no golden data beside the repository"
)


def read_config(folder: Path) -> BrainGPTConfig:
    return BrainGPTConfig.from_dict(json.loads((folder / "config.json").read_text()))


def silent(text: str) -> None:
    """For conversions whose warnings are not looked at."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small Qwen2 folder with a tokenizer."""
    config = small_config()
    folder = write_folder(tmp_path / "source", config, random_weights(config))
    add_tokenizer(folder)
    return folder


@pytest.mark.parametrize("shard_bytes", [1 << 30, 20_000], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain names", "BrainGPT names"])
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen2", {}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("llama", {"biases": False, "tie_word_embeddings": False, "head_dim": 12}),
    ],
    ids=["qwen2", "qwen2 untied", "llama untied"],
)
def test_32_bits_keep_every_bit(
    tmp_path: Path,
    family: str,
    changes: dict[str, Any],
    wrapped: bool,
    dtype: str,
    shard_bytes: int,
) -> None:
    config = small_config(**changes)
    weights = random_weights(config)
    folder = write_folder(tmp_path / "source", config, weights, family, dtype, shard_bytes, wrapped)
    stored = TensorFolder(folder)
    expected = {key.replace(".layer.", "."): stored.read(key) for key in stored.names}
    out = convert(folder, tmp_path / "out", weight_bits=32, warn=silent)
    found = TensorFolder(out)
    assert set(found.names) == set(expected) == set(config.weight_shapes())
    for name, array in expected.items():
        assert found.dtype(name) == "F32"
        np.testing.assert_array_equal(found.read(name), array)
    made = read_config(out)
    assert made.source["architecture"] == config_json(config, family)["architectures"][0]
    assert made.source["types"] == [dtype]
    assert (made.biases, made.head_dim, made.tie_word_embeddings, made.rope_theta) == (
        config.biases,
        config.head_dim,
        config.tie_word_embeddings,
        config.rope_theta,
    )


@pytest.mark.parametrize("weight_bits", [8, 4])
@pytest.mark.parametrize("block", [1, 1000, 1 << 24], ids=["rows", "blocks", "whole"])
def test_integers_are_those_of_the_kernel(
    source: Path, tmp_path: Path, weight_bits: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", block)
    out = convert(source, tmp_path / "out", weight_bits=weight_bits)
    before, after = TensorFolder(source), TensorFolder(out)
    assert {n: (after.dtype(n), after.shape(n)) for n in after.names} == memory.stored_tensors(
        read_config(out)
    )
    for name, shape in small_config().weight_shapes().items():
        if len(shape) == 1:
            np.testing.assert_array_equal(after.read(name), before.read(name))
            continue
        bits = 8 if name == "model.embed_tokens.weight" else weight_bits
        expected = IntegerWeight.quantise(before.read(name), bits)
        np.testing.assert_array_equal(after.read(name), expected.codes)
        np.testing.assert_array_equal(after.read(f"{name}.unit"), expected.scale)
        if expected.multiplier is not None:
            np.testing.assert_array_equal(after.read(f"{name}.multiplier"), expected.multiplier)


def test_16_bits_are_bfloat16(source: Path, tmp_path: Path) -> None:
    out = TensorFolder(convert(source, tmp_path / "out", weight_bits=16))
    assert out.dtype("model.layers.0.mlp.up_proj.weight") == "BF16"
    assert out.dtype("model.norm.weight") == "F32"
    again = convert(out.path, tmp_path / "again", weight_bits=16)
    assert (again / SINGLE).read_bytes() == (out.path / SINGLE).read_bytes()


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_a_converted_folder_converts_again(source: Path, tmp_path: Path, weight_bits: int) -> None:
    """Integers multiplied out to floats give the same integers."""
    first = convert(source, tmp_path / "first", weight_bits=weight_bits, bits=6)
    with pytest.warns(UserWarning, match="weights are integers already"):
        floats = convert(first, tmp_path / "floats", weight_bits=32)
    name = "model.layers.1.mlp.down_proj.weight"
    stored = FolderSource(first).rows(name, 0, 32)
    np.testing.assert_array_equal(TensorFolder(floats).read(name), stored)
    assert read_config(first).bits == 6
    assert read_config(floats).bits == 6
    if weight_bits == 8:
        second = convert(floats, tmp_path / "second", weight_bits=8)
        codes = TensorFolder(first).read(name), TensorFolder(second).read(name)
        np.testing.assert_array_equal(*codes)


def test_files_beside_the_weights(source: Path, tmp_path: Path) -> None:
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (source / "optimizer.bin").write_bytes(b"1")
    out = convert(source, tmp_path / "new" / "out")
    assert sorted(path.name for path in out.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert read_config(out).stop_ids == (0, 2)
    config = read_config(out)
    assert config.weight_bits == 8
    assert config.source["format"] == "safetensors"
    assert config.source["files"] == {SINGLE: (source / SINGLE).stat().st_size}
    tokenizer = ChatTokenizer.load(out)
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    )


def test_without_a_tokenizer_there_is_a_warning(source: Path, tmp_path: Path) -> None:
    (source / "tokenizer.json").unlink()
    with pytest.warns(UserWarning, match="has no tokenizer; the model can be run on token ids"):
        out = convert(source, tmp_path / "out")
    assert any("no tokenizer" in text for text in read_config(out).source["warnings"])
    (source / "tokenizer.model").write_bytes(b"1")
    notes: list[str] = []
    convert(source, tmp_path / "other", warn=notes.append)
    assert "SentencePiece" in notes[0]


def test_vocabulary_and_merges_become_a_tokenizer(source: Path, tmp_path: Path) -> None:
    """As in a Qwen2 folder: special tokens follow the vocabulary, digits stand alone."""
    backend = trained_tokenizer()
    data = json.loads(backend.to_str())["model"]
    ordinary = [t for t in sorted(data["vocab"], key=data["vocab"].get) if t not in SPECIAL]
    (source / "tokenizer.json").unlink()
    (source / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(ordinary)}))
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in data["merges"]), ""])
    (source / "merges.txt").write_text(merges)
    first = len(ordinary)
    added = {text: first + i for i, text in enumerate(SPECIAL)}
    (source / "added_tokens.json").write_text(json.dumps(added))
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Qwen2Tokenizer"}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": first + 2}))
    config = json.loads((source / "config.json").read_text()) | {"eos_token_id": first}
    (source / "config.json").write_text(json.dumps(config))
    out = convert(source, tmp_path / "out")
    tokenizer = ChatTokenizer.load(out)
    assert tokenizer.stop_ids == (first, first + 2)
    text = "the cat sat 1234 e\u0301\n\n  on"
    assert tokenizer.decode(tokenizer.encode(text)) == "the cat sat 1234 \u00e9\n\n  on"  # NFC
    assert tokenizer.decode(tokenizer.encode("1234")[:1]) == "1"
    (source / "added_tokens.json").write_text(json.dumps({"<|endoftext|>": first + 7}))
    with pytest.raises(ValueError, match=f"to have the id {first + 7}"):
        convert(source, tmp_path / "other")
    settings["tokenizer_class"] = "BertTokenizer"
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="expected a tokenizer_class of Qwen2Tokenizer"):
        convert(source, tmp_path / "other")


@needs_golden
@pytest.mark.parametrize("name", ["micro", "tiny_tied", "trained"])
def test_published_layout_and_its_twin_hold_the_same_weights(name: str, tmp_path: Path) -> None:
    ours = TensorFolder(convert(GOLDEN / name, tmp_path / "a", weight_bits=32, warn=silent))
    twin = TensorFolder(
        convert(GOLDEN / name / "qwen2", tmp_path / "b", weight_bits=32, warn=silent)
    )
    stairs = [key for key in ours.names if "act_fn" in key]
    layers = read_config(tmp_path / "a").num_hidden_layers
    assert len(stairs) == 26 * layers
    assert set(ours.names) - set(stairs) == set(twin.names)
    for key in twin.names:
        np.testing.assert_array_equal(ours.read(key), twin.read(key))
    given = TensorFolder(
        convert(
            GOLDEN / name / "qwen2",
            tmp_path / "c",
            staircase=GOLDEN / "approximators.safetensors",
            warn=silent,
        )
    )
    for key in stairs:
        np.testing.assert_array_equal(ours.read(key), given.read(key))


def test_neuron_counters_are_dropped_and_other_keys_reported(tmp_path: Path) -> None:
    config = small_config()
    weights: dict[str, Any] = dict(random_weights(config))
    at = "model.layers.0.self_attn."
    weights[f"{at}q_proj.pre_ifneuron.total_output"] = np.float32(1).reshape(())
    weights[f"{at}rotary_emb.inv_freq"] = np.ones(4, np.float32)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    weights["model.something"] = np.ones(4, np.float32)
    folder = write_folder(tmp_path / "source", config, weights, wrapped=True)
    notes: list[str] = []
    out = TensorFolder(convert(folder, tmp_path / "out", weight_bits=32, warn=notes.append))
    assert set(out.names) == set(config.weight_shapes())
    assert notes[0] == "left out: model.something (1 keys in all)"


# --- GGUF


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


# --- what is refused


def change_config(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(data))


def rewrite(folder: Path, change: Any) -> None:
    """The folder's weights after `change(weights)`."""
    stored = TensorFolder(folder)
    weights = {key: stored.read(key) for key in stored.names}
    change(weights)
    (folder / SINGLE).unlink()
    specs = {
        key: ({"f": "F32", "i": "I32"}[array.dtype.kind], array.shape)
        for key, array in weights.items()
    }
    with TensorWriter(folder, specs) as writer:
        for key, array in weights.items():
            writer.write(key, array)


UP = "model.layers.1.mlp.up_proj.weight"


def poison(weights: dict[str, Any]) -> None:
    weights[UP][70, 3] = np.nan


WRONG = {
    "missing tensor": (lambda w: w.pop(UP), f"missing tensor {UP} .*belong together"),
    "wrong shape": (
        lambda w: w.update({UP: w[UP][1:]}),
        r"model\.safetensors: tensor .*up_proj.* expected shape \(96, 32\), got \(95, 32\)",
    ),
    "wrong type": (lambda w: w.update({UP: w[UP].astype(np.int32)}), "expected a type of F64"),
    "unknown weight": (
        lambda w: w.update({"model.layers.2.mlp.up_proj.weight": w[UP]}),
        "unknown weights model.layers.2.mlp.up_proj.weight",
    ),
    "same weight twice": (
        lambda w: w.update({UP.replace(".weight", ".layer.weight"): w[UP]}),
        "are the same weight",
    ),
    "not a number": (poison, f"{UP}: row 70 holds NaN"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_weights_are_refused(source: Path, tmp_path: Path, name: str) -> None:
    change, message = WRONG[name]
    rewrite(source, change)
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "expected model_type braingpt, qwen2, llama, got 'mamba'"),
        ({"hidden_act": "gelu"}, "expected hidden_act 'silu', got 'gelu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "the weights are quantised .gptq"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "expected rope_scaling of .* got 'yarn'"),
        ({"num_hidden_layers": 3}, "missing tensor model.layers.2"),
        ({"vocab_size": "many"}, "expected vocab_size to be a positive integer"),
        ({"vocab_size": 200}, "expected shape .200, 32., got .320, 32."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_configurations_are_refused(
    source: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(source, **changes)
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


def test_rotary_settings_of_transformers_5_are_read(source: Path, tmp_path: Path) -> None:
    data = json.loads((source / "config.json").read_text())
    theta = data.pop("rope_theta")
    data["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    (source / "config.json").write_text(json.dumps(data))
    made = read_config(convert(source, tmp_path / "out"))
    assert (made.rope_theta, made.rope_scaling) == (theta, None)


def test_sliding_windows_shorten_the_context(source: Path, tmp_path: Path) -> None:
    change_config(source, use_sliding_window=True, sliding_window=48)
    notes: list[str] = []
    made = read_config(convert(source, tmp_path / "out", warn=notes.append))
    assert made.max_position_embeddings == 48
    assert "cut from 64 to the window of 48" in notes[0]


def test_another_models_tokenizer_is_refused(source: Path, tmp_path: Path) -> None:
    add_tokenizer(source, 330)
    with pytest.raises(ValueError, match="largest id is 329, the model has only 320"):
        convert(source, tmp_path / "out")
    add_tokenizer(source)
    change_config(source, eos_token_id=310)
    with pytest.raises(ValueError, match="stops at token 310, which its tokenizer of 300"):
        convert(source, tmp_path / "out")
    change_config(source, eos_token_id=2)
    add_tokenizer(source, eos_token="<|eot_id|>")
    with pytest.raises(ValueError, match="eos_token is '<|eot_id|>', which is not in tokenizer"):
        convert(source, tmp_path / "out")
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer.json"):
        convert(source, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


def test_nothing_to_convert(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is nothing at"):
        convert(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a model folder with a config.json"):
        convert(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_bytes(b"something")
    with pytest.raises(ValueError, match="expected a GGUF file"):
        convert(tmp_path / "file", tmp_path / "out")


def test_a_wrong_staircase_file_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected keys silu\.pos"):
        convert(source, tmp_path / "out", staircase=source)
    with TensorWriter(tmp_path, {"silu.pos.neuron1.pos_pulse_params": ("F32", (2,))}) as writer:
        writer.write("silu.pos.neuron1.pos_pulse_params", np.ones(2, np.float32))
    with pytest.raises(ValueError, match="SiLU staircase: missing parameter"):
        convert(source, tmp_path / "out", staircase=tmp_path / SINGLE)


# --- memory and disk


def test_too_little_memory_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000_000)
    message = r"needs about 0\.42 GB of memory, this machine has 0\.10 GB available"
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_disk_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ValueError, match=r"out needs .* GB of disk, 0\.00 GB are free"):
        convert(source, tmp_path / "nowhere" / "out")
    assert not (tmp_path / "nowhere").exists()


def test_estimates_of_the_3b_model() -> None:
    """Weights as counted by hand, and a conversion that does not grow with them."""
    assert memory.estimate_memory(QWEN25_3B, 32) > 4 * QWEN25_3B.parameters
    eight = memory.estimate_memory(QWEN25_3B, 8)
    assert 3.1e9 < eight < 3.8e9
    assert 1.7e9 < memory.estimate_memory(QWEN25_3B, 4) < 2.5e9
    longer = memory.estimate_memory(QWEN25_3B, 8, context=4096) - eight
    assert longer == 2048 * 2 * 36 * 256 * 4
    assert memory.conversion_memory(QWEN25_3B) < 1.5e9
    assert memory.available_memory() > 0


# --- places, and interruption


def test_places_that_are_not_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    convert(source, out)
    with pytest.raises(ValueError, match="out is not empty; name another folder, or .* --force"):
        convert(source, out)
    before = (out / SINGLE).stat().st_size
    convert(source, out, weight_bits=32, force=True)
    assert (out / SINGLE).stat().st_size > before
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex as well; it is not replaced"):
        convert(source, out, force=True)
    (out / "config.json").unlink()
    with pytest.raises(ValueError, match="no model folder; it is not replaced"):
        convert(source, out, force=True)
    with pytest.raises(ValueError, match="holds the source"):
        convert(source, source, force=True)
    with pytest.raises(ValueError, match="holds the source"):
        convert(source, tmp_path, force=True)
    with pytest.raises(ValueError, match="is a file"):
        convert(source, source / "config.json", force=True)


@pytest.mark.parametrize("existing", [False, True], ids=["new", "replacing"])
def test_an_interrupted_conversion_leaves_what_was(
    source: Path, tmp_path: Path, existing: bool
) -> None:
    out = tmp_path / "deep" / "out"
    if existing:
        convert(source, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()} if existing else {}

    def interrupt(name: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, out, weight_bits=4, force=True, progress=interrupt)
    if existing:
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert [item.name for item in out.parent.iterdir()] == ["out"]
    else:
        assert [item.name for item in tmp_path.iterdir()] == ["source"]


KILLED = """
import os, signal, sys
from neurosim.models.braingpt.convert import convert

def kill(name, done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

convert(sys.argv[1], sys.argv[2], progress=kill)
"""


def test_a_killed_conversion_leaves_nothing_at_out(source: Path, tmp_path: Path) -> None:
    """What is left beside it goes with the next conversion."""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, source, out], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(tmp_path.glob(".out.unfinished.*"))) == 1
    convert(source, out)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out", "source"]


MEASURED = """
import resource, sys
from neurosim.models.braingpt.convert import convert

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

convert(sys.argv[1], sys.argv[2] + ".small", warn=lambda text: None)
before = peak()
convert(sys.argv[3], sys.argv[2], warn=lambda text: None)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are dropped on Linux only")
def test_memory_does_not_grow_with_the_model(source: Path, tmp_path: Path) -> None:
    """340 MB of weights in, less than a third of that in memory."""
    config = small_config(
        vocab_size=4096, hidden_size=1024, intermediate_size=4096, num_hidden_layers=7
    )
    big = write_folder(tmp_path / "big", config, random_weights(config))
    command = [sys.executable, "-c", MEASURED, source, tmp_path / "out", big]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100_000_000 < (big / SINGLE).stat().st_size / 3


def calibrated(folder: Path, source: Path) -> Path:
    """The source in 32 bits with clip factors and gains, as training and --even write them."""
    plain = convert(source, folder / "plain", weight_bits=32)
    tensors, out = TensorFolder(plain), folder / "calibrated"
    arrays = {name: np.array(tensors.read(name)) for name in tensors.names}
    arrays["model.layers.1.mlp.up_proj.gain"] = np.linspace(1, 2, 96, dtype=np.float32)
    arrays["model.layers.0.self_attn.q_proj.gain"] = np.full(32, 3, np.float32)
    out.mkdir()
    with TensorWriter(out, {n: ("F32", a.shape) for n, a in arrays.items()}) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
    data = json.loads((plain / "config.json").read_text())
    data["neurosim"]["clips"] = {"L0.o_proj.pre": 0.5, "L1.down_proj.post": 0.75}
    (out / "config.json").write_text(json.dumps(data))
    add_tokenizer(out)
    return out


def test_clips_and_gains_are_kept(source: Path, tmp_path: Path) -> None:
    given = calibrated(tmp_path, source)
    made = StoredModel(convert(given, tmp_path / "made", weight_bits=8))
    assert made.clips == {"L0.o_proj.pre": 0.5, "L1.down_proj.post": 0.75}
    assert sorted(made.gains()) == ["L0.q_proj", "L1.up_proj"]


@needs_golden
def test_a_staircase_given_replaces_no_gain(source: Path, tmp_path: Path) -> None:
    given, file = calibrated(tmp_path, source), GOLDEN / "approximators.safetensors"
    made = StoredModel(convert(given, tmp_path / "made", staircase=file))
    assert sorted(made.gains()) == ["L0.q_proj", "L1.up_proj"]
    assert made.staircases() is not None
