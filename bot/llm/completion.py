"""Reads the reply out of a chat completion, wherever an endpoint puts it, without the model's thoughts. Pure."""

import math
import re
from typing import Any

from bot.llm.thoughts import without_thoughts
from bot.llm.tool_calls import calls_as_tags, text_as_tags
from bot.records import FinishReason, Reply, Usage

# Finish reasons of replies that end where the endpoint wanted, and may be empty.
_CUT = re.compile(r"length|max_(output_)?tokens|token_?limit|context_(window|limit)|\blimit\b|budget")
_WITHHELD = re.compile(
    r"filter|safety|sensitive|recitation|blocklist|prohibited|spii|guardrail|malformed|repetition|language"
)
_MOST = 10**9  # tokens; no window is longer
_LONGEST = 2_000_000  # characters of a reply, thoughts included; no model writes more
_FAILED = re.compile(
    r"error|abort|cancel|fail|time_?out|insufficient|interrupt|unavailable|overload|disconnect|exception", re.IGNORECASE
)
_PRIVATE = re.compile(r"think|reason|thought|summary")  # kinds of content parts


def _elsewhere(message: dict[str, Any]) -> str | None:
    """The reply in other fields of a message without content; None if they are empty too.

    A server whose reasoning parser does not fit the model puts the whole reply into the reasoning field.
    """
    calls = message.get("tool_calls") or [message.get("function_call")]
    if isinstance(calls, list) and any(isinstance(call, dict) for call in calls):
        if tags := calls_as_tags(calls):
            return tags
        shown = "\n".join(str(call.get("function") or call) for call in calls if isinstance(call, dict))
        return f"(a tool call, but there are none here: {shown[:2000]})"
    details = message.get("reasoning_details")
    parts = [part.get("text") for part in details if isinstance(part, dict)] if isinstance(details, list) else []
    thoughts = message.get("reasoning_content") or message.get("reasoning") or "".join(filter(None, parts)) or None
    return thoughts if isinstance(thoughts, str) else None


def _part(part: Any) -> str:
    """The text of one part of the content; "" for a thought."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or _PRIVATE.search(str(part.get("type"))) or part.get("thought") is True:
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _mean_logprob(logprobs: Any) -> float | None:
    """Of the reply's tokens; None where the endpoint gives none."""
    given = logprobs if isinstance(logprobs, dict) else {}
    content, older = given.get("content"), given.get("token_logprobs")  # the second: of the older completions
    tokens = content if isinstance(content, list) else older if isinstance(older, list) else []
    found = [one.get("logprob") if isinstance(one, dict) else one for one in tokens]
    numbers = [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(tokens) else None


def _count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return min(max(0, int(value)), _MOST) if number else 0


def read_completion(answer: Any, seconds: float) -> Reply:
    """The reply in a chat completion. Raises `ValueError` where there is none."""
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")
    if not answer.get("choices"):
        raise ValueError(f"no choices in {str(answer)[:200]}")
    choices = answer["choices"]
    choice = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, dict):
        raise ValueError(f"no choice in {str(answer)[:200]}")
    finish = str(choice.get("finish_reason") or "stop").lower()
    if _FAILED.search(finish):  # what there is of the reply may end anywhere
        said = (choice.get("error") or {}).get("message") if isinstance(choice.get("error"), dict) else ""
        raise ValueError(f"the endpoint broke the reply off with finish_reason {finish!r}{': ' if said else ''}{said}")
    cut = bool(_CUT.search(finish) or _WITHHELD.search(finish))
    message = choice.get("message") or {"content": choice.get("text")}  # the second: of the older completions
    content = message.get("content")
    content = [content] if isinstance(content, dict) else content
    if isinstance(content, list):  # parts, as some endpoints answer
        content = "".join(map(_part, content))
    if content is None and not cut and not message.get("refusal"):
        content = _elsewhere(message)
        if content is None:
            raise ValueError("the message has no content")
    elif not str(content or "").strip() and not cut:
        content = _elsewhere(message) or content
    said = str(content or message.get("refusal") or "")
    cut = cut or len(said) > _LONGEST
    text = text_as_tags(without_thoughts(said[:_LONGEST], ended=not cut))
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    return Reply(
        text=text.encode("utf-8", "replace").decode(),  # lone surrogates can't be stored
        logprob=_mean_logprob(choice.get("logprobs")),
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
        usage=Usage(
            calls=1,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            cached_tokens=_count(details.get("cached_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            seconds=seconds,
        ),
    )
