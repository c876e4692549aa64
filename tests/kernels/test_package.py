"""The kernels package: what it exports and what it says is available."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from neurosim import kernels
from neurosim.kernels import _dispatch, fast_blas


def test_exports() -> None:
    assert sorted(kernels.__all__) == kernels.__all__
    assert all(callable(getattr(kernels, name)) for name in kernels.__all__)


def test_backends_run_and_are_listed() -> None:
    listed = kernels.backends()
    assert listed["mlx_blas"] == (fast_blas.active(),)
    spikes, weight = np.ones((1, 3), np.int8), np.ones((3, 2), np.int8)
    for name in listed["spike_linear"]:
        assert (kernels.spike_linear(spikes, weight, backend=name) == 3).all()
    token = np.ones((2, 3, 4), np.int8)
    for name in listed["spike_attention"]:
        out, _ = kernels.spike_attention(token, token, token, [0] * 3, 0, backend=name)
        np.testing.assert_array_equal(out[:, 0, 0], [4, 8])


def test_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    _dispatch._announce.cache_clear()
    spikes, weight = np.ones((1, 3), np.int8), np.ones((3, 2), np.int8)
    with caplog.at_level(logging.INFO, logger="neurosim.kernels"):
        for _ in range(3):
            kernels.spike_linear(spikes, weight)
    assert [record.getMessage() for record in caplog.records] == ["spike_linear runs on cpu"]
