"""Tests of the scripted model, which many tests rely on."""

import json
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from bot.records import Message, ModelCall
from tests.scripted import Mode, ScriptedModel, load, rules
from tests.scripted_endpoint import scripted_endpoint

HELLO = [Message(role="user", content="hello")]


def test_rules_go_through_their_replies_by_conversation() -> None:
    script = rules([("^a/", ["one", "two"]), ("hello", "by text")])
    later = [*HELLO, Message(role="assistant", content="one"), *HELLO]
    assert [script("a/1", HELLO), script("a/2", later), script("a/3", [*later, *later])] == ["one", "two", "two"]
    assert script("", HELLO) == "by text"
    assert "nothing to say" in str(script("b", HELLO))


def test_scripts_from_files(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps([["a", ["x"]]]))
    (tmp_path / "s.py").write_text("def reply(key, messages):\n    return key.upper()\n")
    assert load(tmp_path / "s.json")("a", HELLO) == "x"
    assert load(tmp_path / "s.py")("a", HELLO) == "A"


def test_the_deployment_s_script_is_read_where_there_is_no_pytest() -> None:
    code = "import sys\nsys.modules['pytest'] = None\nimport tests.integration.held_reply, tests.scripted_endpoint"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)


@pytest.mark.parametrize(("mode", "failed"), [(Mode.NORMAL, False), (Mode.EMPTY, False), (Mode.ERROR, True)])
async def test_in_process(mode: Mode, failed: bool) -> None:
    model = ScriptedModel(rules([("", "text")]), mode=mode)
    call = ModelCall(key="k", messages=HELLO, max_tokens=3, temperature=0, seed=1)
    reply = await model.reply(call)
    assert reply.failed is failed
    assert model.calls == [call]


async def test_streaming_and_plain_replies_agree() -> None:
    with scripted_endpoint(rules([("", "a reply of more than sixteen characters")])) as endpoint:
        async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key="x") as client:
            asked = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
            plain = await client.chat.completions.create(**asked)  # type: ignore[call-overload]
            stream = await client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert plain.choices[0].message.content == "".join(parts) == "a reply of more than sixteen characters"
