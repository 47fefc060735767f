"""Reads the reply out of a chat completion, wherever an endpoint puts it, without the model's thoughts. Pure."""

import re
from typing import Any

from bot.records import FinishReason, Reply, Usage

_THOUGHT = re.compile(r"^\s*<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking)>[ \t]*(?:\n|\Z)", re.IGNORECASE)
_WITHOUT_CONTENT = ("length", "content_filter")  # finish reasons of replies that may be empty
_OURS = re.compile(r"^\s*(?:<(?:edit|create|test|ranking)\b|<{5,} *SEARCH)", re.MULTILINE)


def without_thoughts(text: str) -> str:
    """The reply without `<think>...</think>`; "" if it was cut off in a thought. Pure."""
    stripped = _THOUGHT.sub("", text, count=1)
    if stripped is not text and stripped != text:
        return stripped.lstrip("\n")
    end = _THOUGHT_END.search(text)  # some chat templates put the opening tag into the prompt
    if end and not _OURS.search(text, 0, end.start()):
        return text[end.end() :].lstrip("\n")
    return text


def _elsewhere(message: dict[str, Any]) -> str | None:
    """The reply in other fields of a message without content; None if they are empty too.

    A server whose reasoning parser does not fit the model puts the whole reply into the reasoning field.
    """
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        shown = "\n".join(str(call.get("function") or call) for call in calls if isinstance(call, dict))
        return f"(a tool call, but there are none here: {shown[:2000]})"
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return thoughts if isinstance(thoughts, str) else None


def read_completion(answer: Any, seconds: float) -> Reply:
    """The reply in a chat completion. Raises `ValueError` where there is none."""
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")
    if not answer.get("choices"):
        raise ValueError(f"no choices in {str(answer)[:200]}")
    choice = answer["choices"][0]
    finish = str(choice.get("finish_reason") or "stop")
    message = choice.get("message") or {}
    content = message.get("content")
    if isinstance(content, list):  # parts, as some endpoints answer
        content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    if content is None and finish not in _WITHOUT_CONTENT and not message.get("refusal"):
        content = _elsewhere(message)
        if content is None:
            raise ValueError("the message has no content")
    elif not str(content or "").strip() and finish == "stop":
        content = _elsewhere(message) or content
    text = without_thoughts(str(content or message.get("refusal") or ""))
    usage = answer.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return Reply(
        text=text.encode("utf-8", "replace").decode(),  # lone surrogates can't be stored
        finish_reason=FinishReason.LENGTH if finish in ("length", "max_tokens") else FinishReason.STOP,
        usage=Usage(
            calls=1,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            seconds=seconds,
        ),
    )
