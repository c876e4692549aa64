"""The process a measurement runs in: its thread count, its machine, its versions.

Nothing here imports numpy: BLAS reads its thread count when it is loaded.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_PACKAGES = ("neurosim-memristor", "numpy", "scipy", "numba", "llvmlite", "mlx", "torch")
_ROOT = Path(__file__).resolve().parents[2]


def fixed_threads(threads: int) -> bool:
    """Whether the environment names this thread count everywhere."""
    return all(os.environ.get(name) == str(threads) for name in THREAD_VARIABLES)


def restart(command: Sequence[str], threads: int) -> None:
    """Replace this process by the same command with its thread count fixed, if it is not."""
    if not fixed_threads(threads):
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, list(command), environment)


def header(mlx_blas: str, threads: int, clock: str) -> dict[str, Any]:
    """Machine, versions, commit, BLAS names, threads and load, for the head of a report."""
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "header": True,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "uncommitted": _git("status", "--porcelain", "kernels", "neurosim", "benchmarks/*.py")
        .splitlines(),
        "machine": {
            "system": platform.platform(),
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "caches": caches(),
            "load": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version()} | _versions(),
        "threads": threads,
        "mlx_blas": mlx_blas,
        "numpy_blas": f"{blas['name']} {blas['version']}",
        "torch_blas": _torch_blas(),
        "clock": clock,
    }  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _torch_blas() -> str | None:
    """Name of torch's BLAS, None without torch."""
    if find_spec("torch") is None:
        return None
    torch: Any = import_module("torch")
    return "MKL" if torch.backends.mkl.is_available() else "not MKL"


def commit() -> str:
    """The commit of our own tree; empty where there is none."""
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    """What git says about our own tree; nothing where we are installed in somebody else's."""
    if not (_ROOT / "pyproject.toml").is_file():
        return ""
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return result.stdout.rstrip() if result.returncode == 0 else ""


def cpu_name() -> str:
    """The processor's name, family and model as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    name = fields.get("model name", platform.machine()).strip()
    parts = [
        f"{word} {fields[key].strip()}"
        for key, word in (("cpu family", "family"), ("model", "model"))
        if key in fields
    ]
    return ", ".join([name, *parts])


def caches() -> dict[str, int]:
    """Bytes of each data cache of one core, {"L1": ..., "L2": ...}; empty where unknown."""
    found: dict[str, int] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (folder / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1]) * 1024
    return found or _mac_caches()


def _mac_caches() -> dict[str, int]:
    """The performance cores' caches, from sysctl."""
    found = {}
    for level, key in (("L1", "hw.perflevel0.l1dcachesize"), ("L2", "hw.perflevel0.l2cachesize")):
        try:
            result = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True)
        except OSError:
            return {}
        if result.returncode == 0 and result.stdout.strip().isdigit():
            found[level] = int(result.stdout)
    return found
