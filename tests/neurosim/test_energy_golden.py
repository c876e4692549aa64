"""Break-even rates, recurrent models, published forms: every value of the golden file to 1e-9."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neurosim.energy.break_even import Duel, compute_only
from neurosim.energy.layers import EventOptions, Site, Words, dense_layer
from neurosim.energy.lemaire import LemaireLayer, access_energy, layer_energy
from neurosim.energy.prices import PriceList, load_prices
from neurosim.energy.published import (
    DEVICE_LINES,
    THRESHOLDS,
    Consistency,
    convolution_operations,
    operations_only,
    spiking_attention_accumulates,
    yan_required_sparsity,
)
from neurosim.energy.recurrent import RecurrentSizes, recurrent_token_energy
from neurosim.energy.terms import joules_of
from neurosim.quantity import Quantity

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "data" / "energy_golden.json").read_text(encoding="utf-8")
)
EXAMPLES = json.loads(
    (Path(__file__).parents[1] / "data" / "spike_driven_energy.json").read_text(encoding="utf-8")
)
SRAM_128K, SRAM_32K = 131072, 32768


def golden_prices(preset: str) -> PriceList:
    """Prices of a golden preset, which is in pJ."""
    data = GOLDEN["presets"][preset]
    special = 4 * (data["e_mul"] + data["e_acc"])
    joules = {
        "multiply": data["e_mul"],
        "accumulate": data["e_acc"],
        "compare": data["e_cmp"],
        "special_function": special,
        "sram_energy": data["sram8k"],
        "dram": data["dram"],
        "event_hop": data["e_hop_sparse"],
        "value_hop": data["e_hop_dense"],
    }
    values = {name: value * 1e-12 for name, value in joules.items()}
    values |= {"sram_reference": 8192.0, "sram_exponent": data["alpha"]}
    return PriceList({name: Quantity(v, "J", "golden", "cited") for name, v in values.items()})


def duel_of(name: str, steps: int) -> Duel:
    """The settings behind a name of the golden table."""
    settings: dict[str, Any] = {}
    if "45pct" in name:
        settings["density"] = 0.45
    if name.endswith("both"):
        settings["weight_density"] = 0.45
    for text, hops in (("route_1hop", 1.0), ("route_4p75hop", 4.75)):
        if text in name:
            settings["options"] = EventOptions(hops=hops)
    if name == "dram_ann_rho64":
        settings["dense_tokens_per_fetch"] = 64
    if "reuse" in name:
        settings["tokens_per_fetch"] = int(name.split("_")[1].removeprefix("rho"))
        settings["temporal_reuse"] = "no_temporal" not in name
    return Duel(1024, 1024, steps, **settings)


@pytest.mark.parametrize("case", GOLDEN["breakeven"])
def test_golden_break_even_rates(case: str) -> None:
    preset, steps = case.split("|T=")
    bits = GOLDEN["presets"][preset]
    for name, expected in GOLDEN["breakeven"][case].items():
        level = "dram" if name.startswith("dram") else SRAM_128K
        words = Words(bits["bw"], bits["ba"], bits["bv"], level)
        site = Site("layer", "layer", golden_prices(preset), words)
        if name == "compute_only":
            rate = compute_only(site, int(steps))
        else:
            rate = duel_of(name, int(steps)).break_even(site)
        if "reuse" in name:  # the golden table stops at 1 there
            rate = min(rate, 1.0)
        assert rate == pytest.approx(expected, rel=1e-9), name


def test_at_the_break_even_rate_both_sides_cost_the_same() -> None:
    site = Site("layer", "layer", golden_prices("h45_int8"), Words(weight_level="dram"))
    for duel in (Duel(300, 700, 4), Duel(300, 700, 4, tokens_per_fetch=16, temporal_reuse=True)):
        rate = duel.break_even(site)
        assert 0.0 < rate < 1.0
        assert duel.spiking(site, rate) == pytest.approx(duel.dense(site), rel=1e-9)
        assert duel.spiking(site, rate / 2) < duel.dense(site) < duel.spiking(site, 1.0)


def test_a_dense_layer_cheaper_than_silence_is_never_beaten() -> None:
    site = Site("layer", "layer", golden_prices("h45_int8"), Words())
    hungry = Duel(1, 1024, 64, density=1e-6, weight_density=1e-6)
    assert hungry.break_even(site) < 0.0
    shared = Duel(1, 1024, 64, density=1e-6, weight_density=1e-6, tokens_per_fetch=2)
    assert shared.break_even(site) == 0.0


@pytest.mark.parametrize("case", GOLDEN["spikegpt_decode_pJ_per_token"])
def test_golden_recurrent_models(case: str) -> None:
    model, preset, _, rate, level = case.split("|")
    expected = GOLDEN["spikegpt_decode_pJ_per_token"][case]
    sizes = RecurrentSizes(12, 512, 5458) if model == "s46M" else RecurrentSizes(18, 768, 50277)
    bits = GOLDEN["presets"][preset]
    memory = "dram" if level == "dram" else SRAM_128K
    words = Words(bits["bw"], bits["ba"], bits["bv"], memory, SRAM_32K, SRAM_32K)
    probability = None if rate == "p=None" else float(rate.removeprefix("p="))
    found = recurrent_token_energy(sizes, golden_prices(preset), words, probability)

    def without_head(mechanism: str) -> float:
        parts = found.by_layer_and_mechanism()
        return 1e12 * sum(
            part.get(mechanism, 0.0) for layer, part in parts.items() if layer != "head"
        )

    names = {
        "compute": "compute",
        "weights": "weights",
        "act_io": "activations",
        "event_io": "events",
        "membrane": "state",
        "neuron": "neuron",
        "state_rw": "recurrent state",
        "embedding": "embedding",
    }
    for name, mechanism in names.items():
        assert without_head(mechanism) == pytest.approx(expected.get(name, 0.0), rel=1e-9), name
    head = found.by_layer_and_mechanism()["head"]
    assert head["compute"] * 1e12 == pytest.approx(expected["head_compute"], rel=1e-9)
    assert head["weights"] * 1e12 == pytest.approx(expected["head_weights"], rel=1e-9)
    assert found.of("elementwise") * 1e12 == pytest.approx(expected["elementwise"], rel=1e-9)
    assert found.total * 1e12 == pytest.approx(expected["total"], rel=1e-9)


def test_sizes_of_the_published_recurrent_models() -> None:
    assert RecurrentSizes(12, 512, 5458).weights == 43_688_960
    assert RecurrentSizes(18, 768, 50277).state_values == 96_768
    with pytest.raises(ValueError, match="expected layers >= 1, got 0"):
        RecurrentSizes(0, 512, 5458)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 8, 12, 16])
def test_golden_required_sparsity(steps: int) -> None:
    expected = GOLDEN["yan_v1_required_sparsity"][str(steps)]
    for dataflow in ("spatial", "classical"):
        key = "spatial_dataflow" if dataflow == "spatial" else dataflow
        assert yan_required_sparsity(steps, dataflow) == pytest.approx(expected[key], abs=1e-12)


def test_closed_forms_refuse() -> None:
    with pytest.raises(ValueError, match="at least one time step, got 0"):
        yan_required_sparsity(0)
    with pytest.raises(ValueError, match="spatial.*classical"):
        yan_required_sparsity(1, "other")
    with pytest.raises(ValueError, match="fp32, fp16, int8"):
        operations_only(1, 1, "fp64")


def test_operations_only_by_hand() -> None:
    assert operations_only(10, 100) == pytest.approx(10 * 4.6e-12 + 100 * 0.9e-12, rel=1e-12)
    assert operations_only(10, 100, "int8") == pytest.approx(5.3e-12, rel=1e-12)


def test_thresholds_name_their_unit_and_source() -> None:
    for threshold in THRESHOLDS:
        assert threshold.source
        low, high = threshold.limit * 0.99, threshold.limit * 1.01
        other = 1e9  # the quantity that the threshold is not about
        if "synapse" in threshold.unit:
            assert threshold.met(low, other) and not threshold.met(high, 0.0)
        else:
            assert threshold.met(other, low) and not threshold.met(0.0, high)


def test_device_lines_charge_spiking_devices_per_spike() -> None:
    lines = {line.name: line for line in DEVICE_LINES}
    assert lines["CPU"].energy(1000, 10, 0.1, 4) == pytest.approx(1010 * 8.6e-9)
    assert lines["Loihi"].energy(1000, 10, 0.1, 4) == pytest.approx(400 * 27.1e-12 + 40 * 81e-12)


def test_the_measured_language_model_is_met_by_a_fit() -> None:
    row, golden = Consistency(), GOLDEN["loihi2_llm_calibration"]
    assert row.dynamic * 1e3 == pytest.approx(
        golden["dynamic_only_estimate_mJ_370M_W8_7nm_sram"], rel=1e-9
    )
    assert row.modelled == pytest.approx(row.measured, rel=2e-3)
    assert row.static / row.modelled > 0.99
    assert "fitted" in row.label


def test_every_digital_price_list_has_the_routing_and_address_prices() -> None:
    for section in ("digital_45nm", "digital_7nm"):
        assert not load_prices(section).missing(("event_hop", "value_hop", "address"))


def test_lemaire_layer_by_hand() -> None:
    """3 spikes into 4 x 2 with bias, one row, one spike out: every access priced by its memory."""
    assert [access_energy(n) for n in (0, 4096, 8192, 20480, 32768, 2**20, 2**24)] == (
        pytest.approx([0.0, 5e-12, 10e-12, 15e-12, 20e-12, 100e-12, 100e-12])
    )
    found = layer_energy(LemaireLayer(4, 2, 1, bias=True, spikes_in=3, spikes_out=1, leaky=True))
    fifo, weights, membrane = (access_energy(4 * words) for words in (1000, 10, 2))
    assert found.operations == pytest.approx((6 + 2 + 1) * 0.1e-12 + 2 * 3.2e-12)
    assert found.addressing == pytest.approx(6 * 0.1e-12)
    assert found.inputs_outputs == pytest.approx((3 + 1) * fifo)
    assert found.parameters == pytest.approx((6 + 2) * weights)
    assert found.potentials == pytest.approx(2 * (6 + 2) * membrane)
    with pytest.raises(ValueError, match="rows a multiple of steps"):
        LemaireLayer(4, 2, 3, steps=2)


@pytest.mark.parametrize("name", ["spikingformer_8_512", "spikingformer_8_768"])
def test_spikingformer_logs(name: str) -> None:
    """The public log's totals are its layers, its attention by the formula, 4.6 and 0.9 pJ."""
    case, width = EXAMPLES[name], int(name.split("_")[-1])
    macs = sum(layer["mac"] for layer in case["layers"])
    accumulates = sum(layer["ac"] for layer in case["layers"]) + sum(
        spiking_attention_accumulates(case["T"], 196, width, tuple(rates))
        for rates in case["qkv_rates"]
    )
    assert macs / 1e9 == pytest.approx(case["G_mac"], rel=1e-9)
    assert accumulates / 1e9 == pytest.approx(case["G_ac"], rel=1e-9)
    energy = operations_only(macs, accumulates)
    assert energy * 1e3 == pytest.approx(case["energy_mJ"], rel=1e-9)


def test_spikeyolo_sheet_with_and_without_its_slip() -> None:
    """Its first row holds 4.6 as a rate and multiplies it by 0.9 pJ; done right it is 1 % more."""
    case = EXAMPLES["spikeyolo_23M_T1_D4"]
    dense = [
        convolution_operations(
            row["k"],
            row["cin"],
            row["cout"],
            row["h_in"],
            row["w_in"],
            row["stride"],
            row["groups"],
        )
        for row in case["layers"]
    ]
    rates = [row["mean_integer_spikes"] for row in case["layers"]]
    assert sum(dense) / 1e9 == pytest.approx(case["total_GFLOPs"], rel=1e-9)
    sheet = operations_only(0, sum(n * rate for n, rate in zip(dense, rates, strict=True)))
    assert sheet * 1e3 == pytest.approx(case["snn_mJ"], rel=1e-9)
    assert operations_only(sum(dense), 0) * 1e3 == pytest.approx(case["ann_mJ"], rel=1e-9)
    rest = sum(n * rate for n, rate in zip(dense[1:], rates[1:], strict=True))
    right = operations_only(dense[0], rest)
    assert 1.0 < right / sheet < 1.02


@pytest.mark.parametrize("case", GOLDEN["gpt_ann_decode_pJ_per_token"])
def test_golden_transformers(case: str) -> None:
    """18 layers of 12 d x d matrices, 12 heads, a head without activations, a 16-bit cache in DRAM.

    The file's convention of matrices and activations, our layers, pairs, cache and prices.
    """
    _, context_text, preset, level = case.split("|")
    expected = GOLDEN["gpt_ann_decode_pJ_per_token"][case]
    layers, width, heads, vocabulary = 18, 768, 12, 50277
    context = int(context_text.removeprefix("ctx="))
    memory = "dram" if level == "dram" else SRAM_128K
    words = Words(8, 8, 16, memory, SRAM_32K)
    site = Site("layer", "layer", golden_prices(preset), words)
    terms = [term for _ in range(12 * layers) for term in dense_layer(site, width, width)]
    head = dense_layer(site, width, vocabulary)
    terms += [term for term in head if term.mechanism != "activations"]
    pairs = 2 * layers * width * context  # q k and a v
    terms += [
        site.compute("multiplies", pairs, "multiply"),
        site.compute("additions", pairs, "accumulate"),
        site.moved("cache read", "read", 2 * layers * width * context * 16, "dram"),
        site.moved("cache written", "written", 2 * layers * width * 16, "dram"),
    ]
    scores = layers * heads * context
    special = site.prices.price("special_function")
    terms.append(site.term("softmax", "scores", scores, special))
    parts = {
        "compute": "compute",
        "weights": "weights",
        "act_io": "activations",
        "kv_read": "cache read",
        "kv_write": "cache written",
        "softmax": "softmax",
    }
    for name, mechanism in parts.items():
        own = joules_of(term for term in terms if term.mechanism == mechanism)
        assert own * 1e12 == pytest.approx(expected[name], rel=1e-9), name
    assert joules_of(terms) * 1e12 == pytest.approx(expected["total"], rel=1e-9)
