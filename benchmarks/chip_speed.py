"""Speed of the chip's run loop and mesh on one core, in CPU time.

    python -m benchmarks.chip_speed [--tokens 64] [--samples 5] [--json]
                                    [--only language|links|large]

- language: generated tokens per second of the shipped model, sampling included, after a prompt of
  8 tokens: window batching, and packets and words on queueing links with and without a clock.
  ag_v2c_w draws thresholds in every cycle (C2C), read noise and programming errors.
- links: packet-hops per second of the link model alone.
- large: a network of SmolLM2-135M's shapes with random integer weights: seconds to place it, to
  program its crossbars and build its neurons, and for a token; peak memory of the process. Its
  gated feed-forward stands as two matrices of as many weights, 576 x 2304; keys and values of the 3
  shared heads are written to all 9; the tied table is stored as table and as read-out.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip import ChipDescription, load_chip, place, with_values
from neurosim.chip.mesh import Grid, LinkTiming, Packets, Routes, transport
from neurosim.events import Simulator
from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, load
from neurosim.models.sampling import Sampler
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    Embedding,
    Network,
    NeuronBank,
    Node,
    Readout,
)
from neurosim.pipeline import spiking, versions
from neurosim.profiling.environment import restart

QUEUED = {"routing.transport": "queued"}
WAYS: dict[str, tuple[dict[str, str], int]] = {
    "window batching": ({}, 1),
    "queues, a clock": (QUEUED, 1),
    "queues, no clock": ({**QUEUED, "routing.sync": "none"}, 1),
    "queues, a clock, 4 chips": (QUEUED, 4),
}
PROMPT = 8


def _chip(name: str, way: str) -> tuple[ChipDescription, int]:
    values, chips = WAYS[way]
    return with_values(load_chip(name), values), chips


def language(tokens: int, samples: int) -> Iterator[dict[str, Any]]:
    """Tokens per second of the shipped model; ways interleaved, medians over samples."""
    fast_blas.enable()
    loaded = load(DEFAULT)
    folded = spiking(loaded)
    network = folded.lower()
    cases = [(name, way) for name in ("ideal", "ag_v2c_w") for way in WAYS]
    rates: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    sampler = Sampler(banned=loaded.tokenizer.end_of_text)
    for sample in range(samples):
        for name, way in cases:
            chip, chips = _chip(name, way)
            simulator = Simulator(network, chip, sample, chips)
            generator = np.random.default_rng(sample)
            for token in range(1, PROMPT + 1):
                logits = simulator.step(token)
            simulator.begin("decode")
            logits = simulator.step(sampler.choose(logits * folded.logit_unit, generator))
            start = time.process_time()
            for _ in range(tokens):
                logits = simulator.step(sampler.choose(logits * folded.logit_unit, generator))
            rates[name, way].append(tokens / (time.process_time() - start))
    for (name, way), found in rates.items():
        yield {
            "case": "language",
            "chip": name,
            "way": way,
            "tokens_per_s": statistics.median(found),
            "slowest": min(found),
            "fastest": max(found),
        }


def links(samples: int) -> Iterator[dict[str, Any]]:
    """Packet-hops per second on 10 x 9 tiles: 200,000 packets of 4 targets, light load and
    saturated."""
    rng = np.random.default_rng(0)
    grid = Grid.build(10, 9, LinkTiming(3.2e9, 6.5e-9), 8)
    pairs = [(int(rng.integers(90)), rng.choice(90, 4, replace=False).tolist()) for _ in range(500)]
    routes = Routes.build(grid, pairs)
    count = 200_000
    for load_name, seconds in (("light", 1e-2), ("saturated", 1e-6)):
        packets = Packets.of(
            rng.random(count) * seconds,
            rng.integers(0, 5000, count),
            rng.integers(0, 500, count),
            10,
        )
        transport(grid, routes, packets)
        taken = []
        for _ in range(samples):
            start = time.process_time()
            sent = transport(grid, routes, packets)
            taken.append(time.process_time() - start)
        yield {
            "case": "links",
            "load": load_name,
            "packets": count,
            "hops": sent.hops,
            "hops_per_s": sent.hops / statistics.median(taken),
        }


@dataclass(frozen=True)
class Shapes:
    """Of SmolLM2-135M: 134.5 M distinct parameters."""

    vocabulary: int = 49152
    width: int = 576
    layers: int = 30
    heads: int = 9
    shared_heads: int = 3
    hidden: int = 1536

    @property
    def parameters(self) -> int:
        """Distinct ones: table, four projections, three feed-forward matrices a layer."""
        shared = self.width * self.shared_heads // self.heads
        layer = 2 * self.width**2 + 2 * self.width * shared + 3 * self.width * self.hidden
        return self.vocabulary * self.width + self.layers * layer


class _Builder:
    """A network of these shapes. Untrained, it fires more than a trained one: with int8
    weights drawn evenly (deviation 73) a sum of I inputs with n^2 = 0.25 on average deviates by
    73 sqrt(0.25 I); a bank's 2h is 1.6 deviations of what it reads (of an attention unit's sums,
    0.4, as its state is nearly empty in the first tokens)."""

    def __init__(self, shapes: Shapes) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Node] = []
        self.edges: list[tuple[str, str]] = []
        self.layer: dict[str, str] = {}
        self.residual_variance = 73.0**2
        self._build(shapes)

    def _weights(self, rows: int, columns: int) -> npt.NDArray[np.int8]:
        return self.rng.integers(-127, 128, (rows, columns), np.int8)

    def _add(self, node: Node, where: str, *sources: str) -> str:
        self.nodes.append(node)
        self.layer[node.name] = where
        self.edges += [(source, node.name) for source in sources]
        return node.name

    def _crossbar(self, name: str, source: str, rows: int, columns: int, where: str) -> str:
        return self._add(Crossbar(name, self._weights(rows, columns)), where, source)

    def _bank(self, name: str, source: str, size: int, deviation: float, where: str) -> str:
        half = np.full(size, max(round(0.8 * deviation), 1), np.int64)
        node = NeuronBank(name, half, np.zeros(size, np.int64), 4, True)
        return self._add(node, where, source)

    def _write(self, crossbar: str, inputs: int) -> None:
        self.edges.append((crossbar, "residual"))
        self.residual_variance += 73.0**2 * 0.25 * inputs

    def _build(self, shapes: Shapes) -> None:
        width, size = shapes.width, shapes.width // shapes.heads
        self._add(Embedding("table", self._weights(shapes.vocabulary, width)), "table")
        self._add(Accumulator("residual", width), "residual", "table")
        hidden = 3 * shapes.hidden // 2
        sums = 73.0 * math.sqrt(0.25 * width)
        for index in range(shapes.layers):
            at, where = f"{index}.", f"layer {index}"
            read = self._read(at + "read", width, where)
            parts = [
                self._bank(
                    at + part, self._crossbar(f"{at}w{part}", read, width, width, where), width,
                    sums, where,
                )
                for part in "qkv"
            ]  # fmt: skip
            decay = np.full(shapes.heads, 4)
            unit = AttentionUnit(at + "attention", shapes.heads, size, decay, 4)
            out = self._add(unit, where, *parts)
            spikes = self._bank(at + "o", out, width, 4 * math.sqrt(size), where)
            self._write(self._crossbar(at + "wo", spikes, width, width, where), width)
            read = self._read(at + "middle", width, where)
            up = self._crossbar(at + "up", read, width, hidden, where)
            spikes = self._bank(at + "hidden", up, hidden, sums, where)
            self._write(self._crossbar(at + "down", spikes, hidden, width, where), hidden)
        read = self._read("head_read", width, "head")
        head = self._crossbar("head", read, width, shapes.vocabulary, "head")
        self._add(Readout("logits", shapes.vocabulary, 1.0), "head", head)

    def _read(self, name: str, width: int, where: str) -> str:
        return self._bank(name, "residual", width, math.sqrt(self.residual_variance), where)

    def network(self) -> Network:
        """What was built."""
        return Network(tuple(self.nodes), tuple(self.edges), self.layer)


def large_once(name: str, way: str) -> dict[str, Any]:
    """Place, program and run one network; CPU seconds and this process's peak memory."""
    shapes = Shapes()
    network = _Builder(shapes).network()
    chip, chips = _chip(name, way)
    marks = [time.process_time()]
    placement = place(network, chip, chips)
    marks.append(time.process_time())
    simulator = Simulator(network, chip, 0, chips)
    marks.append(time.process_time())
    simulator.begin("decode")
    simulator.step(1)
    marks.append(time.process_time())
    simulator.step(2)
    marks.append(time.process_time())
    seconds = np.diff(marks).tolist()
    run = simulator.run()
    stored = sum(node.weight.size for node in network if isinstance(node, Crossbar))
    return {
        "case": "large",
        "chip": name,
        "way": way,
        "parameters": shapes.parameters,
        "weights_on_chip": stored + shapes.vocabulary * shapes.width,
        "tiles": placement.used_tiles,
        "place_s": seconds[0],
        "program_s": seconds[1] - seconds[0],  # the simulator places again
        "first_token_s": seconds[2],
        "token_s": seconds[3],
        "total_s": seconds[1] + seconds[2],
        "peak_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "spikes_per_neuron": run.spike_rate,
    }


def large(samples: int) -> Iterator[dict[str, Any]]:
    """Each in a process of its own, for its peak memory; medians over samples."""
    for name in ("ideal", "ag_v2c_w"):
        for way in ("window batching", "queues, a clock"):
            command = [sys.executable, "-m", "benchmarks.chip_speed", "--one", name, way]
            found = [
                json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                for _ in range(min(samples, 3))
            ]
            row = dict(found[0])
            for key in ("place_s", "program_s", "first_token_s", "token_s", "total_s", "peak_GB"):
                row[key] = statistics.median(part[key] for part in found)
            yield row


def _line(row: dict[str, Any]) -> str:
    if row["case"] == "language":
        return (
            f"{row['chip']:9} {row['way']:25} {row['tokens_per_s']:7.0f} tokens/s "
            f"({row['slowest']:.0f} .. {row['fastest']:.0f})"
        )
    if row["case"] == "links":
        return f"links, {row['load']:9} {row['hops_per_s'] / 1e6:5.1f} M packet-hops/s"
    return (
        f"{row['parameters'] / 1e6:.0f} M parameters ({row['weights_on_chip'] / 1e6:.0f} M on the "
        f"chip) on {row['chip']:9} {row['way']:16}: place {row['place_s']:.2f} s, program "
        f"{row['program_s']:.2f} s, first token {row['first_token_s']:.2f} s, next "
        f"{row['token_s']:.2f} s; place, program and first token {row['total_s']:.2f} s; peak "
        f"{row['peak_GB']:.2f} GB; {row['spikes_per_neuron']:.2f} spikes per neuron and window"
    )


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="CPU time of the chip's run loop and mesh")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--only", choices=("language", "links", "large"))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    restart([sys.executable, "-m", "benchmarks.chip_speed", *sys.argv[1:]], 1)
    if options.one:
        print(json.dumps(large_once(*options.one)))
        return
    parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "language": lambda: language(options.tokens, options.samples),
        "links": lambda: links(options.samples),
        "large": lambda: large(options.samples),
    }
    for name, rows in parts.items():
        if options.only not in (None, name):
            continue
        for row in rows():
            row |= {"threads": 1, **versions()}
            print(json.dumps(row) if options.json else _line(row), flush=True)


if __name__ == "__main__":
    main()
