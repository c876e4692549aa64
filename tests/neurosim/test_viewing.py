"""What is written to look at agrees with the run: spikes, energies, times, maps, membranes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from energy_cases import tiny_network

from neurosim.chip import load_chip, with_values
from neurosim.chip.mesh.grid import STEPS
from neurosim.devices.counter_random import stream_key
from neurosim.events.engine import Simulator
from neurosim.network import Crossbar, DelayCrossbar, Embedding, Network
from neurosim.viewing import mesh_map, placement_map, run_events, run_slices
from neurosim.viewing.events import energy_without_spikes
from neurosim.viewing.folder import write_views

TOKENS = (1, 3, 2, 4, 0)


def lively_network() -> Network:
    """The tiny network with larger embeddings, so that exact neurons fire too."""
    quiet = tiny_network()
    nodes = tuple(
        replace(node, table=node.table * 9) if isinstance(node, Embedding) else node
        for node in quiet
    )
    return Network(nodes, quiet.edges, quiet.layer)


def simulate(chip: str = "ag_v2c_w", record: bool = True, **values: float | str) -> Simulator:
    description = with_values(load_chip(chip), values) if values else load_chip(chip)
    simulator = Simulator(lively_network(), description, seed=3, record_times=record)
    for token in TOKENS[:2]:
        simulator.step(token)
    simulator.begin("decode")
    for token in TOKENS[2:]:
        simulator.step(token)
    return simulator


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w"])
def test_events_are_the_spikes_and_their_energies_the_integrals(chip: str, tmp_path: Path) -> None:
    simulator = simulate(chip)
    run = simulator.run()
    write_views(run, simulator, [str(t) for t in TOKENS], tmp_path)
    table = pq.read_table(tmp_path / "events.parquet").to_pydict()
    assert len(table["time_s"]) == run.total_spikes > 0
    layers = np.array(table["layer"])
    channel, kind = np.array(table["neuron"]), np.array(table["kind"])
    for bank, counts in run.spikes.items():
        mine = layers == bank
        signed = np.where(kind[mine] == "spike", 1, -1)
        totals = np.zeros(counts.shape[1], np.int64)
        np.add.at(totals, channel[mine], signed)
        assert np.array_equal(totals, counts.astype(np.int64).sum(axis=0)), bank
        spent = sum(sum(phase.joules.get(bank, {}).values()) for phase in run.phases.values())
        if mine.any() and all(phase.of(bank, "neuron_spikes") for phase in run.phases.values()):
            energy = np.array(table["energy_J"], np.float64)[mine]
            assert energy.sum() == pytest.approx(spent, rel=1e-9), bank
    meta = pq.read_schema(tmp_path / "events.parquet").metadata
    assert b"integrated neuron energy" in meta[b"energy"] and meta[b"seed"] == b"3"


def test_times_are_within_the_window_of_their_stage() -> None:
    simulator = simulate()
    run = simulator.run()
    length = run.windows_per_token * run.window_s
    last = 0.0
    for batch in run_events(run, simulator.placement):
        stage = np.array([simulator.placement.stages.bank[str(layer)] for layer in batch.layer])
        inside = (batch.time % length) / run.window_s
        assert ((inside >= stage - 1 - 1e-9) & (inside <= stage + 1e-9)).all()
        assert (np.diff(batch.time, prepend=last) >= 0).all()
        last = float(batch.time[-1])


@pytest.mark.parametrize("network", [lively_network(), tiny_network()], ids=["lively", "quiet"])
def test_events_have_the_phase_of_their_token_and_no_joule_is_missing(network: Network) -> None:
    """Phases may alternate; what silent banks burnt is told apart."""
    simulator = Simulator(network, load_chip("ag_v2c_w"), seed=3, record_times=True)
    order = ("prefill", "decode", "prefill", "decode", "decode")
    for token, phase in zip(TOKENS, order, strict=True):
        simulator.begin(phase)
        simulator.step(token)
    run = simulator.run()
    assert run.phase_of == order
    batches = list(run_events(run, simulator.placement))
    length = run.windows_per_token * run.window_s
    for name, phase_counts in run.phases.items():
        inside = [b for b in batches if order[int(b.time[0] / length)] == name]
        for bank in run.spikes:
            spikes = phase_counts.of(bank, "neuron_spikes")
            mine = [np.asarray(b.energy)[np.asarray(b.layer) == bank] for b in inside]
            shares = np.concatenate(mine)
            assert shares.size == spikes, (name, bank)
            burnt = sum(phase_counts.joules[bank].values())
            assert not spikes or shares.sum() == pytest.approx(burnt, rel=1e-12), (name, bank)
    total = sum(float(np.sum(batch.energy)) for batch in batches)
    burnt = sum(bank.energy().total for bank in simulator.banks.values())
    silent = energy_without_spikes(run)
    quiet = [b for p in run.phases.values() for b in run.spikes if not p.of(b, "neuron_spikes")]
    assert bool(silent > 0.0) == bool(quiet)
    assert total + silent == pytest.approx(burnt, rel=1e-10)


def test_a_run_without_times_has_no_events() -> None:
    simulator = simulate(record=False)
    with pytest.raises(ValueError, match="record_times = True"):
        next(run_events(simulator.run(), simulator.placement))


def test_recording_times_changes_nothing() -> None:
    kept, plain = simulate().run(), simulate(record=False).run()
    assert all(np.array_equal(kept.spikes[b], plain.spikes[b]) for b in kept.spikes)
    assert kept.phases == plain.phases and not plain.spike_times


def test_the_trace_has_every_window_and_spike(tmp_path: Path) -> None:
    simulator = simulate()
    run = simulator.run()
    write_views(run, simulator, [str(t) for t in TOKENS], tmp_path)
    events = json.loads((tmp_path / "trace.json").read_text())
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == len(TOKENS) * (1 + len(run.spikes))
    assert sum(event["args"].get("spikes", 0) for event in slices) == run.total_spikes
    graph = [event["args"]["spikes"] for event in events if event["ph"] == "C"]
    assert sum(graph) == run.total_spikes
    assert len(graph) == len(TOKENS) * run.windows_per_token
    assert len(list(run_slices(run, simulator.placement, simulator.network))) == len(slices) + len(
        graph
    )


def test_a_membrane_fires_when_the_run_says() -> None:
    """The sampled trajectory discharges at the recorded times and stays under its thresholds."""
    from neurosim.devices.window_membrane import membrane

    simulator = simulate()
    run = simulator.run()
    checked = 0
    for name, bank in simulator.banks.items():
        counts, times = run.spikes[name][-1], run.spike_times[name][-1]
        for channel in np.nonzero(counts)[0].tolist():
            t, volts, _ = bank.last_membrane(channel, len(TOKENS), samples=400)
            assert np.isfinite(volts).all() and volts.min() > -1e-9 and volts.max() < 1.0
            side = int(bank.signed and bank._packet[channel] < 0)
            neuron = channel * (2 if bank.signed else 1) + side
            key = np.uint64(stream_key(bank._seed, np.uint64(bank._offset + neuron)))
            _, fired = membrane(
                abs(float(bank._packet[channel])),
                float(bank._threshold[neuron]),
                float(bank._hold[neuron]),
                bank._device,
                key,
                np.uint64(len(TOKENS)) * np.uint64(2 * 4096),
                t,
            )
            count = abs(int(counts[channel]))
            assert np.allclose(fired[:count], times[channel, :count], rtol=0, atol=1e-15)
            assert len(fired) >= count
            checked += count
    assert checked > 0


def test_exact_neurons_have_no_membrane(tmp_path: Path) -> None:
    simulator = simulate("ideal")
    with pytest.raises(ValueError, match="exact neurons have no membrane"):
        simulator.banks["q"].last_membrane(0, 5)
    written = write_views(simulator.run(), simulator, [str(t) for t in TOKENS], tmp_path)
    assert not any("membranes" in path.name for path in written)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}


def test_maps_show_every_tile_and_every_link_that_was_used() -> None:
    simulator = simulate(**{"routing.transport": "queued"})
    run = simulator.run()
    figure = placement_map(simulator.placement, simulator.network, "a note")
    tiles = [patch for patch in figure.axes[0].patches]
    assert len(tiles) == len(simulator.placement.use)
    legend = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert legend == {simulator.network.layer[use.node] for use in simulator.placement.use}
    mesh = mesh_map(simulator.placement, (256, 256), run.traffic)
    links = int((run.traffic["decode"].load > 0).sum())
    drawn = [axes for axes in mesh.axes if axes.get_title(loc="left").startswith("links")]
    assert len(drawn[0].patches) == links > 0
    alone = mesh_map(simulator.placement, (256, 256))
    assert not any(axes.get_title(loc="left").startswith("links") for axes in alone.axes)
    for axes in (*figure.axes, *drawn):
        assert axes.get_xlabel() and axes.get_ylabel()


def test_dead_parts_are_crossed_out_and_waiting_has_a_panel_of_its_own() -> None:
    values = {"routing.transport": "queued", "mesh.buffer_depth": 1, "mesh.link_rate": 1e5}
    simulator = simulate(**values)
    run, placement = simulator.run(), simulator.placement
    assert run.traffic["decode"].blocked.any()
    dead_tiles = np.zeros(placement.mesh_tiles, np.bool_)
    dead_tiles[[1, 3]] = True
    dead_links = np.zeros((placement.mesh_tiles, 4), np.bool_)
    dead_links[0] = True  # two of the corner's links leave the mesh
    figure = mesh_map(placement, (256, 256), run.traffic, "", dead_tiles, dead_links)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    links = ["links, decode: transmits", "links, decode: waits for a full buffer"]
    assert [title for title in titles if title.startswith("links")] == links
    for axes in figure.axes:
        marks = {points.get_gid(): points.get_offsets() for points in axes.collections}
        if axes.get_title(loc="left"):
            assert sorted(map(tuple, np.asarray(marks["dead tiles"]).tolist())) == sorted(
                tuple(map(float, placement.position(slot))) for slot in (1, 3)
            )
        if axes.get_title(loc="left").startswith("links"):
            assert len(marks["dead links"]) == 2
    maps = placement_map(placement, simulator.network, "", dead_tiles)
    assert maps.axes[0].get_title(loc="right") == "crossed out: dead"
    assert not placement_map(placement, simulator.network).axes[0].get_title(loc="right")


def test_lanes_of_the_trace_are_named_and_in_order(tmp_path: Path) -> None:
    simulator = simulate()
    write_views(simulator.run(), simulator, ["", *map(str, TOKENS[1:])], tmp_path)
    events = json.loads((tmp_path / "trace.json").read_text())
    lanes = {(event["pid"], event["tid"]) for event in events if event["ph"] == "X"}
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    placed = {
        (e["pid"], e["tid"]): e["args"]["sort_index"]
        for e in events
        if e["name"] == "thread_sort_index"
    }
    assert lanes == named == set(placed)
    assert sorted(placed.values()) == list(range(1, len(lanes) + 1))
    tokens = [event for event in events if event["ph"] == "X" and "phase" in event["args"]]
    assert [event["name"] for event in tokens][:2] == ["0: token 1", "1: '3'"]
    assert [event["args"]["phase"] for event in tokens] == ["prefill"] * 2 + ["decode"] * 3
    window = simulator.chip.window.duration.value * 1e6  # the format counts microseconds
    lasting = {round(event["dur"] / window, 9) for event in events if event["ph"] == "X"}
    assert lasting == {1.0, float(simulator.placement.depth)}


def test_a_seed_outside_its_range_is_refused() -> None:
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match=r"expected a seed from 0 to 2\^63 - 1, got"):
            Simulator(lively_network(), load_chip("ideal"), seed)


def test_programming_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    network = lively_network()
    Simulator(network, load_chip("ideal"), progress=lambda done, total: told.append((done, total)))
    arrays = [node for node in network if isinstance(node, Crossbar | DelayCrossbar)]
    total = sum(node.weight.size for node in arrays)
    assert told[0] == (0, total) and told[-1] == (total, total)
    assert len(told) == len(arrays) + 1 and told == sorted(told)


def test_a_map_shows_what_each_tile_and_link_does() -> None:
    """Shares of tiles in the picture's own pixels; an arrow lies between its tiles, on the right of
    its direction, so that a link and the way back never cover each other."""
    simulator = simulate(**{"routing.transport": "queued"})
    traffic, placement = simulator.run().traffic, simulator.placement
    figure = mesh_map(placement, (64, 32), traffic)
    shares = figure.axes[0].images[0].get_array()
    for use in placement.use:
        x, y = placement.position(use.slot)
        if use.rows:
            assert shares[y, x] == pytest.approx(use.rows * use.columns / (64 * 32))
        else:
            assert np.ma.is_masked(shares[y, x])
    axes = next(one for one in figure.axes if one.get_title(loc="left").startswith("links"))
    used = np.nonzero(traffic["decode"].load)[0].tolist()
    for link, arrow in zip(used, axes.patches, strict=True):
        number, direction = divmod(link, 4)
        y, x = divmod(number, placement.width)
        dx, dy = STEPS[direction]
        middle = np.asarray(arrow.get_xy()).mean(axis=0) - (x, y)
        assert 0.2 < middle @ (dx, dy) < 0.8
        assert 0.05 < middle @ (-dy, dx) < 0.25  # y points down: this is the right hand
