"""Tier 0A: an RC membrane and a threshold switch in closed forms (device.md 3.1-3.2).

Node V with capacitor C, leak G_L to E_L, injected current, resistive drivers, and the device R_M
in series with an output resistor R_o to ground. The device turns ON when its voltage rises to V_th
and OFF when it falls to V_h; seen from the membrane: V_u = V_th (1 + R_o/R_off), V_d = V_h (1 +
R_o/R_on). Optional constant delays: `set_delay` after V_u with the OFF law, `reset_delay` after
V_d with the ON law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals


@dataclass(frozen=True)
class Drive:
    """A constant drive: a current (A) and resistive drivers as (conductance in S, voltage in V)."""

    current: float = 0.0
    drivers: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.current, *(value for driver in self.drivers for value in driver))
        if not all(math.isfinite(value) for value in numbers):
            raise ValueError(f"expected finite currents, conductances and voltages, got {self}")
        if any(conductance < 0.0 for conductance, _ in self.drivers):
            raise ValueError(f"expected driver conductances >= 0, got {self.drivers}")

    @property
    def conductance(self) -> float:
        """Sum of the drivers' conductances, S."""
        return sum(conductance for conductance, _ in self.drivers)

    @property
    def total_current(self) -> float:
        """Current into the membrane at V = 0, A."""
        return self.current + sum(conductance * voltage for conductance, voltage in self.drivers)


@dataclass(frozen=True)
class Driver:
    """A resistive input: conductance G (S), voltage U while active (V), what it does when idle.

    `idle`: "low_z" holds 0 V between pulses and keeps loading the membrane with G; "high_z" is
    disconnected and does not (device.md 3.1: it changes the leak a lot).
    """

    conductance: float
    voltage: float
    idle: str = "low_z"

    def __post_init__(self) -> None:
        if self.idle not in ("low_z", "high_z"):
            raise ValueError(f'expected idle "low_z" or "high_z", got {self.idle!r}')
        Drive(drivers=((self.conductance, self.voltage),))

    def at(self, active: bool) -> tuple[tuple[float, float], ...]:
        """Its entry in `Drive.drivers`: one, or none when idle and disconnected."""
        if active:
            return ((self.conductance, self.voltage),)
        return ((self.conductance, 0.0),) if self.idle == "low_z" else ()


def drive_of(
    current: float, drivers: Sequence[Driver], active: Sequence[bool] | None = None
) -> Drive:
    """A `Drive` from an injected current (A) and drivers, all active unless `active` says."""
    flags = [True] * len(drivers) if active is None else list(active)
    entries = [d.at(on) for d, on in zip(drivers, flags, strict=True)]
    return Drive(current, tuple(entry for part in entries for entry in part))


@dataclass(frozen=True)
class Ledger:
    """Charge and energy of one segment (C, J): delivered = burnt + stored is an identity."""

    duration: float
    device_charge: float
    device: float
    output: float
    leak: float
    drivers: float
    delivered: float
    stored: float

    @property
    def burnt(self) -> float:
        """Energy turned into heat in device, output resistor, leak and drivers, J."""
        return self.device + self.output + self.leak + self.drivers


@dataclass(frozen=True)
class Period:
    """One cycle of sustained oscillation: OFF (climb, set delay), ON (discharge, reset delay)."""

    off_time: float
    on_time: float
    on: Ledger
    off: Ledger

    @property
    def duration(self) -> float:
        """Period, s."""
        return self.off_time + self.on_time


@dataclass(frozen=True)
class ThresholdSwitch:
    """An RC neuron with one threshold-switching device; SI units."""

    capacitance: float
    on_resistance: float
    off_resistance: float
    threshold_voltage: float
    hold_voltage: float
    output_resistance: float = 0.0
    leak_conductance: float = 0.0
    leak_voltage: float = 0.0
    set_delay: float = 0.0
    reset_delay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise ValueError(f"expected a finite {field.name}, got {value}")
        for name in ("capacitance", "on_resistance", "hold_voltage"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in ("output_resistance", "leak_conductance", "set_delay", "reset_delay"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")
        if self.off_resistance <= self.on_resistance:
            raise ValueError(
                f"expected off_resistance > on_resistance, got {self.off_resistance} and "
                f"{self.on_resistance} ohm"
            )
        if self.threshold_voltage <= self.hold_voltage:
            raise ValueError(
                f"expected threshold_voltage > hold_voltage, got {self.threshold_voltage} and "
                f"{self.hold_voltage} V"
            )
        limit = self.on_resistance * (self.threshold_voltage / self.hold_voltage - 1.0)
        if self.output_resistance >= limit:
            raise ValueError(
                f"expected output_resistance < on_resistance (V_th/V_h - 1) = {limit:.6g} ohm, got "
                f"{self.output_resistance:.6g}: the device would turn off as it turns on"
            )

    @property
    def upper(self) -> float:
        """V_u, membrane voltage at which the device turns on, V."""
        return self.threshold_voltage * (1.0 + self.output_resistance / self.off_resistance)

    @property
    def lower(self) -> float:
        """V_d, membrane voltage at which the device turns off, V."""
        return self.hold_voltage * (1.0 + self.output_resistance / self.on_resistance)

    @property
    def peak_output(self) -> float:
        """V_out of a spike, V_u R_o/(R_on + R_o), all or nothing, V (device.md 3.11)."""
        return self.upper * self.output_resistance / (self.on_resistance + self.output_resistance)

    @property
    def landing(self) -> float:
        """Membrane voltage after a discharge without input: V_d, or lower with a reset delay, V."""
        if self.reset_delay == 0.0:
            return self.lower
        return self.voltage(self.lower, self.reset_delay, on=True, drive=Drive())

    @property
    def start(self) -> float:
        """Precharge voltage half way between landing and V_u: counts then round half up, V."""
        landing = self.landing
        return landing + 0.5 * (self.upper - landing)

    @property
    def quantum(self) -> float:
        """Charge of one spike of the ideal neuron, C (V_u - landing), coulomb."""
        return self.capacitance * (self.upper - self.landing)

    @property
    def discharge_energy(self) -> float:
        """Energy of one isolated discharge, C (V_u^2 - landing^2) / 2, J."""
        return 0.5 * self.capacitance * (self.upper**2 - self.landing**2)

    def conductance(self, on: bool, drive: Drive) -> float:
        """G_p of the phase: leak + drivers + device branch, S."""
        resistance = self.on_resistance if on else self.off_resistance
        return (
            self.leak_conductance + drive.conductance + 1.0 / (resistance + self.output_resistance)
        )

    def _current(self, drive: Drive) -> float:
        return drive.total_current + self.leak_conductance * self.leak_voltage

    def rheobase(self, drive: Drive | None = None) -> float:
        """Smallest sustained current that fires, beside what the drivers give: I_rh, A."""
        drive = drive or Drive()
        other = self._current(drive) - drive.current
        return self.conductance(False, drive) * self.upper - other

    def lock_up(self, drive: Drive | None = None) -> float:
        """Current at and above which the device cannot turn off any more: I_lock, A."""
        drive = drive or Drive()
        other = self._current(drive) - drive.current
        return self.conductance(True, drive) * self.lower - other

    def voltage(self, start: float, time: float, on: bool, drive: Drive) -> float:
        """V(t) in one phase from V(0) = `start`."""
        conductance = self.conductance(on, drive)
        return voltage_after(start, self._current(drive), conductance, self.capacitance, time)

    def next_crossing(self, start: float, on: bool, drive: Drive) -> float:
        """Time until the device turns on (OFF phase) or off (ON phase); infinity if it never does.

        In the ON phase infinity means lock-up. A voltage already beyond its threshold crosses at
        once.
        """
        gap = start - self.lower if on else self.upper - start
        if gap <= 0.0:
            return 0.0
        conductance = self.conductance(on, drive)
        current = self._current(drive)
        left = conductance * self.lower - current if on else current - conductance * self.upper
        if left <= 0.0:
            return math.inf
        return crossing_time(gap, left, conductance, self.capacitance)

    def segment(
        self, start: float, time: float, on: bool, drive: Drive, end: float | None = None
    ) -> Ledger:
        """Charge and energy over `time` in one phase, exactly, from J1 and J2 (device.md 3.2).

        `end` is the final voltage where it is known better than by evolution (a threshold).
        """
        if end is None:
            end = self.voltage(start, time, on, drive)
        conductance = self.conductance(on, drive)
        first, second = voltage_integrals(
            start, end, self._current(drive), conductance, self.capacitance, time
        )
        resistance = self.on_resistance if on else self.off_resistance
        branch = resistance + self.output_resistance
        leak, rest = self.leak_conductance, self.leak_voltage
        delivered = drive.current * first + leak * rest * (rest * time - first)
        drivers = 0.0
        for g, u in drive.drivers:
            delivered += u * g * (u * time - first)
            drivers += g * (u * u * time - 2.0 * u * first + second)
        return Ledger(
            duration=time,
            device_charge=first / branch,
            device=resistance / branch**2 * second,
            output=self.output_resistance / branch**2 * second,
            leak=leak * (second - 2.0 * rest * first + rest * rest * time),
            drivers=drivers,
            delivered=delivered,
            stored=0.5 * self.capacitance * (end - start) * (end + start),
        )

    def period(self, drive: Drive) -> Period:
        """One cycle under constant drive; ValueError below rheobase or in lock-up."""
        off = self.conductance(False, drive)
        if self._current(drive) <= off * self.upper:
            raise ValueError(
                f"expected a current above the rheobase {self.rheobase(drive):.6g} A, got "
                f"{drive.current:.6g} A: the neuron does not fire"
            )
        if self._current(drive) >= self.conductance(True, drive) * self.lower:
            raise ValueError(
                f"expected a current below lock-up {self.lock_up(drive):.6g} A, got "
                f"{drive.current:.6g} A: the device cannot turn off"
            )
        peak = self.voltage(self.upper, self.set_delay, False, drive)
        landing = self.voltage(self.lower, self.reset_delay, True, drive)
        off_time = self.next_crossing(landing, False, drive) + self.set_delay
        on_time = self.next_crossing(peak, True, drive) + self.reset_delay
        return Period(
            off_time,
            on_time,
            on=self.segment(peak, on_time, True, drive, end=landing),
            off=self.segment(landing, off_time, False, drive, end=peak),
        )

    def frequency(self, drive: Drive) -> float:
        """Sustained firing rate, Hz; 0 outside (rheobase, lock-up)."""
        current = self._current(drive)
        fires = current > self.conductance(False, drive) * self.upper
        releases = current < self.conductance(True, drive) * self.lower
        return 1.0 / self.period(drive).duration if fires and releases else 0.0

    def period_sensitivities(self, drive: Drive) -> tuple[float, float, float]:
        """(dT/dV_u, dT/dV_d, dT/dI) of the period without delays (device.md 3.2), s/V, s/V, s/A."""
        if self.set_delay or self.reset_delay:
            raise ValueError("sensitivities are for zero set_delay and reset_delay; set both to 0")
        self.period(drive)  # refuses a drive that does not oscillate
        off, on = self.conductance(False, drive), self.conductance(True, drive)
        tau_off, tau_on = self.capacitance / off, self.capacitance / on
        high, low = self._current(drive) / off, self._current(drive) / on
        up, down = self.upper, self.lower
        by_upper = tau_off / (high - up) + tau_on / (up - low)
        by_lower = -tau_off / (high - down) - tau_on / (down - low)
        by_current = -tau_off / off * (up - down) / ((high - down) * (high - up))
        by_current += tau_on / on * (up - down) / ((up - low) * (down - low))
        return by_upper, by_lower, by_current
