"""Drawn thresholds, hazard rates, exponential integrals, temperature (device.md 3.4, V11)."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.integrate import quad
from scipy.special import exp1, expi, expn
from scipy.stats import kstest, lognorm, norm

from neurosim.devices import Hazard, TemperatureLaw, ThresholdStatistics, load_device
from neurosim.devices.closed_forms import voltage_after
from neurosim.devices.exponential_integrals import scaled_e1, scaled_e2, scaled_ei
from neurosim.devices.hazard import RAMP_SPREAD, median_threshold
from neurosim.devices.temperature import BOLTZMANN_EV, arrhenius
from neurosim.devices.thresholds import fired_before

AND_TS = load_device("and_ts")


def test_exponential_integrals_equal_scipy() -> None:
    x = np.concatenate([np.logspace(-12, 2.8, 300), [0.999999, 1.000001, 44.999, 45.001]])
    x = x[x < 600]
    e1, e2, ei = (np.array([f(v) for v in x]) for f in (scaled_e1, scaled_e2, scaled_ei))
    np.testing.assert_allclose(e1, exp1(x) * np.exp(x), rtol=2e-14)
    np.testing.assert_allclose(e2, expn(2, x) * np.exp(x), rtol=2e-14)
    away = np.abs(x - 0.3725) > 0.02
    np.testing.assert_allclose(ei[away], (expi(x) * np.exp(-x))[away], rtol=5e-14)
    np.testing.assert_allclose([scaled_e1(-v) for v in x[:50]], -ei[:50], rtol=1e-15)
    assert scaled_e1(1e8) == pytest.approx(1e-8, rel=1e-7) and scaled_ei(1e8) > 0.0


@pytest.mark.parametrize(
    ("x", "e1", "ei"),
    [  # mpmath, 30 digits
        (1e-3, 6.337874070325488, -6.3232129883760356),
        (0.5, 0.92291063248373047, 0.27549829855127026),
        (5.0, 0.1704221762847322, 0.2707662554910572),
        (40.0, 0.024404115079628576, 0.025658862785975145),
        (200.0, 0.0049752463231793566, 0.0050252538269333012),
    ],
)
def test_exponential_integrals_to_fifteen_digits(x: float, e1: float, ei: float) -> None:
    assert scaled_e1(x) == pytest.approx(e1, rel=5e-15)
    assert scaled_ei(x) == pytest.approx(ei, rel=1e-13)


def integral_by_quadrature(h: Hazard, segment: tuple[float, ...], time: float) -> float:
    start, drive, conductance, capacitance = segment
    tau = capacitance / conductance if conductance else math.inf

    def rate(t: float) -> float:
        return math.exp(h.log_rate + voltage_after(start, drive, conductance, capacitance, t) / (
            h.scale))  # fmt: skip

    points = [p * min(tau, time) for p in (0.0, 0.1, 0.3, 1, 2, 4, 8, 16, 40) if p * tau < time]
    edges = sorted({*points, *(time * np.linspace(0.0, 1.0, 17)).tolist()})
    parts = [
        quad(rate, a, b, epsabs=0.0, epsrel=1e-13, limit=200)[0]
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    return math.fsum(parts)


CASES = {
    "rising": (0.0, 2e-7 * 0.5, 2e-7, 1e-9),
    "falling": (0.5, 1e-8, 1e-7, 1e-9),
    "to zero": (0.3, 0.0, 1e-7, 1e-9),
    "resting": (0.25, 0.25e-7, 1e-7, 1e-9),
    "ideal": (0.0, 1e-6, 0.0, 1e-9),
    "nearly ideal": (0.0, 1e-6, 1e-15, 1e-9),
    "strong": (0.0, 3e-6, 1e-7, 1e-9),
}


@pytest.mark.parametrize("fraction", [1e-6, 0.01, 0.3, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("case", CASES)
def test_hazard_integral_equals_quadrature(case: str, fraction: float) -> None:
    """V11: 1e-12 (with V_0 between 10 and 40 mV)."""
    segment = CASES[case]
    time = fraction * (1e-9 / segment[2] if segment[2] > 1e-12 else 3e-4)
    if case in ("ideal", "nearly ideal", "strong") and fraction > 0.1:
        time = 1e-3  # beyond a volt the rate is astronomical
    for scale in (0.0078, 0.0296, 0.040):
        h = Hazard(-12.0, scale)
        exact = integral_by_quadrature(h, segment, time)
        assert h.integral(*segment, time) == pytest.approx(exact, rel=1e-12)


@examples(300)
@given(
    start=st.floats(-0.2, 0.5),
    rest=st.floats(-0.5, 1.0),
    decades=st.floats(-5, 4),
    scale=st.floats(0.004, 0.2),
    log_rate=st.floats(-40.0, 5.0),
    wanted=st.floats(-10, 1).map(math.exp),
)
def test_solve_inverts_the_integral(
    start: float, rest: float, decades: float, scale: float, log_rate: float, wanted: float
) -> None:
    capacitance, conductance = 1e-9, 1e-7 * 10.0**decades
    h = Hazard(log_rate, scale)
    drive = conductance * rest
    time = h.solve(start, drive, conductance, capacitance, wanted)
    assert 0.0 < time < math.inf
    found = h.integral(start, drive, conductance, capacitance, time)
    speed = h.rate(voltage_after(start, drive, conductance, capacitance, time)) * time
    assert found == pytest.approx(wanted, rel=1e-11 * max(1.0, speed / wanted))
    half = h.solve(start, drive, conductance, capacitance, wanted, limit=0.5 * time)
    assert half == math.inf


def test_sampling_over_segments_is_the_theory() -> None:
    """V11: sampled mean within four standard errors; constant V gives an exponential delay."""
    h = Hazard.from_ramp(0.3, 0.02, 1000.0)
    conductance, capacitance = 1e-7, 1e-9
    draws = h.sample(0.28, 0.28 * conductance, conductance, capacitance, 20_000, seed=4)
    mean = h.mean_delay(0.28)
    assert abs(draws.mean() - mean) < 4 * mean / math.sqrt(draws.size)
    assert kstest(draws / mean, "expon").pvalue > 0.01
    climb = h.sample(0.0, 2e-6, conductance, capacitance, 20_000, seed=5)
    survival = np.array([h.integral(0.0, 2e-6, conductance, capacitance, t) for t in climb])
    assert kstest(survival, "expon").pvalue > 0.01
    time, _ = quad(
        lambda t: math.exp(-h.integral(0.0, 2e-6, conductance, capacitance, t)), 0, 4e-4,
        points=[1e-4, 2e-4], limit=400,
    )  # fmt: skip
    assert abs(climb.mean() - time) < 4 * climb.std() / math.sqrt(climb.size)
    again = h.sample(0.0, 2e-6, conductance, capacitance, 50, seed=5, first=100)
    np.testing.assert_array_equal(again, climb[100:150])
    # in two segments: what is left of the draw goes into the second
    wanted = 0.7
    whole = h.solve(0.0, 2e-6, conductance, capacitance, wanted)
    first = 0.4 * whole
    left = wanted - h.integral(0.0, 2e-6, conductance, capacitance, first)
    middle = voltage_after(0.0, 2e-6, conductance, capacitance, first)
    second = h.solve(middle, 2e-6, conductance, capacitance, left)
    assert first + second == pytest.approx(whole, rel=1e-12)


def test_ramp_statistics() -> None:
    """E3: median, spread 1.2825 V_0, 2.303 V_0 per decade; AND-TS 38 mV is V_0 = 29.6 mV."""
    assert pytest.approx(1.2825, rel=1e-4) == RAMP_SPREAD
    assert pytest.approx(0.0296, rel=2e-3) == 0.038 / RAMP_SPREAD
    h = Hazard.from_ramp(0.3, 0.01, 10.0)
    assert float(h.ramp_quantile(0.5, 10.0)) == pytest.approx(0.3, rel=1e-12)
    assert h.ramp_integral(0.3, 10.0) == pytest.approx(math.log(2.0), rel=1e-12)
    slope = float(h.ramp_quantile(0.5, 1e5) - h.ramp_quantile(0.5, 1e1)) / 4
    assert slope == pytest.approx(math.log(10.0) * h.scale, rel=1e-9)
    ramp = 100.0  # an ideal integrator: conductance 0, drive / C = ramp
    times = h.sample(0.0, ramp * 1e-9, 0.0, 1e-9, 40_000, seed=2)
    volts = ramp * times
    assert volts.std() == pytest.approx(RAMP_SPREAD * h.scale, rel=0.03)
    assert np.median(volts) == pytest.approx(float(h.ramp_quantile(0.5, ramp)), rel=2e-3)
    assert AND_TS.hazard(ramp=5.0).ramp_quantile(0.5, 5.0) == pytest.approx(0.294, rel=1e-9)


def test_hazard_with_temperature() -> None:
    medians = []
    for kelvin in (280.0, 300.0, 320.0):
        h = Hazard.from_energy(1e9, 0.8, 1.2, kelvin)
        assert h.scale == pytest.approx(BOLTZMANN_EV * kelvin / 1.2)
        medians.append(float(h.ramp_quantile(0.5, 1.0)))
        assert medians[-1] == pytest.approx(median_threshold(0.8, 1.2, 1e9, 1.0, kelvin), rel=1e-3)
    steps = np.diff(medians)
    assert (steps < 0).all() and steps[1] == pytest.approx(steps[0], rel=0.02)  # nearly linear


def test_temperature_law() -> None:
    switch = load_device("demo").switch()
    warm = TemperatureLaw(300.0, 0.3).at(switch, 330.0)
    assert warm.threshold_voltage == pytest.approx(0.3 - 0.3 * 0.3 / 300 * 30)
    assert warm.off_resistance == pytest.approx(1e8 * arrhenius(0.3, 330.0, 300.0))
    assert warm.off_resistance < switch.off_resistance
    assert TemperatureLaw(300.0, 0.0, 0.0).at(switch, 350.0) == switch
    assert load_device("demo").temperature().at(switch, 300.0) == switch
    with pytest.raises(ValueError, match="> 0 K"):
        arrhenius(0.3, 0.0, 300.0)


def moments(pairs: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    return (*pairs.mean(axis=(0, 1)).tolist(), *pairs.std(axis=(0, 1)).tolist())


@pytest.mark.parametrize("shape", ["normal", "lognormal"])
def test_drawn_thresholds_have_their_moments(shape: str) -> None:
    """E2: mean within 4 sigma / sqrt(N), standard deviation within 2 % (no truncation in reach)."""
    statistics = ThresholdStatistics(0.02, 0.004, shape=shape)
    pairs = statistics.cycles(0.3, 0.08, 200, 500, seed=1)
    mean_th, mean_h, std_th, std_h = moments(pairs)
    assert abs(mean_th - 0.3) < 4 * 0.02 / math.sqrt(1e5)
    assert abs(mean_h - 0.08) < 4 * 0.004 / math.sqrt(1e5)
    assert std_th == pytest.approx(0.02, rel=0.02) and std_h == pytest.approx(0.004, rel=0.02)
    assert abs(np.corrcoef(pairs[..., 0].ravel(), pairs[..., 1].ravel())[0, 1]) < 0.02
    deep = pairs[..., 0].ravel()
    if shape == "normal":
        assert kstest((deep - 0.3) / 0.02, norm.cdf).pvalue > 0.01
    else:
        s = math.sqrt(math.log1p((0.02 / 0.3) ** 2))
        law = lognorm(s, scale=0.3 * math.exp(-0.5 * s * s))
        assert kstest(deep, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shape", ["normal", "lognormal"])
def test_cycles_are_an_ar1_chain(rho: float, shape: str) -> None:
    statistics = ThresholdStatistics(0.01, 0.002, correlation=rho, shape=shape)
    chains = statistics.cycles(0.3, 0.08, 400, 400, seed=3)[..., 0]
    for lag in (1, 2, 3):
        found = np.corrcoef(chains[:, :-lag].ravel(), chains[:, lag:].ravel())[0, 1]
        assert found == pytest.approx(rho**lag, abs=0.03)
    stationary = chains.std(axis=0)
    assert stationary[0] == pytest.approx(0.01, rel=0.15)
    assert stationary[200:].mean() == pytest.approx(0.01, rel=0.03)


def test_device_and_cycle_spread_add() -> None:
    statistics = ThresholdStatistics(0.01, 0.0, 0.03)
    pairs = statistics.cycles(0.3, 0.08, 4000, 40, seed=6)[..., 0]
    assert pairs.mean(axis=1).std() == pytest.approx(math.hypot(0.03, 0.01 / 40**0.5), rel=0.04)
    assert (pairs - pairs.mean(axis=1, keepdims=True)).std() == pytest.approx(0.01, rel=0.03)


@examples(200)
@given(
    spreads=st.tuples(st.floats(0, 1.0), st.floats(0, 0.5)),
    rho=st.floats(0.0, 0.95),
    shape=st.sampled_from(["normal", "lognormal"]),
    seed=st.integers(0, 2**32),
)
def test_draws_keep_their_order(
    spreads: tuple[float, float], rho: float, shape: str, seed: int
) -> None:
    """Truncation: 0 < V_h and V_h + 0.1 (mu_th - mu_h) <= V_th, whatever the spread."""
    statistics = ThresholdStatistics(*spreads, correlation=rho, shape=shape)
    pairs = statistics.cycles(0.294, 0.08, 2, 50, seed)
    assert np.isfinite(pairs).all() and (pairs[..., 1] > 0.0).all()
    assert (pairs[..., 0] >= pairs[..., 1] + 0.1 * (0.294 - 0.08) - 1e-12).all()


def test_and_ts_is_truncated_as_the_specification_says() -> None:
    """About 2 % of naive V_h draws would be negative; none is, and the means stay close."""
    pairs = AND_TS.statistics().cycles(0.294, 0.080, 1, 20_000, seed=8)[0]
    assert norm.cdf(-0.080 / 0.038) == pytest.approx(0.0176, abs=1e-3)
    assert pairs[:, 1].min() > 0.0
    assert pairs[:, 0].std() == pytest.approx(0.0433, rel=0.3)  # C2C around a drawn device mean


def test_probability_to_fire_and_errors() -> None:
    assert fired_before(0.31, 0.3, 0.01) == pytest.approx(norm.cdf(1.0))
    with pytest.raises(ValueError, match="correlation < 1"):
        ThresholdStatistics(correlation=1.0)
    with pytest.raises(ValueError, match="lognormal"):
        ThresholdStatistics(shape="gamma")
    with pytest.raises(ValueError, match="scale > 0"):
        Hazard(0.0, 0.0)
    with pytest.raises(ValueError, match=r"hazard\.scale"):
        load_device("demo").hazard()
