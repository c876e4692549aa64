"""The tokenizer of a converted model: text, chats by its own template, stop tokens, streaming."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import tokenizers
from numpy.typing import NDArray

from neurosim.models.text.chat_template import Message, render
from neurosim.models.text.detokeniser import Detokeniser, plain_ids, token_bytes

__all__ = ["ChatTokenizer", "Message"]

_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")
_SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>")
_PRIVATE = range(0xE000, 0xF900)  # characters without a meaning of their own


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; {} if there is no such file."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); fetch or write the file again") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return data


def _ids(value: Any) -> list[int]:
    return [i for i in (value if isinstance(value, list) else [value]) if type(i) is int]


def _spelling(value: Any) -> str | None:
    """A special token's text: plain, or the object Hugging Face writes."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


class ChatTokenizer:
    """A `tokenizer.json` with the chat template and stop tokens beside it.

    `encode` takes plain text: the spelling of a special token inside it becomes ordinary tokens,
    so that no text can end a turn or a document. In a chat the template's own special tokens are
    special and those inside the messages are ordinary text. Added tokens that are not special
    (Qwen2.5's `<tool_call>`) are single tokens everywhere.

    Attributes:
        chat_template: the Jinja source, or None.
        special_tokens: "bos_token" -> spelling and so on, as the template sees them.
        stop_ids: ids that end a reply, sorted: those given, eos, the document separator, and the
            ends of a turn that the template writes.
        prefix_ids: ids that the model expects before a document (Llama 3: begin-of-text).
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str] | None = None,
        chat_template: str | None = None,
        stop_ids: Sequence[int] = (),
    ) -> None:
        plain, prefixed = (backend.encode("a", add_special_tokens=b).ids for b in (False, True))
        before = len(prefixed) - len(plain)
        starts = before > 0 and prefixed[before:] == plain
        self.prefix_ids: tuple[int, ...] = tuple(prefixed[:before]) if starts else ()
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._backend = backend
        self._bytes = token_bytes(backend)
        self._lengths = np.array([len(piece) for piece in self._bytes], dtype=np.int64)
        added = backend.get_added_tokens_decoder()
        self._special = {token.content: i for i, token in added.items() if token.special}
        spellings = sorted(map(re.escape, self._special), key=len, reverse=True)
        self._pattern = re.compile("|".join(spellings)) if spellings else None
        self.special_tokens = dict(special_tokens or {})
        self.chat_template = chat_template
        ends = [self.token_id(text) for text in self._turn_ends()]
        ends += [self._special.get(text) for text in _SEPARATORS]
        self.stop_ids = tuple(sorted({*stop_ids, *(i for i in ends if i is not None)}))

    @classmethod
    def load(cls, folder: Path | str) -> ChatTokenizer:
        """Read a model folder's tokenizer.json and the files beside it that are there.

        Those are tokenizer_config.json, special_tokens_map.json, chat_template.jinja,
        generation_config.json and config.json (the last two for stop tokens).
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"expected a tokenizer at {path}, there is no such file") from error
        except Exception as error:  # the library raises bare Exception for bad content
            raise ValueError(f"{path} is not a tokenizer.json: {error}") from error
        settings = read_json(folder / "tokenizer_config.json")
        names = read_json(folder / "special_tokens_map.json") | settings
        special = {name: text for name in _NAMES if (text := _spelling(names.get(name)))}
        for name, text in special.items():
            if backend.token_to_id(text) is None:
                raise ValueError(
                    f"{folder}: {name} is {text!r}, which is not in tokenizer.json; do these files "
                    "belong together?"
                )
        config = read_json(folder / "config.json")
        ours = config.get("neurosim")
        stops = _ids(ours.get("stop_ids")) if isinstance(ours, dict) else []
        for data in (config, read_json(folder / "generation_config.json")):
            stops += _ids(data.get("eos_token_id"))
        try:
            return cls(backend, special, _template(folder, settings), stops)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _turn_ends(self) -> list[str]:
        """eos, and the known ends of a turn that the template writes."""
        template = self.chat_template or ""
        ends = [text for text in _END_OF_TURN if text in template and text in self._special]
        return [text for text in (self.special_tokens.get("eos_token"), *ends) if text]

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a model may have more rows, as padding."""
        return len(self._bytes)

    @property
    def sha256(self) -> str:
        """Identity of the tokenizer: sha256 of its JSON and its chat template."""
        text = self._backend.to_str() + (self.chat_template or "")
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def end_of_text(self) -> int:
        """Id of the document separator: `<|endoftext|>` or its like, else eos."""
        for text in (*_SEPARATORS, self.special_tokens.get("eos_token", "")):
            if text in self._special:
                return self._special[text]
        raise ValueError(f"expected an end-of-text token, one of {', '.join(_SEPARATORS)}")

    def token_id(self, text: str) -> int | None:
        """Id of a token by its spelling in the vocabulary, or None."""
        found = self._backend.token_to_id(text)
        return None if found is None else int(found)

    def is_token(self, index: int) -> bool:
        """Whether an id belongs to a token (not padding, not beyond the vocabulary)."""
        return index >= 0 and self._backend.id_to_token(index) is not None

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; nothing is added (see `prefix_ids`)."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several plain texts."""
        return plain_ids(self._backend, texts)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of token ids; special tokens and padding ids give none.

        Broken UTF-8 becomes U+FFFD. A leading space of SentencePiece vocabularies is kept.
        """
        stream = self.detokeniser()
        return "".join([*(stream.add(int(i)) for i in ids), stream.finish()])

    def detokeniser(self) -> Detokeniser:
        """For text as it is generated."""
        return Detokeniser(self._bytes)

    def bytes_per_token(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        """UTF-8 bytes each token stands for, the shape of `ids`; special tokens stand for 0.

        Of the text after normalisation: Qwen2 composes accents (NFC) before it encodes.
        """
        index = np.asarray(ids, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < self.vocab_size):
            raise ValueError(
                f"expected token ids from 0 to {self.vocab_size - 1}, "
                f"got {index.min()} to {index.max()}"
            )
        return self._lengths[index]

    @overload
    def apply_chat_template(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tokenize: Literal[True] = True,
    ) -> list[int]: ...

    @overload
    def apply_chat_template(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        *,
        tokenize: Literal[False],
    ) -> str: ...

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tokenize: bool = True,
    ) -> list[int] | str:
        """A conversation as token ids, or as the text Hugging Face would render.

        Args:
            messages: {"role": "system", "user" or "assistant", "content": text}, ...
            add_generation_prompt: end with the opening of the assistant's turn.
            tokenize: False gives the text. Do not encode it again: in it a special token that a
                user typed looks like the template's own. The ids keep the two apart.
        """
        if self.chat_template is None:
            raise ValueError(
                "this model has no chat template (a base model?); use encode with plain text"
            )
        for message in messages:
            if not isinstance(message.get("role"), str):
                raise ValueError(f"expected messages with a role and a content, got {message!r}")
        if not tokenize:
            return render(self.chat_template, messages, add_generation_prompt, self.special_tokens)
        mark = self._unused_character(messages)
        safe = [_map_text(message, lambda text: self._break(text, mark)) for message in messages]
        text = render(self.chat_template, safe, add_generation_prompt, self.special_tokens)
        return self._encode_marked(text, mark)

    def _unused_character(self, messages: Sequence[Message]) -> str:
        text = json.dumps([dict(m) for m in messages], ensure_ascii=False, default=str)
        text += self.chat_template or ""
        return next(chr(code) for code in _PRIVATE if chr(code) not in text)

    def _break(self, text: str, mark: str) -> str:
        """Text with a mark inside each spelling of a special token."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: found[0][0] + mark + found[0][1:], text)

    def _encode_marked(self, text: str, mark: str) -> list[int]:
        """Ids of rendered text; special tokens with a mark inside are ordinary text."""
        ids: list[int] = []
        at = 0
        for found in self._pattern.finditer(text) if self._pattern else ():
            ids += self.encode(text[at : found.start()].replace(mark, ""))
            ids.append(self._special[found[0]])
            at = found.end()
        return ids + self.encode(text[at:].replace(mark, ""))

    def __repr__(self) -> str:
        return f"ChatTokenizer(vocab_size={self.vocab_size}, sha256={self.sha256[:12]})"


def _map_text(value: Any, change: Any) -> Any:
    """The same structure with every string changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_text(item, change) for item in value]
    return value


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: a file of its own, else in tokenizer_config.json (one, or by name)."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # [{"name": "default", "template": ...}, {"name": "tool_use", ...}]
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None
