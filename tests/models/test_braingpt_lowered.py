"""BrainGPT on a chip: on `ideal` every count and logit has the bits of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.energy import chip_prices, energy_report
from neurosim.events.engine import Simulator
from neurosim.kernels import event_counts
from neurosim.models.braingpt import EventCounter, SiteRecord, load
from neurosim.models.braingpt.activity import block_macs
from neurosim.models.braingpt.engine import Engine
from neurosim.models.braingpt.lowered import lower
from neurosim.models.braingpt.sites import site_names
from neurosim.network import Crossbar, DigitalUnit

GOLDEN = Path("/work/shared/golden/braingpt")
MICRO = Path(__file__).parents[1] / "data" / "braingpt_micro"
CODES = {"pulse_width": "unary", "bit_plane": "bit_plane"}


def folder(name: str) -> Path:
    if name == "micro" and MICRO.is_dir():
        return MICRO
    found = GOLDEN / name
    if not found.is_dir():
        pytest.skip(f"the golden model {name} is not in this clone (it is in {GOLDEN})")
    return found


def tokens(name: str, most: int = 8) -> list[int]:
    ids: list[int] = np.load(folder(name) / "io.npz")["input_ids"].reshape(-1)[:most].tolist()
    return ids


def engine_of(name: str, weight_bits: int = 8, **options: Any) -> Engine:
    found = load(folder(name), backend="cpu", weight_bits=weight_bits, **options)
    assert isinstance(found, Engine)
    return found


def stepped(engine: Engine, ids: list[int]) -> Iterator[tuple[int, np.ndarray, SiteRecord]]:
    """Each token by the engine and its cache: logits and every site."""
    cache = engine.new_cache()
    for token in ids:
        record = SiteRecord()
        yield token, engine(np.array([token]), cache, listener=record)[0], record


@pytest.mark.parametrize("drive", CODES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("micro", {}),
        ("micro", {"weight_bits": 4}),
        ("micro", {"silu": "exact"}),
        ("micro", {"bits": 4}),
        ("tiny_tied", {"silu": "staircase"}),
        ("trained", {}),
    ],
    ids=str,
)
def test_chip_equals_engine(name: str, options: dict[str, Any], drive: str) -> None:
    engine, ids = engine_of(name, **options), tokens(name)
    seen = SiteRecord()
    simulator = Simulator(lower(engine, drive, len(ids), seen), load_chip("ideal"))
    for token, logits, expected in stepped(engine, ids):
        assert (simulator.step(token) == logits.astype(np.float64)).all()
        assert sorted(seen.counts) == sorted(site_names(engine.config.num_hidden_layers))
        for site, counts in expected.counts.items():
            assert (seen.counts[site] == counts).all(), site
            assert (seen.scales[site] == expected.scales[site]).all(), site
            assert seen.fan_outs[site] == expected.fan_outs[site]
    run = simulator.run()
    for i in range(engine.config.num_hidden_layers):
        last = run.spikes[f"L{i}.attend"][-1]
        assert (last == seen.counts[f"L{i}.q_proj.pre"].reshape(-1)).all()


def test_a_chip_clips_as_the_engine_does() -> None:
    engine, ids = engine_of("micro"), tokens("micro")
    engine.clips = {"embed.post": 0.9, "L0.q_proj.pre": 0.5, "L0.v_proj.post": 0.4}
    engine.clips |= {"L0.down_proj.pre": 0.3, "L0.down_proj.post": 0.6}
    seen = SiteRecord()
    simulator = Simulator(lower(engine, "pulse_width", len(ids), seen), load_chip("ideal"))
    for token, logits, expected in stepped(engine, ids):
        assert (simulator.step(token) == logits.astype(np.float64)).all()
        for site, counts in expected.counts.items():
            assert (seen.counts[site] == counts).all(), site
            assert (seen.scales[site] == expected.scales[site]).all(), site
    assert (np.abs(seen.counts["L0.down_proj.pre"]) == 127).sum() > 1


@pytest.mark.parametrize("drive", CODES)
@pytest.mark.parametrize("name", ["micro", "trained"])
def test_operations_are_events_times_fan_out(name: str, drive: str) -> None:
    engine, ids = engine_of(name), tokens(name)
    network = lower(engine, drive)
    simulator, counter = Simulator(network, load_chip("ideal")), EventCounter()
    for token in ids:
        simulator.step(token)
    engine(np.array(ids), listener=counter)
    run = simulator.run()
    counts = run.phases["prefill"]
    code = CODES[drive]
    assert counts.total("synaptic_operations") == counter.operations[code]
    assert counter.multiply_accumulates == (
        len(ids) * engine.config.num_hidden_layers * block_macs(engine.config)
    )
    sent = 0
    for unit, spikes in run.spikes.items():
        events = int(event_counts(spikes, axis=None)[code])
        assert counts.of(unit, "neuron_spikes") == events
        sent += events
        for reader in network.targets(unit):
            node = network[reader]
            if isinstance(node, Crossbar):
                assert counts.of(reader, "synaptic_operations") == events * node.size
                reads = 7 if drive == "bit_plane" else 1
                assert counts.of(reader, "conversions") == reads * node.size * len(ids)
    assert run.total_spikes == sent > 0


@pytest.mark.parametrize("drive", CODES)
def test_energy_parts_sum_to_the_total(drive: str) -> None:
    engine, ids = engine_of("micro"), tokens("micro")
    network, chip = lower(engine, drive), load_chip("ideal")
    simulator = Simulator(network, chip)
    for token in ids[:3]:
        simulator.step(token)
    simulator.begin("decode")
    for token in ids[3:]:
        simulator.step(token)
    run, prices = simulator.run(), chip_prices(chip.numbers())
    report = energy_report(network, prices, simulator.placement, run.phases)
    for phase, breakdown in report.phases.items():
        parts = breakdown.by_mechanism()
        assert sum(parts.values()) == pytest.approx(breakdown.total, rel=1e-12)
        assert breakdown.total == pytest.approx(sum(breakdown.by_layer().values()), rel=1e-12)
        assert all(parts[name] > 0 for name in ("digital units", "unit memory", "synapse"))
        # prefill tokens 1..3, decode 4..: the caches grow
        grown = run.phases[phase].of("L0.mix", "memory_bits") / run.phases[phase].tokens
        assert grown > 0
    each = [
        run.phases[p].of("L0.mix", "special_functions") / run.phases[p].tokens for p in run.phases
    ]
    assert each[1] > each[0]


def test_a_real_chip_runs_and_differs() -> None:
    engine, ids = engine_of("micro"), tokens("micro")
    exact = engine(np.array(ids))
    for drive in CODES:
        simulator = Simulator(lower(engine, drive), load_chip("ag_v2c_w"))
        logits = np.array([simulator.step(token) for token in ids])
        assert (logits != exact).any()
        assert np.corrcoef(logits.reshape(-1), exact.reshape(-1))[0, 1] > 0.9


def test_forgetting_empties_the_caches() -> None:
    engine, ids = engine_of("micro"), tokens("micro")
    simulator = Simulator(lower(engine, context=2), load_chip("ideal"))
    first = [simulator.step(token) for token in ids[:2]]
    with pytest.raises(ValueError, match="at most 2 tokens"):
        simulator.step(ids[2])
    simulator.forget()
    again = [simulator.step(token) for token in ids[:2]]
    assert (np.array(first) == np.array(again)).all()


def test_what_is_declared_is_what_the_model_does() -> None:
    """The units' operations sum to `workload`'s, at any context."""
    from neurosim.models.braingpt import workload

    engine = engine_of("micro")
    config, width = engine.config, engine.config.hidden_size
    units = [node for node in lower(engine) if isinstance(node, DigitalUnit)]
    for context in (1, 7):
        parts = workload.rest(config, context, "table", spiking=True)
        work = sum(parts.values(), workload.sites(config, True))
        tables = config.num_hidden_layers - 1  # sine and cosine: each layer makes its own
        found = {
            name: sum(unit.operations(context).get(name, 0) for unit in units)
            for name in ("float_multiplies", "float_additions", "special_functions")
        }
        extra = width + config.vocab_size  # units of the integer table's row and of the head
        more = tables * (config.head_dim // 2)
        assert found["float_multiplies"] == work.multiply + work.mac + extra + more
        assert found["float_additions"] == work.add + work.mac
        assert found["special_functions"] == work.special + tables * config.head_dim


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_bits=8"):
        lower(engine_of("micro", weight_bits=32))
    with pytest.raises(ValueError, match="compiled engine"):
        lower(load(folder("micro"), backend="numpy"))
    with pytest.raises(ValueError, match="drive"):
        lower(engine_of("micro"), "rate")
    with pytest.raises(ValueError, match="at least one token"):
        lower(engine_of("micro"), context=0)
