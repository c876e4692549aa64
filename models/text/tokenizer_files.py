"""The tokenizer of a model to be converted: files copied, or built from vocab.json or GGUF."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from neurosim.models.text import byte_level
from neurosim.models.text.chat_tokenizer import ChatTokenizer, read_json

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "LICENSE",
    "NOTICE",
)
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # tokenizer.ggml.token_type
_OLD_CLASSES = {
    "Qwen2Tokenizer": "qwen2",
    "Qwen2TokenizerFast": "qwen2",
    "BrainGPTTokenizer": "qwen2",
    "GPT2Tokenizer": "gpt-2",
    "GPT2TokenizerFast": "gpt-2",
}


def copy_from_folder(source: Path, target: Path) -> str | None:
    """Put a model folder's tokenizer files into `target`; a warning if it has none of use."""
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (target / "tokenizer.json").is_file():
        return None
    if (source / "vocab.json").is_file() and (source / "merges.txt").is_file():
        _from_vocabulary(source).save(str(target / "tokenizer.json"))
        return None
    if (source / "tokenizer.model").is_file():
        return (
            f"{source} has only a SentencePiece tokenizer.model, which is not read here; the model "
            "has no tokenizer. Put a tokenizer.json beside it (transformers writes one)"
        )
    return f"{source} has no tokenizer; the model can be run on token ids only"


def _from_vocabulary(source: Path) -> Any:
    """A tokenizer from vocab.json and merges.txt, as Qwen2 folders have them."""
    settings = read_json(source / "tokenizer_config.json")
    kind = _OLD_CLASSES.get(settings.get("tokenizer_class", "Qwen2Tokenizer"))
    if kind is None:
        raise ValueError(
            f"{source}: expected a tokenizer_class of {', '.join(_OLD_CLASSES)} for vocab.json "
            f"and merges.txt, got {settings['tokenizer_class']!r}; put a tokenizer.json there"
        )
    vocabulary = read_json(source / "vocab.json")
    lines = (source / "merges.txt").read_text(encoding="utf-8").split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{source / 'merges.txt'}: expected two tokens in every line")
    added: dict[int, AddedToken] = {}
    for text, index in read_json(source / "added_tokens.json").items():
        added[int(index)] = AddedToken(text, special=True, normalized=False)
    for text_id, token in settings.get("added_tokens_decoder", {}).items():
        flags = {
            name: bool(token.get(name, False))
            for name in ("special", "lstrip", "rstrip", "single_word", "normalized")
        }
        added[int(text_id)] = AddedToken(token["content"], **flags)
    if not added:  # a Qwen2 folder of 2024 without either file
        added[len(vocabulary)] = AddedToken("<|endoftext|>", special=True, normalized=False)
    try:
        merges = [(first, second) for first, second in pairs]
        return byte_level.build(vocabulary, merges, kind, added.items())
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def write_from_gguf(metadata: Mapping[str, Any], target: Path) -> str | None:
    """Write tokenizer.json and tokenizer_config.json from GGUF metadata; a warning if it has none.

    Refused: vocabularies other than byte-level BPE ("gpt2") and splitting rules not known here.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        return "the GGUF file has no tokenizer; the model can be run on token ids only"
    if model != "gpt2":
        raise ValueError(
            f"expected a GGUF tokenizer of byte-level BPE ('gpt2'), got {model!r}; convert from "
            "the model's Hugging Face folder instead"
        )
    kind = metadata.get("tokenizer.ggml.pre", "default")
    if kind not in byte_level.KINDS:
        raise ValueError(
            f"expected tokenizer.ggml.pre of {', '.join(byte_level.KINDS)}, got {kind!r}; convert "
            "from the model's Hugging Face folder instead"
        )
    tokens: Sequence[str] = metadata["tokenizer.ggml.tokens"]
    types = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    pairs = [merge.split(" ") for merge in metadata.get("tokenizer.ggml.merges", [])]
    if len(types) != len(tokens) or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            "the tokenizer of the GGUF file is damaged: tokens, types, merges disagree"
        )
    vocabulary = {text: i for i, text in enumerate(tokens) if types[i] != _UNUSED}
    whole = [
        (i, AddedToken(tokens[i], special=types[i] == _CONTROL, normalized=False))
        for i in range(len(tokens))
        if types[i] in (_CONTROL, _USER_DEFINED)
    ]
    names = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            if not 0 <= index < len(tokens):
                raise ValueError(f"the GGUF file's {key} token {index} is not in its vocabulary")
            names[f"{name}_token"] = tokens[index]
    begins = bool(metadata.get("tokenizer.ggml.add_bos_token", kind == "llama-bpe"))
    prefix = names.get("bos_token") if begins else None
    backend = byte_level.build(vocabulary, [(a, b) for a, b in pairs], kind, whole, prefix)
    backend.save(str(target / "tokenizer.json"))
    settings = {"add_bos_token": prefix is not None, **names}
    if "tokenizer.chat_template" in metadata:
        settings["chat_template"] = metadata["tokenizer.chat_template"]
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (target / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return None


def check(folder: Path, vocab_size: int, stop_ids: Sequence[int]) -> tuple[int, ...]:
    """All stop tokens of a folder's tokenizer; ValueError if it is not this model's.

    Args:
        vocab_size: rows of the model's embedding.
        stop_ids: the stop tokens the model's configuration names.
    """
    tokenizer = ChatTokenizer.load(folder)
    wrong = "is this the model's own tokenizer?"
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"the tokenizer's largest id is {tokenizer.vocab_size - 1}, the model has only "
            f"{vocab_size} embeddings; {wrong}"
        )
    for index in {*stop_ids, *tokenizer.stop_ids}:
        if not tokenizer.is_token(index):
            raise ValueError(
                f"the model stops at token {index}, which its tokenizer of "
                f"{tokenizer.vocab_size} tokens does not have; {wrong}"
            )
    return tokenizer.stop_ids
