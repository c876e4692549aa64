"""A bank of neurons on the chip: the network's integers in, spike counts and joules out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip._bank_loops import draw_devices, exact_counts, exact_times, packets
from neurosim.chip.description import ChipDescription
from neurosim.devices.counter_random import stream_key
from neurosim.devices.neuron_window import (
    COUNT_TERMS,
    DRAWS_PER_WINDOW,
    ENERGY_TERMS,
    MAX_CYCLES,
    new_ledger,
    silent_uniforms,
    simulate_window,
    window_device,
)
from neurosim.devices.window_membrane import membrane
from neurosim.network import Network, NeuronBank

Spikes = npt.NDArray[np.int8]
_PARTS = ("driver", "device", "leak", "precharge")
_NEVER = 2**60  # half threshold of a dead neuron, weight units: no sum gets there
_OUT_OF_REACH = 1e6  # V_th of a dead neuron, V


@dataclass(frozen=True)
class BankEnergy:
    """Energy of a bank, J; `total`, the sum of the parts, equals `supplied`.

    `driver` is burnt between the supply and the membranes (V_dd Q - input), `device` in the
    switches (ON and OFF) with their output resistors, `leak` in leak resistors, `precharge` in the
    reset switches.
    """

    driver: float
    device: float
    leak: float
    precharge: float
    supplied: float

    @property
    def total(self) -> float:
        """Everything burnt, J."""
        return self.driver + self.device + self.leak + self.precharge

    def parts(self) -> dict[str, float]:
        """Mechanism -> J."""
        return {name: getattr(self, name) for name in _PARTS}


class _Phase:
    """Accumulators of one phase of a run."""

    def __init__(self) -> None:
        self.energy, self.counts = new_ledger()
        self.charge = 0.0
        self.spikes = 0


class ChipBank:
    """The neurons of one `NeuronBank` on a chip. `fire` runs a window; energy and counts add up.

    On an exact chip a spike costs one closed-form discharge and delivers one quantum of charge;
    the remainders of packets are not charged. `neuron_offset` makes neuron numbers unique over the
    chip. `dead` (N,): channels whose tile is dead: they take no charge and never fire.
    """

    def __init__(
        self,
        bank: NeuronBank,
        chip: ChipDescription,
        seed: int,
        neuron_offset: int = 0,
        dead: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        switch = chip.device.switch()
        self.name = bank.name
        self.size = bank.size
        self.neurons = bank.neurons
        self.levels = bank.levels
        self.signed = bank.signed
        self.exact = chip.exact
        if bank.levels > 127:
            raise ValueError(f"{bank.name}: expected at most 127 levels, got {bank.levels}")
        self._bias = np.ascontiguousarray(bank.bias, dtype=np.int64)
        self._half = np.array(bank.half_threshold, dtype=np.int64)
        if dead is not None:
            self._half[dead] = _NEVER
        self._supply_voltage = chip.neuron.supply_voltage.value
        self._quantum = switch.quantum
        self._discharge_energy = switch.discharge_energy
        self._phases: dict[str, _Phase] = {}
        self._window = window = chip.window.duration.value
        if self.exact:
            return
        delays = switch.set_delay + switch.reset_delay
        if bank.levels * delays >= window:
            raise ValueError(
                f"{bank.name}: {bank.levels} spikes with delays of {delays:.3g} s each do not "
                f"fit into window.duration = {window:.3g} s; lengthen the window of {chip.name}"
            )
        device = chip.device
        self._seed = np.uint64(seed)
        self._offset = neuron_offset
        warm, holding = chip.warm_switch(), chip.neuron.hold_current.value
        self._device = window_device(
            warm,
            window,
            device["threshold_spread_cycle"],
            device["hold_spread_cycle"],
            switch.start,
            holding if holding > 0.0 else np.inf,
        )
        self._threshold = np.full(self.neurons, warm.threshold_voltage)
        self._hold = np.full(self.neurons, switch.hold_voltage)
        draw_devices(
            self._threshold,
            self._hold,
            device["threshold_spread_device"],
            device["hold_spread_device"],
            self._seed,
            neuron_offset,
        )
        if dead is not None:
            self._threshold[np.repeat(dead, self.neurons // self.size)] = _OUT_OF_REACH
        self._silent = np.empty(self.neurons)
        silent_uniforms(self._threshold, self._device, self._silent)
        self._gain = self._quantum / (2.0 * self._half)
        headroom = chip.neuron.input_headroom.value
        self._limit = (bank.levels + headroom) * self._quantum if headroom else np.inf
        self._packet = np.empty(self.size)
        self._trim = np.stack([np.ones(self.neurons), np.zeros(self.neurons)])

    def fire(
        self,
        charge: npt.NDArray[Any],
        window_index: int,
        phase: str = "run",
        out: Spikes | None = None,
        times: npt.NDArray[np.float64] | None = None,
    ) -> Spikes:
        """Spike counts of one window, (N,) int8, signed: ON minus OFF.

        `charge` (N,): column sums or accumulator values in weight units, without the bank's bias,
        which is added here. `window_index` keys the random draws: never use one twice for a bank.
        `phase` is the account that energy and counts go to. `times` (N, levels), if given, becomes
        the start of each channel's first |n| discharges, s from the window's start; on an exact
        chip, where current and threshold are nominal, (2k - 1) h / |a + b| of the window.
        """
        spikes = np.empty(self.size, dtype=np.int8) if out is None else out
        if charge.shape != (self.size,):
            raise ValueError(f"{self.name}: expected charge ({self.size},), got {charge.shape}")
        if phase not in self._phases:
            self._phases[phase] = _Phase()
        account = self._phases[phase]
        if self.exact:
            fired = exact_counts(charge, self._bias, self._half, self.levels, self.signed, spikes)
            account.spikes += int(fired)
            if times is not None:
                exact_times(charge, self._bias, self._half, spikes, self._window, times)
            return spikes
        account.charge += packets(
            charge, self._bias, self._gain, self._limit, self.signed, self._trim, self._packet
        )
        simulate_window(
            self._packet,
            self.signed,
            self._device,
            self._threshold,
            self._hold,
            self._silent,
            self._seed,
            window_index,
            self._offset,
            self.levels,
            spikes,
            account.energy,
            account.counts,
            times,
        )
        if account.counts[4]:
            raise ValueError(
                f"{self.name}: a neuron discharged more than {MAX_CYCLES} times in a window; "
                "limit the charge with neuron.input_headroom"
            )
        return spikes

    def last_membrane(
        self, channel: int, window_index: int, samples: int = 1000
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Times (s) and voltages (V) of a channel's neuron in the last window; its discharges (s).

        Of a signed channel, the neuron that got the charge. ValueError on an exact chip, whose
        neurons have no membrane.
        """
        if self.exact:
            raise ValueError(f"{self.name}: exact neurons have no membrane; use a device chip")
        packet = float(self._packet[channel])
        side = int(self.signed and packet < 0.0)
        neuron = channel * (2 if self.signed else 1) + side
        times = np.linspace(0.0, self._window, samples)
        volts, fired = membrane(
            max(-packet if side else packet, 0.0),
            float(self._threshold[neuron]),
            float(self._hold[neuron]),
            self._device,
            np.uint64(stream_key(self._seed, np.uint64(self._offset + neuron))),
            np.uint64(window_index) * DRAWS_PER_WINDOW,
            times,
        )
        return times, volts, fired

    @property
    def charge_limit(self) -> float:
        """Most charge that the input stage passes in a window, spikes of the nominal device."""
        return float("inf") if self.exact else self._limit / self._quantum

    def charge_of(self, spikes: float) -> npt.NDArray[np.float64]:
        """What to give `fire` so that every channel's packet is `spikes` quanta, (N,)."""
        return np.asarray(spikes * 2.0 * self._half - self._bias, np.float64)

    def apply_trim(self, gain: npt.NDArray[np.floating], bias: npt.NDArray[np.floating]) -> None:
        """Set each neuron's trim, (neurons,): packets become `gain` times as large plus `bias`.

        `bias` is in spikes (quanta of the nominal device). An exact bank has nothing to trim.
        """
        expected = (self.neurons,)
        if self.exact or gain.shape != expected or bias.shape != expected:
            kind = "an exact bank" if self.exact else "a bank"
            raise ValueError(
                f"{self.name}: expected gain and bias {expected} for a simulated bank, got "
                f"{gain.shape} and {bias.shape} for {kind}"
            )
        self._trim = np.stack([gain, bias * self._quantum]).astype(np.float64)

    def reset(self) -> None:
        """Forget all energy and counts; the devices stay as they are."""
        self._phases.clear()

    def energy(self, phase: str | None = None) -> BankEnergy:
        """Energy of one phase, or of all since the last reset."""
        spikes = sum(account.spikes for account in self._accounts(phase))
        supply = self._supply_voltage * sum(account.charge for account in self._accounts(phase))
        if self.exact:
            supply = spikes * self._supply_voltage * self._quantum
            device = spikes * self._discharge_energy
            return BankEnergy(supply - device, device, 0.0, 0.0, supply)
        terms = self.ledger(phase)
        return BankEnergy(
            driver=supply - terms["input"],
            device=terms["device_on"] + terms["device_off"] + terms["output"],
            leak=terms["leak"],
            precharge=terms["switch"],
            supplied=supply + terms["leak_source"] + terms["precharge"],
        )

    @property
    def joules(self) -> dict[str, dict[str, float]]:
        """Phase -> mechanism -> J."""
        return {phase: self.energy(phase).parts() for phase in self._phases}

    def ledger(self, phase: str | None = None) -> dict[str, float]:
        """`ENERGY_TERMS` of the simulated membranes, J; all zero on an exact chip."""
        total = sum((account.energy for account in self._accounts(phase)), new_ledger()[0])
        return dict(zip(ENERGY_TERMS, total.tolist(), strict=True))

    def counts(self, phase: str | None = None) -> dict[str, int]:
        """`COUNT_TERMS` since the last reset; discharges = counted spikes on an exact chip."""
        accounts = self._accounts(phase)
        total = sum((account.counts for account in accounts), new_ledger()[1])
        counts = dict(zip(COUNT_TERMS, total.tolist(), strict=True))
        if self.exact:
            counts["discharges"] = sum(account.spikes for account in accounts)
        return counts

    def _accounts(self, phase: str | None) -> list[_Phase]:
        names = self._phases if phase is None else [phase]
        return [self._phases.get(name, _Phase()) for name in names]

    def __repr__(self) -> str:
        kind = "exact" if self.exact else "threshold-switch"
        return f"ChipBank({self.name}: {self.neurons} {kind} neurons, {self.levels} levels)"


def build_banks(
    network: Network,
    chip: ChipDescription,
    seed: int,
    dead: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> Mapping[str, ChipBank]:
    """All banks of a network by name, with neuron numbers unique over the chip.

    dead: bank -> its channels on dead tiles, (N,); banks that have none may be left out.
    """
    lost = dead or {}
    banks: dict[str, ChipBank] = {}
    offset = 0
    for node in network:
        if isinstance(node, NeuronBank):
            banks[node.name] = ChipBank(node, chip, seed, offset, lost.get(node.name))
            offset += node.neurons
    return banks
