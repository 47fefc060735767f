"""Which replica a request goes to."""

import json
from collections import Counter
from typing import Any

import pytest

from engine.cluster.routing import FIRST_BLOCKS, Load, Prefix, Router, load_of, order

NAMES = ["0", "1", "2", "3"]


def chat(*messages: tuple[str, str], **more: Any) -> Load:
    said = [{"role": role, "content": text} for role, text in messages]
    return load_of("/v1/chat/completions", json.dumps({"messages": said, **more}).encode())


def text(prompt: Any, **more: Any) -> Load:
    return load_of("/v1/completions", json.dumps({"prompt": prompt, **more}).encode())


def prefix(load: Load) -> Prefix:
    assert load.prefix is not None
    return load.prefix


def prefixes(count: int) -> list[Load]:
    return [text(f"prompt {number}") for number in range(count)]


def test_turns_and_siblings_of_a_conversation_begin_alike():
    first = chat(("system", "be brief"), ("user", "hi"))
    assert chat(("system", "be brief"), ("user", "hi"), temperature=1, n=4, seed=3).prefix == first.prefix
    turns = chat(("system", "be brief"), ("user", "hi"), ("assistant", "hello"), ("user", "and now?"))
    assert turns.prefix == first.prefix
    assert chat(("system", "be long"), ("user", "hi")).prefix != first.prefix
    assert chat(("system", "be brief"), ("user", "hi"), tools=[{"type": "function"}]).prefix != first.prefix


def test_long_prompts_that_begin_alike_have_one_owner_and_differ_as_conversations():
    rules = "rule " * FIRST_BLOCKS
    one, two = prefix(chat(("system", rules), ("user", "a"))), prefix(chat(("system", rules), ("user", "b")))
    assert one.blocks == two.blocks
    assert one.conversation != two.conversation
    assert text(rules + "a").prefix == text(rules + "b").prefix
    tokens = list(range(5000))
    assert prefix(text([*tokens, 1])).blocks == prefix(text([*tokens, 2])).blocks


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"5", b'{"prompt": [NaN]}', b"\xff", b"[" + b"9" * 5000 + b"]"])
def test_bodies_that_are_not_valid_are_left_to_a_replica(body: bytes):
    assert load_of("/v1/completions", body) == Load(None)


def test_rows_are_choices_of_all_prompts():
    assert text("a").rows == 1
    assert text("a", n=5).rows == 5
    assert text(["a", "b"], n=5).rows == 10
    assert text([[1, 2], [3]]).rows == 2
    assert text([1, 2, 3]).rows == 1
    assert text("a", n=True).rows == 1
    assert text("a", n=-3).rows == 1
    assert text("a", n="5").rows == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"messages": 3}', b'{"messages": [3, null]}', b"\xff\xfe", b'{"n": {}}'],
)
def test_bodies_that_are_not_valid_are_a_replicas_to_refuse(body: bytes):
    router = Router(NAMES)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/models"):
        assert router.take(load_of(path, body), NAMES) in NAMES


def test_a_lone_surrogate_is_no_error():
    assert load_of("/v1/completions", rb'{"prompt": "\ud800"}').prefix is not None


def test_every_prompt_has_one_order_and_all_replicas_own_a_share():
    owners = Counter(order(prefix(load).blocks, NAMES)[0] for load in prefixes(400))
    assert sorted(owners) == NAMES
    assert min(owners.values()) > 60
    blocks = prefix(text("x")).blocks
    assert order(blocks, NAMES) == order(blocks, NAMES[::-1])


def test_a_replica_that_goes_moves_its_own_prompts_alone():
    for load in prefixes(200):
        whole = order(prefix(load).blocks, NAMES)
        assert order(prefix(load).blocks, ["0", "1", "3"]) == [name for name in whole if name != "2"]


def test_requests_of_a_prompt_stay_together_while_there_is_room():
    router = Router(NAMES, few=8, spare=1.25)
    load = text("the same")
    owner, second = order(prefix(load).blocks, NAMES)[:2]
    assert [router.take(load, NAMES) for _ in range(8)] == [owner] * 8
    assert [router.take(load, NAMES) for _ in range(8)] == [second] * 8, "what spills stays together, too"
    assert router.spilled == 8


def test_no_replica_has_more_than_its_share():
    router = Router(NAMES, few=8, spare=1.25)
    load = text("the same")
    for taken in range(1, 400):
        router.take(load, NAMES)
        assert max(router.rows.values()) <= max(8, 1.25 * taken / 4)
    assert sum(router.rows.values()) == 399


def test_a_conversation_stays_where_it_spilled_to():
    router = Router(NAMES, few=1, spare=1.0)
    rules = "rule " * FIRST_BLOCKS
    one, two = chat(("system", rules), ("user", "a")), chat(("system", rules), ("user", "b"))
    owner = router.take(one, NAMES)
    other = router.take(two, NAMES)
    assert other != owner
    router.release(one, owner)
    router.release(two, other)
    assert router.take(two, NAMES) == other
    assert router.take(one, NAMES) == owner
    router.release(two, other)
    assert router.take(two, [name for name in NAMES if name != other]) != other, "unless that one is down"


def test_a_request_larger_than_any_share_goes_where_least_is():
    router = Router(["0", "1"], few=8)
    small, large = text("small", n=4), text("large", n=1000)
    busy = router.take(small, ["0", "1"])
    assert router.take(large, ["0", "1"]) != busy
    assert router.take(large, ["0", "1"]) == busy


def test_what_has_no_prompt_goes_where_least_is_and_is_released():
    router = Router(["0", "1"])
    other = load_of("/v1/models", b"")
    assert [router.take(other, ["0", "1"]) for _ in range(4)] == ["0", "1", "0", "1"]
    router.release(other, "1")
    assert router.take(other, ["0", "1"]) == "1"
    assert router.spilled == 0


def test_old_conversations_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.cluster.routing.REMEMBERED", 3)
    router = Router(NAMES)
    for load in prefixes(10):
        router.release(load, router.take(load, NAMES))
    assert len(router._places) == 3
