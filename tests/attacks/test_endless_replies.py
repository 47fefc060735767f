"""Replies of a model that repeats itself without end, or as an issue told it to: attack 12. Reading them takes a time
that grows with their length: else the worker would lose its lease over them."""

from collections.abc import Callable
from typing import Any

import pytest

from bot.capuchin.training import evaluate
from bot.llm.choices import parse_deliberated
from bot.llm.completion import read_completion
from bot.llm.readings import parse_listing, parse_readings
from bot.llm.replies import parse_choice_turn, parse_edit_turn, parse_relevance, parse_test_turn
from bot.llm.thoughts import without_thoughts
from bot.llm.tool_calls import text_as_tags
from bot.records import FinishReason, Reply
from tests.growth import grows_evenly

KNOWN = ("a/b.py", "c.py")


def of_reply(read: Callable[..., object], *more: Any) -> Callable[[str], object]:
    return lambda text: read(Reply(text=text), *more)


READERS = {
    "thoughts": without_thoughts,
    "tool calls": text_as_tags,
    "listing": of_reply(parse_listing, KNOWN),
    "readings": of_reply(parse_readings, KNOWN),
    "relevance": of_reply(parse_relevance),
    "test": of_reply(parse_test_turn),
    "edit": of_reply(parse_edit_turn),
    "choice": of_reply(parse_choice_turn),
    "deliberation": of_reply(parse_deliberated),
    "edits of an evaluation": evaluate.EDIT.findall,
    "test of an evaluation": evaluate.TEST.search,
}
PARTS = (
    *("</think>", "<think>\n", "<|channel|>a", "<|channel|>final<|message|>"),
    *("<tool_call>{", "<function=a>", "<function=a><parameter=b>", "[TOOL_CALLS][", '{"a":'),
    *(" ", "\n", "a", "<a", "<done/>", "<edit ", "<irrelevant ", "<relevant path="),
    *("<<<<<<< SEARCH\n", '<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n</edit>\n', "<test>\n"),
    *(
        '<edit path="a">\n<<<<<<< SEARCH\n',
        '<edit path="a">\n<<<<<<< SEARCH\n\n=======\n',
        '<test path="test_issue.py">\n',
    ),
)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("part", PARTS)
def test_attack_12_no_reply_takes_long(name: str, part: str):
    assert grows_evenly(READERS[name], part, 12_000)


@pytest.mark.parametrize(
    ("name", "begin", "part", "end"),
    [
        ("readings", "<irrelevant", " ", "!"),
        ("readings", "<irrelevant", "\n", "!"),
        ("thoughts", "<|channel|>", "a", "<"),
        ("thoughts", '<edit path="a.py">\n', "</think>", ""),
        ("edit", "<edit", " ", ">"),
        ("edit", "<edit path", " ", ">"),
        ("tool calls", "", "\t", "x"),
    ],
)
def test_attack_12_nor_does_one_with_a_begin_and_an_end(name: str, begin: str, part: str, end: str):
    assert grows_evenly(lambda text: READERS[name](begin + text + end), part, 12_000)


def test_attack_12_a_reply_of_many_megabytes_counts_as_cut_off():
    answer = {"choices": [{"message": {"content": "a" * 3_000_000}, "finish_reason": "stop"}]}
    reply = read_completion(answer, 1.0)
    assert (len(reply.text), reply.finish_reason) == (2_000_000, FinishReason.LENGTH)
