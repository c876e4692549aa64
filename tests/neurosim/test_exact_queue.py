"""The ring of deliveries, sorting, and the segments of synapses."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.events.exact import build_wiring
from neurosim.events.exact.ring import LIVE, collect, in_order, new_ring, push, with_room
from neurosim.populations import LIF, NetworkBuilder

TIMES = st.floats(0.0, 30.0) | st.integers(0, 30).map(float)


@examples(100)
@given(times=st.lists(TIMES, max_size=80), buckets=st.integers(4, 9))
def test_ring_gives_everything_once_in_order(times: list[float], buckets: int) -> None:
    """Pushed while time goes on, many beyond the horizon: sorted by time, then segment."""
    heads, links, waiting, segments, pool = new_ring(buckets)
    width, found = 0.7, []
    arrivals = sorted((time * 0.6, time, m) for m, time in enumerate(times))
    for bucket in range(60):
        while arrivals and arrivals[0][0] < bucket * width:
            _, time, m = arrivals.pop(0)
            links, waiting, segments = with_room(links, waiting, segments, pool, 1)
            push(heads, links, waiting, segments, pool, bucket, width, time, m)
        due, names = collect(heads, links, waiting, segments, pool, bucket, width)
        assert all(time / width < bucket + 1 for time in due)
        found.append(list(zip(due.tolist(), names.tolist(), strict=True)))
    assert pool[LIVE] == 0
    for items in found:
        assert items == sorted(items)
    together = [item for items in found for item in items]
    assert sorted(together) == sorted((time, m) for m, time in enumerate(times))


@examples(100)
@given(
    items=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50)), max_size=300),
    backwards=st.booleans(),
)
def test_in_order(items: list[tuple[int, int]], backwards: bool) -> None:
    """Both sorts: by insertion where nearly sorted, by comparison where not."""
    given_items = sorted(items, reverse=True) if backwards else items
    times = np.array([float(time) for time, _ in given_items])
    numbers = np.array([number for _, number in given_items], dtype=np.int64)
    found = in_order(times, numbers)
    pairs = list(zip(found[0].tolist(), found[1].tolist(), strict=True))
    assert pairs == sorted((float(time), number) for time, number in items)


@examples(50)
@given(seed=st.integers(0, 2**32 - 1), one_weight=st.booleans(), one_delay=st.booleans())
def test_segments_hold_every_synapse(seed: int, one_weight: bool, one_delay: bool) -> None:
    """Weights per (source, target, delay) sum to those given; events count repeated ones."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder()
    a, b = build.population("a", 4, LIF()), build.population("b", 3, LIF())
    wanted: dict[tuple[int, int, float], float] = {}
    for giver, target, low in ((a, b, (0, 4)), (b, a, (4, 0)), (a, a, (0, 0))):
        pre, post = rng.integers(0, giver.size, 20), rng.integers(0, target.size, 20)
        weight = 1.5 if one_weight else rng.normal(size=20)
        delay = 1e-3 if one_delay else rng.choice([1e-3, 2e-3, 3e-3], 20)
        build.connect(giver, target, weight=weight, delay=delay, pairs=(pre, post))
        for i, j, w, d in zip(
            pre, post, np.broadcast_to(weight, 20), np.broadcast_to(delay, 20), strict=True
        ):
            key = (int(i) + low[0], int(j) + low[1], float(d))
            wanted[key] = wanted.get(key, 0.0) + float(w)
    wires = build_wiring(build.network(), lambda projection: 0)
    found: dict[tuple[int, int, float], float] = {}
    for n in range(7):
        for m in range(wires.first[n], wires.first[n + 1]):
            for j in range(wires.begin[m], wires.begin[m + 1]):
                key = (n, int(wires.targets[j]), float(wires.delay[m]))
                assert key not in found
                found[key] = float(wires.weights[j if wires.step else m])
    assert wires.events.sum() == 60
    assert found.keys() == wanted.keys()
    assert all(abs(found[key] - wanted[key]) < 1e-12 for key in wanted)
