"""What the mesh did in one phase of a run: times, latencies, loads, losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh import Delivery, Grid, Packets, Routes

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

BINS_PER_DECADE = 20
_LOW, _HIGH = -12, 1  # decades of seconds that the latency histogram spans
EDGES: Floats = 10.0 ** np.arange(_LOW, _HIGH + 0.5 / BINS_PER_DECADE, 1.0 / BINS_PER_DECADE)
_ROUNDING = 1e-9  # of a latency: less is no waiting


@dataclass(frozen=True, eq=False)
class Latency:
    """Times from injection to delivery. `histogram`: deliveries between neighbouring `EDGES`, the
    first bin with everything below, the last with everything above; `total`, `longest` s exactly;
    `waited` s, the part that was not latency and transmission."""

    deliveries: int
    total: float
    waited: float
    longest: float
    histogram: Longs

    @property
    def mean(self) -> float:
        """Seconds; 0 without deliveries."""
        return self.total / self.deliveries if self.deliveries else 0.0

    @property
    def congestion(self) -> float:
        """Share of all latency that was waiting for other packets, 0 to 1."""
        return self.waited / self.total if self.total > 0.0 else 0.0

    def quantile(self, share: float) -> float:
        """Upper edge of the bin that holds this quantile, s: at most 12 % above it."""
        if not self.deliveries:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self.histogram), share * self.deliveries))
        return min(float(EDGES[min(place, EDGES.size - 1)]), self.longest)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "deliveries": self.deliveries,
            "mean_s": self.mean,
            "median_s": self.quantile(0.5),
            "p99_s": self.quantile(0.99),
            "longest_s": self.longest,
            "congestion": self.congestion,
        }


@dataclass(frozen=True, eq=False)
class PhaseTraffic:
    """One phase. `seconds`: simulated time of the phase; `token_seconds`: of every token that ran
    alone, from its first word to its logits, s (empty where tokens followed each other without
    waiting). `window_late`: spike deliveries after their window's end; `waited_seconds`: what the
    clock waited for them. `dropped`: deliveries that never happened. Per link (4 tiles,): `load`
    packets, `busy` s, `blocked` s, `high_water` packets."""

    grid: Grid
    seconds: float
    token_seconds: tuple[float, ...]
    spikes: Latency
    words: Latency
    window_late: int
    late_lost: bool
    waited_seconds: float
    dropped: int
    load: Longs
    busy: Floats
    blocked: Floats
    high_water: Longs

    @property
    def utilisation(self) -> Floats:
        """Share of the phase that each link transmits, (4 tiles,)."""
        return self.busy / self.seconds if self.seconds > 0.0 else np.zeros(self.busy.size)

    def to_dict(self, busiest: int = 5) -> dict[str, Any]:
        """Plain numbers; `busiest` links by name."""
        share = self.utilisation
        used = self.load > 0
        first = np.argsort(-share, kind="stable")[: min(busiest, int(used.sum()))]
        return {
            "seconds": self.seconds,
            "token_seconds": list(self.token_seconds),
            "spikes": self.spikes.to_dict(),
            "words": self.words.to_dict(),
            "late": self.window_late,
            "late_packets_are": "lost" if self.late_lost else "waited for",
            "waited_s": self.waited_seconds,
            "dropped": self.dropped,
            "links": {
                "used": int(used.sum()),
                "packet_hops": int(self.load.sum()),
                "mean_utilisation": float(share[used].mean()) if used.any() else 0.0,
                "highest_utilisation": float(share.max(initial=0.0)),
                "blocked_s": float(self.blocked.sum()),
                "longest_queue": int(self.high_water.max(initial=0)),
                "busiest": [
                    {"link": self.grid.name(int(link)), "utilisation": float(share[link])}
                    for link in first
                ],
            },
        }


class LatencyTally:
    """Collects a `Latency`."""

    def __init__(self) -> None:
        self._count = 0
        self._total = self._waited = self._longest = 0.0
        self._histogram = np.zeros(EDGES.size + 1, np.int64)

    def add(self, latency: Floats, least: Floats) -> None:
        """Deliveries' latencies, and what they would be on an empty mesh, s."""
        if latency.size == 0:
            return
        waited = latency - least
        waited[waited < _ROUNDING * latency] = 0.0
        self._count += latency.size
        self._total += float(latency.sum())
        self._waited += float(waited.sum())
        self._longest = max(self._longest, float(latency.max()))
        place = np.zeros(latency.size, np.int64)
        positive = latency > 0.0
        scaled = (np.log10(latency[positive]) - _LOW) * BINS_PER_DECADE
        place[positive] = np.clip(np.ceil(scaled), 0, EDGES.size)
        self._histogram += np.bincount(place, minlength=EDGES.size + 1)

    def freeze(self) -> Latency:
        """What was collected so far."""
        return Latency(
            self._count, self._total, self._waited, self._longest, self._histogram.copy()
        )


@dataclass(eq=False)
class TrafficTally:
    """Collects a `PhaseTraffic`."""

    grid: Grid
    late_lost: bool
    seconds: float = 0.0
    token_seconds: list[float] = field(default_factory=list)
    window_late: int = 0
    waited_seconds: float = 0.0
    dropped: int = 0

    def __post_init__(self) -> None:
        self.spikes, self.words = LatencyTally(), LatencyTally()
        links = self.grid.latency.size
        self.load, self.high_water = np.zeros((2, links), np.int64)
        self.busy, self.blocked = np.zeros((2, links))

    def add_links(self, delivery: Delivery) -> None:
        """Loads and losses of one transport."""
        self.load += delivery.load
        self.busy += delivery.busy_time
        self.blocked += delivery.blocked_time
        np.maximum(self.high_water, delivery.high_water, out=self.high_water)
        self.dropped += delivery.dropped

    def freeze(self) -> PhaseTraffic:
        """What was collected so far."""
        return PhaseTraffic(
            self.grid,
            self.seconds,
            tuple(self.token_seconds),
            self.spikes.freeze(),
            self.words.freeze(),
            self.window_late,
            self.late_lost,
            self.waited_seconds,
            self.dropped,
            self.load.copy(),
            self.busy.copy(),
            self.blocked.copy(),
            self.high_water.copy(),
        )


def zero_load(routes: Routes, packets: Packets, delivery: Delivery) -> Floats:
    """Latency of every (packet, target) on an empty mesh, s, in the order of `arrival`."""
    first = np.concatenate([[0], np.cumsum(routes.targets)])[:-1]
    count = routes.targets[packets.route]
    inside = np.arange(delivery.arrival.size) - np.repeat(delivery.first_target[:-1], count)
    place = np.repeat(first[packets.route], count) + inside
    bits = np.repeat(packets.bits, count)
    least: Floats = routes.latency[place] + bits * routes.seconds_per_bit[place]
    return least
