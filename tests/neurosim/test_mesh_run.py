"""Runs over the mesh: spikes and counts as without it, packets conserved, times in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from engine_networks import NETWORKS, added_counts, lowered_model, network_of
from tiny_models import tokens

from neurosim.chip import ChipDescription, with_values
from neurosim.energy import chip_prices, energy_report
from neurosim.events.engine import Simulator, simulate
from neurosim.network import Crossbar, Embedding, Network, NeuronBank, Readout

QUEUED = {"routing.transport": "queued"}
FLOW = {**QUEUED, "routing.sync": "none"}
FAST = {  # packets take no time worth speaking of
    "mesh.link_rate": 1e15, "mesh.link_latency": 0.0,
    "mesh.chip_link_rate": 1e15, "mesh.chip_link_latency": 0.0,
}  # fmt: skip
WAYS = {
    "window": (QUEUED, 1),
    "none": (FLOW, 1),
    "window, 4 chips": (QUEUED, 4),
    "none, 3 chips": (FLOW, 3),
    "instant, 2 chips": ({}, 2),
    "short buffers": ({**QUEUED, "mesh.buffer_depth": 1}, 1),
    "counts": ({**FLOW, "routing.packets": "count"}, 2),
}


def generate(network: Network, chip: ChipDescription, chips: int = 1, seed: int = 3) -> Simulator:
    """Seven tokens of a prompt, then three alone."""
    simulator = Simulator(network, chip, seed, chips)
    ids = tokens(10).tolist() if network.of(Embedding)[0].table.shape[0] > 49 else None
    ids = ids or [0, 3, 1, 4, 4, 2, 0, 1, 3, 2]
    for token in ids[:7]:
        simulator.step(token)
    simulator.begin("decode")
    for token in ids[7:]:
        simulator.step(token)
    return simulator


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["ideal", "small ideal", "small ag_v2c_w"])
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_the_mesh_changes_times_only(
    build: type, name: str, way: str, chips: dict[str, ChipDescription]
) -> None:
    """Same spikes, logits, joules and counts; hops are shared between chips and their links; every
    hop counted is a packet on a link, and every packet is delivered to each of its targets."""
    network, (values, count) = build(), WAYS[way]
    packets = {"routing.packets": "spike", **values}
    chip = with_values(chips[name], packets)
    plain = generate(
        network, with_values(chips[name], {"routing.packets": packets["routing.packets"]})
    ).run()
    simulator = generate(network, chip, count)
    run = simulator.run()
    np.testing.assert_array_equal(run.logits, plain.logits)
    for site, rows in plain.spikes.items():
        np.testing.assert_array_equal(run.spikes[site], rows)
    got, expected = added_counts(run), added_counts(plain)
    ends = 0
    hop_names = ("hops", "chip_hops", "value_hops", "value_chip_hops")
    for node, counts in got.items():
        ends += sum(counts.pop(key, 0) for key in ("end_hops", "end_chip_hops"))
        assert ("end_packets" in counts) == (
            chip.routing.sync == "none" and isinstance(network[node], NeuronBank)
        )
        counts.pop("end_packets", None)
        rest = {key: value for key, value in counts.items() if key not in hop_names}
        assert rest == {k: v for k, v in expected[node].items() if k not in hop_names}, node
        if count == 1:
            assert all(counts.get(key) == expected[node].get(key) for key in hop_names), node
    for phase in run.phases:
        joules = run.phases[phase].joules_by_mechanism()
        assert joules == plain.phases[phase].joules_by_mechanism()
    if chip.routing.transport == "instant":
        assert run.traffic == {} and run.phases["decode"].seconds is None
        return
    hops = ends + sum(counts.get(key, 0) for counts in got.values() for key in hop_names)
    assert sum(part.load.sum() for part in run.traffic.values()) == hops
    targets = {
        bank: np.array([len(fan.targets[group]) for group in fan.group])
        for bank, fan in simulator.placement.fan_out.items()
    }
    once = chip.routing.packets == "count"
    sent = sum(
        int((np.minimum(np.abs(rows.astype(int)), 1 if once else 99) @ targets[bank]).sum())
        for bank, rows in run.spikes.items()
    )
    assert sum(part.spikes.deliveries for part in run.traffic.values()) == sent
    assert all(part.dropped == 0 for part in run.traffic.values())


@pytest.mark.parametrize("sync", ["window", "none"])
@pytest.mark.parametrize("name", ["small ideal", "small ag_v2c_w"])
def test_fast_links_leave_the_windows(
    name: str, sync: str, chips: dict[str, ChipDescription]
) -> None:
    """d windows a generated token, n + d - 1 a prompt, as the energy model says."""
    network = lowered_model(1, layers=2)
    chip = with_values(chips[name], {**QUEUED, **FAST, "routing.sync": sync})
    simulator = generate(network, chip)
    run, window = simulator.run(), chip.window.duration.value
    depth = simulator.placement.depth
    assert run.phases["prefill"].seconds == pytest.approx((7 + depth - 1) * window, rel=1e-6)
    assert run.phases["decode"].seconds == pytest.approx(3 * depth * window, rel=1e-6)
    np.testing.assert_allclose(run.traffic["decode"].token_seconds, depth * window, rtol=1e-6)


@pytest.mark.parametrize("sync", ["window", "none"])
def test_slow_links_take_time(sync: str, chips: dict[str, ChipDescription]) -> None:
    """Longer than the windows, counted as late under a clock; a token never beats d windows; the
    energy's static part and its time per token use the simulated time, and say so."""
    network = lowered_model(1)
    chip = with_values(chips["ideal"], {**QUEUED, "mesh.link_rate": 1e7, "routing.sync": sync})
    simulator = generate(network, chip)
    run, window = simulator.run(), chip.window.duration.value
    decode = run.traffic["decode"]
    depth = simulator.placement.depth
    assert len(decode.token_seconds) == 3 and sum(decode.token_seconds) == decode.seconds
    assert min(decode.token_seconds) > 1.05 * depth * window
    assert (decode.window_late > 0) == (decode.waited_seconds > 0) == (sync == "window")
    assert decode.spikes.waited > 0 and 0 < decode.spikes.congestion < 1
    assert 0 < decode.utilisation.max() < 1
    report = energy_report(network, chip_prices(chip.numbers()), simulator.placement, run.phases)
    part = report.phases["decode"]
    assert part.seconds_per_token == pytest.approx(decode.seconds / 3)
    tiles = simulator.placement.used_tiles
    static = tiles * chip.static.tile_power.value * decode.seconds / 3
    assert part.of("static") == pytest.approx(static)
    whats = {term.what for term in part.terms if term.mechanism == "static"}
    assert whats == {"tile-windows (simulated time)", "windows (simulated time)"}


@pytest.mark.parametrize("way", ["instant, 2 chips", "none, 3 chips"])
def test_the_price_of_routing(way: str, chips: dict[str, ChipDescription]) -> None:
    """Every packet and hop once, at its own price; chips pay their standing power each."""
    values, count = WAYS[way]
    network = lowered_model(1)
    chip = with_values(chips["small ag_v2c_w"], {**values, "static.chip_power": 1e-3})
    simulator = generate(network, chip, count)
    run, placement, routing = simulator.run(), simulator.placement, chip.routing
    report = energy_report(network, chip_prices(chip.numbers()), placement, run.phases)
    for name, phase in run.phases.items():
        joules = 0.0
        for node, counts in phase.counts.items():
            bits = placement.packet_bits.get(node, 0)
            packets = counts.get("packets", 0) + counts.get("end_packets", 0)
            near = counts.get("hops", 0) + counts.get("end_hops", 0)
            far = counts.get("chip_hops", 0) + counts.get("end_chip_hops", 0)
            joules += packets * routing.inject_energy.value
            joules += near * bits * routing.hop_energy.value
            joules += counts.get("value_hops", 0) * 32 * routing.value_hop_energy.value
            words = counts.get("value_chip_hops", 0)
            joules += (far * bits + words * 32) * routing.chip_hop_energy.value
        part = report.phases[name]
        assert part.of("routing") == pytest.approx(joules / phase.tokens, rel=1e-12)
        power = placement.used_tiles * chip.static.tile_power.value + count * 1e-3
        assert part.of("static") == pytest.approx(power * part.seconds_per_token)
    assert run.phases["decode"].total("chip_hops") > 0


def one_chain(levels: int = 1) -> Network:
    """A table, a bank, a crossbar, a bank, the head: one channel each, one spike each."""
    unit = np.ones(1, np.int64)
    return network_of(
        [
            Embedding("table", np.array([[2], [1]])),
            NeuronBank("first", unit, 0 * unit, levels, False),
            Crossbar("middle", np.array([[2]])),
            NeuronBank("second", unit, 0 * unit, levels, False),
            Crossbar("head", np.array([[1, 2]])),
            Readout("logits", 2, 1.0),
        ],
        "table first",
        "first middle",
        "middle second",
        "second head",
        "head logits",
    )


@pytest.mark.parametrize("ticks", [1.0, 1e-3])
def test_a_chain_without_a_clock_in_closed_form(
    ticks: float, chips: dict[str, ChipDescription]
) -> None:
    """T + hop + T + hop + T: each end packet leaves when the window ends, behind the spike."""
    latency, rate = 6e-6 * ticks, 1e6 / ticks
    chip = with_values(
        chips["ideal"], {**FLOW, "mesh.link_latency": latency, "mesh.link_rate": rate}
    )
    simulator = Simulator(one_chain(), chip)
    placement, window = simulator.placement, chip.window.duration.value
    hops = [int(placement.hops[name][0]) for name in ("first", "second")]
    assert min(hops) > 0
    simulator.begin("decode")
    simulator.step(0)  # charge 2 of h = 1: the spike leaves at half of the window
    bits = placement.packet_bits["first"]
    hop = latency + bits / rate
    expected = 3 * window + sum(hops) * hop
    traffic = simulator.run().traffic["decode"]
    assert traffic.token_seconds[0] == pytest.approx(expected)
    assert traffic.spikes.deliveries == 2
    assert traffic.spikes.mean == pytest.approx(np.mean(hops) * hop)
    assert traffic.spikes.longest == pytest.approx(max(hops) * hop)


def test_a_chain_under_a_clock_in_closed_form(chips: dict[str, ChipDescription]) -> None:
    """A packet that leaves at T / 2 is late if it takes longer than T / 2: the clock waits."""
    chip = chips["ideal"]
    window = chip.window.duration.value
    for hop, late in ((0.4 * window, False), (0.7 * window, True)):
        slow = with_values(chip, {**QUEUED, "mesh.link_latency": hop, "mesh.link_rate": 1e15})
        simulator = Simulator(one_chain(), slow)
        hops = [int(simulator.placement.hops[name][0]) for name in ("first", "second")]
        simulator.begin("decode")
        simulator.step(0)
        traffic = simulator.run().traffic["decode"]
        lengths = [max(window, 0.5 * window + links * hop) for links in hops] + [window]
        assert traffic.token_seconds[0] == pytest.approx(sum(lengths))
        assert traffic.window_late == sum(0.5 + links * hop / window > 1 for links in hops)
        assert late or max(hops) > 1 or traffic.window_late == 0


def test_prompts_and_texts(chips: dict[str, ChipDescription]) -> None:
    """Two texts are two pipelines; a run can be looked at on the way and goes on."""
    network = lowered_model(1)
    chip = with_values(chips["ideal"], {**QUEUED, **FAST})
    simulator = Simulator(network, chip)
    depth, window = simulator.placement.depth, chip.window.duration.value
    for token in (1, 2, 3):
        simulator.step(token)
    simulator.forget()
    simulator.step(4)
    seconds = (3 + depth - 1 + 1 + depth - 1) * window
    first = simulator.run()
    assert first.phases["prefill"].seconds == pytest.approx(seconds, rel=1e-6)
    simulator.step(5)
    again = simulator.run()
    assert again.phases["prefill"].seconds == pytest.approx(seconds + depth * window, rel=1e-6)
    assert first.phases["prefill"].seconds == pytest.approx(seconds, rel=1e-6)


@pytest.mark.parametrize("values", [QUEUED, FLOW], ids=["window", "none"])
def test_a_seed_is_a_run_on_the_mesh(
    values: dict[str, str], chips: dict[str, ChipDescription]
) -> None:
    chip = with_values(chips["small ag_v2c_w"], {**values, "routing.packets": "spike"})
    first, same = (generate(lowered_model(1), chip).run() for _ in range(2))
    for phase, part in first.traffic.items():
        other = same.traffic[phase]
        assert part.to_dict() == other.to_dict()
        np.testing.assert_array_equal(part.busy, other.busy)
        np.testing.assert_array_equal(part.spikes.histogram, other.spikes.histogram)


def test_waiting_in_the_pipeline_is_more_than_alone(chips: dict[str, ChipDescription]) -> None:
    """Words of all stages share the links between windows of a prompt."""
    chip = with_values(chips["small ideal"], {**QUEUED, "mesh.link_rate": 1e8})
    run = generate(lowered_model(1, layers=2), chip).run()
    assert run.traffic["prefill"].words.mean > 1.2 * run.traffic["decode"].words.mean


def test_simulate_takes_chips(chips: dict[str, ChipDescription]) -> None:
    run = simulate(lowered_model(0), with_values(chips["ideal"], QUEUED), [1, 2], 0, 3)
    assert sum(part.load[part.grid.crossing].sum() for part in run.traffic.values()) > 0
    crossing = sum(
        counts.get(key, 0)
        for counts in added_counts(run).values()
        for key in ("chip_hops", "value_chip_hops")
    )
    assert crossing == sum(p.load[p.grid.crossing].sum() for p in run.traffic.values())
