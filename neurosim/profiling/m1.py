"""How long a Metal kernel must at least take on an M1, from what the emulator counts.

Sources: bandwidth is Apple's figure, the rest philipturner/metal-benchmarks (cycles of throughput
per instruction, of Apple7 where known). Of every range the smallest is taken, because the
prediction is a lower bound. Nothing here was ever measured by us on a Mac.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from neurosim import kernels
from neurosim.kernels import metal_emulator
from neurosim.kernels._metal import MetalBackend
from neurosim.kernels.metal_emulator import Trace, emulate_traced
from neurosim.profiling.case import Operation, Request

BACKEND = "metal-model"
LABEL = "predicted, lower bound, arithmetic on registers not counted; never measured"
CYCLES = {
    "popcount": 4.0,
    "count_zeros": 4.0,  # as popcount and bit extraction
    "ballot": 2.0,
    "broadcast": 2.0,
    "shuffle": 2.0,  # up, down or rotate; any other pattern takes 28 and more
    "reduce": 14.5,  # of floats; of integers 16.6
    "prefix_sum": 12.0,
    "math": 4.0,
}
"""Issue cycles per executed operation and lane. Loads, stores, atomics and barriers have none."""


@dataclass(frozen=True)
class Chip:
    """What bounds a kernel.

    Attributes:
        bandwidth: of memory, bytes/s.
        lanes: cores times lanes of each.
        clock: Hz.
    """

    name: str
    bandwidth: float
    lanes: int
    clock: float


M1 = Chip("Apple M1, 8 cores", 68e9, 8 * 128, 1.278e9)
CHIPS = {"m1": M1}


@dataclass(frozen=True)
class Prediction:
    """Lower bound of the launches of one call, one after another.

    Attributes:
        launches: kernels started.
        moved: different bytes read and written, each launch's own: memory behind a perfect cache.
        cycles: issue cycles of all lanes, counted operations only.
        seconds: sum over the launches of the larger of both limits.
        by_bytes: of it, in launches that memory limits.
    """

    launches: int
    moved: int
    cycles: float
    seconds: float
    by_bytes: float

    @property
    def bound(self) -> str:
        """What limits most of the time."""
        return "memory" if self.by_bytes >= self.seconds / 2 else "issue"


def issue_cycles(trace: Trace) -> float:
    """Cycles of the counted operations, over all lanes."""
    return sum(cycles * trace.operations.get(name, 0) for name, cycles in CYCLES.items())


def moved(trace: Trace) -> int:
    """Different bytes that a launch reads and writes."""
    return sum(buffer.unique_read + buffer.unique_written for buffer in trace.buffers)


def predict(traces: Sequence[Trace], chip: Chip = M1) -> Prediction:
    """max(bytes / bandwidth, cycles / (lanes x clock)) of each launch, added up."""
    seconds = by_bytes = 0.0
    for trace in traces:
        memory = moved(trace) / chip.bandwidth
        issue = issue_cycles(trace) / (chip.lanes * chip.clock)
        seconds += max(memory, issue)
        by_bytes += memory if memory >= issue else 0.0
    return Prediction(
        len(traces), sum(map(moved, traces)), sum(map(issue_cycles, traces)), seconds, by_bytes
    )


@contextmanager
def traced() -> Iterator[list[Trace]]:
    """Operations with Metal kernels get the backend `BACKEND`; yields the list of its launches."""
    traces: list[Trace] = []

    def launch(kernel: object, **arguments: Any) -> list[Any]:
        outputs, trace = emulate_traced(kernel, **arguments)
        traces.append(trace)
        return list(outputs)

    added = []
    try:
        for info in pkgutil.iter_modules(kernels.__path__):
            if not info.ispkg or info.name == "metal_emulator":
                continue
            table = getattr(
                importlib.import_module(f"neurosim.kernels.{info.name}"), "BACKENDS", {}
            )
            if "metal-emulated" in table:
                module = importlib.import_module(f"neurosim.kernels.{info.name}.metal")
                table[BACKEND] = MetalBackend(module, launch, metal_emulator.unavailable)
                added.append(table)
        yield traces
    finally:
        for table in added:
            del table[BACKEND]


class NoMetalForm(ValueError):
    """An operation that starts no Metal kernel."""


def model(operation: Operation, request: Request, chip: Chip = M1) -> dict[str, Prediction]:
    """Our candidate -> prediction; a candidate that has no Metal form is left out.

    Raises:
        NoMetalForm: no candidate ran, with the reasons.
        ValueError: the emulator cannot run here.
    """
    reason = metal_emulator.unavailable()
    if reason is not None:
        raise ValueError(f"expected a machine that can emulate Metal, but {reason}")
    found, reasons = {}, {}
    with traced() as traces:
        case = operation.build(replace(request, backend=BACKEND))
        for name, candidate in case.of("ours").items():
            traces.clear()
            try:
                candidate.run()
            except ValueError as error:
                reasons[name] = str(error)
                continue
            if traces:
                found[name] = predict(traces, chip)
            else:
                reasons[name] = "started no Metal kernel"
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise NoMetalForm(f"{operation.name} has no Metal form to predict: {why}")
    return found
