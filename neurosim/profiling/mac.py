"""What only a Mac can tell: a GPU capture for Xcode, and energy. Never run by us."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx

from neurosim.kernels._metal import gpu_unavailable
from neurosim.profiling.timing import Run

_SECONDS = 2.0  # of calls under the meter
_ZEUS = {"cpu": "cpu_total", "gpu": "gpu"}  # what is shown -> the sensor's part
_POWER = re.compile(r"^(CPU|GPU) Power: (\d+) mW$", re.MULTILINE)


def check_capture(path: Path) -> None:
    """ValueError, with the reason, where no capture can be written to this path."""
    reason = gpu_unavailable()
    if reason is not None:
        raise ValueError(f"--capture needs a Metal GPU: {reason}")
    if path.suffix != ".gputrace":
        raise ValueError(f"expected a capture file ending in .gputrace, got {path.name}")
    if path.exists():
        raise ValueError(f"expected a path where nothing is yet, got {path}; Metal refuses it")
    if os.environ.get("MTL_CAPTURE_ENABLED") != "1":
        raise ValueError(
            "--capture needs MTL_CAPTURE_ENABLED=1 in the environment before Python starts; "
            f"try MTL_CAPTURE_ENABLED=1 neurosim profile ... --capture {path}"
        )


@contextmanager
def capture(path: Path) -> Iterator[None]:
    """Record the Metal commands inside into a .gputrace; open it in Xcode."""
    check_capture(path)
    mx.metal.start_capture(str(path))
    try:
        yield
    finally:
        mx.metal.stop_capture()


def energy_source() -> str:
    """ "zeus" or "powermetrics"; ValueError, with the reason, where there is neither."""
    if sys.platform != "darwin":
        raise ValueError(
            "--energy needs macOS on Apple silicon: it reads zeus-apple-silicon or powermetrics, "
            f"and this is {sys.platform}"
        )
    if find_spec("zeus_apple_silicon") is not None:
        return "zeus"
    if shutil.which("powermetrics") is None or os.geteuid() != 0:
        raise ValueError(
            "--energy needs `pip install zeus-apple-silicon`, or root for powermetrics "
            "(sudo neurosim profile ...)"
        )
    return "powermetrics"


def energy(run: Run, source: str) -> dict[str, float]:
    """Joules per call of the whole machine, {"cpu_J": ..., "gpu_J": ...}, idle power included."""
    run()
    return _zeus(run) if source == "zeus" else _powermetrics(run)


def _repeat(run: Run) -> tuple[int, float]:
    """Calls made within the time, and the time."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        run()
        calls += 1
    return calls, time.perf_counter() - start


def _zeus(run: Run) -> dict[str, float]:
    from neurosim.energy.measured import AppleSensor

    sensor = AppleSensor()
    sensor.begin()
    calls, _ = _repeat(run)
    found = sensor.end()
    return {f"{part}_J": found.get(name, 0.0) / calls for part, name in _ZEUS.items()}


def _powermetrics(run: Run) -> dict[str, float]:
    milliseconds = int(_SECONDS * 800)
    meter = subprocess.Popen(
        ["powermetrics", "--samplers", "cpu_power,gpu_power", "-i", str(milliseconds), "-n", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    calls, seconds = _repeat(run)
    text, _ = meter.communicate(timeout=10)
    return joules(text, seconds / calls)


def joules(text: str, seconds: float) -> dict[str, float]:
    """J per call of `seconds`, from what powermetrics prints."""
    watts = {name: int(value) / 1000 for name, value in _POWER.findall(text)}
    if set(watts) != {"CPU", "GPU"}:
        raise ValueError(f"expected CPU and GPU power from powermetrics, got {sorted(watts)}")
    return {"cpu_J": watts["CPU"] * seconds, "gpu_J": watts["GPU"] * seconds}
