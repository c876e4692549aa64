"""Rotary positions in the "rotate half" form of Qwen2 and Llama (Su et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.models.braingpt.config import BrainGPTConfig


def frequencies(config: BrainGPTConfig, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """theta^(-2 j / D), j = 0 .. D/2 - 1, with the configuration's scaling; (D / 2,)."""
    kind = np.dtype(dtype).type
    exponent = np.arange(0, config.head_dim, 2).astype(kind) / kind(config.head_dim)
    found = np.asarray(1.0 / (config.rope_theta**exponent), kind)
    scaling = config.rope_scaling or {}
    name = scaling.get("rope_type", scaling.get("type", "default"))
    if name == "linear":
        return np.asarray(found / kind(scaling["factor"]))
    if name == "llama3":
        return _llama3(found, scaling)
    return found


def _llama3(frequency: npt.NDArray[Any], scaling: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Llama 3.1's rule: long waves are slowed by `factor`, short ones kept, a ramp between."""
    length = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    waves = length / (2 * math.pi / frequency)  # periods within the original context
    ramp = np.clip((waves - low) / (high - low), 0, 1)
    return np.asarray(frequency * (ramp + (1 - ramp) / scaling["factor"]), frequency.dtype)


def tables(
    frequency: npt.NDArray[Any], positions: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """cos and sin of position times frequency; (..., D / 2) each."""
    angles = positions[..., None].astype(frequency.dtype) * frequency
    return np.cos(angles), np.sin(angles)


def rotate(x: npt.NDArray[Any], cos: npt.NDArray[Any], sin: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """x (..., D) turned by tables that broadcast to (..., D / 2)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
