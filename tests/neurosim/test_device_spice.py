"""ngspice as referee: V7 segments, V8 oscillator, V9 pulses to fire; V16 clean without ngspice."""

from __future__ import annotations

import dataclasses

import pytest

from neurosim.cli import main
from neurosim.devices import Drive, PulseTrain, ThresholdSwitch, load_device
from neurosim.devices import spice as referee
from neurosim.devices.spice import runner

needs_ngspice = pytest.mark.skipif(
    referee.find_ngspice() is None, reason="ngspice is not installed"
)
DEMO = load_device("demo").switch()
PLAIN = dataclasses.replace(DEMO, leak_conductance=0.0)
LEAKY = dataclasses.replace(PLAIN, off_resistance=5e6)
AND_TS = dataclasses.replace(load_device("and_ts").switch(), threshold_voltage=0.267)
CASES = {
    "A": (DEMO, Drive(2e-6)),
    "B": (dataclasses.replace(PLAIN, output_resistance=1e3), Drive(drivers=((2e-6, 1.0),))),
    "C": (AND_TS, Drive(drivers=((1e-5, 0.6),))),
}
US = 1e-6
TRAINS = {
    "P1": (PLAIN, PulseTrain(1.0, 100 * US, 100 * US, 1e6), 5),
    "P2": (PLAIN, PulseTrain(0.7, 100 * US, 100 * US, 1e6), 9),
    "P3": (PLAIN, PulseTrain(0.65, 100 * US, 100 * US, 1e6), 11),
    "P4": (LEAKY, PulseTrain(0.7, 100 * US, 300 * US, 1e6, "high_z"), 8),
    "P5": (LEAKY, PulseTrain(1e-6, 100 * US, 100 * US), 4),
    "P6": (LEAKY, PulseTrain(0.5e-6, 100 * US, 200 * US), 8),
    "P7": (LEAKY, PulseTrain(0.4e-6, 100 * US, 400 * US), 13),
}


@needs_ngspice
@pytest.mark.parametrize("case", CASES)
def test_segments(case: str) -> None:
    """V7: times, charge and energy of a climb and a discharge within 1e-5."""
    found = referee.compare_segments(*CASES[case])
    assert len(found) == 4
    assert all(one.passed and one.tolerance == 1e-5 for one in found), found


@needs_ngspice
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("steps", "limit"), [(20_000, 3e-4), (50_000, 1e-4)])
def test_oscillator(case: str, steps: int, limit: float) -> None:
    """V8."""
    one = referee.compare_period(*CASES[case], steps)
    assert one.tolerance == limit
    assert one.passed, one


@needs_ngspice
def test_frequencies_and_silence() -> None:
    """V8 over f-I; below rheobase and above lock-up the membrane rests where predicted."""
    found = referee.compare_frequencies(DEMO, [1e-6, 5e-6, 34.8e-6])
    found += referee.compare_silence(DEMO)
    assert all(one.passed for one in found), found
    assert [one.closed_form for one in found[-2:]] == pytest.approx([0.294, 0.084], rel=1e-3)


@needs_ngspice
@pytest.mark.parametrize("case", TRAINS)
def test_pulses_to_fire(case: str) -> None:
    """V9: the number exactly, the time within 2e-5."""
    switch, train, pulses = TRAINS[case]
    count, time = referee.compare_train(switch, train)
    assert count.closed_form == count.spice == pulses
    assert time.passed, time


@needs_ngspice
def test_a_wrong_device_is_caught() -> None:
    """The comparison can fail: a netlist with 1 % more capacitance is far outside V8."""
    wrong = dataclasses.replace(DEMO, capacitance=1.01e-9)
    found = runner.measure(referee.oscillator_deck(wrong, Drive(2e-6)))
    period = (found["tb"] - found["ta"]) / 3
    one = referee.Comparison("V8", "", "s", DEMO.period(Drive(2e-6)).duration, period, 3e-4)
    assert not one.passed


def test_missing_event_fails() -> None:
    assert not referee.Comparison("V8", "", "s", 1.0, float("nan"), 1.0).passed


def test_netlist_of_the_device() -> None:
    """Thresholds, branch and leak as the specification's netlist; delays left out."""
    switch: ThresholdSwitch = dataclasses.replace(DEMO, output_resistance=1e3, set_delay=1e-6)
    text = referee.oscillator_deck(switch, Drive(2e-6))
    assert "SW(VT=0.19 VH=0.11 RON=2000 ROFF=100000000)" in text
    assert "S1 m o m o ts OFF" in text and "Ro o 0 1000" in text and "Rl m el 10000000" in text


def test_skips_without_ngspice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """V16."""
    monkeypatch.setenv("PATH", "")
    assert referee.find_ngspice() is None
    assert main(["device", "spice", "--preset", "demo"]) == 0
    assert "not installed" in capsys.readouterr().out
    with pytest.raises(ValueError, match="not installed"):
        referee.version()
