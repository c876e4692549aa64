"""Measured energy of the host, where it has sensors; never in one column with modelled joules.

Procedure (energy-and-language-models.md 7.4): idle baseline of at least 30 s, warm-up, then at
least 5 repeats of 30 s and 200 tokens; idle is subtracted and printed; medians with an interval.
Sensors: RAPL counters on Linux where they are readable, `zeus-apple-silicon` on a Mac.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

IDLE_SECONDS = 30.0
RUN_SECONDS = 30.0
RUN_TOKENS = 200
REPEATS = 5
_POWERCAP = Path("/sys/class/powercap")


class Sensor(Protocol):
    """Energy between two calls, J by domain."""

    name: str

    def begin(self) -> None:
        """Start a window; windows do not nest."""

    def end(self) -> dict[str, float]:
        """J by domain since `begin`."""


class RaplSensor:
    """Intel and AMD RAPL energy counters, package domains.

    A counter that is smaller at the end of a window than at its start wrapped around once; windows
    of half a minute are far shorter than a second wrap takes.
    """

    name = "RAPL"

    def __init__(self, folder: Path = _POWERCAP) -> None:
        self._domains: dict[str, tuple[Path, int]] = {}
        self._first: dict[str, int] = {}
        for domain in sorted(folder.glob("intel-rapl:*")):
            if ":" in domain.name.removeprefix("intel-rapl:"):
                continue  # a part of a package, which has it already
            counter = domain / "energy_uj"
            try:
                int(counter.read_text())
                largest = int((domain / "max_energy_range_uj").read_text())
                name = (domain / "name").read_text().strip()
            except (OSError, ValueError):
                continue
            self._domains[f"{name} ({domain.name})"] = counter, largest
        if not self._domains:
            raise ValueError(
                f"no readable RAPL counter in {folder}; this machine has none, or its energy_uj "
                "files are for root only (run as root)"
            )

    def _counters(self) -> dict[str, int]:
        return {name: int(path.read_text()) for name, (path, _) in self._domains.items()}

    def begin(self) -> None:
        self._first = self._counters()

    def end(self) -> dict[str, float]:
        spent = {name: now - self._first[name] for name, now in self._counters().items()}
        return {
            name: (joule if joule >= 0 else joule + self._domains[name][1]) * 1e-6
            for name, joule in spent.items()
        }


class AppleSensor:
    """Energy counters of an Apple chip through the package zeus-apple-silicon; never run by us."""

    name = "zeus-apple-silicon"
    _window = "neurosim"

    def __init__(self) -> None:
        try:
            from zeus_apple_silicon import AppleEnergyMonitor  # type: ignore[import-not-found]
        except ImportError as error:
            raise ValueError(
                "zeus-apple-silicon is not installed; pip install zeus-apple-silicon"
            ) from error
        self._monitor: Any = AppleEnergyMonitor()

    def begin(self) -> None:
        self._monitor.begin_window(self._window)

    def end(self) -> dict[str, float]:
        found = self._monitor.end_window(self._window)
        names = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "ane_mj", "dram_mj")
        values = {name: getattr(found, name, None) for name in names}  # None: not on this chip
        return {
            name.removesuffix("_mj"): value * 1e-3
            for name, value in values.items()
            if value is not None
        }


def find_sensor() -> Sensor:
    """The sensor of this machine; ValueError says which were looked for and why none works."""
    return AppleSensor() if platform.system() == "Darwin" else RaplSensor()


@dataclass(frozen=True)
class Measurement:
    """Energy of the host per token. `total` with idle, `net` without, J; one value a repeat."""

    sensor: str
    idle_watts: Mapping[str, float]
    total: tuple[float, ...]
    net: tuple[float, ...]
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the kind is always "measured", the boundary the host."""
        low, middle, high = np.percentile(self.net, (5, 50, 95)).tolist()
        return {
            "kind": "measured",
            "boundary": f"host of the simulation ({self.sensor} domains), not the simulated chip",
            "sensor": self.sensor,
            "machine": self.machine,
            "idle_W": dict(self.idle_watts),
            "net_J_per_token": {"p5": low, "median": middle, "p95": high},
            "with_idle_J_per_token": float(np.median(self.total)),
            "repeats": len(self.net),
            "tokens": list(self.tokens),
            "seconds": list(self.seconds),
        }


def measure(
    run: Callable[[], int],
    sensor: Sensor | None = None,
    idle_seconds: float = IDLE_SECONDS,
    run_seconds: float = RUN_SECONDS,
    run_tokens: int = RUN_TOKENS,
    repeats: int = REPEATS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Measurement:
    """Measure `run`, which does some tokens and returns how many, by the procedure above."""
    if repeats < 2 or idle_seconds <= 0:
        raise ValueError(
            f"expected at least 2 repeats and an idle time > 0 s, got {repeats} and {idle_seconds}"
        )
    sensor = sensor or find_sensor()
    start = clock()
    sensor.begin()
    sleep(idle_seconds)
    rest = sensor.end()
    idle = {name: joule / (clock() - start) for name, joule in rest.items()}
    run()  # warm-up
    total, net, tokens, seconds = [], [], [], []
    for _ in range(repeats):
        start, done = clock(), 0
        sensor.begin()
        while done < run_tokens or clock() - start < run_seconds:
            made = run()
            if made < 1:
                raise ValueError(f"expected a run to return the tokens it made, got {made}")
            done += made
        joule, passed = sum(sensor.end().values()), clock() - start
        total.append(joule / done)
        net.append((joule - sum(idle.values()) * passed) / done)
        tokens.append(done)
        seconds.append(passed)
    machine = f"{platform.machine()} {platform.system()} {platform.release()}"
    return Measurement(
        sensor.name, idle, tuple(total), tuple(net), tuple(tokens), tuple(seconds), machine
    )
