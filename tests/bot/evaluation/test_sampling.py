import asyncio
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.errors import EndpointError, SandboxError
from bot.evaluation import sampling
from bot.evaluation.functions import REACHED
from bot.evaluation.samples import About, Sample, SampleFile
from bot.evaluation.sampling import Clock, Drawing, draw_functions, missing
from bot.evaluation.tasks import FunctionTask
from bot.records import Execution, Message, ModelCall, Reply, SandboxJob
from tests.fakes import FakeSandbox, exited
from tests.scripted import Mode, ScriptedModel

TASKS = [FunctionTask(id=f"t/{i}", prompt=f"def f{i}():\n", entry_point=f"f{i}", check="") for i in range(3)]
DRAWING = Drawing(samples=4, temperature=0.6, seed=0, max_tokens=100, at_once=3)


def about(samples: int = 4) -> About:
    return About(tasks="t", kind="functions", number=3, digest="d", model="m", temperature=0.6, seed=0, max_tokens=100)


def script(key: str, messages: Sequence[Message]) -> str:
    task, _, number = key.removeprefix("eval/").rpartition("/")
    return f"```python\n# {task} {int(number) % 2}\n```"


def right_if_even(job: SandboxJob) -> Execution:
    assert job.test is not None
    return exited(0, REACHED) if " 0" in job.test.text.split("\\n")[0] else exited(1)


async def draw(
    folder: Path, model: ScriptedModel, sandbox: FakeSandbox, drawing: Drawing = DRAWING
) -> list[tuple[int, int]]:
    told: list[int] = []
    with SampleFile(folder, about(), [task.id for task in TASKS]) as file:
        try:
            await draw_functions(TASKS, model, sandbox, drawing, file, lambda done, total, left: told.append(done))
        finally:
            assert told == sorted(told)
            counts = file.counts()
    return counts


async def test_each_sample_is_drawn_and_each_answer_judged_once(tmp_path: Path):
    model, sandbox = ScriptedModel(script), FakeSandbox(right_if_even)
    assert await draw(tmp_path, model, sandbox) == [(4, 2)] * 3
    assert len(model.calls) == 12
    assert {call.temperature for call in model.calls} == {0.6}
    assert len(sandbox.jobs) <= 12
    model, sandbox = ScriptedModel(script), FakeSandbox(right_if_even)
    drawing = Drawing(samples=40, temperature=0.6, seed=0, max_tokens=100, at_once=1)
    assert await draw(tmp_path, model, sandbox, drawing) == [(40, 20)] * 3
    assert len(model.calls) == 3 * 36  # the rest
    assert len(sandbox.jobs) == 6


class Ends(ScriptedModel):
    """Ends a reply at the first stop, as endpoints do."""

    async def reply(self, call: ModelCall) -> Reply:
        reply = await super().reply(call)
        ends = [found for stop in call.stop if (found := reply.text.find(stop)) >= 0]
        return reply.model_copy(update={"text": reply.text[: min(ends, default=None)]})


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("Here:\n```python\n{code}\n```\n\nIt adds.\n```\nf(1)\n```\n", 1),
        ("```bash\npip\n```\n\n```python\n{code}\n```\n", 2),
        ("So:\n```\n{code}\n```\n", 2),
        ("{code}", 2),
    ],
)
async def test_replies_end_with_the_code_that_is_judged(tmp_path: Path, text: str, calls: int):
    def wordy(key: str, messages: Sequence[Message]) -> str:
        return text.format(code=script(key, messages).split("\n")[1])

    model = Ends(wordy)
    assert await draw(tmp_path, model, FakeSandbox(right_if_even)) == [(4, 2)] * 3
    assert len(model.calls) == 12 * calls
    assert {call.seed for call in model.calls} == {0, 1, 2, 3}


async def test_replies_are_left_whole_where_ending_them_is_in_vain(tmp_path: Path):
    model = Ends(lambda key, messages: "So:\n```\n" + script(key, messages).split("\n")[1] + "\n```\n")
    drawing = Drawing(samples=40, temperature=0.6, seed=0, max_tokens=100, at_once=1)
    assert await draw(tmp_path, model, FakeSandbox(right_if_even), drawing) == [(40, 20)] * 3
    assert sum(bool(call.stop) for call in model.calls) < 15


async def test_waves_keep_tasks_alike(tmp_path: Path):
    with SampleFile(tmp_path, about(), [task.id for task in TASKS]) as file:
        order = [(task.id, sample) for task, sample in missing(TASKS, 3, file, wave=2)]
    assert order[:6] == [("t/0", 0), ("t/0", 1), ("t/1", 0), ("t/1", 1), ("t/2", 0), ("t/2", 1)]
    assert order[6:] == [("t/0", 2), ("t/1", 2), ("t/2", 2)]


async def test_a_killed_evaluation_draws_only_what_is_missing(tmp_path: Path):
    class Dies(ScriptedModel):
        async def reply(self, call: ModelCall) -> Reply:
            if len(self.calls) == 7:
                raise asyncio.CancelledError
            return await super().reply(call)

    model = Dies(script)
    with contextlib.suppress(asyncio.CancelledError):
        await draw(tmp_path, model, FakeSandbox(right_if_even))
    with SampleFile(tmp_path, about(), [task.id for task in TASKS]) as file:
        there = file.done
    assert 0 < there <= 7
    rest = ScriptedModel(script)
    assert await draw(tmp_path, rest, FakeSandbox(right_if_even)) == [(4, 2)] * 3
    assert len(rest.calls) == 12 - there


async def test_what_another_process_holds_is_waited_for_and_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "LOOK", 0.0)
    looked: list[tuple[str, int]] = []
    claim = SampleFile.claim

    def held_elsewhere(file: SampleFile, task: str, sample: int) -> bool:
        """One is another's, who has died by the third look at it."""
        if (task, sample) == ("t/1", 2):
            looked.append((task, sample))
            if len(looked) < 3:
                return False
        return claim(file, task, sample)

    monkeypatch.setattr(SampleFile, "claim", held_elsewhere)
    model = ScriptedModel(script)
    assert await draw(tmp_path, model, FakeSandbox(right_if_even)) == [(4, 2)] * 3
    assert len(model.calls) == 12


async def test_an_endpoint_that_keeps_failing_ends_it_and_nothing_is_kept_of_it(tmp_path: Path):
    model = ScriptedModel(script, mode=Mode.ERROR)
    drawing = Drawing(samples=40, temperature=0.6, seed=0, max_tokens=100, at_once=3)
    with pytest.raises(EndpointError, match="again and again"):
        await draw(tmp_path, model, FakeSandbox(), drawing)
    assert len(model.calls) <= 12
    with SampleFile(tmp_path, about(), [task.id for task in TASKS]) as file:
        assert file.done == 0


async def test_a_prompt_that_does_not_fit_is_a_sample_that_fails(tmp_path: Path):
    assert await draw(tmp_path, ScriptedModel(script, mode=Mode.OVERFLOW), FakeSandbox()) == [(4, 0)] * 3


async def test_a_job_that_the_sandbox_fails_at_is_told(tmp_path: Path):
    def broken(job: SandboxJob) -> Execution:
        raise SandboxError("it broke")

    assert await draw(tmp_path, ScriptedModel(script), FakeSandbox(broken)) == [(4, 0)] * 3
    first = Sample.model_validate_json((tmp_path / "samples.jsonl").read_text().splitlines()[0])
    assert first.status == "it broke"


def test_what_is_under_way_counts_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("bot.evaluation.sampling.time.monotonic", lambda: now)
    clock = Clock(200, 1000, at_once=256)
    assert math.isnan(clock.left(200))
    now = 129.0
    assert clock.left(201) == 799 - 128, "one is done and 256 are half done: not 799 times 129 seconds"
    now = 800.0
    assert clock.left(1000) == 0
