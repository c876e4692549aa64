"""`neurosim train` and `neurosim eval` from end to end, on the text that ships with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.cli import main, train
from neurosim.models import checkpoint, held_out
from neurosim.models.evaluation import log_softmax
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import Tokenizer, token_stream

SETTINGS = """
steps = 4
batch = 2
context = 16
warmup = 1
log_every = 1
evaluate_every = 2
checkpoint_every = 2
repeat = {{ vital = 2 }}
tokenizer = "{tokenizer}"

[model]
model_type = "{kind}"
width = 32
layers = 1
heads = 2
{more}
"""


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sources hold the bundled text; nothing is fetched."""

    def documents(split: str, sources: Iterable[str] | None = None) -> list[Any]:
        return sample_documents()

    def stream(split: str, tokenizer: Tokenizer, seed: int = 0, sources: Any = None) -> Any:
        return token_stream(sample_documents(), tokenizer, {"train": 0, "test": 1}[split])

    monkeypatch.setattr(train, "fetch", lambda *_, **__: {})
    monkeypatch.setattr(train, "load_split", documents)
    monkeypatch.setattr(held_out, "fetch", lambda *_, **__: {})
    monkeypatch.setattr(held_out, "split_stream", stream)


def _train(folder: Path, kind: str, tokenizer: Tokenizer, more: str = "") -> Path:
    tokenizer.save(folder / "tokenizer.json")
    config = folder / f"{kind}.toml"
    path = folder / "tokenizer.json"
    config.write_text(SETTINGS.format(tokenizer=path, kind=kind, more=more))
    assert main(["train", str(config), "--out", str(folder / kind)]) == 0
    return folder / kind / "model"


@pytest.mark.usefixtures("texts")
def test_train_then_evaluate(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both models from their settings; then eval prints what a direct computation gives."""
    size = f"vocab_size = {tokenizer.vocab_size}"
    spiking = _train(tmp_path, "spike_transformer", tokenizer, f"decay_shift = [1, 3]\n{size}")
    twin = _train(tmp_path, "transformer", tokenizer, size)
    capsys.readouterr()
    arguments = ["--model", str(spiking), "--twin", str(twin), "--json"]
    chip = ["--chip", "ideal", "--tokens", "20", "--seeds", "5"]
    assert main(["eval", *arguments, *chip]) == 0
    found = json.loads(capsys.readouterr().out)
    loaded = checkpoint.load(spiking)
    folded = FoldedSpikeTransformer.fold(loaded.model)  # type: ignore[arg-type]
    stream = token_stream(sample_documents(), tokenizer, 1).astype(np.int64)
    context = loaded.model.config.context
    bits = 0.0
    for start in range(0, len(stream) - 1, context):
        window = stream[start : start + context + 1]
        log_p = log_softmax(folded.forward(window[:-1])[0] * folded.logit_unit)
        bits -= log_p[np.arange(len(window) - 1), window[1:]].sum() / np.log(2)
    size_in_bytes = int(tokenizer.bytes_per_token(stream[1:]).sum())
    assert found["test"]["bytes"] == size_in_bytes
    assert found["model"]["bits_per_byte"] == pytest.approx(bits / size_in_bytes, rel=1e-12)
    ratio = found["model"]["bits_per_byte"] / found["ann_twin"]["bits_per_byte"]
    assert found["over_twin"] == pytest.approx(ratio - 1, abs=1e-12)
    assert found["kneser_ney"]["bits_per_byte"] < found["model"]["bits_per_byte"]
    assert found["chip"]["tokens"] == 20
    on_chip = found["chip"]["chip_bits_per_byte"]["5"]
    assert on_chip == pytest.approx(found["chip"]["ideal_bits_per_byte"], rel=1e-12)


@pytest.mark.usefixtures("texts")
def test_train_refuses_another_vocabulary(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first step, not when the finished model is loaded."""
    with pytest.raises(AssertionError):
        _train(tmp_path, "transformer", tokenizer, "vocab_size = 999")
    assert "model.vocab_size" in capsys.readouterr().err


@pytest.mark.usefixtures("texts")
def test_train_learns(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The loss of a few steps on a few pages falls: the loop is wired to the model."""
    size = f"vocab_size = {tokenizer.vocab_size}"
    _train(tmp_path, "transformer", tokenizer, size)
    lines = (tmp_path / "transformer" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("texts")
def test_eval_refuses_other_tokenizers(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Tokenizer.train(["a b c d e f"], 300)
    twin = _train(tmp_path, "transformer", other, f"vocab_size = {other.vocab_size}")
    capsys.readouterr()
    assert main(["eval", "--model", str(tiny_checkpoint), "--twin", str(twin)]) == 2
    assert "different tokenizers" in capsys.readouterr().err
