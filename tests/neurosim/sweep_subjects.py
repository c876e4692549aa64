"""Things to sweep in tests of the workers: importable by spawned processes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.chip import ChipDescription
from neurosim.sweep import SweepSpec


@dataclass(frozen=True)
class Hold:
    """A work that measures nothing but a number."""

    kind: str = "quality"
    prompt: str = ""
    amount: float = 1.0


@dataclass(frozen=True)
class Troublesome:
    """bits_per_byte = seed + read noise, unless the seed is one that misbehaves.

    `dies`: seeds that end their process, every time; `dies_once`: seeds that do so until the file
    `memory`/SEED exists; `fails`: seeds that raise; `waits`: seconds of every point.
    """

    memory: Path = Path(".")
    dies: tuple[int, ...] = ()
    dies_once: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()
    waits: float = 0.0
    name: str = "troublesome"
    sha256: str = ""
    unit: str = "tokens"
    works: tuple[Hold, ...] = (Hold(),)
    work_digests: tuple[str, ...] = field(default=("hold",))

    def measure(self, index: int, given: ChipDescription, seed: int) -> dict[str, Any]:
        time.sleep(self.waits)
        mark = self.memory / str(seed)
        if seed in self.dies or (seed in self.dies_once and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if seed in self.fails:
            raise RuntimeError(f"seed {seed}\nmisbehaves")
        return {"bits_per_byte": seed + given.crossbar.read_noise.value, "tokens": 1}


def troubled_spec(seeds: int, **changes: Any) -> SweepSpec:
    data = {"name": "t", "chips": ["ideal"], "seeds": {"count": seeds}, "quality": {"tokens": 1}}
    return SweepSpec.from_dict({**data, **changes})
