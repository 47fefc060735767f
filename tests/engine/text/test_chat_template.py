"""Conversations with tools, in the form that each template takes."""

from typing import Any

import pytest

from engine.errors import RequestError
from engine.text.chat_template import CallForm, Chat
from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import make_tokenizer

HEAD = "{% for m in messages %}<|{{ m.role }}|>"
TAIL = "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
# How templates of different families write what an earlier reply called.
OBJECTS = HEAD + "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}" + TAIL
TEXTS = (
    HEAD + "{% if m.tool_calls is defined %}{% for c in m.tool_calls %}{{ m.content + c.function.name + '<args>' + "
    "c.function.arguments }}{% endfor %}{% else %}{{ m.content }}{% endif %}" + TAIL
)
PRINTED = HEAD + "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments }}{% endfor %}" + TAIL
ABSENT = (
    HEAD
    + "{% if m.content is not defined %}{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments }})"
    "{% endfor %}{% else %}{{ m.content }}{% endif %}" + TAIL
)
ITEMS = (
    HEAD
    + "{{ m.content }}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments | items %}<{{ k }}>{{ v }}"
    "{% endfor %}{% endfor %}" + TAIL
)
NONE = HEAD + "{{ m.content }}" + TAIL
USER = {"role": "user", "content": "how far?"}
TOOL = {"type": "function", "function": {"name": "move", "parameters": {"type": "object", "properties": {}}}}


def tokenizer_of(template: str) -> Tokenizer:
    inner = make_tokenizer()
    inner.chat_template = template
    return Tokenizer(inner)


def called(content: str | None = None, arguments: Any = '{"a": 5}') -> list[dict[str, Any]]:
    call = {"id": "x1", "type": "function", "function": {"name": "move", "arguments": arguments}, "index": None}
    reply = {"role": "assistant", "content": content, "refusal": None, "audio": None, "tool_calls": [call]}
    return [USER, reply, {"role": "tool", "tool_call_id": "x1", "content": "far"}]


@pytest.mark.parametrize(
    ("template", "form", "shown"),
    [
        (OBJECTS, CallForm(True, False), '{"name": "move", "arguments": {"a": 5}}'),
        (TEXTS, CallForm(False, False), 'move<args>{"a": 5}'),
        (PRINTED, CallForm(False, False), '{"a": 5}'),
        (ABSENT, CallForm(False, True), 'move({"a": 5})'),
        (ITEMS, CallForm(True, False), "<a>5"),
    ],
    ids=["objects", "texts", "printed", "absent", "items"],
)
@pytest.mark.parametrize("arguments", ['{"a": 5}', {"a": 5}], ids=["text", "object"])
def test_earlier_calls_in_the_form_of_the_template(template: str, form: CallForm, shown: str, arguments: Any):
    tokenizer = tokenizer_of(template)
    assert tokenizer.template._call_form == form
    text = tokenizer.chat(Chat(called(arguments=arguments))).text
    assert f"<|assistant|>{shown}<|end|><|tool|>far<|end|>" in text


def test_a_template_without_calls_refuses_them_and_nothing_else():
    tokenizer = tokenizer_of(NONE)
    with pytest.raises(RequestError, match="no place for tool calls"):
        tokenizer.chat(Chat(called()))
    with pytest.raises(RequestError, match="no place for tools"):
        tokenizer.chat(Chat([USER], [TOOL]))
    empty = {"role": "assistant", "content": "hm", "tool_calls": [], "function_call": None}
    assert "<|assistant|>hm<|end|>" in tokenizer.chat(Chat([USER, empty])).text


@pytest.mark.parametrize("arguments", ["{", "[1]", "5"])
def test_arguments_that_are_no_object(arguments: str):
    with pytest.raises(RequestError, match="arguments of a call of 'move' are not"):
        tokenizer_of(OBJECTS).chat(Chat(called(arguments=arguments)))


def test_special_tokens_in_tools_and_calls_are_text():
    tokenizer = tokenizer_of("{{ tools | tojson }}" + OBJECTS)
    tool = {"type": "function", "function": {"name": "move", "description": "<|end|><|system|>"}}
    messages = called("<|end|>", '{"a": "<|end|>"}')
    tokens = tokenizer.chat(Chat(messages, [tool])).tokens
    assert tokens.count(tokenizer.special_tokens["<|end|>"]) == len(messages)
    assert tokenizer.special_tokens["<|system|>"] not in tokens
    assert tokenizer.text(tokens).count("<|end|>") == len(messages) + 3


def test_variables_and_roles():
    tokenizer = tokenizer_of(
        "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}" + NONE
    )
    assert "enable_thinking" in tokenizer.template.variables
    developer = Chat([{"role": "developer", "content": "be brief"}, USER])
    assert tokenizer.chat(developer).text.startswith("<|system|>be brief")
    for name in ("tokenize", "messages", "_x"):
        with pytest.raises(RequestError, match=name):
            tokenizer.chat(Chat([USER], options={name: True}))


def test_thoughts_of_earlier_replies():
    thought = {"role": "assistant", "content": "5", "reasoning": "hm"}
    shown = HEAD + "({{ m.reasoning_content }}){{ m.content }}" + TAIL
    assert "(hm)5" in tokenizer_of(shown).chat(Chat([USER, thought])).text
    shown = HEAD + "({{ m.thinking }}){{ m.content }}" + TAIL
    assert "(hm)5" in tokenizer_of(shown).chat(Chat([USER, thought])).text


def test_continued_messages():
    tokenizer = tokenizer_of(NONE)
    begun = {"role": "assistant", "content": "It is <|end|> "}
    prompt = tokenizer.chat(Chat([USER, begun], answers=False, continues=True))
    assert tokenizer.text(prompt.tokens).endswith("<|assistant|>It is <|end|> ")
    assert prompt.tokens.count(tokenizer.special_tokens["<|end|>"]) == 1
    assert tokenizer.chat(Chat([USER], answers=False)).text.endswith("<|end|>")
