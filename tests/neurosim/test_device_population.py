"""Populations event by event: against the scalar reference, conservation, threads, statistics."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import kstest, norm

from neurosim.devices import (
    Drive,
    Hazard,
    Population,
    PopulationRun,
    Residue,
    Stimulus,
    ThresholdStatistics,
    ThresholdSwitch,
    crossing_times,
    firing_rates,
    load_device,
    moving_crossing,
    respond,
    segment_integrals,
    voltages_after,
)
from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.devices.firing_rate import device_rows
from neurosim.devices.thresholds import interval_jitter

DEMO = load_device("demo").switch()
DELAYED = dataclasses.replace(DEMO, set_delay=3e-6, reset_delay=1e-6)
WITH_OUTPUT = dataclasses.replace(DEMO, output_resistance=1e3, leak_voltage=0.02)
Array = npt.NDArray[np.float64]


def one(switch: ThresholdSwitch, segments: list[tuple[Drive, float]], room: int) -> PopulationRun:
    return Population(switch).run(Stimulus.of_segments(segments), record=room)


def random_segments(count: int, top: float, seed: int) -> list[tuple[Drive, float]]:
    rng = np.random.default_rng(seed)
    segments = []
    for _ in range(count):
        drivers = ((10.0 ** rng.uniform(-8, -5), float(rng.choice([0.0, 0.5, 1.0]))),)
        current = float(rng.uniform(-0.2, 1.0) * top)
        segments.append((Drive(current, drivers), 10.0 ** rng.uniform(-6, -3.5)))
    return segments


@pytest.mark.parametrize("switch", [DEMO, DELAYED, WITH_OUTPUT], ids=["demo", "delayed", "output"])
def test_population_equals_the_scalar_reference(switch: ThresholdSwitch) -> None:
    """V14: spike counts exactly, times to 1e-12, every term of the ledger."""
    segments = random_segments(60, 10e-6, 3)
    expected = respond(switch, segments)
    found = one(switch, segments, len(expected.spikes) + 5)
    assert found.spikes[0] == len(expected.spikes) > 30
    times = found.times[0, : found.spikes[0]]
    np.testing.assert_allclose(times, expected.spikes, rtol=1e-12)
    assert found.voltage[0] == pytest.approx(expected.voltage, rel=1e-11)
    ledger = {name: values[0] for name, values in found.ledger.items()}
    assert ledger["device_on"] + ledger["device_off"] == pytest.approx(
        expected.ledger.device, rel=1e-11
    )
    assert ledger["charge"] == pytest.approx(expected.ledger.device_charge, rel=1e-11)
    for name in ("output", "leak", "drivers", "delivered", "stored"):
        assert ledger[name] == pytest.approx(getattr(expected.ledger, name), rel=1e-10), name


def test_golden_periods_come_out_of_the_engine() -> None:
    found = one(DEMO, [(Drive(2e-6), 2e-3)], 10)
    np.testing.assert_allclose(np.diff(found.times[0]), 113.88171706663226e-6, rtol=1e-11)
    on = found.releases[0, :5] - found.times[0, :5]
    np.testing.assert_allclose(on, 2.7186928455124586e-6, rtol=1e-10)


def test_a_waveform_is_continuous_and_peaks_at_the_threshold() -> None:
    response = respond(DELAYED, [(Drive(2e-6), 1e-3)])
    times = np.linspace(0.0, 1e-3, 20001)
    voltage, current, _ = response.waveform(times)
    peak = DELAYED.voltage(DELAYED.upper, DELAYED.set_delay, False, Drive(2e-6))
    assert voltage.max() == pytest.approx(peak, rel=1e-3)
    assert current.max() == pytest.approx(peak / DELAYED.on_resistance, rel=2e-2)
    out = respond(WITH_OUTPUT, [(Drive(2e-6), 1e-3)])
    spike = out.waveform(np.array(out.spikes) + 1e-12)[2]
    top = WITH_OUTPUT.upper * 1e3 / 3e3  # all or nothing: V_u R_o / (R_on + R_o)
    assert WITH_OUTPUT.peak_output == pytest.approx(top)
    np.testing.assert_allclose(spike, top, rtol=1e-5)


def test_conservation_over_a_hundred_thousand_events() -> None:
    """V3: per segment and per run, deterministic and with drawn thresholds."""
    statistics = ThresholdStatistics(0.02, 0.005, 0.02, 0.005, 0.3)
    for chosen in (None, statistics):
        population = Population(WITH_OUTPUT, 4, chosen, seed=5)
        run = population.run(Stimulus.of_current([3.0], [2e-6]))
        assert run.spikes.sum() > 1e5 and run.spikes.min() > 2e4
        assert run.imbalance().max() < 1e-10
        parts = ("device_on", "device_off", "output", "leak", "drivers")
        assert min(run.ledger[name].min() for name in parts) >= 0.0
    single = Population(DEMO).run(Stimulus.of_current([12.0], [2e-6]))
    assert single.spikes[0] > 1e5 and single.imbalance()[0] < 1e-10


def test_lock_up_is_reported_and_ends() -> None:
    currents = np.array([[0.5], [0.999], [1.001], [3.0]]) * DEMO.lock_up()
    run = Population(DEMO, 4).run(Stimulus.of_current([1e-3], currents))
    assert run.locked.tolist() == [False, False, True, True]
    assert run.spikes[2:].tolist() == [1, 1] and run.spikes[0] > 10
    assert respond(DEMO, [(Drive(2 * DEMO.lock_up()), 1e-3)]).locked
    later = Population(DEMO)
    later.run(Stimulus.of_current([1e-3], [2 * DEMO.lock_up()]))
    assert later.run(Stimulus.of_current([1e-3], [0.0])).locked.tolist() == [False]


def test_runaway_is_stopped_and_flagged() -> None:
    run = Population(DEMO).run(Stimulus.of_current([1.0], [2e-6]), event_limit=50)
    assert run.runaway[0] and run.spikes[0] == 51 and run.imbalance()[0] < 1e-12
    with pytest.raises(ValueError, match="at most 50 events"):
        respond(DEMO, [(Drive(2e-6), 1.0)], event_limit=50)


STATISTICS = ThresholdStatistics(0.03, 0.008, 0.02, 0.004, 0.4)


def test_a_seed_is_a_run_for_any_number_of_threads_and_calls() -> None:
    """V15: identical spike lists."""
    rng = np.random.default_rng(0)
    current = rng.uniform(0.0, 4e-6, (101, 12))
    duration = np.full(12, 1e-4)

    def spikes(threads: int) -> Array:
        population = Population(DEMO, 101, STATISTICS, seed=9)
        return population.run(Stimulus.of_current(duration, current), 64, threads).times

    whole = spikes(1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(spikes(threads), whole)
    population = Population(DEMO, 101, STATISTICS, seed=9)
    cut = [
        population.run(Stimulus.of_current(duration[k : k + 4], current[:, k : k + 4]), 64)
        for k in (0, 4, 8)
    ]
    counts = np.sum([part.spikes for part in cut], axis=0)
    np.testing.assert_array_equal(counts, (~np.isnan(whole)).sum(axis=1))
    rows = np.repeat(device_rows([DEMO]), 101, axis=0)
    same = Population(rows, statistics=STATISTICS, seed=9)
    np.testing.assert_array_equal(same.run(Stimulus.of_current(duration, current), 64).times, whole)
    shift = Population(DEMO, 51, STATISTICS, seed=9, first=50)
    part = shift.run(Stimulus.of_current(duration, current[50:]), 64).times
    np.testing.assert_array_equal(part, whole[50:])
    other = Population(DEMO, 101, STATISTICS, seed=10)
    assert (other.run(Stimulus.of_current(duration, current)).spikes != counts).any()


@pytest.mark.parametrize("spread", [0.001, 0.004])
def test_interval_jitter(spread: float) -> None:
    """V13: sigma_T = tau_off sigma / (V* - mu) to 1 % where sigma / (V* - mu) < 0.02."""
    off = DEMO.conductance(False, Drive())
    tau, asymptote = DEMO.capacitance / off, 2e-6 / off
    assert spread / (asymptote - 0.3) < 0.02
    population = Population(DEMO, 100, ThresholdStatistics(spread), seed=1)
    run = population.run(Stimulus.of_current([0.1], [2e-6]), record=800)
    gaps = run.times[:, 1:] - run.releases[:, :-1]  # the climb from V_h, independent draws
    predicted = interval_jitter(tau, asymptote, 0.3, spread)
    assert np.nanstd(gaps) == pytest.approx(predicted, rel=0.01)
    assert np.isfinite(gaps).sum() > 70_000


def test_the_specification_jitter_example() -> None:
    off = DEMO.conductance(False, Drive())
    predicted = interval_jitter(DEMO.capacitance / off, 2e-6 / off, 0.3, 0.01)
    assert predicted == pytest.approx(5.08388e-6, rel=1e-6)


def test_device_spread_pushes_forward_to_rates() -> None:
    """E15: rates of 10,000 devices are f(V_th) of the normal law."""
    spread = 0.01
    means = ThresholdStatistics(threshold_device=spread).device_means(0.3, 0.08, 10_000, 3)
    assert kstest((means[:, 0] - 0.3) / spread, norm.cdf).pvalue > 0.01
    rows = np.repeat(device_rows([DEMO]), 10_000, axis=0)
    rows[:, 3] = means[:, 0]
    rates = firing_rates(rows, [2e-6])[:, 0]
    quantile = 0.3 + spread * norm.ppf([0.1, 0.5, 0.9])
    expected = [
        dataclasses.replace(DEMO, threshold_voltage=v).frequency(Drive(2e-6)) for v in quantile
    ]
    np.testing.assert_allclose(np.quantile(rates, [0.9, 0.5, 0.1]), expected, rtol=5e-3)


def test_residue_lowers_the_next_threshold() -> None:
    """After a spike the next comes sooner, by exactly the moving-threshold crossing."""
    residue = Residue(0.5, 40e-6)
    run = Population(DEMO, residue=residue).run(Stimulus.of_current([1e-3], [2e-6]), record=8)
    off = DEMO.conductance(False, Drive())
    tau = DEMO.capacitance / off
    climb = moving_crossing(0.08, 2e-6 / off, tau, 0.3, 0.08, 0.5, 40e-6)
    gaps = run.times[0, 1:6] - run.releases[0, :5]
    np.testing.assert_allclose(gaps, climb, rtol=1e-11)
    assert climb < DEMO.next_crossing(0.08, False, Drive(2e-6))
    assert run.imbalance()[0] < 1e-12
    halves = Population(DEMO, residue=residue)
    cut = sum(halves.run(Stimulus.of_current([1e-5], [2e-6])).spikes[0] for _ in range(100))
    assert cut == run.spikes[0]  # the residue survives the cut between two calls


def test_rates_equal_the_scalar_ones() -> None:
    devices = [DEMO, DELAYED, WITH_OUTPUT, load_device("and_ts").switch()]
    currents = np.geomspace(1e-9, 1e-3, 41)
    rates = firing_rates(devices, currents)
    for row, device in zip(rates, devices, strict=True):
        expected = [device.frequency(Drive(float(i))) for i in currents]
        np.testing.assert_allclose(row, expected, rtol=1e-12)
    later = firing_rates(DEMO, currents, refractory=1e-4)
    busy = rates[0] > 0
    np.testing.assert_allclose(1 / later[0, busy], 1 / rates[0, busy] + 1e-4, rtol=1e-12)
    with pytest.raises(ValueError, match="device rows"):
        firing_rates(np.ones((2, 3)), currents)


def test_compiled_forms_equal_plain_python_and_numpy() -> None:
    """V14: compiled = Python source bit for bit; = textbook numpy formulas to 1e-12."""
    rng = np.random.default_rng(2)
    start = rng.uniform(0.0, 0.2, 2000)
    g = 10.0 ** rng.uniform(-9, -5, 2000)
    c = 10.0 ** rng.uniform(-12, -7, 2000)
    rest = rng.uniform(0.35, 5.0, 2000)
    time = c / g * 10.0 ** rng.uniform(-1, 1, 2000)
    drive = g * rest
    ends = voltages_after(start, drive, g, c, time)
    np.testing.assert_allclose(ends, rest + (start - rest) * np.exp(-time * g / c), rtol=1e-12)
    crossings = crossing_times(start, 0.3, drive, g, c)
    textbook = c / g * np.log((rest - start) / (rest - 0.3))
    np.testing.assert_allclose(crossings, textbook, rtol=1e-11)
    first, second = segment_integrals(start, ends, drive, g, c, time)
    change = c / g * (start - ends)
    np.testing.assert_allclose(first, rest * time + change, rtol=1e-9)
    squares = rest**2 * time + 2 * rest * change
    squares += c / (2 * g) * ((start - rest) ** 2 - (ends - rest) ** 2)
    np.testing.assert_allclose(second, squares, rtol=1e-9)
    gaps, left = 0.3 - start, drive - g * 0.3
    for compiled, arguments in (
        (voltage_after, (start, drive, g, c, time)),
        (crossing_time, (gaps, left, g, c)),
        (voltage_integrals, (start, ends, drive, g, c, time)),
    ):
        plain = compiled.py_func  # type: ignore[attr-defined]
        for row in zip(*(a[:300].tolist() for a in arguments), strict=True):
            assert compiled(*row) == pytest.approx(plain(*row), rel=1e-13)
    one = [voltage_after(*a) for a in zip(start, drive, g, c, time, strict=True)]
    np.testing.assert_array_equal(ends, one)
    one = [crossing_time(*a) for a in zip(gaps, left, g, c, strict=True)]
    np.testing.assert_array_equal(crossings, one)
    grid = voltages_after(0.1, 1e-7, [[1e-7], [0.0]], 1e-9, [0.0, 1e-3, 1.0])
    assert grid.shape == (2, 3) and grid[1, 1] == pytest.approx(0.1 + 1e-7 * 1e-3 / 1e-9)
    times = crossing_times([0.3, 0.4, 0.4, 0.1], 0.3, [0.0, 0.0, 1.0, 1e-9], 1e-7, 1e-9)
    assert times[0] == 0.0 and 0.0 < times[1] < 1.0 and np.isinf(times[2:]).all()


@examples(1000)
@given(
    capacitance=st.floats(-15, -6).map(lambda p: 10.0**p),
    on=st.floats(0, 6).map(lambda p: 10.0**p),
    ratio=st.floats(0.3, 9).map(lambda p: 10.0**p),
    hold=st.floats(0.01, 0.5),
    gap=st.floats(0.01, 1.0),
    output=st.floats(0.0, 0.95),
    leak=st.floats(-13, -4).map(lambda p: 10.0**p),
    rest=st.sampled_from([0.0, 0.05, -0.1]),
    delays=st.tuples(st.sampled_from([0.0, 1e-7, 1e-4]), st.sampled_from([0.0, 1e-8, 1e-4])),
    fractions=st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=5),
    spread=st.sampled_from([0.0, 0.02, 0.2]),
    periods=st.floats(0.1, 40.0),
    seed=st.integers(0, 1000),
)
def test_any_device_under_any_drive(
    capacitance: float,
    on: float,
    ratio: float,
    hold: float,
    gap: float,
    output: float,
    leak: float,
    rest: float,
    delays: tuple[float, float],
    fractions: list[float],
    spread: float,
    periods: float,
    seed: int,
) -> None:
    """Nine decades: finite, ordered, alternating, conserving; lock-up and runaway end."""
    threshold = hold + gap
    switch = ThresholdSwitch(
        capacitance, on, on * (1 + ratio), threshold, hold,
        output * on * (threshold / hold - 1), leak, rest, *delays,
    )  # fmt: skip
    low, high = switch.rheobase(), max(switch.lock_up(), switch.rheobase())
    current = np.array([[low + f * (high - low + abs(low)) for f in fractions]])
    tau = capacitance / switch.conductance(False, Drive())
    duration = np.full(len(fractions), periods * tau / len(fractions))
    statistics = ThresholdStatistics(spread * threshold, spread * hold)
    population = Population(switch, 1, statistics, seed=seed)
    run = population.run(Stimulus.of_current(duration, current), 4000, event_limit=3000)
    assert math.isfinite(run.voltage[0])
    assert all(np.isfinite(values).all() for values in run.ledger.values())
    count = min(int(run.spikes[0]), 4000)
    times = run.times[0, :count]
    releases = run.releases[0][~np.isnan(run.releases[0])]
    total = duration.sum() * (1 + 1e-12)
    assert np.isfinite(times).all() and (times >= 0.0).all() and (times <= total).all()
    assert (np.diff(times) >= 0.0).all() and (np.diff(releases) >= 0.0).all()
    assert count - 1 <= releases.size <= count  # every spike but the last is released, once
    assert (releases[: count - 1] >= times[: releases.size][: count - 1]).all()
    assert (times[1:] >= releases[: count - 1]).all()
    held = capacitance * max(abs(run.voltage[0]), threshold) ** 2 * 1e-4
    error = abs(
        run.ledger["delivered"][0]
        - run.ledger["stored"][0]
        - sum(run.ledger[n][0] for n in ("device_on", "device_off", "output", "leak", "drivers"))
    )
    assert run.imbalance()[0] < 1e-9 or error < 1e-9 * held
    if spread == 0.0 and not run.runaway[0]:
        reference = respond(switch, [(Drive(float(i)), float(t)) for i, t in zip(
            current[0], duration, strict=True)], event_limit=10**6)  # fmt: skip
        assert abs(len(reference.spikes) - run.spikes[0]) <= 1  # a tie at a segment's end
        slack = 1e-12 * switch.upper
        for piece in reference.pieces:  # V is monotone in a piece: its ends bound it
            if not piece.on and switch.set_delay == 0.0:
                assert max(piece.begin, piece.end) <= switch.upper + slack  # no crossing missed
            if piece.on and switch.reset_delay == 0.0 and piece.begin >= switch.lower:
                assert piece.end >= switch.lower - slack
        same = min(len(reference.spikes), count)
        np.testing.assert_allclose(times[:same], reference.spikes[:same], rtol=1e-8)


def test_bad_populations() -> None:
    with pytest.raises(ValueError, match="1 or 3 switches"):
        Population([DEMO, DEMO], 3)
    with pytest.raises(ValueError, match="neurons"):
        Population(DEMO, 3).run(Stimulus.of_current([1.0], np.ones((2, 1))))
    with pytest.raises(ValueError, match="durations >= 0"):
        Stimulus.of_current([-1.0], [1e-6])
    with pytest.raises(ValueError, match="finite current"):
        Stimulus.of_current([1.0], [math.nan])
    with pytest.raises(ValueError, match="start < 1"):
        Residue(1.0)


def test_charge_packets_step_the_membrane() -> None:
    population = Population(DEMO, 3)
    energy = population.inject([0.1e-9, 0.2e-9, 0.31e-9])
    np.testing.assert_allclose(population.voltage, [0.1, 0.2, 0.31])
    np.testing.assert_allclose(energy, 0.5e-9 * population.voltage**2)
    run = population.run(Stimulus.of_current([1e-6], [0.0]), record=1)
    assert run.spikes.tolist() == [0, 0, 1] and run.times[2, 0] == 0.0  # over V_u: at once
    assert run.imbalance().max() < 1e-10


HAZARD = Hazard.from_ramp(0.3, 0.02, 2000.0)


def test_a_population_with_hazard_fires_as_the_hazard_says() -> None:
    """First spikes have the survival e^(-H); cutting the stimulus changes nothing."""
    current, count = 2e-6, 4000
    off = DEMO.conductance(False, Drive())
    run = Population(DEMO, count, hazard=HAZARD, seed=2).run(
        Stimulus.of_current([6e-4], [current]), record=6
    )
    passed = np.array([HAZARD.integral(0.0, current, off, 1e-9, t) for t in run.times[:, 0]])
    assert kstest(passed, "expon").pvalue > 0.01
    second = run.times[:, 1] - run.releases[:, 0]
    passed = np.array([HAZARD.integral(0.08, current, off, 1e-9, t) for t in second])
    assert kstest(passed, "expon").pvalue > 0.01
    assert run.imbalance().max() < 1e-10
    cut = Population(DEMO, count, hazard=HAZARD, seed=2)
    parts = [cut.run(Stimulus.of_current([6e-5], [current])).spikes for _ in range(10)]
    np.testing.assert_array_equal(np.sum(parts, axis=0), run.spikes)
    shifted = ThresholdStatistics(threshold_device=0.03)
    wide = Population(DEMO, count, shifted, hazard=HAZARD, seed=2)
    peaks = wide.run(Stimulus.of_current([6e-4], [current]), record=1).times[:, 0]
    assert peaks.std() > 1.3 * run.times[:, 0].std()
    with pytest.raises(ValueError, match="either a hazard"):
        Population(DEMO, 2, ThresholdStatistics(0.01), hazard=HAZARD)


def test_only_a_hazard_fires_below_rheobase() -> None:
    """E14: below rheobase a hazard still fires, a sharp threshold does not."""
    stimulus = Stimulus.of_current([0.05], [0.9 * DEMO.rheobase()])
    hazard = Population(DEMO, 50, hazard=Hazard.from_ramp(0.3, 0.02, 100.0)).run(stimulus)
    assert hazard.spikes.sum() > 50
    assert Population(DEMO, 50).run(stimulus).spikes.sum() == 0
