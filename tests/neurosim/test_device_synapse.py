"""Crossbar cells and wires (device.md 3.12); badcrossbar is the referee where it is installed."""

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import kstest

from neurosim.devices import Population, Stimulus, load_device
from neurosim.devices.synapse import (
    ConductanceRange,
    Faults,
    Pair,
    Variation,
    cell_current,
    column_currents,
    column_load,
    drifted,
    pulse_energy,
    read_noisy,
    read_weights,
    to_pair,
    with_faults,
)
from neurosim.devices.synapse_wires import solve_wires

CELLS = ConductanceRange(1e-6, 1e-4)
Array = npt.NDArray[np.float64]


def matrix(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(CELLS.low, CELLS.high, (rows, columns))


@pytest.mark.parametrize("shape", [(1, 1), (63, 5), (123, 64)])
def test_a_pair_is_its_weights(shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(1).normal(size=shape)
    pair = to_pair(weight, CELLS)
    np.testing.assert_allclose(pair.weight, weight, atol=1e-14)
    assert min(pair.plus.min(), pair.minus.min()) >= CELLS.low
    assert max(pair.plus.max(), pair.minus.max()) == pytest.approx(CELLS.high)
    assert np.minimum(pair.plus, pair.minus) == pytest.approx(CELLS.low)  # one side idles
    zero = to_pair(np.zeros(shape), CELLS)
    assert (zero.weight == 0.0).all()
    larger = to_pair(weight, CELLS, largest=10.0)
    np.testing.assert_allclose(larger.weight, weight, atol=1e-13)


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_levels_round_to_the_nearest(levels: int) -> None:
    cells = ConductanceRange(CELLS.low, CELLS.high, levels)
    target = matrix(40, 30)
    held = cells.to_levels(target)
    assert np.unique(held).size <= levels
    step = cells.span / (levels - 1)
    assert np.abs(held - target).max() <= 0.5 * step * (1 + 1e-12)
    np.testing.assert_allclose(cells.to_levels(held), held, rtol=1e-15)
    assert cells.to_levels([0.0, 1.0]).tolist() == pytest.approx([cells.low, cells.high])


def test_programming_error_has_the_stated_size() -> None:
    rng = np.random.default_rng(2)
    target = np.full((300, 300), 5e-5)
    gaussian = Variation((0.02, 0.04)).program(target, CELLS, rng)  # 2 % + 4 % G/G_high
    assert gaussian.mean() == pytest.approx(5e-5, rel=1e-3)
    assert gaussian.std() == pytest.approx(0.04 * CELLS.high, rel=0.01)
    lognormal = Variation((0.3,), shape="lognormal").program(target, CELLS, rng)
    assert lognormal.mean() == pytest.approx(5e-5, rel=5e-3)
    assert np.log(lognormal).std() == pytest.approx(0.3, rel=0.01)
    assert kstest((np.log(lognormal / 5e-5) + 0.045).ravel() / 0.3, "norm").pvalue > 1e-3
    assert Variation((0.9,)).program(target, CELLS, rng).min() == 0.0  # never negative
    exact = Variation().program(target, CELLS, rng)
    np.testing.assert_array_equal(exact, target)


def test_device_spread_stays_and_cycle_spread_does_not() -> None:
    rng = np.random.default_rng(3)
    target = np.full((200, 200), 5e-5)
    law = Variation((0.01,), device=0.1)
    factors = law.device_factors(target.shape, rng)
    assert factors.mean() == pytest.approx(1.0, rel=2e-3)
    first, second = (law.program(target, CELLS, rng, factors) for _ in range(2))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9
    assert (first - second).std() == pytest.approx(math.sqrt(2) * 0.01 * CELLS.high, rel=0.03)


def test_faults_read_noise_and_drift() -> None:
    rng = np.random.default_rng(4)
    good = matrix(300, 300)
    faults = Faults(0.1, 0.03).draw(good.shape, rng)
    assert (faults == -1).mean() == pytest.approx(0.1, abs=0.005)
    assert (faults == 1).mean() == pytest.approx(0.03, abs=0.003)
    held = with_faults(good, faults, CELLS)
    assert (held[faults == -1] == CELLS.low).all() and (held[faults == 1] == CELLS.high).all()
    np.testing.assert_array_equal(held[faults == 0], good[faults == 0])
    noisy = read_noisy(good, 0.05, rng)
    assert (noisy / good - 1).std() == pytest.approx(0.05, rel=0.01)
    np.testing.assert_allclose(drifted(good, 1e3, 0.05), good * 1e3**-0.05)
    np.testing.assert_array_equal(drifted(good, 0.5, 0.05), good)
    each = drifted(good, 1e3, rng.uniform(0.0, 0.1, good.shape))
    assert (each <= good).all() and (each >= good * 1e3**-0.1).all()


@pytest.mark.parametrize("bend", [0.0, 3.0])
def test_columns_read_weights_and_pulses_cost(bend: float) -> None:
    weight = np.random.default_rng(5).integers(-3, 4, (17, 9)).astype(float)
    pair = to_pair(weight, CELLS)
    spikes = np.random.default_rng(6).integers(0, 2, (4, 17)).astype(float)
    sums = read_weights(pair, 0.2 * spikes, 0.2, bend)
    np.testing.assert_allclose(sums, spikes @ weight, atol=1e-12)  # binary inputs: no distortion
    g = float(pair.plus[0, 0])
    current = float(cell_current(g, 0.2, bend))
    assert current == pytest.approx(g * (math.sinh(0.6) / 3.0 if bend else 0.2))
    assert float(pulse_energy(g, 0.2, 1e-8, bend)) == pytest.approx(0.2 * current * 1e-8)
    half = column_currents(pair.plus, 0.1 * spikes, bend)
    full = column_currents(pair.plus, 0.2 * spikes, bend)
    assert (half <= full * (0.5 + 1e-12)).all()


def test_column_load_drives_a_membrane() -> None:
    """Voltage summing: idle rows at low Z load the node and slow it (device.md 3.12)."""
    g = matrix(6, 3, 7) * 0.05
    volts = np.array([0.8, 0.8, 0.8, 0.0, 0.0, 0.0])
    spikes = []
    for low_z in (np.ones(6), (volts > 0).astype(float)):
        total, first, second = column_load(g, volts, low_z)
        np.testing.assert_allclose(first, volts @ g)
        np.testing.assert_allclose(second, volts**2 @ g)
        stimulus = Stimulus(
            np.array([2e-3]), np.zeros((1, 1)), total[:, None], first[:, None], second[:, None]
        )
        run = Population(load_device("demo").switch(), 3).run(stimulus)
        assert run.imbalance().max() < 1e-10
        spikes.append(run.spikes)
    assert (spikes[1] > spikes[0]).all()


def test_wires_without_resistance_are_ideal() -> None:
    g, volts = matrix(20, 11), np.linspace(-0.2, 0.3, 20)
    found = solve_wires(g, volts, 1e-9)
    np.testing.assert_allclose(found.columns[0], volts @ g, rtol=1e-8)
    one = solve_wires(np.array([[1e-4]]), [0.5], 1e3)
    assert one.columns[0, 0] == pytest.approx(0.5 / (1e4 + 2e3), rel=1e-13)  # three in series


@examples(50)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    wire=st.floats(-3, 3).map(lambda p: 10.0**p),
    ratio=st.floats(0.1, 10.0),
    bend=st.sampled_from([0.0, 2.0, 8.0]),
    seed=st.integers(0, 1000),
)
def test_wires_conserve_energy_and_charge(
    rows: int, columns: int, wire: float, ratio: float, bend: float, seed: int
) -> None:
    g = matrix(rows, columns, seed)
    volts = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, rows))
    found = solve_wires(g, volts, wire, wire * ratio, bend)
    size = np.abs(found.cells) + np.abs(found.wires)
    assert (np.abs(found.delivered - found.cells - found.wires) <= 1e-9 * size).all()
    entering = (volts - found.word[:, :, 0]).sum(axis=1) / wire
    drop = np.abs(found.word[:, :, 0] - volts).max()
    assert found.columns.sum(axis=1) == pytest.approx(
        entering, rel=1e-6, abs=1e-12 * np.abs(volts).max() * rows / wire + 1e-12 * drop / wire
    )
    assert np.abs(found.word).max() <= np.abs(volts).max() * (1 + 1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (13, 7), (7, 40), (64, 64)])
@pytest.mark.parametrize("wires", [(2.5, 2.5), (1.0, 20.0)])
def test_wires_equal_badcrossbar(shape: tuple[int, int], wires: tuple[float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        badcrossbar = pytest.importorskip("badcrossbar")
    if not hasattr(badcrossbar, "compute"):
        pytest.skip("badcrossbar is installed without its solver")
    g = matrix(*shape)
    volts = np.random.default_rng(8).uniform(-0.3, 0.3, (3, shape[0]))
    found = solve_wires(g, volts, *wires)
    peer = badcrossbar.compute(volts.T, 1.0 / g, r_i_word_line=wires[0], r_i_bit_line=wires[1])
    np.testing.assert_allclose(
        found.columns, peer.currents.output, rtol=1e-10, atol=1e-12 * np.abs(found.columns).max()
    )
    word = np.moveaxis(np.asarray(peer.voltages.word_line).reshape(*shape, -1), -1, 0)
    np.testing.assert_allclose(found.word, word, atol=1e-12)


def test_bent_cells_solve_their_own_equation() -> None:
    """Kirchhoff at every node with I = G sinh(a V)/a; for a -> 0 the linear solution."""
    g, volts = matrix(9, 6), np.full(9, 0.6)
    linear = solve_wires(g, volts, 50.0)
    nearly = solve_wires(g, volts, 50.0, bend=1e-4)
    np.testing.assert_allclose(nearly.columns, linear.columns, rtol=1e-8)
    bent = solve_wires(g, volts, 50.0, bend=6.0)
    across = bent.word - bent.bit
    current = cell_current(g, across, 6.0)[0]
    down = np.cumsum(current, axis=0)  # the bit line carries all cells above
    drop = np.diff(bent.bit[0], axis=0) / -50.0
    np.testing.assert_allclose(drop, down[:-1], rtol=1e-9)
    np.testing.assert_allclose(bent.columns[0], down[-1], rtol=1e-9)
    assert bent.columns.sum() > linear.columns.sum()


def test_bad_cells() -> None:
    with pytest.raises(ValueError, match="low < high"):
        ConductanceRange(1e-4, 1e-6)
    with pytest.raises(ValueError, match="levels 0"):
        ConductanceRange(1e-6, 1e-4, 1)
    with pytest.raises(ValueError, match=r"weights \(I, O\)"):
        to_pair([1.0, 2.0], CELLS)
    with pytest.raises(ValueError, match="two matrices"):
        Pair(np.ones((2, 2)), np.ones((2, 3)), 1.0)
    with pytest.raises(ValueError, match="at most 1"):
        Faults(0.7, 0.7)
    with pytest.raises(ValueError, match="column_currents"):
        solve_wires(matrix(2, 2), [0.1, 0.1], 0.0)
    with pytest.raises(ValueError, match=r"voltages \(P, 2\)"):
        solve_wires(matrix(2, 2), [0.1], 1.0)
    with pytest.raises(ValueError, match="sigma >= 0"):
        read_noisy(matrix(2, 2), -0.1, np.random.default_rng(0))
