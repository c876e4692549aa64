"""What a conversion refuses: damaged weights, wrong configurations, too little room."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import (
    add_tokenizer,
)

from neurosim.models.braingpt import memory
from neurosim.models.braingpt.config import QWEN25_3B
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.stored import read_config
from neurosim.models.tensor_files import SINGLE, TensorFolder, TensorWriter


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
