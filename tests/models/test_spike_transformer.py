"""The spiking model: attention forms, causality, gradients, and its folding into integers."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from spiking_variants import EACH_VARIANT, parallel_logits, trained
from tiny_models import spiking_model, stream, tokens

from neurosim.chip import load_chip
from neurosim.events.engine import simulate
from neurosim.kernels import trainable_attention
from neurosim.kernels.dense import cross_entropy
from neurosim.models.ngram_embedding import new_tables, ngram_sum
from neurosim.models.spike_transformer import (
    SpikeTransformer,
    SpikeTransformerConfig,
    convolve,
)
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.transformer import Transformer, TransformerConfig
from neurosim.network import ngram_rows


def test_parallel_attention_equals_the_recurrence() -> None:
    """S_t = S_{t-1} (1 - 2^-n) + k_t v_t^T, o_t = q_t S_t, token by token in float64."""
    shifts, length = (0, 1, 3, 7), 40
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(-4, 5, (2, 4, length, 6)).astype(np.float32) for _ in range(3))
    parallel = trainable_attention(mx.array(q), mx.array(k), mx.array(v), shifts)
    state = np.zeros((2, 4, 6, 6))
    keep = np.array([1 - 2.0**-n if n else 1.0 for n in shifts])[:, None, None]
    for t in range(length):
        state = state * keep + k[:, :, t, :, None] * v[:, :, t, None, :].astype(np.float64)
        expected = np.einsum("bhd,bhde->bhe", q[:, :, t], state)
        np.testing.assert_allclose(np.asarray(parallel)[:, :, t], expected, rtol=1e-5, atol=1e-3)


def test_integer_attention_follows_the_float_attention() -> None:
    """With enough fraction bits the shifts' rounding is a small part of one coincidence."""
    model = spiking_model(1)
    folded = FoldedSpikeTransformer.fold(model)
    _, spikes = folded.forward(tokens(32))
    q, k, v = (
        spikes[f"blocks.0.{name}_neurons"].reshape(32, 2, 16).swapaxes(0, 1)[None]
        for name in ("query", "key", "value")
    )
    arrays = (mx.array(part.astype(np.float32)) for part in (q, k, v))
    exact = np.asarray(trainable_attention(*arrays, (1, 3)))
    state = np.zeros((2, 16, 16), np.int64)
    for t in range(32):
        for head, shift in enumerate((1, 3)):
            state[head] -= state[head] >> shift
            state[head] += np.outer(k[0, head, t], v[0, head, t].astype(np.int64) * 256)
            out = q[0, head, t].astype(np.int64) @ state[head] / 256
            assert np.abs(out - exact[0, head, t]).max() < 1.0
    bank = folded.banks["blocks.0.output_neurons"]
    assert bank.half_threshold.min() > 20  # in units of 1 / 256 of a coincidence


def test_convolve() -> None:
    rng = np.random.default_rng(0)
    spikes, weight = rng.integers(-4, 5, (2, 7, 5)), rng.standard_normal((4, 5))
    expected = np.zeros((2, 7, 5))
    for t in range(7):
        for j in range(min(t, 3) + 1):
            expected[:, t] += spikes[:, t - j] * weight[j]
    out = convolve(mx.array(spikes.astype(np.float32)), mx.array(weight.astype(np.float32)))
    np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-5, atol=1e-5)
    short = convolve(mx.array(spikes[:, :2].astype(np.float32)), mx.array(weight.astype("f4")))
    np.testing.assert_allclose(np.asarray(short), expected[:, :2], rtol=1e-5, atol=1e-5)


def test_ngram_sum_reads_the_hashed_rows() -> None:
    """Order 2 in the first half of the channels, order 3 in the second."""
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((64, 4)).astype("f4"), rng.standard_normal((8, 4)).astype("f4")]
    ids = rng.integers(0, 50, (2, 9))
    out = np.asarray(ngram_sum([mx.array(table) for table in tables], mx.array(ids)))
    for row in range(2):
        for t in range(9):
            for order, table, channels in ((2, tables[0], slice(4)), (3, tables[1], slice(4, 8))):
                past = np.concatenate([[0, 0], ids[row, : t + 1]])[-order:]
                index = int(ngram_rows(past, order, len(table))[-1])
                np.testing.assert_array_equal(out[row, t, channels], table[index])
    assert np.asarray(ngram_sum([], mx.array(ids))) == 0


@pytest.mark.parametrize(
    ("rows", "width", "message"),
    [((48,), 32, "powers of two"), ((0,), 32, "powers of two"), ((8, 8, 8), 32, "3 tables divide")],
)
def test_ngram_tables_refuse_bad_sizes(rows: tuple[int, ...], width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_tables(rows, width)


@EACH_VARIANT
def test_a_later_token_changes_no_earlier_logit(changes: dict[str, Any]) -> None:
    """Float model in eval mode and folded model; and it does change its own logits."""
    model = spiking_model(2, **changes)
    folded = FoldedSpikeTransformer.fold(model)
    ids = tokens(20)
    for at in (1, 7, 19):
        other = ids.copy()
        other[at] = (ids[at] + 17) % 50
        for name, logits in (
            ("float", lambda ids: parallel_logits(model, ids)),
            ("folded", lambda ids: folded.forward(ids)[0]),
        ):
            before, after = logits(ids), logits(other)
            np.testing.assert_array_equal(before[:at], after[:at], err_msg=f"{name}, token {at}")
            assert (before[at] != after[at]).any(), name


def test_the_past_matters_beyond_the_convolution() -> None:
    """Without it the attention would be dead and the causality test empty."""
    model = spiking_model(2, ngram_rows=(), taps=2, decay_shift=(0, 3))
    ids, other = tokens(20), tokens(20)
    other[5] = (ids[5] + 17) % 50
    for logits in (
        lambda ids: parallel_logits(model, ids),
        lambda ids: FoldedSpikeTransformer.fold(model).forward(ids)[0],
    ):
        assert (logits(ids)[12:] != logits(other)[12:]).any()


@EACH_VARIANT
def test_folded_at_once_equals_token_by_token(changes: dict[str, Any]) -> None:
    """Parallel software and recurrent chip give the same integers: every spike, every logit."""
    folded = FoldedSpikeTransformer.fold(spiking_model(5, **changes))
    ids = tokens(30, seed=1)
    logits, spikes = folded.forward(ids)
    run = simulate(folded.lower(), load_chip("ideal"), ids.tolist())
    assert set(run.spikes) == set(spikes)
    for site, expected in spikes.items():
        np.testing.assert_array_equal(run.spikes[site], expected, err_msg=site)
        assert np.abs(expected).max() > 0, f"{site} is silent: the comparison is empty"
    np.testing.assert_array_equal(run.logits, logits)


def test_one_token_and_prefixes() -> None:
    """A prefix of a text has the prefix of its logits."""
    folded = FoldedSpikeTransformer.fold(spiking_model(6))
    logits, _ = folded.forward(tokens(12))
    for length in (1, 2, 11):
        np.testing.assert_array_equal(folded.forward(tokens(12)[:length])[0], logits[:length])


@pytest.mark.parametrize("signed_qk", [False, True])
def test_every_parameter_gets_a_gradient(signed_qk: bool) -> None:
    """From the real initialisation, after three steps; of tables the rows that were read."""
    mx.random.seed(0)
    config = SpikeTransformerConfig(
        vocab_size=50, width=32, layers=2, heads=2, decay_shift=(1, 0), ngram_rows=(64, 32),
        signed_qk=signed_qk,
    )  # fmt: skip
    model = SpikeTransformer(config)
    ids = stream(3 * 8 * 25, 50).reshape(3, 8, 25).astype(np.int32)
    ids[ids == 49] = 3  # token 49 is never read
    batches = [mx.array(part) for part in ids]
    gradients = dict(trained(model, batches, 3))
    assert set(gradients) == {name for name, _ in tree_flatten(model.trainable_parameters())}
    last = ids[0][:, :-1]  # step 3 sees the first batch again
    read = {"embedding": np.unique(last)} | {
        f"ngrams.{i}": np.unique(ngram_rows(last, i + 2, rows)) for i, rows in enumerate((64, 32))
    }
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all(), name
        if name in read:
            rows = np.flatnonzero(np.abs(gradient).max(axis=1))
            np.testing.assert_array_equal(rows, read[name], err_msg=name)
            gradient = gradient[read[name]]
        share = np.mean(gradient != 0)
        assert share > 0.9, f"{name}: {share:.0%} of the gradient is not zero"
    assert 49 not in read["embedding"]


def test_training_lowers_the_loss() -> None:
    model = spiking_model(0, ngram_rows=())
    batch = mx.array(stream(8 * 33, 50).reshape(8, 33).astype(np.int32))
    losses = []
    optimizer = optim.Adam(learning_rate=1e-2)
    model.train()

    def loss(ids: mx.array) -> mx.array:
        logits = model(ids[:, :-1])
        return cross_entropy(logits.reshape(-1, 50), ids[:, 1:].reshape(-1)).mean()

    for _ in range(12):
        value, gradients = nn.value_and_grad(model, loss)(batch)
        optimizer.update(model, gradients)
        losses.append(float(value.item()))
    assert losses[-1] < losses[0] - 0.5


def test_running_statistics_are_measured_not_trained() -> None:
    """They follow the batches of the training mode alone."""
    model = spiking_model(0)
    names = {name for name, _ in tree_flatten(model.trainable_parameters())}
    assert not any("running" in name for name in names)
    assert any("running" in name for name, _ in tree_flatten(model.parameters()))
    bank = model.head_read
    before = np.asarray(bank.running_mean), np.asarray(bank.running_variance)
    ids = mx.array(tokens(64, seed=9).reshape(2, 32))
    model(ids)  # eval mode: nothing moves
    np.testing.assert_array_equal(before[0], np.asarray(bank.running_mean))
    x = mx.array(np.random.default_rng(0).standard_normal((5, 7, 32)).astype("f4"))
    bank.train()
    bank(x)
    rows = np.asarray(x).reshape(-1, 32)
    np.testing.assert_allclose(
        np.asarray(bank.running_mean), 0.95 * before[0] + 0.05 * rows.mean(0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        np.asarray(bank.running_variance), 0.95 * before[1] + 0.05 * rows.var(0), rtol=1e-4
    )


def test_unfreezing_leaves_the_running_statistics_frozen() -> None:
    """Else weight decay would shrink them; of a bank, and of the model that holds it."""
    model = spiking_model(0)
    for module in (model.head_read, model):
        module.freeze()
        assert not tree_flatten(module.trainable_parameters())
        module.unfreeze()
        names = [name for name, _ in tree_flatten(module.trainable_parameters())]
        assert any(name.endswith("log_gain") for name in names)
        assert not any("running" in name for name in names), type(module).__name__


def test_eval_equals_training_with_the_batch_s_own_statistics() -> None:
    """momentum 1 makes the running statistics those of the batch: then both forms agree."""
    model = spiking_model(0)
    for bank in model.banks():
        bank.momentum = 1.0
    ids = mx.array(tokens(256, seed=4).reshape(8, 32))
    model.train()
    training = np.asarray(model(ids))
    model.eval()
    inference = np.asarray(model(ids))
    assert np.mean(training == inference) > 0.5  # a spike at a tie may differ and spread
    assert np.sqrt(np.mean((training - inference) ** 2)) < 0.05 * training.std()


def test_activity_penalty_counts_synaptic_operations() -> None:
    """Equal to spikes times fan-out of the same forward pass, counted from outside the model."""
    model = spiking_model(0, layers=2)
    model.train()
    model(mx.array(tokens(64).reshape(2, 32)))
    fan_out = {
        "conv_read": 3, "attention_read": 96, "query_neurons": 16, "key_neurons": 16,
        "value_neurons": 16, "output_neurons": 32, "hidden_read": 64, "hidden_neurons": 32,
    }  # fmt: skip
    total = 0.0
    for block in model.blocks:
        for site, targets in fan_out.items():
            total += np.abs(np.asarray(block[site]["_activity"])).sum() / 64 * targets
    total += np.abs(np.asarray(model.head_read["_activity"])).sum() / 64 * 50
    assert float(model.activity_penalty().item()) == pytest.approx(total, rel=1e-5)

    def penalty(ids: mx.array) -> mx.array:
        model(ids)
        return model.activity_penalty()

    _, gradients = nn.value_and_grad(model, penalty)(mx.array(tokens(64).reshape(2, 32)))
    assert np.asarray(gradients["head_read"]["log_gain"]).min() > 0  # more gain, more spikes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30, "heads": 4, "decay_shift": (1, 2, 3, 4)}, "4 heads divide, got 30"),
        ({"decay_shift": (1, 2, 3)}, "expected 2 decay shifts, one per head, got 3"),
        *(
            pytest.param({name: 0}, f"expected {name} >= 1, got 0", id=f"{name} 0")
            for name in ("vocab_size", "width", "layers", "ratio", "context", "taps", "levels")
        ),
        pytest.param({"heads": 0, "decay_shift": ()}, "heads", id="heads 0"),
        pytest.param({"levels": 128}, "levels", id="more levels than int8"),
        pytest.param({"decay_shift": (1, -1)}, "decay", id="growing state"),
        pytest.param({"fraction_bits": -1}, "fraction_bits", id="negative fraction"),
        pytest.param({"weight_bits": 1}, "weight_bits", id="no room for a weight"),
    ],
)
def test_config_refuses(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"width": 32, "heads": 2, "decay_shift": (1, 2)}
    with pytest.raises(ValueError, match=message):
        SpikeTransformerConfig(**(settings | changes))


def test_config_round_trip_and_unknown_keys() -> None:
    config = SpikeTransformerConfig(width=32, heads=2, decay_shift=(1, 2), ngram_rows=(8,))
    data = config.to_dict()
    assert data["decay_shift"] == [1, 2]
    assert data["ngram_rows"] == [8]
    assert SpikeTransformerConfig.from_dict(data) == config
    with pytest.raises(ValueError, match=r"unknown model keys \['depth'\]; known: .*'width'"):
        SpikeTransformerConfig.from_dict({"depth": 3})


@pytest.mark.parametrize("wrong", [-1, 2048])
@pytest.mark.parametrize("kind", [SpikeTransformer, Transformer])
def test_tokens_without_a_row_are_refused(kind: Any, wrong: int) -> None:
    """MLX does not look, and would read elsewhere."""
    config = {SpikeTransformer: SpikeTransformerConfig, Transformer: TransformerConfig}[kind]()
    with pytest.raises(ValueError, match="expected token ids from 0 to 2047, got"):
        kind(config)(mx.array([[3, wrong]]))
