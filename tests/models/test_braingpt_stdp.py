"""The STDP-inspired rules: the published steps, the per-synapse rule against a plain sum."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from braingpt_cases import GOLDEN, needs_golden, write_model

from neurosim.models.braingpt.mlx_model import from_weights
from neurosim.models.braingpt.model import Options
from neurosim.models.braingpt.stdp import (
    GlobalModulation,
    StdpTrainer,
    ThreeFactor,
    Timing,
    last_positive_step,
    layer_step,
)
from neurosim.models.braingpt.stored import StoredModel


@needs_golden
class TestPublished:
    """ops.npz."""

    io = np.load(GOLDEN / "ops.npz") if (GOLDEN / "ops.npz").is_file() else {}

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_layer_step(self, number: int) -> None:
        pre_time, post_time, loss = self.io[f"stdp{number}.t_pre_t_post_loss"]
        arrays = [self.io[f"stdp{number}.{name}"] for name in ("W0", "pre", "post")]
        weight, tag = layer_step(*arrays, pre_time, post_time, loss)
        assert np.abs(weight - self.io[f"stdp{number}.W1"]).max() < 1e-7
        assert abs(tag - self.io[f"stdp{number}.tag"]) < 1e-6

    def test_global_modulation(self) -> None:
        modulation = GlobalModulation()
        found = [modulation(loss) for loss in self.io["gmod.losses"]]
        assert np.abs(np.asarray(found) - self.io["gmod.G"]).max() < 1e-6


def test_timing() -> None:
    found = Timing()(np.array([20.0, 0.0, -20.0, 1e9, -1e9]))
    np.testing.assert_allclose(found, [0.1 / np.e, -0.12, -0.12 / np.e, 0, 0], atol=1e-15)
    with pytest.raises(ValueError, match="time constants"):
        Timing(tau_plus=0.0)


def test_window_of_the_baseline() -> None:
    modulation = GlobalModulation(beta=1.0, window=2)
    for loss in (100.0, 1.0):
        modulation(loss)
    assert modulation(1.0) == 0.5  # the 100 is forgotten


def test_last_positive_step() -> None:
    """By the spike trains: neuron i spikes with sign(n) at steps 0 .. |n| - 1."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(-7, 8, 6)
        trains = np.sign(counts) * (np.arange(7)[:, None] < np.abs(counts))
        wanted = np.nonzero(trains.sum(1) > 0)[0]
        assert last_positive_step(counts, 7) == (wanted[-1] if len(wanted) else -1)


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_three_factors(memory: float) -> None:
    """Against eligibility traces and sums written out, synapse by synapse."""
    rng = np.random.default_rng(1)
    pre, post = (rng.integers(-7, 8, (9, n)).astype(np.int8) for n in (5, 4))
    factors, weight = rng.standard_normal(9), rng.standard_normal((4, 5))
    rule = ThreeFactor(rate=0.3, memory=memory, decay=0.4)
    wanted = np.zeros((4, 5))
    for i in range(4):
        for j in range(5):
            eligible = 0.0
            for token in range(9):
                n, m = int(pre[token, j]), int(post[token, i])
                pair = np.sign(n * m) * float(rule.timing(abs(m) - abs(n)))
                eligible = memory * eligible + pair
                wanted[i, j] += factors[token] * eligible / 9
    unit = np.sqrt(np.mean(weight**2))
    wanted = 0.3 * (unit * wanted - 0.4 * factors.mean() * weight)
    np.testing.assert_allclose(rule.change(weight, pre, post, factors, 7), wanted, atol=1e-12)


def test_rules_run_and_stay_bounded(tmp_path: Path) -> None:
    """Every projection changes, none beyond its bound, and nothing else changes."""
    stored = StoredModel(write_model(tmp_path, 2))
    tokens = np.random.default_rng(0).integers(0, 97, (2, 17))
    for rule in (ThreeFactor(rate=1e3, bound=1.2), None):
        model = from_weights(stored.config, stored.floats, Options("causal", "exact", bits=4))
        before = np.array(model.model.layers[0].mlp.up_proj.weight)
        table = np.array(model.model.embed_tokens.weight)
        trainer = StdpTrainer(model, rule, centred=rule is not None)
        losses = [trainer.step(tokens) for _ in range(2)]
        assert np.isfinite(losses).all()
        after = np.array(model.model.layers[0].mlp.up_proj.weight)
        assert np.abs(after - before).max() > 1e-6
        np.testing.assert_array_equal(np.array(model.model.embed_tokens.weight), table)
        if rule is not None:
            assert np.abs(after).max() <= 1.2 * np.abs(before).max() + 1e-6
        else:  # the published step only shrinks what varies between a layer's weights
            assert after.std() < before.std()
    mx.eval(model.parameters())


def test_refusals(tmp_path: Path) -> None:
    stored = StoredModel(write_model(tmp_path, 2))
    with pytest.raises(ValueError, match="no spikes"):
        StdpTrainer(from_weights(stored.config, stored.floats, Options("ann", "exact")), None)
    with pytest.raises(ValueError, match="memory"):
        ThreeFactor(memory=1.0)
    with pytest.raises(ValueError, match="positive bound"):
        ThreeFactor(bound=0.0)
    counts = np.zeros((2, 3), np.int8)
    with pytest.raises(ValueError, match="one row a token"):
        ThreeFactor().change(np.ones((3, 3)), counts, counts, np.ones(3), 7)
