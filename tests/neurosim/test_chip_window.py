"""One window of a bank: ideal limit, independent slow reference, conservation, statistics."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import norm

from neurosim.devices import Drive, ThresholdSwitch, load_device
from neurosim.devices.neuron_window import (
    COUNT_TERMS,
    ENERGY_TERMS,
    new_ledger,
    silent_uniforms,
    simulate_window,
    window_device,
)

DEMO = load_device("demo").switch()
INTEGRATED = load_device("ag_v2c_w").switch()
WINDOW = 50e-6
Array = npt.NDArray[np.float64]


@dataclasses.dataclass
class Outcome:
    """What a window gives, with the ledgers by name."""

    spikes: npt.NDArray[np.int8]
    energy: dict[str, float]
    counts: dict[str, int]
    held: float
    """Sizes the sums cancel from: C V_0^2 / 2 and G_L E_L^2 T of all neurons."""

    def imbalance(self) -> float:
        """Largest relative violation of delivered = burnt + stored, membrane and precharge."""
        floor = 1e-4 * self.held
        e = self.energy
        delivered = e["input"] + e["leak_source"]
        burnt = e["device_on"] + e["device_off"] + e["output"] + e["leak"]
        gross = max(abs(delivered), burnt, abs(e["stored"]), floor)
        reset = max(e["precharge"], e["switch"], abs(e["stored"]), floor)
        return max(
            abs(delivered - burnt - e["stored"]) / gross,
            abs(e["precharge"] - e["switch"] + e["stored"]) / reset,
        )


def run(
    switch: ThresholdSwitch,
    charge: Array,
    window: float = WINDOW,
    spread: tuple[float, float] = (0.0, 0.0),
    signed: bool = False,
    seed: int = 1,
    index: int = 0,
    offset: int = 0,
    levels: int = 100,
    shortcut: bool = True,
) -> Outcome:
    device = window_device(switch, window, *spread)
    neurons = charge.size * (2 if signed else 1)
    threshold = np.full(neurons, switch.threshold_voltage)
    hold = np.full(neurons, switch.hold_voltage)
    silent = np.empty(neurons)
    silent_uniforms(threshold, device, silent)
    if not shortcut:
        silent[:] = 0.0
    spikes = np.empty(charge.size, dtype=np.int8)
    energy, counts = new_ledger()
    key = np.uint64(seed)
    simulate_window(
        charge, signed, device, threshold, hold, silent, key, index, offset, levels, spikes, energy,
        counts,
    )  # fmt: skip
    return Outcome(
        spikes,
        dict(zip(ENERGY_TERMS, energy.tolist(), strict=True)),
        dict(zip(COUNT_TERMS, counts.tolist(), strict=True)),
        neurons * 0.5 * switch.capacitance * switch.start**2
        + neurons * switch.leak_conductance * switch.leak_voltage**2 * window,
    )


def slow_reference(switch: ThresholdSwitch, charge: float, window: float) -> dict[str, float]:
    """One neuron without spread, event by event, from the scalar closed forms."""
    drive = Drive(max(charge, 0.0) / window)
    total = dict.fromkeys(("input", "device_on", "device_off", "output", "leak", "stored"), 0.0)
    total["discharges"] = 0
    voltage, left = switch.start, window

    def evolve(time: float, on: bool, end: float | None = None) -> None:
        nonlocal voltage, left
        time, end = (time, end) if time <= left else (left, None)
        part = switch.segment(voltage, time, on, drive, end)
        total["input"] += part.delivered
        total["device_on" if on else "device_off"] += part.device
        total["output"] += part.output
        total["leak"] += part.leak
        total["stored"] += part.stored
        voltage = switch.voltage(voltage, time, on, drive) if end is None else end
        left -= time

    while left > 0.0:
        evolve(switch.next_crossing(voltage, False, drive), False, switch.upper)
        if left <= 0.0:
            break
        evolve(switch.set_delay, False)
        if left <= 0.0:
            break
        total["discharges"] += 1
        evolve(switch.next_crossing(voltage, True, drive), True, switch.lower)
        if left > 0.0:
            evolve(switch.reset_delay, True)
    return total


@pytest.mark.parametrize("signed", [False, True])
def test_ideal_limit_is_round_half_up(signed: bool) -> None:
    ideal = dataclasses.replace(DEMO, leak_conductance=0.0, off_resistance=1e18, on_resistance=1e-3)
    quanta = np.random.default_rng(0).uniform(-6.0, 6.0, 50_000)
    quanta = quanta[np.abs(quanta % 1.0 - 0.5) > 1e-6]
    found = run(ideal, quanta * ideal.quantum, signed=signed, levels=4)
    counts = np.minimum(np.floor(0.5 + np.abs(quanta)), 4.0)
    expected = np.where(quanta > 0.0, counts, -counts if signed else 0.0)
    np.testing.assert_array_equal(found.spikes, expected)
    physical = np.floor(0.5 + np.abs(quanta if signed else np.maximum(quanta, 0.0)))
    assert found.counts["discharges"] == physical.sum()
    assert found.counts["saturated"] == (physical > 4).sum()
    burnt = found.energy["device_on"]
    assert burnt == pytest.approx(physical.sum() * ideal.discharge_energy, rel=1e-6)


@pytest.mark.parametrize("charge", [-3.0, 0.0, 0.3, 0.49, 0.51, 1.2, 2.7, 3.49, 3.6, 40.0])
@pytest.mark.parametrize(
    "switch",
    [
        DEMO,
        INTEGRATED,
        dataclasses.replace(DEMO, capacitance=1e-10, set_delay=2e-6, reset_delay=1e-7),
        dataclasses.replace(DEMO, leak_conductance=0.0, output_resistance=1e3),
        dataclasses.replace(DEMO, leak_conductance=2e-5),
        dataclasses.replace(DEMO, leak_voltage=0.1, leak_conductance=1e-6),
    ],
    ids=["demo", "integrated", "delays", "output", "leaky", "biased"],
)
def test_window_equals_the_slow_reference(switch: ThresholdSwitch, charge: float) -> None:
    packet = charge * switch.quantum
    found = run(switch, np.array([packet]))
    expected = slow_reference(switch, packet, WINDOW)
    assert found.counts["discharges"] == expected.pop("discharges") == found.spikes[0]
    energy = dict(found.energy)
    energy["input"] += energy.pop("leak_source")  # the reference's delivered holds both
    for name, value in expected.items():
        assert energy[name] == pytest.approx(value, rel=1e-9, abs=1e-24), name


def test_lock_up_ends_the_window_and_is_counted() -> None:
    charge = 2.0 * DEMO.lock_up() * WINDOW
    found = run(DEMO, np.array([charge, 0.5 * charge * 0.9]))
    assert found.counts["locked"] == 1
    assert found.spikes[0] == 1 < found.spikes[1]
    assert found.imbalance() < 1e-10


def test_conservation_over_many_events() -> None:
    charge = np.random.default_rng(2).normal(0.0, 3.0, 60_000) * INTEGRATED.quantum
    found = run(INTEGRATED, charge, spread=(0.03, 0.008), signed=True)
    assert found.counts["discharges"] > 100_000
    assert found.imbalance() < 1e-10
    assert min(value for name, value in found.energy.items() if name != "stored") >= 0.0


def power(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


@examples(200)
@given(
    capacitance=power(-15, -6),
    on=power(-2, 6),
    ratio=power(0.5, 12),
    hold=st.floats(0.01, 0.5),
    gap=st.floats(0.02, 1.0),
    output=st.floats(0.0, 0.95),
    leak=power(-15, -4),
    rest=st.floats(-0.5, 0.01),
    delays=st.tuples(st.sampled_from([0.0, 1e-9, 1e-6, 1e-4]), st.sampled_from([0.0, 1e-8, 1e-5])),
    spread=st.floats(0.0, 0.4),
    quanta=st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=5),
    seed=st.integers(0, 2**63),
)
@example(1e-13, 1e5, 10.0, 0.25, 0.125, 0.0, 1e-4, -0.5, (0.0, 1e-8), 0.0, [0.0], 0)  # V_0 < 0
def test_any_device_conserves_energy_and_terminates(
    capacitance: float,
    on: float,
    ratio: float,
    hold: float,
    gap: float,
    output: float,
    leak: float,
    rest: float,
    delays: tuple[float, float],
    spread: float,
    quanta: list[float],
    seed: int,
) -> None:
    threshold = hold + gap
    switch = ThresholdSwitch(
        capacitance=capacitance,
        on_resistance=on,
        off_resistance=on * (1.0 + ratio),
        threshold_voltage=threshold,
        hold_voltage=hold,
        output_resistance=output * on * (threshold / hold - 1.0),
        leak_conductance=leak,
        leak_voltage=rest,
        set_delay=delays[0],
        reset_delay=delays[1],
    )
    charge = np.array(quanta) * switch.quantum
    found = run(switch, charge, spread=(spread * threshold, spread * hold), signed=True, seed=seed)
    assert all(math.isfinite(value) for value in found.energy.values())
    assert np.abs(found.spikes).max() <= 100
    if not found.counts["runaway"]:
        assert found.imbalance() < 1e-10
        sources = {"input", "leak_source", "precharge"}  # a source below 0 V absorbs energy
        burnt = {n: v for n, v in found.energy.items() if n not in sources | {"stored"}}
        assert min(burnt.values()) >= -1e-12 * max(found.energy.values())
        if switch.start >= 0.0:
            assert found.energy["precharge"] >= 0.0


def same(first: Outcome, second: Outcome) -> bool:
    return bool((first.spikes == second.spikes).all()) and first.counts == second.counts


@pytest.mark.parametrize("signed", [False, True])
def test_a_seed_is_a_run_in_any_order(signed: bool) -> None:
    charge = np.random.default_rng(3).normal(0.0, 2.0, 400) * INTEGRATED.quantum
    options = {"spread": (0.05, 0.01), "signed": signed}
    whole = run(INTEGRATED, charge, **options)  # type: ignore[arg-type]
    assert same(whole, run(INTEGRATED, charge, **options))  # type: ignore[arg-type]
    halves = [
        run(INTEGRATED, part, offset=at * (2 if signed else 1), **options)  # type: ignore[arg-type]
        for part, at in ((charge[:150], 0), (charge[150:], 150))
    ]
    np.testing.assert_array_equal(np.concatenate([h.spikes for h in halves]), whole.spikes)
    changed: list[Callable[[], Outcome]] = [
        lambda: run(INTEGRATED, charge, seed=2, **options),  # type: ignore[arg-type]
        lambda: run(INTEGRATED, charge, index=1, **options),  # type: ignore[arg-type]
    ]
    assert all(not same(whole, other()) for other in changed)


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.08])
def test_the_shortcut_for_idle_neurons_changes_nothing(spread: float) -> None:
    charge = np.where(np.arange(3000) % 3 == 0, 1.1 * INTEGRATED.quantum, 0.0)
    fast, full = (
        run(INTEGRATED, charge, spread=(spread, 0.01), signed=True, shortcut=shortcut)
        for shortcut in (True, False)
    )
    assert same(fast, full)
    assert (fast.counts["spurious"] > 0) == (spread > 0.05)
    for name, value in full.energy.items():
        assert fast.energy[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("deviations", [-1.5, 0.0, 1.0])
def test_cycle_to_cycle_spread_has_the_stated_distribution(deviations: float) -> None:
    """A membrane brought to V fires with probability Phi((V - mean) / sigma)."""
    spread, number = 0.02, 20_000
    reach = INTEGRATED.upper + deviations * spread
    instant = dataclasses.replace(INTEGRATED, set_delay=0.0)
    charge = np.full(number, instant.capacitance * (reach - instant.start))
    rate = run(instant, charge, spread=(spread, 0.0)).counts["discharges"] / number
    expected = float(norm.cdf(deviations))
    error = math.sqrt(expected * (1.0 - expected) / number)
    assert abs(rate - expected) < 4.0 * error


def test_spurious_spikes_have_the_tail_probability() -> None:
    spread, number = 0.06, 40_000
    found = run(INTEGRATED, np.zeros(number), spread=(spread, 0.0))
    expected = float(norm.cdf((INTEGRATED.start - INTEGRATED.upper) / spread))
    error = math.sqrt(expected / number)
    assert abs(found.counts["spurious"] / number - expected) < 4.0 * error


def test_precharge_pays_for_what_leaked() -> None:
    leaky = dataclasses.replace(DEMO, leak_conductance=1e-5)
    end = leaky.voltage(leaky.start, WINDOW, False, Drive())
    found = run(leaky, np.zeros(10))
    charge = 10 * leaky.capacitance * (leaky.start - end)
    assert found.energy["precharge"] == pytest.approx(charge * leaky.start, rel=1e-12)
    assert found.energy["input"] == 0.0


def test_bad_windows() -> None:
    with pytest.raises(ValueError, match="window > 0"):
        window_device(DEMO, 0.0)
    with pytest.raises(ValueError, match="spreads >= 0"):
        window_device(DEMO, 1e-3, -0.1)
    with pytest.raises(ValueError, match="silent without input"):
        window_device(dataclasses.replace(DEMO, leak_voltage=1.0), 0.1)
