"""One interface over the engines that advance a network of populations in time.

An engine says whether it can carry a network (`supports`), what a simulated second would cost it
(`cost`, predicted CPU seconds), and begins a simulation that is advanced in slices. `simulate`
chooses the cheapest that can, or the one asked for; the choice is logged.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from neurosim.chip.description import ChipDescription
from neurosim.events import engines
from neurosim.events.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from neurosim.events.engine import simulate as simulate_windows
from neurosim.events.recorder import Run
from neurosim.events.recording import Recording
from neurosim.network import Network
from neurosim.populations.network import SpikingNetwork

_LOG = logging.getLogger("neurosim.events")
_SLICES = 200  # at least; more where one takes longer than
_SLICE_SECONDS = 0.5  # of wall time, which Ctrl-C waits for
_FIRST_SLICE = 0.02  # s of simulated time
WINDOWS = "windows"
_NUMBER = (int, float, np.integer, np.floating)


@dataclass(frozen=True)
class Options:
    """How to simulate.

    `time_step` (s): of clock-driven engines only; the others are exact in continuous time.
    `precision`: "float64" or "float32" (clock-driven engines only). `threads`: same result for any
    number. `trace`: population -> neurons whose voltage is kept every `trace_step` (s).
    """

    time_step: float = 1e-4
    precision: str = "float64"
    seed: int = 0
    threads: int = 1
    trace: Mapping[str, Sequence[int]] = field(default_factory=dict)
    trace_step: float = 1e-4

    def __post_init__(self) -> None:
        for key in ("time_step", "trace_step"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"expected {key} > 0 s, got {value}")
        if self.precision not in ("float64", "float32"):
            raise ValueError(f'expected precision "float64" or "float32", got {self.precision!r}')
        if not isinstance(self.threads, int | np.integer) or self.threads < 1:
            raise ValueError(f"expected at least 1 thread, got {self.threads}")
        if not isinstance(self.seed, int | np.integer) or not 0 <= self.seed < 2**64:
            raise ValueError(f"expected a seed, an integer from 0 to 2^64 - 1, got {self.seed!r}")
        for name, neurons in self.trace.items():
            chosen = np.asarray(neurons)
            if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
                raise ValueError(f"trace of {name}: expected a list of neurons, got {neurons!r}")


class Simulation(Protocol):
    """A simulation under way. It owns all its state, as arrays."""

    time: float

    def advance(self, until: float) -> None:
        """Simulate up to and including `until` (s) >= `time`. Where it is cut does not matter."""

    def spikes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """All spikes up to `time`: times (K,) s and neurons (K,), in any order."""

    def counts(self) -> dict[str, int]:
        """Exact totals so far; see `Recording.counts`."""

    def traces(self) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Population -> sample times (S,) s and voltages (S, neurons) V after the events then."""

    def energy(self) -> dict[str, dict[str, float]]:
        """Population -> mechanism -> J; empty where no device is simulated."""

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything needed to go on, spikes included."""

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from `state()` of a simulation of the same network and options."""


class Engine(Protocol):
    """One way to advance time: a module with these three functions and a name."""

    NAME: str

    def supports(self, network: SpikingNetwork, options: Options) -> str | None:
        """None, or why this engine cannot carry the network."""

    def cost(self, network: SpikingNetwork, options: Options) -> float:
        """Predicted CPU seconds per simulated second."""

    def begin(self, network: SpikingNetwork, options: Options) -> Simulation:
        """A simulation at t = 0."""


def choose_engine(network: SpikingNetwork, options: Options, name: str = "auto") -> Engine:
    """The cheapest engine that can carry `network`, or the named one; ValueError says why not."""
    available = engines.available()
    if name != "auto" and name not in available:
        raise ValueError(f"expected engine auto, {', '.join(available)}, got {name!r}")
    refusals: dict[str, str] = {}
    candidates: dict[str, float] = {}
    for key, engine in available.items():
        if name not in ("auto", key):
            continue
        reason = engine.supports(network, options)
        if reason is None:
            candidates[key] = engine.cost(network, options)
        else:
            refusals[key] = reason
    if name in refusals:
        raise ValueError(f"engine {name} cannot carry this network: {refusals[name]}")
    if not candidates:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in refusals.items())
        raise ValueError(f"no engine can carry this network: {reasons}")
    chosen = name if name != "auto" else min(candidates, key=lambda key: candidates[key])
    costs = ", ".join(f"{key} {cost:.3g}" for key, cost in candidates.items())
    _LOG.info("engine %s for %r (predicted CPU s per s: %s)", chosen, network, costs)
    return available[chosen]


@overload
def simulate(
    network: SpikingNetwork,
    duration: float,
    *,
    engine: str = "auto",
    options: Options | None = None,
    progress: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> Recording: ...


@overload
def simulate(
    network: Network,
    duration: Sequence[int],
    *,
    engine: str = "auto",
    chip: ChipDescription,
    seed: int = 0,
    chips: int = 1,
) -> Run: ...


def simulate(
    network: SpikingNetwork | Network,
    duration: float | Sequence[int],
    *,
    engine: str = "auto",
    options: Options | None = None,
    progress: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    chip: ChipDescription | None = None,
    seed: int = 0,
    chips: int = 1,
) -> Recording | Run:
    """Simulate a network of populations for some seconds, or layers on a chip for some tokens.

    Layers in execution order (`neurosim.network.Network`) always run on the engine "windows": their
    time is windows, which no other engine has. `duration` is then the tokens, and `chip`, `seed`
    and `chips` are those of `neurosim.events.Simulator`, which runs token by token.

    Args:
        network: populations, projections, drives; or layers.
        duration: s, > 0; or the tokens.
        engine: "auto", a name of `neurosim.events.engines.available()`, or "windows" for layers.
        options: time step, precision, seed, threads, traces.
        progress: show a bar with the time left.
        checkpoint: a file (.npz) to save the state to every `checkpoint_seconds` of wall time and
            when interrupted; if it exists, the simulation goes on from it. The result is the same
            as without the interruption. It must come from the same network, options and engine.

    Returns:
        the recording. Ctrl-C ends the simulation early: `interrupted` is set and what was
        simulated is returned.

    Raises:
        ValueError: a bad duration, an engine that cannot carry the network (with the reason), a
            checkpoint of another simulation.
    """
    if isinstance(network, Network):
        if engine not in ("auto", WINDOWS) or chip is None or isinstance(duration, _NUMBER):
            raise ValueError(
                f"layers run on the engine {WINDOWS!r}: expected tokens and chip=, got engine "
                f"{engine!r}, {type(duration).__name__} and {chip}"
            )
        return simulate_windows(network, chip, duration, seed, chips)
    if engine == WINDOWS or not isinstance(duration, _NUMBER):
        raise ValueError(
            f"populations need a duration in seconds and another engine than {WINDOWS!r}, got "
            f"{type(duration).__name__} and {engine!r}"
        )
    if not (math.isfinite(duration) and duration > 0.0):
        raise ValueError(f"expected a duration > 0 s, got {duration}")
    duration, options = float(duration), options or Options()
    chosen = choose_engine(network, options, engine)
    simulation = chosen.begin(network, options)
    file = None
    if checkpoint is not None:
        owner = fingerprint(network, replace(options, threads=1), chosen.NAME)
        file = _CheckpointFile(Path(checkpoint), owner, checkpoint_seconds)
        file.resume(simulation)
        if simulation.time > duration:
            raise ValueError(
                f"{checkpoint}: has {simulation.time:g} s, expected at most the {duration:g} s "
                "asked for; ask for more or delete it"
            )
    with _Interruption() as interruption, _bar(progress) as bar:
        task = bar.add_task(f"{chosen.NAME}: {network.size} neurons", total=duration)
        most = (duration - simulation.time) / _SLICES
        part = min(most, _FIRST_SLICE)
        while simulation.time < duration and not interruption.came:
            begun, until = clock.monotonic(), simulation.time + part
            simulation.advance(until if until < duration - 0.5 * part else duration)
            took = clock.monotonic() - begun
            if took > _SLICE_SECONDS:
                part = max(0.5 * part, 1e-9 * duration)
            elif took < 0.25 * _SLICE_SECONDS:
                part = min(2.0 * part, most)
            if progress:
                bar.update(task, completed=simulation.time)
            if file is not None:
                file.save(simulation, now=interruption.came or simulation.time >= duration)
    interrupted = simulation.time < duration
    times, neurons = simulation.spikes()
    gaps = np.diff(times)
    if np.any(gaps < 0.0) or np.any(np.diff(neurons)[gaps == 0.0] < 0):
        order = np.lexsort((neurons, times))
        times, neurons = times[order], neurons[order]
    return Recording(
        network,
        chosen.NAME,
        simulation.time,
        times,
        neurons,
        simulation.counts(),
        options.seed,
        simulation.traces(),
        simulation.energy(),
        interrupted,
    )


def _bar(shown: bool) -> Progress:
    """A bar on stderr with the time left; bars that are not shown cost nothing."""
    return Progress(console=Console(stderr=True), disable=not shown, transient=True)


class _Interruption:
    """Ctrl-C is kept until the slice under way is finished; a second one stops at once."""

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def __enter__(self) -> _Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


class _CheckpointFile:
    """Saves a simulation every so many seconds of wall time."""

    def __init__(self, path: Path, owner: str, seconds: float) -> None:
        self._path, self._owner, self._seconds = path, owner, seconds
        self._last = clock.monotonic()

    def resume(self, simulation: Simulation) -> None:
        """Go on from the file if it is there."""
        if self._path.exists():
            simulation.restore(load_checkpoint(self._path, self._owner))

    def save(self, simulation: Simulation, now: bool) -> None:
        """Write if it is time, or `now`."""
        if now or clock.monotonic() - self._last >= self._seconds:
            save_checkpoint(self._path, simulation.state(), self._owner)
            self._last = clock.monotonic()
