"""Tools and thoughts through the stock `openai` client, streamed and not."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import httpx
import openai
import pytest
from openai import OpenAI

from engine.loop import EngineLoop
from engine.server.api import create_app
from engine.server.service import Serving
from engine.text.replies.formats import ToolFormatName
from tests.engine.server import parrot
from tests.engine.server.serving import serve
from tests.patience import PATIENCE

ASK: Any = [{"role": "user", "content": "how far?"}]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "way": {"enum": ["up", "down"]}},
    "required": ["a", "way"],
    "additionalProperties": False,
}
MOVE: Any = {"type": "function", "function": {"name": "move", "description": "moves", "parameters": SCHEMA}}
REST: Any = {"type": "function", "function": {"name": "rest"}}
CALL = '<tool_call>\n{"name": "move", "arguments": {"a": 5, "way": "up"}}\n</tool_call>'
HARMONY_CALL = (
    "<|channel|>analysis<|message|>far<|end|><|start|>assistant<|channel|>commentary to=functions.move "
    '<|constrain|>json<|message|>{"a": 5, "way": "up"}<|call|>'
)


@contextmanager
def client_of(template: str, reply: Callable[[str], str] | str, serving: Serving | None = None) -> Iterator[OpenAI]:
    """A client of a model that says `reply`."""
    say = reply if callable(reply) else lambda prompt: reply
    with (
        parrot.parroting(template, say, serving) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=PATIENCE) as client,
    ):
        yield client


def streamed(client: OpenAI, **asked: Any) -> Any:
    """The message that the client's own accumulation of a stream ends with, its finish reason and all deltas."""
    deltas = []
    with client.chat.completions.stream(model="tiny", **asked) as stream:
        for event in stream:
            if event.type == "chunk":
                deltas += [choice.delta for choice in event.chunk.choices]
        (choice,) = stream.get_final_completion().choices
    return choice.message, choice.finish_reason, deltas


@pytest.mark.parametrize(
    ("template", "reply", "words"),
    [
        (parrot.HERMES, f"I go.\n{CALL}\n{CALL}", "I go."),
        (
            parrot.MISTRAL,
            'I go.[TOOL_CALLS]move[ARGS]{"a": 5, "way": "up"}[TOOL_CALLS]move[ARGS]{"a": 5, "way": "up"}',
            "I go.",
        ),
        (parrot.HERMES, f"{CALL}{CALL}", None),
    ],
    ids=["hermes", "mistral", "no-words"],
)
def test_calls_streamed_and_not(template: str, reply: str, words: str | None):
    with client_of(template, reply) as client:
        answer = client.chat.completions.create(model="tiny", messages=ASK, tools=[MOVE, REST])
        (choice,) = answer.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", words)
        calls = choice.message.tool_calls
        assert calls is not None
        assert [json.loads(call.function.arguments) for call in calls] == [{"a": 5, "way": "up"}] * 2  # type: ignore[union-attr]
        assert len({call.id for call in calls}) == 2
        if template == parrot.MISTRAL:
            assert all(len(call.id) == 9 and call.id.isalnum() for call in calls)
        message, reason, deltas = streamed(client, messages=ASK, tools=[MOVE, REST])
        assert (reason, message.content or None) == ("tool_calls", words)
        assert [call.function.arguments for call in message.tool_calls] == [call.function.arguments for call in calls]  # type: ignore[union-attr]
        begun = [call for delta in deltas for call in delta.tool_calls or () if call.id]
        assert [(call.index, call.type, call.function.name) for call in begun] == [
            (0, "function", "move"),
            (1, "function", "move"),
        ]


def test_harmony_calls_and_thoughts():
    with client_of(parrot.HARMONY, HARMONY_CALL) as client:
        (choice,) = client.chat.completions.create(model="tiny", messages=ASK, tools=[MOVE]).choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert choice.message.model_dump()["reasoning_content"] == "far"
        assert choice.message.tool_calls is not None
        assert choice.message.tool_calls[0].function.name == "move"  # type: ignore[union-attr]
        message, reason, deltas = streamed(client, messages=ASK, tools=[MOVE])
        assert (reason, len(message.tool_calls)) == ("tool_calls", 1)
        assert "".join(delta.model_dump().get("reasoning_content") or "" for delta in deltas) == "far"
    words = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>So.<|return|>"
    with client_of(parrot.HARMONY, words) as client:
        (choice,) = client.chat.completions.create(model="tiny", messages=ASK).choices
        assert (choice.finish_reason, choice.message.content) == ("stop", "So.")


@pytest.mark.parametrize("reply", ['<tool_call>{"name": "mo', "<tool_call>move(5)</tool_call>", "just words"])
def test_what_is_no_call_is_content(reply: str):
    with client_of(parrot.HERMES, reply) as client:
        (choice,) = client.chat.completions.create(model="tiny", messages=ASK, tools=[MOVE]).choices
        assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", reply, None)
        message, reason, _ = streamed(client, messages=ASK, tools=[MOVE])
        assert (reason, message.content) == ("stop", reply)


def test_a_call_that_the_limit_cuts_is_content_and_says_so():
    with client_of(parrot.HERMES, CALL) as client:
        (choice,) = client.chat.completions.create(model="tiny", messages=ASK, tools=[MOVE], max_tokens=20).choices
        assert choice.finish_reason == "length"
        assert CALL.startswith(choice.message.content or "?")


def test_no_calls_without_tools_and_none_where_they_are_forbidden():
    seen: list[str] = []

    def reply(prompt: str) -> str:
        seen.append(prompt)
        return CALL

    with client_of(parrot.HERMES, reply) as client:
        (choice,) = client.chat.completions.create(model="tiny", messages=ASK).choices
        assert (choice.finish_reason, choice.message.content) == ("stop", CALL)
        (choice,) = client.chat.completions.create(model="tiny", messages=ASK, tools=[MOVE], tool_choice="none").choices
        assert (choice.finish_reason, choice.message.content) == ("stop", CALL)
        assert not any('"move"' in prompt.partition("<|user|>")[0] for prompt in seen)
        allowed: Any = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "rest"}}]},
        }
        client.chat.completions.create(model="tiny", messages=ASK, tools=[MOVE, REST], tool_choice=allowed)
        shown = seen[-1].partition("<|user|>")[0]
        assert '"rest"' in shown
        assert '"move"' not in shown


def test_an_agent_that_calls_tools_until_it_is_done():
    """The loop of OpenAI's guide, with messages passed back as the client gives them."""
    prompts: set[str] = set()

    def reply(prompt: str) -> str:
        prompts.add(prompt)
        gone = prompt.count("RESULT")
        return f"I am at {gone}." if gone == 3 else f"Step {gone}.\n" + CALL.replace("5", str(gone))

    with client_of(parrot.HERMES, reply) as client:
        messages: list[Any] = [{"role": "developer", "content": "be quick"}, *ASK]
        for _ in range(9):
            message = client.chat.completions.create(model="tiny", messages=messages, tools=[MOVE]).choices[0].message
            messages.append(message)
            for call in message.tool_calls or ():
                arguments = json.loads(call.function.arguments)  # type: ignore[union-attr]
                messages.append({"role": "tool", "tool_call_id": call.id, "content": f"now at {arguments['a']}"})
            if not message.tool_calls:
                break
    assert messages[-1].content == "I am at 3."
    assert len(messages) == 2 + 3 * 2 + 1
    last = max(prompts, key=len)
    assert last.count('CALLED move {"a": 2, "way": "up"}') == 1
    assert "<|system|>be quick" in last
    assert "RESULT now at 2" in last


NOT_DEMANDED = ("olmo3", "lfm2")
FORMS = [*(form for form in get_args(ToolFormatName) if form not in NOT_DEMANDED), "mistral-list"]


@pytest.mark.parametrize("form", FORMS)
def test_demanded_calls_follow_their_schema_whatever_the_model(form: str):
    """Random weights: nothing but the grammar makes these calls."""
    template = {"mistral": parrot.MISTRAL, "harmony": parrot.HARMONY}.get(form, parrot.HERMES)
    name = form.removesuffix("-list")
    core = parrot.random_core(template)
    serving = Serving(tool_parser=name, reasoning_parser="auto" if form == "harmony" else "none")
    with (
        serve(create_app(EngineLoop(core, threads=1), "tiny", serving=serving)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=PATIENCE) as client,
    ):
        asked: Any = {"model": "tiny", "messages": ASK, "tools": [MOVE, REST], "max_tokens": 600, "seed": 1}
        blanks = {token for token in range(core.model.vocabulary) if not core.tokenizer.token_bytes(token).strip()}
        asked["logit_bias"] = {str(token): -90 for token in blanks}  # a random model loves them
        if form == "harmony":  # else it thinks for ever
            asked["logit_bias"][str(core.tokenizer.special_tokens["<|end|>"])] = 100
        named: Any = {"type": "function", "function": {"name": "move"}}
        for choice, once in (("required", True), (named, None)):
            answer = client.chat.completions.create(
                **asked, tool_choice=choice, parallel_tool_calls=False if once else openai.omit
            )
            (found,) = answer.choices
            assert found.finish_reason == "tool_calls", found
            assert found.message.tool_calls is not None
            (call,) = found.message.tool_calls
            arguments = json.loads(call.function.arguments)  # type: ignore[union-attr]
            if call.function.name == "move":  # type: ignore[union-attr]
                assert set(arguments) == {"a", "way"}
                assert 0 <= arguments["a"] <= 99
                assert arguments["way"] in ("up", "down")
            else:
                assert (call.function.name, choice) == ("rest", "required")  # type: ignore[union-attr]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
    ({"tools": [MOVE, MOVE]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
    ({"tools": [MOVE], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [MOVE], "tool_choice": "must"}, "tool_choice"),
    (
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": 5}}}
            ],
            "tool_choice": "required",
        },
        "tools",
    ),
    (
        {"messages": [*ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages",
    ),
    ({"messages": [*ASK, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]}, "messages"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"reasoning_effort": "much"}, "reasoning_effort"),
    ({"prompt_logprobs": 2, "stream": True}, "prompt_logprobs"),
]


def test_wrong_requests_are_refused_by_the_field():
    with parrot.parroting(parrot.HERMES, lambda prompt: "x") as url:
        for more, field in REFUSED:
            answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK, **more}, timeout=PATIENCE)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field), (more, answer.text)
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    for template, serving in ((plain, None), (parrot.HERMES, Serving(tool_parser="none"))):
        with parrot.parroting(template, lambda prompt: "x", serving) as url:
            answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK, "tools": [MOVE]}, timeout=PATIENCE)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
