"""Runs ngspice in batch mode and reads what it measured."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

_MEASURED = re.compile(r"^(\w+)\s*=\s*([-+0-9.eE]+)", re.MULTILINE)
_TIME_LIMIT = 600.0


def find_ngspice() -> str | None:
    """Path of the ngspice program, None where it is not installed."""
    return shutil.which("ngspice")


def version() -> str:
    """Version of the installed ngspice, e.g. `39`; ValueError where there is none."""
    text = _call(["--version"], None)
    found = re.search(r"ngspice-(\S+)", text)
    return found.group(1) if found else "unknown"


def _call(arguments: list[str], folder: Path | None) -> str:
    program = find_ngspice()
    if program is None:
        raise ValueError("ngspice is not installed; e.g. apt-get install ngspice")
    try:
        done = subprocess.run(
            [program, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"ngspice needed more than {_TIME_LIMIT:g} s; use fewer steps") from error
    return done.stdout + done.stderr


def measure(netlist: str) -> dict[str, float]:
    """Run a deck; the results of its `meas` lines by name (7 digits). A failed one is missing."""
    with tempfile.TemporaryDirectory(prefix="neurosim-spice-") as name:
        folder = Path(name)
        (folder / "deck.cir").write_text(netlist, encoding="ascii")
        text = _call(["-b", "deck.cir"], folder)
    return {key.lower(): float(value) for key, value in _MEASURED.findall(text)}


def waveform(netlist: str) -> npt.NDArray[np.float64]:
    """Run a deck that ends in `wrdata out.dat v(m)`; rows of (time, voltage), 12 digits."""
    with tempfile.TemporaryDirectory(prefix="neurosim-spice-") as name:
        folder = Path(name)
        (folder / "deck.cir").write_text(netlist, encoding="ascii")
        text = _call(["-b", "deck.cir"], folder)
        path = folder / "out.dat"
        if not path.exists():
            raise ValueError(f"ngspice wrote no waveform: {text.strip()[-300:]}")
        return np.loadtxt(path, dtype=np.float64, ndmin=2)[:, :2]
