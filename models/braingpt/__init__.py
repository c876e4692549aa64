"""BrainGPT: Qwen2 and Llama models whose linear layers exchange spike counts."""

from neurosim.models.braingpt.config import QWEN25_3B, BrainGPTConfig
from neurosim.models.braingpt.loading import load
from neurosim.models.braingpt.model import BrainGPT, Options
from neurosim.models.braingpt.sites import EventCounter, SiteRecord, site_names

__all__ = [
    "QWEN25_3B",
    "BrainGPT",
    "BrainGPTConfig",
    "EventCounter",
    "Options",
    "SiteRecord",
    "load",
    "site_names",
]
