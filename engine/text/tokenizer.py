"""The tokenizer and the chat template of the served model."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.errors import ContextLengthError, LoadError, RequestError, one_line
from engine.text.chat_template import Chat, ChatTemplate, Prompt
from engine.text.output import NONE_NAMED, ByteDecoder, TokenDecoder, WindowDecoder

_CHARACTERS = 8  # of a token: a text of no more is tokenised at once
_PIECE = 1 << 16  # characters


class Tokenizer:
    """A `transformers` fast tokenizer for the engine. Safe to use from several threads: it has no state."""

    def __init__(self, inner: Any) -> None:
        if not getattr(inner, "is_fast", False):
            raise LoadError(f"{type(inner).__name__} is not a fast tokenizer; the engine needs a tokenizer.json")
        self.inner = inner
        self._fast = inner.backend_tokenizer
        self._fast.no_truncation()  # as some checkpoints were trained
        self._fast.no_padding()
        added = self._fast.get_added_tokens_decoder()
        # Also those without a named role, such as `<|im_start|>`: they are not text, either.
        self.special_ids = frozenset(inner.all_special_ids) | {token for token, kind in added.items() if kind.special}
        self.bos_token_id: int | None = inner.bos_token_id
        self.eos_token_id: int | None = inner.eos_token_id

    @classmethod
    def load(cls, path: str) -> "Tokenizer":
        """Load from a model folder.

        Raises:
            LoadError: there is none, or it is not a fast one.
        """
        try:
            kind = PreTrainedTokenizerFast if _as_written(Path(path)) else AutoTokenizer
            return cls(kind.from_pretrained(path))
        except LoadError:
            raise
        except Exception as error:  # the libraries raise no specific error for a damaged file
            raise LoadError(f"no tokenizer could be loaded from {path}: {one_line(error)}") from error

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Tokens of `text`; `special` adds the tokens that the tokenizer puts around a text (a start token, for
        example).

        Raises:
            RequestError: the text holds code points that no encoding can carry (lone surrogates).
        """
        try:
            return _ids(self._fast, text, special)
        except (TypeError, UnicodeEncodeError) as error:
            raise RequestError("the text is not valid Unicode") from error

    def check_length(self, text: str, most: int) -> None:
        """Refuse a text of far more than `most` tokens without tokenising it whole, which may take a minute.

        Raises:
            ContextLengthError: its first part alone has twice as many.
        """
        if len(text) <= _CHARACTERS * most:
            return
        found = 0
        for at in range(0, len(text), _PIECE):
            found += len(self.encode(text[at : at + _PIECE], special=False))
            if found > 2 * most:  # where pieces meet there may be some tokens too many
                more = f"the prompt alone has more than {found // 2}"
                raise ContextLengthError(f"this model's maximum context length is {most} tokens, but {more}", "prompt")

    def chat(self, chat: Chat, most: int | None = None) -> Prompt:
        """The prompt of a conversation. `most`: tokens, beyond which `check_length` refuses it.

        Only the template writes special tokens: where a text of the conversation contains one, it is read as plain
        text, so that quoted text can neither end a message nor begin another.

        Raises:
            ContextLengthError: it has far more tokens than `most`.
            RequestError: the model has no chat template, the template refuses this, or a role spells a special token.
        """
        if not self.inner.chat_template:
            raise RequestError("this model has no chat template: use /v1/completions", "messages")
        if any(self._spelled.search(str(message.get("role", ""))) for message in chat.messages):
            raise RequestError("a role spells a special token: use system, user or assistant", "messages")
        text, hidden = self.template.render(chat, self._spelled)
        if most is not None:
            for piece in (text, *hidden.values()):
                self.check_length(piece, most)
        if not hidden:
            return Prompt(self.encode(text, special=False), text)
        parts = re.split("(" + "|".join(hidden) + ")", text)
        tokens = [
            token
            for part in parts
            if part
            for token in (
                _ids(self._literal, hidden[part], special=False) if part in hidden else self.encode(part, special=False)
            )
        ]
        return Prompt(tokens, text)

    @cached_property
    def template(self) -> ChatTemplate:
        """The model's chat template; of no use where it has none."""
        return ChatTemplate(self.inner)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens by their texts."""
        return {self.text([token]): token for token in self.special_ids}

    def in_tokens(self, text: str, otherwise: Callable[[str], str]) -> str:
        """A text in Lark: its special tokens as such, and what `otherwise` gives for the rest."""
        parts = re.split(f"({self._spelled.pattern})", text)
        tokens = self.special_tokens
        return " ".join(f"<[{tokens[part]}]>" if part in tokens else otherwise(part) for part in parts if part)

    @cached_property
    def _spelled(self) -> "re.Pattern[str]":
        """Matches the text of every special token."""
        texts = {token.content for token in self._fast.get_added_tokens_decoder().values() if token.special}
        longest_first = sorted((text for text in texts if text), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def _literal(self) -> tokenizers.Tokenizer:
        """The same tokenizer, but reading special tokens as plain text."""
        copy = tokenizers.Tokenizer.from_str(self._fast.to_str())
        copy.encode_special_tokens = True
        return copy

    def decoder(self, prompt: list[int], named: Mapping[int, str] = NONE_NAMED) -> TokenDecoder:
        """A decoder for one continuation of `prompt`; the special tokens in `named` are part of its text."""
        if self.bytes_of_tokens is not None:
            return ByteDecoder(self.bytes_of_tokens, named)
        return WindowDecoder(self._decode, prompt, named)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a single token; of special tokens, their name."""
        if self.bytes_of_tokens is not None and token < len(self.bytes_of_tokens) and token not in self.special_ids:
            return self.bytes_of_tokens[token]
        return str(self._fast.decode([token], skip_special_tokens=False)).encode("utf-8", "replace")

    def text(self, tokens: list[int]) -> str:
        """The text of tokens, special ones by their names."""
        return str(self._fast.decode_batch([tokens], skip_special_tokens=False)[0])  # as in `_ids`

    def names(self, tokens: list[int]) -> list[str]:
        """Each token as the vocabulary writes it; empty where it has none."""
        return [self._fast.id_to_token(token) or "" for token in tokens]

    @property
    def vocabulary(self) -> int:
        """Number of token ids, added ones included."""
        return len(self.inner)

    def _decode(self, tokens: list[int], /) -> str:
        return str(self.inner.decode(tokens, skip_special_tokens=True))

    @cached_property
    def bytes_of_tokens(self) -> list[bytes] | None:
        """Bytes of each token where the vocabulary is byte-level, none of special ones; otherwise `None`."""
        decoder = json.loads(self._fast.to_str()).get("decoder") or {}
        if decoder.get("type") != "ByteLevel" or getattr(self.inner, "clean_up_tokenization_spaces", False):
            return None
        alphabet = _byte_alphabet()
        table = []
        for token in range(self.vocabulary):
            text = self._fast.id_to_token(token)
            if text is None or token in self.special_ids:
                table.append(b"")
            elif all(character in alphabet for character in text):
                table.append(bytes(alphabet[character] for character in text))
            else:
                table.append(text.encode())
        return table


def _ids(fast: tokenizers.Tokenizer, text: str, special: bool) -> list[int]:
    """Tokens of a text, as a batch of one: unlike `encode` it lets other threads run meanwhile, the engine's too."""
    found: list[int] = fast.encode_batch_fast([text], add_special_tokens=special)[0].ids
    return found


def _as_written(folder: Path) -> bool:
    """Whether a folder requires its `tokenizer.json` unchanged. For some kinds of models `transformers` would apply its
    own rules instead and produce other tokens.
    """
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    kind = said.get("tokenizer_class") if isinstance(said, dict) else None
    return kind in ("PreTrainedTokenizerFast", "TokenizersBackend") and (folder / "tokenizer.json").is_file()


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return alphabet
