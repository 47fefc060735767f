"""Reads replies in OpenAI's Harmony format: messages in channels, some of them to functions.

Source: https://github.com/openai/harmony
"""

import re

from engine.text.replies.pieces import Content, Piece, ReplyReader, Thought, call_of, parsed

_BEGIN = re.compile(r"\s*(?:<\|start\|>\s*)?(?:assistant)?\s*(?=<\|channel\|>|to=|<\|message\|>)")
_STARTS = ("<|start|>assistant<|channel|>", "<|start|>assistant to=", "assistant<|channel|>", "<|channel|>", "to=")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"to=([^\s<]+)")
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_END = re.compile("|".join(map(re.escape, _ENDS)))
_MESSAGE = "<|message|>"


class HarmonyReader(ReplyReader):
    """See `ReplyReader`."""

    def __init__(self, tools: bool, head: str = "") -> None:
        """
        Args:
            tools: whether messages to functions are calls.
            head: what the prompt has of the reply's first message behind its start mark.
        """
        self._tools = tools
        self._head: str | None = None  # of the message whose text comes; None: a head comes
        self._calling = ""  # the function that the message is to
        self._fresh = True  # no message has begun
        before, mark, _ = head.partition(_MESSAGE)
        if mark:
            self._open(before)
        else:
            self._text = head.removeprefix("assistant")

    def _read(self, last: bool) -> list[Piece]:
        found: list[Piece] = []
        while self._text:
            before = len(self._text), self._head
            found += self._in_head(last) if self._head is None else self._in_message(last)
            if (len(self._text), self._head) == before:
                break
        return found

    def _open(self, head: str) -> None:
        recipient = _RECIPIENT.search(head)
        self._head, self._fresh = head, False
        self._calling = recipient[1].removeprefix("functions.") if recipient and self._tools else ""

    def _in_head(self, last: bool) -> list[Piece]:
        head, mark, rest = self._text.partition(_MESSAGE)
        if _BEGIN.match(self._text) and mark:
            self._text = rest
            self._open(head)
            return []
        begun = self._text.lstrip()
        waits = bool(_BEGIN.match(self._text)) or any(
            start.startswith(begun) or begun.startswith(start) for start in _STARTS
        )
        if waits and not last:
            return []
        if not waits and not last and begun.startswith("<|") and len(begun) < len("<|constrain|>"):
            return []
        self._open("<|channel|>final")  # text without marks, or with wrong ones, which are text then
        wrong = next((mark for mark in ("<|start|>", "<|channel|>") if self._text.startswith(mark)), "")
        self._text = self._text.removeprefix(wrong)
        return [Content(wrong)] if wrong else []

    def _in_message(self, last: bool) -> list[Piece]:
        end = _END.search(self._text)
        if self._calling:
            return self._in_call(last, end)
        if end is not None:
            said, self._text = self._text[: end.start()], self._behind(end)
            kind, self._head = self._kind, None
            return [kind(said)] if said else []
        keep = len(self._text) if last else self._undecided()
        said, self._text = self._text[:keep], self._text[keep:]
        return [self._kind(said)] if said else []

    def _in_call(self, last: bool, end: "re.Match[str] | None") -> list[Piece]:
        if end is None and not last:
            return []
        written = self._text[: end.start()] if end else self._text
        head, self._text, self._head = self._head, self._behind(end) if end else "", None
        try:
            return [call_of(self._calling, parsed(written))]
        except ValueError:
            return [Content(f"{head}{_MESSAGE}{written}")]
        finally:
            self._calling = ""

    @property
    def _kind(self) -> "type[Content] | type[Thought]":
        channel = _CHANNEL.search(self._head or "")
        return Thought if channel and channel[1] == "analysis" else Content

    def _behind(self, end: "re.Match[str]") -> str:
        return self._text[end.start() if end[0] in ("<|start|>", "<|channel|>") else end.end() :]

    def _undecided(self) -> int:
        for at in range(max(0, len(self._text) - max(map(len, _ENDS)) + 1), len(self._text)):
            if any(mark.startswith(self._text[at:]) for mark in _ENDS):
                return at
        return len(self._text)
