"""Per-chip calibration: the thresholds it finds and sets, what stays, what it costs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from engine_networks import lowered_model

from neurosim.chip import ChipBank, ChipDescription, load_chip, with_values
from neurosim.chip.trim import PHASE, fit, measure, quantised, trim
from neurosim.cli import main
from neurosim.events.engine import Simulator
from neurosim.network import NeuronBank

CLEAN = load_chip("ag_v2c_w_clean")
SPREAD = {"device.threshold_spread_device": 0.0214}  # a tenth of the climb from V_h to V_th
CYCLE = {"device.threshold_spread_cycle": 0.0107}


def bank_of(description: ChipDescription, size: int = 400, signed: bool = True) -> ChipBank:
    rng = np.random.default_rng(0)
    half = rng.integers(10**5, 10**6, size)
    return ChipBank(
        NeuronBank("b", half, rng.integers(-(10**5), 10**5, size), 4, signed), description, 1
    )


def device_shift(bank: ChipBank) -> np.ndarray:
    """Each device's V_th over its nominal value, in spikes."""
    device = CLEAN.device
    swing = device["threshold_voltage"] - device["hold_voltage"]
    return np.asarray((bank._threshold - device["threshold_voltage"]) / swing)


@pytest.mark.parametrize("signed", [False, True])
def test_the_measurement_finds_every_threshold(signed: bool) -> None:
    """c_k = k - 1/2 + k shift of each neuron, ON and OFF apart, within half a step of the ramp."""
    bank = bank_of(with_values(CLEAN, SPREAD), signed=signed)
    found = measure(bank, 250)
    k = np.arange(1, 5)
    wanted = k - 0.5 + k * device_shift(bank)[:, None]
    inside = wanted < 4.9  # the ramp ends at 5
    assert np.abs(found - wanted)[inside].max() < 0.5 * 5 / 250 + 1e-6
    assert found.shape == (bank.neurons, 4)
    assert bank.counts(PHASE)["discharges"] > 0


def test_trimmed_neurons_fire_as_the_nominal_ones() -> None:
    """Thresholds back at k - 1/2 within the ramp's and the DACs' resolution."""
    description = with_values(CLEAN, SPREAD | {"trim.windows": 500, "trim.bits": 10})
    bank = bank_of(description)
    before = measure(bank, 250)
    trim({"b": bank}, description.trim, 1e-3)
    after = measure(bank, 250)
    nominal = np.arange(1, 5) - 0.5
    assert np.nanstd(before - nominal, axis=0)[3] > 0.3
    assert np.nanmax(np.abs(after - nominal)) < 0.04


def test_what_scatters_from_cycle_to_cycle_stays() -> None:
    """A trim does not change how far counts scatter around their mean, and C2C alone gives none."""
    description = with_values(CLEAN, CYCLE | {"trim.windows": 2048, "trim.bits": 12})
    bank = bank_of(description, 200)
    charge = bank.charge_of(2.5)
    untrimmed = np.array([bank.fire(charge, window) for window in range(300)]).astype(float)
    report = trim({"b": bank}, description.trim, 1e-3)
    trimmed = np.array([bank.fire(charge, window) for window in range(300)]).astype(float)
    assert report.threshold_spread < 0.01
    assert untrimmed.std(0).mean() > 0.4
    assert trimmed.std(0).mean() == pytest.approx(untrimmed.std(0).mean(), rel=0.05)


def test_holding_voltages_of_their_own_are_trimmed_too() -> None:
    description = with_values(
        CLEAN,
        {"device.hold_spread_device": 0.02, "trim.windows": 500, "trim.bits": 10},
    )
    bank = bank_of(description)
    before = measure(bank, 250)
    trim({"b": bank}, description.trim, 1e-3)
    after = measure(bank, 250)
    nominal = np.arange(1, 5) - 0.5
    assert np.nanstd(before - nominal, axis=0)[3] > 0.2
    assert np.nanmax(np.abs(after - nominal)) < 0.04


def test_a_coarse_dac_leaves_more() -> None:
    left = []
    for bits in (2, 4, 8):
        description = with_values(CLEAN, SPREAD | {"trim.windows": 256, "trim.bits": bits})
        bank = bank_of(description)
        trim({"b": bank}, description.trim, 1e-3)
        left.append(float(np.nanstd(measure(bank, 256)[:, 3])))
    assert left[0] > 1.5 * left[1] > 2 * left[2]
    assert quantised(np.array([-9.0, -0.06, 0.0, 0.04, 9.0]), 0.4, 3).tolist() == [
        -0.4,
        -0.1,
        0.0,
        0.0,
        pytest.approx(0.3),
    ]


def test_the_fit() -> None:
    """Lines through all levels, through those that were seen, and nothing."""
    nan = np.nan
    rows = np.array([[0.6, 1.7, 2.8, 3.9], [0.6, 1.7, nan, nan], [0.7, nan, nan, nan], [nan] * 4])
    offset, step = fit(rows)
    np.testing.assert_allclose(offset, [-0.5, -0.5, -0.3, nan], atol=1e-12)
    np.testing.assert_allclose(step, [1.1, 1.1, 1.0, nan])


def test_the_report() -> None:
    """Windows of ON and OFF in turns, the joules of the neurons, and empty accounts afterwards."""
    description = with_values(CLEAN, SPREAD | {"trim.windows": 64})
    bank, copy = bank_of(description), bank_of(description)
    measure(copy, 64)
    report = trim({"b": bank}, description.trim, 2e-3)
    assert (report.neurons, report.windows, report.skipped) == (800, 128, 0)
    assert report.seconds == pytest.approx(128 * 2e-3)
    assert report.joules == copy.energy(PHASE).total > 0
    assert bank.energy().total == 0 and bank.counts()["discharges"] == 0
    assert report.trim_bits == 800 * 2 * 6
    assert report.threshold_spread == pytest.approx(0.1, rel=0.1)
    assert report.clipped == int((np.abs(device_shift(bank)) > 0.4).sum())
    assert report.to_dict()["windows"] == 128


def test_a_dead_neuron_is_left_alone() -> None:
    description = with_values(CLEAN, SPREAD | {"trim.windows": 64})
    bank = bank_of(description)
    bank._threshold[3] = 1e6
    report = trim({"b": bank}, description.trim, 1e-3)
    assert report.skipped == 1
    assert bank._trim[:, 3].tolist() == [1.0, 0.0]


def test_a_simulator_trims_its_chip_before_the_first_token() -> None:
    """Same chip with and without; the run's energy has none of the measurement."""
    network = lowered_model()
    plain = with_values(CLEAN, SPREAD)
    trimmed = with_values(plain, {"trim.windows": 256, "trim.bits": 10})
    ideal, rough, fine = (
        Simulator(network, description, 2) for description in (load_chip("ideal"), plain, trimmed)
    )
    assert rough.calibration is None
    assert fine.calibration is not None and fine.calibration.neurons == fine.neurons
    for simulator in (ideal, rough, fine):
        for token in range(20):
            simulator.step(token % 5)
    runs = [simulator.run() for simulator in (ideal, rough, fine)]
    wrong = [
        sum(int((run.spikes[name] != runs[0].spikes[name]).sum()) for name in run.spikes)
        for run in runs
    ]
    assert 0 < wrong[2] < 0.5 * wrong[1]
    energy = [sum(bank.energy().total for bank in s.banks.values()) for s in (rough, fine)]
    assert energy[1] == pytest.approx(energy[0], rel=0.1)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"trim\.windows: expected 0 on a chip with exact"):
        with_values(load_chip("ideal"), {"trim.windows": 64})
    with pytest.raises(ValueError, match=r"trim\.bits.*from 1 to 24"):
        with_values(CLEAN, {"trim.bits": 0})
    bank = bank_of(CLEAN)
    with pytest.raises(ValueError, match="expected gain and bias"):
        bank.apply_trim(np.ones(3), np.zeros(3))
    exact = bank_of(load_chip("ideal"))
    with pytest.raises(ValueError, match="nothing to trim"):
        trim({"b": exact}, dataclasses.replace(CLEAN.trim), 1e-3)


def test_run_with_trim_reports_the_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["run", "--trim", "--set", "trim.bits=8", "--tokens", "1", "--no-quality", "--json"]
    assert main(options) == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert found["windows"] == 512
    assert found["trim_bits"] == 16 * found["neurons"]
    assert found["threshold_spread"] == pytest.approx(0.1, rel=0.15)
    assert main(["run", "--trim", "--chip", "ideal", "--tokens", "1"]) != 0
    assert "nothing to trim" in capsys.readouterr().err
