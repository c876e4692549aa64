"""Neuron models and spike sources of a population; every number is one value or one per neuron.

SI units. The letters: V membrane voltage, g receptor state, w weight of an arriving spike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from neurosim.devices.preset import DevicePreset

Values = float | npt.NDArray[np.float64]


def _check_values(
    model: str, key: str, value: Values, low: float, open_end: bool = False, or_inf: bool = False
) -> None:
    numbers = np.asarray(value, dtype=np.float64)
    good = np.isfinite(numbers) | ((numbers == np.inf) & or_inf)
    good &= numbers > low if open_end else numbers >= low
    if numbers.ndim > 1 or not good.all():
        kind = "above" if open_end else "at least"
        numbers_of_kind = "numbers or inf" if or_inf else "finite numbers"
        raise ValueError(
            f"{model}.{key}: expected {numbers_of_kind} {kind} {low:g}, one or one per neuron, "
            f"got {value!r}"
        )


@dataclass(frozen=True, eq=False)
class LIF:
    """Leaky integrate-and-fire neurons with delta synapses.

    tau dV/dt = V_rest - V; a spike adds its weight w (V) to V at once. V at or above V_threshold
    fires, V becomes V_reset and stays there for the refractory period, in which input is lost.

    `resting_voltage` is the asymptote without input: a constant current belongs into it.
    `time_constant` may be infinite: no leak, V keeps what it gets. `threshold_voltage` may be
    infinite: the neuron never fires, its voltage is the output (a leaky integrator).
    """

    time_constant: Values = 20e-3
    resting_voltage: Values = 0.0
    threshold_voltage: Values = 20e-3
    reset_voltage: Values = 0.0
    refractory_period: Values = 0.0

    receptors: ClassVar[tuple[str, ...]] = ("voltage",)
    states: ClassVar[tuple[str, ...]] = ("voltage",)

    def __post_init__(self) -> None:
        name = type(self).__name__
        _check_values(name, "time_constant", self.time_constant, 0.0, open_end=True, or_inf=True)
        for key in ("resting_voltage", "reset_voltage"):
            _check_values(name, key, getattr(self, key), -np.inf)
        _check_values(name, "threshold_voltage", self.threshold_voltage, -np.inf, or_inf=True)
        _check_values(name, "refractory_period", self.refractory_period, 0.0)
        if not np.all(np.asarray(self.reset_voltage) < np.asarray(self.threshold_voltage)):
            raise ValueError(
                f"{name}: expected reset_voltage below threshold_voltage, got "
                f"{self.reset_voltage} and {self.threshold_voltage}; such a neuron never stops"
            )


@dataclass(frozen=True, eq=False)
class CurrentLIF(LIF):
    """LIF with exponential synaptic currents, as in the CUBA benchmark (Vogels & Abbott 2005).

    tau dV/dt = V_rest - V + g_e + g_i, tau_e dg_e/dt = -g_e, tau_i dg_i/dt = -g_i; a spike adds w
    (V) to g of its receptor, also in the refractory period.
    """

    excitatory_time_constant: Values = 5e-3
    inhibitory_time_constant: Values = 10e-3

    receptors: ClassVar[tuple[str, ...]] = ("excitatory", "inhibitory")
    states: ClassVar[tuple[str, ...]] = ("voltage", "excitatory", "inhibitory")

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("excitatory_time_constant", "inhibitory_time_constant"):
            _check_values(type(self).__name__, key, getattr(self, key), 0.0, open_end=True)


@dataclass(frozen=True, eq=False)
class ConductanceLIF(CurrentLIF):
    """LIF with exponential synaptic conductances, as in the COBA benchmark.

    tau dV/dt = V_rest - V + g_e (E_e - V) + g_i (E_i - V); g and w relative to the leak
    conductance, dimensionless.
    """

    excitatory_reversal: Values = 0.0
    inhibitory_reversal: Values = -80e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("excitatory_reversal", "inhibitory_reversal"):
            _check_values(type(self).__name__, key, getattr(self, key), -np.inf)


@dataclass(frozen=True, eq=False)
class SwitchNeuron:
    """Threshold-switching (memristive) neurons: RC membrane and volatile device (device.md 3.1).

    A spike brings a charge packet w (C) onto the membrane: V += w / C. `current` (A) flows in all
    the time. `stochastic` draws V_th and V_h per device and per cycle with the preset's spreads,
    keyed by (seed, neuron, cycle); otherwise all have the preset's means. The emitted spike is the
    threshold crossing after the set delay.
    """

    device: DevicePreset
    current: Values = 0.0
    stochastic: bool = False

    receptors: ClassVar[tuple[str, ...]] = ("charge",)
    states: ClassVar[tuple[str, ...]] = ("voltage",)

    def __post_init__(self) -> None:
        _check_values("SwitchNeuron", "current", self.current, -np.inf)


@dataclass(frozen=True, eq=False)
class PoissonSource:
    """Independent Poisson spike trains of `rate` (Hz)."""

    rate: Values

    receptors: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _check_values("PoissonSource", "rate", self.rate, 0.0)


@dataclass(frozen=True, eq=False)
class SpikeSource:
    """Given spikes: `times` (K,) in s, `neurons` (K,) in the population. Kept sorted by time."""

    times: npt.NDArray[np.float64]
    neurons: npt.NDArray[np.int64]

    receptors: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        times = np.asarray(self.times, dtype=np.float64)
        neurons = np.asarray(self.neurons)
        if times.ndim != 1 or times.shape != neurons.shape:
            raise ValueError(
                f"SpikeSource: expected times (K,) and neurons (K,), got {times.shape} and "
                f"{neurons.shape}"
            )
        if neurons.size and not np.issubdtype(neurons.dtype, np.integer):
            raise ValueError(f"SpikeSource: expected integer neuron numbers, got {neurons.dtype}")
        if not np.isfinite(times).all() or (times < 0.0).any():
            raise ValueError("SpikeSource: expected finite times >= 0 s")
        order = np.lexsort((neurons, times))
        object.__setattr__(self, "times", times[order])
        object.__setattr__(self, "neurons", neurons[order].astype(np.int64))


Model = LIF | SwitchNeuron | PoissonSource | SpikeSource
SOURCES = (PoissonSource, SpikeSource)


@dataclass(frozen=True, eq=False)
class Population:
    """`size` neurons of one model. `initial`: state name -> value(s) at t = 0.

    A state that is not given starts at: voltage = the reset voltage (hold voltage of a switch),
    receptors: ClassVar[tuple[str, ...]] = 0.
    """

    name: str
    size: int
    model: Model
    initial: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"population {self.name}"
        whole = isinstance(self.size, int | np.integer) and not isinstance(self.size, bool)
        if not self.name or not whole or self.size < 1:
            raise ValueError(
                f"{where}: expected a name and at least 1 neuron, got {self.name!r} and "
                f"{self.size!r}"
            )
        if not isinstance(self.model, Model):
            raise ValueError(f"{where}: expected a model, e.g. LIF(), got {self.model!r}")
        for item in fields(self.model):
            value = getattr(self.model, item.name)
            many = isinstance(value, np.ndarray | list | tuple)
            if isinstance(self.model, SpikeSource) or not many:
                continue
            if np.shape(value) not in ((), (self.size,)):
                raise ValueError(
                    f"{where}: expected {item.name} of shape ({self.size},), got {np.shape(value)}"
                )
        if isinstance(self.model, SpikeSource) and len(self.model.neurons):
            low, high = int(self.model.neurons.min()), int(self.model.neurons.max())
            if low < 0 or high >= self.size:
                raise ValueError(
                    f"{where}: expected spikes of neurons 0..{self.size - 1}, got {low}..{high}"
                )
        for state, value in self.initial.items():
            numbers = np.asarray(value, dtype=np.float64)
            if state not in self.model.states:
                known = ", ".join(self.model.states) or "none"
                raise ValueError(f"{where}: unknown initial state {state!r}; known: {known}")
            if numbers.shape not in ((), (self.size,)) or not np.isfinite(numbers).all():
                raise ValueError(
                    f"{where}: expected a finite initial {state}, one or ({self.size},), got "
                    f"shape {numbers.shape}"
                )

    @property
    def is_source(self) -> bool:
        """Whether its spikes are given, not computed."""
        return isinstance(self.model, SOURCES)

    def parameter(self, key: str) -> npt.NDArray[np.float64]:
        """A model parameter as (N,) float64."""
        value = np.asarray(getattr(self.model, key), dtype=np.float64)
        return np.ascontiguousarray(np.broadcast_to(value, (self.size,)))

    def __repr__(self) -> str:
        return f"Population({self.name}: {self.size} x {type(self.model).__name__})"
