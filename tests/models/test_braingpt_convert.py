"""Conversion to a BrainGPT folder: what is kept, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from braingpt_cases import GOLDEN, needs_golden
from model_folders import (
    SPECIAL,
    add_tokenizer,
    config_json,
    random_weights,
    small_config,
    trained_tokenizer,
    write_folder,
)

from neurosim.kernels.count_linear import IntegerWeight
from neurosim.models.braingpt import memory
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.folder_source import FolderSource
from neurosim.models.braingpt.stored import StoredModel, read_config
from neurosim.models.tensor_files import SINGLE, TensorFolder, TensorWriter
from neurosim.models.text.chat_tokenizer import ChatTokenizer


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
    out = convert(folder, tmp_path / "out", weight_bits=32, warn=lambda text: None)
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
    ours = TensorFolder(
        convert(GOLDEN / name, tmp_path / "a", weight_bits=32, warn=lambda text: None)
    )
    twin = TensorFolder(
        convert(GOLDEN / name / "qwen2", tmp_path / "b", weight_bits=32, warn=lambda text: None)
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
            warn=lambda text: None,
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
