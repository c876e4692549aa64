"""Counts at published neuromorphic constants: by hand, and refused where nothing is published."""

from __future__ import annotations

import pytest
from energy_cases import phase, tiny_network

from neurosim.energy import UnpricedError
from neurosim.energy.counts import PhaseCounts
from neurosim.energy.neuromorphic import (
    PROFILES,
    chips_needed,
    neuromorphic_token_energy,
    synaptic_energy,
)
from neurosim.energy.prices import load_prices
from neurosim.network import Crossbar, DelayCrossbar
from neurosim.quantity import Quantity


def test_one_token_by_hand() -> None:
    """A window of 4 levels is 4 steps; 7 windows of 4 steps of 289 ns at 104 mW, one chip."""
    network = tiny_network()
    counts = phase(network, tokens=3, spikes=2)
    found = neuromorphic_token_energy(network, counts, depth=7)
    sops = counts.total("synaptic_operations") / 3
    assert found.of("synapse") == pytest.approx(sops * 23.6e-12, rel=1e-12)
    spikes, updates = counts.total("neuron_spikes") / 3, 4 * counts.total("neuron_windows") / 3
    neuron = spikes * 81e-12 + (updates - spikes) * 52e-12
    assert found.of("neuron") == pytest.approx(neuron, rel=1e-12)
    routed = spikes * 1.7e-12 + counts.total("hops") / 3 * 3.5e-12
    assert found.of("routing") == pytest.approx(routed, rel=1e-12)
    seconds = 7 * 4 * 289e-9
    assert found.seconds_per_token == pytest.approx(seconds)
    assert found.of("static") == pytest.approx(seconds * 0.104, rel=1e-12)
    assert found.total == pytest.approx(sum(found.by_mechanism().values()), rel=1e-12)
    assert found.evidence == "assumed"


def test_prefill_overlaps_as_on_the_chip() -> None:
    network = tiny_network()
    counts = phase(network, tokens=4)
    decode = neuromorphic_token_energy(network, counts, 7)
    prefill = neuromorphic_token_energy(network, counts, 7, name="prefill")
    assert prefill.seconds_per_token == pytest.approx(decode.seconds_per_token * 10 / 28)


def test_a_core_makes_one_synaptic_operation_after_the_other() -> None:
    """Where a core's operations take longer than the steps of a window, the window waits."""
    network = tiny_network()
    counts = phase(network, tokens=3, spikes=2)
    prices = load_prices("loihi1")
    fast = neuromorphic_token_energy(network, counts, 7)
    slow = prices.joined({"synapse_time": Quantity(1.0, "s", "a test", "cited")})
    busiest: dict[str, float] = {}
    cores = 128 / 20  # 20 nodes of a core each
    for node in (*network.of(Crossbar), *network.of(DelayCrossbar)):
        own = counts.of(node.name, "synaptic_operations") / 3 / cores
        source = network.sources(node.name)[0]
        busiest[source] = max(busiest.get(source, 0.0), own)
    window = 4 * 289e-9
    late = [max(seconds - window, 0.0) for seconds in busiest.values()]
    decode = neuromorphic_token_energy(network, counts, 7, slow)
    assert decode.seconds_per_token == pytest.approx(7 * window + sum(late), rel=1e-9)
    assert decode.of("static") == pytest.approx(0.104 * decode.seconds_per_token, rel=1e-9)
    prefill = neuromorphic_token_energy(network, counts, 7, slow, "prefill")
    whole = 7 * window + sum(late) + 2 * (window + max(late))  # the first token fills the pipeline
    assert prefill.seconds_per_token == pytest.approx(whole / 3, rel=1e-9)
    many = neuromorphic_token_energy(network, counts, 7, slow, streams=100)
    slowest = max(decode.seconds_per_token / 7, window + max(late))
    assert many.seconds_per_token == pytest.approx(slowest, rel=1e-9)
    assert fast.seconds_per_token < decode.seconds_per_token


def test_hops_between_chips_have_no_price_there() -> None:
    network = tiny_network()
    counts = phase(network)
    bank = next(name for name, row in counts.counts.items() if "hops" in row)
    row = {**counts.counts[bank], "chip_hops": 3}
    split = PhaseCounts(counts.tokens, {**counts.counts, bank: row}, counts.joules)
    with pytest.raises(UnpricedError, match="hops between chips"):
        neuromorphic_token_energy(network, split, 7)


@pytest.mark.parametrize("profile", ["truenorth", "spinnaker2", "darwin3"])
def test_a_chip_with_one_published_number_refuses_a_total(profile: str) -> None:
    network = tiny_network()
    counts = phase(network)
    with pytest.raises(UnpricedError, match=r"no total: .*static power.*synaptic operations alone"):
        neuromorphic_token_energy(network, counts, 7, profile)
    price = load_prices(profile).price("synaptic_operation").value
    expected = counts.total("synaptic_operations") / counts.tokens * price
    assert synaptic_energy(counts, profile) == pytest.approx(expected, rel=1e-12)


def test_silence_costs_inactive_updates_and_static_power_only() -> None:
    network = tiny_network()
    counts = phase(network, spikes=0)
    kept = {
        name: {key: n for key, n in row.items() if key == "neuron_windows"}
        for name, row in counts.counts.items()
    }
    silent = neuromorphic_token_energy(network, PhaseCounts(counts.tokens, kept, {}), 7)
    assert set(silent.by_mechanism()) == {"neuron", "static"}


def test_chips_hold_whole_cores() -> None:
    prices = load_prices("loihi1")
    network = tiny_network()  # 8 crossbars, a table, attention, a sum and 9 banks: a core each
    assert chips_needed(network, prices) == 1
    four = Quantity(4, "1", "a test", "cited")
    assert chips_needed(network, prices.joined({"cores": four})) == 5
    memory = Quantity(10, "B", "a test", "cited")  # most nodes now take several cores
    assert chips_needed(network, prices.joined({"cores": four, "core_memory": memory})) > 5


def test_every_profile_has_a_source_and_a_band() -> None:
    for profile in PROFILES:
        for name, quantity in load_prices(profile).entries.items():
            assert quantity.source, (profile, name)
            if quantity.unit == "J":
                assert quantity.band is not None, (profile, name)
