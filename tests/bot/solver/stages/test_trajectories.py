import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.errors import EndpointDown, EndpointError, LeaseLost, SandboxError
from bot.journal import MemoryJournal
from bot.lifecycle import RunState
from bot.llm.client import OpenAIModel
from bot.llm.journaled import JournaledModel
from bot.records import (
    Execution,
    Message,
    ModelCall,
    Reply,
    SandboxJob,
    TrajectoryEnd,
)
from bot.settings import ModelSettings
from tests.bot.solver.stages.sampling import (
    CONTEXT,
    FIX,
    HAPPY,
    ISSUE,
    MOD,
    OTHER_TEST,
    TEST,
    asked,
    by_call,
    edit,
    real,
    sample,
    sample_trajectories,
    solver,
)
from tests.checkouts import checkout_of
from tests.fakes import FakeProgress, FakeSandbox, exited
from tests.scripted import Mode, ScriptedModel
from tests.scripted_endpoint import scripted_endpoint


@pytest.mark.parametrize("profile", ["full", "compact"])
async def test_happy_path(root: Path, profile: str) -> None:
    model, sandbox, progress = ScriptedModel(HAPPY), FakeSandbox(real), FakeProgress()
    trajectories = await sample_trajectories(
        ISSUE, CONTEXT, checkout_of(root), model, sandbox, solver(profile, trajectories=3), progress
    )
    assert [t.index for t in trajectories] == [0, 1, 2]
    for t in trajectories:
        calls = 4 if profile == "full" else 3  # in the compact profile the passing test says that it is done
        assert (t.end, t.calls, t.detail) == (TrajectoryEnd.DONE, calls, "")
        assert t.test is not None
        assert t.patch is not None
        assert t.patch.changes[0].text == MOD.replace("-", "+")
    assert progress.updates[1] == (RunState.TRAJECTORIES, 0, 3, "0 with an edit, replies so far: 1")
    assert progress.updates[-1] == (RunState.TRAJECTORIES, 3, 3, "3 with an edit")
    assert "AssertionError" in asked(model, "trajectory/0/test/2")
    if profile == "compact":
        return
    result = asked(model, "trajectory/0/edit/2")
    assert result.index("original") < result.index("exit 1") < result.index("edited") < result.index("exit 0")


async def test_all_begin_alike_and_only_grow(root: Path) -> None:
    model = ScriptedModel(HAPPY)
    await sample(root, model, trajectories=3)
    firsts = {tuple(m.content for m in call.messages[:2]) for call in model.calls if "/test/" in call.key}
    assert len(firsts) == 1
    calls = {call.key: call.messages for call in model.calls}
    for machine in ("test", "edit"):
        first, second = calls[f"trajectory/1/{machine}/1"], calls[f"trajectory/1/{machine}/2"]
        assert second[: len(first)] == first
        assert [m.role for m in second] == ["system", "user", "assistant", "user"]
    test, edited = calls["trajectory/0/test/1"][1].content, calls["trajectory/0/edit/1"][1].content
    shared = test[: test.index("Your task")]
    assert edited.startswith(shared)
    assert MOD.rstrip() in shared


async def test_seeds_differ_by_trajectory_call_and_run(root: Path) -> None:
    def seeds(model: ScriptedModel) -> dict[str, int]:
        return {call.key: call.seed for call in model.calls}

    first, again, other = ScriptedModel(HAPPY), ScriptedModel(HAPPY), ScriptedModel(HAPPY)
    await sample(root, first, trajectories=2)
    await sample(root, again, trajectories=2)
    await sample(root, other, trajectories=2, seed=1)
    assert seeds(first) == seeds(again)
    assert len(set(seeds(first).values()) | set(seeds(other).values())) == 16
    assert {call.temperature for call in first.calls} == {0.5}


async def test_a_resumed_run_pays_for_nothing_twice(root: Path) -> None:
    journal = MemoryJournal()
    first = await sample(root, JournaledModel(ScriptedModel(HAPPY), journal), trajectories=2)
    nobody = ScriptedModel(HAPPY, mode=Mode.HANG)
    assert await sample(root, JournaledModel(nobody, journal), trajectories=2) == first
    assert nobody.calls == []


# -- models that do not answer well ----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["full", "compact"])
@pytest.mark.parametrize("mode", [Mode.GARBAGE, Mode.EMPTY, Mode.TRUNCATED])
async def test_garbage_for_ever(root: Path, mode: Mode, profile: str) -> None:
    model = ScriptedModel(HAPPY, mode=mode)
    for t in await sample(root, model, profile=profile, trajectories=2):
        assert t.end is TrajectoryEnd.FAILED
        assert t.patch is None
        assert t.detail
    assert len(model.calls) == (2 * 16 if profile == "full" else 2 * 5)
    assert all(m.content for call in model.calls for m in call.messages)


async def test_truncated_replies_are_told_so(root: Path) -> None:
    model = ScriptedModel(HAPPY, mode=Mode.TRUNCATED)
    await sample(root, model)
    assert "cut off at its token limit" in asked(model, "trajectory/0/test/2")


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.OVERFLOW])
async def test_an_endpoint_that_fails_ends_the_trajectory_and_where_it_fails_all_the_run(
    root: Path, mode: Mode
) -> None:
    with scripted_endpoint(HAPPY, mode=mode) as endpoint:
        model = OpenAIModel(ModelSettings(base_url=endpoint.base_url, retries=0), "main")
        with pytest.raises(EndpointError, match=r"every trajectory without an answer \(no test: "):
            await sample(root, model, trajectories=3)
        await model.close()


async def test_an_endpoint_that_hangs_fails_the_run_in_time(root: Path) -> None:
    with scripted_endpoint(HAPPY, mode=Mode.HANG) as endpoint:
        model = OpenAIModel(ModelSettings(base_url=endpoint.base_url, timeout=0.2), "main")
        with pytest.raises(EndpointError, match="has answered nothing"):
            await sample(root, model, trajectories=3)
        await model.close()


async def test_one_trajectory_that_meets_a_failure_does_not_end_the_others(root: Path) -> None:
    class Flaky(ScriptedModel):
        async def reply(self, call: ModelCall) -> Reply:
            if call.key.startswith("trajectory/1/"):
                raise EndpointError("gone")
            return await super().reply(call)

    first, second, third = await sample(root, Flaky(HAPPY), trajectories=3)
    assert (first.end, second.end, third.end) == (TrajectoryEnd.DONE, TrajectoryEnd.FAILED, TrajectoryEnd.DONE)
    assert second.detail == "gone"


async def test_an_endpoint_that_is_down_costs_no_trajectory_the_run_waits_for_it(root: Path) -> None:
    class Restarting(ScriptedModel):
        async def reply(self, call: ModelCall) -> Reply:
            if call.key.startswith("trajectory/1/edit"):
                raise EndpointDown("it restarts")
            return await super().reply(call)

    with pytest.raises(EndpointDown, match="it restarts"):
        await sample(root, Restarting(HAPPY), trajectories=3)


@pytest.mark.parametrize("error", [SandboxError("no sandbox"), LeaseLost("taken")])
async def test_what_ends_them_all(root: Path, error: Exception) -> None:
    def broken(job: SandboxJob) -> Execution:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await sample(root, ScriptedModel(HAPPY), FakeSandbox(broken), trajectories=3)


async def test_a_stop_ends_all_calls(root: Path) -> None:
    model = ScriptedModel(HAPPY, mode=Mode.HANG)
    task = asyncio.ensure_future(sample(root, model, trajectories=4))
    while len(model.calls) < 4:  # noqa: ASYNC110 - the model has no event, and this takes a few turns of the loop
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1


# -- the window ------------------------------------------------------------------------------------------------------


async def test_oldest_turns_are_left_out_where_the_window_is_full(root: Path) -> None:
    chatter = "x" * 9000

    def talkative(key: str, messages: Sequence[Message]) -> str:
        return f"{chatter}\n" + (TEST.replace("3", f"3, {len(key)}{key[-1]}") if "/test/" in key else FIX)

    model = ScriptedModel(talkative, context_window=12_000)
    (t,) = await sample(root, model, output_tokens=1000)
    assert t.patch is not None
    sizes = [sum(-(-len(m.content) // 4) for m in call.messages) + call.max_tokens for call in model.calls]
    assert max(sizes) <= 12_000
    last = next(call.messages for call in model.calls if call.key == "trajectory/0/test/8")
    first = next(call.messages for call in model.calls if call.key == "trajectory/0/test/1")
    assert last[: len(first)] == first
    assert "earlier turns of this conversation are left out" in last[-1].content
    assert [m.role for m in last[1:3]] == ["user", "assistant"]


async def test_what_a_test_prints_on_the_base_commit_is_shown_once(root: Path) -> None:
    def printed(job: SandboxJob) -> Execution:
        tree = "edited" if job.changes else "original"
        return exited(1, "\n".join(f"{tree}, line {n} of {job.test and len(job.test.text)}" for n in range(40)))

    edits = [edit("return b - a"), edit("return a * b"), OTHER_TEST, "<done/>"]
    model = ScriptedModel(by_call([TEST, "<approve/>"], edits))
    await sample(root, model, FakeSandbox(printed))
    first, second, third = (asked(model, f"trajectory/0/edit/{n}") for n in (2, 3, 4))
    again = "(the same as before)"
    for said, known in ((first, False), (second, True), (third, False)):
        assert (again in said, "original, line 39" in said) == (known, not known)
        assert "edited, line 39" in said
