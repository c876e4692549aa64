"""`neurosim profile`: its JSON, its table, its plot, and one line for everything that is wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neurosim.cli import main
from neurosim.kernels import metal_emulator
from neurosim.profiling import environment, roofline, timing
from neurosim.profiling.operations import OPERATIONS
from neurosim.profiling.predictions import print_predictions
from neurosim.profiling.roofline import Level, Roofline

Capture = pytest.CaptureFixture[str]
LINEAR = ("profile", "spike_linear", "--shape", "70x65x33")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are fixed, samples are as short as they get, the roofline is made up."""
    for name in environment.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(timing, "SHORT", timing.Effort(2, 0.0))
    monkeypatch.setattr(roofline, "measure", lambda: Roofline((Level("L1", 1_000, 100e9),), 50e9))


def report(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert isinstance(found, dict)
    return found


def test_json(capsys: Capture) -> None:
    found = report(capsys, *LINEAR, "--density", "0.5,0.1")
    assert set(found) == {"header", "roofline", "rows", "break_even"}
    head = found["header"]
    assert {"date", "commit", "machine", "versions", "threads", "mlx_blas", "numpy_blas",
            "torch_blas"} <= set(head)  # fmt: skip
    assert {"cpu", "cores", "load", "system", "caches"} == set(head["machine"])
    assert {"numpy", "numba", "mlx", "python"} <= set(head["versions"])
    assert head["threads"] == 1
    assert found["roofline"]["sgemm_GMAC_per_s"] == 50
    ours = [row for row in found["rows"] if row["kind"] == "ours"]
    assert {row["density"] for row in ours} == {0.1, 0.5}
    for row in ours:
        assert row["shape"] == {"R": 70, "I": 65, "O": 33}
        assert row["operation"] == "spike_linear"
        times = row["cpu_us"]
        assert 0 < times["p20"] <= times["median"] <= times["p80"]
        rivals = [
            other["cpu_us"]["median"]
            for other in found["rows"]
            if other["kind"] == "dense" and other["density"] == row["density"]
        ]
        assert row["dense_ratio"] == pytest.approx(min(rivals) / times["median"])
        rate = row["synaptic_operations"] / (times["median"] * 1e-6)
        assert row["synaptic_operations_per_s"] == pytest.approx(rate)
        fraction = row["bytes"] / (times["median"] * 1e-6) / 100e9
        assert row["roofline_fraction"] == pytest.approx(fraction)
    assert {row["against"] for row in found["break_even"]} >= {"dense"}


def test_table(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    assert main([*LINEAR, "--density", "0.1", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert "spike_linear R=70 I=65 O=33" in text
    assert "break-even density of" in text and "numpy" in text and "sgemm 50 GMAC/s" in text
    assert json.loads(path.read_text())["rows"]


def test_narrow_output_cuts_no_number() -> None:
    """A pipe is 80 columns to Rich; the table of predictions needs more."""
    row = {
        "operation": "spike_attention_decay_step", "shape": {"H": 8, "D": 24}, "density": 0.05,
        "candidate": "sums", "launches": 1, "bytes": 664_000, "issue_cycles": 1_480_000,
        "predicted_us": 9.76, "bound": "memory",
    }  # fmt: skip
    result = {"chip": "M1", "label": "predicted", "rows": [row], "without_metal": []}
    out = io.StringIO()
    print_predictions(result, Console(file=out, width=30))
    for whole in ("spike_attention_decay_step", "H=8 D=24", "0.05", "664 kB", "9.76 us", "memory"):
        assert whole in out.getvalue()


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / f"times{suffix}"
    assert main([*LINEAR, "--density", "0.1,0.5", "--plot", str(path)]) == 0
    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head


def test_list(capsys: Capture) -> None:
    assert main(["profile", "--list"]) == 0
    assert "spike_linear " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nosuch",), "unknown operation nosuch; choose from pack"),
        (("spike_linear", "--shape", "3x4"), "expected a shape RxIxO of positive sizes"),
        (("spike_linear", "--shape", "3x0x4"), "expected a shape RxIxO of positive sizes"),
        (("spike_linear", "--shape", "abc"), "expected a shape like 1024x512x512, got 'abc'"),
        (("spike_linear", "--algo", "magic"), "expected algo auto, gather, lut, pattern, dense"),
        (("sdsa", "--algo", "lut"), "expected algo auto of sdsa, got lut"),
        (("--shape", "3x4x5"), "expected one operation with a shape"),
        (("spike_linear", "--density", "0"), "expected densities above 0 and up to 1, got 0"),
        (("spike_linear", "--density", "1.1"), "expected densities above 0"),
        (("spike_linear", "--density", "nan"), "expected densities above 0"),
        (("spike_linear", "--density", "a,b"), "expected densities like 0.05,0.2"),
        (("events", "--backend", "reference"), "expected operations with a choice of backend"),
        ((*LINEAR[1:], "--backend", "gpu"), "expected backend auto, cpu"),
        ((*LINEAR[1:], "--backend", "metal-emulated"), "the emulator's and says nothing"),
        (("spike_linear", "--threads", "0"), "expected --threads >= 1"),
        (("spike_linear", "--threads", "2"), "expected 2 thread(s) set in the environment"),
        (("spike_linear", "--plot", "times.txt"), "ending in .png, .svg, .pdf, got times.txt"),
        (("spike_linear", "--plot", "/no/folder/x.png"), "expected an existing folder"),
        (("spike_linear", "--json", "/no/folder/x.json"), "existing folder for the JSON"),
        (("lif_scan", "--plot", "x.png"), "an operation whose time depends on density"),
        (("--model", "m9"), "unknown chip m9; choose from m1"),
        (("--model", "m1", "--plot", "x.png"), "leave out --plot"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str, capsys: Capture) -> None:
    assert main(["profile", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("neurosim profile: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_the_command_starts_itself_again_with_its_threads_fixed() -> None:
    """As a user calls it: no thread count in the environment."""
    given = {n: v for n, v in os.environ.items() if n not in environment.THREAD_VARIABLES}
    command = [sys.executable, "-m", "neurosim", "profile", "pack", "--shape", "9x70"]
    result = subprocess.run(
        [*command, "--density", "0.5", "--json"], env=given, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["header"]["threads"] == 1


def test_restart_fixes_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(environment.os, "execve", lambda *given: started.append(given))
    environment.restart(["python", "-m", "neurosim"], 1)
    assert started == []
    environment.restart(["python", "-m", "neurosim"], 3)
    (_, command, variables) = started[0]
    assert command == ["python", "-m", "neurosim"]
    assert all(variables[name] == "3" for name in environment.THREAD_VARIABLES)


@pytest.mark.skipif(
    metal_emulator.unavailable() is not None or OPERATIONS["spike_linear"].small is None,
    reason=f"nothing to emulate: {metal_emulator.unavailable()}",
)
def test_model(capsys: Capture) -> None:
    arguments = ("profile", "spike_linear", "--model", "m1", "--density", "0.2")
    found = report(capsys, *arguments)
    assert "never measured" in found["label"] and found["chip"].startswith("Apple M1")
    for row in found["rows"]:
        assert row["predicted_us"] >= row["bytes"] / 68e9 * 1e6 / row["launches"] > 0
        assert row["bound"] in ("memory", "issue")
    assert main(list(arguments)) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "predicted, lower bound" in text and "spike_linear" in text
    assert main([*arguments, "--shape", "4096x4096x4096"]) == 2
    assert "because every access is emulated" in capsys.readouterr().err
