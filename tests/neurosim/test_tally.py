"""Counting a window's spikes."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.events.recorder import Ledger
from neurosim.events.tally import Tally


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_counts_are_sums(size: int, density: float) -> None:
    """Every count against the definition, int8's largest size included."""
    rng = np.random.default_rng(size)
    spikes = (rng.integers(-128, 128, size) * (rng.random(size) < density)).astype(np.int8)
    hops = rng.integers(0, 1 << 20, size)
    sizes = np.abs(spikes.astype(np.int64))
    tally = Tally(np.full(size, np.nan))
    assert tally.count(spikes, hops, once=False) == int(sizes @ hops)
    assert tally.count(spikes, hops, once=True) == int((sizes > 0) @ hops)
    assert (tally.total, tally.active) == (int(sizes.sum()), np.count_nonzero(spikes))
    np.testing.assert_array_equal(tally.sizes, sizes)
    fan_out = rng.integers(0, 1 << 20, size)
    assert tally.weighted(fan_out.astype(np.float64)) == int(sizes @ fan_out)  # exact below 2^53


def test_a_ledger_multiplies_what_each_token_costs() -> None:
    ledger = Ledger({"a": {"state_reads": 3, "shifts": 0}, "b": {"hops": 1}})
    ledger.tokens = 5
    ledger.count("a", state_reads=np.int64(2), additions=7)
    ledger.burn("c", {"leak": 1.5})
    frozen = ledger.freeze()
    assert frozen.counts == {
        "a": {"state_reads": 17, "shifts": 0, "additions": 7},
        "b": {"hops": 5},
    }
    assert all(type(n) is int for counts in frozen.counts.values() for n in counts.values())
    assert frozen.joules == {"c": {"leak": 1.5}} and frozen.tokens == 5
