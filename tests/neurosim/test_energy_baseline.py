"""The baselines: layer formulas against golden cases, the dense twin, spikes on a digital chip."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from energy_cases import facts, phase, quantity, round_prices, tiny_network

from neurosim.energy import (
    DenseTransformerSizes,
    PhaseCounts,
    PriceList,
    compare,
    dense_token_energy,
    energy_report,
)
from neurosim.energy.accelerator import accelerator_prices
from neurosim.energy.digital import digital_token_energy
from neurosim.energy.layers import (
    EventOptions,
    Site,
    Words,
    address_bits,
    dense_layer,
    event_layer,
    expected_fetches,
)
from neurosim.energy.terms import Term
from neurosim.quantity import Quantity

GOLDEN = Path(__file__).parents[1] / "data" / "energy_golden.json"
SIZES = DenseTransformerSizes(vocabulary=50, width=16, layers=2, heads=2, hidden=64)
NAMES = {"act_io": "activations", "event_io": "events", "membrane": "state"}


def cases() -> list[Any]:
    return json.loads(GOLDEN.read_text())["cases"]


def golden_prices(preset: str) -> PriceList:
    """Prices of a golden preset; it is in pJ."""
    data = json.loads(GOLDEN.read_text())["presets"][preset]
    values = {
        "multiply": data["e_mul"] * 1e-12,
        "accumulate": data["e_acc"] * 1e-12,
        "compare": data["e_cmp"] * 1e-12,
        "sram_energy": data["sram8k"] * 1e-12,
        "sram_reference": 8192.0,
        "sram_exponent": data["alpha"],
        "dram": data["dram"] * 1e-12,
        "event_hop": data["e_hop_sparse"] * 1e-12,
        "address": 0.1e-12,
    }
    return PriceList({name: Quantity(v, "J", "golden", "cited") for name, v in values.items()})


def by_mechanism(terms: list[Term]) -> dict[str, float]:
    parts: dict[str, float] = {}
    for term in terms:
        parts[term.mechanism] = parts.get(term.mechanism, 0.0) + term.joules
    return parts


def golden_terms(case: dict[str, Any]) -> list[Term]:
    args, prices = case["args"], golden_prices(case["preset"])
    preset = json.loads(GOLDEN.read_text())["presets"][case["preset"]]
    words = Words(
        preset["bw"],
        preset["ba"],
        preset["bv"],
        args["w_lvl"],
        args["a_lvl"],
        args.get("v_lvl", 8192),
    )
    site = Site("layer", "layer", prices, words)
    fan_in, fan_out, tokens = args["I"], args["O"], args["n"]
    if case["kind"] == "ann":
        density = args["density"] if args.get("skip") else 1.0
        return dense_layer(site, fan_in, fan_out, tokens, args.get("rho", 1), density)
    options = EventOptions(
        "operation" if args.get("membrane") == "sop" else "step",
        args.get("addr", False),
        args.get("payload", 0),
        args.get("hops", 0.0),
        args.get("dest", 1.0),
    )
    rows, sharing = tokens * args["T"], args.get("rho", 1)
    rate = args["pr"]
    return event_layer(site, fan_in, fan_out, rate, rows, sharing, args.get("p_out"), options)


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case['kind']} {case['preset']}")
def test_golden_layers(case: dict[str, Any]) -> None:
    terms = golden_terms(case)
    parts, expected = by_mechanism(terms), dict(case["result"])
    for name, value in expected.items():
        if name in ("n_mac", "n_sop", "events_in", "weight_fetches", "total"):
            continue
        got = parts.get(NAMES.get(name, name), 0.0) * 1e12
        assert got == pytest.approx(value, rel=1e-9), name
    assert math.fsum(term.joules for term in terms) * 1e12 == pytest.approx(
        expected["total"], rel=1e-9
    )


@pytest.mark.parametrize("context", [1, 128, 1024, 8192])
def test_golden_transformer(context: int) -> None:
    """A 163M transformer, weights in 128 KiB SRAM, cache in DRAM: compute, weights, cache."""
    case = f"L18_d768_V50277|ctx={context}|h45_int8|sram128K"
    expected = json.loads(GOLDEN.read_text())["gpt_ann_decode_pJ_per_token"][case]
    sizes = DenseTransformerSizes(50277, 768, 18, 12, 4 * 768, kv_bits=16)
    assert sizes.weights == expected["n_mac_linear"]
    wide = accelerator_prices().joined({"tile_columns": Quantity(512, "1", "golden", "cited")})
    result = dense_token_energy(sizes, wide, context, cache_level="dram")
    assert result.of("compute") * 1e12 == pytest.approx(expected["compute"], rel=1e-9)
    assert result.of("weights") * 1e12 == pytest.approx(expected["weights"], rel=1e-9)
    cache = expected["kv_read"] + expected["kv_write"]
    assert result.of("key-value cache") * 1e12 == pytest.approx(cache, rel=1e-9)


def test_golden_shared_fetches() -> None:
    ratios = json.loads(GOLDEN.read_text())["weight_fetch_ratio_snn_over_ann"]
    for rate, row in ratios.items():
        for sharing, ratio in row.items():
            rows, weights = 1024, 64
            fetches = expected_fetches(float(rate[2:]), weights, rows, int(sharing))
            assert fetches / (rows * weights / int(sharing)) == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize(("size", "bits"), [(1, 1), (2, 1), (3, 2), (256, 8), (257, 9), (768, 10)])
def test_address_bits(size: int, bits: int) -> None:
    assert address_bits(size) == bits


def test_dense_twin_by_hand() -> None:
    """Width 16, one layer, context 4: additions, weights and cache counted again here."""
    sizes = DenseTransformerSizes(vocabulary=50, width=16, layers=1, heads=2, hidden=64)
    result = dense_token_energy(sizes, accelerator_prices(), 4)
    weights = 16 * 48 + 16 * 16 + 16 * 64 + 64 * 16 + 16 * 50
    macs = weights + 2 * 4 * 16
    assert sizes.weights == weights
    assert result.of("compute") == pytest.approx(macs * 0.3e-12)
    bank = 0.15625e-12 * 8**0.4745611564124804  # 64 KiB: 256 x 256 weights of a byte
    assert result.of("weights") == pytest.approx(weights * 8 * bank)
    assert result.of("key-value cache") == pytest.approx((2 * 4 * 16 + 2 * 16) * 8 * bank)
    table = 0.15625e-12 * 16**0.4745611564124804  # 128 KiB, as the spiking chip's tables
    assert result.of("embedding") == pytest.approx(16 * 8 * table)
    rows = 16 + 16 + 16 + 64 + 2 * 4 * 16 / 256 + 16
    assert result.seconds_per_token == pytest.approx(rows * 1e-9)
    tiles = 4 + 1 + 1 + 1  # four matrices, the head, one tile of cache, one of embedding
    assert result.of("static") == pytest.approx(tiles * 0.8125e-3 * rows * 1e-9)


def test_ngram_tables_are_look_ups_and_leak() -> None:
    prices = accelerator_prices()
    plain = dense_token_energy(SIZES, prices, 4)
    sizes = replace(SIZES, ngram_rows=(65536, 131072))
    tables = dense_token_energy(sizes, prices, 4)
    assert sizes.table_words == 16 * 50 + 8 * (65536 + 131072)
    assert tables.of("embedding") == pytest.approx(2 * plain.of("embedding"))
    extra = 16 + (10 + 13)  # added rows; hashes of 2 and of 3 tokens
    assert tables.of("elementwise") - plain.of("elementwise") == pytest.approx(
        (extra + 7 + 9) * 0.1e-12
    )
    tiles = {"plain": 1, "tables": 13}  # 800 and 1,573,664 bytes in banks of 128 KiB
    rest = sum(term.amount for term in plain.terms if term.mechanism == "static")
    rows = plain.seconds_per_token * 1e9
    with_tables = sum(term.amount for term in tables.terms if term.mechanism == "static")
    assert (with_tables - rest) / rows == pytest.approx(tiles["tables"] - tiles["plain"])
    assert tables.of("compute") == plain.of("compute")


def test_cache_grows_with_the_context_and_nothing_else_of_memory_does() -> None:
    prices = accelerator_prices()
    short, long = (dense_token_energy(SIZES, prices, context) for context in (1, 1000))
    assert long.of("key-value cache") > 300 * short.of("key-value cache")
    assert long.of("weights") == short.of("weights")
    dram = dense_token_energy(SIZES, prices, 1000, cache_level="dram")
    assert dram.of("key-value cache") > 10 * long.of("key-value cache")
    assert dram.of("static") < long.of("static")  # no tiles for the cache


def test_prefill_shares_fetches_and_overlaps_in_time() -> None:
    prices = accelerator_prices()
    decode = dense_token_energy(SIZES, prices, 8)
    prefill = dense_token_energy(SIZES, prices, 8, 16, True, 16)
    assert prefill.of("weights") == pytest.approx(decode.of("weights") / 16)
    assert prefill.seconds_per_token < decode.seconds_per_token
    assert prefill.of("compute") == decode.of("compute")


def test_digital_chip_charges_exact_counts() -> None:
    network = tiny_network()
    counted = phase(network, tokens=2, spikes=3)
    result = digital_token_energy(network, accelerator_prices(), counted)
    operations = counted.total("synaptic_operations") / 2
    assert result.of("compute") == pytest.approx(operations * 0.1e-12)
    bank = 0.15625e-12 * 8**0.4745611564124804
    fetched = counted.total("weight_fetches") / 2
    assert result.of("weights") == pytest.approx(fetched * 8 * bank)
    channels = sum(node.size for node in network.nodes if hasattr(node, "half_threshold"))
    assert result.of("neuron") == pytest.approx(channels * 0.3e-12)
    state = (counted.total("state_reads") + counted.total("state_writes")) / 2 * 32 * 0.15625e-12
    additions = (counted.of("attention", "additions") + counted.of("attention", "shifts")) / 2
    assert result.of("attention") == pytest.approx(state + additions * 0.1e-12)


@pytest.mark.parametrize(
    ("columns", "weight_bits", "kib"), [(256, 8, 64), (512, 8, 128), (256, 4, 32), (16, 8, 8)]
)
def test_a_weight_bank_is_as_large_as_the_weights_of_a_tile(
    columns: int, weight_bits: int, kib: int
) -> None:
    """On both digital sides; no bank is priced below 8 KiB."""
    width = Quantity(columns, "1", "test", "cited")
    prices = accelerator_prices().joined({"tile_columns": width})
    per_bit = prices.sram(kib * 1024).value
    sizes = replace(SIZES, weight_bits=weight_bits)
    twin = dense_token_energy(sizes, prices, 4)
    assert twin.of("weights") == pytest.approx(sizes.weights * weight_bits * per_bit)
    network = tiny_network()
    nodes = tuple(
        replace(node, weight_bits=weight_bits) if hasattr(node, "weight_bits") else node
        for node in network.nodes
    )
    network = replace(network, nodes=nodes)
    counted = phase(network)
    spikes = digital_token_energy(network, prices, counted)
    fetched = counted.total("weight_fetches") / counted.tokens
    assert spikes.of("weights") == pytest.approx(fetched * weight_bits * per_bit)


def test_tables_stand_in_the_banks_of_the_spiking_chip() -> None:
    changed = round_prices(**{"memory.embedding_bank": quantity(2**20, "B")})
    prices = accelerator_prices(changed)
    twin = dense_token_energy(SIZES, prices, 4)
    assert twin.of("embedding") == pytest.approx(16 * 8 * prices.sram(2**20).value)


def test_digital_chip_shares_fetches_by_the_model() -> None:
    network = tiny_network()
    counts = {"up": {"synaptic_operations": 16, "weight_fetches": 16}}  # half of 4 x 8 weights
    one, four = (
        digital_token_energy(
            network, accelerator_prices(), PhaseCounts(1, counts, {}), sharing=sharing
        )
        for sharing in (1, 4)
    )
    ratio = (1 - 0.5**4) / 4 / 0.5
    assert four.of("weights") == pytest.approx(one.of("weights") * ratio)


def test_comparison_on_the_same_terms() -> None:
    network = tiny_network()
    prices = round_prices()
    phases = {"prefill": phase(network, 5), "decode": phase(network, 3)}
    report = energy_report(network, prices, facts(network), phases)
    comparison = compare(network, report, prices, SIZES, 6)
    data = json.loads(json.dumps(comparison.to_dict()))
    assert data["ratio"] == pytest.approx(
        data["ann_twin_decode_J_per_token"] / report.phases["decode"].total
    )
    assert data["ratio_is"] == "twin / spiking chip"
    ours, theirs = report.phases["decode"], comparison.twin["decode"]
    assert data["static_share"] == {
        "spiking_chip": pytest.approx(ours.of("static") / ours.total),
        "ann_twin": pytest.approx(theirs.of("static") / theirs.total),
    }
    assert data["trained_context"] is None
    assert data["uncertainty"]["ratio"]["p5"] < data["uncertainty"]["ratio"]["p95"]
    assert list(data["contexts_decode_J_per_token"]) == ["1", "128", "1024", "8192"]
    chip = [row["spiking_chip"] for row in data["contexts_decode_J_per_token"].values()]
    twin = [row["ann_twin"] for row in data["contexts_decode_J_per_token"].values()]
    assert len(set(chip)) == 1
    assert twin == sorted(twin)
    assert twin[0] < twin[-1]
    additions = (phases["decode"].total("synaptic_operations") + 8 * 6) / 3
    macs = SIZES.weights + 2 * 2 * 16 * 6
    assert data["legacy"]["spiking_J"] == pytest.approx(additions * 0.9e-12)
    assert data["legacy"]["ann_twin_J"] == pytest.approx(macs * 4.6e-12)
    assert "excludes memory" in data["legacy"]["label"]
    # tiles of the twin leak as the chip's do: 1 mW here
    twin_static = comparison.twin["decode"]
    doubled = round_prices(**{"static.tile_power": quantity(2e-3, "W")})
    again = compare(network, report, doubled, SIZES, 6).twin["decode"]
    assert again.of("static") == pytest.approx(2 * twin_static.of("static"))


def test_sizes_and_context_are_checked() -> None:
    with pytest.raises(ValueError, match="heads >= 1"):
        DenseTransformerSizes(50, 16, 2, 0, 64)
    with pytest.raises(ValueError, match="ngram_rows >= 1"):
        DenseTransformerSizes(50, 16, 2, 2, 64, ngram_rows=(0,))
    network = tiny_network()
    prices = round_prices()
    report = energy_report(network, prices, facts(network), {"decode": phase(network)})
    with pytest.raises(ValueError, match="context"):
        compare(network, report, prices, SIZES, 0)
