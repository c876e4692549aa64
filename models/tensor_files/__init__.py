"""Safetensors files and sharded folders: memory-mapped reading and streamed writing."""

from neurosim.models.tensor_files.header import INDEX, SINGLE, find_files, item_size
from neurosim.models.tensor_files.reader import TensorFolder, check_finite
from neurosim.models.tensor_files.writer import TensorWriter

__all__ = [
    "INDEX",
    "SINGLE",
    "TensorFolder",
    "TensorWriter",
    "check_finite",
    "find_files",
    "item_size",
]
