"""Hashed n-gram tables added to the token embedding: look-ups, so memory without operations.

Table i serves n-grams of order i + 2 and fills its own slice of the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from neurosim.network import ngram_rows


def new_tables(rows: Sequence[int], width: int) -> list[mx.array]:
    """Zeroed tables, one for each entry of `rows` (powers of two); channels shared out evenly."""
    if any(count < 1 or count & (count - 1) for count in rows):
        raise ValueError(f"expected powers of two of hashed rows, got {list(rows)}")
    if rows and width % len(rows):
        raise ValueError(f"expected a width that {len(rows)} tables divide, got {width}")
    return [mx.zeros((count, width // len(rows))) for count in rows]


def check_tokens(tokens: mx.array, vocab_size: int) -> None:
    """ValueError for ids without a row: MLX takes negative ones from the end, and others from
    memory that is not the table's.

    Ids that a transform traces are not known, and are not looked at.
    """
    try:
        ids = np.asarray(tokens)
    except ValueError:
        return
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise ValueError(
            f"expected token ids from 0 to {vocab_size - 1}, got {ids.min()} to {ids.max()}; is "
            "this the model's own tokenizer?"
        )


def ngram_sum(tables: Sequence[mx.array], tokens: mx.array) -> mx.array:
    """Rows of all tables side by side; tokens (B, L) -> (B, L, width), or 0 without tables."""
    if not tables:
        return mx.array(0.0)
    ids = np.asarray(tokens)
    parts = [
        table[mx.array(ngram_rows(ids, i + 2, table.shape[0]))] for i, table in enumerate(tables)
    ]
    return mx.concatenate(parts, axis=-1)
