"""CUBA, COBA and Brunel in Brian2's C++ standalone mode: statistics over seeds, or timed runs.

Run by a Python that has Brian2 (numpy < 2.4), not neurosim:

    python benchmarks/peers/brian2_networks.py statistics cuba --seconds 2 --out brian2_cuba.npz
    python benchmarks/peers/brian2_networks.py serve cuba --seconds 1

`serve` builds, prints one JSON line, then runs once for every line it reads and prints another:
CPU seconds of the run loop alone (without building, loading and connecting), and spikes. The
networks are those of `neurosim.populations.examples`; every run draws new connections.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import brian2 as b
import numpy as np
from brian2 import Hz, ms, mV, second
from spike_statistics import summary


def _va_network(equations: str, method: str, namespace: dict[str, Any], weights: Any) -> Any:
    group = b.NeuronGroup(
        4000,
        equations,
        threshold="v > Vt",
        reset="v = Vr",
        refractory=5 * ms,
        method=method,
        namespace=namespace,
    )
    group.v = "Vr + rand()*(Vt - Vr)"
    parts = []
    for source, variable, weight in (
        (group[:3200], "ge", weights[0]),
        (group[3200:], "gi", weights[1]),
    ):
        synapses = b.Synapses(
            source, group, on_pre=f"{variable} += w_", namespace={"w_": weight}, delay=0.1 * ms
        )
        synapses.connect(p=0.02)
        parts.append(synapses)
    return group, parts


def cuba() -> Any:
    """Current-based network of Vogels & Abbott (2005)."""
    equations = """dv/dt = (ge + gi - (v - El))/taum : volt (unless refractory)
                   dge/dt = -ge/taue : volt
                   dgi/dt = -gi/taui : volt"""
    namespace = {"taum": 20 * ms, "taue": 5 * ms, "taui": 10 * ms}
    namespace |= {"El": -49 * mV, "Vt": -50 * mV, "Vr": -60 * mV}
    return _va_network(equations, "exact", namespace, (1.62 * mV, -9 * mV))


def coba() -> Any:
    """Conductance-based network of Vogels & Abbott (2005)."""
    equations = """dv/dt = ((El - v) + ge*(Ee - v) + gi*(Ei - v))/taum : volt (unless refractory)
                   dge/dt = -ge/taue : 1
                   dgi/dt = -gi/taui : 1"""
    namespace = {"taum": 20 * ms, "taue": 5 * ms, "taui": 10 * ms, "El": -60 * mV}
    namespace |= {"Vt": -50 * mV, "Vr": -60 * mV, "Ee": 0 * mV, "Ei": -80 * mV}
    group, parts = _va_network(equations, "exponential_euler", namespace, (0.6, 6.7))
    group.ge = "clip(randn()*0.15 + 0.4, 0, 10)"
    group.gi = "clip(randn()*1.2 + 2.0, 0, 10)"
    return group, parts


def brunel() -> Any:
    """Random network of Brunel (2000), g = 5, eta = 2."""
    jump, gain = 0.1 * mV, 5.0
    namespace = {"taum": 20 * ms, "theta": 20 * mV, "vr": 10 * mV}
    group = b.NeuronGroup(
        12500,
        "dv/dt = -v/taum : volt (unless refractory)",
        threshold="v > theta",
        reset="v = vr",
        refractory=2 * ms,
        method="exact",
        namespace=namespace,
    )
    drive = b.PoissonInput(group, "v", 1000, 20 * Hz, weight=jump)
    parts = [drive]
    for source, weight in ((group[:10000], jump), (group[10000:], -gain * jump)):
        synapses = b.Synapses(
            source, group, on_pre="v_post += w_", namespace={"w_": weight}, delay=1.5 * ms
        )
        synapses.connect(p=0.1)
        parts.append(synapses)
    return group, parts


NETWORKS = {"cuba": cuba, "coba": coba, "brunel": brunel}


class Program:
    """A network built once; `run` runs it with new random numbers."""

    def __init__(self, name: str, seconds: float, record: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="brian2_"))
        b.prefs.logging.console_log_level = "ERROR"
        b.defaultclock.dt = 0.1 * ms
        b.set_device("cpp_standalone", directory=str(self.folder), build_on_run=False)
        group, parts = NETWORKS[name]()
        self.size = len(group)
        self.monitor = b.SpikeMonitor(group, record=record)
        b.device.insert_code(
            "before_network_run", "double loop_begin = double(std::clock()) / CLOCKS_PER_SEC;"
        )
        b.device.insert_code(
            "after_network_run",
            '{ FILE* out = fopen("loop_cpu.txt", "w"); fprintf(out, "%.9f", '
            "double(std::clock()) / CLOCKS_PER_SEC - loop_begin); fclose(out); }",
        )
        b.Network(group, *parts, self.monitor).run(seconds * second)
        began = time.perf_counter()
        b.device.build(directory=str(self.folder), compile=True, run=False, debug=False)
        self.build_seconds = time.perf_counter() - began

    def run(self) -> float:
        """CPU seconds of the run loop."""
        b.device.run(str(self.folder), with_output=False, run_args=[])
        return float((self.folder / "loop_cpu.txt").read_text())


def main() -> None:
    """One network: its statistics, or runs on demand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["statistics", "serve"])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    program = Program(args.network, args.seconds, record=args.mode == "statistics")
    try:
        if args.mode == "serve":
            print(
                json.dumps({"build_s": program.build_seconds, "brian2": b.__version__}), flush=True
            )
            for _ in sys.stdin:
                cpu = program.run()
                spikes = int(program.monitor.num_spikes)
                print(json.dumps({"loop_cpu_s": cpu, "spikes": spikes}), flush=True)
            return
        rows = []
        for _ in range(args.runs):
            program.run()
            times, neurons = np.asarray(program.monitor.t / second), np.asarray(program.monitor.i)
            rows.append(summary(times, neurons, program.size, args.seconds))
            print(rows[-1][:2], flush=True)
        rates, spreads, samples = (np.array(column) for column in zip(*rows, strict=True))
        np.savez_compressed(
            args.out,
            rates_hz=rates,
            cv=spreads,
            intervals_s=samples,
            seconds=args.seconds,
            brian2=b.__version__,
        )
    finally:
        shutil.rmtree(program.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
