"""Transformers, spiking and not; texts and training."""

from neurosim.models.checkpoint import LoadedModel, load, save

__all__ = ["LoadedModel", "load", "save"]
