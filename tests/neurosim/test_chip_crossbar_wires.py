"""IR drop of programmed crossbars: exact for every spike pattern, tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from test_chip_crossbar import IDEAL, REAL, cells, program, random_weights

from neurosim.devices.synapse_wires import solve_wires

VOLTAGE, PULSE = IDEAL.read_voltage.value, IDEAL.pulse_width.value


def pair_conductance(weight: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Ideal G+ and G- in neighbouring columns, S, (I, 2 O)."""
    low, high = IDEAL.g_min.value, IDEAL.g_max.value
    scale = (high - low) / max(np.abs(weight.astype(int)).max(), 1)
    both = np.stack([np.maximum(weight, 0), np.maximum(-weight.astype(int), 0)], axis=2)
    return low + scale * both.reshape(len(weight), -1).astype(float)


@examples(40)
@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 12),
    wire=st.floats(-2, 2).map(lambda power: 10.0**power),
    seed=st.integers(0, 1000),
)
def test_sums_equal_the_nodal_solution_for_random_spikes(
    rows: int, columns: int, wire: float, seed: int
) -> None:
    weight = random_weights(rows, columns)
    spikes = np.random.default_rng(seed).integers(-4, 5, rows)
    found = spikes @ program(weight, cells(wire_resistance=wire)).weight
    nodal = solve_wires(pair_conductance(weight), spikes * VOLTAGE, wire).columns[0]
    scale = (IDEAL.g_max.value - IDEAL.g_min.value) / max(np.abs(weight.astype(int)).max(), 1)
    expected = (nodal[0::2] - nodal[1::2]) / (scale * VOLTAGE)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_pulse_costs_what_its_driver_delivers() -> None:
    weight = random_weights(15, 9)
    found = program(weight, cells(wire_resistance=5.0)).row_energy
    nodal = solve_wires(pair_conductance(weight), np.eye(15) * VOLTAGE, 5.0)
    np.testing.assert_allclose(found, nodal.delivered * PULSE, rtol=1e-5)
    np.testing.assert_allclose(nodal.delivered, nodal.cells + nodal.wires, rtol=1e-9)
    assert (found < program(weight, IDEAL).row_energy).all()


def test_each_tile_is_an_array_of_its_own() -> None:
    weight = random_weights(20, 14)
    weight[::12, ::10] = 127  # every block has the crossbar's largest weight, and so its scale
    whole = program(weight, cells(wire_resistance=5.0), tile=(12, 10))
    for top, left in ((0, 0), (0, 10), (12, 0), (12, 10)):
        block = weight[top : top + 12, left : left + 10].copy()
        alone = program(block, cells(wire_resistance=5.0))
        np.testing.assert_allclose(whole.weight[top : top + 12, left : left + 10], alone.weight)


def test_taps_of_a_delay_crossbar_are_arrays_of_one_pair() -> None:
    weight = random_weights(4, 6)
    found = program(weight, cells(wire_resistance=20.0), diagonal=True)
    g = pair_conductance(weight).reshape(4, 6, 2)
    scale = (IDEAL.g_max.value - IDEAL.g_min.value) / np.abs(weight.astype(int)).max()
    for channel in range(6):
        nodal = solve_wires(g[:, channel], np.eye(4) * VOLTAGE, 20.0)
        expected = (nodal.columns[:, 0] - nodal.columns[:, 1]) / (scale * VOLTAGE)
        np.testing.assert_allclose(found.weight[:, channel], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.row_energy[:, channel], nodal.delivered * PULSE, rtol=1e-5)


def test_wires_weaken_far_cells_and_add_to_the_other_faults() -> None:
    weight = np.full((40, 30), 100, dtype=np.int8)
    weight[0, 0] = 127
    quiet = program(weight, cells(wire_resistance=2.0)).weight[1:]
    assert (np.diff(quiet, axis=1) < 0.0).all()  # farther from the drivers
    assert (np.diff(quiet, axis=0) > 0.0).all()  # nearer to the grounds
    noisy = program(weight, cells(REAL, wire_resistance=2.0)).weight
    plain = program(weight, REAL).weight
    assert np.corrcoef((noisy / plain)[1:].ravel(), quiet.ravel())[0, 1] > 0.9


def test_a_dead_tile_with_wires_reads_zero() -> None:
    weight = random_weights(8, 8)
    dead = np.array([[True, False], [False, False]])
    found = program(weight, cells(wire_resistance=1.0), tile=(4, 4), dead=dead)
    assert not found.weight[:4, :4].any() and found.weight[4:, 4:].any()


def test_weak_wires_are_no_wires() -> None:
    weight = random_weights(30, 20)
    found = program(weight, cells(wire_resistance=1e-3))
    np.testing.assert_allclose(found.weight, weight, atol=0.02)
    np.testing.assert_allclose(found.row_energy, program(weight, IDEAL).row_energy, rtol=1e-4)
    with pytest.raises(AssertionError):
        far = program(weight, cells(wire_resistance=10.0)).weight
        np.testing.assert_allclose(far, weight, atol=0.02)
