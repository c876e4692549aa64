"""Networks of populations, timed: `python -m benchmarks.networks [peers] [sizes] [threads] [cold]`.

peers: CUBA, COBA and Brunel beside Brian2's C++ standalone (its Python given by --brian2), run in
turn; sizes: CUBA-like networks of 1,000 to --largest neurons, speed and memory; threads: wall time
with one and two; cold: the first result of a new process, with and without compiled kernels on
disk. CPU seconds per simulated second, median and smallest .. largest; JSON lines to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.events.simulate import Options, simulate
from neurosim.events.steps.costs import predict
from neurosim.populations import SpikingNetwork, brunel, coba, cuba
from neurosim.profiling.environment import header, restart

ROOT = Path(__file__).resolve().parent.parent
BRIAN2_SCRIPT = ROOT / "benchmarks/peers/brian2_networks.py"
NETWORKS: dict[str, Callable[..., SpikingNetwork]] = {"cuba": cuba, "coba": coba, "brunel": brunel}
COLD = """
import sys
from neurosim.events.simulate import Options, simulate
from neurosim.populations import examples
network = getattr(examples, sys.argv[1])()
recording = simulate(network, 0.1, options=Options(precision=sys.argv[2]))
print(len(recording.times), recording.engine)
"""


def own_weights(network: SpikingNetwork) -> SpikingNetwork:
    """The same network with a weight stored for every synapse."""
    projections = tuple(
        replace(
            item,
            synapses=replace(
                item.synapses, weight=np.full(item.synapses.count, item.synapses.weight)
            ),
        )
        for item in network.projections
    )
    return SpikingNetwork(network.populations, projections, network.drives)


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest, largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Case:
    """One network on one engine; `run` simulates it once."""

    def __init__(
        self, name: str, network: SpikingNetwork, engine: str, options: Options, seconds: float
    ) -> None:
        self.name, self.network, self.engine = name, network, engine
        self.options, self.seconds = options, seconds
        self.cpu: list[float] = []
        self.wall: list[float] = []
        simulate(network, min(seconds, 0.01), engine=engine, options=options)  # compiles

    def run(self) -> None:
        """Time the whole call: set-up, progress, sorting of the spikes included."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.last = simulate(self.network, self.seconds, engine=self.engine, options=self.options)
        self.cpu.append((time.process_time() - cpu) / self.seconds)
        self.wall.append((time.perf_counter() - wall) / self.seconds)

    def row(self) -> dict[str, Any]:
        """What was measured, and what the cost rule predicted with the measured rates."""
        rates = {population.name: self.last.rate(population.name) for population in self.network}
        bitmaps = self.engine == "bitmap"
        predicted = predict(self.network, self.options, bitmaps, rates)
        return {
            "network": self.name,
            "simulator": f"neurosim {self.engine}",
            "precision": self.options.precision,
            "threads": self.options.threads,
            "neurons": self.network.size,
            "synapses": self.network.synapse_count,
            "rate_hz": len(self.last.times) / self.network.size / self.last.duration,
            "cpu_s_per_s": spread(self.cpu),
            "wall_s_per_s": spread(self.wall),
            "predicted_cpu_s_per_s": predicted,
            "predicted_over_measured": predicted / statistics.median(self.cpu),
            "assumed_rates_cpu_s_per_s": predict(self.network, self.options, bitmaps),
            "synaptic_events_per_cpu_s": self.last.counts["synaptic_events"]
            / self.last.duration
            / statistics.median(self.cpu),
            "load": os.getloadavg()[0],
        }


class Brian2:
    """Brian2 in a process of its own, which builds once and runs on demand."""

    def __init__(self, python: str, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self.process = subprocess.Popen(
            [python, str(BRIAN2_SCRIPT), "serve", name, "--seconds", str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.built = self._line()
        self.cpu: list[float] = []

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"Brian2 ended with code {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def run(self) -> None:
        """The run loop alone."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        self.last = self._line()
        self.cpu.append(self.last["loop_cpu_s"] / self.seconds)

    def row(self) -> dict[str, Any]:
        """What was measured; ends the process."""
        self.process.communicate()
        size = 12500 if self.name == "brunel" else 4000
        return {
            "network": self.name,
            "simulator": f"Brian2 {self.built['brian2']} C++ standalone",
            "precision": "float64",
            "threads": 1,
            "neurons": size,
            "rate_hz": self.last["spikes"] / size / self.seconds,
            "cpu_s_per_s": spread(self.cpu),
            "build_s": self.built["build_s"],
            "load": os.getloadavg()[0],
        }


def peers(python: str | None, repeats: int) -> list[dict[str, Any]]:
    """Every engine and precision, and Brian2, in turn."""
    rows = []
    for name, build in NETWORKS.items():
        seconds = 0.5 if name == "brunel" else 1.0
        network = build()
        variants = [(name, network, "steps")]
        if name == "brunel":
            variants += [
                (name, network, "bitmap"),
                (f"{name}, own weights", own_weights(network), "steps"),
            ]
        cases: list[Case | Brian2] = [
            Case(label, net, engine, Options(precision=precision), seconds)
            for label, net, engine in variants
            for precision in ("float32", "float64")
        ]
        if python is not None:
            cases.append(Brian2(python, name, seconds))
        for turn in range(repeats):
            for case in cases:
                if isinstance(case, Case) or turn < 3:
                    case.run()
        rows += _shown(case.row() for case in cases)
    return rows


def _shown(rows: Any) -> list[dict[str, Any]]:
    """Print rows as they come."""
    kept = []
    for row in rows:
        cpu = row["cpu_s_per_s"]
        line = f"{row['network']:20s} {row['simulator']:28s} {row['precision']:8s}"
        line += f" {row['threads']} thread  {row['rate_hz']:6.2f} Hz  "
        line += f"{cpu['median']:.4f} ({cpu['min']:.4f} .. {cpu['max']:.4f}) s/s"
        if "predicted_over_measured" in row:
            line += f"  predicted/measured {row['predicted_over_measured']:.2f}"
        if "build_s" in row:
            line += f"  build {row['build_s']:.0f} s"
        print(f"{line}  load {row['load']:.1f}", flush=True)
        kept.append(row)
    return kept


def sizes(largest: int) -> list[dict[str, Any]]:
    """CUBA-like networks, 80 synapses a neuron; each in this process, smallest first."""
    rows = []
    for size in (1000, 4000, 10_000, 30_000, 100_000, 300_000, 1_000_000):
        if size > largest:
            break
        seconds = min(1.0, 2e4 / size)
        network = cuba(size)
        case = Case("CUBA-like", network, "steps", Options(precision="float32"), seconds)
        for _ in range(3):
            case.run()
        stored = sum(item.synapses.bytes for item in network.projections)
        row = case.row() | {
            "bytes_per_synapse": stored / network.synapse_count,
            "peak_resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        rows += _shown([row])
        print(
            f"    {row['bytes_per_synapse']:.2f} bytes/synapse, "
            f"peak {row['peak_resident_bytes'] / 2**20:.0f} MiB",
            flush=True,
        )
    return rows


def threads(repeats: int) -> list[dict[str, Any]]:
    """Wall time with one and two threads, in turn."""
    rows = []
    for name, network, engine, seconds in (
        ("brunel", brunel(), "bitmap", 0.5),
        ("brunel", brunel(), "steps", 0.5),
        ("CUBA-like", cuba(200_000), "steps", 0.1),
    ):
        cases = [
            Case(name, network, engine, Options(precision="float32", threads=count), seconds)
            for count in (1, 2)
        ]
        for _ in range(repeats):
            for case in cases:
                case.run()
        rows += _shown(case.row() for case in cases)
        one, two = (statistics.median(case.wall) for case in cases)
        print(f"    wall {one:.3f} -> {two:.3f} s/s: {one / two:.2f}x", flush=True)
    return rows


def cold() -> list[dict[str, Any]]:
    """CPU and wall seconds of a new process until its first 0.1 s of network time are there."""
    rows = []
    for name, precision in (("cuba", "float32"), ("coba", "float64"), ("brunel", "float32")):
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty", "filled"):
                begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(
                    [sys.executable, "-c", COLD, name, precision],
                    check=True,
                    cwd=ROOT,
                    env=os.environ | {"NUMBA_CACHE_DIR": cache},
                    stdout=subprocess.DEVNULL,
                )
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                wall = time.perf_counter() - begun
                row = {"network": name, "precision": precision, "cache": state}
                row |= {"cpu_s": cpu, "wall_s": wall, "load": os.getloadavg()[0]}
                print(f"cold {name} {precision} cache {state}: CPU {cpu:.2f} s, wall {wall:.2f} s")
                rows.append(row)
    return rows


def main() -> None:
    """Measure what is named (default: all), print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="peers, sizes, threads, cold")
    parser.add_argument("--brian2", help="a Python with Brian2; without it Brian2 is left out")
    parser.add_argument("--largest", type=int, default=1_000_000, help="neurons")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="default benchmarks/results/DATE-networks.jsonl")
    args = parser.parse_args()
    known = ("peers", "sizes", "threads", "cold")
    if set(args.what) - set(known):
        parser.error(f"expected {', '.join(known)}, got {' '.join(args.what)}")
    restart([sys.executable, "-m", "benchmarks.networks", *sys.argv[1:]], 1)
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "cold": cold,
        "peers": lambda: peers(args.brian2, args.repeats),
        "sizes": lambda: sizes(args.largest),
        "threads": lambda: threads(args.repeats),
    }
    head = header("not used", 1, "process CPU time, seconds per simulated second")
    path = args.out or ROOT / "benchmarks/results" / f"{head['date'][:10]}-networks.jsonl"
    rows = [head]
    for name, measure in measures.items():
        if name in (args.what or known):
            rows += [{"measured": name} | row for row in measure()]
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
