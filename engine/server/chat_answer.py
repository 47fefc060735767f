"""Answers to chat requests: messages with content, thoughts and tool calls."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.schedule.sequence import Request, TokenLogprob
from engine.server.answers import LEAST_LOGPROB, Answer, Choice
from engine.text.replies.pieces import Content, Piece, ReplyReader, Thought, ToolCall
from engine.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ChatOptions:
    """What a chat request wants of its answer."""

    reader: Callable[[], ReplyReader | None]  # of one reply
    call_id: Callable[[], str]
    thoughts: bool = True  # whether they are sent
    logprobs: bool = False
    tokens: bool = False
    prompt_logprobs: int | None = None


class ChatForm(Answer):
    """See `Answer`."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, tokenizer: Tokenizer, model: str, options: ChatOptions) -> None:
        super().__init__(tokenizer, model, options.tokens, options.prompt_logprobs)
        self._options = options
        self._growing: dict[int, _Growing] = {}  # by choice

    def lists(self, choices: Iterable[Choice], requests: Sequence[Request]) -> Iterator[tuple[str, Iterable[Any]]]:
        """See `Answer`."""
        yield from super().lists(choices, requests)
        if self._tokens:
            yield "prompt_token_ids", requests[0].prompt
        if self._prompt_logprobs is not None:
            yield "prompt_logprobs", self._scores(requests[0])

    def choice(self, choice: Choice, requests: Sequence[Request]) -> dict[str, Any]:
        """See `Answer`."""
        reader = self._options.reader()
        pieces = [*reader.push(choice.text), *reader.end()] if reader else [Content(choice.text)]
        calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
        thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
        content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if not content and reader:
            message["content"] = None
        if thoughts and self._options.thoughts:
            message["reasoning_content"] = thoughts
        if calls:
            message["tool_calls"] = [{"id": self._options.call_id(), **_call(call)} for call in calls]
        body = {
            "index": choice.index,
            "finish_reason": _reason(choice.finish_reason, bool(calls)),
            "logprobs": None,
            "message": message,
        }
        if self._options.logprobs:
            body["logprobs"] = {"content": [self._entry(entry) for entry in choice.logprobs], "refusal": None}
        return body | ({"token_ids": choice.tokens} if self._tokens else {})

    def chunks(self, choice: Choice, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """See `Answer`."""
        growing = self._growing.get(choice.index)
        found = []
        if growing is None:
            growing = self._growing[choice.index] = _Growing(self._options.reader())
            first = self._chunk(choice.index, {"role": "assistant", "content": ""})
            found.append(first | ({"prompt_token_ids": requests[0].prompt} if self._tokens else {}))
        deltas = self._deltas(growing, growing.read(choice)) or [{}]
        more = [self._chunk(choice.index, delta) for delta in deltas]
        body = more[0]["choices"][0]
        if self._options.logprobs:
            body["logprobs"] = {"content": [self._entry(entry) for entry in choice.logprobs]}
        if self._tokens:
            body["token_ids"] = choice.tokens
        more[-1]["choices"][0]["finish_reason"] = _reason(choice.finish_reason, growing.calls > 0)
        return found + more

    def _deltas(self, growing: "_Growing", pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for piece in pieces:
            if isinstance(piece, Content):
                found.append({"content": piece.text})
            elif isinstance(piece, ToolCall):
                index, function = growing.calls, {"name": piece.name, "arguments": ""}
                begun = {"index": index, "id": self._options.call_id(), "type": "function", "function": function}
                found.append({"tool_calls": [begun]})
                found.append({"tool_calls": [{"index": index, "function": {"arguments": piece.arguments}}]})
                growing.calls += 1
            elif self._options.thoughts:
                found.append({"reasoning_content": piece.text})
        return found

    def _chunk(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        body = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._head, "object": self.chunk_kind, "choices": [body]}

    def _entry(self, entry: TokenLogprob) -> dict[str, Any]:
        top = [self._token(token, logprob) for token, logprob in entry.top]
        return {**self._token(entry.token, entry.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._tokenizer.token_bytes(token)
        return {"token": raw.decode("utf-8", "replace"), "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(raw)}


class _Growing:
    """A choice of a stream."""

    def __init__(self, reader: ReplyReader | None) -> None:
        self._reader = reader
        self.calls = 0  # so far

    def read(self, choice: Choice) -> list[Piece]:
        """What is new."""
        if self._reader is None:
            return [Content(choice.text)] if choice.text else []
        return [*self._reader.push(choice.text), *(self._reader.end() if choice.finish_reason else ())]


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _reason(reason: str | None, calls: bool) -> str | None:
    return "tool_calls" if calls and reason == "stop" else reason
