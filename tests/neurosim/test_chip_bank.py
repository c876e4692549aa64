"""Neuron banks: exact chips equal the network's definition; device chips conserve and reproduce."""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosim.chip import ChipBank, ChipDescription, build_banks, load_chip
from neurosim.network import Crossbar, Embedding, Network, NeuronBank
from neurosim.quantity import Quantity

IDEAL, REAL = load_chip("ideal"), load_chip("ag_v2c_w")
Integers = npt.NDArray[np.int64]


def device_chip(**values: float) -> ChipDescription:
    """ag_v2c_w with some device numbers replaced."""
    quantities = {
        key: Quantity(value, REAL.device.quantities[key].unit, "test", "assumed")
        for key, value in values.items()
    }
    return dataclasses.replace(REAL, device=REAL.device.with_quantities(quantities))


QUIET = {
    "threshold_spread_cycle": 0.0,
    "hold_spread_cycle": 0.0,
    "threshold_spread_device": 0.0,
    "hold_spread_device": 0.0,
}
PERFECT = device_chip(**QUIET, set_delay=0.0, reset_delay=0.0)


def definition(bank: NeuronBank, charge: Integers) -> Integers:
    """The equation in network.py's docstring, in Python integers."""
    out = []
    for a, b, h in zip(
        charge.tolist(), bank.bias.tolist(), bank.half_threshold.tolist(), strict=True
    ):
        if bank.signed:
            n = min((abs(a + b) + h) // (2 * h), bank.levels)
            out.append(n if a + b >= 0 else -n)
        else:
            out.append(min(max((a + b + h) // (2 * h), 0), bank.levels))
    return np.array(out, dtype=np.int64)


def random_bank(size: int, signed: bool, levels: int = 4) -> tuple[NeuronBank, Integers]:
    rng = np.random.default_rng(4)
    half = rng.integers(40, 900, size)
    bank = NeuronBank("bank", half, rng.integers(-300, 300, size), levels, signed)
    charge = np.rint(rng.normal(0.0, 3.0, size) * half).astype(np.int64)
    return bank, charge


@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(2**40), 2**40), st.integers(-(2**20), 2**20), st.integers(1, 2**30)
        ),
        min_size=1,
        max_size=30,
    ),
    ties=st.booleans(),
    levels=st.integers(1, 127),
    signed=st.booleans(),
)
def test_exact_bank_equals_the_definition(
    rows: list[tuple[int, int, int]], ties: bool, levels: int, signed: bool
) -> None:
    charge, bias, half = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    bank = NeuronBank("bank", half, bias, levels, signed)
    if ties:  # exactly on a threshold, (2k - 1) h, either sign
        charge = (2 * (charge % (levels + 2)) - 1) * half * np.sign(charge) - bias
    found = ChipBank(bank, IDEAL, seed=0).fire(charge, 0)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, definition(bank, charge))


def test_exact_bank_with_real_valued_charge() -> None:
    bank = NeuronBank("bank", np.array([2, 2, 2]), np.array([0, 0, 0]), 4, True)
    found = ChipBank(bank, IDEAL, 0).fire(np.array([1.999, 2.0, -6.1], dtype=np.float32), 0)
    assert found.tolist() == [0, 1, -2]


def test_exact_energy_is_a_closed_form_per_spike() -> None:
    bank, charge = random_bank(100, signed=True)
    chip_bank = ChipBank(bank, IDEAL, 0)
    spikes = int(np.abs(chip_bank.fire(charge, 0)).sum())
    energy, device = chip_bank.energy(), IDEAL.device.switch()
    assert energy.device == pytest.approx(spikes * device.discharge_energy, rel=1e-12)
    assert energy.total == pytest.approx(energy.supplied, rel=1e-12)
    assert energy.supplied == pytest.approx(spikes * 0.9 * device.quantum, rel=1e-12)
    assert chip_bank.counts()["discharges"] == spikes


@pytest.mark.parametrize("signed", [False, True])
def test_a_device_without_faults_equals_the_exact_bank(signed: bool) -> None:
    bank, charge = random_bank(5000, signed)
    position = np.abs(charge + bank.bias) / (2.0 * bank.half_threshold)
    clear = np.abs(position % 1.0 - 0.5) > 1e-3  # a membrane has no ties: leak and discharge
    found = ChipBank(bank, PERFECT, seed=1).fire(charge, 0)
    np.testing.assert_array_equal(found[clear], definition(bank, charge)[clear])


def test_delays_lose_charge_and_spread_makes_errors() -> None:
    bank, charge = random_bank(4000, signed=True)
    expected = definition(bank, charge)

    def size_and_errors(chip: ChipDescription) -> tuple[int, float]:
        found = ChipBank(bank, chip, seed=1).fire(charge, 0)
        return int(np.abs(found).sum()), float((found != expected).mean())

    perfect = size_and_errors(PERFECT)
    delayed = size_and_errors(device_chip(**QUIET))
    spread = size_and_errors(REAL)
    assert perfect[0] > delayed[0]
    assert perfect[1] < 0.01 < delayed[1] < spread[1] < 0.5


@pytest.mark.parametrize("signed", [False, True])
def test_energy_is_conserved_and_adds_up(signed: bool) -> None:
    bank, charge = random_bank(1000, signed)
    chip_bank = ChipBank(bank, REAL, seed=2)
    for window in range(5):
        chip_bank.fire(charge, window, "prefill" if window < 2 else "decode")
    whole = chip_bank.energy()
    assert whole.total == pytest.approx(whole.supplied, rel=1e-10)
    parts = chip_bank.joules
    assert set(parts) == {"prefill", "decode"}
    assert all(value >= 0.0 for part in parts.values() for value in part.values())
    assert math.fsum(sum(part.values()) for part in parts.values()) == pytest.approx(whole.total)
    counts = [chip_bank.counts(phase)["discharges"] for phase in ("prefill", "decode", None)]
    assert counts[0] + counts[1] == counts[2] > 0
    chip_bank.reset()
    assert chip_bank.energy().total == 0.0 and chip_bank.joules == {}


def test_a_seed_is_a_chip_and_a_run() -> None:
    bank, charge = random_bank(800, signed=True)

    def spikes(seed: int, window: int, offset: int = 0) -> npt.NDArray[np.int8]:
        return ChipBank(bank, REAL, seed, offset).fire(charge, window)

    np.testing.assert_array_equal(spikes(1, 0), spikes(1, 0))
    for other in (spikes(2, 0), spikes(1, 1), spikes(1, 0, offset=10_000)):
        assert (spikes(1, 0) != other).any()
    late = ChipBank(bank, REAL, 1)
    late.fire(-charge, 0)
    np.testing.assert_array_equal(late.fire(charge, 7), spikes(1, 7))


def test_device_spread_stays_with_the_device() -> None:
    """Without cycle spread the same input gives the same spikes in every window."""
    chip = device_chip(threshold_spread_cycle=0.0, hold_spread_cycle=0.0)
    bank, charge = random_bank(2000, signed=False)
    chip_bank = ChipBank(bank, chip, seed=3)
    first = chip_bank.fire(charge, 0).copy()
    np.testing.assert_array_equal(first, chip_bank.fire(charge, 1))
    assert (first != definition(bank, charge)).any()


def test_input_stage_limits_the_charge() -> None:
    bank = NeuronBank("bank", np.array([1, 1]), np.array([0, 0]), 4, False)
    charge = np.array([10, 10_000_000])
    limited = ChipBank(bank, REAL, 0)
    np.testing.assert_array_equal(limited.fire(charge, 0), [4, 4])
    assert limited.counts()["discharges"] < 12
    free = dataclasses.replace(
        REAL,
        neuron=dataclasses.replace(
            REAL.neuron, input_headroom=Quantity(0.0, "1", "test", "assumed")
        ),
    )
    assert ChipBank(bank, free, 0).fire(np.array([10, 40]), 0).tolist() == [4, 4]
    slow = dataclasses.replace(free, device=PERFECT.device)
    with pytest.raises(ValueError, match="4096 times"):
        ChipBank(bank, slow, 0).fire(np.array([10, 20_000]), 0)


@pytest.mark.parametrize("name", ["ideal", "ag_v2c_w"])
def test_out_is_filled_and_empty_and_silent_banks_work(name: str) -> None:
    chip = load_chip(name)
    bank, charge = random_bank(63, signed=True)
    out = np.full(63, 99, dtype=np.int8)
    assert ChipBank(bank, chip, 0).fire(charge, 0, out=out) is out
    np.testing.assert_array_equal(out, ChipBank(bank, chip, 0).fire(charge, 0))
    empty = NeuronBank("none", np.zeros(0, int), np.zeros(0, int), 4, True)
    assert ChipBank(empty, chip, 0).fire(np.zeros(0), 0).shape == (0,)
    silent = NeuronBank("silent", np.full(9, 5), np.zeros(9, int), 4, True)
    assert not ChipBank(silent, chip, 0).fire(np.zeros(9, int), 0).any()


def test_bad_banks() -> None:
    bank, charge = random_bank(10, signed=True)
    with pytest.raises(ValueError, match=r"expected charge \(10,\), got \(9,\)"):
        ChipBank(bank, IDEAL, 0).fire(charge[:9], 0)
    many = NeuronBank("many", np.array([1]), np.array([0]), 128, False)
    with pytest.raises(ValueError, match="at most 127 levels"):
        ChipBank(many, IDEAL, 0)
    with pytest.raises(ValueError, match="lengthen the window"):
        ChipBank(bank, device_chip(set_delay=1e-4), 0)


def test_build_banks_numbers_neurons_without_overlap() -> None:
    half, zero = np.full(40, 100), np.zeros(40, int)
    nodes: list[Any] = [
        NeuronBank("first", half, zero, 4, True),
        Crossbar("between", np.ones((40, 40), dtype=np.int8)),
        NeuronBank("second", half, zero, 4, True),
    ]
    table = Embedding("table", np.zeros((3, 40), dtype=np.int8))
    network = Network(
        (table, *nodes),
        (("table", "first"), ("first", "between"), ("between", "second")),
        dict.fromkeys(("table", "first", "between", "second"), "all"),
    )
    banks = build_banks(network, REAL, seed=1)
    assert list(banks) == ["first", "second"]
    charge = np.random.default_rng(0).normal(0.0, 200.0, 40)
    first = banks["first"].fire(charge, 0)
    second = banks["second"].fire(charge, 0)
    np.testing.assert_array_equal(second, ChipBank(nodes[2], REAL, 1, 80).fire(charge, 0))
    assert (first != second).any()
