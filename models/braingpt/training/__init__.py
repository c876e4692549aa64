"""Fine-tuning of BrainGPT: conversion, calibration, then training through the quantisers."""

from neurosim.models.braingpt.training.loop import FineTuner, losses_of
from neurosim.models.braingpt.training.recipe import Calibration, Conversion, FineTuning, Recipe

__all__ = ["Calibration", "Conversion", "FineTuner", "FineTuning", "Recipe", "losses_of"]
