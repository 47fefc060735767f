"""Bodies of requests to the engine that would cost it more than they cost their sender."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from engine.server.protocol import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest

MANY = 20_000
ASK: Any = {"messages": [{"role": "user", "content": "hi"}]}
CALL: Any = {"role": "assistant", "content": "x"}
BODIES: dict[str, tuple[type[BaseModel], Any]] = {
    "prompts": (CompletionRequest, {"prompt": [None] * MANY}),
    "prompts-of-tokens": (CompletionRequest, {"prompt": [[None] * MANY] * 3}),
    "tokens": (CompletionRequest, {"prompt": [1] * MANY + [-1] * MANY}),
    "stop": (CompletionRequest, {"prompt": "a", "stop": [None] * MANY}),
    "stop-tokens": (CompletionRequest, {"prompt": "a", "stop_token_ids": [None] * MANY}),
    "bad-words": (CompletionRequest, {"prompt": "a", "bad_words": [None] * MANY}),
    "choice": (CompletionRequest, {"prompt": "a", "structured_outputs": {"choice": [None] * MANY}}),
    "messages": (ChatRequest, {"messages": [None] * MANY}),
    "parts": (ChatRequest, {"messages": [{"role": "user", "content": [None] * MANY}]}),
    "calls": (ChatRequest, {"messages": [CALL | {"tool_calls": [None] * MANY}]}),
    "tools": (ChatRequest, ASK | {"tools": [None] * MANY}),
    "allowed": (
        ChatRequest,
        ASK | {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [None] * MANY}}},
    ),
    "tokenize": (TokenizeRequest, {"messages": [None] * MANY}),
    "detokenize": (DetokenizeRequest, {"tokens": [None] * MANY}),
}


@pytest.mark.parametrize("name", BODIES)
def test_many_wrong_items_are_few_errors(name: str) -> None:
    """Each error takes a kilobyte: a body of 64 MB took the memory of the machine."""
    kind, body = BODIES[name]
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert caught.value.error_count() < 10
