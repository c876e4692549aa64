"""Many independent neurons through piecewise-constant drives, event by event (device.md 3.11).

The compiled engine of tier 0A: every neuron has its own parameters, thresholds drawn per cycle
(3.4 a) or a hazard rate (3.4 b), a residue that lowers the next threshold (3.5), and a ledger of
exact integrals (3.2). No time step. A result depends on (seed, neuron, cycle) only, not on threads
or on how a stimulus is cut into calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from neurosim.devices._population_loop import (
    FLAG_LOCKED,
    FLAG_RUNAWAY,
    LEDGER_TERMS,
    run_neurons,
)
from neurosim.devices.firing_rate import device_rows
from neurosim.devices.hazard import Hazard
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch
from neurosim.devices.thresholds import ThresholdStatistics

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stimulus:
    """Piecewise-constant drive of N neurons: S segments.

    duration: s, (S,). current: injected, A, (N, S), or (1, S) for all alike. conductance, first,
    second: sums over the drivers of G_k (S), G_k U_k (A), G_k U_k^2 (W), same shapes.
    """

    duration: Floats
    current: Floats
    conductance: Floats
    first: Floats
    second: Floats

    @classmethod
    def of_current(cls, duration: npt.ArrayLike, current: npt.ArrayLike) -> Stimulus:
        """Injected currents only: duration (S,), s; current (N, S), (S,) or a number, A."""
        time = np.atleast_1d(np.asarray(duration, dtype=np.float64))
        amperes = np.array(np.broadcast_arrays(np.atleast_2d(np.asarray(current, float)), time)[0])
        nothing = np.zeros((1, time.size))
        return cls(time, amperes, nothing, nothing, nothing)

    @classmethod
    def of_segments(cls, segments: Sequence[tuple[Drive, float]]) -> Stimulus:
        """The same (drive, duration in s) for every neuron."""
        drives = [drive for drive, _ in segments]
        second = [sum(g * u * u for g, u in drive.drivers) for drive in drives]
        rows = (
            [drive.current for drive in drives],
            [drive.conductance for drive in drives],
            [drive.total_current - drive.current for drive in drives],
            second,
        )
        time = np.array([duration for _, duration in segments], dtype=np.float64)
        return cls(time, *(np.array([row], dtype=np.float64) for row in rows))

    def __post_init__(self) -> None:
        for field in fields(self):
            array = getattr(self, field.name)
            wanted = (self.duration.size,) if field.name == "duration" else None
            if array.dtype != np.float64 or array.shape[-1:] != (self.duration.size,):
                raise ValueError(
                    f"expected {field.name} as float64 {wanted or '(N or 1, S)'} with "
                    f"S = {self.duration.size}, got {array.dtype} {array.shape}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"expected finite {field.name}, got NaN or infinity")
        if (self.duration < 0.0).any() or (self.conductance < 0.0).any():
            raise ValueError("expected durations >= 0 s and conductances >= 0 S")


@dataclass(frozen=True)
class Residue:
    """What is left of the filament when the device turns OFF (device.md 3.5).

    z = `start` at ON -> OFF, z(t) = start e^(-t / time), threshold V_h + (V_th - V_h)(1 - z^m), m =
    `exponent`. start = 0: none. `time` in s.
    """

    start: float = 0.0
    time: float = 1.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < 1.0:
            raise ValueError(
                f"expected 0 <= start < 1 (1 would fire again at once), got {self.start}"
            )
        if not (0.0 < self.time < math.inf and 0.0 < self.exponent < math.inf):
            raise ValueError(f"expected time and exponent > 0, got {self.time}, {self.exponent}")


@dataclass(frozen=True, eq=False)
class PopulationRun:
    """What a stimulus did. All energies in J, charge in C, times in s from the stimulus' start.

    spikes (N,): threshold crossings, also those beyond `times`. times, releases (N, K): crossing
    of V_u and of V_d, NaN where there is none. ledger: name -> (N,), see `LEDGER_TERMS`. voltage
    (N,): at the end, V. locked, runaway (N,): ended ON with a drive that never releases the
    device; stopped at the event limit.
    """

    spikes: npt.NDArray[np.int64]
    times: Floats
    releases: Floats
    ledger: dict[str, Floats]
    voltage: Floats
    locked: npt.NDArray[np.bool_]
    runaway: npt.NDArray[np.bool_]

    def imbalance(self) -> Floats:
        """Relative violation of delivered = burnt + stored per neuron, (N,)."""
        parts = self.ledger
        burnt = sum(
            parts[name] for name in ("device_on", "device_off", "output", "leak", "drivers")
        )
        size = np.maximum(np.abs(parts["delivered"]), np.maximum(burnt, np.abs(parts["stored"])))
        error = np.abs(parts["delivered"] - burnt - parts["stored"])
        return np.divide(error, size, out=np.zeros_like(error), where=size > 0.0)


class Population:
    """N neurons with their state: `run` moves them on, call after call.

    Args:
        switches: one nominal device for all neurons, N of them, or rows of `device_rows`, (N, 10).
        neurons: N; may be left out with a sequence of switches.
        statistics: how thresholds scatter around each neuron's nominal values.
        residue: lowering of the next threshold.
        hazard: turning ON at a rate instead of at V_th (3.4 b); spreads of V_th between devices
            shift its voltage, spreads between cycles are refused.
        seed: of the draws; `first`: number of neuron 0 (for a population computed in parts).
        voltage: membrane voltage at the start, V, a number or (N,).
    """

    def __init__(
        self,
        switches: ThresholdSwitch | Sequence[ThresholdSwitch] | Floats,
        neurons: int | None = None,
        statistics: ThresholdStatistics | None = None,
        residue: Residue | None = None,
        hazard: Hazard | None = None,
        seed: int = 0,
        first: int = 0,
        voltage: npt.ArrayLike = 0.0,
    ) -> None:
        if isinstance(switches, ThresholdSwitch):
            switches = [switches]
        rows = switches if isinstance(switches, np.ndarray) else device_rows(switches)
        count = neurons if neurons is not None else len(rows)
        if rows.ndim != 2 or rows.shape[1] != 10 or len(rows) not in (1, count):
            raise ValueError(f"expected 1 or {count} switches, got {len(rows)}")
        statistics, residue = statistics or ThresholdStatistics(), residue or Residue()
        self.parameters = np.ascontiguousarray(np.broadcast_to(rows, (count, 10)), np.float64)
        self.means = self.parameters[:, 3:5].copy()  # V_th, V_h
        spreads = np.array([statistics.cycle_spreads(row[3], row[4]) for row in rows.tolist()])
        self.spreads = np.ascontiguousarray(np.broadcast_to(spreads, (count, 5)))
        if statistics.threshold_device > 0.0 or statistics.hold_device > 0.0:
            if len(rows) == 1:
                self.means = statistics.device_means(rows[0, 3], rows[0, 4], count, seed, first)
            else:
                for i, (threshold, hold) in enumerate(self.means.tolist()):
                    self.means[i] = statistics.device_means(threshold, hold, 1, seed, first + i)[0]
        self.residue = np.array(
            [residue.start**residue.exponent, residue.exponent / residue.time], dtype=np.float64
        )
        if hazard is not None and (statistics.threshold_cycle > 0.0 or residue.start > 0.0):
            raise ValueError(
                "expected either a hazard or a cycle-to-cycle spread of V_th and a residue, got "
                "both; the hazard has its own spread, 1.2825 V_0"
            )
        self.hazard = np.array([hazard.log_rate, hazard.scale] if hazard else [0.0, 0.0])
        self.seed, self.first = np.uint64(seed), first
        self.state = np.zeros((count, 9))
        self.state[:, 0] = voltage
        self.cycle = np.zeros(count, dtype=np.int64)

    @property
    def neurons(self) -> int:
        """N."""
        return len(self.parameters)

    @property
    def voltage(self) -> Floats:
        """Membrane voltages now, V, (N,)."""
        return self.state[:, 0].copy()

    def inject(self, charge: npt.ArrayLike) -> Floats:
        """Charge packets (C, a number or (N,)): V += q/C at once (device.md 3.3).

        Returns the energy each packet delivers, all of it stored: q (V + q/(2 C)), J, (N,).
        """
        packet = np.broadcast_to(np.asarray(charge, dtype=np.float64), (self.neurons,))
        if not np.isfinite(packet).all():
            raise ValueError("expected finite charges, got NaN or infinity")
        step = packet / self.parameters[:, 0]
        energy = packet * (self.state[:, 0] + 0.5 * step)
        self.state[:, 0] += step
        return energy

    def run(
        self, stimulus: Stimulus, record: int = 0, threads: int = 1, event_limit: int = 1_000_000
    ) -> PopulationRun:
        """Move all neurons through `stimulus`; keep at most `record` crossings per neuron.

        A neuron that makes more than `event_limit` spikes in one segment is stopped and flagged.
        """
        count = self.neurons
        for array in (stimulus.current, stimulus.conductance, stimulus.first, stimulus.second):
            if array.shape[0] not in (1, count):
                raise ValueError(f"expected drives of 1 or {count} neurons, got {array.shape[0]}")
        spikes = np.zeros(count, dtype=np.int64)
        times, releases = np.full((2, count, record), np.nan)
        ledger = np.zeros((count, len(LEDGER_TERMS)))
        flags = np.zeros(count, dtype=np.uint8)

        def part(low: int, high: int) -> None:
            current, conductance, pull, work = (
                array if array.shape[0] == 1 else array[low:high]
                for array in (
                    stimulus.current,
                    stimulus.conductance,
                    stimulus.first,
                    stimulus.second,
                )
            )
            chosen = slice(low, high)
            run_neurons(
                self.parameters[chosen], self.means[chosen], self.spreads[chosen], self.residue,
                self.hazard,
                self.state[chosen], self.cycle[chosen], self.seed, self.first + low,
                stimulus.duration, current, conductance, pull, work, event_limit, spikes[chosen],
                times[chosen], releases[chosen], ledger[chosen], flags[chosen],
            )  # fmt: skip

        edges = np.linspace(0, count, max(threads, 1) + 1).astype(int)
        if threads <= 1:
            part(0, count)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(part, edges[:-1].tolist(), edges[1:].tolist()))
        return PopulationRun(
            spikes,
            times,
            releases,
            {name: ledger[:, k] for k, name in enumerate(LEDGER_TERMS)},
            self.voltage,
            (flags & FLAG_LOCKED) > 0,
            (flags & FLAG_RUNAWAY) > 0,
        )

    def __repr__(self) -> str:
        return f"Population({self.neurons} neurons, seed {int(self.seed)})"
