"""The choice by a capable model: what it is shown, objections, twins, patches of its own, and none."""

import json

from bot.errors import EndpointError
from bot.journal import MemoryJournal
from bot.llm.journaled import JournaledModel
from bot.patch.apply import FileEdit, Problem
from bot.records import (
    Abstention,
    Differential,
    Ending,
    Execution,
    NotCompared,
    NoWinner,
    Outcome,
    OwnTests,
    OwnTestsReport,
    Patch,
    Rule,
    SandboxJob,
    SourceFile,
    Struck,
    Verdict,
)
from bot.sandbox.journaled import JournaledSandbox
from bot.settings import SolverSettings
from bot.solver.ballot import Count, count
from bot.solver.documented import script as examples
from bot.solver.editing import Applied
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question
from bot.solver.stages.evidence import telling
from bot.solver.stages.selection import select
from tests.bot.solver.ballots import ballot, patch
from tests.bot.solver.stages.test_selection import CLOSE, CONTEXT, FULL, ISSUE, TEST, chosen, never, run
from tests.fakes import FAILED, PASSED, FakeProgress, FakeSandbox, exited
from tests.scripted import ScriptedModel, rules

BETTER = patch("better")
EDIT = '<parents>{}</parents>\n<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n</edit>'


def applied(edits: tuple[FileEdit, ...], earlier: Patch | None) -> Applied | Problem:
    return Applied(BETTER)


def last(model: ScriptedModel, call: int) -> str:
    return model.calls[call].messages[-1].content


async def test_the_telling_tests_are_shown_with_what_they_print_and_who_passes() -> None:
    b = ballot("....+", "+.+.+", "++..+", "+.++.")
    assert telling(b, (0, 1, 2)) == (1, 2, 3, 0)
    own = OwnTestsReport(
        command=("pytest",),
        base=OwnTests(execution=PASSED),
        candidates=((0, OwnTests(execution=PASSED, failures=())),),
    )
    third = b.candidates[2].patch.changes
    judge = FakeSandbox(lambda job: exited(1, "boom: third\n" if job.changes == third else "boom\n"))
    _, model = await run(rules([("selection/", "<choose>1</choose>")]), b, judge, own=own, profile="full")
    shown = last(model, 0)
    order = [f'<test name="T{t}" passed_by="{by}" failed_by="{no}">' for t, by, no in (
        (2, "2", "1, 3"), (3, "1, 3", "2"), (4, "3", "1, 2"), (1, "1, 2, 3", "none"))]  # fmt: skip
    numbered = {s.candidate: n for n, s in enumerate(count(b, own)[:3], 1)}
    assert "# 1\n</test>" in shown
    assert shown.count("<test name=") == len(order)
    assert f'<output test="T2" candidate="{numbered[2]}" ended="exit 1">\nboom: third' in shown
    assert f'number="{numbered[0]}" passes="2 of 4" alike="1" repository_tests="pass"' in shown


async def test_a_test_that_fails_on_all_tells_nothing() -> None:
    b = ballot("...", "+..", "+..", sizes=[20, 30])
    _, model = await run(rules([("selection/", "<choose>1</choose>")]), b, profile="full")
    assert "2 of the tests fail on all of these candidates" in last(model, 0)
    assert '<test name="T2"' not in last(model, 0)


async def test_an_objection_strikes_the_vote_and_the_count_is_made_again() -> None:
    script = rules([("selection/", ['<wrong test="T2">It forbids what is asked.</wrong>', "<choose>2</choose>"])])
    b = ballot("...", "++.", "+.+")
    verdict, model = await run(script, b, profile="full")
    assert verdict.struck == (Struck(test=1, reason="It forbids what is asked."),)
    assert verdict.ballot.voting == (0, 2)
    said = last(model, 1)
    assert "The vote of T2 is struck." in said
    assert "candidate 2 passes 2 of 2" in said
    assert "candidate 1 passes 1 of 2" in said
    assert (verdict.winner, chosen(verdict).rule) == (1, Rule.MODEL)
    assert [(s.candidate, s.votes) for s in verdict.standings] == [(1, 2), (0, 1)]


async def test_words_that_are_published_name_candidates_as_people_know_them() -> None:
    why = "Candidates 1 and 2 break it, candidate #2 more (candidates 1, 2, or 9); of 2 tests 1 is right."
    script = rules([("selection/", [f'<wrong test="T2">{why}</wrong>', "<choose>2</choose>"])])
    verdict, _ = await run(script, ballot("...", "++.", "+.+"), profile="full")
    assert [verdict.number(c) for c in (0, 1)] == [2, 1]  # the model chose its second, which now comes first
    assert verdict.struck[0].reason == (
        "Candidates 2 and 1 break it, candidate #1 more (candidates 2, 1, or 9); of 2 tests 1 is right."
    )


async def test_who_has_no_test_left_can_not_be_chosen() -> None:
    replies = ['<wrong test="T2">no</wrong>\n<choose>2</choose>', "<choose>1</choose>"]
    verdict, model = await run(rules([("selection/", replies)]), ballot("..", "+.", ".+"), profile="full")
    assert "candidate 2 can't be chosen: no test that still has a vote speaks for it" in last(model, 1)
    assert verdict.winner == 0
    both = "\n".join(f'<wrong test="{name}">no</wrong>' for name in ("T1", "T2", "T2", "T9"))
    verdict, model = await run(rules([("selection/", [both, "hm"])]), ballot("..", "+.", ".+"), profile="full")
    assert "it is struck already" in last(model, 1)
    assert "objection to T9: no test of that name has a vote" in last(model, 1)
    assert verdict.outcome is Outcome.ABSTAINED
    assert len(verdict.struck) == 2


async def test_none_is_an_abstention_with_the_models_reason() -> None:
    script = rules([("selection/", ["<choose>none</choose>", "Both lose data.\n<choose>none</choose>"])])
    verdict, model = await run(script, profile="full")
    assert "no reason is given" in last(model, 1)
    assert verdict.abstention == Abstention(cause=NoWinner.DECLINED, said="Both lose data.", calls=2)
    assert (verdict.outcome, verdict.winner) == (Outcome.ABSTAINED, None)


TWINS = ballot("..", "++", "++", "++", "+.", "+.", sizes=[20, 30, 40, 50, 60])


async def test_twins_are_named_shown_tested_and_may_win() -> None:
    twin = TWINS.candidates[2].patch
    judge = FakeSandbox(lambda job: PASSED if job.changes == twin.changes else FAILED)
    settings = SolverSettings(selection_calls=4, selection_top=2)
    solver = ResolvedSolver(profile="full", settings=settings)
    model = ScriptedModel(rules([("selection/", ["<show>4</show>\n" + TEST, "<choose>4</choose>"])]))
    counted = Count(TWINS, count(TWINS))
    verdict = await select(Question(ISSUE, CONTEXT), counted, model, judge, solver, FakeProgress())
    shown = last(model, 0)
    assert shown.count("<candidate number=") == 5
    assert shown.count('same_tests_as="1"') == 2
    number = next(n for n in (3, 4, 5) if f"Result on candidate {n}: exit 0" in last(model, 1))
    assert f'<candidate number="4">\n{TWINS.candidates[verdict.winner or 0].patch.diff.rstrip()}' in last(model, 1)
    assert (number == 4) == (verdict.winner == 2)
    assert len(chosen(verdict).compared) == 5
    assert len(chosen(verdict).passed[0]) == 6


async def test_calls_that_twins_answer_differently_are_shown() -> None:
    found = Differential(
        candidates=(1, 0, 2),
        asked=9,
        apart=2,
        calls=("f('</calls>')", "g()"),
        answers=(("1", "2"), ("1", "3"), ("4", "2")),
    )
    made = TWINS.model_copy(update={"differentials": (found,)})
    _, model = await run(rules([("selection/", "<choose>1</choose>")]), made, profile="full")
    shown = last(model, 0)
    first = [s.candidate for s in count(made)][:3]
    assert first[0] == 1, "its answers have most of the others'"
    n = {c: shown.partition(made.candidates[c].patch.diff)[0].rpartition('number="')[2][0] for c in (0, 1, 2)}
    one, other = sorted(n[c] for c in (0, 1))
    assert f"candidate {one}, {other}: 1; candidate {n[2]}: 4" in shown
    assert shown.count("</calls>") == 1, "what candidates print ends no tag"
    _, model = await run(rules([("selection/", "<choose>1</choose>")]), TWINS, profile="full")
    assert "answer them differently" not in last(model, 0)


async def test_a_better_patch_that_passes_all_that_its_parents_pass_may_win() -> None:
    script = rules([("selection/", [TEST, EDIT.format("1, 2"), "<choose>4</choose>"])])
    judge = FakeSandbox(lambda job: PASSED if job.changes == BETTER.changes else FAILED)
    good = OwnTests(execution=PASSED, failures=())
    own = OwnTestsReport(command=("pytest",), base=good, candidates=((0, good),))
    b = ballot("...", "++.", "+.+", ".++", sizes=[21, 20, 23])
    verdict, model = await run(script, b, judge, own=own, profile="full", edit=applied)
    assert "Your patch is candidate 4: it passes all that 1 and 2 pass." in last(model, 2)
    assert verdict.winner == 3
    won = verdict.ballot.candidates[3]
    assert (won.patch, won.parents, won.samples) == (BETTER, (0, 1), 0)
    assert verdict.ballot.cells[3] == (True, True, True)
    assert verdict.own_tests is not None
    assert verdict.own_tests.on(3) == good
    (ran,) = [job for job in judge.jobs if job.command == ("pytest",) and job.changes == BETTER.changes]
    assert ran.timeout == 120.0, "not a quarter of an hour: they took no time before"
    assert chosen(verdict).passed == ((False, False, False, False, True),)
    assert verdict.standing(3).votes == 3


async def test_a_patch_that_fails_what_a_parent_passes_is_not_taken() -> None:
    b = ballot("..", "+.", ".+")
    first = b.tests[0].text
    judge = FakeSandbox(lambda job: exited(1, "lost it\n") if job.test and job.test.text == first else PASSED)
    script = rules([("selection/", [EDIT.format("1"), EDIT.format("2"), "<choose>3</choose>"])])
    verdict, model = await run(script, b, judge, profile="full", edit=applied)
    assert "Your patch fails T1, which a candidate that it is made of passes" in last(model, 1)
    assert "lost it" in last(model, 1)
    assert "Your patch is candidate 3" in last(model, 2)
    assert verdict.winner == 2


async def test_a_patch_with_which_the_repositorys_tests_hang_is_not_taken() -> None:
    def answer(job: SandboxJob) -> Execution:
        hangs = Execution(ending=Ending.TIMED_OUT, output="t.py::a PASSED [ 50%]\nt.py::deep ", seconds=120.0)
        return hangs if job.command else PASSED

    good = OwnTests(execution=PASSED, failures=(), passed=("t.py::a", "t.py::deep"))
    own = OwnTestsReport(command=("pytest",), base=good)
    script = rules([("selection/", EDIT.format("1"))])
    _, model = await run(
        script, ballot("..", "+.", ".+"), FakeSandbox(answer), own=own, profile="full", edit=applied, calls=2
    )
    assert "so it was not taken: pytest: timed out, at t.py::deep" in last(model, 1)


async def test_a_patch_that_breaks_the_repositorys_tests_is_not_taken_and_none_wins_by_the_count() -> None:
    def answer(job: SandboxJob) -> Execution:
        return exited(1, "FAILED t.py::a - no\n") if job.command else PASSED

    good = OwnTests(execution=PASSED, failures=())
    own = OwnTestsReport(command=("pytest",), base=good)
    b = ballot("..", "+.", ".+")
    script = rules([("selection/", EDIT.format("1"))])
    verdict, model = await run(script, b, FakeSandbox(answer), own=own, profile="full", edit=applied, calls=2)
    assert "Your patch breaks tests of the repository, so it was not taken: t.py::a" in last(model, 1)
    assert len(verdict.ballot.candidates) == 2
    verdict, _ = await run(script, b, FakeSandbox(lambda job: PASSED), profile="full", edit=applied)
    assert len(verdict.ballot.candidates) == 3
    assert verdict.abstention is not None
    assert verdict.abstention.cause is NoWinner.UNDECIDED
    assert verdict.parting is not None
    assert verdict.parting.candidates == (0, 1), "the model's own patch is not what remains"


async def test_a_patch_that_contradicts_the_documentation_is_not_taken() -> None:
    documented = patch(">>> 1\n1\n")

    def answer(job: SandboxJob) -> Execution:
        if job.test is None or job.test.path != examples(("a.py",)).path:
            return PASSED
        fails = job.changes == documented.changes
        held, failed = ([], [["a", "a.py: f(1)", "1", "2"]]) if fails else (["a"], [])
        return exited(0, f"\nEXAMPLES {json.dumps({'held': held, 'failed': failed})}\n")

    own = OwnTestsReport(not_compared=NotCompared.NO_COMMAND)
    script = rules([("selection/", EDIT.format("1"))])
    verdict, model = await run(
        script,
        ballot("..", "+.", ".+"),
        FakeSandbox(answer),
        own=own,
        profile="full",
        edit=lambda edits, onto: Applied(documented),
        calls=2,
    )
    assert "so it was not taken: a.py: f(1), documented as 1, gives 2" in last(model, 1)
    assert len(verdict.ballot.candidates) == 2


async def test_the_front_runner_wins_without_a_choice_where_it_is_ahead() -> None:
    b = ballot("...", "++.", ".++", "++.", sizes=[20, 19, 30])
    verdict, _ = await run(rules([("selection/", "I can't tell.")]), b, FakeSandbox(lambda job: PASSED), profile="full")
    assert (verdict.winner, chosen(verdict).rule) == (0, Rule.NO_CHOICE)


async def test_a_resumed_selection_comes_to_the_same_verdict() -> None:
    replies = [TEST, '<wrong test="T1">no</wrong>', EDIT.format("1"), "<choose>4</choose>"]
    journal = MemoryJournal()

    async def once(model: ScriptedModel, sandbox: FakeSandbox) -> Verdict:
        question = Question(ISSUE, CONTEXT, applied)
        counted = Count(CLOSE, count(CLOSE))
        journaled = JournaledSandbox(sandbox, journal)
        return await select(question, counted, JournaledModel(model, journal), journaled, FULL, FakeProgress())

    whole = await once(ScriptedModel(rules([("selection/", replies)])), FakeSandbox(lambda job: PASSED))
    silent = ScriptedModel(never)
    idle = FakeSandbox(lambda job: FAILED)
    assert await once(silent, idle) == whole
    assert (silent.calls, idle.jobs) == ([], [])
    assert whole.struck
    assert whole.ballot.candidates[-1].parents


async def test_outputs_go_before_files_and_files_before_the_texts_of_tests() -> None:
    b = ballot("....", "++..", "+.+.", "+..+")
    judge = FakeSandbox(lambda job: exited(1, "boom " * 2_000))
    files = tuple(SourceFile(path=f"f{i}.py", text=f"x{i} = 1\n" * 800) for i in range(4))
    context = CONTEXT.model_copy(update={"files": files})
    seen = []
    for window in (65_536, 16_000, 12_000, 6_000):
        model = ScriptedModel(rules([("selection/", "<choose>1</choose>")]), context_window=window)
        await select(Question(ISSUE, context), Count(b, count(b)), model, judge, FULL, FakeProgress())
        shown = last(model, 0)
        seen.append((shown.count("<output"), shown.count("<file path"), shown.count("<test name"), len(shown)))
    assert [row[:3] for row in seen] == [(6, 4, 4), (6, 4, 4), (0, 3, 3), (0, 1, 3)]
    assert seen[1][3] < seen[0][3]
    assert "T1 (passed by 1, 2, 3)" in shown


LONG = ballot("..", "++", "++", "++", "+.", sizes=[2_200, 2_500, 2_600, 20])  # the first three behave alike


async def test_short_twins_are_shown_whole_and_chosen_without_a_question() -> None:
    replies = rules([("selection/", "<choose>4</choose>")])
    b = ballot("..", "++", "++", "+.", "+.", sizes=[20, 30, 400, 450])
    settings = SolverSettings(selection_calls=4, selection_top=2)
    solver = ResolvedSolver(profile="full", settings=settings)
    model = ScriptedModel(replies)
    verdict = await select(
        Question(ISSUE, CONTEXT), Count(b, count(b)), model, FakeSandbox(lambda job: FAILED), solver, FakeProgress()
    )
    shown = last(model, 0)
    assert all(candidate.patch.diff in shown for candidate in b.candidates)
    assert "<show>NUMBER</show>" not in shown
    twin = verdict.winner
    assert (twin in (2, 3), len(model.calls), chosen(verdict).rule) == (True, 1, Rule.MODEL)
    assert twin not in chosen(verdict).finalists


async def choose_among_long(*replies: str, calls: int = 4) -> tuple[Verdict, ScriptedModel]:
    settings = SolverSettings(selection_calls=calls, selection_top=2)
    solver = ResolvedSolver(profile="full", settings=settings)

    def reply(key: str, messages: object) -> str:
        return replies[min(int(key.rpartition("/")[2]), len(replies)) - 1]

    model = ScriptedModel(reply)
    question = Question(ISSUE, CONTEXT)
    return await select(
        question, Count(LONG, count(LONG)), model, FakeSandbox(lambda job: FAILED), solver, FakeProgress()
    ), model


async def test_who_chooses_one_of_long_twins_is_shown_them_and_asked_once() -> None:
    for again, winner in (("<choose>3</choose>", 2), ("<choose>4</choose>", 0), ("<choose>1</choose>", 1)):
        verdict, model = await choose_among_long("<choose>1</choose>", again)
        assert "<show>NUMBER</show> shows the whole" in last(model, 0)
        told = last(model, 1)
        assert "Candidate 1 passes exactly the same tests as 3 and 4" in told
        assert LONG.candidates[0].patch.diff in told
        assert LONG.candidates[2].patch.diff in told
        assert LONG.candidates[3].patch.diff not in told
        assert (verdict.winner, len(model.calls), chosen(verdict).rule) == (winner, 2, Rule.MODEL)
        assert chosen(verdict).front_runner == 1


async def test_who_read_the_twins_or_chose_another_behaviour_is_not_asked() -> None:
    verdict, model = await choose_among_long("<choose>2</choose>")
    assert (verdict.winner, len(model.calls)) == (3, 1)
    verdict, model = await choose_among_long("<show>3, 4</show>", "<choose>1</choose>")
    assert (verdict.winner, len(model.calls)) == (1, 2)


async def test_the_first_choice_among_twins_stands_where_no_better_answer_comes() -> None:
    for then in ("hm", "<choose>17</choose>"):
        verdict, model = await choose_among_long("<choose>3</choose>", then)
        assert (verdict.winner, len(model.calls), chosen(verdict).rule) == (2, 4, Rule.MODEL)
    verdict, model = await choose_among_long("<choose>3</choose>", calls=1)
    assert (verdict.winner, len(model.calls), chosen(verdict).rule) == (2, 1, Rule.MODEL)
    struck = '<wrong test="T1">no</wrong>\n<wrong test="T2">no</wrong>'
    verdict, model = await choose_among_long("<choose>3</choose>", struck, "hm")
    assert verdict.outcome is Outcome.ABSTAINED
    verdict, model = await choose_among_long("<choose>3</choose>", "So none.\n<choose>none</choose>")
    assert verdict.outcome is Outcome.ABSTAINED


async def test_an_endpoint_that_fails_at_the_twins_leaves_the_first_choice() -> None:
    def reply(key: str, messages: object) -> str:
        if key == "selection/2":
            raise EndpointError("gone")
        return "<choose>3</choose>"

    solver = ResolvedSolver(profile="full", settings=SolverSettings(selection_top=2))
    model = ScriptedModel(reply)
    counted = Count(LONG, count(LONG))
    verdict = await select(
        Question(ISSUE, CONTEXT), counted, model, FakeSandbox(lambda job: FAILED), solver, FakeProgress()
    )
    assert (verdict.winner, chosen(verdict).rule, chosen(verdict).error) == (2, Rule.MODEL, "")
