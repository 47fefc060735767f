import pytest

from bot.journal import MemoryJournal
from bot.llm.conversation import Conversation, Sampling
from bot.llm.journaled import JournaledModel
from bot.llm.transcript import transcript
from bot.records import Message
from tests.scripted import ScriptedModel

CONTEXT = "the files of the repository\n" * 2000
SAMPLING = Sampling(seed=0, max_tokens=100, temperature=0.5)


async def talk(model: JournaledModel, key: str, task: str, turns: int) -> None:
    opening = (Message(role="system", content="Be exact."), Message(role="user", content=f"{CONTEXT}{task}"))
    conversation = Conversation(model, key, opening, SAMPLING)
    for turn in range(turns):
        reply = await conversation.ask()
        assert not reply.failed
        conversation.say(f"{task}, again, {turn}")


@pytest.fixture
async def journal() -> MemoryJournal:
    journal = MemoryJournal()
    model = JournaledModel(ScriptedModel(lambda key, messages: f"reply to {messages[-1].content[-20:]}"), journal)
    for number in range(4):
        await talk(model, f"trajectory/{number}/test", "write a test", 3)
        await talk(model, f"trajectory/{number}/edit", f"write an edit for test {number}", 2)
    await talk(model, "relevance/a.py", "is it relevant?", 1)
    return journal


def read(journal: MemoryJournal, name: str) -> list[tuple[str, list[tuple[str, str]]]]:
    found = transcript(name, journal.entries, journal.entries.get)
    assert all(exchange.known for exchange in found)
    return [(one.key, [(m.role, m.text) for m in one.messages]) for one in found]


async def test_each_call_shows_what_is_new_in_it(journal: MemoryJournal) -> None:
    assert read(journal, "trajectory/2/") == [
        ("trajectory/2/test/1", [("system", "Be exact."), ("user", "")]),
        ("trajectory/2/test/2", [("user", "write a test, again, 0")]),
        ("trajectory/2/test/3", [("user", "write a test, again, 1")]),
        ("trajectory/2/edit/1", [("user", "n edit for test 2")]),
        ("trajectory/2/edit/2", [("user", "write an edit for test 2, again, 0")]),
    ]


async def test_a_message_is_whole_again(journal: MemoryJournal) -> None:
    found = transcript("trajectory/3/", journal.entries, journal.entries.get)
    opening = found[3].messages[0]
    assert opening.shared + opening.text == f"{CONTEXT}write an edit for test 3"
    assert opening.shared.startswith(CONTEXT)
    assert found[0].reply.text == "reply to ository\nwrite a test"


async def test_what_conversations_share_is_stored_once(journal: MemoryJournal) -> None:
    stored = sum(len(value) for key, value in journal.entries.items() if key.startswith(("prompt/", "text/")))
    assert stored < 1.3 * len(CONTEXT)
    assert "relevance" in str(list(journal.entries))
    assert not any("is it relevant" in value for value in journal.entries.values() if '"role"' in value)


async def test_names_are_told_apart(journal: MemoryJournal) -> None:
    model = JournaledModel(ScriptedModel(lambda key, messages: "reply"), journal)
    await talk(model, "trajectory/20/test", "write a test", 1)
    assert len(read(journal, "trajectory/2/")) == 5
    assert len(read(journal, "trajectory/20/")) == 1
    assert read(journal, "trajectory/99/") == []


async def test_replies_without_prompts_are_shown_alone(journal: MemoryJournal) -> None:
    entries = {key: value for key, value in journal.entries.items() if key.startswith("model/")}
    found = transcript("trajectory/0/", entries, entries.get)
    assert len(found) == 5
    assert not any(exchange.known or exchange.messages for exchange in found)


async def test_a_resumed_run_stores_nothing_twice(journal: MemoryJournal) -> None:
    before = dict(journal.entries)
    model = JournaledModel(ScriptedModel(lambda key, messages: "another reply"), journal)
    await talk(model, "trajectory/0/test", "write a test", 3)
    assert journal.entries == before
