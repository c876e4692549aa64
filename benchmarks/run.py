"""Measure the kernels: `python -m benchmarks.run [GROUP ...]`; JSON lines in benchmarks/results.

CPU time of the whole process (MLX computes in a thread of its own), candidates interleaved, median
with the 20 and 80 percentiles. `--base REF` measures that commit too and prints the ratios.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosim.profiling.environment import header, restart

if TYPE_CHECKING:
    from neurosim.profiling.timing import Effort

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Parse the arguments, fix the thread count, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help="kernels (all of them) or groups; default: all")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1)")
    parser.add_argument("--out", type=Path, help="file (default benchmarks/results/DATE.jsonl)")
    parser.add_argument("--base", help="a commit to compare with")
    parser.add_argument("--rows", action="store_true", help="print JSON lines, write no file")
    arguments = parser.parse_args()
    restart([sys.executable, "-m", "benchmarks.run", *sys.argv[1:]], arguments.threads)

    from benchmarks.registry import GROUPS, KERNELS
    from neurosim.profiling.timing import LONG

    named = [
        group for word in arguments.groups for group in (KERNELS if word == "kernels" else (word,))
    ]
    unknown = sorted(set(named) - set(GROUPS))
    if unknown:
        parser.error(f"unknown group {', '.join(unknown)}; choose from {', '.join(GROUPS)}")
    groups = list(dict.fromkeys(named)) or list(GROUPS)
    rows = measure(groups, arguments.threads, LONG, announce=not arguments.rows)
    if "blas" in groups and os.environ.get("NEUROSIM_FAST_BLAS") != "0":
        without = _elsewhere(["blas"], ROOT, arguments.threads, NEUROSIM_FAST_BLAS="0")
        rows += without
        if not arguments.rows:
            for row in without[1:]:
                print(_line(row))
    if arguments.rows:
        for row in rows:
            print(json.dumps(row))
        return 0
    path = arguments.out or ROOT / "benchmarks/results" / f"{rows[0]['date'][:10]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(_rounded(row)) + "\n" for row in rows))
    print(f"wrote {path}")
    if arguments.base:
        _compare(rows, at_commit(arguments.base, groups, arguments.threads), arguments.base)
    return 0


def measure(
    groups: list[str], threads: int, effort: Effort, announce: bool
) -> list[dict[str, Any]]:
    """A header row and one row per case and candidate."""
    from benchmarks.registry import cases
    from neurosim.kernels import fast_blas
    from neurosim.profiling import roofline
    from neurosim.profiling.analysis import Measured
    from neurosim.profiling.session import by_wall_clock
    from neurosim.profiling.timing import interleaved

    limits = roofline.measure()
    by_wall = by_wall_clock(threads)
    clock = "wall time" if by_wall else "process CPU time"
    rows = [header(fast_blas.enable(), threads, clock) | {"roofline": limits.to_dict()}]
    if announce:
        print(json.dumps(rows[0], indent=1))
    for group in groups:
        for case in cases(group, threads):
            case.check()
            runs = {name: candidate.run for name, candidate in case.candidates.items()}
            for row in Measured(case, interleaved(runs, effort, by_wall)).rows(limits):
                about = {"threads": threads, "mlx_blas": rows[0]["mlx_blas"]}
                rows.append({"group": group, **row, **about})
                if announce:
                    print(_line(rows[-1]), flush=True)
    return rows


def _elsewhere(
    groups: list[str], folder: Path, threads: int, **environment: str
) -> list[dict[str, Any]]:
    """The rows that another process measures."""
    command = [sys.executable, "-m", "benchmarks.run", "--rows", *groups]
    result = subprocess.run(
        [*command, "--threads", str(threads)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}:\n{result.stderr}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def at_commit(reference: str, groups: list[str], threads: int) -> list[dict[str, Any]]:
    """The rows of a commit, measured in a copy of its tree; groups it does not know are named."""
    archive = subprocess.run(
        ["git", "archive", "--format=zip", reference], cwd=ROOT, capture_output=True, check=True
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(archive.stdout)) as tree:
            tree.extractall(folder)
        for group in groups:
            try:
                rows += _elsewhere([group], Path(folder), threads)
            except RuntimeError as error:
                if "unknown group" not in str(error):
                    raise
                print(f"{reference} has no group {group}")
    return rows


def _rounded(value: Any) -> Any:
    """Floats to five digits, which is more than they are worth."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _key(row: dict[str, Any]) -> str:
    shape = " ".join(f"{name}{size}" for name, size in row["shape"].items())
    density = "" if row["density"] is None else f" p={row['density']}"
    slow = " (fast BLAS off)" if row["mlx_blas"].startswith("MLX default") else ""
    return f"{row['operation']} {shape}{density} {row['candidate']}{slow}"


def _line(row: dict[str, Any]) -> str:
    times = row["wall_us" if row.get("clock") == "wall" else "cpu_us"]
    return f"{_key(row):64s} {times['median']:11.2f} us  ({times['p20']:.2f} .. {times['p80']:.2f})"


def _compare(rows: list[dict[str, Any]], base: list[dict[str, Any]], name: str) -> None:
    """Print the ratio of median times, base over this."""
    clock = "wall_us" if rows[1].get("clock") == "wall" else "cpu_us"
    before = {_key(row): row[clock]["median"] for row in base if "header" not in row}
    for row in rows:
        if "header" not in row and _key(row) in before:
            ratio = before[_key(row)] / row[clock]["median"]
            print(f"{_key(row):64s} {ratio:6.2f} x as fast as {name}")


if __name__ == "__main__":
    sys.exit(main())
