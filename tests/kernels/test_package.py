"""The kernels package: what it exports and what it says is available."""

from __future__ import annotations

import functools
import logging
import re

import numpy as np
import pytest

from neurosim import kernels
from neurosim.kernels import _dispatch, fast_blas


def test_exports() -> None:
    assert sorted(kernels.__all__) == kernels.__all__
    assert all(callable(getattr(kernels, name)) for name in kernels.__all__)


def test_backends_run_and_are_listed() -> None:
    listed = kernels.backends()
    assert listed["mlx_blas"] == {fast_blas.active(): "active"}
    spikes, weight = np.ones((1, 3), np.int8), np.ones((3, 2), np.int8)
    for name, state in listed["spike_linear"].items():
        if state == "available":
            assert (kernels.spike_linear(spikes, weight, backend=name) == 3).all()
        else:
            with pytest.raises(ValueError, match="cannot run this: .*" + re.escape(state)):
                kernels.spike_linear(spikes, weight, backend=name)
    token = np.ones((2, 3, 4), np.int8)
    for name in ("cpu", "reference"):
        assert listed["spike_attention"][name] == "available"
        out, _ = kernels.spike_attention(token, token, token, [0] * 3, 0, backend=name)
        np.testing.assert_array_equal(out[:, 0, 0], [4, 8])


class Able:
    """A backend that can, or says why not."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason

    def supports(self, *arguments: object) -> str | None:
        return self.reason


def test_choice_of_backend() -> None:
    able, unable = Able(None), Able("too wide")
    table = {"cpu": unable, "reference": able, "metal": able, "metal-emulated": able}
    choose = functools.partial(_dispatch.choose, "an operation")
    assert choose("auto", table) is table["reference"]
    assert choose("auto", table, mlx=True) is table["metal"]
    assert choose("auto", table | {"metal": unable}, mlx=True) is table["reference"]
    assert choose("metal-emulated", table) is table["metal-emulated"]
    with pytest.raises(ValueError, match="backend 'cpu' cannot run this: too wide"):
        choose("cpu", table)
    with pytest.raises(ValueError, match="expected backend auto, cpu, .*; got 'gpu'"):
        choose("gpu", table)
    with pytest.raises(ValueError, match=r"expected backend auto, cpu, .*; got \[\]"):
        choose([], table)
    with pytest.raises(ValueError, match="no backend can run this: cpu: too wide"):
        choose("auto", {"cpu": unable, "metal-emulated": able})


def test_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    _dispatch.announce.cache_clear()
    spikes, weight = np.ones((1, 3), np.int8), np.ones((3, 2), np.int8)
    with caplog.at_level(logging.INFO, logger="neurosim.kernels"):
        for _ in range(3):
            kernels.spike_linear(spikes, weight)
    assert [record.getMessage() for record in caplog.records] == ["spike_linear runs on cpu"]
