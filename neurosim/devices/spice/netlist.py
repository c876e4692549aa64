"""Netlists of the RC neuron for ngspice (device.md 6.1): our own text, nothing generated elsewhere.

The device is ngspice's hysteretic switch SW with VT = (V_th + V_h)/2 and VH = (V_th - V_h)/2, its
control voltage taken across itself, so V_u = V_th (1 + R_o/R_off) and V_d = V_h (1 + R_o/R_on)
come out by themselves. SW has no delay: devices with delays are compared without them.
"""

from __future__ import annotations

import dataclasses

from neurosim.devices.pulse_train import PulseTrain
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch

_OPTIONS = ".options reltol=1e-6 trtol=1 chgtol=1e-18 vntol=1e-9 abstol=1e-15 method=gear"


def without_delays(switch: ThresholdSwitch) -> ThresholdSwitch:
    """The same device with set and reset delay zero, which is what SW can express."""
    return dataclasses.replace(switch, set_delay=0.0, reset_delay=0.0)


def membrane(switch: ThresholdSwitch, start: float, drive: Drive) -> list[str]:
    """Capacitor with its initial voltage, leak and constant drive on node m."""
    lines = [f"Cm m 0 {switch.capacitance:.12g} IC={start:.12g}"]
    if switch.leak_conductance > 0.0:
        lines.append(f"Rl m el {1.0 / switch.leak_conductance:.12g}")
        lines.append(f"Vl el 0 DC {switch.leak_voltage:.12g}")
    if drive.current != 0.0:
        lines.append(f"Iin 0 m DC {drive.current:.12g}")
    for k, (conductance, voltage) in enumerate(drive.drivers):
        if conductance > 0.0:
            lines.append(f"Rd{k} d{k} m {1.0 / conductance:.12g}")
            lines.append(f"Vd{k} d{k} 0 DC {voltage:.12g}")
    return lines


def branch(switch: ThresholdSwitch) -> list[str]:
    """The device as a hysteretic switch, and the output resistor if there is one."""
    middle = 0.5 * (switch.threshold_voltage + switch.hold_voltage)
    half = 0.5 * (switch.threshold_voltage - switch.hold_voltage)
    lines = [
        f".model ts SW(VT={middle:.12g} VH={half:.12g} RON={switch.on_resistance:.12g} "
        f"ROFF={switch.off_resistance:.12g})"
    ]
    if switch.output_resistance > 0.0:
        return [*lines, "S1 m o m o ts OFF", f"Ro o 0 {switch.output_resistance:.12g}"]
    return [*lines, "S1 m 0 m 0 ts OFF"]


def fixed_branch(switch: ThresholdSwitch, on: bool) -> list[str]:
    """The device held in one phase: a resistor R_p + R_o, for segment tests."""
    resistance = switch.on_resistance if on else switch.off_resistance
    return [f"Rm m 0 {resistance + switch.output_resistance:.12g}"]


def driver(pulses: PulseTrain) -> list[str]:
    """The pulse train as a source on node m; edges of 1 ps."""
    period = pulses.width + pulses.gap
    shape = f"1p 1p {pulses.width:.12g} {period:.12g}"
    if pulses.source_resistance == 0.0:
        return [f"Ip 0 m PULSE(0 {pulses.amplitude:.12g} 0 {shape})"]
    if pulses.idle == "low_z":
        return [
            f"Vp p 0 PULSE(0 {pulses.amplitude:.12g} 0 {shape})",
            f"Rs p m {pulses.source_resistance:.12g}",
        ]
    return [
        f"Vp p 0 PULSE(0 1 0 {shape})",
        f"Bp 0 m I=V(p)*({pulses.amplitude:.12g}-V(m))/{pulses.source_resistance:.12g}",
    ]


def deck(title: str, parts: list[str], step: float, stop: float, control: list[str]) -> str:
    """A batch deck: elements, one transient analysis with step ceiling `step`, control lines."""
    return "\n".join(
        [
            f"* {title}",
            _OPTIONS,
            *parts,
            f".tran {step:.12g} {stop:.12g} 0 {step:.12g} uic",
            ".control",
            "set numdgt=12",
            "run",
            *control,
            "quit",
            ".endc",
            ".end",
            "",
        ]
    )
