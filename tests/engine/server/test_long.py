"""What is long is read and written beside the event loop, so that others are answered meanwhile."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from engine.server import body as bodies
from engine.server import fields, long_json
from engine.server.answers import Answer
from engine.server.long_json import AT_ONCE, read_json, write_json
from tests.engine.server.parrot import HERMES, parroting
from tests.patience import PATIENCE

LONG = {"role": "user", "content": "x " * AT_ONCE}
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def in_turns(text: str) -> Any:
    return json.loads(text, cls=long_json._InTurns)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(st.integers() | inner, min_size=3),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES, st.sampled_from([None, 2]), st.integers(1, 9))
def test_long_json_is_read_as_short_json(value: Any, indent: int | None, piece: int):
    text = json.dumps(value, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_json, "_NUMBERS", re.compile(rf"[-+.0-9eE \t\n\r,]{{1,{piece}}}"))
        assert in_turns(text) == value
    assert json.loads(write_json(value)) == value


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["[", "]", ",", " ", "1", "-2.5e3", '"a"', "null", "{", "}", ":", "."]), max_size=9))
def test_long_json_is_refused_as_short_json_is(parts: list[str]):
    text = "".join(parts)
    found = []
    for read in (json.loads, in_turns):
        try:
            found.append(read(text))
        except json.JSONDecodeError:
            found.append("refused")
    assert found[0] == found[1]


def test_no_long_list_is_read_or_checked_at_once(monkeypatch: pytest.MonkeyPatch):
    tokens = list(range(100_000))
    text = json.dumps({"prompt": tokens})
    read: list[int] = []

    def counted(given: Any, **how: Any) -> Any:
        read.append(len(given))
        return loads(given, **how)

    loads = json.loads
    monkeypatch.setattr(long_json.json, "loads", counted)
    assert read_json(text.encode())["prompt"] == tokens
    assert read[0] == len(text)
    assert len(text) / 2**16 < len(read[1:]) < len(text) / 2**15
    assert max(read[1:]) <= 2**16 + 2

    checked: list[int] = []
    fields._in_pieces(tokens, lambda piece: checked.append(len(piece)))
    assert sum(checked) == len(tokens)
    assert max(checked) == fields.PIECE


def test_what_is_wrong_with_a_long_list_is_told_with_its_place():
    check = TypeAdapter(fields.TokenIds)
    wrong: list[Any] = list(range(3 * fields.PIECE))
    assert check.validate_python(wrong) == wrong
    assert check.validate_python([]) == []
    wrong[2 * fields.PIECE + 5] = "x"
    with pytest.raises(ValidationError) as caught:
        check.validate_python(wrong)
    assert caught.value.errors()[0]["loc"] == (2 * fields.PIECE + 5,)
    with pytest.raises(ValidationError, match="valid list"):
        check.validate_python("x")


@pytest.mark.parametrize("item", ['""', "[]", "{}", "null", '{"a": 1}'])
def test_a_long_body_of_too_many_values_is_refused(item: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_json, "MAX_VALUES", 1000)
    monkeypatch.setattr(long_json, "AT_ONCE", 100)
    with pytest.raises(HTTPException) as caught:
        read_json(f"[{','.join([item] * 1001)}]".encode())
    assert caught.value.detail == "the body has more than 1000 values"
    assert read_json(f"[{','.join(['1'] * 5000)}]".encode()) == [1] * 5000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with parroting(HERMES, lambda _: "yes") as found:
        yield found


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[Callable[[], None]]:
    """A function that waits where it is called until it may go on; gives a function that waits until it is called."""
    called, go_on, function = threading.Event(), threading.Event(), getattr(owner, name)

    def waits(*given: Any, **more: Any) -> Any:
        called.set()
        assert go_on.wait(PATIENCE)
        return function(*given, **more)

    monkeypatch.setattr(owner, name, waits)
    try:
        yield lambda: None if called.wait(PATIENCE) else pytest.fail(f"{name} is not called")
    finally:
        go_on.set()


@pytest.mark.parametrize(
    ("owner", "name", "path", "body"),
    [
        (bodies, "read_json", "/v1/chat/completions", {**ASKED, "messages": [LONG]}),
        (bodies, "read_json", "/v1/completions", {"prompt": [5] * AT_ONCE}),
        (bodies, "read_json", "/tokenize", {"prompt": LONG["content"]}),
        (Answer, "written", "/v1/completions", {"prompt": "a", "max_tokens": 2, "logprobs": 2}),
        (Answer, "written", "/v1/chat/completions", {**ASKED, "logprobs": True, "n": 3}),
    ],
)
def test_others_are_answered_while_something_long_is_read_or_written(
    url: str, owner: Any, name: str, path: str, body: Any, monkeypatch: pytest.MonkeyPatch
):
    with (
        httpx.Client(base_url=url, timeout=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
        held(monkeypatch, owner, name) as reached,
    ):
        asked = threads.submit(client.post, path, json=body)
        reached()
        with httpx.Client(base_url=url, timeout=PATIENCE) as other:
            assert other.get("/health").json() == {"status": "ok"}
        assert not asked.done()


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_with_a_long_body_is_told_as_of_a_short_one(url: str, stream: bool):
    wrong = [
        ("/v1/completions", {"prompt": "a", "stream": stream, "temperature": "hot"}),
        ("/v1/chat/completions", {"messages": [{"role": 5, "content": "a"}], "stream": stream}),
        ("/v1/chat/completions", {"messages": [], "stream": stream}),
        ("/tokenize", {"prompt": 5}),
    ]
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        for path, body in wrong:
            short = client.post(path, json=body)
            padded = json.dumps(body) + " " * AT_ONCE
            long = client.post(path, content=padded, headers={"content-type": "application/json"})
            assert (short.status_code, long.status_code) == (400, 400)
            assert short.json() == long.json()
        texts = {"{" + " " * AT_ONCE: "not valid JSON", "[]" + " " * AT_ONCE: "no JSON object"}
        for text, said in texts.items():
            answer = client.post("/v1/completions", content=text, headers={"content-type": "application/json"})
            assert answer.status_code == 400
            assert said in answer.json()["error"]["message"]
