"""The STDP-inspired rules of BrainTransformers (arXiv 2410.14687, section 3), in forms that run.

`layer_step` is the published code's: one number per layer pulls every weight towards a constant.
`ThreeFactor` is per synapse, as the paper's text describes it: timing of the two neurons' spikes,
a trace of eligibility, a global third factor. docs/braingpt-training.md says what they achieve.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_unflatten

from neurosim.kernels._jit import compiled
from neurosim.kernels.dense import cross_entropy
from neurosim.models.braingpt.mlx_model import MlxBrainGPT
from neurosim.models.braingpt.sites import PROJECTIONS, SiteRecord

Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int8]


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


@dataclass(frozen=True)
class Timing:
    """delta(dt) = A+ exp(-dt / tau+) for dt = t_post - t_pre > 0, else -A- exp(dt / tau-)."""

    plus: float = 0.1
    minus: float = 0.12
    tau_plus: float = 20.0
    tau_minus: float = 20.0

    def __post_init__(self) -> None:
        if self.tau_plus <= 0 or self.tau_minus <= 0:
            raise ValueError(f"expected positive time constants, got {self}")

    def __call__(self, dt: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """delta of time differences of any shape."""
        later = np.asarray(dt, np.float64)
        rise = self.plus * np.exp(-np.maximum(later, 0) / self.tau_plus)
        fall = -self.minus * np.exp(np.minimum(later, 0) / self.tau_minus)
        return np.where(later > 0, rise, fall)


class GlobalModulation:
    """G = sigmoid(beta (baseline - L)), the baseline being the mean of the last `window` losses.

    The loss itself is among them, as published. Between 0 and 1: above 1/2 after a good batch.
    """

    def __init__(self, beta: float = 0.1, window: int = 100) -> None:
        self.beta = beta
        self._losses: deque[float] = deque(maxlen=window)

    def __call__(self, loss: float) -> float:
        """G of this loss, which is remembered."""
        self._losses.append(float(loss))
        return float(sigmoid(self.beta * (np.mean(self._losses) - loss)))

    def __repr__(self) -> str:
        return f"GlobalModulation(beta={self.beta}, {len(self._losses)} losses)"


def last_positive_step(counts: npt.NDArray[np.integer], steps: int) -> int:
    """The last step of the unary code at which the layer's spikes sum to more than 0; -1: none."""
    values = np.asarray(counts, np.int64).reshape(-1)
    spiking = np.zeros(steps + 1, np.int64)
    np.add.at(spiking, np.abs(values), np.sign(values))  # all of them stop after |n| steps
    sums = np.cumsum(spiking[::-1])[::-1][1:]
    return int(np.max(np.nonzero(sums > 0)[0], initial=-1))


def layer_step(
    weight: Floats,
    pre: Floats,
    post: Floats,
    pre_time: float,
    post_time: float,
    loss: float,
    timing: Timing | None = None,
    rate: float = 1e-3,
) -> tuple[Floats, float]:
    """The published per-layer step: W + rate tag (delta - W), and the tag.

    tag = sigmoid(mean |pre| + mean |post| - loss); delta is one number, of the last times at which
    the two layers' spike sums were positive.
    """
    tag = float(sigmoid(np.abs(pre).mean() + np.abs(post).mean() - loss))
    delta = float((timing or Timing())(post_time - pre_time))
    kind = weight.dtype.type
    return weight + kind(rate * tag) * (kind(delta) - weight), tag


@compiled
def _pairs(
    pre: Counts,
    post: Counts,
    factors: npt.NDArray[np.float64],
    table: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
) -> None:
    """out (M, N) += sum over tokens of factor table[T + m_i, T + n_j]."""
    middle = len(table) // 2
    scaled = np.empty(len(table))
    for token in range(len(pre)):
        sources, factor = pre[token], factors[token]
        for i in range(post.shape[1]):
            if post[token, i] != 0:
                effects, row = table[middle + post[token, i]], out[i]
                for k in range(len(effects)):
                    scaled[k] = factor * effects[k]
                for j in range(len(sources)):
                    row[j] += scaled[middle + sources[j]]


@dataclass(frozen=True)
class ThreeFactor:
    """dw_ij = rate mean over tokens of M (e_ij - decay w_ij / w0), bounded; in units of w0.

    The unary code makes neuron n spike at steps 0 .. |n| - 1, so first spikes coincide and the
    timing is that of the last ones: dt = |m_i| - |n_j|. A pair's delta(dt) counts with the sign of
    n_j m_i, is remembered in e_ij for later tokens (`memory` per token), and takes effect by the
    third factor M of each token. w0 is the root mean square of the matrix.

    Attributes:
        rate: of the change, per batch.
        memory: 0 (only the token itself) to below 1.
        decay: 1 as in the paper's (delta - w); 0 leaves out the pull to nothing.
        bound: |w| <= bound times the largest |w| at the start.
    """

    timing: Timing = Timing()
    rate: float = 1e-3
    memory: float = 0.5
    decay: float = 0.0
    bound: float = 1.5

    def __post_init__(self) -> None:
        if not 0 <= self.memory < 1:
            raise ValueError(f"expected memory from 0 to below 1, got {self.memory}")
        if self.bound <= 0:
            raise ValueError(f"expected a positive bound, got {self.bound}")

    def change(
        self, weight: Floats, pre: Counts, post: Counts, modulation: Floats, levels: int
    ) -> Floats:
        """dw (M, N) of tokens in order: counts (R, N) and (R, M), M (R,), and T."""
        if not len(pre) == len(post) == len(modulation):
            raise ValueError(
                f"expected one row a token, got {len(pre)}, {len(post)}, {len(modulation)}"
            )
        factors = np.array(modulation, np.float64)
        for token in range(len(factors) - 2, -1, -1):  # what is remembered meets later factors
            factors[token] += self.memory * factors[token + 1]
        eligible = np.zeros(weight.shape)
        n = np.arange(-levels, levels + 1)
        table = np.sign(n[:, None] * n) * self.timing(np.abs(n[:, None]) - np.abs(n))
        _pairs(np.ascontiguousarray(pre), np.ascontiguousarray(post), factors, table, eligible)
        eligible /= len(pre)
        unit = float(np.sqrt(np.mean(np.square(weight, dtype=np.float64))))
        pull = self.decay * float(np.mean(modulation)) * np.asarray(weight, np.float64)
        return np.asarray(self.rate * (unit * eligible - pull), weight.dtype)


class StdpTrainer:
    """One of the rules on all projections of a spiking `MlxBrainGPT`, batch by batch.

    Args:
        rule: `ThreeFactor`, or None for the published per-layer step.
        centred: M = 2 G - 1 of each token's loss, which can weaken too; else M = G of the batch.
        rate: of the per-layer step.
    """

    def __init__(
        self,
        model: MlxBrainGPT,
        rule: ThreeFactor | None,
        centred: bool = True,
        beta: float = 1.0,
        rate: float = 1e-3,
    ) -> None:
        if model.options.mode == "ann":
            raise ValueError("expected a spiking model; mode 'ann' has no spikes to learn from")
        self.model, self.rule, self.centred, self.rate = model, rule, centred, rate
        self.modulation = GlobalModulation(beta)
        self.beta = beta
        self._limits: dict[str, float] = {}

    def step(self, tokens: npt.NDArray[np.integer]) -> float:
        """Learn from a batch (B, L + 1); returns its cross-entropy, nats per token."""
        model, record = self.model, SiteRecord()
        logits = model(tokens[:, :-1], listener=record)
        targets = mx.array(tokens[:, 1:].reshape(-1).astype(np.int32))
        losses = np.asarray(cross_entropy(logits.reshape(-1, logits.shape[-1]), targets))
        loss = float(losses.mean(dtype=np.float64))
        overall = self.modulation(loss)
        factors = np.full(losses.shape, overall)
        if self.centred:
            factors = 2 * sigmoid(self.beta * (loss - losses)) - 1
        changed = []
        for layer, block in enumerate(model.model.layers):
            for name in PROJECTIONS:
                group = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
                key = f"model.layers.{layer}.{group}.{name}.weight"
                weight = np.array(getattr(getattr(block, group), name).weight)
                site = f"L{layer}.{name}"
                changed.append((key, mx.array(self._next(weight, site, record, factors, loss))))
        model.update(tree_unflatten(changed))
        mx.eval(model.parameters())
        return loss

    def _next(
        self, weight: Floats, site: str, record: SiteRecord, factors: Floats, loss: float
    ) -> Floats:
        levels = 2 ** (self.model.options.bits - 1) - 1
        counts = [record.counts[f"{site}.{side}"] for side in ("pre", "post")]
        if self.rule is None:
            times = [last_positive_step(part, levels) for part in counts]
            pre = counts[0] * record.scales[f"{site}.pre"]
            post = counts[1] * record.scales[f"{site}.post"]
            return layer_step(weight, pre, post, times[0], times[1], loss, rate=self.rate)[0]
        rows = [part.reshape(-1, part.shape[-1]) for part in counts]
        limit = self._limits.setdefault(site, self.rule.bound * float(np.abs(weight).max()))
        moved = weight + self.rule.change(weight, rows[0], rows[1], factors, levels)
        return np.clip(moved, -limit, limit)
