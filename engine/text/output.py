"""Tokens to text, one token at a time: multi-byte characters, stop strings across token borders, text held back.

A token may hold part of a character, so text is released only when it can no longer change; with stop strings, only
when it can no longer become part of one.
"""

import codecs
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

NONE_NAMED: Mapping[int, str] = MappingProxyType({})


class TokenDecoder(Protocol):
    """Turns the tokens of one sequence into text. Stateful: one per sequence."""

    def push(self, token: int) -> str:
        """Text that `token` completes."""
        ...

    def flush(self) -> str:
        """Text that is left at the end: incomplete characters come out as U+FFFD."""
        ...


class ByteDecoder:
    """For byte-level vocabularies: each token is a string of bytes."""

    def __init__(self, table: list[bytes], named: Mapping[int, str] = NONE_NAMED) -> None:
        self._table = table  # by token; empty for special tokens
        self._named = {token: text.encode() for token, text in named.items()}  # special tokens that are shown
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """See `TokenDecoder`."""
        text = self._table[token] if token < len(self._table) else b""
        return self._utf8.decode(text or self._named.get(token, b""))

    def flush(self) -> str:
        """See `TokenDecoder`."""
        return self._utf8.decode(b"", final=True)


class Detokenize(Protocol):
    """Decodes a list of tokens whole, special tokens left out."""

    def __call__(self, tokens: list[int], /) -> str: ...


class WindowDecoder:
    """For any other vocabulary: decodes a window of recent tokens twice and takes the difference.

    The window starts with the prompt's last tokens, so that a first space is not lost where a decoder strips it.
    """

    CONTEXT = 6  # prompt tokens

    def __init__(self, decode: Detokenize, prompt: list[int], named: Mapping[int, str] = NONE_NAMED) -> None:
        self._decode = decode
        self._named = named  # special tokens that are shown
        self._tokens = prompt[-self.CONTEXT :]
        self._prefix = 0  # the window's start
        self._read = len(self._tokens)  # tokens whose text was returned

    def push(self, token: int) -> str:
        """See `TokenDecoder`."""
        if token in self._named:
            before = self.flush()
            self._tokens, self._prefix, self._read = [], 0, 0
            return before + self._named[token]
        self._tokens.append(token)
        old = self._decode(self._tokens[self._prefix : self._read])
        new = self._decode(self._tokens[self._prefix :])
        if len(new) <= len(old) or new.endswith("\ufffd"):
            return ""
        self._prefix, self._read = self._read, len(self._tokens)
        return new[len(old) :]

    def flush(self) -> str:
        """See `TokenDecoder`."""
        old = self._decode(self._tokens[self._prefix : self._read])
        new = self._decode(self._tokens[self._prefix :])
        self._prefix = self._read = len(self._tokens)
        return new[len(old) :]


class OutputText:
    """The growing text of one sequence: finds stop strings, and holds back text that may change."""

    def __init__(self, decoder: TokenDecoder, stop: tuple[str, ...] = (), unstopped: int = 0) -> None:
        """
        Args:
            decoder: of the sequence's tokens.
            stop: strings that end the text.
            unstopped: the first tokens, whose text they are not looked for in.
        """
        self._decoder = decoder
        self._stop = stop
        self._longest = max(map(len, stop), default=0)
        self._pending: list[int] = []  # tokens not yet decoded; without stop strings they wait until text is needed
        self._shown = 0
        self._unstopped = unstopped  # tokens still to come
        self._from = 0  # where in the text stop strings may begin
        self.text = ""

    def push(self, token: int) -> bool:
        """Add a token; whether a stop string is now complete. The text then ends before it."""
        if not self._stop:
            self._pending.append(token)
            return False
        if self._unstopped:
            self._unstopped -= 1
            self.text += self._decoder.push(token)
            self._from = len(self.text)
            return False
        return self._grow(self._decoder.push(token))

    def take(self, last: bool = False) -> str:
        """Text not yet taken that may be shown; all of it when this is the `last` call."""
        if self._pending:
            self.text += "".join(map(self._decoder.push, self._pending))
            self._pending.clear()
        if last:
            self._grow(self._decoder.flush())
        end = len(self.text) - (0 if last else self._held())
        new = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return new

    def _grow(self, piece: str) -> bool:
        if not piece or self._longest < 0:
            return False
        start = max(self._from, len(self.text) - self._longest + 1)
        self.text += piece
        if not self._stop:
            return False
        found = [at for stop in self._stop if (at := self.text.find(stop, start)) >= 0]
        if not found:
            return False
        self.text = self.text[: min(found)]
        self._longest = -1  # no more tokens follow
        return True

    def _held(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(self.text) - self._from), 0, -1):
            end = self.text[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
