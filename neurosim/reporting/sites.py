"""Spike rates of every site, and the rate at which each layer would break even."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neurosim.energy.accelerator import accelerator_prices, weight_bank
from neurosim.energy.break_even import Duel, compute_only
from neurosim.energy.counts import PhaseCounts
from neurosim.energy.layers import EventOptions, Site, Words
from neurosim.energy.prices import PriceList
from neurosim.energy.published import THRESHOLDS, yan_thresholds
from neurosim.network import Crossbar, DelayCrossbar, NeuronBank
from neurosim.reporting.walk import Walk

SKIPPED_DENSITY = 0.45  # non-zero inputs of an ANN that skips the others, Yan et al. v1


def site_rows(walked: Walk) -> list[dict[str, Any]]:
    """Per bank: spikes per channel and time step (a window of D levels is D steps).

    min, median and max over tokens; the shares of channels that were silent at every token, and
    that fired all D at every token.
    """
    rows = []
    for name, spikes in walked.spikes.items():
        bank = walked.network[name]
        assert isinstance(bank, NeuronBank)
        events = np.abs(spikes.astype(np.int64))  # (T, N)
        rate = events.sum(axis=1) / (events.shape[1] * bank.levels)
        rows.append(
            {
                "site": name,
                "layer": walked.network.layer[name],
                "channels": bank.size,
                "levels": bank.levels,
                "signed": bank.signed,
                "rate_min": float(rate.min()),
                "rate_median": float(np.median(rate)),
                "rate_max": float(rate.max()),
                "silent_share": float((events.max(axis=0) == 0).mean()),
                "always_on_share": float((events.min(axis=0) == bank.levels).mean()),
            }
        )
    return rows


def break_even_rows(walked: Walk, prices: PriceList, digital: str) -> list[dict[str, Any]]:
    """Per crossbar: its measured input rate and the rate of equal energy, digital against digital.

    Both sides at the prices of one digital technology, weights in SRAM of a tile's size, a fetch a
    token; T = levels time steps, events carry a sign where spikes have one. `shared` lets the
    spiking side keep a weight over its T steps; `skipping` also lets the dense side leave out zero
    inputs and their weights (`SKIPPED_DENSITY` are not zero); `compute_only` is arithmetic alone.
    """
    accelerator = accelerator_prices(prices, digital)
    spikes = {name: np.abs(rows.astype(np.int64)) for name, rows in walked.spikes.items()}
    rows = []
    for node in walked.network:
        if not isinstance(node, Crossbar):
            continue
        source = walked.network[walked.network.sources(node.name)[0]]
        assert isinstance(source, NeuronBank)
        fan_in, fan_out = node.weight.shape
        words = Words(node.weight_bits, weight_level=weight_bank(accelerator, node.weight_bits))
        site = Site(walked.network.layer[node.name], node.name, accelerator, words)
        measured = float(spikes[source.name].mean()) / source.levels
        sign = EventOptions(payload_bits=int(source.signed))
        alone = Duel(fan_in, fan_out, source.levels, options=sign)
        shared = replace(alone, temporal_reuse=True)
        skipping = replace(shared, density=SKIPPED_DENSITY, weight_density=SKIPPED_DENSITY)
        rows.append(
            {
                "layer": site.layer,
                "crossbar": node.name,
                "fan_in": fan_in,
                "fan_out": fan_out,
                "steps": source.levels,
                "measured_rate": measured,
                "break_even_rate": alone.break_even(site),
                "break_even_rate_shared": shared.break_even(site),
                "break_even_rate_skipping": skipping.break_even(site),
                "break_even_rate_compute_only": compute_only(site, source.levels),
            }
        )
    return rows


def verdicts(walked: Walk, counts: PhaseCounts) -> list[dict[str, Any]]:
    """All published thresholds against this run.

    One token is taken as one inference; a window of D levels as D time steps.
    """
    synapses = sum(
        node.weight.size for node in walked.network if isinstance(node, Crossbar | DelayCrossbar)
    )
    per_synapse = counts.total("synaptic_operations") / counts.tokens / synapses
    fired = sum(int(np.abs(rows.astype(np.int64)).sum()) for rows in walked.spikes.values())
    steps = sum(
        rows.size * bank.levels
        for name, rows in walked.spikes.items()
        if isinstance(bank := walked.network[name], NeuronBank)
    )
    rate = fired / steps
    longest = max(b.levels for b in walked.network.of(NeuronBank) if isinstance(b, NeuronBank))
    return [
        {
            "name": threshold.name,
            "source": threshold.source,
            "limit": threshold.limit,
            "unit": threshold.unit,
            "steps": threshold.steps,
            "measured": per_synapse if "synapse" in threshold.unit else rate,
            "below": threshold.met(per_synapse, rate),
        }
        for threshold in (*THRESHOLDS, *yan_thresholds(longest))
    ]
