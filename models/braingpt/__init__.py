"""BrainGPT: language models whose activations are spike counts."""
