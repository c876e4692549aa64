"""Energy per token of BrainGPT: the specification's figures, exact counts, sums of parts."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from neurosim.energy import load_prices
from neurosim.kernels import event_counts
from neurosim.models.braingpt import workload
from neurosim.models.braingpt.activity import (
    Activity,
    block_macs,
    fan_ins_and_outs,
    synthetic_rates,
)
from neurosim.models.braingpt.config import QWEN25_3B, BrainGPTConfig
from neurosim.models.braingpt.energy import (
    ANN,
    ARITHMETICS,
    SYSTEMS,
    energy_report,
    token_energy,
)
from neurosim.models.braingpt.energy_table import terminal
from neurosim.models.braingpt.sites import EVENT_CODES, PROJECTIONS, EventCounter
from neurosim.models.braingpt.workload import cache_bytes, neurons, weight_bytes

TINY = BrainGPTConfig(
    vocab_size=50,
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=4,
)
SPEC_RATES = {"unary": 26.1, "bit_plane": 2.70, "signed_digit": 2.33, "graded": 0.990}


def counted(config: BrainGPTConfig, tokens: int) -> tuple[EventCounter, dict[str, int]]:
    """A counter that listened to random counts; and events per site and code, counted apart."""
    random, counter = np.random.default_rng(3), EventCounter()
    operations = dict.fromkeys(EVENT_CODES, 0)
    scale = np.ones((1, tokens, 1), np.float32)
    embedded = random.integers(-127, 128, (1, tokens, config.hidden_size)).astype(np.int8)
    counter.site("embed.post", embedded, scale, 0)
    for i in range(config.num_hidden_layers):
        for name, (fan_in, fan_out) in fan_ins_and_outs(config).items():
            counts = random.integers(-127, 128, (1, tokens, fan_in)).astype(np.int8)
            counter.site(f"L{i}.{name}.pre", counts, scale, fan_out)
            for code, total in event_counts(counts, axis=None, backend="reference").items():
                operations[code] += int(total) * fan_out
    return counter, operations


def test_the_specification_s_figures_of_the_3b_model() -> None:
    """Section 3.8: linear layers alone, mJ per decoded token."""
    energy = token_energy(Activity.of_rates(SPEC_RATES, QWEN25_3B, "spec 3.8"), QWEN25_3B, 128)
    expected = {
        "fp32": {ANN: 12.8, "unary": 65.0, "bit_plane": 6.7, "signed_digit": 5.8},
        "fp16": {ANN: 4.2},
        "int8": {ANN: 0.64, "unary": 7.2, "bit_plane": 0.75, "signed_digit": 0.65},
    }
    for arithmetic, row in expected.items():
        for system, value in row.items():
            assert energy.linear(arithmetic, system) * 1e3 == pytest.approx(value, rel=0.01)
    assert QWEN25_3B.num_hidden_layers * block_macs(QWEN25_3B) == 2_774_532_096
    found = energy.to_dict()
    assert found["macs_per_token"]["lm_head"] == 311_164_928
    assert found["macs_per_token"]["attention"] == 147_456 * 128
    worse = [line for line in energy.conclusions() if "unary code is worse" in line]
    assert len(worse) == len(ARITHMETICS)


@pytest.mark.parametrize(
    ("distribution", "ratio", "expected"),
    [
        ("gaussian", 3.9, (26.1, 2.70, 2.33, 0.990)),
        ("gaussian", 5.0, (20.3, 2.51, 2.18, 0.984)),
        ("laplace", 10.9, (8.3, 1.82, 1.67, 0.942)),
    ],
)
def test_synthetic_rows_have_the_specification_s_rates(
    distribution: str, ratio: float, expected: tuple[float, ...]
) -> None:
    """Rounded in the specification, and there drawn with one row's maximum."""
    rates = synthetic_rates(distribution, ratio)
    assert list(rates.values()) == pytest.approx(list(expected), rel=0.016)


def test_synthetic_rows_against_draws() -> None:
    draws = np.random.default_rng(0).standard_normal(400_000)
    counts = np.clip(np.rint(draws / (3.0 / 127)), -127, 127).astype(np.int8)
    rates = synthetic_rates("gaussian", 3.0)
    for code, total in event_counts(counts, axis=None).items():
        assert int(total) / counts.size == pytest.approx(rates[code], rel=0.005)


@pytest.mark.parametrize("tokens", [1, 5])
def test_counted_amounts_are_the_counter_s(tokens: int) -> None:
    counter, operations = counted(TINY, tokens)
    energy = energy_report(counter, TINY, context=9)
    assert energy.activity.tokens == tokens and energy.activity.kind == "counted"
    add = load_prices("digital_45nm").price("accumulate").value
    for code in EVENT_CODES:
        assert energy.activity.total(code) * tokens == pytest.approx(operations[code], rel=1e-12)
        if code != "graded":
            spent = energy.linear("int8", code)
            assert spent == pytest.approx(add * operations[code] / tokens, rel=1e-12)
    sent = sum(
        counter.events[f"L{i}.{name}.pre"]["unary"]
        for i in range(2)
        for name in ("q_proj", "o_proj", "gate_proj", "down_proj")
    )
    assert math.fsum(energy.activity.events["unary"]) * tokens == pytest.approx(sent)


def test_parts_sum_to_the_total_and_every_price_has_a_source() -> None:
    counter, _ = counted(TINY, 2)
    found = energy_report(counter, TINY, 7, hops=1.5).to_dict()
    for arithmetic in ARITHMETICS:
        for system in SYSTEMS:
            row = found["systems"][arithmetic][system]
            assert sum(row["by_mechanism_J"].values()) == pytest.approx(
                row["J_per_token"], rel=1e-12
            )
            assert row["by_mechanism_J"]["routing"] > 0
    assert all(price["source"] and price["evidence"] for price in found["prices"].values())
    json.dumps(found)


def test_both_sides_move_the_same_bytes_and_do_the_same_rest() -> None:
    counter, _ = counted(TINY, 2)
    energy = energy_report(counter, TINY, 7)
    for arithmetic in ARITHMETICS:
        rows = [energy.systems[arithmetic][system] for system in SYSTEMS]
        for same in (
            "weights moved",
            "key-value cache moved",
            "lm_head",
            "attention",
            "norms, positions, residual",
        ):
            assert len({row.of(same) for row in rows}) == 1 and rows[0].of(same) > 0


def test_bytes_are_those_of_the_stored_numbers() -> None:
    width, hidden, vocabulary, layers = 12, 20, 50, 2
    linear = sum(a * b for a, b in fan_ins_and_outs(TINY).values())
    outputs = sum(b for _, b in fan_ins_and_outs(TINY).values())
    gains = width * (2 * layers + 1) + layers * (12 + 4 + 4)
    assert weight_bytes(TINY, 8) == {
        "linear layers": layers * (linear + 4 * outputs),
        "lm_head": vocabulary * width + 4 * vocabulary,
        "embedding row": width + 4,
        "gains and biases": 4 * gains,
    }
    assert weight_bytes(TINY, 32)["linear layers"] == 4 * layers * linear
    assert weight_bytes(TINY, 4)["linear layers"] == layers * (linear // 2 + 5 * outputs)
    assert weight_bytes(TINY, 4)["lm_head"] == weight_bytes(TINY, 8)["lm_head"]
    assert cache_bytes(TINY, 10, 16) == {"read": 10 * 2 * 4 * layers * 2, "written": 16 * layers}
    assert cache_bytes(QWEN25_3B, 1, 16)["read"] == 36_864
    assert neurons(TINY) == width + layers * (12 + 12 + 12 + hidden + outputs)


def test_context_moves_only_attention_and_the_cache() -> None:
    activity = Activity.synthetic(TINY)
    short, long = (token_energy(activity, TINY, c).systems["fp32"]["unary"] for c in (1, 100))
    for name, value in short.by_mechanism().items():
        grows = name in ("attention", "key-value cache moved")
        assert (long.of(name) > value) == grows, name


def test_fewer_weight_bits_move_fewer_bytes() -> None:
    activity = Activity.synthetic(TINY)
    totals = [
        token_energy(activity, TINY, 5, weight_bits=bits).systems["fp16"][ANN].of("weights moved")
        for bits in (32, 16, 8, 4)
    ]
    assert totals == sorted(totals, reverse=True)
    bank = token_energy(activity, TINY, 5, memory=65536).systems["fp16"][ANN]
    assert bank.of("weights moved") < totals[2]


def test_what_is_refused() -> None:
    counter, _ = counted(TINY, 2)
    with pytest.raises(ValueError, match="fresh EventCounter"):
        energy_report(counter, replace(TINY, num_hidden_layers=1), 5)
    with pytest.raises(ValueError, match="fresh EventCounter"):
        energy_report(EventCounter(), TINY, 5)
    activity = Activity.synthetic(TINY)
    with pytest.raises(ValueError, match="context"):
        token_energy(activity, TINY, 0)
    with pytest.raises(ValueError, match="weight_bits"):
        token_energy(activity, TINY, 1, weight_bits=3)
    with pytest.raises(ValueError, match="memory"):
        token_energy(activity, TINY, 1, memory="flash")
    with pytest.raises(ValueError, match="blocks"):
        token_energy(activity, QWEN25_3B, 1)
    with pytest.raises(ValueError, match="missing graded"):
        Activity.of_rates({"unary": 1.0, "bit_plane": 1.0, "signed_digit": 1.0}, TINY, "x")
    with pytest.raises(ValueError, match="gaussian or laplace"):
        synthetic_rates("cauchy", 3.0)


def test_the_terminal_says_what_is_counted_and_who_is_worse() -> None:
    reports = [token_energy(Activity.synthetic(QWEN25_3B), QWEN25_3B, c) for c in (128, 4096)]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(terminal([report.to_dict() for report in reports]))
    text = console.export_text()
    assert "synthetic: gaussian" in text and "context 4096" in text
    assert "unary code is worse" in text and "modelled" in text
    assert "signed digits" in text and len(PROJECTIONS) == 7


def test_stepping_neurons_take_the_slots_of_their_bits() -> None:
    few = replace(TINY, bits=3)
    two = [token_energy(Activity.synthetic(config), config, 5) for config in (TINY, few)]
    assert [report.to_dict()["slots"] for report in two] == [127, 3]
    assert two[0].stepping("int8") / two[1].stepping("int8") == pytest.approx(127 / 3)


def test_gains_are_multiplied_and_read_on_the_spiking_side_alone() -> None:
    """Factors on channels take away the table of 255 values: the SiLU is computed for every one."""
    gains = ["L0.q_proj", "L0.k_proj", "L1.gate_proj", "L1.up_proj"]
    plain = workload.rest(TINY, 5, "exact", True)
    more = workload.rest(TINY, 5, "exact", True, gains)
    assert workload.rest(TINY, 5, "exact", False, gains) == workload.rest(TINY, 5, "exact", False)
    name = "norms, positions, residual"
    assert more[name].multiply - plain[name].multiply == 12 + 4
    hidden = TINY.intermediate_size
    assert more["SiLU"].special - plain["SiLU"].special == 2 * (hidden - 255)
    assert more["SiLU"].multiply - plain["SiLU"].multiply == (hidden - 255) + 2 * hidden
    activity = Activity.synthetic(TINY)
    before, after = (token_energy(activity, TINY, 5, gains=g) for g in ((), gains))
    assert before.systems["int8"][ANN].total == after.systems["int8"][ANN].total
    moved = [report.systems["int8"]["unary"].of("weights moved") for report in (before, after)]
    sizes = [sum(r.to_dict()["bytes_per_token"]["weights"].values()) for r in (before, after)]
    assert sizes[1] - sizes[0] == 4 * (12 + 4 + 2 * hidden)
    assert moved[1] / moved[0] == pytest.approx(sizes[1] / sizes[0])
