"""Tier 2: tilted double-well Langevin model, the stochastic reference (device.md 3.10).

tau_x dx/dt = x - x^3 - c + alpha V_M + sqrt(2 D tau_x) xi(t)
F_c = 2/(3 sqrt 3), alpha = 2 F_c/(V_th - V_h), c = alpha (V_th + V_h)/2
y = clip((x + 1)/2, 0, 1), G_M = G_off^(1-y) G_on^y, D proportional to kT.
V_th and V_h are exact saddle-nodes. Noise is counter-based: path n is a function of (seed, n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurosim.devices.counter_random import inverse_normal, stream_key, uniform
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
CRITICAL = 2.0 / (3.0 * math.sqrt(3.0))
"""F_c: the tilt at which a well of x - x^3 + F disappears."""


@compiled
def _heun(x: float, tilt: float, step: float, kick: float) -> float:
    """One stochastic Heun step of dx = (x - x^3 + tilt) dt + kick (additive noise)."""
    first = x - x * x * x + tilt
    ahead = x + step * first + kick
    second = ahead - ahead * ahead * ahead + tilt
    return x + 0.5 * step * (first + second) + kick


@compiled
def _escapes(
    tilt: float,
    start: float,
    barrier: float,
    noise: float,
    step: float,
    steps: int,
    seed: np.uint64,
    first: int,
    times: Floats,
) -> None:
    """First passage from `start` over `barrier` per path, in tau_x; infinity if later."""
    size = math.sqrt(2.0 * noise * step)
    for n in range(times.size):
        key = stream_key(seed, np.uint64(first + n))
        x = start
        times[n] = math.inf
        for k in range(steps):
            kick = size * inverse_normal(uniform(key, np.uint64(k)))
            x = _heun(x, tilt, step, kick)
            if x > barrier:
                times[n] = (k + 1) * step
                break


@compiled
def _ramp(
    alpha: float,
    offset: float,
    ramp: float,
    noise: float,
    step: float,
    top: float,
    seed: np.uint64,
    voltages: Floats,
) -> None:
    """V at which x first exceeds 0 under a ramp from 0 V (`ramp` in V per tau_x); NaN: never."""
    size = math.sqrt(2.0 * noise * step)
    for n in range(voltages.size):
        key = stream_key(seed, np.uint64(n))
        x = -1.2
        voltages[n] = math.nan
        k = 0
        while ramp * k * step < top:
            tilt = alpha * ramp * (k + 0.5) * step - offset
            x = _heun(x, tilt, step, size * inverse_normal(uniform(key, np.uint64(k))))
            k += 1
            if x > 0.0:
                voltages[n] = ramp * k * step
                break


@compiled
def _membrane(
    device: tuple[float, ...],
    alpha: float,
    offset: float,
    noise: float,
    state_time: float,
    heat: tuple[float, ...],
    current: float,
    conductance: float,
    step: float,
    steps: int,
    every: int,
    seed: np.uint64,
    path: int,
    start: Floats,
    trace: Floats,
) -> int:
    """One path with its membrane; fills trace (samples, 4): t, V, x, T. Returns spikes."""
    capacitance, on, off, output, leak, rest = device
    heat_capacity, heat_loss, bath = heat
    key = stream_key(seed, np.uint64(path))
    v, x, temperature = start[0], start[1], start[2]
    log_off, log_on = -math.log(off), -math.log(on)
    h = step / state_time
    spikes = 0
    conducting = x > 0.0
    for k in range(steps):
        y = min(max(0.5 * (x + 1.0), 0.0), 1.0)
        resistance = math.exp(-(log_off + (log_on - log_off) * y))
        branch = 1.0 / (resistance + output)
        total = leak + conductance + branch
        across = v * resistance * branch
        # exact membrane step at frozen conductance, then the state at frozen voltage
        v += (current + leak * rest - total * v) / total * -math.expm1(-total * step / capacitance)
        size = math.sqrt(2.0 * noise * temperature / bath * h)
        kick = size * inverse_normal(uniform(key, np.uint64(k)))
        x = _heun(x, alpha * across - offset, h, kick)
        if heat_capacity > 0.0:
            power = across * across / resistance
            decay = math.exp(-heat_loss * step / heat_capacity)
            goal = bath + power / heat_loss
            temperature = goal + (temperature - goal) * decay
        if conducting and x < -0.5:
            conducting = False
        elif not conducting and x > 0.5:
            conducting = True
            spikes += 1
        if (k + 1) % every == 0 and (k + 1) // every <= trace.shape[0]:
            row = (k + 1) // every - 1
            trace[row, 0] = (k + 1) * step
            trace[row, 1] = v
            trace[row, 2] = x
            trace[row, 3] = temperature
    return spikes


@dataclass(frozen=True)
class TiltedWell:
    """threshold, hold: V_th, V_h, V. noise: D at `temperature` (K). time: tau_x, s."""

    threshold: float
    hold: float
    noise: float
    time: float = 1e-8
    temperature: float = 300.0

    def __post_init__(self) -> None:
        if not 0.0 < self.hold < self.threshold < math.inf:
            raise ValueError(f"expected 0 < hold < threshold, got {self.hold}, {self.threshold}")
        for name in ("noise", "time", "temperature"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")

    def at(self, temperature: float) -> TiltedWell:
        """The same well at another temperature (K): D is proportional to kT."""
        return replace(
            self, noise=self.noise * temperature / self.temperature, temperature=temperature
        )

    @property
    def gain(self) -> float:
        """alpha, 1/V."""
        return 2.0 * CRITICAL / (self.threshold - self.hold)

    @property
    def offset(self) -> float:
        """c."""
        return 0.5 * self.gain * (self.threshold + self.hold)

    def fixed_points(self, voltage: float) -> tuple[float, float, float]:
        """(OFF well, barrier, ON well) of x at constant V_M in (V_h, V_th)."""
        roots = np.roots([-1.0, 0.0, 1.0, self.gain * voltage - self.offset])
        real = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
        if real.size != 3:
            raise ValueError(
                f"expected a voltage between {self.hold} and {self.threshold} V, got {voltage}"
            )
        return float(real[0]), float(real[1]), float(real[2])

    def barrier(self, voltage: float) -> float:
        """dU from the OFF well, dimensionless; 1.0131 [alpha (V_th - V)]^(3/2) near threshold."""
        low, top, _ = self.fixed_points(voltage)
        tilt = self.gain * voltage - self.offset

        def potential(x: float) -> float:
            return 0.25 * x**4 - 0.5 * x**2 - tilt * x

        return potential(top) - potential(low)

    def noise_for(self, voltage: float, ratio: float) -> float:
        """D at which dU/D = `ratio` at this voltage."""
        return self.barrier(voltage) / ratio

    def kramers_rate(self, voltage: float) -> float:
        """lambda = sqrt(U''_min |U''_max|)/(2 pi tau_x) e^(-dU/D), 1/s."""
        low, top, _ = self.fixed_points(voltage)
        curvatures = (3.0 * low**2 - 1.0) * (1.0 - 3.0 * top**2)
        rate = math.sqrt(curvatures) / (2.0 * math.pi * self.time)
        return rate * math.exp(-self.barrier(voltage) / self.noise)

    def escape_times(
        self, voltage: float, paths: int, horizon: float, step: float = 0.02, seed: int = 0
    ) -> Floats:
        """First passage to the ON well at constant V_M, s, (paths,); infinity beyond `horizon`.

        horizon: s; step: of tau_x. A path has escaped half way between barrier and ON well.
        """
        low, top, high = self.fixed_points(voltage)
        times = np.empty(paths)
        tilt = self.gain * voltage - self.offset
        steps = int(horizon / self.time / step)
        _escapes(tilt, low, 0.5 * (top + high), self.noise, step, steps, np.uint64(seed), 0, times)
        return times * self.time

    def ramp_thresholds(self, ramp: float, paths: int, step: float = 0.02, seed: int = 0) -> Floats:
        """V at which x passes 0 under a ramp of `ramp` V/s from 0 V, (paths,)."""
        voltages = np.empty(paths)
        top = 2.0 * self.threshold
        _ramp(
            self.gain, self.offset, ramp * self.time, self.noise, step, top, np.uint64(seed),
            voltages,
        )  # fmt: skip
        return voltages

    def simulate(
        self,
        switch: ThresholdSwitch,
        drive: Drive,
        duration: float,
        step: float | None = None,
        samples: int = 1000,
        seed: int = 0,
        path: int = 0,
        heat_capacity: float = 0.0,
        heat_loss: float = 1.0,
    ) -> WellRun:
        """One path of membrane and state; the device's V_th, V_h come from here, not `switch`.

        step: s, default tau_x/20. heat_capacity (J/K) > 0 turns on C_h dT/dt = V_M^2 G_M - kappa (T
        - T_0) with kappa = `heat_loss` (W/K) and D = noise T/T_0.
        """
        size = self.time / 20.0 if step is None else step
        steps = int(duration / size)
        every = max(steps // samples, 1)
        trace = np.zeros((steps // every, 4))
        device = (
            switch.capacitance,
            switch.on_resistance,
            switch.off_resistance,
            switch.output_resistance,
            switch.leak_conductance,
            switch.leak_voltage,
        )
        start = np.array([0.0, self.fixed_points(0.5 * (self.hold + self.threshold))[0], 0.0])
        start[2] = self.temperature
        spikes = _membrane(
            device, self.gain, self.offset, self.noise, self.time,
            (heat_capacity, heat_loss, self.temperature), drive.total_current, drive.conductance,
            size, steps, every, np.uint64(seed), path, start, trace,
        )  # fmt: skip
        return WellRun(trace[:, 0], trace[:, 1], trace[:, 2], trace[:, 3], spikes)


@dataclass(frozen=True, eq=False)
class WellRun:
    """Samples of one path: time (s), membrane voltage (V), x, temperature (K); spikes in all."""

    time: Floats
    voltage: Floats
    state: Floats
    temperature: Floats
    spikes: int
