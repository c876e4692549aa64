"""One neuron through piecewise-constant drives, in readable scalars (device.md 3.2, 3.3, 3.11).

The reference of `Population.run`, and the source of waveforms: plain Python over the closed forms
of `ThresholdSwitch`, no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from neurosim.devices.threshold_switch import Drive, Ledger, ThresholdSwitch

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """A stretch with one phase and one drive: start (s), duration (s), end voltages (V)."""

    start: float
    duration: float
    on: bool
    drive: Drive
    begin: float
    end: float


@dataclass(frozen=True)
class Response:
    """What the segments did: crossings of V_u (s), all pieces, exact ledger, final state.

    `locked`: ended ON under a drive that never lets the device turn off.
    """

    switch: ThresholdSwitch
    spikes: tuple[float, ...]
    pieces: tuple[Piece, ...]
    ledger: Ledger
    locked: bool

    @property
    def voltage(self) -> float:
        """Membrane voltage at the end, V."""
        return self.pieces[-1].end if self.pieces else 0.0

    def waveform(self, times: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Membrane voltage (V), device current (A), output voltage V_out (V) at `times` (s)."""
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        starts = np.array([piece.start for piece in self.pieces])
        index = np.clip(np.searchsorted(starts, wanted, side="right") - 1, 0, None)
        voltage, current = np.empty(wanted.shape), np.empty(wanted.shape)
        for i, (k, t) in enumerate(zip(index, wanted, strict=True)):
            piece = self.pieces[k]
            after = min(max(t - piece.start, 0.0), piece.duration)
            voltage[i] = self.switch.voltage(piece.begin, after, piece.on, piece.drive)
            resistance = self.switch.on_resistance if piece.on else self.switch.off_resistance
            current[i] = voltage[i] / (resistance + self.switch.output_resistance)
        return voltage, current, current * self.switch.output_resistance


def respond(
    switch: ThresholdSwitch,
    segments: Sequence[tuple[Drive, float]],
    voltage: float = 0.0,
    event_limit: int = 1_000_000,
) -> Response:
    """Drive a neuron through (drive, duration in s) segments from `voltage` (V), device OFF.

    Raises ValueError where a segment asks for more than `event_limit` events.
    """
    spikes: list[float] = []
    pieces: list[Piece] = []
    now, on, delay = 0.0, False, -1.0  # delay >= 0: time left before a crossing takes effect
    drive = Drive()
    for drive, duration in segments:
        left = duration
        for _ in range(event_limit):
            crossing = delay < 0.0
            time = switch.next_crossing(voltage, on, drive) if crossing else delay
            happens, time = time <= left, min(time, left)
            if happens and crossing and time > 0.0:
                end = switch.lower if on else switch.upper
            else:
                end = switch.voltage(voltage, time, on, drive)
            if time > 0.0:
                pieces.append(Piece(now, time, on, drive, voltage, end))
            now, left, voltage = now + time, left - time, end
            if not happens:
                delay -= 0.0 if crossing else time
                break
            if crossing and not on:
                spikes.append(now)
            wait = switch.reset_delay if on else switch.set_delay
            if crossing and wait > 0.0:
                delay = wait
            else:
                on, delay = not on, -1.0
        else:
            raise ValueError(
                f"expected at most {event_limit} events in a segment of {duration} s; "
                "shorten the segment or raise event_limit"
            )
    locked = on and delay < 0.0 and switch.next_crossing(voltage, True, drive) == math.inf
    ledger = _total(switch, pieces)
    return Response(switch, tuple(spikes), tuple(pieces), ledger, locked)


def _total(switch: ThresholdSwitch, pieces: Sequence[Piece]) -> Ledger:
    parts = [switch.segment(p.begin, p.duration, p.on, p.drive, p.end) for p in pieces]
    names = [field.name for field in fields(Ledger)]
    return Ledger(**{name: math.fsum(getattr(part, name) for part in parts) for name in names})
