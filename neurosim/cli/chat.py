"""`neurosim chat`: a conversation with a converted model, streamed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from neurosim.cli._model_options import (
    add_model_options,
    add_sampling,
    load_with_progress,
    sampler,
)
from neurosim.models.generation import GenerationResponse, speed, stream_generate
from neurosim.models.loading import LoadedBrainGPT

_HELP = "/reset starts a new conversation, Ctrl-C stops a reply, /quit or end of input leaves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument(
        "--model", required=True, help="folder made by `neurosim convert`, or of Qwen2 or Llama"
    )
    parser.add_argument("--prompt", help="one message, one reply, no conversation")
    parser.add_argument("--system", help="system message (default: the template's own)")
    parser.add_argument("--max-tokens", type=int, default=512, help="of a reply (default 512)")
    add_sampling(parser, temperature=0.0, top_k=0)
    parser.add_argument(
        "--stop", action="append", default=[], help="string that ends a reply; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--json", action="store_true", help="print the reply as JSON (--prompt)")
    add_model_options(parser)


class Conversation:
    """Messages so far, and a cache of those tokens that the next turn begins with."""

    def __init__(self, loaded: LoadedBrainGPT, options: argparse.Namespace) -> None:
        self._loaded, self._options = loaded, options
        self._sampler = sampler(options)
        self.reset()

    def reset(self) -> None:
        """Forget all but the system message."""
        system = self._options.system
        self._messages = [] if system is None else [{"role": "system", "content": system}]
        self._cache, self._held = self._loaded.model.new_cache(), list[int]()

    def reply(self, text: str) -> Iterator[GenerationResponse]:
        """Stream the reply to a message; one that is broken off is forgotten, with its message."""
        if not text.strip():
            raise ValueError("expected a message, got an empty one")
        tokenizer = self._loaded.tokenizer
        asked = [*self._messages, {"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(asked)
        context = self._loaded.model.config.max_position_embeddings
        if len(ids) + self._options.max_tokens > context:
            raise ValueError(
                f"expected the conversation and a reply of {self._options.max_tokens} tokens to "
                f"fit the model's context of {context} tokens, got {len(ids)} and the reply; say "
                "less, give fewer --max-tokens, or /reset"
            )
        new = ids[len(self._held) :]
        if not self._held or not new or ids[: len(self._held)] != self._held:
            # nothing said yet, a reply that broke off, or the template rewrote the past
            self._cache, new = self._loaded.model.new_cache(), ids
        parts, made = [], list[int]()
        self._held = []  # until the reply is whole, as is the message
        responses = stream_generate(
            self._loaded.model,
            tokenizer,
            new,
            self._options.max_tokens,
            self._sampler,
            self._options.stop,
            self._options.seed,
            self._cache,
        )
        for response in responses:
            parts.append(response.text)
            made.append(response.token)
            yield response
        self._held = ids + made[:-1]  # the last token was never put into the cache
        self._messages = [*asked, {"role": "assistant", "content": "".join(parts)}]


def _talk(conversation: Conversation) -> None:
    """Read messages until the end of input."""
    interactive = sys.stdin.isatty()
    if interactive:
        print(_HELP, file=sys.stderr)
    while True:
        try:
            text = input("> " if interactive else "").strip()
        except EOFError:
            if interactive:
                print()
            return
        if text in ("/quit", "/exit"):
            return
        if text == "/reset":
            conversation.reset()
        elif text.startswith("/") and " " not in text:
            print(f"no command {text}; {_HELP}", file=sys.stderr)
        elif text:
            _answer(conversation.reply(text), interactive)


def _answer(responses: Iterator[GenerationResponse], interactive: bool) -> None:
    """Show a reply; at a terminal neither Ctrl-C nor a message that is too long ends the talk."""
    try:
        _show(responses)
    except KeyboardInterrupt:
        print()
        if not interactive:
            raise
    except ValueError as error:
        if not interactive:
            raise
        print(f"neurosim chat: {error}", file=sys.stderr)


def _show(responses: Iterator[GenerationResponse]) -> None:
    last = None
    for last in responses:
        print(last.text, end="", flush=True)
    print()
    if last is not None:
        print(speed(last), file=sys.stderr)


def _as_json(loaded: LoadedBrainGPT, responses: list[GenerationResponse]) -> dict[str, Any]:
    last = responses[-1]
    return {
        "model": loaded.name,
        "how": repr(loaded.model),
        "text": "".join(response.text for response in responses),
        "tokens": [response.token for response in responses],
        "finish_reason": last.finish_reason,
        "prompt_tokens": last.prompt_tokens,
        "prompt_tokens_per_s": last.prompt_tps,
        "generation_tokens_per_s": last.generation_tps,
    }


def main(options: argparse.Namespace) -> int:
    """Answer one prompt, or talk until the end of input."""
    if options.json and options.prompt is None:
        raise ValueError("--json needs --prompt")
    loaded = load_with_progress(options)
    if not isinstance(loaded, LoadedBrainGPT):
        raise ValueError(
            f"{options.model} holds a {type(loaded.model).__name__} without a chat template; "
            "expected a folder made by `neurosim convert`, or of Qwen2 or Llama"
        )
    if loaded.tokenizer.chat_template is None:
        raise ValueError(
            f"{options.model} has no chat template (a base model?); use "
            "`neurosim run --model DIR --prompt TEXT`"
        )
    conversation = Conversation(loaded, options)
    if options.prompt is None:
        _talk(conversation)
    elif options.json:
        print(json.dumps(_as_json(loaded, list(conversation.reply(options.prompt))), indent=1))
    else:
        _show(conversation.reply(options.prompt))
    return 0
