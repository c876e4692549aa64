"""Closed forms, presets and random numbers of the devices (device.md 3.1, 3.2, 3.4, 5, 6.2)."""

import dataclasses
import math
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.integrate import solve_ivp
from scipy.special import ndtri
from scipy.stats import kstest

from neurosim.devices import Drive, ThresholdSwitch, load_device
from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.devices.counter_random import inverse_normal, stream_key, truncated_normal, uniform

DEMO = load_device("demo").switch()
CASE_B = dataclasses.replace(DEMO, leak_conductance=0.0, output_resistance=1e3)
CASE_C = dataclasses.replace(
    load_device("and_ts").switch(), threshold_voltage=0.267, set_delay=0.0, reset_delay=0.0
)
# period, off, on (s); charge (C), energy in device and output resistor (J): 40-digit decimals
GOLDEN = {
    "A": (
        DEMO,
        Drive(2e-6),
        (113.88171706663226e-6, 111.16302422111980e-6, 2.7186928455124586e-6),
        (225.39230722957900e-12, 42.693030622793757e-12),
    ),
    "B": (
        CASE_B,
        Drive(drivers=((2e-6, 1.0),)),
        (117.40623791752780e-6, 114.58158769025217e-6, 2.8246502272756377e-6),
        (184.54503027291379e-12, 38.676113505106842e-12),
    ),
    "C": (
        CASE_C,
        Drive(drivers=((1e-5, 0.6),)),
        (1.0024790496414967e-3, 980.51007417296181e-6, 21.968975468534898e-6),
        (4.2118662111493457e-9, 0.72827766700108945e-9),
    ),
}
FREQUENCIES = {  # A -> Hz
    0.05e-6: 124.22138008133349,
    0.2e-6: 811.10341440012249,
    1e-6: 4397.7730224324132,
    5e-6: 21264.407808382726,
    20e-6: 67778.110804457278,
    35e-6: 79639.839992085780,
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_periods(case: str) -> None:
    switch, drive, times, ledger = GOLDEN[case]
    period = switch.period(drive)
    found = (period.duration, period.off_time, period.on_time)
    assert found == pytest.approx(times, rel=1e-12)
    on = period.on
    assert (on.device_charge, on.device + on.output) == pytest.approx(ledger, rel=1e-12)


def test_the_printed_digits_of_the_specification() -> None:
    period = DEMO.period(Drive(2e-6))
    assert period.duration == pytest.approx(113.881717e-6, rel=1e-7)
    assert 1.0 / period.duration == pytest.approx(8781.04, rel=1e-6)
    assert period.on.device == pytest.approx(42.69303e-12, rel=1e-7)
    assert CASE_B.upper == pytest.approx(0.300003, rel=1e-12)
    assert CASE_B.lower == pytest.approx(0.120, rel=1e-12)
    assert DEMO.discharge_energy == pytest.approx(41.80e-12, rel=1e-12)
    assert DEMO.rheobase() == pytest.approx(33.0e-9, rel=1e-12)
    assert DEMO.lock_up() == pytest.approx(40.008e-6, rel=1e-12)


@pytest.mark.parametrize("current", FREQUENCIES)
def test_golden_frequencies(current: float) -> None:
    assert DEMO.frequency(Drive(current)) == pytest.approx(FREQUENCIES[current], rel=1e-12)


def test_frequency_is_zero_outside_rheobase_and_lock_up() -> None:
    low, high = DEMO.rheobase(), DEMO.lock_up()
    assert DEMO.frequency(Drive(low * 0.999)) == DEMO.frequency(Drive(high * 1.001)) == 0.0
    assert DEMO.frequency(Drive(low * 1.001)) > 0.0 < DEMO.frequency(Drive(high * 0.999))
    with pytest.raises(ValueError, match="rheobase"):
        DEMO.period(Drive(low * 0.5))
    with pytest.raises(ValueError, match="lock-up"):
        DEMO.period(Drive(high * 2.0))
    assert DEMO.next_crossing(0.2, on=True, drive=Drive(high * 1.1)) == math.inf


@pytest.mark.parametrize("case", GOLDEN)
def test_sensitivities_equal_finite_differences(case: str) -> None:
    switch, drive, _, _ = GOLDEN[case]
    step = 1e-5

    def slope(low: ThresholdSwitch, high: ThresholdSwitch, width: float, d: float = 0.0) -> float:
        drives = [dataclasses.replace(drive, current=drive.current + s * d) for s in (-1, 1)]
        return (high.period(drives[1]).duration - low.period(drives[0]).duration) / width

    def moved(field: str, scale: float) -> tuple[ThresholdSwitch, ThresholdSwitch, float]:
        value = getattr(switch, field)
        low = dataclasses.replace(switch, **{field: value * (1 - step)})
        high = dataclasses.replace(switch, **{field: value * (1 + step)})
        return low, high, 2 * step * value * scale

    found = switch.period_sensitivities(drive)
    up = 1 + switch.output_resistance / switch.off_resistance
    down = 1 + switch.output_resistance / switch.on_resistance
    assert found[0] == pytest.approx(slope(*moved("threshold_voltage", up)), rel=1e-7)
    assert found[1] == pytest.approx(slope(*moved("hold_voltage", down)), rel=1e-7)
    d = 1e-5 * drive.total_current
    assert found[2] == pytest.approx(slope(switch, switch, 2 * d, d), rel=1e-7)


@pytest.mark.parametrize("case", GOLDEN)
def test_sensitivities_equal_complex_steps(case: str) -> None:
    """To 1e-9 against Im T(x + ih)/h of the textbook period, which has no cancellation."""
    switch, drive, _, _ = GOLDEN[case]
    off, on = switch.conductance(False, drive), switch.conductance(True, drive)
    current = drive.total_current + switch.leak_conductance * switch.leak_voltage

    def period(up: complex, down: complex, i: complex) -> complex:
        high, low = i / off, i / on
        climb = switch.capacitance / off * np.log((high - down) / (high - up))
        return complex(climb + switch.capacitance / on * np.log((up - low) / (down - low)))

    point, found = (switch.upper, switch.lower, current), switch.period_sensitivities(drive)
    for k, value in enumerate(point):
        step = 1e-30 * value
        moved = [x + (1j * step if i == k else 0.0) for i, x in enumerate(point)]
        assert found[k] == pytest.approx(period(*moved).imag / step, rel=1e-9)


def test_delays_lengthen_the_period_and_lower_the_landing() -> None:
    slow = dataclasses.replace(DEMO, set_delay=5e-6, reset_delay=3e-6)
    drive = Drive(2e-6)
    plain, period = DEMO.period(drive), slow.period(drive)
    assert slow.landing < DEMO.landing == DEMO.lower
    assert period.duration > plain.duration + 8e-6
    for part in (period.on, period.off):
        assert part.burnt + part.stored == pytest.approx(part.delivered, rel=1e-12)
    with pytest.raises(ValueError, match="set_delay"):
        slow.period_sensitivities(drive)


decades = st.floats(-6.0, 3.0).map(lambda power: 10.0**power)


@examples(100)
@given(x=decades, start=st.floats(-0.5, 0.5), asymptote=st.floats(-5.0, 5.0))
def test_segment_equals_ode(x: float, start: float, asymptote: float) -> None:
    """V, J1 and J2 against an adaptive eighth-order solver; x = G t / C over nine decades."""
    capacitance, time = 1e-9, 1e-4
    conductance = x * capacitance / time
    drive = conductance * asymptote
    end = voltage_after(start, drive, conductance, capacitance, time)
    first, second = voltage_integrals(start, end, drive, conductance, capacitance, time)
    solved = solve_ivp(
        lambda t, y: [(x * (asymptote - y[0])), y[0], y[0] ** 2],
        (0.0, 1.0),
        [start, 0.0, 0.0],
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    ).y[:, -1]
    size = max(abs(start), abs(end), 1e-3)  # the solver's own absolute tolerance is 1e-14
    assert abs(end - solved[0]) <= 1e-10 * size
    assert abs(first - solved[1] * time) <= 1e-10 * size * time
    assert abs(second - solved[2] * time) <= 1e-9 * size**2 * time


def test_a_thousand_segments_to_high_precision() -> None:
    """V2: V(t), J1, J2 to 1e-10 against 60 digits, G over nine decades, tau over eighteen."""
    rng = np.random.default_rng(11)
    with localcontext() as context:
        context.prec = 60
        for _ in range(1000):
            conductance, capacitance = 10.0 ** rng.uniform(-12, -3), 10.0 ** rng.uniform(-15, -6)
            start, asymptote = rng.uniform(-0.5, 0.5), rng.uniform(-5.0, 5.0)
            time = capacitance / conductance * 10.0 ** rng.uniform(-7, 2)
            drive = conductance * asymptote
            g, c, t, v, j = (
                Decimal(float(x)) for x in (conductance, capacitance, time, start, drive)
            )
            a, d = j / g, g * t / c
            e = (-d).exp()
            exact = (
                a + (v - a) * e,
                t * (a + (v - a) * (1 - e) / d),
                t * (a * a + 2 * a * (v - a) * (1 - e) / d + (v - a) ** 2 * (1 - e * e) / (2 * d)),
            )
            end = voltage_after(start, drive, conductance, capacitance, time)
            first, second = voltage_integrals(start, end, drive, conductance, capacitance, time)
            size = max(abs(start), abs(end))
            assert abs(end - float(exact[0])) <= 1e-10 * size
            assert abs(first - float(exact[1])) <= 1e-10 * size * time
            assert second == pytest.approx(float(exact[2]), rel=1e-10)


@pytest.mark.parametrize("x", [1e-9, 1e-4, 0.0999999, 0.1000001, 0.5, 30.0, 1e6])
def test_integrals_to_full_precision(x: float) -> None:
    capacitance, time, start, asymptote = 1e-9, 1e-4, 0.07, 0.9
    conductance = x * capacitance / time
    with localcontext() as context:
        context.prec = 60
        d, v, a = Decimal(conductance) * Decimal(time) / Decimal(capacitance), Decimal(start), None
        a = Decimal(conductance * asymptote) / Decimal(conductance)
        e = (-d).exp()
        exact = [
            a + (v - a) * e,
            a + (v - a) * (1 - e) / d,
            a * a + 2 * a * (v - a) * (1 - e) / d + (v - a) ** 2 * (1 - e * e) / (2 * d),
        ]
    drive = conductance * asymptote
    end = voltage_after(start, drive, conductance, capacitance, time)
    first, second = voltage_integrals(start, end, drive, conductance, capacitance, time)
    found = (end, first / time, second / time)
    assert found == pytest.approx([float(value) for value in exact], rel=2e-13)


@pytest.mark.parametrize("excess", [1e-9, 1e-6, 1e-2, 1.0, 1e6])
def test_crossing_time_near_threshold(excess: float) -> None:
    start, upper, conductance, capacitance = 0.08, 0.3, 1e-7, 1e-9
    drive = conductance * upper * (1.0 + excess)
    with localcontext() as context:
        context.prec = 50
        c = [Decimal(value) for value in (start, upper, conductance, capacitance, drive)]
        z = c[2] * (c[1] - c[0]) / (c[4] - c[2] * c[1])
        exact = float(c[3] / c[2] * (1 + z).ln())
    found = crossing_time(upper - start, drive - conductance * upper, conductance, capacitance)
    assert found == pytest.approx(exact, rel=1e-6)


def test_crossing_time_without_leak_is_the_integrator_limit() -> None:
    assert crossing_time(0.2, 1e-6, 0.0, 1e-9) == pytest.approx(2e-4, rel=1e-15)
    assert crossing_time(0.2, 1e-6, 1e-18, 1e-9) == pytest.approx(2e-4, rel=1e-12)


@examples(200)
@given(
    capacitance=st.floats(-14, -6).map(lambda p: 10.0**p),
    on=st.floats(0, 6).map(lambda p: 10.0**p),
    ratio=st.floats(0.1, 9).map(lambda p: 10.0**p),
    hold=st.floats(0.01, 1.0),
    gap=st.floats(0.01, 2.0),
    output=st.floats(0.0, 0.99),
    leak=st.floats(-15, -3).map(lambda p: 10.0**p),
    rest=st.floats(-1.0, 1.0),
    fraction=st.floats(1e-6, 1.0 - 1e-6),
)
def test_every_period_is_finite_positive_and_conserves_energy(
    capacitance: float,
    on: float,
    ratio: float,
    hold: float,
    gap: float,
    output: float,
    leak: float,
    rest: float,
    fraction: float,
) -> None:
    threshold = hold + gap
    switch = ThresholdSwitch(
        capacitance=capacitance,
        on_resistance=on,
        off_resistance=on * (1.0 + ratio),
        threshold_voltage=threshold,
        hold_voltage=hold,
        output_resistance=output * on * (threshold / hold - 1.0),
        leak_conductance=leak,
        leak_voltage=rest,
    )
    low, high = switch.rheobase(), switch.lock_up()
    if low >= high:
        return
    drive = Drive(low + fraction * (high - low))
    if switch.frequency(drive) == 0.0:
        return  # rounding put it on an end of the range
    period = switch.period(drive)
    assert 0.0 < period.off_time < math.inf and 0.0 < period.on_time < math.inf
    for part in (period.on, period.off):
        gross = max(abs(part.delivered), part.burnt, abs(part.stored))
        assert abs(part.delivered - part.burnt - part.stored) <= 1e-9 * gross
        assert min(part.device, part.output) >= 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacitance": 0.0}, "capacitance > 0"),
        ({"on_resistance": float("nan")}, "finite on_resistance"),
        ({"off_resistance": 1e3}, "off_resistance > on_resistance"),
        ({"threshold_voltage": 0.05}, "threshold_voltage > hold_voltage"),
        ({"output_resistance": 5.6e3}, "5500 ohm"),
        ({"set_delay": -1e-9}, "set_delay >= 0"),
    ],
)
def test_design_rules(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DEMO, **change)


def test_bad_drives() -> None:
    with pytest.raises(ValueError, match="finite"):
        Drive(float("inf"))
    with pytest.raises(ValueError, match="conductances >= 0"):
        Drive(0.0, ((-1e-6, 1.0),))


@pytest.mark.parametrize("name", ["demo", "and_ts", "ag_v2c_w"])
def test_presets_load_with_sources(name: str) -> None:
    preset = load_device(name)
    assert all(quantity.source for quantity in preset.quantities.values())
    assert all(
        quantity.band is None or quantity.band[0] <= quantity.value <= quantity.band[1]
        for quantity in preset.quantities.values()
    )
    assert (
        ("PLACEHOLDER" in str(preset)) == (name == "ag_v2c_w") == (preset.status == "placeholder")
    )
    assert ("PLACEHOLDER" in repr(preset)) == (name == "ag_v2c_w")
    assert preset.switch().quantum > 0.0


def test_ag_v2c_w_claims_no_measurement() -> None:
    assert {quantity.evidence for quantity in load_device("ag_v2c_w").quantities.values()} == {
        "assumed"
    }


def test_device_errors(tmp_path: Path) -> None:
    good = (Path(load_device.__code__.co_filename).parent / "presets/demo.toml").read_text()
    cases = {
        "nonsense = [": "not valid TOML",
        good.replace('unit = "F"', 'unit = "V"'): "capacitance: expected unit 'F'",
        good + "\nvolume = 3\n": "unknown keys volume",
        good.replace("\nset_delay =", "\n# set_delay ="): "missing set_delay",
        good.replace("value = 1e-9", 'value = "1n"'): "expected a number",
        good.replace("value = 0.30", "value = 0.01"): "threshold_voltage > hold_voltage",
        good.replace('"demonstration"', '"sure"'): "expected status",
    }
    for index, (text, message) in enumerate(cases.items()):
        path = tmp_path / f"{index}.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            load_device(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="ag_v2c_w, and_ts, demo"):
        load_device("unobtainium")
    with pytest.raises(ValueError, match="cannot be read"):
        load_device(tmp_path / "none.toml")


def test_inverse_normal_equals_scipy() -> None:
    p = np.concatenate([10.0 ** -np.arange(1.0, 17.0), np.linspace(0.01, 0.99, 99)])
    found = np.array([inverse_normal(value) for value in p])
    np.testing.assert_allclose(found, ndtri(p), rtol=1e-14, atol=1e-15)


def test_draws_are_uniform_and_independent_of_order() -> None:
    key = stream_key(np.uint64(7), np.uint64(3))
    draws = np.array([uniform(key, np.uint64(i)) for i in range(20000)])
    assert kstest(draws, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 4 / math.sqrt(draws.size)
    assert uniform(key, np.uint64(5)) == draws[5]
    other = stream_key(np.uint64(7), np.uint64(4))
    streams = np.array([uniform(other, np.uint64(i)) for i in range(20000)])
    assert abs(np.corrcoef(draws, streams)[0, 1]) < 4 / math.sqrt(draws.size)
    assert len(set(draws.tolist()) & set(streams.tolist())) == 0


@given(u=st.floats(1e-16, 1.0 - 1e-16), lower=st.floats(-12.0, 8.0))
def test_truncated_normal_keeps_its_bound(u: float, lower: float) -> None:
    draw = truncated_normal(u, lower)
    assert math.isfinite(draw) and draw >= lower - 1e-9 * max(1.0, abs(lower))
