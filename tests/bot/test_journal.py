import asyncio
from pathlib import Path

import pytest

from bot.contracts import Follow
from bot.journal import FileJournal, MemoryJournal, once
from bot.llm.journaled import JournaledModel
from bot.records import Ending, Execution, FinishReason, Message, ModelCall, Reply, SandboxJob, Usage
from bot.sandbox.journaled import JournaledSandbox

PASSED = Execution(ending=Ending.EXITED, exit_code=0)
QUESTION = (Message(role="user", content="why?"),)


class Model:
    """Answers from a list, and counts."""

    name, context_window = "m", 100

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.calls = 0

    async def reply(self, call: ModelCall) -> Reply:
        self.calls += 1
        return self.replies.pop(0)

    async def count_tokens(self, text: str) -> int:
        return len(text)


class Sandbox:
    """Runs a job once the gate is open, and counts."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = 0
        self.closed = False

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        self.started += 1
        await self.gate.wait()
        return PASSED

    async def close(self) -> None:
        self.closed = True


async def ask(model: JournaledModel, key: str = "k", messages=QUESTION) -> str:
    return (await model.reply(ModelCall(key=key, messages=messages, max_tokens=9, temperature=0.5))).text


async def test_once_makes_once_and_stores_nothing_of_a_failure():
    journal = MemoryJournal()
    made = iter([None, Reply(text="first"), Reply(text="second")])

    async def make() -> Reply:
        reply = next(made)
        if reply is None:
            raise RuntimeError("the model is away")
        return reply

    with pytest.raises(RuntimeError, match="away"):
        await once(journal, "k", Reply, make)
    assert (await once(journal, "k", Reply, make)).text == "first"
    assert (await once(journal, "k", Reply, make)).text == "first"
    assert (await once(journal, "l", Reply, make)).text == "second"


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_the_first_value_of_a_key_stays(kind: str, tmp_path: Path):
    journal = MemoryJournal() if kind == "memory" else FileJournal(tmp_path / "deep" / "j.jsonl")
    await journal.put("k", "1")
    await journal.put("k", "2")
    assert await journal.get("k") == "1"
    assert await journal.get("l") is None
    if isinstance(journal, FileJournal):
        journal.close()


async def test_a_file_journal_is_read_again(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    first = FileJournal(path)
    await first.put("k", '{"text": "zwei\\nlines ✓"}')
    await first.put("l", "2")
    first.close()
    second = FileJournal(path)
    assert second.entries == {"k": '{"text": "zwei\\nlines ✓"}', "l": "2"}
    second.close()


async def test_a_line_cut_off_anywhere_by_a_kill_is_dropped_and_the_file_goes_on(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    first = FileJournal(path)
    await first.put("k", "1")
    whole = path.stat().st_size
    await first.put("l", "ünfinished")
    first.close()
    data = path.read_bytes()
    for length in range(whole, len(data)):
        path.write_bytes(data[:length])
        again = FileJournal(path)
        assert await again.get("l") is None, f"cut after {length} bytes"
        await again.put("l", "made anew")
        again.close()
        third = FileJournal(path)
        assert third.entries == {"k": "1", "l": "made anew"}
        third.close()


async def test_a_finished_file_journal_is_removed(tmp_path: Path):
    journal = FileJournal(tmp_path / "j.jsonl")
    await journal.put("k", "1")
    journal.close(discard=True)
    assert not journal.path.exists()


async def test_a_model_call_is_paid_for_once():
    inner = Model(Reply(text="because", usage=Usage(calls=1, prompt_tokens=5)))
    journal = MemoryJournal()
    assert await ask(JournaledModel(inner, journal)) == "because"
    resumed = JournaledModel(Model(), journal)
    assert await ask(resumed) == "because"
    assert inner.calls == 1
    assert (resumed.name, resumed.context_window, await resumed.count_tokens("four")) == ("m", 100, 4)


@pytest.mark.parametrize("end", ["stop", "length"])
async def test_a_journal_of_an_earlier_version_is_replayed(end: str):
    """As stored when the end of a reply was a string: the very key and value."""
    usage = '"usage":{"calls":1,"prompt_tokens":5,"cached_tokens":0,"completion_tokens":2,"seconds":0.5}'
    journal = MemoryJournal()
    journal.entries["model/k/8bcb4c3bec53"] = f'{{"text":"because","finish_reason":"{end}",{usage}}}'
    reply = await JournaledModel(Model(), journal).reply(
        ModelCall(key="k", messages=QUESTION, max_tokens=9, temperature=0.5)
    )
    assert reply == Reply(
        text="because",
        finish_reason=FinishReason(end),
        usage=Usage(calls=1, prompt_tokens=5, completion_tokens=2, seconds=0.5),
    )


async def test_another_prompt_under_the_same_key_is_another_call():
    inner = Model(Reply(text="one"), Reply(text="two"))
    model = JournaledModel(inner, MemoryJournal())
    assert await ask(model) == "one"
    assert await ask(model, messages=(*QUESTION, Message(role="assistant", content="hm"))) == "two"


async def test_a_reply_that_stayed_an_error_is_asked_for_again():
    inner = Model(Reply(text="overloaded", finish_reason=FinishReason.ERROR), Reply(text="well"))
    model = JournaledModel(inner, MemoryJournal())
    assert await ask(model) == "overloaded"
    assert await ask(model) == "well"


async def test_an_equal_job_runs_once_also_while_it_is_under_way():
    inner = Sandbox()
    journal = MemoryJournal()
    sandbox = JournaledSandbox(inner, journal)
    jobs = [asyncio.create_task(sandbox.run(SandboxJob(command=("true",), timeout=n))) for n in (1, 2, 3)]
    jobs.append(asyncio.create_task(sandbox.run(SandboxJob(command=("false",)))))
    inner.gate.set()
    assert await asyncio.gather(*jobs) == [PASSED] * 4
    assert inner.started == 2
    resumed = Sandbox()
    assert await JournaledSandbox(resumed, journal).run(SandboxJob(command=("true",))) == PASSED
    assert resumed.started == 0


async def test_one_who_asked_may_leave_and_the_others_still_get_the_job():
    inner = Sandbox()
    sandbox = JournaledSandbox(inner, MemoryJournal())
    leaving, staying = (asyncio.create_task(sandbox.run(SandboxJob(command=("true",)))) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    inner.gate.set()
    assert await staying == PASSED
    assert inner.started == 1


async def test_a_job_ends_when_nobody_waits_for_it_any_more():
    class Ends(Sandbox):
        ended = 0

        async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
            try:
                return await super().run(job, follow)
            finally:
                self.ended += 1

    inner, journal = Ends(), MemoryJournal()
    sandbox = JournaledSandbox(inner, journal)
    leaving = [asyncio.create_task(sandbox.run(SandboxJob(command=("true",)))) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert (inner.started, inner.ended, journal.entries) == (1, 1, {})
    inner.gate.set()
    assert await sandbox.run(SandboxJob(command=("true",))) == PASSED
    assert inner.started == 2


async def test_closing_ends_what_runs():
    inner = Sandbox()
    sandbox = JournaledSandbox(inner, MemoryJournal())
    waiting = asyncio.create_task(sandbox.run(SandboxJob(command=("true",))))
    await asyncio.sleep(0)
    await sandbox.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert inner.closed
