"""What a BrainGPT folder holds, tensor by tensor, and the memory it needs."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.tensor_files import item_size

GROUP = 32  # inputs that share a multiplier at 4 bits
BLOCK_BYTES = 16 << 20  # of float32 rows converted at a time
_PROGRAM = 300 << 20  # bytes of Python, its libraries and compiled kernels
_COPIES = 6  # blocks alive at once while one is read, checked, quantised and written
_OUTER = ("model.embed_tokens.weight", "lm_head.weight")


def bits_of(name: str, weight_bits: int) -> int:
    """Bits a weight matrix is stored with: embedding and head have at least 8."""
    return max(weight_bits, 8) if name in _OUTER else weight_bits


def stored_tensors(config: BrainGPTConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """name -> (safetensors dtype, shape) of a converted model's weights.

    Matrices: float32 (`weight_bits` 32), bfloat16 (16), int8 codes (8) or packed 4-bit codes (4)
    with `NAME.unit`, the real value of one step of each row, and `NAME.multiplier` at 4 bits.
    Gains and biases: float32.
    """
    specs: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in config.weight_shapes().items():
        bits = bits_of(name, config.weight_bits)
        if len(shape) == 1 or bits == 32:
            specs[name] = ("F32", shape)
        elif bits == 16:
            specs[name] = ("BF16", shape)
        elif bits == 8:
            specs[name] = ("I8", shape)
            specs[f"{name}.unit"] = ("F32", shape[:1])
        else:
            groups = math.ceil(shape[1] / GROUP)
            specs[name] = ("U8", (shape[0], groups * GROUP // 2))
            specs[f"{name}.unit"] = ("F32", shape[:1])
            specs[f"{name}.multiplier"] = ("U8", (shape[0], groups))
    return specs


def stored_bytes(config: BrainGPTConfig) -> int:
    """Bytes of a converted model's weights."""
    specs = stored_tensors(config).values()
    return sum(math.prod(shape) * item_size(dtype) for dtype, shape in specs)


def estimate_memory(
    config: BrainGPTConfig, weight_bits: int | None = None, context: int = 2048
) -> int:
    """Bytes a loaded model takes: weights, a float32 cache of `context` tokens, the program.

    Floats are computed with, and kept, as float32 however they are stored.
    """
    bits = weight_bits or config.weight_bits
    stored = replace(config, weight_bits=32 if bits == 16 else bits)
    context = min(context, config.max_position_embeddings)
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    return stored_bytes(stored) + cache * context + _PROGRAM


def conversion_memory(config: BrainGPTConfig) -> int:
    """Bytes a conversion takes, whatever the model's size: blocks of rows and a tokenizer."""
    row = 4 * max(config.hidden_size, config.intermediate_size)
    tokenizer = 3000 * config.vocab_size  # measured with GGUF metadata, the largest form
    return _PROGRAM + _COPIES * max(BLOCK_BYTES, row) + tokenizer


def available_memory() -> int:
    """Bytes a new process can have without pushing others out."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(needed: int, purpose: str, advice: str) -> None:
    """Refuse what would not fit into this machine's memory."""
    free = available_memory()
    if needed > free:
        raise ValueError(
            f"{purpose} needs about {needed / 1e9:.2f} GB of memory, this machine has "
            f"{free / 1e9:.2f} GB available; {advice}"
        )


def check_disk(needed: int, folder: Path) -> None:
    """Refuse what would not fit on the disk of a folder that need not exist yet."""
    present = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(present).free
    if needed > free:
        raise ValueError(
            f"{folder} needs {needed / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free; free "
            "some space or choose fewer weight bits"
        )
