"""The examination of a model: what it finds, what it costs, and that it never fails a run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bot.cli.examine import table
from bot.llm.ability import FORMATS, Ability, AbilityCache, EditFormat, Share
from bot.llm.budget import Budget, MeteredModel
from bot.llm.examination import Examiner, examine, version
from bot.llm.examination_tasks import EDITS, TESTS, EditTask, among_others, mistaken, problem_with
from bot.llm.prompts import render
from bot.llm.published_models import known_ability
from bot.llm.test_script import completed
from bot.patch.diff import file_diff
from bot.patch.redefine import Likely
from bot.records import Issue, Message, Reply
from bot.settings import SolverSettings
from bot.solver.profile import resolve
from tests.scripted import Mode, Script, ScriptedModel

TEST = '<test path="t.py">\nfrom shop.stock import *\n{call}\nassert {call} == {says}\n</test>'


def solution(task: EditTask, form: EditFormat, text: str | None = None) -> str:
    """A right reply to the task, in that format."""
    before = text or task.file.text
    after = before.replace(task.before, task.after)
    if form == "search_replace":
        replace = task.after or "\n"
        return f'<edit path="{task.path}">\n<<<<<<< SEARCH\n{task.before.strip(chr(10))}\n=======\n' + (
            f"{replace.strip(chr(10))}\n>>>>>>> REPLACE\n</edit>" if task.after else ">>>>>>> REPLACE\n</edit>"
        )
    if form == "file":
        return f'<file path="{task.path}">\n{after}</file>'
    if form == "diff":
        return f"<diff>\n{file_diff(task.path, before, after)}</diff>"
    lines = after.split("\n")
    at = next(i for i, (a, b) in enumerate(zip(lines, [*before.split("\n"), ""], strict=False)) if a != b)
    start = max(i for i in range(at + 1) if lines[i].lstrip().startswith(("def ", "function ")))
    deep = len(lines[start]) - len(lines[start].lstrip())
    end = next(
        (
            i
            for i in range(start + 1, len(lines))
            if lines[i].strip() and len(lines[i]) - len(lines[i].lstrip()) <= deep
        ),
        len(lines),
    )
    end += lines[end : end + 1] == ["}"]
    name = ("Stock." if deep else "") + lines[start].split("(")[0].split()[-1]
    body = "\n".join(lines[start:end]).rstrip()
    return f'<define path="{task.path}" name="{name}">\n{body}\n</define>'


def able(*forms: EditFormat, corrects: bool = True, reads: int = 10**9) -> Script:
    """A model that is right in these formats alone, and finds lines in prompts of so many characters."""

    def reply(key: str, messages: Sequence[Message]) -> str:
        asked = next(m.content for m in messages if m.role == "user")
        if "/test/" in key:
            task = TESTS[int(key[-1])]
            return TEST.format(call=f"{task.calls}()", says=task.says)
        form: EditFormat = "search_replace"
        if "the first line of the function" in asked:
            form = "define"
        elif "the whole text of the file, from its first" in asked:
            form = "file"
        elif "one unified diff" in asked:
            form = "diff"
        if form not in forms or len(asked) > reads or ("/correction/" in key and not corrects):
            return "I can't."
        task = next(task for task in EDITS if task.instruction in asked)
        file = asked.split(f'<file path="{task.path}">\n')[1].split("\n</file>")[0] + "\n"
        return solution(task, form, file)

    return reply


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("task", EDITS, ids=lambda task: task.instruction[:40])
def test_a_right_edit_is_right_in_every_format(task: EditTask, form: EditFormat) -> None:
    assert task.file.text.count(task.before) == 1
    assert task.judge(Reply(text=solution(task, form)))
    if task.path.endswith(".py"):
        long = among_others(task, 20_000)
        assert 15_000 < len(long.text) < 25_000
        assert task.judge(Reply(text=solution(task, form, long.text)), long)
    assert not task.judge(Reply(text="I can't."))
    assert not task.judge(Reply(text=solution(EDITS[EDITS.index(task) - 1], form)))
    assert not task.judge(Reply(text=mistaken(task, form)))
    assert problem_with(task, mistaken(task, form)), "it is told what was wrong"


def test_tests_are_read_and_not_run() -> None:
    for task in TESTS:
        right = TEST.format(call=f"{task.calls}()", says=task.says)
        assert task.judge(Reply(text=right))
        for wrong in (right.replace("stock", "x"), right.replace("assert", "print"), right.replace("(", "[["), "No."):
            assert not task.judge(Reply(text=wrong))
    assert completed("t.py", "x")  # what a run makes of a test is made of these, too


async def test_it_finds_the_format_the_corrections_and_the_length() -> None:
    found = await examine(ScriptedModel(able("define", "diff", corrects=False, reads=30_000)))
    assert found is not None
    assert found.formats == ("define", "diff")
    assert found.edits["search_replace"] == Share(right=0, of=6)
    assert found.tests == Share(right=4, of=4)
    assert found.corrects is False
    assert found.context_tokens == 4_000
    able_to_all = await examine(ScriptedModel(able(*FORMATS)))
    assert able_to_all is not None
    assert able_to_all.formats == ("search_replace", "define", "diff"), "whole files only where nothing else is better"
    assert (able_to_all.corrects, able_to_all.context_tokens) == (True, 0)
    files = await examine(ScriptedModel(able("file")))
    assert files is not None
    assert files.formats == ("file",)


async def test_it_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    await examine(ScriptedModel(able(*FORMATS)), lambda done, total: told.append((done, total)))
    total = 6 * len(FORMATS) + 4 + 3 + 2 * 2
    assert told == [(done, total) for done in range(total + 1)]


async def test_a_model_without_a_right_edit_keeps_the_defaults() -> None:
    model = ScriptedModel(able())
    found = await examine(model)
    assert found is not None
    assert (found.formats, found.corrects, found.context_tokens) == ((), None, 0)
    assert resolve(SolverSettings(), model, found) == resolve(SolverSettings(), model)


@pytest.mark.parametrize("mode", [Mode.GARBAGE, Mode.EMPTY, Mode.TRUNCATED])
async def test_useless_replies_are_wrong_ones(mode: Mode) -> None:
    found = await examine(ScriptedModel(able(*FORMATS), mode=mode))
    assert found is not None
    assert sum(share.right for share in found.edits.values()) == 0


async def test_an_endpoint_that_fails_says_nothing_and_nothing_is_kept(tmp_path: Path) -> None:
    model = ScriptedModel(able(), mode=Mode.ERROR)
    assert await Examiner(tmp_path).ability(model, "http://x") is None
    model.mode = Mode.NORMAL
    assert await Examiner(tmp_path).ability(model, "http://x") is not None


async def test_it_is_asked_once_for_each_model_and_endpoint(tmp_path: Path) -> None:
    model, other = ScriptedModel(able()), ScriptedModel(able("diff"), name="other", on_cpu=True)
    first = await Examiner(tmp_path).ability(model, "http://x")
    asked = len(model.calls)
    assert 20 < asked < 60
    assert await Examiner(tmp_path).ability(model, "http://x") == first
    assert len(model.calls) == asked
    again = await Examiner(tmp_path).ability(other, "http://x")
    assert again is not None
    assert again.formats == ("diff",)
    await Examiner(tmp_path).ability(model, "http://y")
    await Examiner(tmp_path).ability(model, "http://x", again=True)
    assert len(model.calls) == 3 * asked
    for path in tmp_path.iterdir():
        path.write_text("{")
    await Examiner(tmp_path).ability(model, "http://x")
    assert len(model.calls) == 4 * asked, "a broken entry is as none"


def test_a_folder_that_can_not_be_written_is_as_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = AbilityCache(tmp_path / "file" / "folder")
    cache.store("m", "e", version(), Ability(edits={}))
    assert cache.load("m", "e", version()) is None


async def test_its_calls_are_counted() -> None:
    budget = Budget()
    model = ScriptedModel(able())
    await examine(MeteredModel(model, budget))
    assert budget.usage.calls == len(model.calls)
    assert budget.usage.prompt_tokens > 0


async def test_a_model_on_a_cpu_is_asked_less() -> None:
    model, slow = ScriptedModel(able(*FORMATS)), ScriptedModel(able(*FORMATS), on_cpu=True)
    await examine(model)
    await examine(slow)
    assert sum(len(c.messages[-1].content) for c in slow.calls) * 2 < sum(
        len(c.messages[-1].content) for c in model.calls
    )


def test_a_weak_model_is_asked_for_the_format_with_the_least_copying() -> None:
    """Qwen2.5-Coder-1.5B makes as many tiny edits in either format, and in real files far more as definitions."""
    two, four = Share(right=2, of=4), Share(right=4, of=4)
    assert Ability(edits={"search_replace": two, "define": two, "diff": Share(of=4)}).formats[0] == "define"
    assert Ability(edits={"search_replace": four, "define": four, "diff": two}).formats[0] == "search_replace"


def test_what_was_measured_of_a_published_model_is_known() -> None:
    for name in ("qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"):
        found = known_ability(name)
        assert found is not None
        assert found.formats[0] == "define"
        assert found.corrects is False
    assert known_ability("qwen2.5-coder-32b") is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SolverSettings(), (("define", "diff"), True, 4_000)),
        (SolverSettings(edit_format="file"), (("file", "define", "diff"), True, 4_000)),
        (SolverSettings(attempts="correct"), (("define", "diff"), False, 4_000)),
        (SolverSettings(context_tokens=9_000), (("define", "diff"), True, 9_000)),
    ],
)
def test_settings_overrule_it(settings: SolverSettings, expected: tuple[object, ...]) -> None:
    found = Ability(
        edits={"define": Share(right=6, of=6), "diff": Share(right=2, of=6)},
        corrections=Share(right=1, of=3),
        context_tokens=4_000,
    )
    model = ScriptedModel(able())
    solver = resolve(settings, model, found)
    assert (solver.formats, solver.draws_anew, solver.settings.context_tokens) == expected
    lines = table(model, found, solver)
    assert any("6 of 6" in line and ("<- asked for" in line) == (solver.formats[0] == "define") for line in lines)


def test_the_bundled_model_is_not_examined() -> None:
    capuchin = ScriptedModel(able(), name="capuchin", context_window=2_048)
    assert not resolve(SolverSettings(), capuchin).is_examined
    assert resolve(SolverSettings(), ScriptedModel(able())).is_examined
    assert not resolve(SolverSettings(examine=False), ScriptedModel(able())).is_examined
    both: Callable[..., SolverSettings] = SolverSettings
    assert not resolve(both(edit_format="define", attempts="correct"), ScriptedModel(able())).is_examined


async def test_a_test_is_asked_for_as_trajectories_do_with_the_import_of_what_the_issue_means() -> None:
    model = ScriptedModel(lambda key, messages: "no")
    await examine(model)
    asked = {call.key: call.messages[-1].content for call in model.calls}
    imports = [("total", 0), ("mean", 1), ("largest", 2), ("Stock", 3)]
    for name, number in imports:
        prompt = asked[f"examination/test/{number}"]
        example = Likely("shop/stock.py", name, "")
        assert f"from shop.stock import {name}\n" in prompt
        real = render("full", "test", issue=Issue(title="", body=""), files=(), example=example)
        assert prompt.rpartition("<test")[2] == real.rpartition("<test")[2]
    elsewhere = TEST.replace("shop.stock", "shop").format(call="total([1, 2])", says="3")
    assert not TESTS[0].judge(Reply(text=elsewhere)), "shop/stock.py can't be imported from there"
