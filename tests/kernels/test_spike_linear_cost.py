"""The cost model of spike linear: what it counts, what it fits, what it chooses."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from test_spike_linear_packed import some_counts

from neurosim.kernels import PackedWeight, pack
from neurosim.kernels.spike_linear._cost import (
    ALGORITHMS,
    MEASURED,
    Costs,
    Work,
    _solve,
    calibrate,
    cannot,
    cheapest,
)


@pytest.mark.parametrize(("levels", "signed"), [(1, False), (1, True), (5, False), (16, True)])
def test_work_is_counted_in_the_bits(levels: int, signed: bool) -> None:
    rng = np.random.default_rng(levels)
    for rows, inputs in ((8, 100), (7, 65), (0, 3)):
        counts = some_counts(rng, (rows, inputs), 0.3, levels, signed)
        weight = PackedWeight.pack(np.ones((inputs, 130)))
        work = Work.of(pack(counts, levels, signed), weight)
        binary = levels == 1 and not signed and rows % 4 == 0
        union = counts.reshape(-1, 4, inputs).any(axis=1).sum() if binary else 0
        assert (work.active, work.union) == (np.count_nonzero(counts), union)
        assert (work.rows, work.inputs, work.outputs, work.panels) == (rows, inputs, 192, 3)
        assert work.classes == levels * (1 + signed)
        assert work.planes == levels.bit_length() * (1 + signed)
        known = Work.of(pack(counts, levels, signed), weight, active=work.active)
        assert known == replace(work, union=0)


def test_times_are_what_the_costs_say() -> None:
    work = Work(rows=8, inputs=100, outputs=128, panels=2, active=50, union=30, planes=3)
    times = work.times(Costs(*(10.0**-power for power in range(8))))
    assert times["gather"] == pytest.approx(8 * 2 * 1 + 50 * 128 * 0.1)
    assert times["lut"] == pytest.approx(3 * 100 * 128 * (1e-2 + 8 * 1e-3))
    assert times["pattern"] == pytest.approx(2 * 2 * 1e-4 + 30 * 128 * 1e-5)
    assert times["dense"] == pytest.approx(100 * 128 * (1e-6 + 8 * 1e-7))


def test_listing_counts_where_outputs_are_few() -> None:
    """Measured: pattern 36 us, lut 22; of four rows gather 12 us, pattern 19."""
    work = Work(rows=8, inputs=100, outputs=128, panels=2, active=50, union=30)
    listing = [work.listing(algo) for algo in ALGORITHMS]
    assert listing == [pytest.approx(25), 0, pytest.approx(8030), 0]
    rng = np.random.default_rng(0)
    narrow = PackedWeight.pack(rng.integers(-8, 8, (2048, 64)), 4)
    assert cheapest(pack(rng.random((16, 2048)) < 0.5), narrow) == "lut"
    assert (
        cheapest(pack(rng.random((4, 512)) < 0.5), PackedWeight.pack(narrow.unpack()[:512], 4))
        == "gather"
    )


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_choices(bits: int) -> None:
    """Sparse rows by lists, many dense rows by tables, four rows that repeat by patterns."""
    rng = np.random.default_rng(bits)
    weight = PackedWeight.pack(rng.integers(-8, 8, (512, 512)), bits)
    assert cheapest(pack(rng.random((1024, 512)) < 0.02), weight) == "gather"
    assert cheapest(pack(rng.random((1024, 512)) < 0.5), weight) == "lut"
    assert cheapest(pack(rng.random((1024, 512)) < 0.5), weight, ("gather",)) == "gather"
    large = PackedWeight.pack(rng.integers(-8, 8, (2048, 2048)), bits)
    repeated = np.repeat(rng.random((1, 2048)) < 0.4, 4, axis=0)
    assert cheapest(pack(repeated), large) == "pattern"
    assert cheapest(pack(repeated[:3]), large) != "pattern"


def test_choices_from_a_known_number_of_spikes() -> None:
    """The bits are not counted again: only what is given decides."""
    rng = np.random.default_rng(0)
    weight = PackedWeight.pack(rng.integers(-8, 8, (512, 512)), 8)
    few, many = (pack(rng.random((1024, 512)) < density) for density in (0.02, 0.5))
    among = ("gather", "lut")
    assert cheapest(few, weight, among, few.count) == cheapest(few, weight, among) == "gather"
    assert cheapest(few, weight, among, many.count) == "lut"
    assert cheapest(many, weight, among, few.count) == "gather"


def test_what_cannot_run() -> None:
    assert cannot("pattern", 4, 1) is None and cannot("lut", 3, 9) is None
    assert "groups of 4" in str(cannot("pattern", 6, 1))
    assert "binary" in str(cannot("pattern", 8, 2))


def test_fit() -> None:
    exact = [(1.0, 100.0, 205.0), (3.0, 10.0, 35.0), (2.0, 50.0, 110.0)]
    np.testing.assert_allclose(_solve(exact), (5, 2))
    one, two = _solve([(1.0, 1.0, 10.0), (1.0, 2.0, 9.0), (1.0, 3.0, 8.0)])  # falls with the second
    assert one == pytest.approx(8.9, abs=0.2) and two == 0


def test_calibrate_on_small_weights() -> None:
    found = calibrate(1e-5, (64, (4, 8)), (96, (4, 8)))
    assert found.keys() == MEASURED.keys()
    for costs in found.values():
        assert all(np.isfinite(value) and value >= 0 for value in astuple(costs))
        assert len(astuple(costs)) == 2 * len(ALGORITHMS)
