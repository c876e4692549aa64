"""The transfer matrix of a crossbar with wires: the nodal solution for every input pattern."""

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.devices.synapse_wires import solve_wires
from neurosim.devices.wire_transfer import transfer

wires = st.floats(-2, 3).map(lambda power: 10.0**power)


def cells(rows: int, columns: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(1e-6, 1e-4, (rows, columns))


@examples(60)
@given(
    rows=st.integers(1, 14),
    columns=st.integers(1, 14),
    row_wire=wires,
    column_wire=wires,
    seed=st.integers(0, 1000),
)
def test_equals_the_nodal_solution_for_random_patterns(
    rows: int, columns: int, row_wire: float, column_wire: float, seed: int
) -> None:
    g = cells(rows, columns, seed)
    volts = np.random.default_rng(seed + 1).uniform(-0.3, 0.3, (4, rows))
    found = transfer(g, row_wire, column_wire)
    nodal = solve_wires(g, volts, row_wire, column_wire)
    size = np.abs(nodal.columns).max()
    np.testing.assert_allclose(volts @ found.current, nodal.columns, rtol=1e-9, atol=1e-11 * size)
    alone = solve_wires(g, np.eye(rows), row_wire, column_wire)  # 1 V on one row after the other
    np.testing.assert_allclose(found.admittance, alone.delivered, rtol=1e-7)


def test_pairs_are_differences_of_their_columns() -> None:
    g = cells(9, 12)
    both, pairs = transfer(g, 3.0), transfer(g, 3.0, differential=True)
    np.testing.assert_allclose(
        pairs.current, both.current[:, 0::2] - both.current[:, 1::2], rtol=1e-9, atol=1e-16
    )
    np.testing.assert_allclose(pairs.admittance, both.admittance, rtol=1e-12)


def test_without_resistance_it_is_the_conductance() -> None:
    g = cells(20, 10)
    found = transfer(g, 1e-3)
    np.testing.assert_allclose(found.current, g, rtol=1e-4)
    np.testing.assert_allclose(found.admittance, g.sum(axis=1), rtol=1e-4)
    one = transfer([[1e-4]], 1e3, 500.0)
    assert one.current[0, 0] == pytest.approx(1 / (1e4 + 1.5e3), rel=1e-14)  # three in series


def test_wires_only_take_away() -> None:
    """More resistance, less current; the far cell of both wires loses most."""
    g = np.full((30, 30), 5e-5)
    light, heavy = transfer(g, 1.0), transfer(g, 10.0)
    assert (heavy.current < light.current).all() and (light.current < g).all()
    assert (heavy.admittance < light.admittance).all()
    loss = 1.0 - light.current / g
    assert loss.argmax() == 29  # top row, last column: longest way in and longest way out
    assert loss.argmin() == 29 * 30


@pytest.mark.parametrize("shape", [(1, 1), (13, 7), (7, 40), (64, 64), (48, 96)])
@pytest.mark.parametrize("ohms", [(2.5, 2.5), (1.0, 20.0)])
def test_equals_badcrossbar(shape: tuple[int, int], ohms: tuple[float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        badcrossbar = pytest.importorskip("badcrossbar")
    if not hasattr(badcrossbar, "compute"):
        pytest.skip("badcrossbar is installed without its solver")
    g = cells(*shape)
    volts = np.random.default_rng(8).uniform(-0.3, 0.3, (3, shape[0]))
    peer = badcrossbar.compute(volts.T, 1.0 / g, r_i_word_line=ohms[0], r_i_bit_line=ohms[1])
    found = volts @ transfer(g, *ohms).current
    size = np.abs(found).max()
    np.testing.assert_allclose(found, peer.currents.output, rtol=1e-6, atol=1e-9 * size)


def test_the_nodal_solution_falls_back_where_wires_hardly_conduct() -> None:
    """Wires of 1e9 ohm at cells of 10 kohm: conjugate gradients do not settle, the LU does."""
    g = cells(100, 100)
    volts = np.random.default_rng(2).uniform(0.0, 0.3, 100)
    nodal = solve_wires(g, volts, 1e9).columns[0]
    found = volts @ transfer(g, 1e9).current
    np.testing.assert_allclose(found, nodal, rtol=1e-6, atol=1e-9 * nodal.max())


def test_dead_cells_and_empty_arrays() -> None:
    g = cells(6, 4)
    g[2] = 0.0
    found = transfer(g, 2.0)
    assert (found.current[2] == 0.0).all() and found.admittance[2] == pytest.approx(0.0, abs=1e-15)
    assert transfer(np.zeros((0, 4)), 1.0).current.shape == (0, 4)


def test_bad_arrays() -> None:
    for bad in (np.ones(3), -np.ones((2, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="conductances >= 0"):
            transfer(bad, 1.0)
    with pytest.raises(ValueError, match="even number of columns for pairs, got 3"):
        transfer(np.ones((2, 3)), 1.0, differential=True)
    for wire in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="wire resistances > 0"):
            transfer(np.ones((2, 2)), wire)
