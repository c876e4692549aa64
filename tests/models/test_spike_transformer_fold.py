"""Folding the spiking model to integers: ranges, rounding, the same spikes and the same loss."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_unflatten
from spiking_variants import EACH_VARIANT, parallel_logits, trained
from tiny_models import spiking_model, stream, tokens

from neurosim.kernels.neuron import integer_spikes
from neurosim.models.evaluation import logits_of, token_losses
from neurosim.models.ngram_embedding import ngram_sum
from neurosim.models.quantise import quantise, step_size
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.training.loop import rounded_to_grid


@EACH_VARIANT
def test_fold_gives_integers_in_range(changes: dict[str, Any]) -> None:
    folded = FoldedSpikeTransformer.fold(spiking_model(3, **changes))
    for name, weight in folded.weights.items():
        assert np.issubdtype(weight.dtype, np.integer), name
        if not name.startswith(("embedding", "ngrams")):
            assert np.abs(weight.astype(int)).max() <= 127, name
            assert weight.dtype == np.int8
    for site, bank in folded.banks.items():
        for array in (bank.half_threshold, bank.bias):
            assert np.issubdtype(array.dtype, np.integer), site
        assert bank.half_threshold.min() >= 1
        assert bank.levels == changes.get("levels", 4)


def test_fold_keeps_every_weight_within_half_a_step() -> None:
    """Writers of the residual share its unit per channel; tables are powers of two of it."""
    model = spiking_model(3, layers=2)
    folded = FoldedSpikeTransformer.fold(model)
    units = model.weight_units()
    block_writers = ("conv", "output", "down")
    for i, block in enumerate(model.blocks):
        for name in ("conv", "query", "key", "value", "output", "up", "down"):
            unit = units["residual"] if name in block_writers else units[f"blocks.{i}.{name}"]
            real = folded.weights[f"blocks.{i}.{name}"] * unit
            assert (np.abs(real - np.asarray(block[name])) <= unit * 0.5001).all(), name
    assert folded.logit_unit == pytest.approx(float(units["head"]))
    residual = units["residual"]
    assert residual.shape == (32,)
    parts = (
        ("embedding", model.embedding, residual),
        ("ngrams.0", model.ngrams[0], residual[:16]),
        ("ngrams.1", model.ngrams[1], residual[16:]),
    )
    for name, table, unit in parts:
        step = units[name]
        np.testing.assert_allclose(np.log2(step / unit) % 1, 0, atol=1e-9)
        assert (np.abs(folded.weights[name] * unit - np.asarray(table)) <= step * 0.5001).all()


def test_every_folded_bank_fires_as_its_float_bank() -> None:
    """The same charge, in integer units and in real ones, gives the same spikes but near ties."""
    model = spiking_model(4, layers=2, fraction_bits=6)
    folded = FoldedSpikeTransformer.fold(model)
    units = model.weight_units()
    rng = np.random.default_rng(0)
    sites: dict[str, Any] = {"head_read": (model.head_read, units["residual"])}
    incoming = {"query_neurons": "query", "key_neurons": "key", "value_neurons": "value"}
    incoming["hidden_neurons"] = "up"
    for i, block in enumerate(model.blocks):
        at = f"blocks.{i}."
        for site in ("conv_read", "attention_read", "hidden_read"):
            sites[at + site] = block[site], units["residual"]
        for site, weight in incoming.items():
            sites[at + site] = block[site], units[at + weight]
        sites[at + "output_neurons"] = block["output_neurons"], np.float64(2.0**-6)
    assert set(sites) == set(folded.banks)
    for site, (bank, unit) in sites.items():
        scale, offset = (np.asarray(part, np.float64) for part in bank.fixed())
        y = rng.uniform(-6, 6, (500, len(scale)))  # in spikes
        charge = np.rint((y - offset) / scale / unit).astype(np.int64)
        node = folded.banks[site]
        integers = integer_spikes(charge, node.half_threshold, node.bias, node.levels, node.signed)
        floats = np.asarray(bank(mx.array((charge * unit).astype(np.float32))))
        assert np.abs(integers - floats).max() <= 1, site
        step = 1 / (2 * node.half_threshold)  # spikes of one integer unit
        allowed = 8 * step.mean()  # bias and multiples of the threshold are rounded to one
        assert np.mean(integers != floats) < allowed, site
        assert {-4, 4} <= set(np.unique(integers)) or not node.signed


def test_folded_model_computes_what_the_float_model_computes() -> None:
    """A model whose weights lie on the grid: the first site agrees, the logits follow."""
    model = spiking_model(4)
    model.update(tree_unflatten(list(rounded_to_grid(model).items())))
    ids = tokens(200, seed=2)
    folded = FoldedSpikeTransformer.fold(model)
    logits, spikes = folded.forward(ids)
    x = model.embedding[mx.array(ids)] + ngram_sum(model.ngrams, mx.array(ids[None]))[0]
    first = np.asarray(model.blocks[0].conv_read(x))
    assert np.mean(first != spikes["blocks.0.conv_read"]) < 0.015
    reference = parallel_logits(model, ids)
    error = np.sqrt(np.mean((logits * folded.logit_unit - reference) ** 2)) / reference.std()
    assert error < 0.4, f"relative RMS error of the logits {error:.2f}"


def test_fold_keeps_the_loss() -> None:
    """After some training, the folded model predicts as well as the float model, within 2 %."""
    model = spiking_model(0, vocab_size=20, ngram_rows=(), context=24)
    text = stream(24 * 8 * 30 + 1, 20)
    batches = [mx.array(part) for part in text[:-1].reshape(30, 8, 24).astype(np.int32)]
    trained(model, batches, 45)
    model.eval()
    held_out = stream(24 * 12 + 1, 20, seed=5)
    folded = FoldedSpikeTransformer.fold(model)
    before = token_losses(logits_of(model), held_out, 24).mean()
    after = token_losses(logits_of(folded), held_out, 24).mean()
    assert before < 0.93 * np.log(20)  # it has learnt something
    assert after == pytest.approx(before, rel=0.02)


def test_fold_refuses_a_dead_channel_and_nan() -> None:
    model = spiking_model(0)
    weight = np.array(model.blocks[0].up)
    weight[:, 3] = 0
    model.blocks[0].up = mx.array(weight)
    with pytest.raises(ValueError, match=r"blocks\.0\.hidden_neurons: .*all zero"):
        FoldedSpikeTransformer.fold(model)
    weight[0, 0] = np.nan
    model.blocks[0].up = mx.array(weight)
    with pytest.raises(ValueError, match="NaN"):
        FoldedSpikeTransformer.fold(model)


def test_quantise_rounds_to_the_grid() -> None:
    weight = np.array([[0.3, -1.27], [0.0, 0.635]])
    unit = step_size([weight], 8, 0)
    np.testing.assert_allclose(unit, [0.3 / 127, 0.01])
    codes = quantise(weight, unit, 8)
    np.testing.assert_array_equal(codes, [[127, -127], [0, 64]])  # 63.5 rounds to even
    assert codes.dtype == np.int8
    assert step_size([weight], 8, None) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="within 8 bits"):
        quantise(weight * 1.01, unit, 8)
    assert quantise(weight, step_size([weight], 12, 0), 12).dtype == np.int16
