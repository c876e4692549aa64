"""The ANN twin: its forward pass against plain numpy, causality, gradients, settings."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from tiny_models import stream, tokens, twin_model

from neurosim.kernels.dense import cross_entropy
from neurosim.models.training.loop import rounded_to_grid
from neurosim.models.transformer import Transformer, TransformerConfig
from neurosim.network import ngram_rows

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one layer, no n-grams": {"layers": 1, "ngram_rows": ()},
    "4 heads": {"heads": 4, "ngram_rows": (16,)},
}
EACH_VARIANT = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)


def _logits(model: Transformer, ids: np.ndarray) -> np.ndarray:
    return np.asarray(model(mx.array(ids[None])))[0]


def _normed(x: np.ndarray, weight: mx.array) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * np.asarray(weight)


def _rotated(x: np.ndarray, base: float) -> np.ndarray:
    """Rotary positions (Su et al. 2021) on the halves of x (H, L, D)."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] * base ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], axis=-1
    )


def _reference(model: Transformer, ids: np.ndarray) -> np.ndarray:
    """The module docstring's model in float64 numpy."""
    config, length = model.config, len(ids)
    x = np.asarray(model.embedding).astype(np.float64)[ids]
    if config.ngram_rows:
        x += np.concatenate(
            [
                np.asarray(table)[ngram_rows(ids, i + 2, table.shape[0])]
                for i, table in enumerate(model.ngrams)
            ],
            axis=-1,
        )
    for block in model.blocks:
        qkv = _normed(x, block.attention_norm.weight) @ np.asarray(block.qkv)
        q, k, v = (
            part.reshape(length, config.heads, -1).swapaxes(0, 1)
            for part in np.split(qkv, 3, axis=-1)
        )
        q, k = _rotated(q, config.rope_base), _rotated(k, config.rope_base)
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        x = x + (weights @ v).swapaxes(0, 1).reshape(length, -1) @ np.asarray(block.output)
        hidden = np.maximum(_normed(x, block.hidden_norm.weight) @ np.asarray(block.up), 0)
        x = x + (hidden * hidden) @ np.asarray(block.down)
    return _normed(x, model.head_norm.weight) @ np.asarray(model.head)


@EACH_VARIANT
def test_forward_equals_plain_numpy(changes: dict[str, Any]) -> None:
    model = twin_model(1, **changes)
    ids = tokens(31)
    expected = _reference(model, ids)
    error = np.sqrt(np.mean((_logits(model, ids) - expected) ** 2)) / expected.std()
    assert error < 1e-5


@EACH_VARIANT
def test_a_later_token_changes_no_earlier_logit(changes: dict[str, Any]) -> None:
    model = twin_model(2, **changes)
    ids = tokens(20)
    for at in (1, 7, 19):
        other = ids.copy()
        other[at] = (ids[at] + 17) % 50
        before, after = _logits(model, ids), _logits(model, other)
        np.testing.assert_array_equal(before[:at], after[:at])
        assert (before[at:] != after[at:]).any(axis=-1).all()  # everything after it sees it


def test_every_parameter_gets_a_gradient() -> None:
    """Of the tables exactly the rows that were read."""
    model = twin_model(0)
    ids = stream(8 * 25, 50).reshape(8, 25).astype(np.int32)
    ids[ids == 49] = 3
    last = ids[:, :-1]

    def loss(batch: mx.array) -> mx.array:
        logits = model(batch[:, :-1])
        return cross_entropy(logits.reshape(-1, 50), batch[:, 1:].reshape(-1)).mean()

    _, gradients = nn.value_and_grad(model, loss)(mx.array(ids))
    found = {name: np.asarray(gradient) for name, gradient in tree_flatten(gradients)}
    assert set(found) == {name for name, _ in tree_flatten(model.parameters())}
    read = {"embedding": np.unique(last)} | {
        f"ngrams.{i}": np.unique(ngram_rows(last, i + 2, rows)) for i, rows in enumerate((64, 32))
    }
    assert 49 not in read["embedding"]
    for name, gradient in found.items():
        assert np.isfinite(gradient).all(), name
        if name in read:
            rows = np.flatnonzero(np.abs(gradient).max(axis=1))
            np.testing.assert_array_equal(rows, read[name], err_msg=name)
            gradient = gradient[read[name]]
        assert np.mean(gradient != 0) > 0.9, name


def test_weight_units_are_the_grid_of_every_matrix() -> None:
    """Rounded once, rounding again changes nothing; no weight moves more than half a step."""
    model = twin_model(0)
    units = model.weight_units()
    matrices = {name for name, value in tree_flatten(model.parameters()) if value.ndim == 2}
    assert set(units) == matrices
    before = {name: np.asarray(value) for name, value in tree_flatten(model.parameters())}
    once = rounded_to_grid(model)
    for name, value in once.items():
        assert (np.abs(np.asarray(value) - before[name]) <= units[name] * 0.501).all(), name
        assert (np.asarray(value) != before[name]).any(), name
    model.update(tree_unflatten(list(once.items())))
    for name, value in rounded_to_grid(model).items():
        np.testing.assert_allclose(np.asarray(value), np.asarray(once[name]), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30, "heads": 4}, "even head size, got width 30 over 4 heads"),
        ({"width": 36, "heads": 4}, "even head size"),
        pytest.param({"heads": 0}, "heads", id="heads 0"),
        pytest.param({"layers": -1}, "layers", id="layers -1"),
        pytest.param({"vocab_size": 0}, "vocab_size", id="vocab_size 0"),
    ],
)
def test_config_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**({"width": 32, "heads": 2} | changes))


def test_config_round_trip_and_unknown_keys() -> None:
    config = TransformerConfig(width=32, heads=2, ngram_rows=(8,))
    assert config.to_dict()["ngram_rows"] == [8]
    assert TransformerConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match=r"unknown model keys \['depth'\]; known: .*'width'"):
        TransformerConfig.from_dict({"depth": 3})
