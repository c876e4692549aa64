"""A network of populations on a clock, in plain numpy: what the NIR tests compare with.

At tick n (time n h): membranes and currents decay exactly from the tick before, the spikes that
arrive at n are added, V >= threshold fires. Populations are visited in order, so that a spike
without delay reaches a later population within the tick.
"""

from __future__ import annotations

import numpy as np

from neurosim.populations import CrossbarSynapses, CurrentLIF, SparseSynapses, SpikingNetwork


def spike_trains(
    network: SpikingNetwork, inputs: dict[str, np.ndarray], step: float, ticks: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Spikes (ticks, N) and voltages (ticks, N) by population; `inputs`: spikes of the sources."""
    spikes = {p.name: np.zeros((ticks, p.size)) for p in network}
    voltages = {p.name: np.zeros((ticks, p.size)) for p in network if not p.is_source}
    arriving: dict[tuple[str, str], np.ndarray] = {}
    state: dict[str, dict[str, np.ndarray]] = {}
    for p in network:
        if p.is_source:
            spikes[p.name][:] = inputs[p.name]
            continue
        start = {name: p.initial.get(name, 0.0) for name in p.model.states}
        start["voltage"] = p.initial.get("voltage", p.parameter("reset_voltage"))
        state[p.name] = {k: np.broadcast_to(v, p.size).astype(float) for k, v in start.items()}
        for receptor in p.model.receptors:
            arriving[p.name, receptor] = np.zeros((2 * ticks + 1, p.size))
    for n in range(ticks):
        for p in network:
            if not p.is_source:
                now = {r: arriving[p.name, r][n] for r in p.model.receptors}
                fired = _advance(p, state[p.name], now, step, first=n == 0)
                spikes[p.name][n] = fired
                voltages[p.name][n] = state[p.name]["voltage"]
            for item in network.projections:
                if item.source == p.name:
                    _deliver(item, spikes[p.name][n], arriving[item.target, item.receptor], n, step)
    return spikes, voltages


def _advance(p, state, now, step, first):
    get, rest = p.parameter, p.parameter("resting_voltage")
    decay = np.exp(-step / get("time_constant"))
    drive = np.zeros(p.size)
    if isinstance(p.model, CurrentLIF):
        for name in ("excitatory", "inhibitory"):
            tau, tau_m = get(f"{name}_time_constant"), get("time_constant")
            fades = np.exp(-step / tau)
            apart = np.where(tau == tau_m, tau * 1.0000001, tau)
            if not first:
                drive += state[name] * apart / (apart - tau_m) * (np.exp(-step / apart) - decay)
                state[name] = state[name] * fades
            state[name] = state[name] + now[name]
    if not first:
        state["voltage"] = rest + (state["voltage"] - rest) * decay + drive
    if "voltage" in now:
        state["voltage"] = state["voltage"] + now["voltage"]
    fired = state["voltage"] >= get("threshold_voltage")
    state["voltage"] = np.where(fired, get("reset_voltage"), state["voltage"])
    return fired


def _deliver(item, fired, waiting, n, step):
    synapses = item.synapses
    if isinstance(synapses, CrossbarSynapses):
        waiting[n + round(synapses.delay / step)] += fired @ synapses.weight
        return
    assert isinstance(synapses, SparseSynapses)
    pre = np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets))
    late = np.rint(np.broadcast_to(synapses.delay, len(pre)) / step).astype(int)
    weight = np.broadcast_to(synapses.weight, len(pre)) * fired[pre]
    use = np.flatnonzero(weight)
    np.add.at(waiting, (n + late[use], synapses.targets[use]), weight[use])
