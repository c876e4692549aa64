"""A run's exact counts at the published constants of a digital neuromorphic chip.

An integer neuron of D levels is D time steps of a binary one, so a window is D steps:

    E = SOP e_sop + active e_act + (updates - active) e_inact + spikes e_spike + hops e_hop
        + other e_other + chips P t_token
    updates = neurons x D, active <= updates the steps with a spike
    t_window = max(D x t_step, synaptic operations of the busiest core x t_sop)

A token takes the sum of its windows when it is decoded alone, the slowest window once the pipeline
of a prompt is full. Cores that no node fills take a share of every matrix, which favours the chip.
The synaptic operation holds its weight read. `other`: additions, shifts and words of attention,
running sums and tables, for which no chip has a published price. This is a pricing of counts, not a
claim that the network was mapped to the chip.
"""

from __future__ import annotations

import math

from neurosim.energy.counts import PhaseCounts
from neurosim.energy.digital import refuse_units
from neurosim.energy.model import storage_bits, windows_per_token
from neurosim.energy.prices import PriceList, UnpricedError, load_prices
from neurosim.energy.terms import Breakdown, Term, priced
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
)

PROFILES = ("loihi1", "loihi1_fitted", "truenorth", "spinnaker2", "darwin3")
_OTHER = (
    "additions",
    "shifts",
    "state_reads",
    "state_writes",
    "accumulator_reads",
    "accumulator_writes",
    "embedding_reads",
)


def _cores(network: Network, prices: PriceList) -> dict[str, int]:
    """Whole cores that hold the weights, tables, states and neurons of each node."""
    memory, neurons = (prices.price(name).value for name in ("core_memory", "core_neurons"))
    used: dict[str, int] = {}
    for node in network:
        if isinstance(node, Crossbar | DelayCrossbar):
            used[node.name] = math.ceil(node.weight.size * node.weight_bits / 8 / memory)
        elif isinstance(node, Embedding):
            used[node.name] = math.ceil(node.table.size * storage_bits(node.table) / 8 / memory)
        elif isinstance(node, AttentionUnit):
            used[node.name] = math.ceil(node.state_size * 4 / memory)
        elif isinstance(node, NeuronBank):
            used[node.name] = math.ceil(node.neurons / neurons)
        elif isinstance(node, Accumulator):
            used[node.name] = math.ceil(node.width / neurons)
    return used


def chips_needed(network: Network, prices: PriceList) -> int:
    """Chips that hold the weights, tables, states and neurons, whole cores a node."""
    return math.ceil(sum(_cores(network, prices).values()) / prices.price("cores").value)


def _busiest(network: Network, phase: PhaseCounts, prices: PriceList) -> list[float]:
    """Synaptic operations per token of the busiest core of every stage.

    Crossbars with one source work at the same time; idle cores are shared out in proportion.
    """
    cores = _cores(network, prices)
    spread = chips_needed(network, prices) * prices.price("cores").value / sum(cores.values())
    stages: dict[str, float] = {}
    for node in network:
        if isinstance(node, Crossbar | DelayCrossbar):
            source = network.sources(node.name)[0]
            operations = phase.of(node.name, "synaptic_operations") / phase.tokens
            own = operations / (cores[node.name] * spread)
            stages[source] = max(stages.get(source, 0.0), own)
    return list(stages.values())


def _late(
    busy: list[float], steps: float, name: str, tokens: int, depth: int, flight: int
) -> float:
    """What a token waits for synaptic operations beyond its windows, in operations of one core.

    `busy`: operations a stage; `steps`: a window in the time of one operation; `flight`: tokens
    decoded at once.
    """
    late = [max(operations - steps, 0.0) for operations in busy]
    slowest = max(late, default=0.0)
    if name == "prefill":
        return (math.fsum(late) + (tokens - 1) * slowest) / tokens
    return max(math.fsum(late) / flight, slowest + steps - depth * steps / flight)


def neuromorphic_token_energy(
    network: Network,
    phase: PhaseCounts,
    depth: int,
    profile: str | PriceList = "loihi1",
    name: str = "decode",
    streams: int = 1,
) -> Breakdown:
    """Energy of one token of a phase at a chip's constants.

    Args:
        network: what ran.
        phase: what was counted; integrated device energies are left out, the chip has its own.
        depth: windows of a token, as placed.
        profile: one of `PROFILES` or a price list.
        name: "prefill" or "decode".
        streams: texts decoded at once, which share the static power.

    Raises:
        UnpricedError: names everything counted that the profile has no price for.
    """
    phase.check(network)
    refuse_units(network, "a published neuromorphic chip")
    prices = load_prices(profile) if isinstance(profile, str) else profile
    terms: list[Term] = []
    unpriced: set[str] = set()

    def add(layer: str, node: str, mechanism: str, what: str, amount: float, price: str) -> None:
        if amount == 0:
            return
        if price in prices:
            terms.append(priced(layer, node, mechanism, what, amount, prices.price(price)))
        else:
            unpriced.add(f"{what} ({price})")

    levels = 1
    for node in network:
        layer, counted = network.layer[node.name], phase.counts.get(node.name, {})
        own = {key: value / phase.tokens for key, value in counted.items()}
        sops = own.get("synaptic_operations", 0.0)
        add(layer, node.name, "synapse", "synaptic operations", sops, "synaptic_operation")
        if isinstance(node, NeuronBank):
            levels = max(levels, node.levels)
            updates = own.get("neuron_windows", 0.0) * node.levels
            active = min(own.get("neuron_spikes", 0.0), updates)
            add(layer, node.name, "neuron", "active updates", active, "neuron_active")
            add(layer, node.name, "neuron", "other updates", updates - active, "neuron_inactive")
            spikes = own.get("neuron_spikes", 0.0)
            add(layer, node.name, "routing", "spikes sent", spikes, "spike")
            add(layer, node.name, "routing", "hops", own.get("hops", 0.0), "hop")
            between = own.get("chip_hops", 0.0)
            add(layer, node.name, "routing", "hops between chips", between, "chip_hop")
        for count in _OTHER:
            what = count.replace("_", " ")
            add(layer, node.name, "other", what, own.get(count, 0.0), "other_operation")
    windows = windows_per_token(name, phase.tokens, depth, streams) * levels
    needed = ("chip_power", "step_time", "synapse_time", "cores", "core_memory", "core_neurons")
    unpriced.update(f"static power ({key})" for key in prices.missing(needed))
    if unpriced:
        raise UnpricedError(
            f"no total: {len(unpriced)} terms without a price: {', '.join(sorted(unpriced))}; "
            "choose a profile that has them, or read the synaptic operations alone"
        )
    power, step = prices.price("chip_power"), prices.price("step_time")
    chips, each = chips_needed(network, prices), prices.price("synapse_time")
    terms.append(priced("chip", "chip", "static", "chip-steps", chips * windows, power, step))
    late = _late(
        _busiest(network, phase, prices),
        levels * step.value / each.value,
        name,
        phase.tokens,
        depth,
        min(streams, depth),
    )
    what = "chip-operations beyond the steps"
    terms.append(priced("chip", "chip", "static", what, chips * late, power, each))
    return Breakdown(tuple(terms), windows * step.value + late * each.value)


def synaptic_energy(phase: PhaseCounts, profile: str) -> float:
    """J per token of the synaptic operations alone: for chips that publish nothing else."""
    price = load_prices(profile).price("synaptic_operation")
    return phase.total("synaptic_operations") / phase.tokens * price.value
