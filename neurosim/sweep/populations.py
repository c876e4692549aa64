"""Networks of populations in a sweep: rates, regularity, counts and energy against parameters."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosim.events.engines import available
from neurosim.events.recording import Recording
from neurosim.events.simulate import Options, simulate
from neurosim.populations import PoissonSource, SpikingNetwork
from neurosim.populations.builders import find_builder, finished_network
from neurosim.sweep.design import Variant, digest, settings, swept_keys
from neurosim.sweep.reading import Value
from neurosim.sweep.schema import AXES, is_measured
from neurosim.sweep.spec import NetworkWork, SweepSpec

Row = dict[str, Any]
SEED, RATE = "seed", "rate"


@dataclass(frozen=True)
class PopulationsWork:
    """Simulate for `amount` seconds."""

    amount: float
    kind: str = "network"
    prompt: str = ""


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """A network that every point builds anew from its parameters; see `NetworkWork`.

    `folder`: of the specification, where a NIR file lies and modules are looked for first;
    `sha256`: of the NIR file or of the module that builds.
    """

    settings: NetworkWork
    folder: Path
    sha256: str
    unit: str = "simulated seconds"

    @classmethod
    def load(cls, spec: SweepSpec, where: str) -> NetworkModel:
        """Find the file or the function; its text becomes part of every point's identity."""
        chosen, folder = spec.network, spec.folder.resolve()
        if chosen is None:
            raise ValueError(f"{where}: missing [network]")
        key = "file" if chosen.file else "build"
        engines = ("auto", *available())
        if chosen.engine not in engines:
            raise ValueError(
                f"{where}: network.engine: expected one of {', '.join(engines)}, "
                f"got {chosen.engine!r}"
            )
        try:
            if chosen.file:
                content = (folder / chosen.file).read_bytes()
            else:
                source = inspect.getsourcefile(find_builder(chosen.build, folder))
                content = Path(source).read_bytes() if source else b""
        except (OSError, ValueError) as error:
            raise ValueError(f"{where}: network.{key}: {error}") from error
        return cls(chosen, folder, hashlib.sha256(content).hexdigest())

    @property
    def name(self) -> str:
        """The file or the function."""
        return self.settings.file or self.settings.build

    @property
    def works(self) -> tuple[PopulationsWork, ...]:
        """One: the simulation."""
        return (PopulationsWork(self.settings.duration),)

    @property
    def work_digests(self) -> tuple[str, ...]:
        """Identity of the simulation, without parameters and seed."""
        return (digest([self.sha256, self.settings]),)

    def variants(self, spec: SweepSpec, where: str) -> list[Variant]:
        """Every setting of the parameters; names are checked against what the builder takes."""
        keys = swept_keys(spec)
        defaults = self._defaults()
        for key in keys:
            if key not in defaults:
                known = ", ".join(sorted(defaults)) or "none"
                raise ValueError(f"{where}: {self.name} takes no parameter {key!r}; known: {known}")
            if key in AXES or is_measured(key):
                raise ValueError(
                    f"{where}: a parameter called {key!r} would hide a column of the results; "
                    "give it another name in the builder"
                )
        found = []
        for setting in settings(spec):
            given = dict(setting.values)
            columns = {key: given.get(key, defaults[key]) for key in keys}
            units = {key: "Hz" if self.settings.file and key == RATE else "" for key in keys}
            found.append(Variant("", given, setting, digest(given), columns, units))
        return found

    def _defaults(self) -> dict[str, Any]:
        """Parameter -> default (None without) of the builder, the seed left out."""
        if self.settings.file:
            return {RATE: 0.0}
        takes = inspect.signature(find_builder(self.settings.build, self.folder)).parameters
        return {
            name: None if item.default is inspect.Parameter.empty else item.default
            for name, item in takes.items()
            if name != SEED
        }

    def _build(self, given: Mapping[str, Value], seed: int) -> SpikingNetwork:
        if self.settings.file:
            from neurosim.io.nir import read_nir

            imported = read_nir(self.folder / self.settings.file)
            rate = float(given.get(RATE, 0.0))
            return imported.with_inputs(
                {name: PoissonSource(rate) for name in imported.inputs}
            ).network
        build = find_builder(self.settings.build, self.folder)
        arguments: dict[str, Any] = dict(given)
        if SEED in inspect.signature(build).parameters:
            arguments[SEED] = seed
        return finished_network(self.name, build(**arguments))

    def measure(self, index: int, given: Mapping[str, Value], seed: int) -> Row:
        """Build, simulate, and reduce to rates, coefficients of variation, counts and joules."""
        chosen = self.settings
        options = Options(chosen.time_step, chosen.precision, seed)
        found = simulate(
            self._build(given, seed), chosen.duration, engine=chosen.engine, options=options
        )
        if found.interrupted:
            raise KeyboardInterrupt
        return _reduced(found)


def _reduced(found: Recording) -> Row:
    row: Row = {"engine": found.engine, "simulated_s": found.duration}
    for population in found.network:
        row[f"rate.{population.name}"] = found.rate(population.name)
        gaps = found.intervals(population.name)
        if gaps.size > 1:
            row[f"cv.{population.name}"] = float(gaps.std() / gaps.mean())
        for mechanism, joules in found.energy.get(population.name, {}).items():
            row[f"joules.{population.name}.{mechanism}"] = float(joules)
    return row | {f"count.{name}": int(value) for name, value in found.counts.items()}
