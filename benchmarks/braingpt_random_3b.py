"""A model folder of the exact Qwen2.5-3B sizes with random bfloat16 weights, for speed and memory.

    python -m benchmarks.braingpt_random_3b SOURCE                 # 6.2 GB, two shards
    neurosim convert SOURCE OUT --weight-bits 8                    # or 4
    python -m benchmarks.braingpt_speed OUT --threads 2 --tokens 8
    python -m benchmarks.braingpt_energy OUT --random --tokens 64

Weights repeat one random block at random offsets, so that writing takes seconds; no tokenizer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from neurosim.folders import replacing_folder
from neurosim.models.braingpt.config import QWEN25_3B
from neurosim.models.tensor_files import TensorWriter

_BLOCK = 1 << 23  # random numbers drawn


def write(folder: Path) -> None:
    """The folder, complete or not at all."""
    rng = np.random.default_rng(0)
    block = (rng.standard_normal(_BLOCK) * 0.02).astype(np.float32)
    shapes = QWEN25_3B.weight_shapes()
    with replacing_folder(folder) as unfinished:
        specs = {name: ("BF16", shape) for name, shape in shapes.items()}
        with TensorWriter(unfinished, specs) as writer:
            for name, shape in shapes.items():
                if len(shape) == 1:
                    gain = "norm" in name
                    writer.write(name, np.ones(shape, np.float32) if gain else block[: shape[0]])
                    continue
                rows = _BLOCK // shape[1]
                for first in range(0, shape[0], rows):
                    size = (min(rows, shape[0] - first), shape[1])
                    start = int(rng.integers(0, _BLOCK - size[0] * size[1] + 1))
                    writer.write(name, block[start : start + size[0] * size[1]].reshape(size))
        data = QWEN25_3B.to_dict() | {"model_type": "qwen2"}
        del data["neurosim"]
        data["architectures"] = ["Qwen2ForCausalLM"]
        (unfinished / "config.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
