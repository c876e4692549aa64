"""Programmed crossbars: exactness, each non-ideality by its statistics, energy, conversion."""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurosim.chip import ProgrammedCrossbar, crossbar_key, load_chip
from neurosim.chip.sections import CrossbarCells, Curve

IDEAL = load_chip("ideal").crossbar
REAL = load_chip("ag_v2c_w").crossbar
Weights = npt.NDArray[np.integer[Any]]


def cells(base: CrossbarCells = IDEAL, **values: Any) -> CrossbarCells:
    """A description with some numbers replaced."""
    changes: dict[str, Any] = {
        key: value
        if isinstance(value, Curve)
        else dataclasses.replace(getattr(base, key), value=float(value))
        for key, value in values.items()
    }
    return dataclasses.replace(base, **changes)


def program(weight: Weights, description: CrossbarCells, **options: Any) -> ProgrammedCrossbar:
    return ProgrammedCrossbar.program(weight, description, crossbar_key(5, 0), **options)


def random_weights(rows: int, columns: int) -> Weights:
    return np.random.default_rng(0).integers(-127, 128, (rows, columns)).astype(np.int8)


int8_weights = arrays.arrays(
    np.int8,
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    elements=st.integers(-127, 127),
)


@given(weight=int8_weights)
def test_ideal_cells_keep_the_integers(weight: Weights) -> None:
    programmed = program(weight, IDEAL)
    assert programmed.weight.dtype == np.int8 and programmed.exact
    np.testing.assert_array_equal(programmed.weight, weight)
    pulse = IDEAL.read_voltage.value**2 * IDEAL.pulse_width.value
    scale = (IDEAL.g_max.value - IDEAL.g_min.value) / max(np.abs(weight.astype(int)).max(), 1)
    conductance = 2 * IDEAL.g_min.value * weight.shape[1] + scale * np.abs(
        weight.astype(float)
    ).sum(axis=1)
    np.testing.assert_allclose(programmed.row_energy, pulse * conductance, rtol=1e-12)
    cellwise = program(weight, IDEAL, diagonal=True).row_energy
    np.testing.assert_allclose(cellwise.sum(axis=1), programmed.row_energy, rtol=1e-12)


def test_wide_weights_stay_integers() -> None:
    weight = np.array([[300, -5], [0, 2]], dtype=np.int64)
    assert program(weight, IDEAL).weight.dtype == np.int32


@given(weight=int8_weights, levels=st.integers(2, 300))
def test_finite_levels_round_each_cell(weight: Weights, levels: int) -> None:
    programmed = program(weight, cells(conductance_levels=levels))
    largest = max(np.abs(weight.astype(int)).max(), 1)
    step = largest / (levels - 1)
    position = programmed.weight.astype(float) / step
    np.testing.assert_allclose(position, np.rint(position), atol=1e-3)
    assert np.abs(programmed.weight - weight).max() <= step / 2 + 1e-3


def test_programming_error_has_the_curve_as_its_deviation() -> None:
    """sigma(G) / g_max = 0.01 + 0.02 G / g_max, checked for the largest and the zero weight."""
    line = Curve((0.01, 0.02), "1", "test", "measured")
    weight = np.zeros((200, 200), dtype=np.int8)
    weight[:100] = 100
    programmed = program(weight, cells(programming_error=1.0, programming_curve=line))
    error = programmed.weight - weight
    low, high = IDEAL.g_min.value, IDEAL.g_max.value
    unit = 100.0 / (high - low) * high  # weight units of one g_max
    small = 0.01 + 0.02 * low / high
    for part, deviation in (
        (error[:100], math.hypot(0.03, small) * unit),
        (error[100:], math.sqrt(2) * small * unit),
    ):
        assert abs(part.mean()) < 4 * deviation / math.sqrt(part.size)
        assert part.std() == pytest.approx(deviation, rel=4 / math.sqrt(2 * part.size) + 0.01)


def test_programming_error_scales_and_switches_off() -> None:
    weight = random_weights(64, 64)
    errors = [
        np.std(program(weight, cells(REAL, programming_error=e)).weight - weight)
        for e in (0.0, 1.0, 2.0)
    ]
    rounding = 127 / 63 / math.sqrt(12)
    assert errors[0] == pytest.approx(rounding, rel=0.1)
    assert errors[2] == pytest.approx(2 * errors[1], rel=0.1)


def test_conductance_is_never_negative() -> None:
    huge = cells(REAL, programming_error=50.0)
    assert program(random_weights(50, 50), huge).row_energy.min() > 0.0


def test_stuck_cells_in_their_shares() -> None:
    weight = np.full((300, 300), 60, dtype=np.int8)
    weight[0, 0] = 127
    error = program(weight, cells(stuck_low=0.1, stuck_high=0.2)).weight[1:]
    shares = {
        value: float(np.isclose(error, value, atol=1e-3).mean())
        for value in (60.0, 0.0, 127.0, -127.0 + 60.0, -127.0)
    }
    expected = {  # (positive cell, negative cell): fine, low or high
        60.0: 0.7 * 0.8,  # a negative cell stuck low is where it should be
        0.0: 0.1 * 0.8 + 0.2 * 0.2,
        127.0: 0.2 * 0.8,
        -67.0: 0.7 * 0.2,
        -127.0: 0.1 * 0.2,
    }
    assert sum(shares.values()) == pytest.approx(1.0)
    for value, share in expected.items():
        error_bar = 4 * math.sqrt(share * (1 - share) / error.size)
        assert abs(shares[value] - share) < error_bar, value


def test_programming_is_reproducible() -> None:
    weight = random_weights(30, 40)
    first, second = program(weight, REAL), program(weight, REAL)
    np.testing.assert_array_equal(first.weight, second.weight)
    assert first.noise_key == second.noise_key


def test_read_noise_statistics_and_keys() -> None:
    programmed = program(random_weights(10, 5000), cells(read_noise=0.01))
    sums = np.arange(5000).astype(np.float32)
    read = programmed.read(sums, pulses=9, window_index=3, converted=False)
    noise = (read - sums).astype(float)
    sigma = 0.01 * 127 * 3
    assert noise.std() == pytest.approx(sigma, rel=0.05)
    assert abs(noise.mean()) < 4 * sigma / math.sqrt(5000)
    np.testing.assert_array_equal(read, programmed.read(sums, 9, 3, False))
    assert (read != programmed.read(sums, 9, 4, False)).mean() > 0.99
    assert not np.array_equal(sums, read) and sums[7] == 7.0  # the argument is untouched
    other = (programmed.read(sums, 9, 4, False) - sums).astype(float)
    for lag in (0, 1, 4, 9):  # no draw of a window comes back in another column of the next
        assert abs(np.corrcoef(noise[lag:], other[: 5000 - lag])[0, 1]) < 0.06
    np.testing.assert_array_equal(programmed.read(sums, 0, 3, False), sums)
    some = np.where(np.arange(5000) < 100, 9, 0)  # a diagonal crossbar: each column its own pulses
    diagonal = programmed.read(sums, some, 3, False)
    np.testing.assert_array_equal(diagonal[:100], read[:100])
    np.testing.assert_array_equal(diagonal[100:], sums[100:])


def test_ideal_reading_returns_the_sums() -> None:
    sums = np.array([3, -70000, 0], dtype=np.int32)
    programmed = program(random_weights(4, 3), IDEAL)
    assert programmed.read(sums, 5, 0, False) is sums
    converted = programmed.read(sums, 5, 0, True)
    assert converted.dtype == np.int64
    np.testing.assert_array_equal(converted, sums)


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_conversion_rounds_to_a_power_of_two_and_clips(bits: int) -> None:
    programmed = program(random_weights(256, 64), IDEAL, adc_bits=bits)
    step, codes = programmed.adc_step, programmed.adc_codes
    assert codes == 2 ** (bits - 1) and step & (step - 1) == 0
    sums = np.linspace(-2.0 * codes * step, 2.0 * codes * step, 999)
    found = programmed.convert(sums)
    assert (found % step == 0).all()
    assert (found.min(), found.max()) == (-codes * step, (codes - 1) * step)
    inside = (sums > -codes * step) & (sums < (codes - 1) * step)
    assert np.abs(found - sums)[inside].max() <= step / 2
    spread = math.sqrt(float((random_weights(256, 64).astype(float) ** 2).sum(axis=0).max()))
    assert codes * step >= 8 * spread


def test_columns_scaled_by_themselves() -> None:
    """`scaling = "column"`: each column as a crossbar of its own, down to noise and converter."""
    weight = random_weights(60, 5)
    weight[:, 1] //= 16
    weight[:, 3] = 0
    own = dataclasses.replace(REAL, scaling="column")
    found = program(weight, own, adc_bits=6)
    for column in (0, 1, 2, 4):
        largest = np.abs(weight[:, column].astype(int)).max()
        error = found.weight[:, column] - weight[:, column]
        assert 0.01 * largest < error.std() < 0.2 * largest
        alone = program(weight[:, [column]], REAL, adc_bits=6)
        assert found.read_noise_sigma[column] == alone.read_noise_sigma  # type: ignore[index]
        assert found.adc_step[column] == alone.adc_step  # type: ignore[index]
    assert found.weight.dtype == np.float32 and (np.abs(found.weight[:, 3]) < 1.0).all()
    sums = found.weight.sum(axis=0)
    converted = found.read(sums, 0, 0, True)
    assert (converted % found.adc_step == 0).all()
    clean = dataclasses.replace(IDEAL, scaling="column")
    exact = program(weight, clean)
    np.testing.assert_array_equal(exact.weight, weight)
    assert (exact.row_energy > program(weight, IDEAL).row_energy).all()  # more conductance
    cut = program(weight, own, tile=(7, 2))
    np.testing.assert_array_equal(cut.weight, found.weight)


def test_bad_weights() -> None:
    with pytest.raises(ValueError, match="integer weights"):
        program(np.zeros((2, 2)), IDEAL)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="integer weights"):
        program(np.zeros(3, dtype=np.int8), IDEAL)


def test_empty_crossbar() -> None:
    programmed = program(np.zeros((0, 4), dtype=np.int8), REAL, adc_bits=8)
    assert programmed.weight.shape == (0, 4) and programmed.row_energy.shape == (0,)
