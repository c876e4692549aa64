"""Keys and values of the compiled engine, in place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.models.braingpt.config import BrainGPTConfig

Floats = npt.NDArray[np.float32]
_FIRST_CAPACITY = 64


class EngineCache:
    """Keys (after rotation) and values so far, (B, G, capacity, D) per layer; room is doubled."""

    def __init__(self, config: BrainGPTConfig) -> None:
        self._config = config
        self.keys: list[Floats] = []
        self.values: list[Floats] = []
        self.visible: npt.NDArray[np.bool_] | None = None
        self.next_position: npt.NDArray[np.int64] | None = None
        self._held = 0

    @property
    def length(self) -> int:
        """Tokens held, padding included."""
        return self._held

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return sum(array.nbytes for array in (*self.keys, *self.values))

    def reserve(self, batch: int, length: int) -> None:
        """Make room for `length` tokens in all."""
        if self.keys and self.keys[0].shape[0] != batch:  # of a first call that failed
            self.keys.clear()
            self.values.clear()
        capacity = self.keys[0].shape[2] if self.keys else 0
        if length <= capacity:
            return
        capacity = max(length, 2 * capacity, _FIRST_CAPACITY)
        config = self._config
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        for arrays in (self.keys, self.values):
            for i in range(config.num_hidden_layers):
                grown = np.zeros(shape, np.float32)
                if i < len(arrays):
                    grown[:, :, : self._held] = arrays[i][:, :, : self._held]
                    arrays[i] = grown
                else:
                    arrays.append(grown)

    def advance(self, tokens: int) -> None:
        """So many more tokens are held."""
        self._held += tokens

    def back(self, length: int) -> None:
        """Only so many tokens are held after all."""
        self._held = length
