"""Rates and intervals agree with Brian2: two-sample tests over 10 seeds.

tests/data/brian2_*.npz: made by benchmarks/peers/brian2_networks.py; every run, of either
simulator, has connections and initial states of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.peers.spike_statistics import summary
from neurosim.events.simulate import Options, simulate
from neurosim.populations import LIF, CurrentLIF, SpikingNetwork, brunel, coba, cuba

DATA = Path(__file__).parents[1] / "data"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers" / "brian2_networks.py"
NETWORKS: dict[str, Callable[..., SpikingNetwork]] = {"cuba": cuba, "coba": coba, "brunel": brunel}


def brian2_conventions(network: SpikingNetwork, step: float) -> SpikingNetwork:
    """The network that our steps simulate as Brian2's simulate the given one.

    Brian2 counts the step of the spike into the refractory period. Delta inputs it adds after the
    comparison with the threshold: they are compared one step later, one decay smaller.
    """

    def changed(model: LIF) -> LIF:
        if isinstance(model, CurrentLIF):
            return replace(model, refractory_period=model.refractory_period - step)
        decay = np.exp(-step / model.time_constant)
        rest = model.resting_voltage
        return replace(
            model,
            threshold_voltage=rest + (model.threshold_voltage - rest) / decay,
            reset_voltage=rest + (model.reset_voltage - rest) * decay,
            refractory_period=model.refractory_period + step,
        )

    delta = not isinstance(network.populations[0].model, CurrentLIF)
    projections = tuple(
        replace(item, synapses=replace(item.synapses, delay=item.synapses.delay + delta * step))
        for item in network.projections
    )
    populations = tuple(replace(item, model=changed(item.model)) for item in network)
    return SpikingNetwork(populations, projections, network.drives)


def wrong(network: SpikingNetwork, factors: dict[str, float]) -> SpikingNetwork:
    """The network with some parameters of all neurons multiplied."""

    def changed(model: LIF) -> LIF:
        return replace(model, **{key: getattr(model, key) * by for key, by in factors.items()})

    populations = tuple(replace(item, model=changed(item.model)) for item in network)
    return replace(network, populations=populations)


def our_runs(
    name: str, seconds: float, seeds: int, **factors: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates (S, 2), CV (S,), intervals (S, K), as the script stores them.

    `factors`: by how much parameters of all neurons are wrong.
    """
    engine = "bitmap" if name == "brunel" else "steps"
    rows = []
    for seed in range(seeds):
        network = brian2_conventions(wrong(NETWORKS[name](seed=seed), factors), 1e-4)
        options = Options(precision="float32" if seed % 2 else "float64", seed=seed)
        recording = simulate(network, seconds, engine=engine, options=options)
        rows.append(summary(recording.times, recording.neurons, network.size, seconds))
    rates, spreads, intervals = (np.array(column) for column in zip(*rows, strict=True))
    return rates, spreads, intervals


def permutation_chance(ours: np.ndarray, theirs: np.ndarray, trials: int = 400) -> float:
    """How often runs dealt at random into two groups differ as much: KS distance of intervals.

    Runs, not intervals, are dealt: those of one run share its connections.
    """
    rng = np.random.default_rng(0)
    runs = np.concatenate([ours, theirs])

    def distance(chosen: np.ndarray) -> float:
        rest = np.setdiff1d(np.arange(len(runs)), chosen)
        return float(stats.ks_2samp(runs[chosen].ravel(), runs[rest].ravel()).statistic)

    found = distance(np.arange(len(ours)))
    dealt = [distance(rng.permutation(len(runs))[: len(ours)]) for _ in range(trials)]
    return (1 + sum(value >= found for value in dealt)) / (1 + trials)


def agree(name: str, rates: np.ndarray, spreads: np.ndarray, intervals: np.ndarray) -> None:
    """Kolmogorov-Smirnov over seeds for rates and CV, by permutation for intervals: p > 1 %."""
    stored = np.load(DATA / f"brian2_{name}.npz")
    chances = {
        "excitatory rate": stats.ks_2samp(rates[:, 0], stored["rates_hz"][:, 0]).pvalue,
        "inhibitory rate": stats.ks_2samp(rates[:, 1], stored["rates_hz"][:, 1]).pvalue,
        "CV": stats.ks_2samp(spreads, stored["cv"]).pvalue,
        "intervals": permutation_chance(intervals, stored["intervals_s"]),
    }
    assert min(chances.values()) > 0.01, chances


@pytest.mark.parametrize("name", ["cuba", "coba", pytest.param("brunel", marks=pytest.mark.slow)])
def test_ten_seeds_agree_with_brian2(name: str) -> None:
    seconds = float(np.load(DATA / f"brian2_{name}.npz")["seconds"])
    agree(name, *our_runs(name, seconds, 10))


@pytest.mark.parametrize(
    ("key", "factor"),
    [
        ("excitatory_time_constant", 1.1),
        ("inhibitory_time_constant", 1.1),
        ("time_constant", 1.05),
    ],
)
def test_wrong_time_constants_do_not_agree(key: str, factor: float) -> None:
    """The same test over the same seeds tells CUBA with a slightly wrong constant from Brian2's."""
    seconds = float(np.load(DATA / "brian2_cuba.npz")["seconds"])
    with pytest.raises(AssertionError, match="inhibitory rate"):
        agree("cuba", *our_runs("cuba", seconds, 10, **{key: factor}))


@pytest.mark.slow
def test_brian2_still_gives_what_is_stored(tmp_path: Path) -> None:
    """Where BRIAN2_PYTHON names a Python with Brian2."""
    python = os.environ.get("BRIAN2_PYTHON")
    if python is None:
        pytest.skip("BRIAN2_PYTHON is not set")
    out = tmp_path / "cuba.npz"
    arguments = ["statistics", "cuba", "--seconds", "2", "--out", str(out)]
    subprocess.run([python, str(SCRIPT), *arguments], check=True)
    fresh = np.load(out)
    agree("cuba", fresh["rates_hz"], fresh["cv"], fresh["intervals_s"])
