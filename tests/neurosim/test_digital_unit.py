"""Digital units: what they emit is counted and priced, and what a chip cannot do is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip, parse_values, with_values
from neurosim.chip.placement import place
from neurosim.digital_unit import UnitStep
from neurosim.energy import UnpricedError, chip_prices, energy_report
from neurosim.energy.digital import digital_token_energy
from neurosim.energy.neuromorphic import neuromorphic_token_energy
from neurosim.energy.prices import PriceList
from neurosim.events.engine import Simulator
from neurosim.io import sanafe
from neurosim.io.nir.refusals import transformer_refusals
from neurosim.network import (
    AttentionUnit,
    Crossbar,
    DigitalUnit,
    Embedding,
    Network,
    NeuronBank,
    Node,
    Readout,
)
from neurosim.viewing.folder import write_views

WIDTH, OUTPUTS, TOKENS = 300, 70, [3, 0, 2, 2]
RANDOM = np.random.default_rng(5)
TABLE = RANDOM.integers(-127, 128, (4, WIDTH)).astype(np.int8)
WEIGHT = RANDOM.integers(-127, 128, (WIDTH, OUTPUTS)).astype(np.int8)
CODES = {"pulse_width": np.abs, "bit_plane": np.bitwise_count}


def spikes_of(token: int, at: int) -> np.ndarray:
    """What the first unit emits for a token: the row, shifted by the tokens of the text before."""
    return np.roll(TABLE[token], at)


def network(drive: str = "pulse_width", levels: int = 127, memory: int = 0) -> Network:
    """Table -> unit -> crossbar -> unit -> read-out; the unit's own values go along."""

    def start() -> UnitStep:
        seen = 0

        def step(token: int, inputs: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
            nonlocal seen
            seen += 1
            return np.roll(inputs[0], seen - 1).astype(np.int8), np.array([seen], np.float32)

        return step

    def end(token: int, inputs: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(0, np.int8), inputs[0] * float(inputs[1][0])

    def costs(context: int) -> Mapping[str, int]:
        return {"float_multiplies": OUTPUTS, "memory_bits": 32 * context}

    nodes: tuple[Node, ...] = (
        Embedding("table", TABLE),
        DigitalUnit(
            "first",
            (WIDTH,),
            WIDTH,
            1,
            start,
            lambda context: {"special_functions": 1},
            memory,
            levels,
            drive,
        ),
        Crossbar("crossbar", WEIGHT),
        DigitalUnit("last", (OUTPUTS, 1), 0, OUTPUTS, lambda: end, costs),
        Readout("logits", OUTPUTS, 1.0),
    )
    edges = (
        ("table", "first"),
        ("first", "crossbar"),
        ("crossbar", "last"),
        ("first", "last"),
        ("last", "logits"),
    )
    return Network(nodes, edges, dict.fromkeys((node.name for node in nodes), "all"))


@pytest.mark.parametrize("drive", CODES)
def test_spikes_counts_and_sums_are_exact(drive: str) -> None:
    simulator = Simulator(network(drive), load_chip("ideal"))
    logits = np.array([simulator.step(token) for token in TOKENS])
    run = simulator.run()
    expected = np.array([spikes_of(token, i) for i, token in enumerate(TOKENS)])
    assert (run.spikes["first"] == expected).all()
    scale = np.arange(1, len(TOKENS) + 1)[:, None]
    assert (logits == expected.astype(np.int64) @ WEIGHT.astype(np.int64) * scale).all()
    counts = run.phases["prefill"]
    events = int(CODES[drive](np.abs(expected)).sum(dtype=np.int64))
    assert counts.of("crossbar", "synaptic_operations") == events * OUTPUTS
    assert counts.of("crossbar", "row_pulses") == events
    assert counts.of("crossbar", "weight_fetches") == np.count_nonzero(expected) * OUTPUTS
    reads = 7 if drive == "bit_plane" else 1
    assert counts.of("crossbar", "conversions") == reads * OUTPUTS * len(TOKENS)
    assert counts.of("first", "neuron_spikes") == events == counts.of("first", "packets")
    assert counts.of("first", "special_functions") == len(TOKENS)
    assert counts.of("last", "float_multiplies") == OUTPUTS * len(TOKENS)
    assert counts.of("last", "memory_bits") == 32 * sum(range(1, len(TOKENS) + 1))
    assert run.spike_rate == 0.0 and run.neurons == 0


def test_a_new_text_starts_the_units_afresh() -> None:
    simulator = Simulator(network(), load_chip("ideal"))
    first = simulator.step(1)
    simulator.step(1)
    simulator.forget()
    assert (simulator.step(1) == first).all()
    assert simulator.run().phases["prefill"].of("last", "memory_bits") == 32 * (1 + 2 + 1)


def test_words_and_packets_travel_from_tile_to_tile() -> None:
    """Tiles in order: table, first, crossbar (2 row tiles), last."""
    net = network()
    found = place(net, load_chip("ideal"))
    spot = {name: found.position(int(slots[-1])) for name, slots in found.slots.items()}

    def links(a: str, b: str) -> int:
        return abs(spot[a][0] - spot[b][0]) + abs(spot[a][1] - spot[b][1])

    for source, target, words in (
        ("table", "first", WIDTH),
        ("crossbar", "last", OUTPUTS),
        ("first", "last", 1),
    ):
        hops = found.value_hops[source, target]
        if source != "table":
            assert hops.tolist() == [links(source, target)] * words
    assert ("last", "logits") not in found.value_hops
    assert found.hops["first"].shape == (WIDTH,)
    assert found.tiles["first"] == found.tiles["last"] == 1 and found.depth == 2
    bank = int(load_chip("ideal").memory.embedding_bank.value)
    assert place(network(memory=3 * bank + 1), load_chip("ideal")).tiles["first"] == 4


@pytest.mark.parametrize("drive", CODES)
def test_energy_is_the_sum_of_its_parts_and_refuses_what_has_no_price(drive: str) -> None:
    net, chip = network(drive), load_chip("ideal")
    simulator = Simulator(net, chip)
    for token in TOKENS:
        simulator.step(token)
    run, prices = simulator.run(), chip_prices(chip.numbers())
    report = energy_report(net, prices, simulator.placement, run.phases)
    parts = report.main.by_mechanism()
    assert sum(parts.values()) == pytest.approx(report.main.total, rel=1e-12)
    expected = OUTPUTS * prices.price("float_multiply").value
    expected += prices.price("special_function").value
    assert parts["digital units"] == pytest.approx(expected, rel=1e-12)
    assert parts["unit memory"] > 0 and parts["synapse"] > 0 and parts["routing"] > 0
    totals = report.count_totals()
    assert totals["multiplies"] == totals["float_multiplies"] == OUTPUTS * len(TOKENS)
    fewer = PriceList({k: v for k, v in prices.entries.items() if k != "special_function"})
    with pytest.raises(UnpricedError, match="special_function"):
        energy_report(net, fewer, simulator.placement, run.phases)
    with pytest.raises(UnpricedError, match="digital units"):
        digital_token_energy(net, prices, run.phases["prefill"])
    with pytest.raises(UnpricedError, match="digital units"):
        neuromorphic_token_energy(net, run.phases["prefill"], 2)


@pytest.mark.parametrize("drive", CODES)
def test_converters_of_a_real_chip_are_made_for_the_drive(drive: str) -> None:
    """Without noise and cell errors only the 8-bit converters disturb the sums."""
    chip = with_values(load_chip("ideal"), {"conversion.adc_bits": 8.0})
    simulator = Simulator(network(drive), chip)
    logits = simulator.step(0)
    exact = TABLE[0].astype(np.int64) @ WEIGHT.astype(np.int64)
    step = int(simulator.crossbars["crossbar"].adc_step)
    most = step / 2 * (127 if drive == "bit_plane" else 1)
    assert 0 < np.abs(logits - exact).max() <= most
    spread = float(np.sqrt((WEIGHT.astype(np.int64) ** 2).sum(axis=0)).max())
    rms = 1.0 if drive == "bit_plane" else 127 / 4
    assert 128 * step >= 8 * rms * spread > 64 * step


@pytest.mark.parametrize("drive", CODES)
def test_noise_is_drawn_for_every_read(drive: str) -> None:
    chip = with_values(load_chip("ideal"), {"crossbar.read_noise": 0.02})
    logits = [Simulator(network(drive), chip, seed).step(0) for seed in (0, 0, 1)]
    assert (logits[0] == logits[1]).all() and (logits[0] != logits[2]).any()
    exact = TABLE[0].astype(np.int64) @ WEIGHT.astype(np.int64)
    error = float(np.std(logits[0] - exact))
    sizes = np.abs(TABLE[0].astype(np.int64))
    planes = [((sizes >> bit) & 1).sum() * 4**bit for bit in range(7)]
    pulses = sizes.sum() if drive == "pulse_width" else sum(planes)
    assert error == pytest.approx(0.02 * 127 * np.sqrt(pulses), rel=0.35)


def test_pulses_must_fit_into_the_window() -> None:
    short = with_values(load_chip("ideal"), parse_values(["window.duration=1e-6"]))
    with pytest.raises(ValueError, match=r"127 pulses of 1e-08 s do not fit"):
        Simulator(network(), short)
    Simulator(network("bit_plane"), short)
    Simulator(network(levels=100), short)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"transport": "queued"}, "transport"),
        ({"sync": "none"}, "sync"),
    ],
)
def test_timed_packets_are_refused(value: dict[str, str], reason: str) -> None:
    chip = load_chip("ideal")
    with pytest.raises(ValueError, match=reason):
        Simulator(network(), replace(chip, routing=replace(chip.routing, **value)))
    with pytest.raises(ValueError, match="spike times"):
        Simulator(network(), chip, record_times=True)


def test_dead_tiles_are_refused() -> None:
    chip = with_values(load_chip("ideal"), {"faults.dead_tile_fraction": 0.01})
    with pytest.raises(ValueError, match="faults"):
        Simulator(network(), chip)


def test_wrong_edges_are_refused() -> None:
    net = network()
    nodes = {node.name: node for node in net}

    def build(edges: tuple[tuple[str, str], ...], *more: Node) -> Network:
        every = (*net.nodes, *more)
        return Network(every, edges, dict.fromkeys((node.name for node in every), "all"))

    with pytest.raises(ValueError, match="expected 70 channels, got 1"):
        build((*net.edges[:1], ("first", "crossbar"), ("first", "last"), ("crossbar", "last")))
    with pytest.raises(ValueError, match="expected 2 inputs, got 1"):
        build((*net.edges[:2], ("crossbar", "last"), ("last", "logits")))
    bank = NeuronBank("bank", np.ones(1, np.int64), np.zeros(1, np.int64), 4, True)
    with pytest.raises(ValueError, match="feeds crossbars, units and read-outs"):
        build((*net.edges, ("first", "bank")), bank)
    attention = AttentionUnit("attention", 1, WIDTH, np.zeros(1, np.int64), 0)
    with pytest.raises(ValueError, match="feeds crossbars, units and read-outs"):
        build((*net.edges, *[("first", "attention")] * 3), attention)
    unit = nodes["first"]
    assert isinstance(unit, DigitalUnit)
    with pytest.raises(ValueError, match="expected drive"):
        replace(unit, drive="rate")
    with pytest.raises(ValueError, match="levels"):
        replace(unit, levels=128)


def test_exporters_refuse_by_name(tmp_path: Path) -> None:
    net: Any = network()
    assert any("first" in line for line in transformer_refusals(net))
    with pytest.raises(ValueError, match="digital units"):
        sanafe.export(net, tmp_path, time_step=1e-3, duration=1.0)
    simulator = Simulator(net, load_chip("ideal"))
    simulator.step(0)
    with pytest.raises(ValueError, match="digital units"):
        write_views(simulator.run(), simulator, ["a"], tmp_path)
