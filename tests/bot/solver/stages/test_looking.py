"""Looking around by commands: over scripted models and a fake sandbox, and once on the process sandbox."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from bot.journal import MemoryJournal
from bot.llm.journaled import JournaledModel
from bot.records import Ending, Execution, SandboxJob, TrajectoryEnd
from bot.sandbox.journaled import JournaledSandbox
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from bot.solver.stages.looking import AT_ONCE, fair, shown
from tests.bot.solver.stages.sampling import (
    CONTEXT,
    FIX,
    HAPPY,
    ISSUE,
    MOD,
    TEST,
    asked,
    by_call,
    real,
    sample,
    sample_trajectories,
    solver,
)
from tests.checkouts import checkout_of
from tests.fakes import FakeProgress, FakeSandbox, exited
from tests.patience import PATIENCE
from tests.scripted import Mode, ScriptedModel

LOOK = "<run>cat mod.py</run>"


def looking(answer: Callable[[SandboxJob], Execution]) -> FakeSandbox:
    """Tests run for real; commands get the answer."""
    return FakeSandbox(lambda job: answer(job) if job.command else real(job))


def said(job: SandboxJob) -> Execution:
    return exited(0, f"saw {job.command[-1].splitlines()[-1]} on {len(job.changes)} changes\n")


def commands(sandbox: FakeSandbox) -> list[SandboxJob]:
    return [job for job in sandbox.jobs if job.command]


async def test_both_machines_look_before_they_write(root: Path) -> None:
    model = ScriptedModel(
        by_call(["<run>ls</run>\n<run>grep -rn add .</run>", TEST, "<approve/>"], [LOOK, FIX, LOOK, "<done/>"])
    )
    sandbox = looking(said)
    (t,) = await sample(root, model, sandbox, test_calls=2, edit_calls=2)
    assert (t.end, t.calls) == (TrajectoryEnd.DONE, 7)
    first = asked(model, "trajectory/0/test/2")
    assert first.index("saw ls on 0") < first.index("saw grep -rn add . on 0")
    assert "in 7 more replies" in first
    assert "saw cat mod.py on 0 changes" in asked(model, "trajectory/0/edit/2")
    assert "saw cat mod.py on 1 changes" in asked(model, "trajectory/0/edit/4")
    jobs = commands(sandbox)
    assert jobs[0].test is None
    assert jobs[-1].test == t.test, "the test lies beside the tree"
    for machine in ("test", "edit"):
        prompts = [call.messages for call in model.calls if f"/{machine}/" in call.key]
        assert all(later[: len(first)] == first for first, later in itertools.pairwise(prompts))


async def test_the_edit_machine_begins_with_what_the_test_machine_saw(root: Path) -> None:
    looks = "\n".join(f"<run>cat {name}</run>" for name in ("one", "two", "three"))
    model = ScriptedModel(by_call([looks, LOOK, LOOK, TEST, "<approve/>"], [FIX, "<done/>"]))

    def long(job: SandboxJob) -> Execution:
        return exited(
            0, "many words on each line of it, which are many\n" * (3 if "mod.py" in job.command[-1] else 500)
        )

    await sample(root, model, looking(long))
    opening = asked(model, "trajectory/0/edit/1")
    kept = [name in opening for name in ("cat one", "cat two", "cat three")]
    assert kept == [False, False, True], "the last that fit"
    assert opening.count("cat mod.py") == 1, "once, though it ran twice"
    assert opening.index("</test>") < opening.index("cat three") < opening.index("Your task")


async def test_the_prompts_offer_commands_where_they_are_run(root: Path) -> None:
    for settings, offered in (({}, True), ({"look_calls": 0}, False), ({"profile": "compact"}, False)):
        model, sandbox = ScriptedModel(by_call([LOOK, TEST, "<approve/>"], [FIX, "<done/>"])), looking(said)
        await sample(root, model, sandbox, **settings)
        assert ("<run>" in model.calls[0].messages[-1].content) is offered
        assert bool(commands(sandbox)) is offered


async def test_looks_that_are_spent_are_told_so(root: Path) -> None:
    model = ScriptedModel(by_call([TEST, "<approve/>"], [LOOK, LOOK, "<run>pwd</run>", FIX, "<run>ls</run>\n<done/>"]))
    sandbox = looking(said)
    (t,) = await sample(root, model, sandbox, look_calls=2)
    assert "in 1 more reply" in asked(model, "trajectory/0/edit/2")
    assert "No more commands can be run" in asked(model, "trajectory/0/edit/3")
    assert "no commands are left: you may run them in 2 replies" in asked(model, "trajectory/0/edit/4")
    assert len(commands(sandbox)) == 2
    assert t.end is TrajectoryEnd.DONE, "what is said beside a command counts once none is left"


async def test_one_that_only_looks_comes_to_an_end(root: Path) -> None:
    model, sandbox = ScriptedModel(by_call([LOOK], [LOOK])), looking(said)
    (t,) = await sample(root, model, sandbox)
    assert t.patch is None
    assert t.calls == 2 * (8 + 8)
    assert "no commands are left" in t.detail


async def test_commands_beside_an_edit_run_with_it_in_force(root: Path) -> None:
    model = ScriptedModel(
        by_call([f"{TEST}\n<run>ls</run>", "<approve/>"], [f"{FIX}\n{LOOK}", f"{LOOK}\n<done/>", "<done/>"])
    )
    (t,) = await sample(root, model, looking(said))
    result = asked(model, "trajectory/0/test/2")
    assert result.index("saw ls on 0 changes") < result.index("exit 1")
    result = asked(model, "trajectory/0/edit/2")
    assert result.index("saw cat mod.py on 1 changes") < result.index("exit 0")
    assert "saw cat mod.py" in asked(model, "trajectory/0/edit/3"), "a command beside <done/> comes first"
    assert t.calls == 5
    assert t.patch is not None
    assert t.patch.changes[0].text == MOD.replace("-", "+")


async def test_commands_beside_an_edit_that_does_not_apply_are_not_run(root: Path) -> None:
    wrong = FIX.replace("return a - b", "return a * b", 1)
    model = ScriptedModel(by_call([TEST, "<approve/>"], [f"{wrong}\n{LOOK}", FIX, "<done/>"]))
    sandbox = looking(said)
    (t,) = await sample(root, model, sandbox)
    assert commands(sandbox) == []
    assert t.end is TrajectoryEnd.DONE


async def test_what_is_shown_already_is_not_shown_again(root: Path) -> None:
    model = ScriptedModel(by_call([LOOK, TEST, "<approve/>"], [LOOK, f"{LOOK}\n<run>ls</run>", FIX, "<done/>"]))
    sandbox = looking(lambda job: exited(0, "a line of the file\n" * (1 if "ls" in job.command[-1] else 99)))
    await sample(root, model, sandbox)
    once, again = asked(model, "trajectory/0/edit/1"), asked(model, "trajectory/0/edit/2")
    assert once.count("a line of the file") == 99, "handed on from the test machine"
    assert again.count("a line of the file") == 0
    assert "(shown above already, exactly so)" in again
    assert asked(model, "trajectory/0/edit/3").count("a line of the file") == 1, "a short output costs nothing"


async def test_an_empty_command_is_a_mistake_that_is_named(root: Path) -> None:
    model = ScriptedModel(by_call(["<run>\n</run>", TEST, "<approve/>"], [FIX, "<done/>"]))
    (t,) = await sample(root, model, looking(said))
    assert "the <run> holds no command" in asked(model, "trajectory/0/test/2")
    assert t.end is TrajectoryEnd.DONE


async def test_many_commands_and_long_ones(root: Path) -> None:
    many = "\n".join(f"<run>echo {i}</run>" for i in range(AT_ONCE + 3))
    model = ScriptedModel(by_call([many, f"<run>echo {'x' * 5000}</run>", TEST, "<approve/>"], [FIX, "<done/>"]))
    sandbox = looking(said)
    await sample(root, model, sandbox)
    assert len(commands(sandbox)) == AT_ONCE
    assert "3 more commands were not run: at most 8" in asked(model, "trajectory/0/test/2")
    refusal = asked(model, "trajectory/0/test/3")
    assert "at most 4,000 characters" in refusal
    assert len(refusal) < 1000


@pytest.mark.parametrize("window", [8_192, 16_384])
async def test_output_never_exceeds_the_window_nor_drops_a_turn(root: Path, window: int) -> None:
    def flood(job: SandboxJob) -> Execution:
        return exited(0, f"a line of words of {job.command[-1].split()[-1]}\n" * 5_000)

    looks = [f"<run>cat file{i}</run>\n<run>cat other{i}</run>" for i in range(8)]
    model = ScriptedModel(by_call([*looks, TEST, "<approve/>"], [FIX, "<done/>"]), context_window=window)
    (t,) = await sample(root, model, looking(flood), output_tokens=1_000, profile="full")
    assert t.end is TrajectoryEnd.DONE
    for call in model.calls:
        assert sum(-(-len(m.content) // 4) for m in call.messages) + call.max_tokens <= window
        assert "are left out here" not in call.messages[-1].content
    told = [call.messages[-1].content for call in model.calls]
    assert any("characters left out ...]" in text for text in told)
    assert any("fills the context window" in text for text in told)


async def test_what_was_seen_survives_two_mistakes_of_one_kind(root: Path) -> None:
    model = ScriptedModel(by_call([LOOK, "no", "still no", TEST, "<approve/>"], [FIX, "<done/>"]))
    await sample(root, model, looking(said))
    again = next(call.messages for call in model.calls if call.key == "trajectory/0/test/4")
    assert len(again) == 4
    assert "saw cat mod.py" in again[-1].content


async def test_a_resumed_trajectory_runs_nothing_twice(root: Path) -> None:
    journal = MemoryJournal()
    script = by_call([LOOK, TEST, "<approve/>"], [FIX, LOOK, "<done/>"])
    first = looking(said)
    before = await sample(root, JournaledModel(ScriptedModel(script), journal), JournaledSandbox(first, journal))
    assert len(commands(first)) == 2
    nobody, nothing = ScriptedModel(script, mode=Mode.HANG), looking(said)
    again = await sample(root, JournaledModel(nobody, journal), JournaledSandbox(nothing, journal))
    assert again == before
    assert (nobody.calls, nothing.jobs) == ([], [])


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution", "status", "output"),
    [
        (exited(0, "fine\n"), "", "fine"),
        (exited(2, "no such file\n"), "exit 2", "no such file"),
        (Execution(ending=Ending.UNAVAILABLE, exit_code=127, output="x: not found\n"), "exit 127", "x: not found"),
        (Execution(ending=Ending.TIMED_OUT, output="so far", seconds=60.2), "stopped after 60 seconds", "so far"),
        (Execution(ending=Ending.OUT_OF_MEMORY), "out of memory", ""),
        (exited(0, "\x1b[31mred\x1b[0m and\x00 plain\n"), "", "red and plain"),
        (exited(0, "\ufffd\x01PNG\x00" * 500), "", "(binary output, 3,000 characters; not shown)"),
        (exited(0, "caf\ufffd au lait\n" * 3), "", "caf\ufffd au lait\ncaf\ufffd au lait\ncaf\ufffd au lait"),
    ],
)
def test_shown(execution: Execution, status: str, output: str) -> None:
    look = shown("x", execution, 8_000)
    assert (look.status, look.output) == (status, output)


def test_a_long_output_keeps_its_beginning_and_its_end() -> None:
    look = shown("x", exited(0, "".join(f"line {i}\n" for i in range(100_000))), 4_000)
    assert look.output.startswith("line 0\n")
    assert look.output.endswith("\nline 99999")
    assert "characters left out ...]" in look.output
    assert len(look.output) <= 4_000


# -- for real --------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def sandbox(root: Path) -> AsyncIterator[ProcessSandbox]:
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=2), root)
    yield opened
    await opened.close()


async def test_commands_on_the_process_sandbox(root: Path, sandbox: ProcessSandbox) -> None:
    """Search, Python, the test itself, writing, a pipe into a flood, keyboard, network: with the edit in force."""
    looks = [
        "<run>grep -n 'a + b' mod.py</run>",
        "<run>python -c 'import mod; print(mod.add(2, 5))'</run>",
        "<run>python ../test/t.py && echo fine</run>",
        "<run>rm mod.py; echo gone > new.txt; ls</run>",
        "<run>yes | head -c 3000000</run>",
        "<run>read answer || echo no keyboard</run>",
        "<run>python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 2)'</run>",
        "<run>[[ -f mod.py ]] && no-such-program</run>",
    ]
    noise = "<run>head -c 20000 /dev/urandom</run>\n<run>\n```sh\nfor f in *.py; do\n  echo $f\ndone\n```\n</run>"
    model = ScriptedModel(by_call([noise, TEST, "<approve/>"], [FIX, "\n".join(looks), "<run>ls</run>", "<done/>"]))
    (t,) = await sample(root, model, sandbox, test_timeout=PATIENCE)
    assert t.end is TrajectoryEnd.DONE
    first = asked(model, "trajectory/0/test/2")
    assert "(binary output, " in first
    assert "\nmod.py\n" in first
    seen = asked(model, "trajectory/0/edit/3").split("<command>")[1:]
    assert len(seen) == len(looks)
    assert "2:    return a + b" in seen[0]
    assert "\n7\n" in seen[1]
    assert "\nfine\n" in seen[2]
    assert "new.txt" in seen[3]
    assert "characters left out ...]" in seen[4]
    assert len(seen[4]) < 9_000
    assert "no keyboard" in seen[5]
    assert "Error" in seen[6]
    assert "exit 127" in seen[7]
    assert "\nmod.py\n" in asked(model, "trajectory/0/edit/4")
    assert "new.txt" not in asked(model, "trajectory/0/edit/4"), "what a command changes is thrown away"


async def test_a_command_that_hangs_is_stopped(root: Path, sandbox: ProcessSandbox) -> None:
    model = ScriptedModel(by_call(["<run>echo begun; sleep 1000000</run>", TEST, "<approve/>"], [FIX, "<done/>"]))
    await asyncio.wait_for(sample(root, model, sandbox, test_timeout=2.0), PATIENCE)
    assert "stopped after 2 seconds" in asked(model, "trajectory/0/test/2")


async def test_relevant_files_that_do_not_fit_are_named(root: Path) -> None:
    context = CONTEXT.model_copy(update={"left_out": tuple(f"far{i}.py" for i in range(30))})
    for looks in (8, 0):
        model = ScriptedModel(HAPPY)
        solver_ = solver(look_calls=looks)
        await sample_trajectories(ISSUE, context, checkout_of(root), model, FakeSandbox(real), solver_, FakeProgress())
        named = [f"far{i}.py" in model.calls[0].messages[-1].content for i in (0, 19, 20)]
        assert named == ([True, True, False] if looks else [False] * 3)


async def test_lines_that_the_conversation_shows_are_printed_once(root: Path) -> None:
    """Also in the edit machine's opening, which begins with what the test machine saw."""
    lines = [f"line {i} of a file, which is long enough to be worth a remark" for i in range(60)]
    parts = {"first": "\n".join(lines[:40]), "whole": "\n".join(lines), "other": "nothing like it\n"}
    model = ScriptedModel(
        by_call(["<run>first</run>", "<run>whole</run>\n<run>other</run>", TEST, "<approve/>"], [FIX, "<done/>"])
    )
    sandbox = looking(lambda job: exited(0, parts[job.command[-1].splitlines()[-1]]))
    await sample(root, model, sandbox)
    second = asked(model, "trajectory/0/test/3")
    assert "line 0 of" in second
    assert "[... 37 lines that are shown above already ...]" in second
    assert "line 20 of" not in second
    assert "line 45 of" in second
    assert "nothing like it" in second
    opening = asked(model, "trajectory/0/edit/1")
    assert [opening.count(f"line {i} of") for i in (0, 20, 45)] == [2, 1, 1]
    assert opening.index("line 20 of") < opening.index("shown above already ...]") < opening.index("line 45 of")


def test_what_short_outputs_leave_goes_to_long_ones() -> None:
    assert fair([100, 9_000, 50], 10_000) == [100, 9_000, 50]
    assert fair([100, 9_000, 9_000], 10_000) == [100, 4_950, 4_950]
    assert fair([9_000, 4_000, 9_000], 12_000) == [4_000, 4_000, 4_000]
    assert fair([], 10) == []
