"""Training: settings, batches, the resumable loop."""

from neurosim.models.training.loop import Trainer
from neurosim.models.training.schedule import TrainingConfig

__all__ = ["Trainer", "TrainingConfig"]
