"""A chat completion, as endpoints really answer."""

from typing import Any

import pytest

from bot.llm.completion import read_completion
from bot.records import FinishReason


def completion(content: Any, finish: str | None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": finish, **choice}]}


@pytest.mark.parametrize("finish", ["stop", "eos", "end_turn", "stop_sequence", "STOP", None, "tool_calls"])
def test_a_reply_that_the_model_ended(finish: str | None) -> None:
    assert read_completion(completion("<done/>", finish), 0.0).finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    "finish",
    [
        *("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "model_context_window_exceeded"),
        *("FINISH_REASON_MAX_TOKENS", "limit", "content_filter", "SAFETY", "RECITATION", "sensitive", "repetition"),
    ],
)
def test_a_reply_that_was_cut_off(finish: str) -> None:
    assert read_completion(completion("<edit", finish), 0.0).cut_off


@pytest.mark.parametrize(
    "finish",
    [
        "error",
        "abort",
        "aborted",
        "cancelled",
        "insufficient_system_resource",
        "engine_error",
        "timeout",
        "ERROR",
        "failed",
    ],
)
def test_a_reply_that_the_endpoint_broke_off_is_none(finish: str) -> None:
    with pytest.raises(ValueError, match=f"finish_reason '{finish.lower()}'"):
        read_completion(completion('<edit path="a.py">\n<<<<<<< SEARCH\na', finish), 0.0)


def test_what_the_endpoint_says_of_it_is_told() -> None:
    with pytest.raises(ValueError, match="upstream went away"):
        read_completion(completion("<edit", "error", error={"code": 502, "message": "upstream went away"}), 0.0)


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "<done/>"}],
        [{"type": "reasoning", "text": "<approve/>"}, {"type": "text", "text": "<done/>"}],
        [{"type": "reasoning_text", "text": "<approve/>"}, {"type": "output_text", "text": "<done/>"}],
        [{"thought": True, "text": "hm"}, {"text": "<done/>"}],
        {"type": "text", "text": "<done/>"},
        ["<done", "/>"],
    ],
)
def test_parts_of_the_content_that_are_thoughts(parts: object) -> None:
    assert read_completion(completion(parts, "stop"), 0.0).text == "<done/>"


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [
        ({"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}, -1.0),
        ({"content": [{"token": "a", "logprob": 0}]}, 0.0),
        ({"tokens": ["a", "b"], "token_logprobs": [-0.5, -1.5]}, -1.0),
        ({"content": [{"token": "a", "logprob": -0.5}, {"token": "b"}]}, None),
        ({"content": [{"token": "a", "logprob": float("nan")}]}, None),
        ({"content": []}, None),
        ({"content": None}, None),
        ({"tokens": ["a"]}, None),
        ([-0.5], None),
        (None, None),
    ],
)
def test_the_mean_of_the_log_probabilities(logprobs: object, mean: float | None) -> None:
    assert read_completion(completion("a", "stop", logprobs=logprobs), 0.0).logprob == mean


@pytest.mark.parametrize(
    "usage",
    [None, [], "none", {"prompt_tokens": "many"}, {"prompt_tokens": float("nan"), "prompt_tokens_details": []},
     {"prompt_tokens": -3, "completion_tokens": None, "prompt_tokens_details": {"cached_tokens": True}}],
)  # fmt: skip
def test_a_usage_that_counts_nothing(usage: object) -> None:
    found = read_completion(completion("a", "stop") | {"usage": usage}, 0.0).usage
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "<done/>"}]}},
        {"message": {"content": None, "reasoning_content": "<done/>"}},
        {"text": "<done/>", "finish_reason": "stop"},
    ],
)
def test_a_reply_in_another_place(choice: dict[str, Any]) -> None:
    assert read_completion({"choices": [choice]}, 0.0).text == "<done/>"


@pytest.mark.parametrize("choices", [[None], ["hello"], {"0": {}}, [[]]])
def test_choices_that_are_none(choices: object) -> None:
    with pytest.raises(ValueError, match="no choice in"):
        read_completion({"choices": choices}, 0.0)
