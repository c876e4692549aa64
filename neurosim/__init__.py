"""neurosim: spiking transformers on simulated memristive neuron hardware, with their energy."""

__version__ = "0.1.0"

__all__ = ["__version__"]
