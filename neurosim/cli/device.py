"""`neurosim device ACTION`: experiments on a threshold-switching device, SPICE, calibration."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from neurosim.cli._device_output import print_experiment, print_presets, write_json
from neurosim.devices import experiments as lab
from neurosim.devices.experiments.result import Experiment, plain
from neurosim.devices.preset import PRESET_FOLDER, DevicePreset, load_device


def _numbers(option: str, text: str | None) -> list[float] | None:
    """`2e-6,5e-6` as floats; None stays None."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or not np.isfinite(values).all():
        raise ValueError(f"expected {option} like 2e-6,5e-6, got {text!r}")
    return values


def _iv(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    return [lab.current_voltage(device)]


def _fire(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    strengths = _numbers("--voltages", options.voltages)
    if strengths and min(strengths) <= 0.0:
        raise ValueError(f"expected --voltages > 0 V, got {options.voltages!r}")
    return [lab.rc_output(device, strengths), lab.pulses_to_fire(device)]


def _train(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    return [lab.leaky_integration(device), lab.published_trains(device)]


def _fi(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    currents = _numbers("--currents", options.currents)
    curve = lab.frequency_curve(device, currents, options.points)
    return [curve] if currents else [curve, lab.strength_frequency(device)]


def _relax(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    return [lab.relaxation_time(device, options.seed), lab.self_relaxation(device)]


def _variability(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    runs = (
        lab.threshold_statistics,
        lab.ramp_dependence,
        lab.delay_voltage,
        lab.jitter,
        lab.population,
    )
    return [run(device, options.seed) for run in runs]


def _energy(device: DevicePreset, options: argparse.Namespace) -> list[Experiment]:
    currents = _numbers("--current", options.current)
    if currents and len(currents) != 1:
        raise ValueError(f"expected one --current, got {options.current!r}")
    return [lab.spike_energy(device, currents[0] if currents else None), lab.and_ts_neuron()]


Run = Callable[[DevicePreset, argparse.Namespace], list[Experiment]]
EXPERIMENTS: dict[str, tuple[str, Run]] = {
    "iv": ("quasi-static I-V (E1)", _iv),
    "fire": ("threshold-driven fire: RC neuron and pulses to fire (E10, E7)", _fire),
    "train": ("leaky integration of pulse trains (E6, E13)", _train),
    "fi": ("firing rate against stimulus strength (E11, E9)", _fi),
    "relax": ("relaxation against compliance and temperature, firing again (E5, E8)", _relax),
    "variability": ("spread, ramps, delays, jitter, populations (E2-E4, E14, E15)", _variability),
    "energy": ("charge and energy of a spike (E12, E16)", _energy),
}


def _common(parser: argparse.ArgumentParser, preset: str = "and_ts") -> None:
    parser.add_argument(
        "--preset",
        default=preset,
        metavar="NAME|FILE.toml",
        help=f"device (default {preset}); `neurosim device presets` lists them",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of every draw (default 0)")
    _outputs(parser)


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="JSON to FILE; without FILE, JSON only on standard output",
    )
    parser.add_argument("--plot", metavar="FILE", help="figure to FILE.svg or FILE.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-subcommand for each action."""
    parser.set_defaults(device_parser=parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, (text, _) in EXPERIMENTS.items():
        sub = actions.add_parser(name, help=text, description=text.capitalize() + ".")
        _common(sub)
        if name == "fire":
            sub.add_argument("--voltages", metavar="V,V", help="source voltages, V")
        if name == "fi":
            sub.add_argument("--currents", metavar="A,A", help="currents, A")
            sub.add_argument("--points", type=int, default=25, help="points of the default grid")
        if name == "energy":
            sub.add_argument("--current", metavar="A", help="constant current, A")
    sub = actions.add_parser("spice", help="closed forms against ngspice (V7-V9)")
    _common(sub)
    sub.add_argument("--netlist", metavar="FILE", help="write the oscillator's netlist here")
    sub.add_argument("--steps", type=int, default=20_000, help="steps a period (default 20000)")
    sub = actions.add_parser("calibrate", help="measured CSV files to a preset with uncertainties")
    sub.add_argument(
        "files",
        nargs="+",
        metavar="FILE.csv",
        help="iv, pulse, delay or relax data; or one filled form (docs/device.md), FILE.toml",
    )
    sub.add_argument(
        "--out", metavar="FILE.toml", default="calibrated.toml", help="preset to write"
    )
    sub.add_argument("--name", help="of the preset (default: the file's)")
    sub.add_argument("--citation", default="", help="where the data come from")
    _common(sub)
    sub = actions.add_parser("presets", help="list the devices, or print one with its sources")
    sub.add_argument("name", nargs="?", metavar="NAME|FILE.toml")
    _outputs(sub)


def emit(
    options: argparse.Namespace,
    found: Sequence[Experiment],
    extra: dict[str, Any],
    console: Console,
) -> None:
    """Table, JSON and figure of a command's experiments, as the options ask."""
    values: dict[str, Any] = {}
    for experiment in found:
        values.update(experiment.values)
    data = plain({**extra, **values, "experiments": [e.to_dict() for e in found]})
    if options.plot:
        from neurosim.devices.experiments.figures import figure_of
        from neurosim.devices.experiments.style import save_figure

        save_figure(figure_of(found), options.plot)
    write_json(options, data)
    if options.json != "-":
        for experiment in found:
            print_experiment(experiment, console)


def _check(options: argparse.Namespace) -> None:
    """Refuse what can be seen to be wrong before anything is computed."""
    if options.plot and Path(options.plot).suffix.lower() not in (".svg", ".png"):
        raise ValueError(f"expected --plot FILE.svg or FILE.png, got {options.plot!r}")
    for name, least in (("seed", 0), ("points", 2), ("steps", 20_000)):
        if getattr(options, name, least) < least:
            raise ValueError(f"expected --{name} >= {least}, got {getattr(options, name)}")


def _presets(options: argparse.Namespace, console: Console) -> int:
    if options.plot:
        raise ValueError("presets has no figure; leave --plot away")
    names = [options.name] if options.name else sorted(p.stem for p in PRESET_FOLDER.glob("*.toml"))
    devices = [load_device(name) for name in names]
    data = {
        "presets": {
            device.name: {
                "status": device.status,
                "citation": device.citation,
                "flag": device.flag,
                "evidence": device.evidence,
                "quantities": {
                    key: {
                        "value": quantity.value,
                        "unit": quantity.unit,
                        "evidence": quantity.evidence,
                        "source": quantity.source,
                        "band": quantity.band,
                    }
                    for key, quantity in device.quantities.items()
                },
            }
            for device in devices
        }
    }
    write_json(options, plain(data))
    if options.json != "-":
        print_presets(devices, console, whole=bool(options.name))
    return 0


def main(options: argparse.Namespace) -> int:
    """Run one action; 1 where a pass criterion is missed."""
    if options.action is None:
        options.device_parser.print_help()
        return 0
    console = Console()
    _check(options)
    if options.action == "presets":
        return _presets(options, console)
    device = load_device(options.preset)
    if options.action in ("spice", "calibrate"):
        from neurosim.cli import _device_lab

        run = _device_lab.spice if options.action == "spice" else _device_lab.calibrate_files
        return run(device, options, console)
    found = EXPERIMENTS[options.action][1](device, options)
    extra = {
        "command": options.action,
        "preset": device.name,
        "status": device.status,
        "flag": device.flag,
        "seed": options.seed,
    }
    emit(options, found, extra, console)
    return 0 if all(experiment.passed for experiment in found) else 1
