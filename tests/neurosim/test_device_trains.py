"""Pulse trains of tiers 0A and 0B: golden tables, brute force, limits (device.md 3.3, 3.6, 5)."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.integrate import solve_ivp

from neurosim.devices import (
    NEVER,
    Drive,
    GrowthLaw,
    PulseTrain,
    Relaxation,
    SelfIntegratingNeuron,
    ThresholdSwitch,
    load_device,
    respond,
    shortest_pulse,
    train_response,
    train_rheobase,
)
from neurosim.devices.pulse_train import pulses_to_fire, state_after
from neurosim.devices.self_integrating import train_pulses

US = 1e-6
BARE = ThresholdSwitch(1e-9, 2e3, 1e8, 0.3, 0.08)
LEAKY = dataclasses.replace(BARE, off_resistance=5e6)
GOLDEN = {  # device, train, pulses, us: 40-digit mpmath
    "P1": (BARE, PulseTrain(1.0, 100 * US, 100 * US, 1e6), 5, 855.05825420362597),
    "P2": (BARE, PulseTrain(0.70, 100 * US, 100 * US, 1e6), 9, 1687.5259495173105),
    "P3": (BARE, PulseTrain(0.65, 100 * US, 100 * US, 1e6), 11, 2096.0154687178219),
    "P4": (LEAKY, PulseTrain(0.70, 100 * US, 300 * US, 1e6, "high_z"), 8, 2883.4888477011871),
    "P5": (LEAKY, PulseTrain(1.0e-6, 100 * US, 100 * US), 4, 621.36703164302343),
    "P6": (LEAKY, PulseTrain(0.5e-6, 100 * US, 200 * US), 8, 2145.0287615706754),
    "P7": (LEAKY, PulseTrain(0.4e-6, 100 * US, 400 * US), 13, 6091.9299947786639),
}
PRINTED = [855.05825, 1687.52595, 2096.01547, 2883.48885, 621.36703, 2145.02876, 6091.92999]
NEURON = SelfIntegratingNeuron()


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_trains(case: str) -> None:
    switch, train, pulses, time = GOLDEN[case]
    found = train_response(switch, train)
    assert found.pulses == pulses
    assert found.time * 1e6 == pytest.approx(time, rel=1e-13)
    printed = PRINTED[list(GOLDEN).index(case)]
    assert found.time * 1e6 == pytest.approx(printed, rel=1e-7 if printed < 1e3 else 1e-8)


@pytest.mark.parametrize("case", GOLDEN)
def test_trains_equal_the_event_by_event_neuron(case: str) -> None:
    switch, train, pulses, _ = GOLDEN[case]
    response = respond(switch, train.segments(pulses + 1))
    assert response.spikes[0] == pytest.approx(train_response(switch, train).time, rel=1e-12)
    assert not respond(switch, train.segments(pulses - 1)).spikes


def test_the_idle_flag_changes_the_leak() -> None:
    held = PulseTrain(0.7, 100 * US, 300 * US, 1e6, "low_z")
    free = dataclasses.replace(held, idle="high_z")
    assert train_response(LEAKY, held).pulses == NEVER
    assert train_response(LEAKY, free).pulses == 8


@pytest.mark.parametrize("case", GOLDEN)
def test_rheobase_and_shortest_pulse(case: str) -> None:
    switch, train, _, _ = GOLDEN[case]
    limit = train_rheobase(switch, train)
    below, above = (dataclasses.replace(train, amplitude=limit * f) for f in (1 - 1e-9, 1 + 1e-9))
    assert train_response(switch, below).pulses == NEVER
    assert train_response(switch, above).pulses > 1
    width = shortest_pulse(switch, train)
    for factor, fires in ((1 - 1e-9, False), (1 + 1e-9, True)):
        single = dataclasses.replace(train, width=width * factor)
        assert (train_response(switch, single).pulses == 1) == fires


@examples(300)
@given(
    width=st.floats(-9, 0).map(lambda p: 10.0**p),
    duty=st.floats(0.01, 1.0),
    leak=st.floats(-13, -4).map(lambda p: 10.0**p),
    strength=st.floats(0.2, 50.0),
    capacitance=st.floats(-13, -7).map(lambda p: 10.0**p),
)
def test_any_train_agrees_with_stepping(
    width: float, duty: float, leak: float, strength: float, capacitance: float
) -> None:
    """n* against the recursion V -> V a + b, pulse by pulse, over nine decades."""
    switch = dataclasses.replace(BARE, leak_conductance=leak, capacitance=capacitance)
    train = PulseTrain(switch.rheobase() * strength, width, width * (1 / duty - 1))
    found = train_response(switch, train)
    drive, off = train.drive(True), train.drive(False)
    voltage = 0.0
    for pulse in range(1, 201):
        top = switch.voltage(voltage, train.width, False, drive)
        if abs(top - switch.upper) < 1e-12:  # a tie: rounding may decide either way
            return
        if top > switch.upper:
            assert found.pulses == pulse
            rest = switch.next_crossing(voltage, False, drive)
            time = (pulse - 1) * train.period + rest
            assert found.time == pytest.approx(time, rel=1e-9)
            return
        voltage = switch.voltage(top, train.gap, False, off)
    assert found.pulses == NEVER or found.pulses > 200


def test_state_and_count_without_leak() -> None:
    assert state_after(7.0, 0.1, 0.1, 0.0) == pytest.approx(0.7, rel=1e-15)
    assert pulses_to_fire(0.1, 0.1, 0.0, 0.35) == 4
    assert pulses_to_fire(1e-18, 1e-18, 0.0, 1.0) == NEVER  # more pulses than a float counts


def test_counts_of_compiled_and_plain_code_are_the_same() -> None:
    """V14: bit for bit."""
    rng = np.random.default_rng(1)
    plain = pulses_to_fire.py_func  # type: ignore[attr-defined]
    found = []
    for _ in range(2000):
        gain, exponent = 10.0 ** rng.uniform(-6, 0), 10.0 ** rng.uniform(-9, 1)
        first = gain * rng.uniform(0.5, 3.0)
        found.append(pulses_to_fire(first, gain, exponent, 0.3))
        assert found[-1] == plain(first, gain, exponent, 0.3)
    assert len(set(found)) > 200


def test_bad_trains() -> None:
    with pytest.raises(ValueError, match="width > 0"):
        PulseTrain(1.0, 0.0, 1e-3)
    with pytest.raises(ValueError, match="low_z"):
        PulseTrain(1.0, 1e-3, 1e-3, 1e6, "floating")
    with pytest.raises(ValueError, match="respond"):
        train_response(dataclasses.replace(BARE, leak_voltage=0.1), PulseTrain(1e-6, 1e-3, 0.0))


def test_golden_tables_of_the_self_integrating_neuron() -> None:
    ms = 1e-3
    volts = [0.30, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85]
    table = NEURON.pulses_to_fire_table(volts, ms, ms)
    assert table.tolist() == [NEVER, NEVER, NEVER, 14, 7, 4, 3, 2, 2, 1]
    widths = NEURON.pulses_to_fire_table(0.5, [0.5 * ms, ms, 2 * ms, 4 * ms], ms)
    assert widths.tolist() == [NEVER, NEVER, 14, 4]
    gaps = NEURON.pulses_to_fire_table(0.5, ms, [0.2 * ms, ms, 3 * ms])
    assert gaps.tolist() == [16, NEVER, NEVER]


@pytest.mark.parametrize("law", ["power", "sinh", "exp"])
def test_self_integration_equals_the_ode(law: str) -> None:
    """V10: n* exactly and x to 1e-9, against DOP853 pulse by pulse."""
    scale = 0.3 if law == "power" else 0.15
    rate = 400.0 if law == "power" else 4.0
    neuron = dataclasses.replace(NEURON, growth=GrowthLaw(law, rate, scale))
    tau = neuron.relaxation_time
    checked = 0
    for voltage in (0.45, 0.55, 0.7, 0.9):
        for width, gap in ((0.3e-3, 1e-3), (1e-3, 1e-3), (2e-3, 0.2e-3), (4e-3, 5e-3)):
            growth = neuron.growth(voltage)
            x, expected = 0.0, NEVER
            for pulse in range(1, 41):
                for k, time in ((growth, width), (0.0, gap)):
                    ode = solve_ivp(
                        lambda t, y, k=k: k * (1 - y) - y / tau, (0, time), [x], "DOP853",
                        rtol=1e-12, atol=1e-14,
                    )  # fmt: skip
                    closed = neuron.state(x, voltage if k else 0.0, time)
                    assert closed == pytest.approx(ode.y[0, -1], abs=1e-9)
                    x = ode.y[0, -1]
                    if k and x >= neuron.threshold and expected == NEVER:
                        expected = pulse
                if expected:
                    break
            found = neuron.pulses_to_fire(voltage, width, gap)
            assert found == expected or (expected == NEVER and found > 40)
            checked += expected != NEVER
    assert checked > 4


def test_critical_voltage_and_forgetting() -> None:
    critical = NEURON.critical_voltage
    assert NEURON.fire_time(0.0, critical * (1 - 1e-9)) == math.inf
    assert 0.0 < NEURON.fire_time(0.0, critical * (1 + 1e-9)) < math.inf
    assert NEURON.state(0.5, 0.0, NEURON.forget_time(0.5, 0.1)) == pytest.approx(0.1, rel=1e-14)
    time = NEURON.fire_time(0.1, 0.7)
    assert NEURON.state(0.1, 0.7, time) == pytest.approx(NEURON.threshold, rel=1e-13)


def test_linear_law_gives_a_linear_rate() -> None:
    """E9: straight-line R^2 of 1/n against V, `power` p = 1 against `exp` (device.md 3.6)."""

    def straightness(growth: GrowthLaw, low: float, high: float) -> float:
        neuron = dataclasses.replace(
            NEURON, growth=growth, threshold=0.1, off_level=0.1, relaxation_time=2.0
        )
        volts = np.linspace(low, high, 25)
        rates = np.array([1 / neuron.real_pulses(v, 0.2e-3, 4e-3) for v in volts])
        return float(np.corrcoef(volts, rates)[0, 1] ** 2)

    assert straightness(GrowthLaw("power", 100.0, 0.1), 0.4, 1.0) > 0.999
    assert straightness(GrowthLaw("exp", 4.0, 0.15), 0.4, 1.0) < 0.95


def test_train_run_fires_relaxes_and_fires_again() -> None:
    """Full relaxation in the gap gives the same n* again; a residue shortens it."""
    dissolving = Relaxation(time=1e-4)
    neuron = dataclasses.replace(NEURON, dissolution=dissolving)
    run = neuron.run_train(0.6, 1e-3, 1e-3, 28)
    assert run.fired == (7, 14, 21, 28)
    assert run.fire_times[0] == pytest.approx(6 * 2e-3 + neuron.fire_time(run.states[5] * math.exp(
        -1e-3 / 20e-3), 0.6), rel=1e-12)  # fmt: skip
    slower = dataclasses.replace(neuron, dissolution=Relaxation(time=2e-3))  # residue 0.61 > x_off
    stays = slower.run_train(0.6, 1e-3, 1e-3, 28)
    assert stays.fired == (7,)
    seeded = dataclasses.replace(neuron, dissolution=Relaxation(time=1e-3), off_level=0.5)
    again = seeded.run_train(0.6, 1e-3, 1e-3, 28).fired
    assert again[0] == 7 and 0 < again[1] - again[0] < 7


def test_fire_energy_and_charge() -> None:
    neuron = dataclasses.replace(NEURON, on_resistance=1e3, compliance=1e-4)
    assert neuron.fire_energy(0.05, 2e-3) == pytest.approx(0.05 * 5e-5 * 2e-3)
    assert neuron.fire_energy(0.6, 2e-3) == pytest.approx(0.6 * 1e-4 * 2e-3)  # at compliance
    run = neuron.run_train(0.85, 1e-3, 1e-3, 1)
    rest = 1e-3 - neuron.fire_time(0.0, 0.85)
    assert run.energies == (pytest.approx(0.85 * 1e-4 * rest),)
    held = neuron.run_train(0.85, 1e-3, 1e-3, 3)  # stays ON: 1 ms gaps against tau_r = 20 ms
    assert held.fired == (1,)
    on_time = rest + 2e-3
    assert held.on_energy == pytest.approx(0.85 * 1e-4 * on_time)
    quiet = neuron.run_train(0.4, 1e-3, 1e-3, 5)
    times = np.linspace(0, 1e-3, 20001)
    x, charge = 0.0, 0.0
    for _ in range(5):
        current = [neuron.off_current(0.4, neuron.state(x, 0.4, t)) for t in times]
        charge += float(np.trapezoid(current, times))
        x = neuron.state(neuron.state(x, 0.4, 1e-3), 0.0, 1e-3)
    assert quiet.charge == pytest.approx(charge, rel=1e-8)
    assert quiet.final == pytest.approx(x, rel=1e-13)


@examples(1000)
@given(
    growth=st.floats(-3, 6).map(lambda p: 10.0**p),
    tau=st.floats(-7, 2).map(lambda p: 10.0**p),
    level=st.floats(0.01, 0.99),
    width=st.floats(-8, 1).map(lambda p: 10.0**p),
    gap=st.floats(-8, 1).map(lambda p: 10.0**p),
    start=st.floats(0.0, 0.99),
)
def test_counts_of_any_growth_terminate(
    growth: float, tau: float, level: float, width: float, gap: float, start: float
) -> None:
    pulses = train_pulses(growth, tau, level, width, gap, start)
    assert pulses >= 0
    if growth * tau / (1 + growth * tau) <= level and start < level:
        assert pulses == NEVER


def test_neuron_errors() -> None:
    with pytest.raises(ValueError, match="power, sinh, exp"):
        GrowthLaw("linear", 1.0, 0.1)
    with pytest.raises(ValueError, match="off_level"):
        dataclasses.replace(NEURON, threshold=1.2)
    assert load_device("demo").self_integrating().pulses_to_fire(0.6, 1e-3, 1e-3) == 7
    assert Drive(1e-6).total_current == 1e-6
