"""`neurosim device spice` and `neurosim device calibrate`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from neurosim.cli._device_output import new_table, write_json
from neurosim.devices import spice as referee
from neurosim.devices.calibration import Calibration, calibrate, write_preset
from neurosim.devices.calibration.figures import calibration_figure
from neurosim.devices.experiments.energies import middle_current
from neurosim.devices.experiments.result import plain
from neurosim.devices.experiments.style import save_figure, with_prefix
from neurosim.devices.form import UNITS as FORM_UNITS
from neurosim.devices.form import read_form
from neurosim.devices.preset import DevicePreset
from neurosim.devices.pulse_train import PulseTrain
from neurosim.devices.spice.compare import Comparison, step_limit
from neurosim.devices.spice.figures import spice_figure
from neurosim.devices.spice.netlist import without_delays
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch


def trains_for(switch: ThresholdSwitch) -> list[PulseTrain]:
    """Voltage trains (low-Z, high-Z) and a current train that fire after a few pulses."""
    resistance = 500.0 * switch.on_resistance
    width = 0.1 * resistance * switch.capacitance
    volts = 3.0 * switch.upper * (1.0 + resistance * switch.conductance(False, Drive()))
    current = 0.17 * switch.capacitance * switch.upper / width + 2.0 * switch.rheobase()
    return [
        PulseTrain(volts, width, width, resistance, "low_z"),
        PulseTrain(volts, width, width, resistance, "high_z"),
        PulseTrain(current, width, width),
    ]


def compare_all(switch: ThresholdSwitch, steps: int) -> list[Comparison]:
    """V7 to V9 of one device; a quarter of lock-up and below, so that a run takes seconds."""
    fast = switch.lock_up()
    drive = Drive(max(0.05 * fast, min(middle_current(switch), 0.2 * fast)))
    found = referee.compare_segments(switch, drive)
    found.append(referee.compare_period(switch, drive, steps))
    slowest = max(1.5 * switch.rheobase(), 0.01 * fast)
    currents = np.geomspace(slowest, 0.87 * fast, 5).tolist()
    found += referee.compare_frequencies(switch, currents, steps)
    found += referee.compare_silence(switch)
    if switch.leak_voltage == 0.0:
        for train in trains_for(switch):
            found += referee.compare_train(switch, train)
    return found


def spice(device: DevicePreset, options: argparse.Namespace, console: Console) -> int:
    """Write the netlist, run the comparison if ngspice is there; 1 where a tolerance is missed."""
    switch = without_delays(device.switch())
    drive = Drive(0.1 * switch.lock_up())
    if options.netlist:
        Path(options.netlist).parent.mkdir(parents=True, exist_ok=True)
        Path(options.netlist).write_text(
            referee.oscillator_deck(switch, drive, options.steps), encoding="ascii"
        )
    data: dict[str, Any] = {
        "command": "spice",
        "preset": device.name,
        "flag": device.flag,
        "ngspice": None,
        "step_s": step_limit(switch, drive, options.steps),
    }
    quiet = options.json == "-"
    if referee.find_ngspice() is None:
        data["skipped"] = "ngspice is not installed"
        write_json(options, plain(data))
        if not quiet:
            console.print("ngspice is not installed: comparison skipped (apt-get install ngspice)")
        return 0
    data["ngspice"] = referee.version()
    found = compare_all(switch, options.steps)
    data["comparisons"] = [
        {**dataclasses.asdict(one), "error": one.error, "passed": one.passed} for one in found
    ]
    if options.plot:
        save_figure(spice_figure(found, device, data["ngspice"]), options.plot)
    write_json(options, plain(data))
    if not quiet:
        title = f"closed forms against ngspice {data['ngspice']} - {device.name}, without delays"
        table = new_table(title, ("", "", "closed form", "ngspice", "error", "tolerance", ""), 2)
        for one in found:
            values = (with_prefix(v, one.unit, 7) for v in (one.closed_form, one.spice))
            verdict = "pass" if one.passed else "FAIL"
            table.add_row(
                one.check, one.name, *values, f"{one.error:+.1e}", f"{one.tolerance:g}", verdict
            )
        console.print(table)
        if device.flag:
            console.print(device.flag, highlight=False, markup=False)
    return 0 if all(one.passed for one in found) else 1


def calibrate_files(base: DevicePreset, options: argparse.Namespace, console: Console) -> int:
    """Fit, write the preset and the plot, print every number with its interval."""
    target = Path(options.out)
    if target.suffix != ".toml":
        raise ValueError(f"expected --out FILE.toml, got {options.out!r}")
    name = options.name or target.stem
    if any(file.endswith(".toml") for file in options.files):
        if len(options.files) != 1 or options.plot:
            raise ValueError("expected one form FILE.toml alone, without --plot; or CSV files")
        form = read_form(options.files[0])
        preset = dataclasses.replace(form.preset(), name=name)
        stated = f"{len(form.values)} of {len(FORM_UNITS)} entries of {form.path.name} stated"
        missing = f"not stated, so it stays a placeholder: {', '.join(form.missing)}"
        unused = [key for key in ("pulses_to_fire", "frequency") if form.table(key)]
        kept = f"not used by the preset: {', '.join(unused)} (k_g needs a pulse CSV)"
        notes = (stated, *([missing] if form.missing else []), *([kept] if unused else []))
        result = Calibration(preset, {}, {}, (), notes=notes)
    else:
        result = calibrate(options.files, base, name, options.citation, options.seed)
    write_preset(result, target)
    if options.plot:
        save_figure(calibration_figure(result), options.plot)
    data = {
        "command": "calibrate",
        "preset": name,
        "file": str(target),
        "base": base.name,
        "seed": options.seed,
        "parameters": {
            key: {
                "value": found.value,
                "standard_error": found.error,
                "interval_95": [found.low, found.high],
                "source": found.source,
            }
            for key, found in result.estimates.items()
        },
        "notes": list(result.notes),
        "flag": result.preset.flag,
    }
    write_json(options, plain(data))
    if options.json == "-":
        return 0
    table = new_table(f"{name}, calibrated on {base.name}", ("", "value", "standard error", "95 %"))
    numbers = {**result.preset.quantities, **result.preset.extras}
    for key, found in result.estimates.items():
        unit = "" if numbers[key].unit == "1" else numbers[key].unit
        low, high = (with_prefix(value, unit) for value in (found.low, found.high))
        table.add_row(
            key,
            with_prefix(found.value, unit),
            with_prefix(found.error, unit, 3) if found.error > 0.0 else "-",
            f"{low} to {high}" if found.error > 0.0 else "not fitted",
        )
    if result.estimates:
        console.print(table)
    for note in (*result.notes, result.preset.flag, f"written: {target}"):
        if note:
            console.print(note, highlight=False, markup=False)
    return 0
