"""Measure the kernels: `python -m benchmarks.run [GROUP ...]`; JSON lines in benchmarks/results.

CPU time of the whole process (MLX computes in a thread of its own), candidates interleaved, median
with the 20 and 80 percentiles. `--base REF` measures that commit too and prints the ratios.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAMPLES, SAMPLE_SECONDS = 15, 0.004
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def main() -> int:
    """Parse the arguments, fix the thread count, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "groups", nargs="*", help="linear, attention, blas, neuron, chip (default: all)"
    )
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1)")
    parser.add_argument("--out", type=Path, help="file (default benchmarks/results/DATE.jsonl)")
    parser.add_argument("--base", help="a commit to compare with")
    parser.add_argument("--rows", action="store_true", help="print JSON lines, write no file")
    arguments = parser.parse_args()
    threads = str(arguments.threads)
    if any(os.environ.get(name) != threads for name in THREAD_VARIABLES):  # read at import only
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, threads)}
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.run", *sys.argv[1:]], environment
        )

    from benchmarks.registry import GROUPS

    unknown = sorted(set(arguments.groups) - set(GROUPS))
    if unknown:
        parser.error(f"unknown group {', '.join(unknown)}; choose from {', '.join(GROUPS)}")
    groups = arguments.groups or list(GROUPS)
    rows = measure(groups, announce=not arguments.rows)
    if "blas" in groups and os.environ.get("NEUROSIM_FAST_BLAS") != "0":
        without = _elsewhere(["blas"], ROOT, NEUROSIM_FAST_BLAS="0")
        rows += without
        if not arguments.rows:
            for row in without[1:]:
                print(_line(row))
    if arguments.rows:
        for row in rows:
            print(json.dumps(row))
        return 0
    head = rows[0]
    path = arguments.out or ROOT / "benchmarks/results" / f"{head['date'][:10]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"wrote {path}")
    if arguments.base:
        _compare(rows, _at_commit(arguments.base, groups), arguments.base)
    return 0


def measure(groups: list[str], announce: bool) -> list[dict[str, Any]]:
    """A header row and one row per case and candidate."""
    from benchmarks.registry import EXACT, GROUPS
    from neurosim.kernels import fast_blas

    rows = [header(fast_blas.enable())]
    if announce:
        print(json.dumps(rows[0], indent=1))
    for group in groups:
        for case in GROUPS[group]():
            if case.operation in EXACT:
                case.check()
            for name, times in _interleaved(case.candidates).items():
                rows.append(
                    {
                        "operation": case.operation,
                        "candidate": name,
                        "shape": case.shape,
                        "density": case.density,
                        "threads": rows[0]["threads"],
                        "mlx_blas": rows[0]["mlx_blas"],
                        **times,
                    }
                )
                if announce:
                    print(_line(rows[-1]), flush=True)
    return rows


def header(mlx_blas: str) -> dict[str, Any]:
    """Machine, versions, commit, threads and the active BLAS."""
    import numpy as np

    return {
        "header": True,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted": _git("status", "--porcelain", "kernels", "benchmarks/*.py").splitlines(),
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("numpy", "scipy", "numba", "mlx")},
        "threads": int(os.environ["OPENBLAS_NUM_THREADS"]),
        "mlx_blas": mlx_blas,
        "numpy_blas": " ".join(
            str(np.show_config(mode="dicts")["Build Dependencies"]["blas"][key])  # type: ignore[index]
            for key in ("name", "version")
        ),
        "clock": "process CPU time, microseconds per call",
    }


def _git(*arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() if result.returncode == 0 else ""


def _cpu() -> str:
    """The processor's name and family as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "cpu family", "model\t")
    return ", ".join(
        next((line.split(":")[1].strip() for line in lines if line.startswith(key)), "?")
        for key in wanted
    )


def _interleaved(candidates: dict[str, Callable[[], Any]]) -> dict[str, dict[str, Any]]:
    """Time all candidates in turn, SAMPLES times; each sample is a few milliseconds of calls."""
    import numpy as np

    calls: dict[str, int] = {}
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for name, run in candidates.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(SAMPLE_SECONDS / max(time.perf_counter() - start, 1e-7)))
    for _ in range(SAMPLES):
        for name, run in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls[name]):
                run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            samples[name].append((cpu / calls[name] * 1e6, wall / calls[name] * 1e6))
    rows = {}
    for name, values in samples.items():
        cpus, walls = np.array(values).T
        low, median, high = np.percentile(cpus, (20, 50, 80))
        rows[name] = {
            "cpu_us": {"median": float(median), "p20": float(low), "p80": float(high)},
            "wall_us": {"median": float(np.median(walls))},
            "calls": calls[name] * SAMPLES,
        }
    return rows


def _elsewhere(groups: list[str], folder: Path, **environment: str) -> list[dict[str, Any]]:
    """The rows that another process measures."""
    command = [sys.executable, "-m", "benchmarks.run", "--rows", *groups]
    threads = os.environ["OPENBLAS_NUM_THREADS"]
    result = subprocess.run(
        [*command, "--threads", threads],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}:\n{result.stderr}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def _at_commit(reference: str, groups: list[str]) -> list[dict[str, Any]]:
    """The rows of a commit, measured in a copy of its tree."""
    archive = subprocess.run(
        ["git", "archive", reference], cwd=ROOT, capture_output=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
            tree.extractall(folder, filter="data")
        return _elsewhere(groups, Path(folder))


def _key(row: dict[str, Any]) -> str:
    shape = " ".join(f"{name}{size}" for name, size in row["shape"].items())
    density = "" if row["density"] is None else f" p={row['density']}"
    slow = " (fast BLAS off)" if row["mlx_blas"].startswith("MLX default") else ""
    return f"{row['operation']} {shape}{density} {row['candidate']}{slow}"


def _line(row: dict[str, Any]) -> str:
    times = row["cpu_us"]
    return f"{_key(row):64s} {times['median']:11.2f} us  ({times['p20']:.2f} .. {times['p80']:.2f})"


def _compare(rows: list[dict[str, Any]], base: list[dict[str, Any]], name: str) -> None:
    """Print the ratio of median CPU times, base over this."""
    before = {_key(row): row["cpu_us"]["median"] for row in base if "header" not in row}
    for row in rows:
        if "header" not in row and _key(row) in before:
            ratio = before[_key(row)] / row["cpu_us"]["median"]
            print(f"{_key(row):64s} {ratio:6.2f} x as fast as {name}")


if __name__ == "__main__":
    sys.exit(main())
