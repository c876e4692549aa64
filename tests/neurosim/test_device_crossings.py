"""Synaptic currents, moving thresholds, delays, relaxation, piecewise OFF current."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.integrate import quad, solve_ivp

from neurosim.devices import (
    Drive,
    Driver,
    GapClosing,
    PiecewiseCurrent,
    Relaxation,
    SynapticCurrent,
    climb,
    drive_of,
    load_device,
    lowered_threshold,
    moving_crossing,
    synaptic_crossing,
    synaptic_voltage,
)
from neurosim.devices.closed_forms import voltage_after
from neurosim.devices.off_current import climb_times, piecewise_period
from neurosim.devices.relaxation import LAWS, pinch_off_time
from neurosim.devices.synaptic_current import crossing_double, crossing_equal
from neurosim.devices.temperature import BOLTZMANN_EV
from neurosim.devices.two_exponentials import first_crossing, value

DEMO = load_device("demo").switch()
TAU = DEMO.capacitance / DEMO.conductance(False, Drive())


@pytest.mark.parametrize("ratio", [1e-3, 0.1, 0.5, 1 - 1e-9, 1.0, 1 + 1e-9, 3.0, 1e3])
def test_synaptic_voltage_equals_the_ode(ratio: float) -> None:
    current = SynapticCurrent(4e-7, TAU * ratio)
    drive = Drive(1e-8, ((1e-8, 0.5),))
    conductance = DEMO.conductance(False, drive)
    end = 3 * TAU
    ode = solve_ivp(
        lambda t, v: (current.at(t) + drive.total_current - conductance * v) / DEMO.capacitance,
        (0.0, end), [0.05], "DOP853", rtol=1e-12, atol=1e-15, max_step=TAU * min(ratio, 0.1),
    )  # fmt: skip
    found = synaptic_voltage(DEMO, current, 0.05, end, drive)
    assert found == pytest.approx(ode.y[0, -1], rel=1e-9)


def test_short_current_is_a_charge_packet() -> None:
    current = SynapticCurrent(1e-3, 1e-12)
    step = synaptic_voltage(DEMO, current, 0.0, 1e-10)
    assert step == pytest.approx(current.charge / DEMO.capacitance, rel=1e-5)


@examples(400)
@given(
    start=st.floats(-0.5, 0.299),
    rest=st.floats(-1.0, 1.0),
    gain=st.floats(-3, 3).map(lambda x: math.copysign(10.0 ** abs(x), x)),
    ratio=st.one_of(st.just(1.0), st.floats(-4, 4).map(lambda p: 10.0**p)),
)
def test_first_crossing_is_the_first(start: float, rest: float, gain: float, ratio: float) -> None:
    """No sample before the crossing is above the level; none at all if there is no crossing."""
    rate, level = 1.0, 0.3
    found = first_crossing(level, start, rest, rate, gain, ratio)
    last = found if found < math.inf else 60.0 / min(1.0, ratio)
    times = np.concatenate([np.geomspace(1e-7, 1.0, 300), np.linspace(0.0, 1.0, 300)]) * last
    values = np.array([value(t, start, rest, rate, gain, ratio) for t in times])
    size = max(abs(gain), 1.0)
    assert (values <= level + 1e-12 * size).all()
    if found < math.inf:
        assert value(found, start, rest, rate, gain, ratio) == pytest.approx(
            level, abs=1e-12 * size
        )


@pytest.mark.parametrize("start", [-0.05, 0.0, 0.1, 0.29])
@pytest.mark.parametrize("gain", [50.0, 80.0, 150.0, 1e3, 1e5])
def test_special_cases_have_closed_forms(start: float, gain: float) -> None:
    """tau = 2 tau_s: a quadratic; tau = tau_s: Lambert W (asymptote 0)."""
    rate = 1.0 / TAU
    double = first_crossing(0.3, start, 0.0, rate, gain, 2.0 * rate)
    assert crossing_double(0.3, start, TAU, gain) == pytest.approx(double, rel=1e-12)
    equal = first_crossing(0.3, start, 0.0, rate, gain, rate)
    assert crossing_equal(0.3, start, TAU, gain) == pytest.approx(equal, rel=1e-11)
    current = SynapticCurrent(gain * DEMO.capacitance, TAU / 2)
    at_rest = dataclasses.replace(DEMO, leak_voltage=0.0)
    assert synaptic_crossing(at_rest, current, start) == pytest.approx(double, rel=1e-12)


def test_crossing_after_inhibition() -> None:
    """A negative synaptic current delays the crossing of a drive above rheobase."""
    plain = DEMO.next_crossing(0.1, False, Drive(2e-6))
    late = synaptic_crossing(DEMO, SynapticCurrent(-5e-6, 1e-4), 0.1, Drive(2e-6))
    assert plain < late < math.inf
    assert synaptic_crossing(DEMO, SynapticCurrent(1e-9, 1e-4), 0.1) == math.inf


@pytest.mark.parametrize("residue", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("tau_r", [1e-6, 3e-5, TAU, 1e-2])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_moving_threshold_is_met(residue: float, tau_r: float, exponent: float) -> None:
    asymptote = 2.0
    time = moving_crossing(0.08, asymptote, TAU, 0.3, 0.08, residue, tau_r, exponent)
    grid = np.linspace(0.0, time, 400)
    voltage = asymptote + (0.08 - asymptote) * np.exp(-grid / TAU)
    level = [lowered_threshold(0.3, 0.08, residue * math.exp(-t / tau_r), exponent) for t in grid]
    assert voltage[-1] == pytest.approx(level[-1], rel=1e-12)
    assert (voltage[:-1] < np.array(level)[:-1]).all()


def test_driver_idles_as_told() -> None:
    drivers = [Driver(1e-6, 0.5), Driver(2e-6, 1.0, "high_z"), Driver(3e-6, 1.0, "low_z")]
    active = drive_of(1e-7, drivers)
    assert active.conductance == pytest.approx(6e-6)
    assert active.total_current == pytest.approx(1e-7 + 0.5e-6 + 2e-6 + 3e-6)
    idle = drive_of(0.0, drivers, [True, False, False])
    assert idle.drivers == ((1e-6, 0.5), (3e-6, 0.0))
    with pytest.raises(ValueError, match="high_z"):
        Driver(1e-6, 1.0, "open")


LAW = GapClosing(scale=0.03, rate=2e5, gap=0.8)


@pytest.mark.parametrize("voltage", [0.001, 0.03, 0.2, 0.5, 1.5])
def test_gap_closing_delay_equals_quadrature(voltage: float) -> None:
    """Integral of dy / (k e^(v/y)) from 0 to y_0, v = V/V_0, to 1e-12 (device.md 3.5)."""
    v = voltage / LAW.scale
    exact, _ = quad(
        lambda y: math.exp(-v / y + v / LAW.gap) / LAW.rate if y > 0.0 else 0.0,
        0.0, LAW.gap, epsabs=0.0, epsrel=1e-13, limit=300,
    )  # fmt: skip
    assert LAW.delay(voltage) == pytest.approx(exact * math.exp(-v / LAW.gap), rel=1e-12)


def test_gap_closing_delay_is_exponential_in_voltage() -> None:
    """E4: limit (V_0/(k V)) y_0^2 e^(-V/(V_0 y_0)); ln t_d straight to R^2 > 0.99."""
    volts = np.linspace(0.3, 1.0, 15)
    delays = LAW.delays(volts)
    limit = LAW.scale / (LAW.rate * volts) * LAW.gap**2 * np.exp(-volts / LAW.scale / LAW.gap)
    np.testing.assert_allclose(delays[-3:], limit[-3:], rtol=0.06)
    assert np.corrcoef(volts, np.log(delays))[0, 1] ** 2 > 0.99
    assert LAW.delay(0.0) == math.inf == LAW.delay(-1.0)
    np.testing.assert_array_equal(delays, [LAW.delay(float(v)) for v in volts])


def test_integrated_delay_follows_the_membrane() -> None:
    """Option 4: x' = 1 / t_d(V(t)); at constant V it is t_d itself."""
    constant = LAW.integrated(0.4, 0.4e-7, 1e-7, 1e-9, 1.0)
    assert constant == pytest.approx(LAW.delay(0.4), rel=1e-12)
    segment = (0.0, 1e-7, 1e-7, 1e-9)
    time = LAW.integrated(*segment, 1.0)
    ode = solve_ivp(
        lambda t, x: 1.0 / LAW.delay(max(voltage_after(*segment, t), 1e-12)),
        (0.0, time), [0.0], "DOP853", rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    assert ode.y[0, -1] == pytest.approx(1.0, rel=1e-8)
    assert LAW.progress(*segment, time) == pytest.approx(1.0, rel=1e-12)
    assert LAW.integrated(*segment, 0.5 * time) == math.inf
    half = LAW.progress(*segment, 0.6 * time)
    voltage = voltage_after(*segment, 0.6 * time)
    rest = LAW.integrated(voltage, *segment[1:], 1.0, done=half)
    assert 0.6 * time + rest == pytest.approx(time, rel=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_relaxation_laws(law: str) -> None:
    decay = Relaxation(1e-3, law, stretch=0.6)
    assert decay.remaining(0.0) == 1.0
    for level in (0.9, 0.5, 0.01):
        assert decay.remaining(decay.time_to(level)) == pytest.approx(level, rel=1e-12)
    values = decay.remaining(np.linspace(0.0, 2e-3, 50))
    assert (np.diff(values) <= 0.0).all()
    assert (decay.remaining(1.01e-3) == 0.0) == (law == "herring")  # abrupt rupture at tau_r
    np.testing.assert_allclose(decay.radius([0.0, 5e-4]) ** 2, decay.remaining([0.0, 5e-4]))


def test_herring_is_the_solution_of_its_ode() -> None:
    """dr/dt = -B/(4 r^3), tau_R = r_0^4 / B: r = r_0 (1 - t/tau_R)^(1/4)."""
    decay = Relaxation(1.0, "herring")
    ode = solve_ivp(lambda t, r: -1.0 / (4.0 * r**3), (0.0, 0.9), [1.0], rtol=1e-11, atol=1e-13)
    assert float(decay.radius(0.9)) == pytest.approx(ode.y[0, -1], rel=1e-8)


def test_relaxation_time_scales() -> None:
    """E5: slope p on log-log, Arrhenius slope E_s; tau_R = 0.8 us for D_s = 1e-12 m^2/s."""
    decay = Relaxation(250e-9, compliance=1e-4, exponent=2.0, energy=0.4)
    assert decay.time_constant(1e-5) == pytest.approx(250e-11, rel=1e-12)
    kelvin = np.array([280.0, 300.0, 340.0])
    times = np.array([decay.time_constant(temperature=float(t)) for t in kelvin])
    slope = np.polyfit(1.0 / kelvin, np.log(times / kelvin), 1)[0]
    assert slope * BOLTZMANN_EV == pytest.approx(0.4, rel=1e-9)
    assert pinch_off_time(1e-9, 1e-12) == pytest.approx(0.8e-6, rel=0.05)
    scattered = Relaxation(1e-3, spread=0.5)
    draws = scattered.times(40_000, np.random.default_rng(0))
    assert draws.mean() == pytest.approx(1e-3, rel=0.02)
    assert np.log(draws).std() == pytest.approx(0.5, rel=0.02)
    with pytest.raises(ValueError, match="herring"):
        Relaxation(1e-3, "linear")


def test_piecewise_fit_of_a_quadratic_law() -> None:
    """K = 4 chords of SCLC stay within 1.6 % of I(V_th) (1 / (4 K^2))."""
    fit = PiecewiseCurrent.fit(lambda v: 1e-8 * (v / 0.3) ** 2, 0.3, 4)
    volts = np.linspace(0.0, 0.3, 1001)
    errors = [abs(fit.current(float(v)) - 1e-8 * (v / 0.3) ** 2) for v in volts]
    assert max(errors) / 1e-8 == pytest.approx(1 / 64, rel=1e-3)


@pytest.mark.parametrize("current", [2e-8, 5e-8, 1e-6])
@pytest.mark.parametrize("start", [0.0, 0.1, 0.29])
def test_climb_on_pieces_equals_the_ode(current: float, start: float) -> None:
    switch = dataclasses.replace(DEMO, leak_conductance=1e-8, leak_voltage=0.01)
    branch = PiecewiseCurrent.fit(lambda v: 4e-7 * v**2 + 1e-10, 0.3, 4)
    drive = Drive(current, ((1e-8, 0.2),))
    limit = 5e-3

    def rates(t: float, y: np.ndarray) -> list[float]:
        v = y[0]
        leak = switch.leak_conductance * (v - switch.leak_voltage)
        net = drive.total_current - drive.conductance * v - leak - branch.current(v)
        return [net / switch.capacitance, v * branch.current(v)]

    def top(t: float, y: np.ndarray) -> float:
        return float(y[0]) - 0.3

    top.terminal = True  # type: ignore[attr-defined]
    ode = solve_ivp(
        rates, (0.0, limit), [start, 0.0], "RK45", rtol=1e-10, atol=1e-16, events=top, max_step=2e-5
    )
    found = climb(switch, branch, drive, start, limit)
    assert found.fired == (ode.status == 1)
    assert found.time == pytest.approx(ode.t[-1], rel=1e-7)
    assert found.voltage == pytest.approx(ode.y[0, -1], rel=1e-7)
    assert found.device == pytest.approx(ode.y[1, -1], rel=1e-6)


def test_one_piece_is_the_ohmic_neuron() -> None:
    branch = PiecewiseCurrent((0.0, 0.3), (0.0, 0.3 / DEMO.off_resistance))
    found = climb(DEMO, branch, Drive(2e-6), 0.08)
    exact = DEMO.next_crossing(0.08, False, Drive(2e-6))
    assert found.time == pytest.approx(exact, rel=1e-13) and found.fired
    split = PiecewiseCurrent((0.0, 0.1, 0.2, 0.3), tuple(v / 1e8 for v in (0.0, 0.1, 0.2, 0.3)))
    assert climb(DEMO, split, Drive(2e-6), 0.08).time == pytest.approx(exact, rel=1e-12)
    assert len(climb(DEMO, split, Drive(2e-6), 0.08).breakpoints) == 2
    period = piecewise_period(DEMO, split, Drive(2e-6))
    assert period == pytest.approx(DEMO.period(Drive(2e-6)).duration, rel=1e-12)
    assert piecewise_period(DEMO, split, Drive(1e-9)) == math.inf
    with pytest.raises(ValueError, match="lock-up"):
        piecewise_period(DEMO, split, Drive(1e-3))
    times = climb_times(DEMO, split, [1e-9, 2e-6], 0.0)
    assert times[0] == math.inf and times[1] < 1e-3
    falling = climb(DEMO, split, Drive(), 0.25, 5e-3)
    assert falling.voltage == pytest.approx(DEMO.voltage(0.25, 5e-3, False, Drive()), rel=1e-12)
    with pytest.raises(ValueError, match="rising from 0 V"):
        PiecewiseCurrent((0.1, 0.3), (0.0, 1e-9))
    with pytest.raises(ValueError, match="output_resistance = 0"):
        climb(dataclasses.replace(DEMO, output_resistance=1e3), branch, Drive(2e-6), 0.0)
