"""The order of the stages over a scripted model: what a resumed run replays and tells, and the end of the budget."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.errors import CheckoutError
from bot.journal import MemoryJournal
from bot.lifecycle import RunState
from bot.llm.examination import Examiner
from bot.publish.messages.reason import reason
from bot.records import (
    Abstention,
    Checkout,
    Description,
    Execution,
    Fault,
    FinishReason,
    Issue,
    Message,
    ModelCall,
    NoWinner,
    Obstacle,
    Outcome,
    Repeated,
    Reply,
    Report,
    SandboxJob,
    Stopped,
    StopRule,
)
from bot.repo_config import RepoConfig
from bot.settings import ModelSettings, Settings, SolverSettings
from bot.solver.models import Models, open_models
from bot.solver.pipeline import solve
from bot.solver.project import own_test_commands, read_config
from bot.solver.workbench import Workbench
from tests.fakes import PASSED, Answer, FakeProgress, FakeSandbox, advance, exited, passes_on_edits
from tests.scripted import Script, ScriptedModel, estimate, rules
from tests.scripted_endpoint import scripted_endpoint

ISSUE = Issue(title="add is wrong", body="`add(1, 2)` gives -1, expected 3.")
TEST = '<test path="t.py">\nfrom mod import add\nassert add(1, {}) == {}\n</test>'
EDIT = '<edit path="mod.py">\n<<<<<<< SEARCH\n    return a - b\n=======\n    return a + b\n>>>>>>> REPLACE\n</edit>'
GOOD: Script = rules(
    [
        ("relevance/", "<relevant>\nAdds.\n</relevant>"),
        ("/0/test/", [TEST.format(2, 3), "<approve/>"]),
        ("/test/", [TEST.format(3, 4), "<approve/>"]),
        ("/edit/", [EDIT, "<done/>"]),
        ("description/", "<cause>It subtracts.</cause>\n<change>It adds.</change>"),
    ]
)


class Killed(BaseException):
    """As SIGKILL is: nothing below catches it."""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "mod.py").write_text("def add(a, b):\n    return a - b\n")
    (root / "other.py").write_text("x = 1\n")
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    return Checkout(root=str(root), workspace=str(tmp_path), commit="0" * 40, files=("mod.py", "other.py"))


def workbench(checkout: Checkout, model: ScriptedModel, answer: Answer = passes_on_edits, **settings: Any) -> Workbench:
    chosen = SolverSettings(**{"trajectories": 2, "profile": "full", **settings})
    return Workbench(checkout, Models(model, model), FakeSandbox(answer), chosen)


async def run(
    checkout: Checkout, journal: MemoryJournal, model: ScriptedModel, *, budget: int = 0, killed_at: str = ""
) -> Report:
    async def until(state: RunState) -> None:
        if state == killed_at:
            raise Killed

    bench = workbench(checkout, model, token_budget=budget)
    return await solve(ISSUE, replace(bench, notes=("by the config",)), journal, FakeProgress(), until)


async def test_a_run_that_is_killed_between_any_stages_tells_the_same_count(checkout: Checkout) -> None:
    whole = await run(checkout, MemoryJournal(), ScriptedModel(GOOD))
    assert whole.verdict.outcome is Outcome.SOLVED
    journal, models = MemoryJournal(), []
    for stage in ("context", "trajectories", "matrix", "selection", ""):
        models.append(ScriptedModel(GOOD))
        try:
            resumed = await run(checkout, journal, models[-1], killed_at=stage)
        except Killed:
            continue
    assert resumed.verdict == whole.verdict
    assert resumed.usage.model_dump(exclude={"seconds"}) == whole.usage.model_dump(exclude={"seconds"})
    assert list(whole.usage_by_stage) == ["context", "trajectories", "description"]
    assert whole.description == Description(cause="It subtracts.", change="It adds.") == resumed.description
    assert sum(used.prompt_tokens for used in whole.usage_by_stage.values()) == whole.usage.prompt_tokens
    assert {stage: used.prompt_tokens for stage, used in resumed.usage_by_stage.items()} == {
        stage: used.prompt_tokens for stage, used in whole.usage_by_stage.items()
    }
    asked = [key for model in models for key in model.keys]
    assert len(asked) == len(set(asked)) == whole.usage.calls


async def test_no_more_are_sampled_once_the_count_is_sure(checkout: Checkout) -> None:
    async def sampled(script: Script, **settings: Any) -> tuple[Report, ScriptedModel]:
        model = ScriptedModel(script)
        bench = workbench(checkout, model, trajectories=20, describe=False, **settings)
        return await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance), model

    agreed, model = await sampled(GOOD, stop_at=0.8)
    assert len(agreed.trajectories) == 8, "all of the first wave agree"
    assert agreed.verdict.outcome is Outcome.SOLVED
    assert agreed.verdict.confidence is not None
    assert agreed.verdict.confidence >= 0.8
    assert not any(key.startswith("trajectory/8/") for key in model.keys)
    stopped = agreed.verdict.stopped
    assert stopped is not None
    assert (stopped.rule, stopped.attempts, stopped.of) == (StopRule.POSTERIOR, 8, 20)
    assert stopped.value == agreed.verdict.confidence
    assert "`posterior` ended the sampling after 8 of 20 attempts" in reason(agreed)
    for rule, value in (("first-finish", 2), ("consensus", 4)):
        fewer, _ = await sampled(GOOD, stop=rule, stop_alike=3)
        assert fewer.verdict.stopped == Stopped(rule=StopRule(rule), attempts=4, of=20, value=value)
    spent, _ = await sampled(GOOD, stop="discovery")
    assert spent.verdict.stopped == Stopped(rule=StopRule.DISCOVERY, attempts=12, of=20, value=0), "all are one patch"
    assert spent.verdict.outcome is Outcome.SOLVED
    unsure, _ = await sampled(GOOD, stop_at=0.999)
    assert len(unsure.trajectories) == 20
    assert [t.index for t in unsure.trajectories] == list(range(20))
    hopeless, _ = await sampled(
        rules([("/edit/", "I can't."), ("/test/", [TEST.format(2, 3), "<approve/>"])]), stop_at=0.1
    )
    assert len(hopeless.trajectories) == 20
    every, _ = await sampled(GOOD)
    assert len(every.trajectories) == 20, "by default all are sampled"
    assert every.verdict.stopped is None


async def test_a_run_that_is_killed_between_waves_samples_the_same(checkout: Checkout) -> None:
    bench = workbench(checkout, ScriptedModel(GOOD), trajectories=20, stop_at=0.8)
    whole = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    journal = MemoryJournal()

    async def until(state: RunState) -> None:
        if state == RunState.MATRIX:
            raise Killed

    with pytest.raises(Killed):
        await solve(ISSUE, bench, journal, FakeProgress(), until)
    model = ScriptedModel(GOOD)
    resumed = await solve(ISSUE, replace(bench, models=Models(model, model)), journal, FakeProgress(), advance)
    assert resumed.trajectories == whole.trajectories
    assert not any(key.startswith("trajectory/") for key in model.keys)


async def test_short_m_breaks_off_what_has_not_ended_and_a_resumed_run_knows_which(checkout: Checkout) -> None:
    class Slow(ScriptedModel):
        """Never answers the edits of trajectories that are not among the `quick` ones."""

        broken_off = 0
        quick: tuple[str, ...] = ("trajectory/1/", "trajectory/4/", "trajectory/5/")

        async def reply(self, call: ModelCall) -> Reply:
            if "/edit/" in call.key and not call.key.startswith(self.quick):
                try:
                    await asyncio.Event().wait()
                finally:
                    self.broken_off += 1
            return await super().reply(call)

    journal, model = MemoryJournal(), Slow(GOOD)
    bench = workbench(checkout, model, trajectories=6, stop="short-m", stop_first=3)

    async def until(state: RunState) -> None:
        if state == RunState.MATRIX:
            raise Killed

    with pytest.raises(Killed):
        await solve(ISSUE, bench, journal, FakeProgress(), until)
    assert model.broken_off == 3
    later = Slow(GOOD)
    later.quick = ("trajectory/",)  # all would end now
    whole = await solve(ISSUE, replace(bench, models=Models(later, later)), journal, FakeProgress(), advance)
    assert [t.index for t in whole.trajectories] == [1, 4, 5]
    assert whole.verdict.stopped == Stopped(rule=StopRule.SHORT_M, attempts=3, of=6, value=3)
    assert whole.verdict.outcome is Outcome.SOLVED
    assert not any(key.startswith("trajectory/") for key in later.keys)


async def test_short_m_waits_for_all_where_too_few_end_with_a_patch(checkout: Checkout) -> None:
    script = rules([("/edit/", "I can't."), ("/test/", [TEST.format(2, 3), "<approve/>"])])
    bench = workbench(checkout, ScriptedModel(script), trajectories=4, stop="short-m", stop_first=1)
    found = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    assert (len(found.trajectories), found.verdict.stopped) == (4, None)


async def test_what_ran_before_the_environment_was_mended_runs_again(checkout: Checkout) -> None:
    """A package that the tests need is installed between two starts; the folders in an error change nothing."""

    def answers(missing: bool, folder: str) -> tuple[FakeSandbox, list[SandboxJob]]:
        asked: list[SandboxJob] = []

        def answer(job: SandboxJob) -> Execution:
            asked.append(job)
            if job.test is not None:
                return exited(1, "No module named 'needed'") if missing else passes_on_edits(job)
            why = f"ImportError: no 'needed' ({folder})" if missing else ""
            said = [["version", "3.11.7"], ["installed", [["pip", "1"]]], ["import", "mod", why]]
            return exited(0, "".join(f"\ntroop-survey {json.dumps(one)}" for one in said) + "\n")

        return FakeSandbox(answer), asked

    async def start(sandbox: FakeSandbox, killed_at: str = "") -> Report:
        async def until(state: RunState) -> None:
            if state == killed_at:
                raise Killed

        said.clear()
        bench = replace(workbench(checkout, ScriptedModel(GOOD)), sandbox=sandbox, notice=said.append)
        return await solve(ISSUE, bench, journal, FakeProgress(), until)

    said: list[str] = []
    journal = MemoryJournal()
    broken, first = answers(True, "/tmp/one")
    with pytest.raises(Killed):
        await start(broken, "selection")
    assert [job for job in first if job.test]
    broken, second = answers(True, "/tmp/two")
    with pytest.raises(Killed):
        await start(broken, "selection")
    assert not [job for job in second if job.test], "the same environment: nothing runs again"
    assert not [words for words in said if "changed" in words]
    mended, third = answers(False, "")
    report = await start(mended)
    assert [job for job in third if job.test]
    assert [words for words in said if "changed" in words]
    assert report.verdict.outcome is Outcome.SOLVED


async def test_a_spent_budget_ends_the_sampling_and_is_said(checkout: Checkout) -> None:
    free = ScriptedModel(GOOD)
    whole = await run(checkout, MemoryJournal(), free)
    used = whole.usage.prompt_tokens + whole.usage.completion_tokens
    model = ScriptedModel(GOOD)
    report = await run(checkout, MemoryJournal(), model, budget=used - 1)
    assert len(model.calls) <= len(free.calls)
    assert report.notes[0] == "by the config"
    assert whole.notes == ("by the config",)
    small = ScriptedModel(GOOD)
    report = await run(checkout, MemoryJournal(), small, budget=used * 2 // 3)
    assert len(small.calls) < len(free.calls)
    assert "TROOP_SOLVER_TOKEN_BUDGET" in report.notes[-1]


async def test_own_tests_run_on_the_base_commit_while_candidates_are_sampled(checkout: Checkout) -> None:
    jobs: list[SandboxJob] = []

    def listed(job: SandboxJob) -> Execution:
        jobs.append(job)
        return PASSED if job.command else passes_on_edits(job)

    model = ScriptedModel(GOOD)
    bench = replace(workbench(checkout, model, listed), config=RepoConfig(test_command=("check",)))
    report = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    own = [at for at, job in enumerate(jobs) if job.command == ("check",)]
    tests = [at for at, job in enumerate(jobs) if job.test is not None]
    assert own[0] < tests[0]
    assert len(own) == 2, "once on the base commit, once on the only candidate"
    assert report.verdict.own_tests is not None
    assert report.verdict.own_tests.compared


async def test_a_patch_of_what_is_compiled_once_is_told(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.recipe.declared._COMPILED", (".py",))
    (Path(checkout.root) / "setup.py").write_text("setup(ext_modules=[])\n")
    checkout = checkout.model_copy(update={"files": (*checkout.files, "setup.py")})
    bench = workbench(checkout, ScriptedModel(GOOD), passes_on_edits)
    report = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    (note,) = report.notes
    assert note.startswith("mod.py is compiled with the image and not again for a candidate")


async def test_a_repository_that_can_not_be_imported_is_said_before_any_token_is_spent(checkout: Checkout) -> None:
    def bare(job: SandboxJob) -> Execution:
        if "troop-survey" in "".join(job.command):
            found = [["version", "3.11.2"], ["installed", []], ["import", "mod", "no x"], ["import", "other", ""]]
            return exited(0, "".join(f"\ntroop-survey {json.dumps(line)}\n" for line in found))
        return passes_on_edits(job)

    model = ScriptedModel(GOOD)
    told: list[int] = []
    bench = replace(workbench(checkout, model, bare), notice=lambda words: told.append(len(model.calls)))
    report = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    assert told == [0]
    assert report.obstacles == (Obstacle(fault=Fault.IMPORT_FAILS, name="mod", detail="no x"),)
    asked = [call.messages[1].content for call in model.calls if call.key.startswith("trajectory/")]
    shared = {text[: text.index("</sandbox>")] for text in asked}
    assert len(shared) == 1, "the same bytes in every prompt"
    assert "no pytest either" in shared.pop()


async def test_why_no_trajectory_has_an_edit_is_told(checkout: Checkout) -> None:
    refusing = rules(
        [("relevance/", "<irrelevant/>"), ("/test/", [TEST.format(2, 3), "<approve/>"]), ("/edit/", "Sorry.")]
    )
    report = await run(checkout, MemoryJournal(), ScriptedModel(refusing))
    assert report.verdict.outcome is Outcome.ABSTAINED
    found = Repeated(text="no reply could be used: no <define> found", times=2, of=2)
    assert report.verdict.abstention == Abstention(cause=NoWinner.NO_CANDIDATE, setback=found)


@pytest.mark.parametrize("told", [True, False])
async def test_a_window_that_is_smaller_than_thought_chooses_the_files_again(checkout: Checkout, told: bool) -> None:
    """Endpoints that list no window tell it, if ever, in the error of a prompt that is too long."""
    for number in range(6):  # each fits a call by itself, all of them don't
        (Path(checkout.root) / f"add{number}.py").write_text("# about add, and more\n" * 2_500)
    files = (*checkout.files, *(f"add{number}.py" for number in range(6)))
    checkout = checkout.model_copy(update={"files": files})

    def too_long(body: dict[str, Any]) -> str:
        size = sum(estimate(message["content"]) for message in body["messages"])
        window = "This model's maximum context length is 32768 tokens." if told else "prompt is too long"
        return window if size + body["max_tokens"] > 32_768 else ""

    noticed: list[str] = []
    with scripted_endpoint(GOOD, context_window=None) as endpoint:
        endpoint.refuse_when = too_long
        settings = Settings(_env_file=None, main=ModelSettings(base_url=endpoint.base_url, retries=0))
        async with open_models(settings) as models:
            chosen = SolverSettings(trajectories=2, context="read all")
            bench = Workbench(checkout, models, FakeSandbox(), chosen, notice=noticed.append)
            report = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    assert report.verdict.outcome is Outcome.SOLVED
    assert 0 < report.context.tokens < 32_768
    assert "choosing files again" in noticed[0]


async def test_the_selection_strikes_a_test_and_writes_a_better_patch(checkout: Checkout) -> None:
    other = EDIT.replace("return a + b", "return b + a")
    better = "<parents>1, 2</parents>\n" + EDIT.replace("return a + b", "return sum((a, b))")
    script = rules(
        [
            ("relevance/", "<relevant>\nAdds.\n</relevant>"),
            ("/0/test/", [TEST.format(2, 3), "<approve/>"]),
            ("/test/", [TEST.format(3, 4), "<approve/>"]),
            ("/0/edit/", [EDIT, "<done/>"]),
            ("/edit/", [other, "<done/>"]),
            ("selection/", ['<wrong test="T2">It asks for 4.</wrong>', better, "<choose>3</choose>"]),
        ]
    )
    report = await run(checkout, MemoryJournal(), ScriptedModel(script))
    verdict = report.verdict
    assert verdict.winner == 2
    won = verdict.ballot.candidates[2]
    assert (won.parents, won.patch.changes[0].text) == ((0, 1), "def add(a, b):\n    return sum((a, b))\n")
    assert [one.reason for one in verdict.struck] == ["It asks for 4."]
    assert len(report.trajectories) == 2


async def test_an_empty_checkout_costs_no_token(checkout: Checkout) -> None:
    model = ScriptedModel(GOOD)
    with pytest.raises(CheckoutError, match="holds no file"):
        await run(checkout.model_copy(update={"files": ()}), MemoryJournal(), model)
    assert model.calls == []


def test_a_huge_config_is_not_read_whole(checkout: Checkout) -> None:
    path = Path(checkout.root) / ".troop.toml"
    path.write_text("#" * 3_000_000)
    config, notes = read_config(checkout.model_copy(update={"files": (".troop.toml",)}), Settings(_env_file=None))
    assert config == RepoConfig()
    assert "at most 16,384" in notes[0]


def test_the_configs_test_command_comes_before_what_files_tell(checkout: Checkout) -> None:
    (Path(checkout.root) / "Makefile").write_text("test:\n\ttrue\n")
    built = checkout.model_copy(update={"files": ("Makefile",)})
    assert own_test_commands(built, RepoConfig()) == (("make", "test"),)
    assert own_test_commands(built, RepoConfig(test_command=("x",))) == (("x",),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_costs_no_config(checkout: Checkout, encoding: str) -> None:
    (Path(checkout.root) / ".troop.toml").write_bytes("[test]\r\ncommand = 'A=é check'\r\n".encode(encoding))
    (Path(checkout.root) / "package.json").write_bytes('{"scripts": {"test": "jest"}}'.encode(encoding))
    files = (".troop.toml", "package.json")
    config, notes = read_config(checkout.model_copy(update={"files": files}), Settings(_env_file=None))
    assert (config.test_command, notes) == (("env", "A=é", "check"), ())
    found = own_test_commands(checkout.model_copy(update={"files": files}), RepoConfig())
    assert found == (("npm", "test", "--silent"),)


async def test_a_model_is_examined_once_and_a_resumed_run_stays_the_same(checkout: Checkout, tmp_path: Path) -> None:
    kept = tmp_path / "abilities"

    def able_to_define(key: str, messages: Sequence[Message]) -> str | Reply:
        if key == "examination/edit/define/0":
            body = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
            body += "    return result"
            return f'<define path="shop/stock.py" name="total">\n{body}\n</define>'
        return "I can't." if key.startswith("examination/") else GOOD(key, messages)

    model, journal = ScriptedModel(able_to_define), MemoryJournal()
    bench = replace(workbench(checkout, model), examiner=Examiner(kept), endpoint="http://x")
    progress = FakeProgress()
    first = await solve(ISSUE, bench, journal, progress, advance)
    assert first.verdict.outcome is Outcome.SOLVED
    assert sum(key.startswith("examination/") for key in model.keys) > 30
    words = f"finding out how {model.name} writes edits best; asked once"
    assert progress.updates[:2] == [(RunState.CONTEXT, done, 35, words) for done in (0, 1)], "it can take minutes"
    assert first.usage.calls == len(model.calls), "its cost is counted"
    edit = next(call for call in model.calls if call.key == "trajectory/0/edit/1")
    assert "<define" in edit.messages[-1].content
    del journal.entries["report"]
    for path in kept.iterdir():
        path.unlink()
    before = len(model.calls)
    again = await solve(ISSUE, bench, journal, FakeProgress(), advance)
    assert len(model.calls) == before, "a resumed run asks nothing anew"
    assert (again.usage, again.verdict) == (first.usage, first.verdict)
    await solve(ISSUE, replace(bench, examiner=Examiner(kept)), MemoryJournal(), FakeProgress(), advance)
    examined = sum(key.startswith("examination/") for key in model.keys)
    await solve(ISSUE, replace(bench, examiner=Examiner(kept)), MemoryJournal(), FakeProgress(), advance)
    assert sum(key.startswith("examination/") for key in model.keys) == examined, "another run finds the result"


async def test_an_examination_that_gets_no_answers_fails_no_run(checkout: Checkout, tmp_path: Path) -> None:
    def silent(key: str, messages: Sequence[Message]) -> str | Reply:
        if key.startswith("examination/"):
            return Reply(text="HTTP 500", finish_reason=FinishReason.ERROR)
        return GOOD(key, messages)

    bench = replace(workbench(checkout, ScriptedModel(silent)), examiner=Examiner(tmp_path / "abilities"))
    report = await solve(ISSUE, bench, MemoryJournal(), FakeProgress(), advance)
    assert report.verdict.outcome is Outcome.SOLVED
