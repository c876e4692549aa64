"""What a simulated second costs, from measured constants: how the engine is chosen.

CPU seconds = sum of neuron-steps, drive draws, deliveries and steps, each times its constant;
docs/engines.md says how they were measured, `benchmarks/networks.py` prints predicted / measured.
Firing rates are not known before the simulation: neurons are taken to fire at 10 Hz, sources at
their own (`exact.support.assumed_rate`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurosim.events.exact.support import assumed_rate
from neurosim.events.simulate import Options
from neurosim.events.steps.layout import padded
from neurosim.events.steps.wiring import bitmap_refusal, poisson_bounds, usual_counts
from neurosim.populations.models import ConductanceLIF, CurrentLIF, Model
from neurosim.populations.network import Projection, SpikingNetwork
from neurosim.populations.synapses import CrossbarSynapses

_WORTH_MEETING = 20e-6  # s of work of each thread between two meetings, below which it waits more

# ns of one core (Xeon, family 6 model 207, AVX-512), for float32 and float64 where they differ
_NEURON_STEP = {"LIF": (0.22, 0.33), "CurrentLIF": (0.55, 0.80), "ConductanceLIF": (0.90, 2.3)}
_OWN_PARAMETERS = 1.3  # times as much where each neuron has its own
_STEP, _POPULATION_STEP, _PROJECTION_STEP = 40.0, 30.0, 8.0
_SPIKE = 250.0  # a neuron's, into the log, out of it and sorted
_DRAW, _DRAW_BOUND = 0.55, 0.05  # per neuron and draw, and per usual value of the distribution
_ROW = 20.0  # per spike and projection
_ROW_EVENT, _OWN_EVENT = (0.6, 0.7), (0.7, 1.1)  # per synapse, in the caches of a core
_DISTANT_EVENT = 0.7  # more per synapse where a projection is larger than they are
_NEAR = 2 << 20  # bytes
_DELAYED_EVENT, _MATRIX_EVENT = (3.4, 4.3), (0.2, 0.6)
_BITMAP_WORD, _BITMAP_STEP = 1.0, 0.4  # per 64 targets of a row; per target and step with spikes


def _model_name(model: Model) -> str:
    if isinstance(model, ConductanceLIF):
        return "ConductanceLIF"
    return "CurrentLIF" if isinstance(model, CurrentLIF) else "LIF"


def _delivery(
    projection: Projection, spikes: float, steps: float, column: int, bitmap: bool
) -> float:
    """ns per simulated second of a projection whose sources fire `spikes` times in it."""
    synapses = projection.synapses
    events = spikes * synapses.count / synapses.source_count
    if isinstance(synapses, CrossbarSynapses):
        return spikes * _ROW + events * _MATRIX_EVENT[column]
    if bitmap:
        words = padded(synapses.target_count) / 64
        busy = steps * -np.expm1(-spikes / steps)  # steps with at least one spike
        return float(spikes * words * _BITMAP_WORD + busy * synapses.target_count * _BITMAP_STEP)
    if np.ndim(synapses.delay):
        return spikes * _ROW + events * _DELAYED_EVENT[column]
    each = (_ROW_EVENT if synapses.uniform else _OWN_EVENT)[column]
    return spikes * _ROW + events * (each + (_DISTANT_EVENT if synapses.bytes > _NEAR else 0.0))


def predict(
    network: SpikingNetwork,
    options: Options,
    bitmaps: bool,
    rates: Mapping[str, float] | None = None,
) -> float:
    """CPU seconds per simulated second; `rates`: population -> Hz, where known."""
    steps, column = 1.0 / options.time_step, int(options.precision == "float64")
    known = rates or {}
    total = steps * (_STEP + len(network.projections) * _PROJECTION_STEP)
    for population in network:
        if population.is_source:
            continue
        own = any(np.ndim(value) for value in vars(population.model).values())
        each = _NEURON_STEP[_model_name(population.model)][column]
        each *= _OWN_PARAMETERS if own else 1.0
        fired = population.size * known.get(population.name, assumed_rate(population))
        total += steps * (_POPULATION_STEP + population.size * each) + fired * _SPIKE
    for drive in network.drives:
        bounds = usual_counts(poisson_bounds(min(drive.rate * options.time_step, 4.0)))
        draws = max(1.0, drive.rate * options.time_step / 4.0)
        each = draws * (_DRAW + bounds * _DRAW_BOUND)
        total += steps * network[drive.target].size * each
    for projection in network.projections:
        source = network[projection.source]
        spikes = source.size * known.get(source.name, assumed_rate(source))
        bitmap = bitmaps and bitmap_refusal(projection, options.time_step) is None
        total += _delivery(projection, max(spikes, 1e-9), steps, column, bitmap)
    return 1e-9 * total


def useful_threads(network: SpikingNetwork, options: Options, bitmaps: bool) -> int:
    """As many of the threads asked for as have enough to do between two meetings.

    They meet once in the shortest delay. The result is the same for any number.
    """
    shortest = min(network.shortest_delay, 64 * options.time_step)
    work = predict(network, options, bitmaps) * shortest
    return int(max(1, min(options.threads, work / _WORTH_MEETING)))
