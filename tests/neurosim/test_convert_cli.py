"""`neurosim convert` as it is typed, and the weights it fetches by name."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_folders import random_weights, small_config, write_folder

from neurosim.cli import main
from neurosim.models.tensor_files import SINGLE, TensorFolder
from neurosim.models.text import cache
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.sources import Source
from neurosim.models.text.weights import SMOLLM2, fetch_smollm2, fetch_weights


def test_report(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(source), str(out), "--to", "braingpt", "--bits", "6"]) == 0
    printed = capsys.readouterr()
    assert f"{out}: BrainGPT of 35,104 parameters, 2 layers, 6-bit spike counts" in printed.out
    assert "bits each" in printed.out
    assert "of memory" in printed.out
    assert main(["convert", str(source), str(out), "--force", "--weight-bits", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stored = TensorFolder(out)
    assert report["weight_bytes"] == sum(stored.nbytes(name) for name in stored.names)
    assert report["parameters"] == small_config().parameters
    assert (report["weight_bits"], report["stop_ids"]) == (4, [0, 2])
    assert report["tokenizer"] is True
    assert report["warnings"] == []
    assert 0 < report["peak_memory_bytes"] < 4e9


def test_warnings_are_printed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "tokenizer.json").unlink()
    assert main(["convert", str(source), str(tmp_path / "out")]) == 0
    assert "no tokenizer; the model can be run on token ids only" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("damage", ["shard", "config", "place"])
def test_errors_are_one_line_and_nothing_is_written(
    source: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if damage == "shard":
        path = source / SINGLE
        path.write_bytes(path.read_bytes()[:-5])
        message = "model.safetensors: tensor "
    elif damage == "config":
        (source / "config.json").write_text("{")
        message = "config.json: not JSON"
    else:
        out.write_text("a file")
        message = "is a file"
    assert main(["convert", str(source), str(out)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("neurosim convert: ")
    assert message in line
    assert (
        sorted(item.name for item in tmp_path.iterdir()) == ["out", "source"][damage != "place" :]
    )


def test_options_that_do_not_exist(source: Path, tmp_path: Path) -> None:
    for options in (["--bits", "9"], ["--weight-bits", "3"], ["--to", "gpt2"]):
        with pytest.raises(SystemExit):
            main(["convert", str(source), str(tmp_path / "out"), *options])


def test_a_terminated_conversion_removes_its_files(tmp_path: Path) -> None:
    config = small_config(vocab_size=8192, hidden_size=2048, intermediate_size=8192)
    big = write_folder(tmp_path / "big", config, random_weights(config))
    command = [sys.executable, "-m", "neurosim", "convert", big, tmp_path / "out"]
    process = subprocess.Popen([*command, "--weight-bits", "4"], stderr=subprocess.PIPE)
    for _ in range(600):
        if list(tmp_path.glob(".out.unfinished.*/model.safetensors")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert printed.strip().endswith(b"neurosim convert: interrupted")
    assert [item.name for item in tmp_path.iterdir()] == ["big"]


# --- weights by name


def test_fetched_weights_are_checked_and_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    calls: list[str] = []

    def offline(wanted: Source, directory: Path) -> None:
        calls.append(wanted.name)
        path = directory / wanted.files[0].path
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")

    with pytest.raises(ValueError, match="the cache is left as it was"):
        fetch_smollm2(offline)
    assert list((tmp_path / "weights").iterdir()) == []
    (tmp_path / "expected").write_bytes(b"weights")
    right = replace(SMOLLM2.files[0], sha256=cache.file_sha256(tmp_path / "expected"))
    small = replace(SMOLLM2, files=(right,), raw_bytes=7)
    first = fetch_weights(small, offline)
    assert first == tmp_path / "weights" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert fetch_weights(small, offline) == first
    assert len(calls) == 2


@pytest.mark.slow
def test_smollm2_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real 135M model: names, sizes, chat template, stop tokens, and weights to half a step."""
    out = tmp_path / "out"
    assert main(["convert", "smollm2-135m", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == 134_515_008
    assert report["weight_bytes"] < 1.01 * report["parameters"]
    assert report["peak_memory_bytes"] < 1e9
    tokenizer = ChatTokenizer.load(out)
    assert tokenizer.vocab_size == 49_152
    assert tokenizer.stop_ids == (0, 2)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.encode("Hello world 2024") == [19556, 905, 216, 34, 32, 34, 36]
    floats = tmp_path / "floats"
    assert main(["convert", "smollm2-135m", str(floats), "--weight-bits", "32"]) == 0
    whole, codes = TensorFolder(floats), TensorFolder(out)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"):
        unit = codes.read(f"{name}.unit")[:, None]
        error = np.abs(codes.read(name) * unit - whole.read(name))
        assert (error <= 0.5001 * unit).all()
