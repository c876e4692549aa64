"""Tiers 1 to 3 and the comparators against the closed forms (V5, V6, V12; device.md 3.7-3.10)."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.constants import elementary_charge, k
from scipy.integrate import solve_ivp

from neurosim.devices import Drive, load_device, respond
from neurosim.devices.reference import (
    AndTs,
    FilamentGap,
    LinearVolatile,
    Memdiode,
    RegenerativeSwitch,
    StanfordPku,
    TiltedWell,
    Vteam,
    follow,
)

DEMO = load_device("demo").switch()
PERIOD = 113.88171706663226e-6


@pytest.mark.parametrize(
    ("width", "time", "error"),
    [  # the table of device.md 3.7
        (5e-3, 1e-7, 0.037),
        (5e-3, 1e-9, 0.0024),
        (1e-3, 1e-8, 0.0054),
        (2e-4, 1e-8, 0.0026),
        (2e-4, 1e-9, 0.00073),
    ],
)
def test_the_ode_converges_to_the_closed_form(width: float, time: float, error: float) -> None:
    ode = RegenerativeSwitch(DEMO, width, time, time)
    spikes = ode.simulate([(Drive(2e-6), 8e-4)]).spikes
    period = float(np.diff(spikes).mean())
    assert period / PERIOD - 1.0 == pytest.approx(error, rel=0.06)


def test_fifty_periods_of_the_ode() -> None:
    """V5: period 0.15 %, spike count up to one, at w_s = 0.2 mV and tau_x = 1 ns."""
    duration = 50.5 * PERIOD
    ode = RegenerativeSwitch(DEMO, 2e-4, 1e-9, 1e-9).simulate([(Drive(2e-6), duration)])
    exact = respond(DEMO, [(Drive(2e-6), duration)]).spikes
    assert abs(ode.spikes.size - len(exact)) <= 1 and len(exact) == 50
    assert float(np.diff(ode.spikes).mean()) == pytest.approx(PERIOD, rel=1.5e-3)


def test_the_ode_with_output_resistor_and_changing_drive() -> None:
    switch = dataclasses.replace(DEMO, output_resistance=100.0)
    segments = [
        (Drive(2e-6), 3e-4),
        (Drive(0.0, ((1e-6, 0.0),)), 3e-4),
        (Drive(drivers=((4e-6, 1.0),)), 3e-4),
    ]
    ode = RegenerativeSwitch(switch, 2e-4, 1e-9, 1e-9).simulate(segments)
    exact = respond(switch, segments)
    assert ode.spikes.size == len(exact.spikes) >= 6
    np.testing.assert_allclose(ode.spikes, exact.spikes, rtol=3e-3)
    assert ode.voltage.max() == pytest.approx(switch.upper, rel=0.01)


@pytest.mark.parametrize("width", [1e-5, 2e-4, 1e-3, 5e-3, 2e-2])
def test_compensated_thresholds_are_the_saddle_nodes(width: float) -> None:
    """V6: 0.2 mV (here: 1 nV)."""
    found = RegenerativeSwitch(DEMO, width).saddle_nodes()
    assert found == pytest.approx((0.30, 0.08), abs=1e-9)


def test_bistable_between_hold_and_threshold() -> None:
    """A slow voltage ramp up and down switches at V_th and V_h within 2 mV."""
    stiff = dataclasses.replace(DEMO, capacitance=1e-15, leak_conductance=1e-3)
    ode = RegenerativeSwitch(stiff, 2e-4, 1e-8, 1e-8)
    volts = np.concatenate([np.linspace(0.06, 0.32, 131), np.linspace(0.32, 0.06, 131)])
    segments = [(Drive(drivers=((10.0, float(v)),)), 2e-7) for v in volts]
    run = ode.simulate(segments)
    up = run.voltage[np.argmax(run.state > 0.5)]
    after = np.flatnonzero(run.state > 0.5)[-1]
    assert up == pytest.approx(0.30, abs=2.5e-3)
    assert run.voltage[after] == pytest.approx(0.08, abs=2.5e-3)


def test_acceleration_shortens_the_set_time() -> None:
    fast = RegenerativeSwitch(DEMO, 1e-3, 1e-6, 1e-8, acceleration=5e-3)
    slow = dataclasses.replace(fast, acceleration=None)
    drive = [(Drive(drivers=((1e-2, 0.35),)), 5e-5)]
    assert fast.simulate(drive).spikes[0] < slow.simulate(drive).spikes[0]
    with pytest.raises(ValueError, match="set_delay"):
        RegenerativeSwitch(load_device("and_ts").switch())
    with pytest.raises(ValueError, match="width > 0"):
        RegenerativeSwitch(DEMO, 0.0)


WELL = TiltedWell(0.30, 0.08, 0.005)


def test_well_saddle_nodes_and_barrier() -> None:
    low, top, high = WELL.fixed_points(0.29999)
    assert top - low < 0.02 < high - top
    near_hold = WELL.fixed_points(0.08001)
    assert near_hold[2] - near_hold[1] < 0.02
    for voltage in (0.28, 0.29, 0.295):
        approximate = 1.0131 * (WELL.gain * (0.30 - voltage)) ** 1.5
        assert WELL.barrier(voltage) == pytest.approx(approximate, rel=0.025)
    warm = WELL.at(330.0)
    assert warm.noise == pytest.approx(1.1 * WELL.noise)
    ratio = math.log(warm.kramers_rate(0.28) / WELL.kramers_rate(0.28))
    assert ratio == pytest.approx(WELL.barrier(0.28) / WELL.noise * (1 - 1 / 1.1), rel=1e-12)
    with pytest.raises(ValueError, match=r"between 0\.08 and 0\.3 V"):
        WELL.fixed_points(0.31)


def escape_ratio(voltage: float, ratio: float, paths: int = 2000) -> float:
    """Mean escape time over Kramers' at dU/D = `ratio`; every path escapes."""
    well = dataclasses.replace(WELL, noise=WELL.noise_for(voltage, ratio))
    mean = 1.0 / well.kramers_rate(voltage)
    times = well.escape_times(voltage, paths, 30 * mean, step=0.1, seed=1)
    assert np.isfinite(times).all()
    return float(times.mean() / mean)


@pytest.mark.parametrize(("voltage", "ratio"), [(0.19, 6.0), (0.19, 7.5), (0.22, 6.0)])
def test_escape_rate_is_kramers(voltage: float, ratio: float) -> None:
    """V12: 15 %, 2000 escapes."""
    assert escape_ratio(voltage, ratio) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow  # 15 to 25 s each: 2000 escapes over a barrier of 9 D
@pytest.mark.parametrize("voltage", [0.15, 0.19, 0.22])
def test_escape_rate_is_kramers_over_high_barriers(voltage: float) -> None:
    assert escape_ratio(voltage, 9.0) == pytest.approx(1.0, abs=0.15)


def test_paths_are_keyed_by_seed_and_number() -> None:
    voltage, horizon = 0.28, 2e-5
    times = WELL.escape_times(voltage, 40, horizon, seed=3)
    np.testing.assert_array_equal(WELL.escape_times(voltage, 20, horizon, seed=3), times[:20])
    assert (WELL.escape_times(voltage, 40, horizon, seed=4) != times).any()


def test_ramp_thresholds_spread_with_noise() -> None:
    """std V_th 5.1, 7.7, 11.4 mV at D 0.002, 0.005, 0.010, ramp 1 mV per tau_x (3.10)."""
    found = []
    for noise in (0.002, 0.005, 0.010):
        well = dataclasses.replace(WELL, noise=noise)
        volts = well.ramp_thresholds(1e-3 / well.time, 1000, seed=2)
        found.append(float(volts.std()) * 1e3)
    assert found == pytest.approx([5.1, 7.7, 11.4], rel=0.12)
    quiet = dataclasses.replace(WELL, noise=1e-9)
    slow = [float(quiet.ramp_thresholds(r / quiet.time, 1)[0]) for r in (1e-3, 1e-4, 1e-5)]
    assert 0.320 > slow[0] > slow[1] > slow[2] > 0.300  # quasi-static: from above
    assert slow[2] == pytest.approx(0.300, abs=1e-3)


def test_well_with_membrane_spikes_like_tier_0() -> None:
    well = dataclasses.replace(WELL, noise=1e-5, time=2e-8)
    run = well.simulate(DEMO, Drive(2e-6), 6e-4, step=2e-9, samples=3000)
    expected = respond(DEMO, [(Drive(2e-6), 6e-4)])
    assert abs(run.spikes - len(expected.spikes)) <= 1
    assert run.voltage.max() == pytest.approx(0.30, rel=0.05)
    assert (run.temperature == 300.0).all()
    hot = well.simulate(
        DEMO, Drive(2e-6), 6e-4, step=2e-9, samples=3000, heat_capacity=1e-12, heat_loss=1e-6
    )
    assert hot.temperature.max() > 300.0


GAP = FilamentGap()


def test_gap_closing_time_equals_its_ode() -> None:

    def gone(t: float, g: np.ndarray, v: float = 0.0) -> float:
        return float(g[0])

    gone.terminal = True  # type: ignore[attr-defined]
    for voltage in (0.2, 0.5, 1.0):
        delay = GAP.delay(voltage)
        closed = solve_ivp(
            lambda t, g, v=voltage: [-GAP.closing_speed(g[0], v, 300.0)],
            (0.0, 2.0 * delay), [GAP.gap], "DOP853", rtol=1e-11, atol=1e-20,
            events=gone,
        ).t_events[0]  # fmt: skip
        assert closed[0] == pytest.approx(delay, rel=1e-8)
    warm = [GAP.delay(0.3, kelvin) for kelvin in (300.0, 330.0)]
    assert warm[1] < warm[0]


def test_gap_model_gives_the_delay_law_of_tier_0() -> None:
    """For g_min << g_0 and strong fields t_d = (1/k) y_0 E2(v/y_0) (device.md 3.5)."""
    from neurosim.devices import GapClosing

    sharp = dataclasses.replace(GAP, gap_floor=1e-15)
    thermal = k * 300.0
    scale = 2.0 * thermal * sharp.gap / (elementary_charge * sharp.hop)  # V at y = 1
    rate = sharp.hop / sharp.gap * sharp.attempt
    rate *= math.exp(-sharp.growth_energy * elementary_charge / thermal)
    law = GapClosing(scale, rate)
    for voltage in (2.0, 4.0):
        assert sharp.delay(voltage) == pytest.approx(law.delay(voltage), rel=2e-2)


def test_lifetime_follows_the_quartic_law() -> None:
    necks = np.array([GAP.neck(i) for i in (1e-5, 1e-4, 1e-3)])
    np.testing.assert_allclose(necks[1:] / necks[:-1], math.sqrt(10.0), rtol=1e-12)
    thick = dataclasses.replace(GAP, neck_floor=1e-12)
    times = [thick.lifetime(r) for r in necks]
    assert times[1] / times[0] == pytest.approx(100.0, rel=1e-6)  # tau_r proportional to I_cc^2
    ode = solve_ivp(
        lambda t, r: -GAP.mobility(300.0) / (4.0 * r**3), (0.0, 0.5 * GAP.lifetime(1e-9)), [1e-9],
        "DOP853", rtol=1e-10, atol=1e-20,
    )  # fmt: skip
    left = GAP.lifetime(float(ode.y[0, -1]))
    assert left == pytest.approx(0.5 * GAP.lifetime(1e-9), rel=1e-6)


def test_filament_sets_holds_and_dissolves() -> None:
    run = GAP.simulate([(0.6, 2e-4), (0.0, 2e-4), (0.6, 1e-4)], series=5e3)
    assert run.closings.size == 2 and run.openings.size == 1
    # the node charges in 5 ns, so the closing time is the delay at 0.6 V
    assert run.closings[0] == pytest.approx(GAP.delay(0.6), rel=0.05)
    assert run.openings[0] > 2e-4
    bridged = (run.time > 2.0 * run.closings[0]) & (run.time < 2e-4)
    assert 0.0 < run.voltage[bridged].max() < 0.5 * 0.6  # divided by the series resistor
    assert (run.gap >= 0.0).all() and np.isfinite(run.radius).all()


def test_and_ts_times_are_those_of_our_reading() -> None:
    """SET about 246 ns (X = 0.8), RESET about 324 ns: published < 210 / < 240, so "derived"."""
    model = AndTs()
    times = np.linspace(0.0, 1e-6, 4001)
    up = follow(model.rate, lambda t: 1.5, 0.0, times)
    down = follow(model.rate, lambda t: 0.0, 0.8, times)
    assert times[np.argmax(up >= 0.8)] == pytest.approx(246e-9, rel=0.01)
    assert times[np.argmax(down <= 0.01)] == pytest.approx(324e-9, rel=0.01)
    assert model.current(1.0, 0.1) == pytest.approx(0.1 / 806, rel=1e-6)
    assert model.current(0.0, -0.1) == -1e-12
    sticks = [model.rate(x, 0.17) * model.set_time for x in (0.0, 0.3, 1.0)]
    assert np.abs(sticks).max() < 1e-6  # the neutral window of 3.7


def test_linear_models_have_closed_forms() -> None:
    diode = Memdiode(20.0, 0.5, -20.0, -0.5, decay=1e-2)
    for voltage in (0.6, 0.1, -0.6):
        times = np.linspace(0.0, 2e-2, 50)
        ode = follow(diode.rate, lambda t, v=voltage: v, 0.3, times)
        closed = [diode.after(0.3, voltage, float(t)) for t in times]
        np.testing.assert_allclose(ode, closed, atol=1e-7)
    volatile = LinearVolatile(lambda v: 1e-6 * (1 + v), 1e-3)
    assert volatile.after(0.0, 1.0, 1e-3) == pytest.approx(2e-6 * (1 - math.exp(-1)))
    assert volatile.rate(2e-6, 1.0) == 0.0


def test_vteam_and_stanford_move_the_right_way() -> None:
    team = Vteam()
    assert team.rate(1e-9, 0.0) == 0.0 and team.rate(1e-9, 0.01) == 0.0
    assert team.rate(1e-9, 0.04) == pytest.approx(5e-4)
    assert team.rate(1e-9, -0.4) == pytest.approx(-10.0)
    assert team.current(0.0, 0.1) == pytest.approx(0.1 / 50)
    assert dataclasses.replace(team, decay=1e-3).rate(0.0, 0.0) == pytest.approx(3e-9 / 1e-3)
    rram = StanfordPku()
    assert rram.current(0.25e-9, 0.25) == pytest.approx(1e-3 * math.exp(-1) * math.sinh(1))
    assert rram.rate(1e-9, 1.0) < 0.0 < rram.rate(1e-9, -1.0)
