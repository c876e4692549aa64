"""The command line: JSON that repeats, files, help, and one line for everything that is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from test_pipeline import INTERFACE

from neurosim import __version__, pipeline
from neurosim.cli import main

PROMPT = "The history of the city"
Capture = pytest.CaptureFixture[str]


def _arguments(model: Path, *extra: str) -> list[str]:
    return [
        "run", "--model", str(model), "--prompt", PROMPT, "--tokens", "3", "--chip", "ideal",
        "--no-quality", *extra,
    ]  # fmt: skip


def _json(capsys: Capture, *arguments: str) -> dict[str, object]:
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(captured.out, parse_constant=refuse)
    assert isinstance(data, dict)
    return data


def test_json_of_a_run(tiny_checkpoint: Path, capsys: Capture) -> None:
    """Every key of the interface, and nothing but JSON on stdout."""
    data = _json(capsys, *_arguments(tiny_checkpoint, "--check", "--json", "--seed", "9"))
    for key, parts in INTERFACE.items():
        assert key in data
        if parts is not None:
            assert parts <= set(data[key]), key  # type: ignore[call-overload]
    assert data["tokens"]["generated"] == 3  # type: ignore[index]
    assert data["check"]["mismatches"] == 0  # type: ignore[index]
    assert data["counts"]["multiplies"] == 0  # type: ignore[index]
    assert data["seed"] == 9


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w"])
def test_the_same_command_gives_the_same_json(
    chip: str, tiny_checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "QUALITY_TOKENS", 20)
    arguments = [*_arguments(tiny_checkpoint, "--json", "--check"), "--chip", chip]
    arguments.remove("--no-quality")
    first, second = (_json(capsys, *arguments) for _ in range(2))
    assert first.pop("wall_s") != second.pop("wall_s")
    assert json.dumps(first) == json.dumps(second)
    assert "quality" in first
    other = _json(capsys, *arguments, "--seed", "1")
    assert other["text"] != first["text"]


def test_options_reach_the_run(tiny_checkpoint: Path, capsys: Capture) -> None:
    data = _json(
        capsys, *_arguments(tiny_checkpoint, "--json", "--temperature", "0", "--top-k", "5")
    )
    assert data["sampling"] == {"temperature": 0.0, "top_k": 5}
    assert "check" not in data
    assert "quality" not in data
    assert data["text"].startswith(PROMPT)  # type: ignore[attr-defined]


def test_what_people_see(
    tiny_checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "QUALITY_TOKENS", 10)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = _arguments(tiny_checkpoint, "--check")
    arguments.remove("--no-quality")
    assert main([*arguments, "--chip", "ag_v2c_w"]) == 0
    text = capsys.readouterr().out
    assert PROMPT in text.splitlines()[0]
    for part in (
        "tiny-spikes", "on ag_v2c_w", "0 multiplications", "bits per byte ideal", "(seed 2)",
        "differ from the model's own (integer) forward pass (what this chip changes)",
        "PLACEHOLDER",
    ):  # fmt: skip
        assert part in " ".join(text.split()), part


def test_out_writes_report_and_plots(
    tiny_checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(_arguments(tiny_checkpoint, "--out", str(folder))) == 0
    printed = capsys.readouterr().out
    plots = ("energy", "spikes", "placement", "mesh")  # exact neurons have no membrane
    drawn = {f"{name}.{suffix}" for name in plots for suffix in ("png", "svg")}
    others = {"report.json", "events.parquet", "trace.json"}
    assert {path.name for path in folder.iterdir()} == drawn | others
    data = json.loads((folder / "report.json").read_text())
    assert set(INTERFACE) - {"check"} <= set(data)
    assert data["text"].startswith(PROMPT)
    assert PROMPT in printed
    assert printed.count("wrote") == len(drawn | others)
    for name in plots:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()


@pytest.mark.parametrize("name", ["ideal", "mine"])
def test_a_mismatch_on_an_exact_chip_is_exit_status_1(
    name: str, tiny_checkpoint: Path, tmp_path: Path, capsys: Capture, monkeypatch: Callable
) -> None:
    """Whatever the exact chip is called."""
    chip = tmp_path / "mine.toml"
    chip.write_text('base = "ideal"\nname = "mine"\n')
    found = {"sites": 9, "spikes_compared": 100, "mismatches": 1}
    monkeypatch.setattr(pipeline, "check", lambda *_: found)  # type: ignore[attr-defined]
    arguments = _arguments(tiny_checkpoint, "--check", "--json")
    chosen = "ideal" if name == "ideal" else str(chip)
    assert main([*arguments, "--chip", chosen]) == 1
    assert main([*arguments, "--chip", "ag_v2c_w"]) == 0
    capsys.readouterr()


# Bad input.


def _one_line(capsys: Capture, arguments: list[str], *parts: str) -> None:
    """Exit status 2, nothing on stdout, one line on stderr that names the problem."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith(f"neurosim {arguments[0]}: ")
    assert "Traceback" not in captured.err
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        (["--chip", "nobody"], ("nobody", "ideal", "ag_v2c_w")),
        (["--chip", "nowhere.toml"], ("nowhere.toml",)),
        (["--model", "/nowhere"], ("no model folder at /nowhere",)),
        (["--prompt", ""], ("empty",)),
        (["--prompt", "  \n "], ("empty",)),
        (["--prompt", "city " * 60], ("at most 31 tokens", "shorten it")),
        (["--tokens", "0"], ("tokens >= 1, got 0",)),
        (["--tokens", "-1"], ("tokens >= 1, got -1",)),
        (["--seed", "-1"], ("seed >= 0, got -1",)),
        (["--temperature", "-1"], ("temperature >= 0",)),
        (["--temperature", "nan"], ("temperature >= 0",)),
        (["--top-k", "-1"], ("top_k >= 0",)),
    ],
    ids=lambda value: "=".join(value)[:20] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("json_too", [False, True], ids=["text", "json"])
def test_bad_arguments(
    extra: list[str], parts: tuple[str, ...], json_too: bool, tiny_checkpoint: Path, capsys: Capture
) -> None:
    _one_line(capsys, [*_arguments(tiny_checkpoint), *extra, *["--json"] * json_too], *parts)


CHIPS = {
    "broken TOML": ("name = [1, 2\n", "chip.toml"),
    "empty": ("", "missing"),
    "unknown table": ('base = "ideal"\nname = "mine"\n[wings]\nspan = 3\n', "unknown keys wings"),
    "unknown base": ('base = "nobody"\n', "nobody"),
    "number without a unit": ('base = "ideal"\nname = "mine"\n[tile]\nrows = 12\n', "rows"),
    "NaN": (
        'base = "ideal"\nname = "mine"\n[window]\n'
        'duration = { value = nan, unit = "s", source = "x", evidence = "assumed" }\n',
        "finite",
    ),
    "too small a mesh": (
        'base = "ideal"\nname = "mine"\n[mesh]\n'
        'width = { value = 1, unit = "1", source = "x", evidence = "assumed" }\n'
        'height = { value = 1, unit = "1", source = "x", evidence = "assumed" }\n',
        "expected a mesh of at least",
    ),
}


@pytest.mark.parametrize(("text", "part"), CHIPS.values(), ids=CHIPS)
def test_bad_chip_files(
    text: str, part: str, tiny_checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(text)
    _one_line(capsys, [*_arguments(tiny_checkpoint), "--chip", str(path)], part)


def test_a_chip_that_is_a_folder_or_not_text(
    tiny_checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00\xfe")
    for name in ("folder.toml", "binary.toml"):
        path = str(tmp_path / name)
        _one_line(capsys, [*_arguments(tiny_checkpoint), "--chip", path], name)


def _without_a_key(folder: Path) -> None:
    path = str(folder / "model.safetensors")
    arrays = dict(mx.load(path))
    mx.eval(arrays)
    del arrays["blocks.0.query"]
    mx.save_safetensors(path, arrays)


def _with_nan(folder: Path) -> None:
    path = str(folder / "model.safetensors")
    arrays = dict(mx.load(path))
    mx.eval(arrays)
    unit = np.array(arrays["head.unit"])
    unit[...] = np.nan
    arrays["head.unit"] = mx.array(unit)
    mx.save_safetensors(path, arrays)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_without_a_key, "missing key blocks.0.query"),
        (_with_nan, "head holds NaN"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "not a readable safetensors file"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not a tokenizer.json"),
    ],
    ids=["missing key", "NaN", "not safetensors", "bad JSON", "no config", "bad tokenizer"],
)
def test_bad_checkpoints(
    damage: Callable[[Path], object],
    part: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    damage(folder)
    _one_line(capsys, _arguments(folder), part)


def test_an_output_folder_that_is_a_file(
    tiny_checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "taken"
    path.write_text("here")
    _one_line(capsys, _arguments(tiny_checkpoint, "--out", str(path)), "taken")
    assert path.read_text() == "here"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["eval", "--model", "/nowhere"], "no model folder at /nowhere"),
        (["train", "/nowhere.toml"], "/nowhere.toml"),
    ],
    ids=str,
)
def test_other_commands_refuse_too(arguments: list[str], part: str, capsys: Capture) -> None:
    _one_line(capsys, arguments, part)


def test_broken_training_settings(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "run.toml"
    path.write_text("steps = [\n")
    _one_line(capsys, ["train", str(path)], "run.toml")


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["run", "--tokens", "many"], ["run", "--wings"], ["train"]],
    ids=" ".join,
)
def test_words_argparse_refuses(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(arguments)
    assert exit_status.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: " in captured.err


def test_interruption(
    tiny_checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neurosim.cli.run.run_options", interrupted)
    assert main(_arguments(tiny_checkpoint)) == 130
    assert capsys.readouterr().err.strip() == "neurosim run: interrupted"


# Help and version, as a user starts them.


def _start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurosim", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_no_arguments_prints_help() -> None:
    done = _start()
    assert done.returncode == 0
    assert done.stderr == ""
    for part in ("usage: neurosim", "run", "eval", "train", "data", "--version"):
        assert part in done.stdout


def test_version() -> None:
    done = _start("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"neurosim {__version__}\n", "")


def test_help_of_every_command(capsys: Capture) -> None:
    for command, option in (("run", "--chip"), ("eval", "--twin"), ("train", "--out")):
        with pytest.raises(SystemExit) as exit_status:
            main([command, "--help"])
        assert exit_status.value.code == 0
        assert option in capsys.readouterr().out


def test_bad_input_as_a_user_starts_it(tiny_checkpoint: Path) -> None:
    done = _start(*_arguments(tiny_checkpoint, "--tokens", "0"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "neurosim run: expected tokens >= 1, got 0\n"
