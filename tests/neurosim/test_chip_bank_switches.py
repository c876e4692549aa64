"""Non-idealities of neurons one at a time, from a chip whose simulated neurons equal the ideal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from test_chip_bank import definition, random_bank

from neurosim.chip import ChipBank, ChipDescription, build_banks, load_chip, with_values
from neurosim.devices.temperature import arrhenius
from neurosim.network import Embedding, Network, NeuronBank

CLEAN, REAL = load_chip("ag_v2c_w_clean"), load_chip("ag_v2c_w")
SWITCH = CLEAN.device.switch()
WINDOW = CLEAN.window.duration.value


def one(chip: ChipDescription, quanta: float, levels: int = 20) -> tuple[int, ChipBank]:
    """Spikes of one unsigned neuron that gets `quanta` packets' charge in a window."""
    bank = NeuronBank("one", np.array([1000]), np.array([0]), levels, False)
    wide = with_values(chip, {"neuron.input_headroom": 0.0})
    neuron = ChipBank(bank, wide, seed=0)
    return int(neuron.fire(np.array([round(quanta * 2000)]), 0)[0]), neuron


@examples(100)
@given(
    rows=st.lists(
        st.tuples(st.integers(-(10**6), 10**6), st.integers(-5000, 5000), st.integers(1, 10**5)),
        min_size=1,
        max_size=30,
    ),
    ties=st.booleans(),
    levels=st.integers(1, 20),
    signed=st.booleans(),
)
def test_the_clean_chip_equals_the_definition(
    rows: list[tuple[int, int, int]], ties: bool, levels: int, signed: bool
) -> None:
    """Bit for bit, also exactly on a threshold, though every membrane is simulated."""
    charge, bias, half = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    bank = NeuronBank("bank", half, bias, levels, signed)
    if ties:
        charge = (2 * (charge % (levels + 2)) - 1) * half * np.sign(charge) - bias
    simulated = ChipBank(bank, CLEAN, seed=0)
    np.testing.assert_array_equal(simulated.fire(charge, 0), definition(bank, charge))
    energy = simulated.energy()
    silent = 1e-12 * SWITCH.discharge_energy  # the leak of a membrane through 1e18 ohm
    assert energy.total == pytest.approx(energy.supplied, rel=1e-10, abs=silent)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device.threshold_spread_cycle", 0.03),
        ("device.threshold_spread_device", 0.03),
        ("device.hold_spread_cycle", 0.02),
        ("device.hold_spread_device", 0.02),
        ("device.leak_conductance", 2e-9),
        ("device.off_resistance", 5e8),
        ("device.on_resistance", 3e5),
        ("device.set_delay", 3e-7),
        ("device.reset_delay", 3e-7),
        ("neuron.temperature", 330.0),
        ("neuron.temperature", 280.0),
        ("neuron.hold_current", 1e-8),
        ("faults.tiles", [0]),
    ],
)
def test_every_switch_works_alone_and_conserves_energy(key: str, value: Any) -> None:
    bank, charge = random_bank(3000, signed=True)
    chip = with_values(CLEAN, {key: value})
    dead = np.arange(3000) < 30 if key == "faults.tiles" else None
    runs = [ChipBank(bank, chip, 5, dead=dead) for _ in range(2)]
    found = [run.fire(charge, 3) for run in runs]
    np.testing.assert_array_equal(found[0], found[1])
    wrong = (found[0] != definition(bank, charge)).mean()
    assert 0.002 < wrong < 0.6
    energy = runs[0].energy()
    assert energy.total == pytest.approx(energy.supplied, rel=1e-10)
    assert min(energy.parts().values()) >= 0.0


@pytest.mark.parametrize("warmth", [250.0, 300.0, 340.0, 400.0])
def test_temperature_moves_the_threshold_by_the_device_s_law(warmth: float) -> None:
    """Gain and precharge stay as designed at 300 K; spikes come at V_th(T)."""
    chip = with_values(CLEAN, {"neuron.temperature": warmth})
    slope = CLEAN.device.extra("temperature.threshold_slope").value
    threshold = SWITCH.threshold_voltage + slope * (warmth - 300.0)
    for quanta in (0.3, 1.7, 2.6, 9.9):
        reach = SWITCH.start + (round(quanta * 2000) + 2.0**-10) / 2000 * SWITCH.quantum / 1e-12
        expected = max(math.floor((reach - threshold) / (threshold - SWITCH.lower)) + 1, 0)
        assert one(chip, quanta)[0] == expected, quanta
    assert chip.warm_switch().threshold_voltage == pytest.approx(threshold)


def test_warm_devices_leak_by_arrhenius() -> None:
    """One packet that just fires cold no longer does when R_off has fallen."""
    cold = with_values(
        CLEAN, {"device.off_resistance": 1e9, "device.temperature.threshold_slope": 0.0}
    )
    warm = with_values(cold, {"neuron.temperature": 360.0})
    energy = cold.device.extra("temperature.off_energy").value
    off = 1e9 * arrhenius(energy, 360.0, 300.0)
    assert warm.warm_switch().off_resistance == pytest.approx(off) and off < 2e8

    def least(resistance: float) -> float:
        """Quanta at which the membrane just reaches V_u at the window's end."""
        tau = resistance * SWITCH.capacitance
        decay = math.exp(-WINDOW / tau)
        current = (SWITCH.upper - SWITCH.start * decay) / (resistance * (1.0 - decay))
        return current * WINDOW / SWITCH.quantum

    for chip, resistance in ((cold, 1e9), (warm, off)):
        assert one(chip, least(resistance) - 0.002)[0] == 0
        assert one(chip, least(resistance) + 0.002)[0] == 1
    assert least(off) > least(1e9) + 0.05


@pytest.mark.parametrize("delay", [0.0, 3e-7, 2e-6])
def test_set_delay_loses_the_charge_of_the_delay(delay: float) -> None:
    chip = with_values(CLEAN, {"device.set_delay": delay})
    for quanta in (0.8, 2.2, 7.7, 17.1):
        current = (round(quanta * 2000) + 2.0**-10) / 2000 * SWITCH.quantum / WINDOW
        first = SWITCH.capacitance * (SWITCH.upper - SWITCH.start) / current + delay
        period = SWITCH.quantum / current + delay
        expected = max(math.floor((WINDOW - first) / period) + 1, 0)
        assert one(chip, quanta)[0] == expected, quanta


def test_lock_up_by_the_holding_current() -> None:
    """Above it the first discharge never ends; below it nothing changes at all."""
    quanta = 3.2
    current = (round(quanta * 2000) + 2.0**-10) / 2000 * SWITCH.quantum / WINDOW
    free, neuron = one(with_values(CLEAN, {"neuron.hold_current": current * 1.001}), quanta)
    plain, same = one(CLEAN, quanta)
    assert free == plain == 3 and neuron.counts()["locked"] == 0
    assert neuron.energy() == same.energy()
    held, locked = one(with_values(CLEAN, {"neuron.hold_current": current * 0.999}), quanta)
    assert held == 1 and locked.counts()["locked"] == 1
    assert locked.energy().total == pytest.approx(locked.energy().supplied, rel=1e-10)


def test_lock_up_by_the_device_itself() -> None:
    """I R_on >= V_h: device.md 3.2; the holding current of the switch follows from V_h and R_on."""
    quanta = 3.2
    current = (round(quanta * 2000) + 2.0**-10) / 2000 * SWITCH.quantum / WINDOW
    limit = SWITCH.hold_voltage / current
    free = one(with_values(CLEAN, {"device.on_resistance": 0.98 * limit}), quanta)[1]
    locked = one(with_values(CLEAN, {"device.on_resistance": 1.02 * limit}), quanta)[1]
    assert (free.counts()["locked"], locked.counts()["locked"]) == (0, 1)


@pytest.mark.parametrize("name", ["ideal", "ag_v2c_w_clean", "ag_v2c_w"])
@pytest.mark.parametrize("signed", [False, True])
def test_dead_channels_are_silent_and_the_others_unchanged(name: str, signed: bool) -> None:
    bank, charge = random_bank(500, signed)
    charge[:50] = 10**15  # no charge is too much for a dead neuron
    dead = np.arange(500) % 7 == 0
    chip = load_chip(name)
    whole = ChipBank(bank, chip, 3).fire(charge, 2)
    broken = ChipBank(bank, chip, 3, dead=dead)
    np.testing.assert_array_equal(broken.fire(charge, 2), np.where(dead, 0, whole))
    energy = broken.energy()
    assert energy.total == pytest.approx(energy.supplied, rel=1e-10)


def test_dead_channels_by_bank() -> None:
    half, zero = np.full(8, 10), np.zeros(8, int)
    bank = NeuronBank("bank", half, zero, 4, True)
    table = Embedding("table", np.zeros((3, 8), dtype=np.int8))
    network = Network((table, bank), (("table", "bank"),), dict.fromkeys(("table", "bank"), "all"))
    dead: dict[str, npt.NDArray[np.bool_]] = {"bank": np.arange(8) < 3}
    found = build_banks(network, REAL, 0, dead)["bank"].fire(np.full(8, 100), 0)
    assert not found[:3].any() and found[3:].all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("neuron.temperature", 700.0, "neuron.temperature: expected a value from 100 to 600 K"),
        ("neuron.hold_current", -1.0, "neuron.hold_current: expected a value from 0 to 1 A"),
        (
            "device.temperature.threshold_slope",
            -2.0,
            "neuron.temperature: expected threshold_voltage > hold_voltage",
        ),
    ],
)
def test_errors_name_key_and_range(key: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_values(with_values(CLEAN, {"neuron.temperature": 310.0}), {key: value})
