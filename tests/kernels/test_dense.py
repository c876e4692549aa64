"""Softmax and cross-entropies against numpy in float64 and MLX's own gradients."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels.dense import causal_softmax, cross_entropy, distillation


def _softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _causal(scores: np.ndarray) -> np.ndarray:
    length = scores.shape[-1]
    return _softmax(np.where(np.tri(length, dtype=bool), scores, -np.inf))


def _normal(shape: tuple[int, ...], size: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.float32)


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 63, 63), (2, 123, 123)], ids=str)
def test_causal_softmax(shape: tuple[int, ...], size: float) -> None:
    scores = _normal(shape, size)
    out = np.asarray(causal_softmax(mx.array(scores)))
    assert out.shape == shape
    np.testing.assert_allclose(out, _causal(scores), rtol=3e-6, atol=1e-12)
    later = ~np.tri(shape[-1], dtype=bool)
    assert not out[..., later].any()
    np.testing.assert_allclose(out.sum(axis=-1), 1, rtol=1e-5)


def test_causal_softmax_of_extremes() -> None:
    """No overflow and no NaN, however far apart the scores; later keys are not even looked at."""
    scores = np.array([[5e4, 1e38, np.nan], [-1e38, 1e38, np.inf], [-3e4, -3e4, -3e4]], np.float32)
    out = np.asarray(causal_softmax(mx.array(scores)))
    np.testing.assert_allclose(out, [[1, 0, 0], [0, 1, 0], [1 / 3] * 3], rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 63, 63)], ids=str)
def test_causal_softmax_gradient(shape: tuple[int, ...]) -> None:
    scores, weight = _normal(shape, 2.0), _normal(shape, seed=1)
    found = mx.grad(lambda s: (causal_softmax(s) * mx.array(weight)).sum())(mx.array(scores))
    p, g = _causal(scores), weight.astype(np.float64)
    expected = p * (g - (p * g).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-6)
    mask = mx.array(np.tri(shape[-1], dtype=bool))
    own = mx.grad(
        lambda s: (mx.softmax(mx.where(mask, s, -1e30), axis=-1) * mx.array(weight)).sum()
    )(mx.array(scores))
    np.testing.assert_allclose(np.asarray(found), np.asarray(own), rtol=1e-3, atol=1e-5)


def test_causal_softmax_reads_strided_scores() -> None:
    """Scores that arrive as a transposed view, and their transposed gradient."""
    scores, weight = _normal((4, 9, 9)), _normal((4, 9, 9), seed=1)
    flipped = mx.array(np.ascontiguousarray(scores.swapaxes(-1, -2))).swapaxes(-1, -2)
    np.testing.assert_allclose(np.asarray(causal_softmax(flipped)), _causal(scores), rtol=3e-6)
    found = mx.grad(lambda s: (causal_softmax(s).swapaxes(-1, -2) * mx.array(weight)).sum())(
        mx.array(scores)
    )
    p, g = _causal(scores), weight.swapaxes(-1, -2).astype(np.float64)
    expected = p * (g - (p * g).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=str)
def test_causal_softmax_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected square scores"):
        causal_softmax(mx.zeros(shape))


@pytest.mark.parametrize("size", [0.01, 3.0, 100.0])
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 1), (63, 2), (5, 123), (7, 2048)])
def test_cross_entropy(rows: int, vocabulary: int, size: float) -> None:
    logits = _normal((rows, vocabulary), size) + np.float32(20)
    targets = np.random.default_rng(2).integers(0, vocabulary, rows).astype(np.int32)
    weight = _normal((rows,), seed=3)
    expected = -np.log(np.maximum(_softmax(logits), 1e-300))[np.arange(rows), targets]
    found = cross_entropy(mx.array(logits), mx.array(targets))
    assert found.shape == (rows,)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=3e-6, atol=1e-5)
    gradient = mx.grad(lambda x: (cross_entropy(x, mx.array(targets)) * mx.array(weight)).sum())(
        mx.array(logits)
    )
    residual = _softmax(logits)
    residual[np.arange(rows), targets] -= 1
    np.testing.assert_allclose(
        np.asarray(gradient), residual * weight[:, None], rtol=1e-4, atol=1e-6
    )


def test_cross_entropy_of_extremes() -> None:
    """A hopeless target costs the gap between the logits, not infinity."""
    logits = np.array([[0, 200, -1e30], [3e4, 0, 0]], np.float32)
    found = np.asarray(cross_entropy(mx.array(logits), mx.array([0, 1])))
    np.testing.assert_allclose(found, [200, 3e4], rtol=1e-6)


@pytest.mark.parametrize("rows", [(4,), (5, 1)], ids=str)
def test_cross_entropy_refuses_other_shapes(rows: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected logits \(R, V\) and targets \(R,\)"):
        cross_entropy(mx.zeros((5, 3)), mx.zeros(rows, mx.int32))
    with pytest.raises(ValueError, match="expected logits"):
        cross_entropy(mx.zeros((1, 5, 3)), mx.zeros((1,), mx.int32))


@pytest.mark.parametrize("target", [-1, 3])
def test_targets_outside_the_vocabulary_are_refused(target: int) -> None:
    """The kernel does not check bounds: it would read and write beside the row."""
    logits, targets = mx.zeros((2, 3)), mx.array([target, 0])  # 3 is still inside the buffer
    with pytest.raises(ValueError, match="target"):
        mx.eval(cross_entropy(logits, targets))
    with pytest.raises(ValueError, match="target"):
        mx.eval(distillation(logits, logits, targets, 0.5))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 1), (63, 123), (4, 2048)])
def test_distillation(rows: int, vocabulary: int, weight: float) -> None:
    logits, teacher = _normal((rows, vocabulary), 3.0), _normal((rows, vocabulary), 4.0, seed=1)
    targets = np.random.default_rng(2).integers(0, vocabulary, rows).astype(np.int32)
    cotangent = _normal((rows,), seed=3)
    log_p = np.log(_softmax(logits))
    wanted = weight * _softmax(teacher)
    wanted[np.arange(rows), targets] += 1 - weight
    losses, plain = distillation(mx.array(logits), mx.array(teacher), mx.array(targets), weight)
    np.testing.assert_allclose(np.asarray(losses), -(wanted * log_p).sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(plain), -log_p[np.arange(rows), targets], rtol=1e-5, atol=1e-5
    )

    def loss(student: mx.array, teacher: mx.array) -> mx.array:
        losses, plain = distillation(student, teacher, mx.array(targets), weight)
        return (losses * mx.array(cotangent)).sum() + 7 * plain.sum()  # plain: no gradient

    found, to_teacher = mx.grad(loss, argnums=(0, 1))(mx.array(logits), mx.array(teacher))
    expected = (_softmax(logits) - wanted) * cotangent[:, None]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-6)
    assert not np.asarray(to_teacher).any()


def test_distillation_without_weight_is_cross_entropy() -> None:
    logits, teacher = mx.array(_normal((6, 50), 3.0)), mx.array(_normal((6, 50), 3.0, seed=1))
    targets = mx.arange(6)
    losses, plain = distillation(logits, teacher, targets, 0.0)
    expected = np.asarray(cross_entropy(logits, targets))
    np.testing.assert_allclose(np.asarray(losses), expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(plain), expected, rtol=1e-6)


def test_distillation_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="expected logits of one shape"):
        distillation(mx.zeros((2, 3)), mx.zeros((2, 4)), mx.zeros((2,), mx.int32), 0.5)
