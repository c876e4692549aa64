"""Model folders: an idempotent round trip, and one clear line for everything that can be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from tiny_models import spiking_model, tokens, twin_model

from neurosim.files import replace_file
from neurosim.models import checkpoint
from neurosim.models.spike_transformer import SpikeTransformer
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.transformer import Transformer

Arrays = dict[str, mx.array]


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny-spikes"))


@pytest.mark.parametrize("architecture", ["spiking", "twin"])
def test_round_trip(architecture: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Weights move by half a step at most, everything else not at all; saved again, same bytes."""
    build = spiking_model if architecture == "spiking" else twin_model
    model = build(1, vocab_size=tokenizer.vocab_size, layers=2)
    first, second = tmp_path / "first", tmp_path / "second"
    checkpoint.save(first, model, tokenizer, {"steps": 7})
    loaded = checkpoint.load(first)
    assert type(loaded.model) is type(model)
    assert loaded.model.config == model.config
    assert not loaded.model.training
    assert loaded.name == "first"
    assert dict(loaded.training) == {"steps": 7}
    assert loaded.sha256 == hashlib.sha256((first / "model.safetensors").read_bytes()).hexdigest()
    assert loaded.tokenizer.sha256 == tokenizer.sha256
    units = model.weight_units()
    stored = dict(tree_flatten(loaded.model.parameters()))
    assert set(stored) == {name for name, _ in tree_flatten(model.parameters())}
    for name, value in tree_flatten(model.parameters()):
        error = np.abs(np.asarray(stored[name]) - np.asarray(value))
        if name in units:
            assert (error <= 0.501 * units[name]).all(), name
        else:
            assert not error.any(), name
    checkpoint.save(second, loaded.model, loaded.tokenizer, loaded.training)
    for name in checkpoint.FILES:
        assert (second / name).read_bytes() == (first / name).read_bytes(), name


def test_round_trip_keeps_every_spike(folder: Path, tokenizer: Tokenizer) -> None:
    """The integers of the folded model survive saving and loading."""
    model = spiking_model(3, vocab_size=tokenizer.vocab_size)
    before, after = (
        FoldedSpikeTransformer.fold(part) for part in (model, checkpoint.load(folder).model)
    )
    for name, weight in before.weights.items():
        np.testing.assert_array_equal(weight, after.weights[name], err_msg=name)
    ids = tokens(40, tokenizer.vocab_size)
    np.testing.assert_array_equal(before.forward(ids)[0], after.forward(ids)[0])


def test_matrices_are_stored_in_one_byte(folder: Path) -> None:
    stored = mx.load(str(folder / "model.safetensors"))
    codes = {name for name in stored if f"{name}.unit" in stored}
    assert {"embedding", "head", "blocks.0.query", "ngrams.0"} <= codes
    for name, array in stored.items():
        assert array.dtype == (mx.int8 if name in codes else mx.float32), name
    largest = max(np.abs(np.asarray(stored[name]).astype(int)).max() for name in codes)
    assert largest == 127


def test_parameters_are_the_trained_ones(folder: Path) -> None:
    loaded = checkpoint.load(folder)
    arrays = dict(tree_flatten(loaded.model.parameters()))
    expected = sum(array.size for name, array in arrays.items() if "running" not in name)
    assert loaded.parameters == expected > 0
    assert repr(loaded) == f"LoadedModel(tiny-spikes, {expected / 1e6:.2f}M parameters)"


def test_an_interrupted_save_keeps_the_old_weights(
    folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (folder / name).read_bytes() for name in checkpoint.FILES}
    other = spiking_model(9, vocab_size=tokenizer.vocab_size)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, other, tokenizer)
    with pytest.raises(KeyboardInterrupt):
        replace_file(folder / "config.json", b"{}")
    assert {path.name for path in folder.iterdir()} == set(checkpoint.FILES)
    assert {name: (folder / name).read_bytes() for name in checkpoint.FILES} == before


def _weights(change: Callable[[Arrays], Any]) -> Callable[[Path], Any]:
    """Change the stored arrays of a folder."""

    def apply(folder: Path) -> None:
        path = str(folder / "model.safetensors")
        arrays = dict(mx.load(path))
        mx.eval(arrays)
        change(arrays)
        mx.save_safetensors(path, arrays)

    return apply


def _config(**changes: Any) -> Callable[[Path], Any]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(data))

    return apply


def _nan(name: str) -> Callable[[Path], Any]:
    def change(arrays: Arrays) -> None:
        array = np.array(arrays[name])
        array.reshape(-1)[3] = np.nan
        arrays[name] = mx.array(array)

    return _weights(change)


def _text(name: str, content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(content)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing key": (_weights(lambda a: a.pop("blocks.0.query")), "missing key blocks.0.query"),
    "missing statistics": (
        _weights(lambda a: a.pop("head_read.running_mean")),
        "missing key head_read.running_mean",
    ),
    "missing unit": (_weights(lambda a: a.pop("head.unit")), "head.unit"),
    "extra key": (
        _weights(lambda a: a.update({"blocks.7.query": mx.zeros(3)})),
        "unknown keys ['blocks.7.query']",
    ),
    "extra unit": (
        _weights(lambda a: a.update({"head_read.shift.unit": mx.ones(32)})),
        "head_read.shift.unit",
    ),
    "wrong shape": (
        _weights(lambda a: a.update({"blocks.0.up": a["blocks.0.up"][:, :5]})),
        "blocks.0.up: expected shape (32, 64), got (32, 5)",
    ),
    "transposed": (
        _weights(lambda a: a.update({"blocks.0.up": mx.contiguous(a["blocks.0.up"].T)})),
        "blocks.0.up: expected shape (32, 64), got (64, 32)",
    ),
    "wrong unit shape": (
        _weights(lambda a: a.update({"blocks.0.up.unit": a["blocks.0.up.unit"][:5]})),
        "blocks.0.up",
    ),
    "one unit for all": (
        _weights(lambda a: a.update({"blocks.0.up.unit": a["blocks.0.up.unit"][:1]})),
        "blocks.0.up",
    ),
    "NaN shift": (_nan("blocks.0.value_neurons.shift"), "blocks.0.value_neurons.shift holds NaN"),
    "NaN unit": (_nan("embedding.unit"), "embedding holds NaN"),
    "infinite variance": (
        _weights(lambda a: a.update({"head_read.running_variance": mx.full((32,), np.inf)})),
        "head_read.running_variance holds NaN or infinity",
    ),
    "not safetensors": (_text("model.safetensors", "hello"), "not a readable safetensors file"),
    "empty weights": (_text("model.safetensors", ""), "not a readable safetensors file"),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-100]
        ),
        "not a readable safetensors file",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "bad JSON": (_text("config.json", '{"width": 32,'), "config.json: not JSON"),
    "not UTF-8": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json: not JSON"),
    "not an object": (_text("config.json", "[1, 2]"), "config.json: expected an object"),
    "unknown model_type": (
        _config(model_type="llama"),
        "expected model_type spike_transformer or transformer, got 'llama'",
    ),
    "unknown key": (_config(depth=3), "unknown model keys ['depth']"),
    "word for a number": (_config(width="wide"), "config.json"),
    "no heads": (_config(heads=0), "heads"),
    "other width": (_config(width=64), "expected shape"),
    "more layers": (_config(layers=2), "missing key blocks.1."),
    "fewer n-gram tables": (_config(ngram_rows=[64]), "ngrams."),
    "bad tokenizer": (_text("tokenizer.json", "{}"), "tokenizer.json is not a tokenizer.json"),
    "other tokenizer": (
        lambda f: Tokenizer.train(["a b c d e"], 260).save(f / "tokenizer.json"),
        "vocab",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_line(
    damage: Callable[[Path], Any], message: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(ValueError) as caught:
        checkpoint.load(folder)
    line = str(caught.value)
    assert message in line
    assert "tiny-spikes" in line  # which folder
    assert "\n" not in line


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model folder at .*nowhere; expected a folder with"):
        checkpoint.load(tmp_path / "nowhere")


def test_nan_is_refused_before_it_is_stored(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = spiking_model(0, vocab_size=tokenizer.vocab_size)
    model.head = mx.full(model.head.shape, np.nan)
    with pytest.raises(ValueError, match="NaN"):
        checkpoint.save(tmp_path / "model", model, tokenizer)
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_build_by_model_type() -> None:
    spiking, twin = spiking_model(0), twin_model(0)
    assert isinstance(checkpoint.build(spiking.config.to_dict()), SpikeTransformer)
    assert isinstance(checkpoint.build(twin.config.to_dict()), Transformer)
    with pytest.raises(ValueError, match="got None"):
        checkpoint.build({"width": 32})
