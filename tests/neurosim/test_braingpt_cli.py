"""A converted model as a user meets it: run, run on a chip, chat, eval."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from model_folders import add_tokenizer, random_weights, small_config, write_folder
from rich.console import Console

from neurosim.chip import load_chip
from neurosim.cli import main
from neurosim.cli.chat import Conversation
from neurosim.converted import ChipModel, run_converted
from neurosim.models import Sampler, held_out, load
from neurosim.models.braingpt.loading import LoadOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, a tokenizer of 300, a chat template."""
    config = small_config(max_position_embeddings=512)
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(path, config, {n: 8 * w for n, w in random_weights(config).items()})
    add_tokenizer(path)
    return path


def test_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", str(folder), "--prompt", "the cat", "--tokens", "12"]
    assert main([*arguments, "--temperature", "1", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("the cat")
    for words in ("tokens/s", "events per multiply-accumulate", "context 4096", "unary spikes"):
        assert words in printed


def test_run_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--tokens", "9", "--json", "--out", str(out), "--weight-bits", "8"]
    options += ["--silu", "exact"]
    assert main(["run", "--model", str(folder), "--prompt", "dog", *options]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((out / "report.json").read_text())
    made = data["tokens"]["generated"]
    decode = data["events"]["decode"]
    macs = 2 * (32 * (32 + 16 + 16) + 32 * 32 + 3 * 32 * 96)
    assert decode["multiply_accumulates"] == (made - 1) * macs
    assert [part["context"] for part in data["energy"]] == [128, 4096]
    assert data["energy"][0]["weight_bits"] == 8
    assert data["energy"][0]["silu"] == "exact"
    activity = data["energy"][0]["activity"]
    assert activity["tokens"] == made - 1
    each = {code: total / (made - 1) for code, total in decode["operations"].items()}
    assert activity["operations_per_token"] == pytest.approx(each)


@pytest.mark.parametrize("drive", ["pulse_width", "bit_plane"])
def test_run_on_an_ideal_chip(folder: Path, drive: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every count and logit as in software, so the same text; energy beside it."""
    options = ["--tokens", "5", "--json", "--weight-bits", "8", "--temperature", "0"]
    arguments = ["run", "--model", str(folder), "--prompt", "the cat", *options]
    assert main(arguments) == 0
    software = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--chip", "ideal", "--check", "--drive", drive]) == 0
    chip = json.loads(capsys.readouterr().out)
    assert chip["text"] == software["text"]
    assert chip["events"] == software["events"]
    assert chip["chip"]["check"]["differences"] == 0
    assert chip["chip"]["check"]["compared"] > 1000
    assert chip["chip"]["energy"]["phase"] == "decode"
    assert chip["chip"]["J_per_token"] == pytest.approx(
        sum(chip["chip"]["by_mechanism_J"].values())
    )


def test_run_on_a_chip_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", str(folder), "--weight-bits", "8", "--tokens", "4"]
    assert main([*arguments, "--chip", "ag_v2c_w", "--check"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "on the simulated chip ag_v2c_w:" in printed
    assert "differ from the model's own" in printed


def test_a_check_compares_counts_and_logits(folder: Path) -> None:
    """On a chip that is not exact more differs than the logits alone, and no more than there is."""
    loaded = load(folder, LoadOptions(weight_bits=8))
    model = ChipModel(loaded.model, load_chip("ag_v2c_w"), 8, check=True)
    model(np.arange(3, 9), model.new_cache())
    logits = 6 * 320
    assert logits < model.differences < model.compared


def test_a_new_text_on_a_chip(folder: Path) -> None:
    loaded = load(folder, LoadOptions(weight_bits=8))
    model = ChipModel(loaded.model, load_chip("ideal"), 4, check=True)
    for _ in range(2):  # the caches have room for one text
        logits = model(np.arange(3, 7), model.new_cache())
        np.testing.assert_array_equal(logits, loaded.model(np.arange(3, 7), last=True))
    assert model.differences == 0


def test_run_without_spikes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", str(folder), "--tokens", "4", "--mode", "ann"]) == 0
    assert "nothing is priced" in capsys.readouterr().out


def test_chat_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chat", "--model", str(folder), "--prompt", "the cat", "--max-tokens", "6"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["text"] + "\n" == text
    assert data["finish_reason"] in ("stop", "length")


def test_conversation(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second turn from the cache is what a new process would answer; /reset forgets."""

    def talk(*lines: str) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        assert main(["chat", "--model", str(folder), "--max-tokens", "5"]) == 0
        return capsys.readouterr().out.splitlines()

    first = talk("the cat")
    assert talk("the cat", "/reset", "the cat") == first + first
    twice = talk("the cat", "sat on")
    assert twice[: len(first)] == first
    assert talk("the cat", "sat on", "/quit", "never") == twice


class _Terminal(io.StringIO):
    """Lines that a person types."""

    def isatty(self) -> bool:
        return True


def test_a_message_too_long_does_not_end_the_conversation(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error advises /reset, so there must be someone to say it to; a script fails."""
    arguments = ["chat", "--model", str(folder), "--max-tokens", "5"]
    lines = "".join(f"{line}\n" for line in ("the cat", "x " * 900, "sat on"))
    monkeypatch.setattr(sys, "stdin", _Terminal(lines.replace("x " * 900 + "\n", "")))
    assert main(arguments) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", _Terminal(lines))
    assert main(arguments) == 0
    found = capsys.readouterr()
    assert found.out.replace("> > ", "> ") == expected
    assert "/reset" in found.err
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert main(arguments) == 2


def test_a_reply_that_breaks_off_is_forgotten(folder: Path) -> None:
    """The cache holds part of it; the next turn must not go on from there."""
    options = argparse.Namespace(
        system=None, max_tokens=6, stop=[], seed=0, temperature=0.0, top_k=0, top_p=1.0
    )
    loaded = load(folder)
    broken, whole = Conversation(loaded, options), Conversation(loaded, options)
    for conversation in (broken, whole):
        list(conversation.reply("the cat"))
    next(broken.reply("the dog sat on"))
    found, expected = ([r.token for r in c.reply("it's 1234")] for c in (broken, whole))
    assert found == expected


def test_nothing_decoded_is_not_called_nothing_spiked(folder: Path) -> None:
    loaded = load(folder, LoadOptions(weight_bits=8))
    ids = loaded.tokenizer.encode("the cat")
    loaded.tokenizer.stop_ids = (int(loaded.model(np.array(ids), last=True).argmax()),)
    report = run_converted(loaded, ids, 4, chip=load_chip("ideal"))
    console = Console(width=200, file=io.StringIO())
    console.print(report)
    printed = console.file.getvalue()
    assert "stopped at the first token" in printed and "a prompt token" in printed
    assert "in this mode" not in printed and "generation: 1 tokens\n" in printed


def test_the_gains_of_a_model_are_priced(folder: Path) -> None:
    loaded = load(folder)
    loaded.model.gained = ("L0.q_proj", "L1.up_proj")  # as of a folder made with --even
    report = run_converted(loaded, [3, 4], 4, Sampler(2.0, 0, None))
    moved = report.to_dict()["energy"][0]["bytes_per_token"]["weights"]
    assert moved["channel gains"] == 4 * (32 + 96)


def test_eval(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.random.default_rng(0).integers(3, 300, 101)
    monkeypatch.setattr("neurosim.cli.eval.held_out_tokens", lambda tokenizer, count: ids)
    assert main(["eval", "--model", str(folder), "--window", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == 100
    assert found["perplexity"] == pytest.approx(np.exp(found["nats_per_token"]))
    assert main(["eval", "--model", str(folder), "--mode", "ann"]) == 0
    assert "perplexity" in capsys.readouterr().out


def test_held_out_tokens_go_on_into_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {"test": np.arange(5), "validation": np.arange(5, 20)}
    monkeypatch.setattr(held_out, "fetch", lambda names: None)
    monkeypatch.setattr(held_out, "split_stream", lambda split, tokenizer, sources: streams[split])
    np.testing.assert_array_equal(held_out.held_out_tokens(None, 3), np.arange(4))
    np.testing.assert_array_equal(held_out.held_out_tokens(None, 9), np.arange(10))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--tokens", "1"], "tokens >= 2"),
        (["run", "--check"], "--chip"),
        (["run", "--chip", "ideal"], "integer weights"),
        (["run", "--chip", "ideal", "--weight-bits", "8", "--mode", "reference"], "cpu"),
        (["run", "--silu", "staircase"], "pulses"),
        (["run", "--bits", "9"], "2 to 8"),
        (["run", "--chip", "ideal", "--chips", "2"], "--chips"),
        (["eval", "--chips", "2"], "--chips"),
        (["chat", "--prompt", "x" * 4000], "context"),
        (["chat", "--json"], "--prompt"),
        (["chat", "--prompt", "  "], "empty"),
        (["chat", "--prompt", "the", "--top-p", "0"], "top_p"),
        (["eval", "--chip", "ideal"], "--chip"),
        (["eval", "--window", "0"], "--window"),
        (["eval", "--window", "513", "--tokens", "600"], "context of 512"),
        (["run", "--tokens", "510"], "context of 512"),
        (["run", "--staircase", "file"], "needs silu='staircase'"),
    ],
)
def test_bad_input(
    folder: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([arguments[0], "--model", str(folder), *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_chat_needs_a_chat_template(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neurosim.models.checkpoint import DEFAULT

    assert main(["chat", "--model", str(DEFAULT), "--prompt", "hello"]) == 2
    assert "neurosim convert" in capsys.readouterr().err


def test_options_that_another_model_would_ignore(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--bits", "4"], ["--silu", "exact"], ["--mode", "ann"]):
        assert main(["run", *arguments]) == 2
        assert f"{arguments[0]} is for BrainGPT" in capsys.readouterr().err


def test_options_of_a_braingpt_on_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--model", "/nowhere", "--prompt", "hello"]) == 2
    assert "/nowhere" in capsys.readouterr().err
