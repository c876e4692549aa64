"""The emulator's error."""

from __future__ import annotations


class MetalError(ValueError):
    """A kernel that Metal would refuse, that would misbehave on a GPU, or that cannot run here."""
