"""What importing costs, without a clock: heavy modules are imported only by what needs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("matplotlib", "scipy.linalg", "torch", "tokenizers", "rich", "multiprocessing.pool")


def _imported(statement: str) -> set[str]:
    """The heavy modules that a fresh interpreter has after a statement."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import neurosim", set()),
        ("import neurosim.cli", set()),
        ("import neurosim.kernels", set()),
        ("import neurosim.cli.run", {"rich", "tokenizers"}),
    ],
)
def test_imports(statement: str, allowed: set[str]) -> None:
    assert _imported(statement) <= allowed
