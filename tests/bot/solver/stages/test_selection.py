from bot.errors import EndpointError, SandboxError
from bot.llm.prompts import Profile
from bot.records import (
    Abstention,
    Ballot,
    Choice,
    Context,
    Doubt,
    Execution,
    Issue,
    NoWinner,
    Outcome,
    OwnTests,
    OwnTestsReport,
    Rule,
    SandboxJob,
    SourceFile,
    Verdict,
)
from bot.settings import SolverSettings
from bot.solver.ballot import Count, count
from bot.solver.editing import Apply
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question
from bot.solver.stages.selection import select
from tests.bot.solver.ballots import ballot
from tests.fakes import FAILED, PASSED, FakeProgress, FakeSandbox
from tests.scripted import Mode, Script, ScriptedModel, rules

ISSUE = Issue(title="add is wrong", body="add(1, 1) is 3")
CONTEXT = Context(files=(SourceFile(path="a.py", text="def add(a, b): ...\n"),), tokens=9)
FULL = ResolvedSolver(profile="full", settings=SolverSettings())
TEST = '<test path="new.py">\nassert add(2, 2) == 4\n</test>'

# three behaviours, close to each other; the fourth candidate behaves as the first
CLOSE = ballot("...", "+++", "++.", "+.+", "+++", sizes=[30, 32, 34, 50])


async def run(
    script: Script,
    b: Ballot = CLOSE,
    judge: FakeSandbox | None = None,
    *,
    mode: Mode = Mode.NORMAL,
    own: OwnTestsReport | None = None,
    calls: int = 4,
    profile: Profile = "compact",
    edit: Apply | None = None,
    solver: ResolvedSolver | None = None,
) -> tuple[Verdict, ScriptedModel]:
    model = ScriptedModel(script, mode=mode)
    settings = SolverSettings(selection_calls=calls)
    judge = judge or FakeSandbox(lambda job: FAILED)
    solver = solver or ResolvedSolver(profile=profile, settings=settings)
    question = Question(ISSUE, CONTEXT, edit)
    verdict = await select(question, Count(b, count(b, own), own), model, judge, solver, FakeProgress())
    return verdict, model


async def test_a_winner_that_is_too_unlikely_is_not_published() -> None:
    b = ballot("....", "+...", "....", "....", "....")
    settings = SolverSettings(wrong_at_most=0.3)
    solver, judge = ResolvedSolver(profile="full", settings=settings), FakeSandbox(lambda job: FAILED)
    model = ScriptedModel(never)
    verdict = await select(Question(ISSUE, CONTEXT), Count(b, count(b)), model, judge, solver, FakeProgress())
    assert verdict.outcome is Outcome.ABSTAINED
    assert verdict.abstention is not None
    assert verdict.abstention.cause is NoWinner.UNSURE
    assert verdict.abstention.confidence is not None
    assert 0 < verdict.abstention.confidence < 0.7
    taken, _ = await run(never, b)
    assert taken.winner == 0
    assert taken.confidence == verdict.abstention.confidence
    shifted = solver.model_copy(update={"settings": settings.model_copy(update={"confidence_shift": 5.0})})
    sure = await select(Question(ISSUE, CONTEXT), Count(b, count(b)), model, judge, shifted, FakeProgress())
    assert sure.winner == 0
    assert sure.confidence is not None
    assert sure.confidence > 0.9


def chosen(verdict: Verdict) -> Choice:
    assert verdict.choice is not None
    return verdict.choice


def never(key: str, messages: object) -> str:
    raise AssertionError("the model must not be asked")


async def test_the_model_chooses_among_distinct_behaviours_first() -> None:
    verdict, model = await run(rules([("selection/", "<choose>2</choose>")]))
    choice = chosen(verdict)
    assert verdict.outcome is Outcome.SOLVED
    assert (choice.rule, choice.front_runner, choice.calls) == (Rule.MODEL, 0, 1)
    assert choice.finalists == (0, 1, 2)
    assert verdict.winner == 1
    assert [s.candidate for s in verdict.standings] == [1, 0, 3, 2]
    assert [verdict.number(c) for c in range(4)] == [2, 1, 4, 3]
    assert verdict.candidate(2) == 0
    assert model.keys == ["selection/1"]
    prompt = model.calls[0].messages[-1].content
    assert "add(1, 1) is 3" in prompt
    assert prompt.count("<candidate") == 3
    assert model.calls[0].temperature == 0.0


async def test_new_tests_run_on_base_and_on_each_finalist_until_it_chooses() -> None:
    b = CLOSE
    third = b.candidates[2].patch.changes

    judge = FakeSandbox(lambda job: PASSED if job.changes == third else FAILED)
    verdict, model = await run(rules([("selection/", [TEST, "<choose>3</choose>"])]), b, judge)
    trees = [job.changes for job in judge.jobs]
    assert len(trees) == 4
    assert trees[0] == ()
    assert [t.path for t in verdict.selection_tests] == ["new.py"]
    assert verdict.winner == 2
    assert chosen(verdict).passed == ((False, False, False, True),)
    last = model.calls[1].messages[-1].content
    assert "candidate 3: exit 0" in last
    assert "candidate 1: exit 1" in last
    assert "original" not in last  # the compact profile shows the candidates alone


async def test_a_number_that_is_none_and_garbage_are_answered_within_the_budget() -> None:
    verdict, model = await run(rules([("selection/", ["<choose>9</choose>", "hm", "<choose>1</choose>"])]))
    assert "there is no candidate 9" in model.calls[1].messages[-1].content
    assert "no <choose> or <test> found" in model.calls[2].messages[-1].content
    assert verdict.winner == 0
    assert chosen(verdict).calls == 3


async def test_out_of_calls_the_best_standing_wins_and_it_is_said() -> None:
    verdict, model = await run(rules([("selection/", TEST)]), calls=3)
    assert verdict.winner == 0
    assert len(model.calls) == 3
    assert (chosen(verdict).rule, chosen(verdict).calls) == (Rule.NO_CHOICE, 3)
    assert len(verdict.selection_tests) == 1  # the same test, written three times


async def test_garbage_nothing_and_errors_leave_the_best_standing() -> None:
    for mode in (Mode.GARBAGE, Mode.EMPTY, Mode.ERROR):
        verdict, _ = await run(never, mode=mode)
        assert (verdict.outcome, verdict.winner) == (Outcome.SOLVED, 0)
        assert chosen(verdict).rule is (Rule.NO_ANSWER if mode is Mode.ERROR else Rule.NO_CHOICE)


async def test_an_endpoint_that_is_gone_costs_the_selection_not_the_run() -> None:
    def gone(key: str, messages: object) -> str:
        raise EndpointError("no such model")

    verdict, _ = await run(gone)
    assert verdict.winner == 0
    assert (chosen(verdict).rule, chosen(verdict).error) == (Rule.NO_ANSWER, "no such model")


async def test_a_sandbox_that_fails_is_shown_to_the_model_and_counts_for_nothing() -> None:
    def broken(job: SandboxJob) -> Execution:
        raise SandboxError("the disk is full")

    verdict, model = await run(rules([("selection/", [TEST, "<choose>1</choose>"])]), judge=FakeSandbox(broken))
    assert "unavailable" in model.calls[1].messages[-1].content
    assert chosen(verdict).passed == ((None, None, None, None),)


async def test_one_credible_candidate_needs_no_calls() -> None:
    verdict, model = await run(never, ballot("..", "++", ".."))
    assert verdict.winner == 0
    assert model.calls == []
    assert chosen(verdict) == Choice(rule=Rule.ONLY_CREDIBLE, front_runner=0)


async def test_a_clear_lead_needs_no_calls() -> None:
    verdict, _ = await run(never, ballot("....", "++++", "+...", trajectories=[[0, 1, 2, 3], [4]]))
    assert verdict.winner == 0
    assert chosen(verdict).rule is Rule.CLEAR_LEAD


SMALL = FULL.model_copy(update={"draws_anew": True})


async def test_a_small_model_is_not_asked_what_no_test_tells_apart() -> None:
    alike = ballot("...", "+++", "+++", "+++", "...", trajectories=[[0, 1], [2], [3], [4]], sizes=[50, 40, 90, 9])
    for solver in (SMALL, ResolvedSolver(profile="compact", settings=SolverSettings())):
        verdict, model = await run(never, alike, solver=solver)
        assert model.calls == []
        assert (verdict.winner, chosen(verdict).rule, chosen(verdict).finalists) == (0, Rule.TYPICAL, ())
    verdict, _ = await run(rules([("selection/", "<choose>2</choose>")]), alike, solver=FULL)
    assert (verdict.winner, chosen(verdict).rule) == (1, Rule.MODEL)


async def test_a_small_model_chooses_among_behaviours_that_are_close() -> None:
    close = ballot("...", "+++", "+++", "++.", sizes=[31, 40, 30])
    verdict, model = await run(rules([("selection/", "<choose>2</choose>")]), close, solver=SMALL)
    assert (verdict.winner, chosen(verdict).finalists) == (2, (0, 2))
    assert model.calls[0].messages[-1].content.count("<candidate number") == 2
    ahead = ballot("....", "++++", "+...", trajectories=[[0, 1, 2, 3], [4]])
    verdict, _ = await run(never, ahead, solver=SMALL)
    assert chosen(verdict).rule is Rule.CLEAR_LEAD


async def test_nothing_credible_abstains_with_the_reason() -> None:
    verdict, _ = await run(never, ballot("..", "..", ".."))
    assert (verdict.outcome, verdict.winner) == (Outcome.ABSTAINED, None)
    assert verdict.abstention == Abstention(cause=NoWinner.NOT_CREDIBLE, doubts=((Doubt.NO_VOTE, 2),))
    assert verdict.choice is None
    assert len(verdict.standings) == 2
    verdict, _ = await run(never, ballot(""))
    assert verdict.outcome is Outcome.ABSTAINED


async def test_who_has_more_votes_than_the_winner_is_known() -> None:
    b = ballot("." * 6, "++++++", "++++..", trajectories=[[0], list(range(1, 12))])
    verdict, _ = await run(rules([("selection/", "<choose>1</choose>")]), b)
    assert verdict.winner == 1
    assert chosen(verdict).overruled == 0


async def test_an_external_patch_may_win() -> None:
    verdict, _ = await run(never, ballot("..", "++", "..", trajectories=[[], [1]]))
    assert verdict.winner == 0


async def test_who_breaks_the_repositorys_own_tests_is_not_credible() -> None:
    bad = OwnTests(execution=FAILED, failures=("t::a",))
    good = OwnTests(execution=PASSED, failures=())
    own = OwnTestsReport(command=("pytest", "-q"), base=good, candidates=((0, bad), (1, good)))
    verdict, _ = await run(never, ballot("..", "++", "+."), own=own)
    assert verdict.winner == 1
    assert verdict.own_tests == own


async def test_a_choice_against_its_own_evidence_is_asked_about_once() -> None:
    second = CLOSE.candidates[1].patch.changes
    judge = FakeSandbox(lambda job: PASSED if job.changes == second else FAILED)
    stubborn, wavering = [TEST, "<choose>1</choose>"], [TEST, "<choose>1</choose>", "<choose>2</choose>"]
    verdict, model = await run(rules([("selection/", wavering)]), judge=judge, profile="full")
    finalist = next(i for i in (1, 2, 3) if f"candidate {i}: exit 0" in model.calls[1].messages[-1].content)
    assert finalist == 2
    told = model.calls[2].messages[-1].content
    assert "candidate 1 fails your test 1, which fails on the original repository and which candidate 2 passes" in told
    assert verdict.winner == 1
    verdict, model = await run(rules([("selection/", stubborn)]), judge=judge, profile="full")
    assert (verdict.winner, len(model.calls)) == (0, 3)
    verdict, model = await run(rules([("selection/", stubborn)]), judge=judge, profile="full", calls=2)
    assert (verdict.winner, len(model.calls)) == (0, 2)  # not beyond the budget


async def test_what_is_shown_fits_the_window() -> None:
    b = ballot("...", "+++", "++.", sizes=[90_000, 80_000])
    files = tuple(SourceFile(path=f"f{i}.py", text=f"x{i} = 1\n" * 800) for i in range(20))
    context = CONTEXT.model_copy(update={"files": files})
    issue = ISSUE.model_copy(update={"body": "long " * 30_000})
    model = ScriptedModel(rules([("selection/", "<choose>2</choose>")]), context_window=16_384)
    verdict = await select(
        Question(issue, context), Count(b, count(b)), model, FakeSandbox(lambda job: FAILED), FULL, FakeProgress()
    )
    assert verdict.winner == 1
    (call,) = model.calls
    shown = call.messages[-1].content
    assert sum([await model.count_tokens(m.content) for m in call.messages]) + call.max_tokens < 16_384
    assert call.max_tokens == 4096  # a quarter of the window
    assert shown.count("<candidate") == 2
    assert "left out" in shown


async def test_files_go_before_diffs_the_least_relevant_first() -> None:
    files = tuple(SourceFile(path=f"f{i}.py", text=f"x{i} = 1\n" * 800) for i in range(20))
    model = ScriptedModel(rules([("selection/", "<choose>1</choose>")]), context_window=16_384)
    context = CONTEXT.model_copy(update={"files": files})
    await select(
        Question(ISSUE, context),
        Count(CLOSE, count(CLOSE)),
        model,
        FakeSandbox(lambda job: FAILED),
        FULL,
        FakeProgress(),
    )
    shown = model.calls[0].messages[-1].content
    assert '<file path="f0.py">' in shown
    assert '<file path="f19.py">' not in shown
    assert "left out" not in shown
