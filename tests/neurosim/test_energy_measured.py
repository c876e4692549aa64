"""Measured energy: counters that wrap, idle that is subtracted, sensors that are absent."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from neurosim.energy.measured import AppleSensor, RaplSensor, find_sensor, measure


def powercap(folder: Path, counters: dict[str, int]) -> Path:
    """A folder as Linux shows it: packages, and a part of one that must not be added."""
    for domain, value in counters.items():
        path = folder / domain
        path.mkdir(parents=True, exist_ok=True)
        (path / "energy_uj").write_text(f"{value}\n")
        (path / "max_energy_range_uj").write_text("1000000\n")
        (path / "name").write_text(f"package-{domain[-1]}\n")
    return folder


def test_rapl_adds_packages_once_and_survives_a_wrap(tmp_path: Path) -> None:
    powercap(tmp_path, {"intel-rapl:0": 900_000, "intel-rapl:1": 10, "intel-rapl:0:0": 5})
    sensor = RaplSensor(tmp_path)
    sensor.begin()
    powercap(tmp_path, {"intel-rapl:0": 100_000, "intel-rapl:1": 60, "intel-rapl:0:0": 77})
    spent = sensor.end()
    assert sorted(spent.values()) == pytest.approx([50e-6, 0.2])


def test_an_absent_sensor_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no readable RAPL counter"):
        RaplSensor(tmp_path)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", None)
    with pytest.raises(ValueError, match="pip install zeus-apple-silicon"):
        find_sensor()


def test_apple_parts_that_the_chip_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[str] = []

    class Monitor:
        def begin_window(self, name: str) -> None:
            windows.append(name)

        def end_window(self, name: str) -> SimpleNamespace:
            assert windows.pop() == name
            return SimpleNamespace(cpu_total_mj=2000, gpu_mj=500, ane_mj=None, dram_mj=None)

    module = SimpleNamespace(AppleEnergyMonitor=Monitor)
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", module)
    sensor = AppleSensor()
    sensor.begin()
    assert sensor.end() == {"cpu_total": 2.0, "gpu": 0.5}


class Machine:
    """A clock and a sensor of 3 W idle; each token takes 0.5 s and 2 J more."""

    name = "machine"

    def __init__(self) -> None:
        self.time, self.joules, self.start = 0.0, 0.0, 0.0

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.joules += 3.0 * seconds

    def token(self) -> int:
        self.sleep(0.5)
        self.joules += 2.0
        return 1

    def begin(self) -> None:
        self.start = self.joules

    def end(self) -> dict[str, float]:
        return {"package": self.joules - self.start}


def test_idle_is_measured_subtracted_and_printed() -> None:
    machine = Machine()
    found = measure(
        machine.token, machine, clock=lambda: machine.time, sleep=machine.sleep, repeats=3
    )
    assert found.idle_watts == pytest.approx({"package": 3.0})
    assert found.net == pytest.approx((2.0,) * 3) and found.total == pytest.approx((3.5,) * 3)
    assert found.tokens == (200, 200, 200)  # 200 tokens take 100 s, more than the 30 s
    data = found.to_dict()
    assert data["kind"] == "measured" and "not the simulated chip" in data["boundary"]
    assert data["net_J_per_token"]["median"] == pytest.approx(2.0)


def test_measuring_refuses_what_cannot_be_a_measurement() -> None:
    machine = Machine()
    with pytest.raises(ValueError, match="at least 2 repeats"):
        measure(machine.token, machine, repeats=1)
    with pytest.raises(ValueError, match="tokens it made, got 0"):
        measure(
            lambda: machine.sleep(1.0) or 0,
            machine,
            clock=lambda: machine.time,
            sleep=machine.sleep,
        )
