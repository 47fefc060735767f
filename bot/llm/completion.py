"""What a chat completion says, wherever an endpoint puts it: text without the model's private thoughts. Pure."""

import re
from typing import Any

from bot.records import FinishReason, Reply, Usage

_THOUGHT = re.compile(r"^\s*<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking)>[ \t]*(?:\n|\Z)", re.IGNORECASE)
_WITHOUT_CONTENT = ("length", "content_filter")  # ends of replies that may rightly have no content
_OURS = re.compile(r"^\s*(?:<(?:edit|create|test|ranking)\b|<{5,} *SEARCH)", re.MULTILINE)


def without_thoughts(text: str) -> str:
    """The reply without `<think>...</think>`; a thought that was cut off leaves nothing. Pure."""
    stripped = _THOUGHT.sub("", text, count=1)
    if stripped is not text and stripped != text:
        return stripped.lstrip("\n")
    end = _THOUGHT_END.search(text)  # chat templates that open the thought in the prompt show only its end
    if end and not _OURS.search(text, 0, end.start()):
        return text[end.end() :].lstrip("\n")
    return text


def _elsewhere(message: dict[str, Any]) -> str | None:
    """What a message without content says in other fields; None where it says nothing at all.

    Servers whose parser of thoughts does not fit the model file the whole reply under the thoughts.
    """
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        shown = "\n".join(str(call.get("function") or call) for call in calls if isinstance(call, dict))
        return f"(a call of a tool, but there are none here: {shown[:2000]})"
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return thoughts if isinstance(thoughts, str) else None


def read_completion(answer: Any, seconds: float) -> Reply:
    """The reply in a chat completion. Raises `ValueError` where there is none."""
    if not isinstance(answer, dict):
        raise ValueError("the answer is no JSON object")
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
        text=text.encode("utf-8", "replace").decode(),  # a lone surrogate could not be stored
        finish_reason=FinishReason.LENGTH if finish in ("length", "max_tokens") else FinishReason.STOP,
        usage=Usage(
            calls=1,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            seconds=seconds,
        ),
    )
