"""Transformers, spiking and not; texts, training and generation."""

from neurosim.models.checkpoint import LoadedModel, save
from neurosim.models.generation import GenerationResponse, generate, stream_generate
from neurosim.models.loading import LoadedBrainGPT, load
from neurosim.models.sampling import Sampler

__all__ = [
    "GenerationResponse",
    "LoadedBrainGPT",
    "LoadedModel",
    "Sampler",
    "generate",
    "load",
    "save",
    "stream_generate",
]
