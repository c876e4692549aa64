"""When the neurons of a bank fire within a window: closed forms, and counts left as they were."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from energy_cases import bank
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.chip import ChipBank, ChipDescription
from neurosim.devices.preset import load_device
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch
from neurosim.network import NeuronBank

DEMO = dataclasses.replace(load_device("demo").switch(), capacitance=1e-10)


def nodes(signed: bool) -> NeuronBank:
    rng = np.random.default_rng(4)
    return NeuronBank("bank", rng.integers(3, 30, 64), rng.integers(-9, 10, 64), 4, signed)


@pytest.mark.parametrize("name", ["ideal", "ag_v2c_w"])
@pytest.mark.parametrize("signed", [False, True])
def test_times_are_of_the_counted_spikes(
    name: str, signed: bool, chips: dict[str, ChipDescription]
) -> None:
    """Ascending, within the window, one for each spike; asking for them changes nothing else."""
    node, chip = nodes(signed), chips[name]
    asked, plain = ChipBank(node, chip, 3), ChipBank(node, chip, 3)
    rng = np.random.default_rng(5)
    window, fired = chip.window.duration.value, 0
    for index in range(40):
        charge = rng.integers(-150, 151, 64)
        times = np.full((64, 4), np.nan)
        spikes = asked.fire(charge, index, times=times)
        np.testing.assert_array_equal(spikes, plain.fire(charge, index))
        for n, row in zip(spikes.tolist(), times, strict=True):
            own = row[: abs(n)]
            assert ((own >= 0) & (own <= window)).all()
            assert (np.diff(own) > 0).all()
        fired += np.abs(spikes).sum()
    assert fired > 1000 and asked.counts() == plain.counts()
    assert asked.energy() == plain.energy()


@examples(100)
@given(st.integers(-200, 200), st.integers(1, 40), st.integers(-20, 20))
def test_exact_times(chips_ideal: ChipDescription, charge: int, half: int, bias: int) -> None:
    """Current |a + b| / T crosses (2k - 1) h at the k-th spike: the last one within the window."""
    node = NeuronBank("bank", np.array([half]), np.array([bias]), 100, True)
    window = chips_ideal.window.duration.value
    times = np.full((1, 100), np.nan)
    spikes = ChipBank(node, chips_ideal, 0).fire(np.array([charge]), 0, times=times)
    count = abs(int(spikes[0]))
    size = abs(charge + bias)
    for k in range(1, count + 1):
        assert size * times[0, k - 1] / window == pytest.approx((2 * k - 1) * half)
    assert np.isnan(times[0, count:]).all()
    if count < 100:
        assert (2 * count + 1) * half > size


@pytest.fixture(scope="module")
def chips_ideal(chips: dict[str, ChipDescription]) -> ChipDescription:
    return chips["ideal"]


def _slow_times(switch: ThresholdSwitch, charge: float, window: float) -> list[float]:
    """One neuron without spread, crossing by crossing, from the scalar closed forms."""
    drive, voltage, now, times = Drive(charge / window), switch.start, 0.0, []
    while True:
        now += switch.next_crossing(voltage, False, drive)
        if not now <= window:
            return times
        voltage = switch.voltage(switch.upper, switch.set_delay, False, drive)
        now += switch.set_delay
        if now >= window:
            return times
        times.append(now)
        now += switch.next_crossing(voltage, True, drive) + switch.reset_delay
        voltage = switch.voltage(switch.lower, switch.reset_delay, True, drive)


@pytest.mark.parametrize("delay", [0.0, 2e-6])
def test_times_equal_the_scalar_closed_forms(delay: float) -> None:
    from neurosim.devices.neuron_window import (
        new_ledger,
        silent_uniforms,
        simulate_window,
        window_device,
    )

    switch, window = dataclasses.replace(DEMO, set_delay=delay, reset_delay=delay / 4), 2e-4
    charge = np.linspace(0.0, 12.0, 97) * switch.quantum
    device = window_device(switch, window)
    threshold, hold = (np.full(97, v) for v in (switch.threshold_voltage, switch.hold_voltage))
    silent, spikes, times = np.empty(97), np.empty(97, np.int8), np.full((97, 6), np.nan)
    silent_uniforms(threshold, device, silent)
    energy, counts = new_ledger()
    simulate_window(
        charge, False, device, threshold, hold, silent, np.uint64(1), 0, 0, 6, spikes, energy,
        counts, times,
    )  # fmt: skip
    for row, n, packet in zip(times, spikes.tolist(), charge.tolist(), strict=True):
        expected = _slow_times(switch, packet, window)[:6]
        assert n == len(expected)
        np.testing.assert_allclose(row[:n], expected, rtol=1e-9)
    assert spikes.max() == 6


def test_a_pair_that_fires_on_both_sides_gives_the_winner_s_times(
    chips: dict[str, ChipDescription],
) -> None:
    """With a wide spread the idle neuron of a pair fires too; its times are not the channel's."""
    real = chips["ag_v2c_w"]
    spread = real.device.quantities["threshold_spread_cycle"]
    device = real.device.with_quantities(
        {"threshold_spread_cycle": dataclasses.replace(spread, value=0.08, band=None)}
    )
    unit = ChipBank(bank("pair", 2000, True), dataclasses.replace(real, device=device), 1)
    times = np.full((2000, 4), np.nan)
    spikes = unit.fire(unit.charge_of(2.0), 0, times=times)
    assert unit.counts()["spurious"] > 10
    for n, row in zip(np.abs(spikes).tolist(), times, strict=True):
        assert not np.isnan(row[:n]).any() and (np.diff(row[:n]) > 0).all()
