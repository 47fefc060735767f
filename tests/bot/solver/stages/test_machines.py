"""The test machine and the edit machine, each over a scripted model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.records import (
    Ending,
    Execution,
    Issue,
    Message,
    Test,
    TrajectoryEnd,
)
from bot.settings import SolverSettings
from bot.solver.profile import resolve
from bot.solver.stages import edit_machine, test_machine
from bot.solver.stages.test_machine import at_fault, own_fault
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
from tests.fakes import FAILED, FakeProgress, FakeSandbox
from tests.scripted import ScriptedModel, rules

# -- the test machine ------------------------------------------------------------------------------------------------


async def test_a_test_is_revised(root: Path) -> None:
    bad = TEST.replace("add(1", "sub(1")
    model = ScriptedModel(rules([("/test/", [bad, TEST, "<approve/>"]), ("/edit/", [FIX, "<done/>"])]))
    (t,) = await sample(root, model)
    assert t.calls == 5
    assert t.test is not None
    assert "sub" not in t.test.text
    assert "NameError" in asked(model, "trajectory/0/test/2")


async def test_a_test_that_calls_nothing_is_called(root: Path) -> None:
    uncalled = '<test path="t.py">\nfrom mod import add\n\ndef test_add():\n    assert add(1, 2) == 3\n</test>'
    model = ScriptedModel(rules([("/test/", [uncalled, "<approve/>"]), ("/edit/", [FIX, "<done/>"])]))
    (t,) = await sample(root, model)
    assert t.test is not None
    assert t.test.text.endswith("    test_add()\n")


async def test_a_correction_offers_to_approve_only_what_exists(root: Path) -> None:
    model = ScriptedModel(
        by_call(["I think.", TEST, "I think so.", "<done/>"], ["I would.", FIX, "Good?", "<approve/>"])
    )
    (t,) = await sample(root, model)
    assert t.end is TrajectoryEnd.DONE
    for step, word in (("test", "<approve/>"), ("edit", "<done/>")):
        said = [asked(model, f"trajectory/0/{step}/{n}") for n in (2, 4)]
        assert [word in text for text in said] == [False, True]


async def test_the_same_test_again_is_an_approval(root: Path) -> None:
    model = ScriptedModel(rules([("/test/", [TEST]), ("/edit/", [FIX, "<done/>"])]))
    await sample(root, model)
    assert model.keys == [f"trajectory/0/{k}" for k in ("test/1", "test/2", "edit/1", "edit/2")]


async def test_an_approved_test_that_passes_on_the_original_is_doubted_once(root: Path) -> None:
    useless = TEST.replace("== 3", "== -1")
    model = ScriptedModel(rules([("/test/", [useless, "<approve/>"]), ("/edit/", [FIX, "<done/>"])]))
    (t,) = await sample(root, model)
    assert model.keys[:3] == [f"trajectory/0/test/{n}" for n in (1, 2, 3)]
    assert "passes on the untouched repository" in asked(model, "trajectory/0/test/3")
    assert t.end is TrajectoryEnd.DONE


async def test_a_test_that_only_shows_its_own_fault_is_not_approved(root: Path) -> None:
    wrong = '<test path="t.py">\nimport pkg.parser\n</test>'
    model = ScriptedModel(by_call([wrong, "<approve/>", wrong, TEST, "<approve/>"], [FIX, "<done/>"]))
    (t,) = await sample(root, model)
    assert "reason of its own: ModuleNotFoundError: No module named 'pkg'" in asked(model, "trajectory/0/test/3")
    again = [call.messages for call in model.calls if call.key == "trajectory/0/test/4"]
    assert len(again[0]) == 2, "it repeated itself, so it is asked as if for the first time"
    assert t.test is not None
    assert "add(1, 2)" in t.test.text
    assert t.calls == 7


async def test_an_edit_that_is_repeated_word_for_word_is_sampled_again(root: Path) -> None:
    wrong = edit("return a + b").replace("a - b", "a * b")
    model = ScriptedModel(by_call([TEST, "<approve/>"], [wrong, wrong, FIX, "<done/>"]))
    (t,) = await sample(root, model)
    assert t.end is TrajectoryEnd.DONE
    calls = {call.key: call for call in model.calls}
    assert len(calls["trajectory/0/edit/2"].messages) > len(calls["trajectory/0/edit/1"].messages)
    assert len(calls["trajectory/0/edit/3"].messages) == len(calls["trajectory/0/edit/1"].messages)
    assert "<<<<<<< SEARCH" in calls["trajectory/0/edit/1"].messages[-1].content
    assert "<define" in calls["trajectory/0/edit/3"].messages[-1].content, "another form may be within its reach"
    assert calls["trajectory/0/edit/3"].temperature > calls["trajectory/0/edit/2"].temperature


async def test_two_mistakes_of_one_kind_begin_the_conversation_anew(root: Path) -> None:
    first, second = (edit("return a + b").replace("return a - b", text) for text in ("return x", "return y"))
    faulty = ['<test path="t.py">\nimport pkg.a\n</test>', '<test path="t.py">\nimport pkg.b\n</test>']
    tests = [faulty[0], "<approve/>", faulty[1], "I approve it.\n<approve/>", TEST, "<approve/>"]
    edits = [first, "I can't say.", second, FIX, "<done/>"]
    model = ScriptedModel(by_call(tests, edits))
    (t,) = await sample(root, model, test_calls=8, edit_calls=8)
    assert t.end is TrajectoryEnd.DONE
    calls = {call.key: call for call in model.calls}
    for step, number in (("test", 5), ("edit", 4)):
        opened, again = calls[f"trajectory/0/{step}/1"], calls[f"trajectory/0/{step}/{number}"]
        assert len(again.messages) == len(opened.messages)
        assert (again.messages == opened.messages) is (step == "test"), "an edit is asked for in another form"
        assert again.seed != opened.seed
        assert again.temperature > opened.temperature


async def test_a_small_model_is_sampled_again_and_writes_functions_whole(root: Path) -> None:
    wrong = '<edit path="mod.py">\ndef add(a, b):\n    return a * b\n</edit>'
    model = ScriptedModel(
        by_call([TEST, "<approve/>"], [wrong, wrong.replace("*", "+")]), on_cpu=True, context_window=32_768
    )
    chosen = resolve(SolverSettings(trajectories=1), model)
    (t,) = await sample_trajectories(
        ISSUE, CONTEXT, checkout_of(root), model, FakeSandbox(real), chosen, FakeProgress()
    )
    assert t.end is TrajectoryEnd.DONE
    assert t.patch is not None
    assert t.patch.changes[0].text == MOD.replace("-", "+")
    first, second = (call.messages for call in model.calls if "/edit/" in call.key)
    assert first == second, "all samples share one prompt"
    assert '<define path="mod.py" name="add">\ndef add(a, b):\n' in first[-1].content
    assert "from mod import add\n" in asked(model, "trajectory/0/test/1")


def test_what_the_issue_names_may_be_missing_rightly() -> None:
    asks = Issue(title="Add a function `total`", body="`mod.total([1, 2])` should be 3")
    test = Test(path="t.py", text="")

    def run(output: str, code: int = 1) -> Execution:
        return Execution(ending=Ending.EXITED, exit_code=code, output=output)

    assert own_fault(run("ImportError: cannot import name 'total' from 'mod' (mod.py)"), asks, test) == ""
    assert own_fault(run("AttributeError: module 'mod' has no attribute 'total'"), asks, test) == ""
    assert own_fault(run("AssertionError: 4"), asks, test) == ""
    assert own_fault(run("NameError: name 'x' is not defined", code=0), asks, test) == ""
    for last in ("ModuleNotFoundError: No module named 'pkg'", "SyntaxError: '(' was never closed"):
        assert own_fault(run(f"seen: 1\n{last}\n"), asks, test) == last
    last = "NameError: name 'total' is not defined"
    script, repository = '  File "/tmp/x/t.py", line 1, in <module>', '  File "/repo/mod.py", line 2, in sum_of'
    assert own_fault(run(f"{script}\n{repository}\n{last}"), asks, test) == "", "the repository lacks it"
    assert own_fault(run(f"{script}\n    total([1, 2])\n{last}"), asks, test) == last, "the script forgot its import"


async def test_test_calls_are_bounded_and_the_last_test_is_taken(root: Path) -> None:
    def fickle(key: str, messages: Sequence[Message]) -> str:
        return TEST.replace("3", f"3, {len(messages)}") if "/test/" in key else edit(f"return a + b + {len(messages)}")

    model = ScriptedModel(fickle)
    (t,) = await sample(root, model, test_calls=3, edit_calls=2)
    assert sum("/test/" in key for key in model.keys) == 3
    assert t.end is TrajectoryEnd.OUT_OF_CALLS
    assert t.patch is not None


# -- the edit machine ------------------------------------------------------------------------------------------------


async def test_what_is_wrong_with_a_reply_is_told_within_the_budget(root: Path) -> None:
    replies = [
        "I would change the sign.",
        edit("return a + b").replace("return a - b", "return a-b"),
        edit("return a +"),
        edit("return a + b", "module.py").replace("return a - b", "return nowhere"),
        edit("return b - a"),
        FIX,
        "<done/>",
    ]
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", replies)]))
    (t,) = await sample(root, model)
    assert t.end is TrajectoryEnd.DONE
    said = [asked(model, f"trajectory/0/edit/{n}") for n in range(2, 8)]
    for text, part in zip(
        said,
        ["no <edit> found", "2 |     return a - b", "no longer parse", "Did you mean mod.py?", "exit 1", "exit 0"],
        strict=True,
    ):
        assert part in text


WRONG = edit("return b + a + 1")


async def test_compact_samples_again_what_can_not_be_used_or_fails(root: Path) -> None:
    astray = edit("x", "nix.py").replace("return a - b", "return nowhere")
    replies = ["no idea", astray, OTHER_TEST, WRONG, "<done/>", FIX, "<never asked/>"]
    model = ScriptedModel(by_call([TEST, "<approve/>"], replies))
    (t,) = await sample(root, model, profile="compact")
    assert t.patch is not None
    assert t.patch.changes[0].text == MOD.replace("-", "+")
    assert (t.end, t.calls) == (TrajectoryEnd.DONE, 8)
    asks = [call for call in model.calls if "/edit/" in call.key]
    assert all(call.messages == asks[0].messages for call in asks)  # nothing of an earlier attempt is shown
    assert len({call.seed for call in asks}) == 6
    heat = [call.temperature for call in asks]
    assert heat == sorted(heat)
    assert heat[0] < heat[-1] <= 0.9


async def test_compact_holds_replies_to_what_was_shown(root: Path) -> None:
    model = ScriptedModel(HAPPY)
    await sample(root, model, profile="compact")
    grammars = {call.key.split("/")[2]: call.grammar for call in model.calls}
    assert "return a - b" in grammars["edit"]
    assert "<approve/>" in grammars["test"]
    full = ScriptedModel(HAPPY)
    await sample(root, full)
    assert {call.grammar for call in full.calls} == {None}


async def test_compact_takes_the_first_edit_where_none_passes(root: Path) -> None:
    other = edit("return a * b + 7")
    model = ScriptedModel(by_call([TEST, "<approve/>"], ["no idea", WRONG, other]))
    (t,) = await sample(root, model, profile="compact", edit_calls=4)
    assert t.patch is not None
    assert "b + a + 1" in t.patch.changes[0].text
    assert (t.end, t.calls) == (TrajectoryEnd.OUT_OF_CALLS, 6)


async def test_compact_samples_a_test_again_that_passes_or_is_at_fault(root: Path) -> None:
    passing, broken = TEST.replace("== 3", "!= 3"), TEST.replace("assert", "asert (")
    assert len({passing, broken, TEST}) == 3
    model = ScriptedModel(by_call([passing, broken, TEST, "<approve/>"], [FIX]))
    (t,) = await sample(root, model, profile="compact")
    assert t.test is not None
    assert "== 3" in t.test.text
    assert t.end is TrajectoryEnd.DONE
    asks = [call.messages for call in model.calls if "/test/" in call.key]
    assert [len(messages) for messages in asks] == [len(asks[0])] * 3 + [len(asks[0]) + 2]


async def test_a_test_that_failed_as_it_should_is_kept_where_a_later_one_does_not(root: Path) -> None:
    passing = TEST.replace("== 3", "!= 3")
    model = ScriptedModel(by_call([passing, TEST, passing], [FIX]))
    (t,) = await sample(root, model, profile="compact", test_calls=4)
    assert t.test is not None
    assert "== 3" in t.test.text
    assert (t.end, t.calls) == (TrajectoryEnd.DONE, 5)


async def test_a_small_models_test_gets_the_import_that_it_forgets(root: Path) -> None:
    (root / "mod.py").write_text(f"import math\n\nTHREE = 3\n\n\n{MOD}")
    forgets = TEST.replace("== 3", "== THREE")
    for attempts, whole in (("draw anew", True), ("correct", False)):
        model = ScriptedModel(by_call([forgets, "<approve/>"], [FIX]))
        (t,) = await sample(root, model, FakeSandbox(lambda job: FAILED), attempts=attempts, test_calls=2)
        assert t.test is not None
        assert ("from mod import THREE\n" in t.test.text) is whole


async def test_compact_adds_to_a_test_what_the_issue_binds(root: Path) -> None:
    issue = Issue(title="add is wrong", body="First:\n\n```python\none = 1\n```\n\n`add(one, 2)` gives -1, expected 3")
    model = ScriptedModel(by_call([TEST.replace("add(1,", "add(one,"), "<approve/>"], [FIX]))
    chosen = solver("compact", trajectories=1)
    (t,) = await sample_trajectories(
        issue, CONTEXT, checkout_of(root), model, FakeSandbox(real), chosen, FakeProgress()
    )
    assert t.test is not None
    assert t.test.text.strip() == "from mod import add\none = 1\nassert add(one, 2) == 3"
    assert t.end is TrajectoryEnd.DONE


def test_a_fault_of_the_test_is_not_what_the_issue_speaks_of() -> None:
    broken = Execution(ending=Ending.EXITED, exit_code=1, output="Traceback\nNameError: name 'sub' is not defined\n")
    assert at_fault(broken, Issue(title="add is wrong", body=""))
    assert not at_fault(broken, Issue(title="add raises NameError", body=""))
    assert not at_fault(broken.model_copy(update={"output": "AssertionError\n"}), Issue(title="add is wrong", body=""))


async def test_a_new_test_is_run_on_the_original_again(root: Path) -> None:
    sandbox = FakeSandbox(real)
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", [FIX, OTHER_TEST, "<done/>"])]))
    (t,) = await sample(root, model, sandbox)
    assert t.test is not None
    assert "'sum'" in t.test.text
    last = [(job.test.text == t.test.text, bool(job.changes)) for job in sandbox.jobs[-2:] if job.test]
    assert last == [(True, False), (True, True)]


async def test_edits_are_made_on_the_base_commit(root: Path) -> None:
    wrong = edit("return b + a + 1")
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", [wrong, FIX, "<done/>"])]))
    (t,) = await sample(root, model)
    assert t.patch is not None
    assert t.patch.changes[0].text == MOD.replace("-", "+")
    assert (root / "mod.py").read_text() == MOD


NEW = '<create path="sums.py">\ndef sums(a):\n    return 0\n</create>'
NEXT = '<edit path="sums.py">\n<<<<<<< SEARCH\n    return 0\n=======\n    return 1\n>>>>>>> REPLACE\n</edit>'


async def test_an_edit_of_what_only_the_earlier_edit_holds_goes_on_from_it(root: Path) -> None:
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", [f"{FIX}\n{NEW}", NEXT, "<done/>"])]))
    (t,) = await sample(root, model)
    assert "was made on top of the earlier one" in asked(model, "trajectory/0/edit/3")
    assert t.patch is not None
    assert {c.path: c.text for c in t.patch.changes} == {
        "mod.py": MOD.replace("-", "+"),
        "sums.py": "def sums(a):\n    return 1\n",
    }


async def test_files_that_a_new_edit_leaves_out_are_named_once(root: Path) -> None:
    replies = [f"{FIX}\n{NEW}", edit("return b + a"), OTHER_TEST, "<done/>"]
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", replies)]))
    (t,) = await sample(root, model)
    assert "so sums.py is again as in the original" in asked(model, "trajectory/0/edit/3")
    assert "again as in the original" not in asked(model, "trajectory/0/edit/4")
    assert t.patch is not None
    assert t.patch.paths == ("mod.py",)


async def test_the_same_edit_again_is_done(root: Path) -> None:
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", f"It is right as it is:\n\n{FIX}")]))
    (t,) = await sample(root, model)
    assert (t.end, t.calls) == (TrajectoryEnd.DONE, 4)


async def test_an_edit_of_what_judges_it_is_left_out(root: Path) -> None:
    both = f'{FIX}\n<edit path="./tests/test_mod.py">\n<<<<<<< SEARCH\nnowhere\n=======\n>>>>>>> REPLACE\n</edit>'
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", [both, FIX, "<done/>"])]))
    (t,) = await sample(root, model)
    told = asked(model, "trajectory/0/edit/2")
    assert "Your edit of ./tests/test_mod.py was left out" in told
    assert "the repository with your edit" in told
    assert t.patch is not None
    assert t.patch.paths == ("mod.py",)


async def test_compact_samples_again_an_edit_of_what_judges_it(root: Path) -> None:
    both = f'{FIX}\n<create path="tests/test_mod.py">\nx = 1\n</create>'
    model = ScriptedModel(by_call([TEST, "<approve/>"], [both, FIX]))
    (t,) = await sample(root, model, profile="compact")
    assert t.calls == 4
    assert t.patch is not None
    assert t.patch.paths == ("mod.py",)


async def test_an_edit_of_nothing_but_what_judges_it_is_sent_back(root: Path) -> None:
    tests = '<create path="tests/test_mod.py">\nx = 1\n</create>'
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", [tests, FIX, "<done/>"])]))
    (t,) = await sample(root, model)
    assert "the edit changes tests/test_mod.py, which judges it" in asked(model, "trajectory/0/edit/2")
    assert t.end is TrajectoryEnd.DONE


async def test_done_without_an_edit_is_no_end(root: Path) -> None:
    model = ScriptedModel(rules([("/test/", [TEST, "<approve/>"]), ("/edit/", "<done/>")]))
    (t,) = await sample(root, model, edit_calls=5)
    assert (t.end, t.patch, t.calls) == (TrajectoryEnd.NO_EDIT, None, 4)  # who says so twice has decided
    (t,) = await sample(root, model, profile="compact", test_calls=3, edit_calls=3)
    assert (t.end, t.patch, t.calls) == (TrajectoryEnd.NO_EDIT, None, 5)


async def test_an_edit_without_a_test(root: Path) -> None:
    model = ScriptedModel(rules([("/test/", "no idea"), ("/edit/", [FIX, TEST, "<done/>"])]))
    (t,) = await sample(root, model, test_calls=2)
    assert t.end is TrajectoryEnd.DONE
    assert t.test is not None
    assert "There is no test to run on it yet" in asked(model, "trajectory/0/edit/2")


async def test_an_edit_of_a_test_in_a_hidden_folder_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text(MOD)
    (tmp_path / ".ci" / "tests").mkdir(parents=True)
    (tmp_path / ".ci" / "tests" / "test_a.py").write_text("from mod import add\n")
    judge = '<create path=".ci/tests/test_a.py">\nassert True\n</create>'
    model = ScriptedModel(by_call([TEST, "<approve/>"], [judge, FIX, "<done/>"]))
    (t,) = await sample(tmp_path, model)
    assert "the edit changes .ci/tests/test_a.py, which judges it" in asked(model, "trajectory/0/edit/2")
    assert t.patch is not None
    assert t.patch.paths == ("mod.py",)


# -- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [test_machine, edit_machine])
def test_diagram_and_table_agree(machine: Any) -> None:
    assert machine.__doc__ is not None
    drawn = set(re.findall(r"^ +(\w+) --> (\w+):", machine.__doc__, re.M))
    assert drawn == {(str(old.value), str(new.value)) for (old, _), new in machine.TRANSITIONS.items()}
    left = {old for old, _ in machine.TRANSITIONS}
    assert set(machine.TRANSITIONS.values()) - left == set(machine.State) - left
