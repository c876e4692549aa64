"""The account of the chip: one layer by hand, sums, refusals, and how it moves with the counts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from energy_cases import (
    facts,
    phase,
    quantity,
    round_numbers,
    round_prices,
    tiny_network,
    weights,
)
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.energy import (
    COUNTS,
    PhaseCounts,
    PlacementFacts,
    UnpricedError,
    chip_prices,
    energy_report,
    load_prices,
    token_energy,
)
from neurosim.energy.model import storage_bits, windows_per_token
from neurosim.energy.prices import Price
from neurosim.energy.terms import Breakdown, priced
from neurosim.energy.uncertainty import sensitivity, uncertainty
from neurosim.energy.units import joules
from neurosim.quantity import Quantity

NETWORK = tiny_network()


def test_one_layer_by_hand() -> None:
    """The worked example of docs/energy.md: a read, its crossbar, the neurons behind it."""
    counted = PhaseCounts(
        1,
        {
            "up_read": {
                "neuron_spikes": 3,
                "neuron_windows": 4,
                "conversions": 4,
                "packets": 2,
                "hops": 6,
            },
            "up": {
                "synaptic_operations": 24,
                "effective_operations": 20,
                "row_pulses": 3,
                "weight_fetches": 16,
            },
            "hidden": {"neuron_spikes": 2, "neuron_windows": 8},
        },
        {
            "up_read": {"device": 3 * 4e-14},
            "up": {"synapse": 24 * 1e-15},
            "hidden": {"device": 2 * 4e-14},
        },
    )
    placed = PlacementFacts({"up": 1}, 7, {"up_read": 5})
    result = token_energy(NETWORK, round_prices(), placed, "decode", counted)
    expected = {
        "neuron device": 5 * 4e-14,  # integrated
        "synapse": 24 * 1e-15,  # integrated
        "word lines": 3 * 4e-13,  # 0.4 pJ a pulse
        "conversion": 4 * 3e-12,  # DAC, 3 pJ
        "routing": 2 * 1e-12 + 6 * 5 * 3e-12,  # packets at 1 pJ, 6 hops x 5 bit x 3 pJ
        "static": (1 * 1e-3 + 2e-3) * 7 * 1e-6,  # one tile and the chip, 7 windows of 1 us
        "control": 0.0,
    }
    assert result.by_mechanism() == pytest.approx(expected, rel=1e-12)
    assert result.total == pytest.approx(math.fsum(expected.values()), rel=1e-12)
    assert result.seconds_per_token == pytest.approx(7e-6)
    table = (Path(__file__).parents[2] / "docs" / "energy.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line.split("|")[4].strip()
        for line in table.splitlines()
        if line.count("|") == 5
    }
    for name, value in {**result.by_mechanism(), "**total**": result.total}.items():
        assert rows[name] == joules(value), name


def test_attention_accumulator_and_embedding_by_hand() -> None:
    counted = PhaseCounts(
        2,
        {
            "attention": {"state_reads": 6, "state_writes": 4, "additions": 10, "shifts": 2},
            "residual": {
                "accumulator_reads": 8,
                "accumulator_writes": 4,
                "additions": 4,
                "value_hops": 6,
            },
            "embedding": {"embedding_reads": 8},
        },
        {},
    )
    placed = PlacementFacts({}, 1, {})
    parts = token_energy(NETWORK, round_prices(), placed, "decode", counted).by_mechanism()
    assert parts["attention"] == pytest.approx((10 * 32 * 2e-13 + 12 * 1e-13) / 2)
    assert parts["accumulator"] == pytest.approx((12 * 32 * 2e-13 + 4 * 1e-13) / 2)
    assert parts["routing"] == pytest.approx(6 * 32 * 2.5e-13 / 2)
    assert parts["embedding"] == pytest.approx(8 * 8 * 2e-13 * 4 / 2)  # 128 KiB: factor sqrt 16


def test_total_is_the_exact_sum_of_its_terms_however_they_are_grouped() -> None:
    result = token_energy(NETWORK, round_prices(), facts(NETWORK), "decode", phase(NETWORK))
    assert result.total == math.fsum(term.joules for term in result.terms)
    assert result.total == math.fsum(term.joules for term in reversed(result.terms))
    for parts in (result.by_mechanism(), result.by_layer()):
        assert math.fsum(parts.values()) == pytest.approx(result.total, rel=1e-15)
    cells = result.by_layer_and_mechanism()
    for layer, total in result.by_layer().items():
        assert math.fsum(cells[layer].values()) == pytest.approx(total, rel=1e-15)
    for term in result.terms:
        if term.prices:
            value = math.prod(price.value for price in term.prices)
            assert term.joules == pytest.approx(term.amount * value, rel=1e-15)


@pytest.mark.parametrize(
    "missing",
    ["conversion.adc_energy", "routing.hop_energy", "static.tile_power", "memory.sram_energy"],
)
def test_a_missing_price_refuses_the_total_and_is_named(missing: str) -> None:
    numbers = {name: value for name, value in round_numbers().items() if name != missing}
    name = {"conversion.adc_energy": "adc", "routing.hop_energy": "hop"}.get(
        missing, missing.split(".")[1]
    )
    with pytest.raises(UnpricedError, match=rf"no total.*\b{name}\b"):
        token_energy(NETWORK, chip_prices(numbers), facts(NETWORK), "decode", phase(NETWORK))


def test_all_missing_prices_are_listed_at_once() -> None:
    with pytest.raises(ValueError, match="adc.*dac.*hop.*sram_energy.*tile_power.*window"):
        token_energy(NETWORK, chip_prices({}), facts(NETWORK), "decode", phase(NETWORK))


def test_a_price_of_what_did_not_happen_is_not_needed() -> None:
    numbers = {k: v for k, v in round_numbers().items() if k != "conversion.adc_energy"}
    silent = PhaseCounts(1, {"embedding": {"embedding_reads": 4}}, {})
    token_energy(NETWORK, chip_prices(numbers), facts(NETWORK), "decode", silent)


@pytest.mark.parametrize("node", ["up", "hidden"])
def test_energy_that_the_simulator_did_not_integrate_is_unpriced(node: str) -> None:
    counted = phase(NETWORK)
    joules = {name: parts for name, parts in counted.joules.items() if name != node}
    with pytest.raises(ValueError, match=f"{node}: .*integrated by the simulator"):
        token_energy(
            NETWORK, round_prices(), facts(NETWORK), "decode", replace(counted, joules=joules)
        )


def test_unknown_packet_bits_are_refused() -> None:
    placed = replace(facts(NETWORK), packet_bits={})
    with pytest.raises(ValueError, match="hidden: packet bits"):
        token_energy(NETWORK, round_prices(), placed, "decode", phase(NETWORK))


@pytest.mark.parametrize("tokens", [1, 2, 63, 100_000])
def test_windows_of_prefill_and_decode(tokens: int) -> None:
    assert windows_per_token("decode", tokens, 7) == 7
    assert windows_per_token("prefill", tokens, 7) * tokens == pytest.approx(tokens + 6)


def test_prefill_per_token_costs_at_most_decode() -> None:
    counted = phase(NETWORK, tokens=20)
    prices, placed = round_prices(), facts(NETWORK)
    prefill, decode = (
        token_energy(NETWORK, prices, placed, name, counted) for name in ("prefill", "decode")
    )
    assert prefill.total < decode.total
    dynamic = [b.total - b.of("static") for b in (prefill, decode)]
    assert dynamic[0] == pytest.approx(dynamic[1], rel=1e-12)
    assert prefill.of("static") / decode.of("static") == pytest.approx(26 / 20 / 7)


def test_zero_spikes_leave_what_does_not_depend_on_spikes() -> None:
    silent = phase(NETWORK, spikes=0)
    parts = token_energy(NETWORK, round_prices(), facts(NETWORK), "decode", silent).by_mechanism()
    left = {name for name, value in parts.items() if value > 0}
    assert left == {
        "neuron leak",
        "conversion",
        "accumulator",
        "embedding",
        "routing",  # words on their way to the accumulator
        "static",
    }


@examples(60)
@given(data=st.data())
def test_monotone_in_every_count(data: st.DataObject) -> None:
    counted = phase(NETWORK)
    node = data.draw(st.sampled_from(sorted(counted.counts)))
    name = data.draw(st.sampled_from(sorted(counted.counts[node])))
    more = data.draw(st.integers(1, 10**9))
    counts = {key: dict(values) for key, values in counted.counts.items()}
    counts[node][name] += more
    prices, placed = round_prices(), facts(NETWORK)
    before = token_energy(NETWORK, prices, placed, "decode", counted).total
    after = token_energy(NETWORK, prices, placed, "decode", replace(counted, counts=counts)).total
    free = {
        "synaptic_operations",
        "effective_operations",
        "weight_fetches",
        "neuron_spikes",
        "neuron_windows",
    }  # their energy is integrated by the simulator
    assert after == before if name in free else after > before


@examples(40)
@given(
    tokens=st.integers(1, 50),
    spikes=st.integers(0, 40),
    seed=st.integers(0, 99),
    kappa=st.floats(0, 1),
)
def test_sum_of_parts_is_the_total(tokens: int, spikes: int, seed: int, kappa: float) -> None:
    prices = round_prices(**{"digital.control": quantity(kappa, "J/J")})
    counted = phase(NETWORK, tokens, spikes, seed)
    result = token_energy(NETWORK, prices, facts(NETWORK), "prefill", counted)
    assert math.fsum(result.by_mechanism().values()) == pytest.approx(result.total, rel=1e-14)
    control, static = result.of("control"), result.of("static")
    assert control == pytest.approx(kappa * (result.total - control - static), rel=1e-9)
    assert all(term.joules >= 0 for term in result.terms)


def test_evidence_is_the_weakest_used() -> None:
    prices = round_prices()
    result = token_energy(NETWORK, prices, facts(NETWORK), "decode", phase(NETWORK))
    assert result.evidence_by_mechanism()["routing"] == "cited"
    assert result.evidence == "assumed"  # no control overhead is an assumption
    device = token_energy(
        NETWORK, prices, facts(NETWORK), "decode", phase(NETWORK), evidence="assumed"
    )
    assert device.evidence_by_mechanism()["neuron device"] == "assumed"


def test_report_is_plain_data_with_everything_in_it() -> None:
    phases = {"prefill": phase(NETWORK, 5), "decode": phase(NETWORK, 3)}
    report = energy_report(
        NETWORK, round_prices(), facts(NETWORK), phases, "assumed", ("PLACEHOLDER: test",)
    )
    data = json.loads(json.dumps(report.to_dict()))
    assert data["decode_J_per_token"] == report.phases["decode"].total
    assert data["prefill_J_per_token"] == report.phases["prefill"].total
    assert sum(data["by_mechanism_J"].values()) == pytest.approx(data["decode_J_per_token"])
    assert sum(data["by_layer_J"].values()) == pytest.approx(data["decode_J_per_token"])
    assert data["flags"] == ["PLACEHOLDER: test"]
    assert data["evidence"] == "assumed"
    assert any("tokenizer" in entry for entry in data["excludes"])
    assert data["prices"]["adc"]["source"] == "a test"
    totals = report.count_totals()
    assert totals["multiplies"] == 0
    assert set(totals) == {*COUNTS, "multiplies"}
    assert totals["neuron_spikes"] == sum(p.total("neuron_spikes") for p in phases.values())


def test_words_on_the_mesh_are_excluded_by_name_where_they_were_not_counted() -> None:
    counted = phase(NETWORK)
    counts = {name: dict(values) for name, values in counted.counts.items()}
    del counts["residual"]["value_hops"]
    prices, placed = round_prices(), facts(NETWORK)
    without = energy_report(NETWORK, prices, placed, {"decode": replace(counted, counts=counts)})
    counted_too = energy_report(NETWORK, prices, placed, {"decode": counted})
    words = "words moved over the mesh"
    assert any(words in entry for entry in without.excludes)
    assert not any(words in entry for entry in counted_too.excludes)


def test_prefill_only_and_unknown_phases() -> None:
    report = energy_report(NETWORK, round_prices(), facts(NETWORK), {"prefill": phase(NETWORK)})
    data = report.to_dict()
    assert data["decode_J_per_token"] is None
    assert data["phase"] == "prefill"
    for phases in ({}, {"training": phase(NETWORK)}):
        with pytest.raises(ValueError, match="expected phases out of prefill, decode"):
            energy_report(NETWORK, round_prices(), facts(NETWORK), phases)


@pytest.mark.parametrize(
    ("largest", "bits"), [(0, 8), (127, 8), (128, 16), (32767, 16), (40000, 24)]
)
def test_storage_bits(largest: int, bits: int) -> None:
    table = weights(2, 3) * 0
    table[1, 2] = -largest
    assert storage_bits(table) == bits


def test_sram_power_law_meets_both_published_points() -> None:
    prices = load_prices("digital_45nm")
    assert prices.sram(8 * 1024).value * 64 == pytest.approx(10e-12)
    assert prices.sram(1024**2).value * 64 == pytest.approx(100e-12)
    assert prices.sram(16).value == prices.sram(8192).value
    with pytest.raises(ValueError, match="digital_3nm"):
        load_prices("digital_3nm")


def test_every_shipped_price_has_a_band_or_is_not_an_assumption_about_energy() -> None:
    for section in ("digital_45nm", "digital_7nm", "chip", "accelerator", "legacy"):
        for name, entry in load_prices(section).entries.items():
            assert entry.source, name
            if entry.band is not None:
                assert entry.band[0] <= entry.value <= entry.band[1], name


def test_uncertainty_shares_what_both_sides_share() -> None:
    result = token_energy(NETWORK, round_prices(), facts(NETWORK), "decode", phase(NETWORK))
    spread = uncertainty(result, result, draws=500, seed=1)
    assert spread["ratio"]["p5"] == pytest.approx(1.0) == spread["ratio"]["p95"]
    assert spread["spiking_J"]["p5"] < result.total < spread["spiking_J"]["p95"] * 2
    assert spread == uncertainty(result, result, draws=500, seed=1)
    assert all(row["ratio_at_low"] == pytest.approx(1.0) for row in sensitivity(result, result))


def test_sensitivity_of_one_price_is_its_share() -> None:
    prices, placed, counted = round_prices(), facts(NETWORK), phase(NETWORK)
    ours = token_energy(NETWORK, prices, placed, "decode", counted)
    doubled = chip_prices({**round_numbers(), "routing.hop_energy": quantity(6e-12, "J/bit")})
    more = token_energy(NETWORK, doubled, placed, "decode", counted)
    fixed = PhaseCounts(1, {}, {})
    theirs = token_energy(
        NETWORK,
        round_prices(**{"static.tile_power": replace(quantity(1e-3, "W"), band=None)}),
        PlacementFacts({}, 1, {}),
        "decode",
        fixed,
    )
    rows = {row["assumption"]: row for row in sensitivity(ours, theirs)}
    assert rows["hop"]["ratio_at_high"] == pytest.approx(theirs.total / more.total, rel=1e-12)


def test_one_price_with_two_bands_moves_over_each() -> None:
    """A chip's own band of a price and the accelerator's: drawn at one place, not at one value."""

    def side(high: float) -> Breakdown:
        price = Price("accumulate", Quantity(1.0, "J", "a test", "cited", (0.5, high)))
        return Breakdown((priced("layer", "node", "m", "n", 1.0, price),), 0.0)

    narrow, wide = side(1.0), side(8.0)
    (row,) = sensitivity(narrow, wide)
    assert (row["ratio_at_low"], row["ratio_at_high"]) == (pytest.approx(1.0), pytest.approx(8.0))
    spread = uncertainty(narrow, wide)
    for percent in (5, 50, 95):
        place = percent / 100
        expected = {"spiking_J": 0.5 * 2**place, "twin_J": 0.5 * 16**place, "ratio": 8**place}
        for name, value in expected.items():
            assert spread[name][f"p{percent}"] == pytest.approx(value, rel=0.03), name
