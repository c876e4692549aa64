"""Where a conversion writes, and what an interruption leaves; how much memory it takes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from model_folders import (
    random_weights,
    small_config,
    write_folder,
)

from neurosim.models.braingpt.convert import convert
from neurosim.models.tensor_files import SINGLE


def test_places_that_are_not_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    convert(source, out)
    with pytest.raises(ValueError, match="out is not empty; name another folder, or .* --force"):
        convert(source, out)
    before = (out / SINGLE).stat().st_size
    convert(source, out, weight_bits=32, force=True)
    assert (out / SINGLE).stat().st_size > before
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex as well; it is not replaced"):
        convert(source, out, force=True)
    (out / "config.json").unlink()
    with pytest.raises(ValueError, match="no model folder; it is not replaced"):
        convert(source, out, force=True)
    with pytest.raises(ValueError, match="holds the source"):
        convert(source, source, force=True)
    with pytest.raises(ValueError, match="holds the source"):
        convert(source, tmp_path, force=True)
    with pytest.raises(ValueError, match="is a file"):
        convert(source, source / "config.json", force=True)


@pytest.mark.parametrize("existing", [False, True], ids=["new", "replacing"])
def test_an_interrupted_conversion_leaves_what_was(
    source: Path, tmp_path: Path, existing: bool
) -> None:
    out = tmp_path / "deep" / "out"
    if existing:
        convert(source, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()} if existing else {}

    def interrupt(name: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, out, weight_bits=4, force=True, progress=interrupt)
    if existing:
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert [item.name for item in out.parent.iterdir()] == ["out"]
    else:
        assert [item.name for item in tmp_path.iterdir()] == ["source"]


KILLED = """
import os, signal, sys
from neurosim.models.braingpt.convert import convert

def kill(name, done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

convert(sys.argv[1], sys.argv[2], progress=kill)
"""


def test_a_killed_conversion_leaves_nothing_at_out(source: Path, tmp_path: Path) -> None:
    """What is left beside it goes with the next conversion."""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, source, out], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(tmp_path.glob(".out.unfinished.*"))) == 1
    convert(source, out)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out", "source"]


MEASURED = """
import resource, sys
from neurosim.models.braingpt.convert import convert

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

convert(sys.argv[1], sys.argv[2] + ".small", warn=lambda text: None)
before = peak()
convert(sys.argv[3], sys.argv[2], warn=lambda text: None)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are dropped on Linux only")
def test_memory_does_not_grow_with_the_model(source: Path, tmp_path: Path) -> None:
    """340 MB of weights in, less than a third of that in memory."""
    config = small_config(
        vocab_size=4096, hidden_size=1024, intermediate_size=4096, num_hidden_layers=7
    )
    big = write_folder(tmp_path / "big", config, random_weights(config))
    command = [sys.executable, "-c", MEASURED, source, tmp_path / "out", big]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100_000_000 < (big / SINGLE).stat().st_size / 3
