"""Temperature laws of the parameters (device.md 3.4, 3.8). Kelvin, eV, V, ohm, s."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neurosim.devices.threshold_switch import ThresholdSwitch

BOLTZMANN_EV = 8.617333262145179e-5
"""k in eV/K (exact since 2019)."""


def arrhenius(energy: float, temperature: float, reference: float) -> float:
    """e^(E/k (1/T - 1/T_ref)): factor of a quantity that falls with temperature."""
    if temperature <= 0.0 or reference <= 0.0:
        raise ValueError(f"expected temperatures > 0 K, got {temperature} and {reference}")
    return math.exp(energy / BOLTZMANN_EV * (1.0 / temperature - 1.0 / reference))


def default_threshold_slope(threshold: float, reference: float = 300.0) -> float:
    """dV_th/dT = -0.3 V_th/T_ref, V/K: class default, evidence "assumed" until calibrated."""
    return -0.3 * threshold / reference


@dataclass(frozen=True)
class TemperatureLaw:
    """How a device changes with temperature.

    reference: T_ref, K. off_energy: E_off of R_off(T) = R_off e^(E_off/k (1/T - 1/T_ref)), eV.
    threshold_slope: dV_th/dT, V/K; None takes `default_threshold_slope`, which nobody measured.
    """

    reference: float = 300.0
    off_energy: float = 0.0
    threshold_slope: float | None = None

    def at(self, switch: ThresholdSwitch, temperature: float) -> ThresholdSwitch:
        """The device at `temperature` (K); V_h, R_on and the circuit stay."""
        slope = self.threshold_slope
        if slope is None:
            slope = default_threshold_slope(switch.threshold_voltage, self.reference)
        factor = arrhenius(self.off_energy, temperature, self.reference)
        return replace(
            switch,
            off_resistance=switch.off_resistance * factor,
            threshold_voltage=switch.threshold_voltage + slope * (temperature - self.reference),
        )
