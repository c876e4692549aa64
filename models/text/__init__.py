"""Text for the language models: open sources, cache, splits, tokenizer."""
