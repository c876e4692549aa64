"""The M1 model on a trace worked by hand, on a real kernel, and what only a Mac can do."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import metal_emulator, spike_linear
from neurosim.kernels.metal_emulator import BufferTraffic, Trace
from neurosim.profiling import m1, mac, session, table
from neurosim.profiling.case import Candidate, Case, Operation, Request
from neurosim.profiling.operations import OPERATIONS

EMULATED = pytest.mark.skipif(
    metal_emulator.unavailable() is not None, reason=str(metal_emulator.unavailable())
)
NO_MAC = pytest.mark.skipif(mx.metal.is_available(), reason="this machine has a Metal GPU")


def trace(read: int, written: int, **operations: int) -> Trace:
    """A launch that reads every byte twice and writes every byte three times."""
    buffers = (
        BufferTraffic("x", 2 * read, 2 * read, 0, read, 0),
        BufferTraffic("out", written, 0, 3 * written, 0, written),
    )
    return Trace(buffers, 32, 1, 0, 0, 0, 0, operations)


def test_prediction_of_a_launch_that_memory_limits() -> None:
    found = m1.predict([trace(60_000, 8_000, popcount=10, ballot=5, load=999)])
    assert found.moved == 68_000
    assert found.cycles == 10 * 4 + 5 * 2
    assert found.seconds == pytest.approx(1e-6)  # 68 kB at 68 GB/s
    assert (found.launches, found.bound) == (1, "memory")


def test_prediction_of_a_launch_that_issue_limits() -> None:
    operations = {"reduce": 1_000_000, "shuffle": 500_000, "prefix_sum": 10, "math": 20}
    found = m1.predict([trace(68, 0, **operations)])
    cycles = 14.5e6 + 1e6 + 120 + 80
    assert found.cycles == pytest.approx(cycles)
    assert found.seconds == pytest.approx(cycles / (8 * 128 * 1.278e9))
    assert found.bound == "issue"


def test_launches_follow_each_other() -> None:
    one, two = trace(68_000, 0), trace(0, 0, count_zeros=327_168_000)  # 1 us and 1 ms
    found = m1.predict([one, two])
    assert found.seconds == pytest.approx(1e-6 + 1e-3)
    assert (found.launches, found.moved, found.bound) == (2, 68_000, "issue")


def test_every_priced_operation_is_one_that_the_emulator_counts() -> None:
    from neurosim.kernels.metal_emulator._launch import OPERATIONS as COUNTED

    assert set(m1.CYCLES) < set(COUNTED)
    assert "lower bound" in m1.LABEL and "never measured" in m1.LABEL


def test_without_a_metal_form_the_reasons_are_given() -> None:
    def build(request: Request) -> Case:
        ours = {"host": Candidate(lambda: 1, "ours")}
        return Case("sum", {"N": 3}, None, ours)

    operation = Operation("sum", "a sum", ("N",), (3,), build, (), small=(3,))
    if metal_emulator.unavailable() is None:
        with pytest.raises(ValueError, match="sum has no Metal form.*started no Metal kernel"):
            m1.model(operation, Request((3,), 0.5))


def test_no_emulator_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metal_emulator, "unavailable", lambda: "there is no g++")
    with pytest.raises(ValueError, match="there is no g\\+\\+"):
        m1.model(OPERATIONS["pack"], Request((3, 5), 0.5))


def test_the_backend_of_the_model_goes_away_again() -> None:
    with m1.traced():
        pass
    with pytest.raises(ValueError, match="expected backend"):
        spike_linear(np.ones((1, 2), np.int8), np.ones((2, 2), np.int8), backend=m1.BACKEND)


@EMULATED
@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if o.small is not None])
def test_model_of_every_operation_with_metal_kernels(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.small is not None
    for found in m1.model(operation, Request(operation.small, 0.2)).values():
        assert found.launches >= 1 and found.moved > 0
        assert found.seconds >= found.moved / m1.M1.bandwidth / found.launches


@EMULATED
def test_on_a_mac_metal_stands_beside_ours() -> None:
    (job,) = session.jobs([OPERATIONS["spike_linear"]], [0.2], (5, 65, 33))
    case = session.with_metal(job.case(), job, "metal-emulated")
    assert {"float32", "float32, Metal", "int8, Metal"} <= set(case.of("ours"))
    case.check()
    (other,) = session.jobs([OPERATIONS["training_step"]], [0.2], (2, 3, 5))
    case = other.case()
    assert session.with_metal(case, other) is case  # no Metal form


@NO_MAC
def test_capture_is_refused_here(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="--capture needs a Metal GPU"):
        mac.check_capture(tmp_path / "x.gputrace")


def test_capture_refusals_on_a_mac(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(mac, "gpu_unavailable", lambda: None)
    monkeypatch.setenv("MTL_CAPTURE_ENABLED", "1")
    with pytest.raises(ValueError, match="ending in .gputrace, got x.png"):
        mac.check_capture(tmp_path / "x.png")
    (tmp_path / "old.gputrace").mkdir()
    with pytest.raises(ValueError, match="where nothing is yet"):
        mac.check_capture(tmp_path / "old.gputrace")
    mac.check_capture(tmp_path / "new.gputrace")
    monkeypatch.delenv("MTL_CAPTURE_ENABLED")
    with pytest.raises(ValueError, match="MTL_CAPTURE_ENABLED=1 in the environment"):
        mac.check_capture(tmp_path / "new.gputrace")


def test_capture_starts_and_stops(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    calls: list[str] = []
    monkeypatch.setattr(mac, "gpu_unavailable", lambda: None)
    monkeypatch.setenv("MTL_CAPTURE_ENABLED", "1")
    monkeypatch.setattr(mac.mx.metal, "start_capture", calls.append)
    monkeypatch.setattr(mac.mx.metal, "stop_capture", lambda: calls.append("stop"))
    path = tmp_path / "x.gputrace"
    with pytest.raises(KeyError), mac.capture(path):
        raise KeyError
    assert calls == [str(path), "stop"]


def test_energy_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mac.sys, "platform", "linux")
    with pytest.raises(ValueError, match="--energy needs macOS"):
        mac.energy_source()
    monkeypatch.setattr(mac.sys, "platform", "darwin")
    monkeypatch.setattr(mac, "find_spec", lambda name: None)
    monkeypatch.setattr(mac.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="pip install zeus-apple-silicon"):
        mac.energy_source()
    monkeypatch.setattr(mac.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(mac.os, "geteuid", lambda: 501)
    with pytest.raises(ValueError, match="root for powermetrics"):
        mac.energy_source()
    monkeypatch.setattr(mac.os, "geteuid", lambda: 0)
    assert mac.energy_source() == "powermetrics"
    monkeypatch.setattr(mac, "find_spec", lambda name: object())
    assert mac.energy_source() == "zeus"


def test_energy_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"operation": "op", "shape": {"N": 3}, "density": 0.1, "candidate": "a",
           "source": "zeus", "cpu_J": 1.5e-3, "gpu_J": 2e-4}  # fmt: skip
    table.print_energy([row], table.wide_console())
    text = capsys.readouterr().out
    assert text == "op N=3 p=0.1 a: 0.0015 J CPU, 0.0002 J GPU per call, whole machine (zeus)\n"


def test_joules_from_what_powermetrics_prints() -> None:
    text = "*** Sampled ***\nCPU Power: 1500 mW\nGPU Power: 250 mW\nANE Power: 0 mW\n"
    assert mac.joules(text, 1e-3) == {
        "cpu_J": pytest.approx(1.5e-3),
        "gpu_J": pytest.approx(2.5e-4),
    }
    with pytest.raises(ValueError, match=r"expected CPU and GPU power.*\['CPU'\]"):
        mac.joules("CPU Power: 3 mW\n", 1.0)
