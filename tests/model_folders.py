"""Tiny Qwen2, Llama and BrainGPT folders and GGUF files with random weights, for conversion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from neurosim.models.braingpt import names
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.tensor_files import TensorWriter

Weights = dict[str, NDArray[np.float32]]
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SYLLABLES = ("ba", "de", "ki", "lo", "mu", "ran", "sti", "ver")
TEXT = [
    "the cat sat on the mat and the dog sat on the log, it's 1234 said the cat",
    *(f"the {a}{b} {c}{a} sat on {b}{c}" for a, b, c in product(_SYLLABLES, repeat=3)),
]


def small_config(**changes: Any) -> BrainGPTConfig:
    """32 wide, 2 layers, 4 heads over 2, tied."""
    sizes: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "stop_ids": (2,),
    }
    return BrainGPTConfig(**sizes | changes)


def random_weights(config: BrainGPTConfig, seed: int = 0) -> Weights:
    """Random weights by plain names."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in config.weight_shapes().items()
    }


def config_json(config: BrainGPTConfig, family: str) -> dict[str, Any]:
    """The config.json Hugging Face would write."""
    data = config.to_dict()
    data.pop("neurosim")
    data.pop("rope_scaling")
    data["architectures"] = [{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[family]]
    data["model_type"] = family
    data["attention_bias"] = config.biases
    return data


def write_folder(
    folder: Path,
    config: BrainGPTConfig,
    weights: Mapping[str, NDArray[Any]],
    family: str = "qwen2",
    dtype: str = "F32",
    shard_bytes: int = 1 << 30,
    wrapped: bool = False,
) -> Path:
    """A model folder without tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {(names.wrapped(k) if wrapped else k): v for k, v in weights.items()}
    specs = {name: (dtype, array.shape) for name, array in arrays.items()}
    with TensorWriter(folder, specs, shard_bytes=shard_bytes) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
    (folder / "config.json").write_text(json.dumps(config_json(config, family)))
    return folder


def trained_tokenizer(vocab_size: int = 300) -> tokenizers.Tokenizer:
    """A byte-level BPE whose special tokens have the ids 0, 1 and 2."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    return backend


def add_tokenizer(folder: Path, vocab_size: int = 300, **settings: Any) -> None:
    """tokenizer.json, tokenizer_config.json and generation_config.json."""
    trained_tokenizer(vocab_size).save(str(folder / "tokenizer.json"))
    found = {"eos_token": "<|im_end|>", "bos_token": None, "chat_template": TEMPLATE} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(found))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))


def write_gguf(
    path: Path,
    config: BrainGPTConfig,
    weights: Weights,
    architecture: str = "llama",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    pre: str = "smollm",
    **changes: Any,
) -> Path:
    """A GGUF file as llama.cpp writes it: rows of q and k of "llama" in interleaved order."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for key, value in changes.items():
        writer.add_string(key.replace("__", "."), value)
    _add_gguf_tokenizer(writer, pre)
    for name, array in weights.items():
        writer_name = gguf_name(name)
        stored = array
        for part, heads in (
            ("q_proj", config.num_attention_heads),
            ("k_proj", config.num_key_value_heads),
        ):
            if part in name and architecture == "llama":
                halves = array.reshape(heads, 2, config.head_dim // 2, *array.shape[1:])
                stored = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        if stored.ndim == 1:
            writer.add_tensor(writer_name, stored)
        else:
            writer.add_tensor(writer_name, quantize(stored, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_gguf_tokenizer(writer: GGUFWriter, pre: str) -> None:
    data = json.loads(trained_tokenizer().to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*tokens, "[PAD300]"])
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3) + [5])
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_chat_template(TEMPLATE)


def gguf_name(name: str) -> str:
    """llama.cpp's name of a weight."""
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outer:
        return outer[name]
    for ours, theirs in (
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(ours, theirs)
    return name
