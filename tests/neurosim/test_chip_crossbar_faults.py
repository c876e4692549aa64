"""Drift, refresh, stuck cells, dead tiles, bent cells of programmed crossbars; tiling; draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import kstest
from test_chip_crossbar import IDEAL, REAL, cells, program, random_weights

from neurosim.chip import ProgrammedCrossbar, crossbar_key, load_chip, with_values
from neurosim.chip.programming import cell_keys
from neurosim.devices.counter_random import fill_normal, inverse_normal, uniform

DAY = 86400.0


def test_drift_is_a_power_law_of_the_age() -> None:
    weight = random_weights(40, 30)
    for age, exponent in ((100.0, 0.05), (1e6, 0.1)):
        drifted = program(weight, cells(drift_exponent=exponent, age=age))
        factor = age**-exponent
        np.testing.assert_allclose(drifted.weight, weight * factor, rtol=1e-5, atol=1e-5)
        energy = program(weight, IDEAL).row_energy  # of all cells, G_min's too: drift saves energy
        np.testing.assert_allclose(drifted.row_energy, energy * factor, rtol=1e-5)


def test_no_drift_before_the_reference_or_without_an_exponent() -> None:
    weight = random_weights(10, 10)
    for quiet in (cells(drift_exponent=0.1, age=1.0), cells(age=1e9), cells(drift_exponent=0.0)):
        assert not quiet.disturbed
        programmed = program(weight, quiet)
        assert programmed.weight.dtype == np.int8
        np.testing.assert_array_equal(programmed.weight, weight)


def test_exponents_are_normal_between_cells() -> None:
    weight = np.full((150, 200), 127, dtype=np.int8)
    drifted = program(weight, cells(drift_exponent=0.06, drift_spread=0.01, age=DAY))
    small = IDEAL.g_min.value / (IDEAL.g_max.value - IDEAL.g_min.value)  # the negative cells
    large = IDEAL.g_max.value / (IDEAL.g_max.value - IDEAL.g_min.value)
    plus = drifted.weight / 127.0 + small * DAY**-0.06
    nu = -np.log(plus / large) / math.log(DAY)
    assert nu.mean() == pytest.approx(0.06, abs=3e-4)
    assert kstest((nu.ravel() - 0.06) / 0.01, "norm").statistic < 0.02  # G- blurs it a little
    clipped = program(weight, cells(drift_spread=0.01, age=DAY))
    assert (clipped.weight <= 127.001 * large).all()  # no cell's exponent is negative


def test_a_refresh_starts_drift_anew_with_new_errors() -> None:
    weight = random_weights(30, 20)
    base = cells(drift_exponent=0.05, age=1000.0)
    refreshed = cells(base, refresh_interval=300.0)  # last at 900 s
    assert (refreshed.rewrites, refreshed.hold_time) == (3, pytest.approx(100.0))
    np.testing.assert_allclose(
        program(weight, refreshed).weight, weight * 100.0**-0.05, rtol=1e-5, atol=1e-5
    )
    error = cells(REAL, age=250.0, refresh_interval=300.0)
    again = cells(REAL, age=550.0, refresh_interval=300.0)  # the same hold time, written once more
    first, second = program(weight, error), program(weight, again)
    assert (first.weight != second.weight).mean() > 0.9
    spread = (first.weight - second.weight).std() / math.sqrt(2)
    assert spread == pytest.approx((first.weight - weight).std(), rel=0.1)


def test_a_stuck_cell_does_not_drift_and_stays_stuck() -> None:
    weight = random_weights(60, 60)
    stuck = {"stuck_low": 0.1, "stuck_high": 0.2}
    fresh = program(weight, cells(**stuck)).weight
    old = program(weight, cells(**stuck, drift_exponent=0.1, age=DAY, refresh_interval=7e4)).weight
    steady = np.isclose(np.abs(fresh), 127.0, atol=1e-3) & np.isclose(fresh, old, atol=1e-3)
    share = 2 * 0.1 * 0.2  # one cell of the pair stuck high, the other stuck low
    assert steady.mean() == pytest.approx(share, abs=4 * math.sqrt(share / weight.size))


@examples(60)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    tile=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    diagonal=st.booleans(),
)
def test_tiling_does_not_change_a_crossbar(
    rows: int, columns: int, tile: tuple[int, int], diagonal: bool
) -> None:
    """Every draw belongs to a cell: the crossbar is the same however it is cut."""
    weight = random_weights(rows, columns)
    worn = cells(REAL, stuck_low=0.05, drift_exponent=0.03, drift_spread=0.01)
    whole = program(weight, worn, diagonal=diagonal)
    cut = program(weight, worn, tile=tile, diagonal=diagonal)
    np.testing.assert_array_equal(whole.weight, cut.weight)
    np.testing.assert_allclose(whole.row_energy, cut.row_energy, rtol=1e-12)
    assert whole.noise_key == cut.noise_key


def test_seeds_and_crossbars_are_apart() -> None:
    weight = random_weights(40, 40)
    keys = [crossbar_key(seed, index) for seed, index in ((0, 0), (0, 1), (1, 0), (2**63 - 1, 0))]
    found = [ProgrammedCrossbar.program(weight, REAL, key).weight - weight for key in keys]
    for i in range(4):
        for j in range(i):
            correlation = np.corrcoef(found[i].ravel(), found[j].ravel())[0, 1]
            assert abs(correlation) < 4 / math.sqrt(weight.size)
    halves = [cell_keys(keys[0], half, 0) for half in (0, 1)]
    assert len({int(key) for half in halves for key in half}) == 6


def test_fast_normals_are_the_normals() -> None:
    key = crossbar_key(3, 4)
    out = np.empty(50_000)
    fill_normal(key, np.uint64(17), out)
    slow = [inverse_normal(uniform(key, np.uint64(17 + i))) for i in range(2000)]
    np.testing.assert_allclose(out[:2000], slow, rtol=1e-12, atol=1e-14)
    assert kstest(out, "norm").pvalue > 1e-3
    assert np.abs(out).max() > 3.5


@pytest.mark.parametrize("description", [IDEAL, REAL])
def test_dead_tiles_read_zero_and_cost_nothing(description: object) -> None:
    weight = random_weights(20, 30)
    dead = np.array([[False, True, False], [False, False, True]])
    assert isinstance(description, type(IDEAL))
    whole = program(weight, description, tile=(12, 10))
    broken = program(weight, description, tile=(12, 10), dead=dead)
    alive = ~np.repeat(np.repeat(dead, 12, axis=0)[:20], 10, axis=1)
    np.testing.assert_array_equal(broken.weight, whole.weight * alive)
    assert broken.weight.dtype == whole.weight.dtype
    assert (broken.row_energy < whole.row_energy).all()
    none = program(weight, description, tile=(12, 10), dead=np.ones((2, 3), bool))
    assert not none.weight.any() and not none.row_energy.any()
    diagonal = program(weight, description, tile=(12, 10), dead=dead, diagonal=True)
    assert (diagonal.row_energy[~alive] == 0.0).all() and (diagonal.row_energy[alive] > 0.0).all()


def test_bent_cells_cost_more_and_read_the_same() -> None:
    """I = G sinh(a U) / a at one voltage is a common factor, which the mirrors' ratio takes out."""
    weight = random_weights(12, 12)
    straight, bent = program(weight, IDEAL), program(weight, cells(nonlinearity=5.0))
    np.testing.assert_array_equal(straight.weight, bent.weight)
    factor = math.sinh(0.5) / 0.5
    np.testing.assert_allclose(bent.row_energy, straight.row_energy * factor, rtol=1e-12)


def test_refused_combinations_name_the_key() -> None:
    ideal = load_chip("ideal")
    with pytest.raises(ValueError, match=r"crossbar.nonlinearity: expected 0 1/V with wires"):
        with_values(ideal, {"crossbar.nonlinearity": 1.0, "crossbar.wire_resistance": 1.0})
    with pytest.raises(ValueError, match="wire_resistance: expected 0 .off. or at least 0.001 ohm"):
        with_values(ideal, {"crossbar.wire_resistance": 1e-6})
    with pytest.raises(ValueError, match="drift_exponent: expected a value from 0 to 1, got 2"):
        with_values(ideal, {"crossbar.drift_exponent": 2.0})
