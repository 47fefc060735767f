"""Reads the reply out of a chat completion, wherever an endpoint puts it, without the model's thoughts. Pure."""

import math
import re
from typing import Any

from bot.llm.thoughts import without_thoughts
from bot.records import FinishReason, Reply, Usage

_WITHOUT_CONTENT = ("length", "content_filter")  # finish reasons of replies that may be empty
_CUT = ("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit", "context_length")
_FAILED = re.compile(
    r"error|abort|cancel|fail|time_?out|insufficient|interrupt|unavailable|overload|disconnect|exception", re.IGNORECASE
)
_PRIVATE = ("thinking", "reasoning", "thought", "redacted_thinking", "reasoning_content")  # kinds of content parts


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


def _part(part: Any) -> str:
    """The text of one part of the content; "" for a thought."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") in _PRIVATE or part.get("thought") is True:
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _mean_logprob(logprobs: Any) -> float | None:
    """Of the reply's tokens; None where the endpoint gives none."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    tokens = content if isinstance(content, list) else []
    found = [one.get("logprob") for one in tokens if isinstance(one, dict)]
    numbers = [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(tokens) else None


def read_completion(answer: Any, seconds: float) -> Reply:
    """The reply in a chat completion. Raises `ValueError` where there is none."""
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")
    if not answer.get("choices"):
        raise ValueError(f"no choices in {str(answer)[:200]}")
    choice = answer["choices"][0]
    finish = str(choice.get("finish_reason") or "stop").lower()
    if _FAILED.search(finish):  # what there is of the reply may end anywhere
        said = (choice.get("error") or {}).get("message") if isinstance(choice.get("error"), dict) else ""
        raise ValueError(f"the endpoint broke the reply off with finish_reason {finish!r}{': ' if said else ''}{said}")
    message = choice.get("message") or {}
    content = message.get("content")
    if isinstance(content, list):  # parts, as some endpoints answer
        content = "".join(map(_part, content))
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
        logprob=_mean_logprob(choice.get("logprobs")),
        finish_reason=FinishReason.LENGTH if finish in _CUT or "context_window" in finish else FinishReason.STOP,
        usage=Usage(
            calls=1,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            seconds=seconds,
        ),
    )
