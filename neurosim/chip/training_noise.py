"""A chip's disturbances in the units of hardware-aware training."""

from __future__ import annotations

import math
from typing import Any

from neurosim.chip.description import ChipDescription

_NOT_CARRIED = (
    "crossbar.stuck_low",
    "crossbar.stuck_high",
    "crossbar.drift_exponent",
    "crossbar.drift_spread",
    "crossbar.wire_resistance",
    "crossbar.nonlinearity",
    "neuron.hold_current",
    "trim.windows",
)


def training_noise(chip: ChipDescription) -> dict[str, Any]:
    """Fields of `models.training.hardware.HardwareNoise` that stand for `chip`, by name.

    Voltages become fractions of a spike's swing V_u - V_landing, times fractions of the window,
    conductances fractions of G_max. Only the part of V_h's spread that is left where the membrane
    lands counts: with a reset delay it decays by exp(-reset_delay G_on / C). An exact chip has
    exact neurons. What training cannot stand for (`_NOT_CARRIED`, faults) is refused.
    """
    cells, conversion = chip.crossbar, chip.conversion
    numbers = chip.numbers()
    found_on = [key for key in _NOT_CARRIED if getattr(numbers.get(key), "value", 0.0)]
    if chip.faults.any:
        found_on.append("faults")
    if chip.warm_switch() != chip.device.switch():
        found_on.append("neuron.temperature")
    if found_on:
        raise ValueError(
            f"chip {chip.name}: training has no form of {', '.join(found_on)}; use a chip with "
            "them at 0 for training"
        )
    found: dict[str, Any] = {
        "conductance_levels": int(cells.conductance_levels.value),
        "g_min": cells.g_min.value / cells.g_max.value,
        "programming_error": cells.programming_error.value,
        "programming_curve": list(cells.programming_curve.values),
        "read_noise": cells.read_noise.value,
        "adc_bits": int(conversion.adc_bits.value),
    }
    if chip.exact:
        return found
    switch, window = chip.device.switch(), chip.window.duration.value
    swing = switch.upper - switch.landing
    up = switch.upper / switch.threshold_voltage
    on = switch.leak_conductance + 1.0 / (switch.on_resistance + switch.output_resistance)
    off = switch.leak_conductance + 1.0 / (switch.off_resistance + switch.output_resistance)
    landed = math.exp(-switch.reset_delay * on / switch.capacitance)
    landed *= switch.lower / switch.hold_voltage
    rest = switch.leak_conductance * switch.leak_voltage / off
    return found | {
        "threshold_device": chip.device["threshold_spread_device"] * up / swing,
        "threshold_cycle": chip.device["threshold_spread_cycle"] * up / swing,
        "hold_device": chip.device["hold_spread_device"] * landed / swing,
        "hold_cycle": chip.device["hold_spread_cycle"] * landed / swing,
        "set_delay": switch.set_delay / window,
        "reset_delay": switch.reset_delay / window,
        "leak": window * off / switch.capacitance,
        "leak_height": (switch.landing - rest) / swing,
        "headroom": chip.neuron.input_headroom.value,
    }
