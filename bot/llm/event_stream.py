"""An answer that comes as a stream of events, asked for or not, as one completion. Pure.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, with the chunks of OpenAI's API as data.
"""

import json
from collections.abc import Iterator
from typing import Any

_TEXTS = ("content", "reasoning_content", "reasoning")


def completion_of(text: str) -> object:
    """The completion that the events add up to, or the error among them; the text itself where it holds no event."""
    events = list(_events(text))
    if not events:
        return text
    message: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    finish = None
    for event in events:
        if event.get("error"):
            return event
        if isinstance(event.get("usage"), dict):
            whole["usage"] = event["usage"]
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        for name in _TEXTS:
            if isinstance(said, dict) and isinstance(said.get(name), str):
                message[name] = message.get(name, "") + said[name]
        finish = choice.get("finish_reason") or finish
    # A stream that breaks off has no finish reason: what there is may end anywhere.
    return {**whole, "choices": [{"message": message, "finish_reason": finish or "disconnected"}]}


def _events(text: str) -> Iterator[dict[str, Any]]:
    """The data of the events that are JSON objects. A line may end in any way, data may stand on several lines."""
    data: list[str] = []
    for line in [*text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n"), ""]:
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            try:
                found = json.loads("\n".join(data))
            except ValueError:
                found = None  # `[DONE]`
            if isinstance(found, dict):
                yield found
            data = []
