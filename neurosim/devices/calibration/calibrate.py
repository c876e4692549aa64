"""Measured files in, a preset with uncertainties out (device.md 8.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.calibration.files import Table, read_table
from neurosim.devices.calibration.growth import fit_growth
from neurosim.devices.calibration.laws import Fit, fit_delay, fit_relaxation
from neurosim.devices.calibration.statistics import (
    Spread,
    Sums,
    bootstrap,
    estimate,
    raw_correlation,
    shape_of,
    standard_errors,
    untruncated,
)
from neurosim.devices.calibration.sweeps import Sweeps, extract_sweeps
from neurosim.devices.calibration.trains import extract_trains
from neurosim.devices.extras import TABLES
from neurosim.devices.hazard import Hazard
from neurosim.devices.preset import UNITS, DevicePreset
from neurosim.quantity import Quantity

Floats = npt.NDArray[np.float64]
PLAUSIBLE = (0.01, 20.0)  # V_th of a threshold switch, V: outside it the unit is wrong
DERIVED = ("hazard.ramp", "growth.off_level")  # computed from estimates, not seen in data


@dataclass(frozen=True)
class Estimate:
    """A fitted number: value, standard error, 95 % interval, SI units."""

    value: float
    error: float
    low: float
    high: float
    source: str

    @classmethod
    def normal(cls, value: float, error: float, source: str) -> Estimate:
        """With the interval value -+ 1.96 standard errors."""
        return cls(value, error, value - 1.96 * error, value + 1.96 * error, source)


@dataclass(frozen=True)
class Calibration:
    """The preset, every estimate by dotted key, covariance blocks, and what was fitted."""

    preset: DevicePreset
    estimates: Mapping[str, Estimate]
    covariances: Mapping[str, tuple[tuple[str, ...], Floats]]
    tables: tuple[Table, ...]
    sweeps: Sweeps | None = None
    fits: Mapping[str, Fit] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Calibration({self.preset.name}, {len(self.estimates)} numbers measured)"


def _from_sweeps(
    sweeps: Sweeps, source: str, rng: np.random.Generator
) -> tuple[dict[str, Estimate], dict[str, tuple[tuple[str, ...], Floats]], list[str], str]:
    """Estimates of thresholds, spreads, rho and resistances; (.., covariance, notes, shape)."""
    both = [sweeps.per_device(values) for values in (sweeps.threshold, sweeps.hold)]
    sums = [Sums.of(devices) for devices in both]
    moving = [s for s in sums if (s.squares.sum() / s.count.sum()) > sweeps.step**2 / 6.0]
    rho = float(np.mean([raw_correlation(s) for s in moving])) if moving else 0.0
    shape, p_normal, p_log = shape_of(both[0])
    names: dict[str, Estimate] = {}
    covariances: dict[str, tuple[tuple[str, ...], Floats]] = {}
    for word, devices, own in zip(("threshold", "hold"), both, sums, strict=True):
        cut = word == "hold" and shape == "normal"

        def spread_of(some: Sums, cut: bool = cut) -> Spread:
            found = estimate(some, sweeps.step, rho)
            return untruncated(found) if cut else found

        def numbers(some: Sums) -> Floats:
            return spread_of(some).as_array()[:3]

        raw, found = estimate(own, sweeps.step, rho), spread_of(own)
        stretch = found.cycle / raw.cycle if raw.cycle > 0.0 else 1.0
        errors = standard_errors(raw, own)[:3] * stretch
        draws = bootstrap(devices, numbers, rng)
        if stretch > 1.0 + 1e-9:  # the correction for truncation has no simple normal model
            errors = np.maximum(errors, draws.std(axis=0, ddof=1))
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        keys = (f"{word}_voltage", f"{word}_spread_cycle", f"{word}_spread_device")
        used = 3 if len(devices) > 1 else 2
        for k in range(used):
            value = float(numbers(own)[k])
            names[keys[k]] = Estimate(
                value, float(errors[k]), float(low[k]), float(high[k]), source
            )
        covariances[word] = (keys[:used], np.atleast_2d(np.cov(draws[:, :used].T)))
    if moving:
        total = float(sum(s.count.sum() for s in moving))
        error = float(((1.0 - rho**2) / total) ** 0.5)
        names["statistics.correlation"] = Estimate.normal(max(rho, 0.0), error, source)
    for key, values, power in (
        ("on_resistance", sweeps.on_resistance, 1.0),
        ("off_resistance", sweeps.off_conductance, -1.0),
    ):
        means = np.array([part.mean() for part in sweeps.per_device(values)])
        cycles = np.concatenate(sweeps.per_device(values))
        pool = means if means.size > 1 else cycles
        mean, error = float(pool.mean()), float(pool.std(ddof=1) / pool.size**0.5)
        if mean <= 3.0 * error:
            continue  # the OFF current is lost in the noise: the base value stays
        names[key] = Estimate.normal(mean**power, error * mean ** (power - 1.0), source)
    notes = [
        f"V_th {shape}: Shapiro-Wilk p = {p_normal:.3g} (normal), {p_log:.3g} (lognormal)",
        f"{len(both[0])} devices, {sweeps.device.size} cycles, step {sweeps.step:.4g} V, "
        f"I_cc {sweeps.compliance:.4g} A",
    ]
    if len(both[0]) < 2:
        notes.append("one device: device-to-device spread cannot be seen and stays the base's")
    return names, covariances, notes, shape


def calibrate(
    files: Sequence[str | Path | Table],
    base: DevicePreset,
    name: str,
    citation: str = "",
    seed: int = 0,
) -> Calibration:
    """Fit all files together; what they do not tell stays the base preset's, with its evidence.

    Args:
        files: paths of CSV files (or tables already read), at most one of a kind.
        base: numbers of circuit (capacitance, leak) and of everything not measured here.
        name: of the new preset. seed: of the bootstrap.
    """
    tables = tuple(part if isinstance(part, Table) else read_table(part) for part in files)
    kinds = [table.kind for table in tables]
    if not kinds or len(set(kinds)) != len(kinds):
        raise ValueError(f"expected one file of a kind, at least one; got {', '.join(kinds)}")
    rng = np.random.default_rng(seed)
    estimates: dict[str, Estimate] = {}
    covariances: dict[str, tuple[tuple[str, ...], Floats]] = {}
    fits: dict[str, Fit] = {}
    texts = dict(base.texts)
    notes: list[str] = []
    sweeps = None
    for table in sorted(
        tables, key=lambda part: ("iv", "relax", "pulse", "delay").index(part.kind)
    ):
        source = f"measured: {table.path.name}"
        if table.kind == "iv":
            sweeps = extract_sweeps(table)
            middle = float(np.median(sweeps.threshold))
            if not PLAUSIBLE[0] < middle < PLAUSIBLE[1]:
                raise ValueError(
                    f"{table.path}: V_th is {middle:.3g} V; wrong unit of v in the header?"
                )
            found, blocks, words, shape = _from_sweeps(sweeps, source, rng)
            estimates |= found
            covariances |= blocks
            notes += words
            texts["statistics.shape"] = shape
            continue
        if table.kind == "relax":
            fit = fit_relaxation(table)
            texts["relaxation.law"] = fit.law
            reference = float(table["icc_A"].max())
            estimates["relaxation.compliance"] = Estimate.normal(reference, 0.0, source)
            at_reference = fit["relaxation.time"]
            error = float(fit.errors[fit.names.index("relaxation.time")])
            estimates["reset_delay"] = Estimate.normal(at_reference, error, source)
        elif table.kind == "pulse":
            trains = extract_trains(table)
            try:
                fit = fit_growth(trains, base.extra("growth.threshold").value)
            except ValueError as problem:
                raise ValueError(f"{table.path}: {problem}") from problem
            texts["growth.law"] = fit.law
        else:
            fit = fit_delay(table)
        fits[table.kind] = fit
        covariances[table.kind] = (fit.names, fit.covariance)
        notes += [f"{table.kind}: law {fit.law}, residual {fit.residual:.4g}", *fit.notes]
        for key, value, error in zip(fit.names, fit.values, fit.errors, strict=True):
            if key.split(".")[0] in TABLES:
                estimates[key] = Estimate.normal(float(value), float(error), source)
        for key, (value, error) in fit.more.items():
            estimates[key] = Estimate.normal(value, error, source)
    notes += _lower_off_level(estimates, base)
    if "delay" in fits:
        _add_ramp(estimates, fits["delay"], base)
    preset = _preset(base, name, citation, estimates, texts, tables)
    return Calibration(preset, estimates, covariances, tables, sweeps, fits or None, tuple(notes))


def _add_ramp(estimates: dict[str, Estimate], fit: Fit, base: DevicePreset) -> None:
    """The ramp at which the fitted hazard has the preset's V_th as its median, V/s."""
    law = Hazard(fit["log_rate"], fit["hazard.scale"])
    known = estimates.get("threshold_voltage")
    volts = base["threshold_voltage"] if known is None else known.value
    ramp = law.ramp_integral(volts, 1.0) / np.log(2.0)
    estimates["hazard.ramp"] = Estimate.normal(float(ramp), 0.0, estimates["hazard.scale"].source)


def _lower_off_level(estimates: dict[str, Estimate], base: DevicePreset) -> list[str]:
    """x_off must not exceed a fitted x_th: then it keeps its share of the base's x_th. Notes."""
    found = estimates.get("growth.threshold")
    off = base.extra("growth.off_level").value
    if found is None or off <= found.value:
        return []
    lowered = off / base.extra("growth.threshold").value * found.value
    source = f"the base's x_off / x_th times the fitted x_th ({found.source})"
    estimates["growth.off_level"] = Estimate.normal(lowered, 0.0, source)
    return [f"growth.off_level lowered from {off:g} to {lowered:.3g}, below the fitted x_th"]


def _preset(
    base: DevicePreset,
    name: str,
    citation: str,
    estimates: Mapping[str, Estimate],
    texts: Mapping[str, str],
    tables: Sequence[Table],
) -> DevicePreset:
    """The base with every estimate in its place, evidence "measured"."""
    quantities, extras = dict(base.quantities), dict(base.extras)
    for key, found in estimates.items():
        table, _, entry = key.partition(".")
        unit = UNITS[key] if key in UNITS else TABLES[table][entry]
        band = (found.low, found.high) if found.error > 0.0 else None
        evidence = "derived" if key in DERIVED else "measured"
        target = quantities if key in UNITS else extras
        target[key] = Quantity(found.value, unit, found.source, evidence, band)
    words = citation or f"calibrated from {', '.join(table.path.name for table in tables)}"
    note = f"What was not measured comes from {base.name} with its own evidence."
    try:
        return replace(
            base,
            name=name,
            status="calibrated",
            citation=words,
            note=note,
            quantities=quantities,
            extras=extras,
            texts=dict(texts),
        )
    except ValueError as error:
        raise ValueError(
            f"the fitted numbers make no device: {error}; choose a base preset whose circuit fits"
        ) from error


def metadata_of(tables: Sequence[Table]) -> dict[str, Any]:
    """Metadata of all files, the later ones winning."""
    merged: dict[str, Any] = {}
    for table in tables:
        merged |= table.metadata
    return merged
