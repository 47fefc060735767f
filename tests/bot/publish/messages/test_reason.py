"""The facts of a verdict in sentences: which rule chose, how many agree, why nobody is credible."""

import io
import json

import pytest
from rich.console import Console

from bot.cli.console import print_report
from bot.cli.report_object import as_object
from bot.publish.messages import pull_request
from bot.publish.messages.alternatives import evidence
from bot.publish.messages.count import candidates_table, warnings
from bot.publish.messages.obstacles import words_of
from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.pull_request import commit_message
from bot.publish.messages.reason import passes, reason, tally
from bot.publish.messages.status import abstained, solved
from bot.publish.messages.words import counted, listed
from bot.records import (
    Abstention,
    Ballot,
    Choice,
    Differential,
    Documented,
    Doubt,
    Ending,
    Execution,
    Fault,
    NotCompared,
    NoWinner,
    Obstacle,
    Outcome,
    OwnTests,
    OwnTestsReport,
    Repeated,
    Report,
    Rule,
    Stopped,
    StopRule,
    Struck,
    Test,
    Verdict,
)
from bot.solver.ballot import count
from tests.bot.sample import report
from tests.bot.solver.ballots import ballot
from tests.fakes import FAILED, PASSED

CLOSE = ballot("...", "+++", "++.", "+.+")
MODEL = Choice(rule=Rule.MODEL, front_runner=0, finalists=(0, 1, 2), calls=2)
ALONE = Choice(rule=Rule.ONLY_CREDIBLE, front_runner=0)


def of(verdict: Verdict) -> Report:
    return report().model_copy(update={"verdict": verdict})


def won(b: Ballot, choice: Choice = ALONE, winner: int = 0, **more: object) -> Report:
    standings = sorted(count(b), key=lambda standing: standing.candidate != winner)
    values: dict[str, object] = {
        "outcome": Outcome.SOLVED,
        "winner": winner,
        "standings": tuple(standings),
        "choice": choice,
        "ballot": b,
        "numbered_by_rank": True,
    }
    return of(Verdict.model_validate(values | more))


def nobody(b: Ballot, abstention: Abstention) -> Report:
    return of(
        Verdict(
            outcome=Outcome.ABSTAINED,
            winner=None,
            standings=count(b),
            abstention=abstention,
            ballot=b,
            numbered_by_rank=True,
        )
    )


def many(alike: int, others: int) -> Ballot:
    """One test, which the patch of so many attempts passes, and others fail."""
    rows = ["+", *["."] * others]
    return ballot(".", *rows, trajectories=[list(range(alike)), *([1000 + i] for i in range(others))])


def test_what_candidates_with_the_same_results_answer_to_other_calls() -> None:
    b = ballot(".", "+", "+", "+", trajectories=[[0, 1], [2], [3]])
    rows = (("1", "2"), ("1", "`|`"), ("7", "2"))
    found = Differential(candidates=(0, 1, 2), asked=40, apart=2, calls=("f(1)", "f('`')"), answers=rows)
    told = won(b.model_copy(update={"differentials": (found,)}), Choice(rule=Rule.TYPICAL, front_runner=0))
    calls = "40 calls that tests make, and others like them"
    assert (
        f"3 candidates with these results differ on 2 of {calls}, where 75% of their attempts answer as it does."
        in reason(told)
    )
    table = candidates_table(told, chosen=0)
    assert "on `f(1)`, which no test checks: `7`, and candidate 1 `1`" in table
    assert table.count("which no test checks") == 2
    same = found.model_copy(update={"candidates": (0, 1), "apart": 0, "calls": (), "answers": ((), ())})
    told = won(b.model_copy(update={"differentials": (same,)}), Choice(rule=Rule.TYPICAL, front_runner=0))
    assert "Both candidates with these results answer all 40 calls alike that tests make" in reason(told)
    assert "which no test checks" not in candidates_table(told, chosen=0)


def test_the_words_of_the_table() -> None:
    assert reason(won(many(54, 9))) == (
        "It passes the one test that reproduces the bug. 54 of 63 attempts that produced a patch have the same "
        "results in the vote matrix. No other candidate is credible."
    )


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (ballot(".", "+"), "passes the one test that reproduces the bug"),
        (ballot(".", "."), "does not pass the one test that reproduces the bug"),
        (ballot(".", "+", authors=[[0]]), "passes the one test that reproduces the bug, which was written with it"),
        (ballot("..", "++"), "passes both tests that reproduce the bug"),
        (ballot("..+", "+.+"), "passes 1 of the 2 tests that reproduce the bug"),
        (
            ballot("..", "+.", authors=[[0], [9]]),
            "passes 1 of the 2 tests that reproduce the bug, a test written with it",
        ),
        (ballot("...", "+++"), "passes all 3 tests that reproduce the bug"),
        (
            ballot("...", "+++", authors=[[0], [9], [9]]),
            "passes all 3 tests that reproduce the bug, one of them written with it",
        ),
        (ballot("+", "+"), "passes none of the tests that reproduce the bug, since there are none"),
    ],
)
def test_how_many_tests_pass(b: Ballot, words: str) -> None:
    verdict = won(b).verdict
    assert passes(verdict, verdict.standing(0)) == words


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (many(1, 0), "It is the only attempt that produced a patch."),
        (many(1, 1), "The other attempt that produced a patch has other results in the vote matrix."),
        (many(1, 62), "None of the other 62 attempts that produced a patch has the same results in the vote matrix."),
        (many(2, 0), "Both attempts that produced a patch have the same results in the vote matrix."),
        (many(3, 0), "All 3 attempts that produced a patch have the same results in the vote matrix."),
        (many(2, 1), "2 of 3 attempts that produced a patch have the same results in the vote matrix."),
        (ballot(".", "+", trajectories=[[]]), "It is an external patch."),
    ],
)
def test_how_many_attempts_agree(b: Ballot, words: str) -> None:
    assert f" {words} " in reason(won(b))


def test_the_model_chose_against_the_front_runner() -> None:
    words = reason(won(CLOSE, MODEL, winner=2))
    assert words.endswith("Candidates 1, 2 and 3 led the count; the model preferred 1 to the front-runner, 2.")
    tied = ballot("...", "++.", "+.+", ".++", sizes=[21, 20, 22])
    words = reason(won(tied, MODEL, winner=2))
    assert words.endswith("Candidates 1, 2 and 3 tied on votes; the model preferred 1 to the front-runner, 2.")
    words = reason(won(tied, MODEL))
    assert words.endswith("Candidates 1, 2 and 3 tied on votes; the model preferred 1, the front-runner.")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": Rule.NO_CHOICE, "calls": 1}, "the model made no choice in 1 call, so the front-runner won."),
        ({"rule": Rule.NO_CHOICE, "calls": 3}, "the model made no choice in 3 calls, so the front-runner won."),
        ({"rule": Rule.NO_ANSWER}, "the model could not be asked, so the front-runner won."),
        (
            {"rule": Rule.NO_ANSWER, "error": "no such model"},
            "the model could not be asked (no such model), so the front-runner won.",
        ),
        (
            {"rule": Rule.TYPICAL},
            "The other credible candidates have the same results; of their patches it is the most typical.",
        ),
        ({"rule": Rule.CLEAR_LEAD}, "It is so far ahead that the model was not asked to choose."),
    ],
)
def test_the_front_runner_won(changes: dict[str, object], words: str) -> None:
    assert reason(won(CLOSE, MODEL.model_copy(update=changes))).endswith(words)


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        ([], ""),
        ([[True, True, True, True]], "The test that the model wrote to choose does not reproduce the bug."),
        ([[None] * 4, [True] * 4], "None of the 2 tests that the model wrote to choose reproduces the bug."),
        (
            [[False, True, False, False], [True] * 4],
            "Of 1 more test that the model wrote and that reproduces the bug, it passes 1 "
            "(candidate 2 passes 0 and candidate 3 passes 0).",
        ),
        (
            [[False, True, True, False], [False, True, False, False]],
            "Of 2 more tests that the model wrote and that reproduce the bug, it passes 2 "
            "(candidate 2 passes 1 and candidate 3 passes 0).",
        ),
    ],
)
def test_how_the_selection_tests_went(passed: list[list[bool | None]], words: str) -> None:
    choice = MODEL.model_copy(update={"passed": tuple(map(tuple, passed))})
    tests = tuple(Test(path=f"s{i}.py", text="") for i in range(len(passed)))
    said = reason(won(CLOSE, choice, selection_tests=tests))
    assert said.endswith(words or "the front-runner.")


def test_why_more_votes_did_not_win() -> None:
    b = ballot("." * 6, "++++++", "++++..", trajectories=[[0], list(range(1, 12))])
    overruled = Choice(rule=Rule.MODEL, front_runner=1, finalists=(1, 0), overruled=0)
    assert (
        "Candidate 2 has more votes (6 to 4), but attempts that agree, and a patch of the usual length, count for "
        "more than single tests." in reason(won(b, overruled, winner=1))
    )
    overruled = Choice(rule=Rule.MODEL, front_runner=0, finalists=(0, 1), overruled=0)
    said = reason(won(ballot("...", "+++", "++."), overruled, winner=1))
    assert "Candidate 2 has more votes (3 to 2); the model decided against it." in said


GOOD = OwnTests(execution=PASSED, failures=())
HUNG = OwnTests(
    execution=Execution(ending=Ending.TIMED_OUT, seconds=900.0), failures=("t::c",), passed=("t::a", "t::b")
)
NAME = "The repository's own tests (`pytest …`)"


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"candidates": ((0, GOOD),)}, f"{NAME} pass on it."),
        ({"candidates": ((0, GOOD.model_copy(update={"count": 240})),)}, f"{NAME} pass on it (240 tests ran)."),
        (
            {"candidates": ((0, GOOD.model_copy(update={"flaky": ("t::a", "t::b")})),)},
            f"{NAME} pass on it. `t::a` and `t::b` failed on it once, and passed when the same ran again.",
        ),
        ({}, f"{NAME} were not run on it."),
        (
            {"candidates": ((0, OwnTests(execution=Execution(ending=Ending.UNAVAILABLE))),)},
            f"{NAME} could not be run on it.",
        ),
        (
            {"candidates": ((0, OwnTests(execution=Execution(ending=Ending.TIMED_OUT))),)},
            f"{NAME} could not be compared: they end with timed out.",
        ),
        (
            {"candidates": ((0, OwnTests(execution=FAILED, failures=("a",))),)},
            f"{NAME} fail only where they failed before.",
        ),
        (
            {"not_compared": NotCompared.UNNAMED_FAILURES, "detail": "exit 1"},
            f"{NAME} can't be compared: on the base commit they end with exit 1.",
        ),
        ({"not_compared": NotCompared.NOT_RUN, "detail": "pytest: not found"}, "could not be run: pytest: not found."),
        (
            {"not_compared": NotCompared.NO_PYTEST},
            "could not be run: pytest is not in the sandbox; add it with",
        ),
        ({"not_compared": NotCompared.SANDBOX_FAILED}, "could not be run: the sandbox failed."),
        (
            {"not_compared": NotCompared.NO_COMMAND, "command": ()},
            "tests are not known; a [test] command in .troop.toml",
        ),
        ({"not_compared": NotCompared.NO_CANDIDATE}, "were not run: no candidate is credible without them."),
        (
            {"base": HUNG, "under_way": "t::hangs", "candidates": ((0, HUNG),)},
            f"{NAME} did not end within 15 min 0 s on the base commit (it was at `t::hangs`); of 3 tests that ended "
            "before, it breaks none.",
        ),
        (
            {
                "base": HUNG,
                "candidates": ((0, GOOD.model_copy(update={"files": ("a", "b")})),),
                "bases": ((0, GOOD),),
            },
            f"{NAME} did not end within 15 min 0 s on the base commit; those in a and b, about what it changes, pass "
            "on it.",
        ),
        (
            {"base": HUNG, "not_compared": NotCompared.UNNAMED_FAILURES, "detail": "timed out"},
            f"{NAME} did not end within 15 min 0 s on the base commit; a `timeout` in .troop.toml or",
        ),
        (
            {"candidates": ((0, GOOD),), "unimported": ("t/a.py",)},
            f"{NAME} pass on it. 1 file of them can't be imported in the sandbox, and did not run: t/a.py.",
        ),
        (
            {"candidates": ((0, GOOD),), "unimported": tuple("abcdefg")},
            "7 files of them can't be imported in the sandbox, and did not run: a, b, c, d, e and 2 more.",
        ),
        ({"not_compared": NotCompared.NO_TESTS, "detail": "3 skipped in 0.1s"}, "ran no test: 3 skipped in 0.1s."),
        ({"note": "as an earlier version said"}, f"{NAME} as an earlier version said."),
    ],
)
def test_the_repositorys_own_tests_have_their_sentence(own: dict[str, object], words: str) -> None:
    made = OwnTestsReport.model_validate({"command": ("pytest", "-q"), "base": GOOD} | own)
    told = won(ballot("..", "++"), own_tests=made)
    assert words in reason(told)
    fine = ("pass on it", "breaks none", "fail only where", "7 files", "those in a and b", "are not known")
    judged = any(said in words for said in (*fine, "were not run: no"))
    assert bool(unjudged(told.verdict)) is not judged
    assert judged or words in unjudged(told.verdict)


def test_a_test_that_fails_now_and_then_is_told() -> None:
    told = won(ballot("..+", "+++").model_copy(update={"unsteady": (2,)}))
    body = pull_request.body(told)
    assert "1 test fails on the base commit now and then, and so has no vote." in body
    assert "| yes | yes | now and then |" in body


def test_the_winners_documented_examples_are_told() -> None:
    def said(held: int) -> str:
        documented = (Documented(candidate=0, held=held),)
        return reason(won(ballot(".", "+"), own_tests=OwnTestsReport(command=("pytest",), documented=documented)))

    assert "All 12 documented examples of what it changes that held before hold still." in said(12)
    assert "The documented example of what it changes that held before holds still." in said(1)
    assert "documented" not in said(0)


def test_what_the_selection_struck_and_wrote_is_said() -> None:
    b = ballot("...", "++.", "+.+", "+++")
    written = b.candidates[2].model_copy(update={"trajectories": (), "parents": (0, 1)})
    b = b.model_copy(update={"candidates": (*b.candidates[:2], written), "struck": (2,)})
    struck = (Struck(test=2, reason="It wants <more>."),)
    choice = MODEL.model_copy(
        update={"finalists": (0, 1), "compared": (0, 1, 2), "passed": ((False, False, False, True),)}
    )
    told = won(b, choice, winner=2, struck=struck, selection_tests=(Test(path="s.py", text="x"),))
    said = reason(told)
    assert (
        "The model wrote it in the selection from candidates 2 and 3, and it passes all voting tests that they pass."
        in said
    )
    assert 'The vote of test T3 is struck: the model calls the test wrong. In its words: "It wants <more>."' in said
    assert "it passes 1 (candidate 2 passes 0 and candidate 3 passes 0)" in said
    body = pull_request.body(told)
    assert "1 test that failed on the base commit lost its vote: the model calls it wrong." in body
    assert "| yes | yes | struck |" in body
    assert "1 test without a vote" in body
    assert "written in the selection from 2 and 3" in body
    assert "It wants" in body
    assert "<more>" not in body.replace("`<more>`", "")
    assert "lost its vote" in solved(told, "")
    assert [one["struck"] for one in as_object(told)["tests"]] == [None, None, "It wants <more>."]  # type: ignore[attr-defined]


def test_a_model_that_declines_is_quoted() -> None:
    declined = Abstention(cause=NoWinner.DECLINED, said="Both lose data.", calls=2)
    said = reason(nobody(ballot("..", "+.", ".+"), declined))
    told = nobody(ballot("..", "+.", ".+"), declined)
    assert "No pull request: the model found that no candidate resolves the issue" in evidence(told)
    assert "**No pull request**: the model found that no candidate resolves the issue;" in abstained(told)
    assert said == (
        "The model was asked to choose among the best, and found that none resolves the issue. In its words: "
        '"Both lose data."'
    )


def test_what_is_too_unlikely_is_said_with_its_probability() -> None:
    unsure = Abstention(cause=NoWinner.UNSURE, confidence=0.314)
    told = nobody(ballot("..", "+.", ".+"), unsure)
    assert "right with an estimated probability of 31%, which is less than this server asks for" in reason(told)
    assert "No pull request: no candidate is likely enough to be right" in evidence(told)


def test_a_winner_has_its_probability() -> None:
    told = won(ballot("..", "++"))
    assert "probability" not in reason(told), "a report of an earlier version"
    sure = told.model_copy(update={"verdict": told.verdict.model_copy(update={"confidence": 0.666})})
    assert reason(sure).endswith("By the count alone, it is right with an estimated probability of 67%.")


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        (StopRule.POSTERIOR, 0.834, "the count was 83% sure of the candidate that was first then."),
        (StopRule.FIRST_FINISH, 1, "a test spoke for one."),
        (StopRule.DISCOVERY, 2, "a test spoke for one and against another."),
        (StopRule.DISCOVERY, 0, "hardly any patch was to be expected that had not been made yet."),
        (StopRule.CONSENSUS, 6, "6 had the same results in the tests."),
        (StopRule.SHORT_M, 8, "8 had ended with a patch."),
    ],
)
def test_which_rule_ended_the_sampling_is_said_with_or_without_a_winner(
    rule: StopRule, value: float, words: str
) -> None:
    stopped = Stopped(rule=rule, attempts=1_008, of=4_096, value=value)
    for told in (won(many(3, 1)), nobody(ballot("..", "+.", ".+"), Abstention(cause=NoWinner.UNSURE, confidence=0.3))):
        early = told.model_copy(update={"verdict": told.verdict.model_copy(update={"stopped": stopped})})
        said = f"{reason(told)} The rule `{rule}` ended the sampling after 1,008 of 4,096 attempts: {words}"
        assert reason(early) == said


def test_own_tests_that_were_meant_to_run_and_did_not_are_said_everywhere() -> None:
    own = OwnTestsReport(tried=("pytst", "-q"), not_compared=NotCompared.NOT_RUN, detail="pytst: not found")
    for told in (
        won(ballot("..", "++"), own_tests=own),
        nobody(ballot("..", ".."), Abstention(cause=NoWinner.NOT_REPRODUCED)),
    ):
        told = told.model_copy(update={"verdict": told.verdict.model_copy(update={"own_tests": own})})
        said = "The repository's own tests (`pytst …`) could not be run: pytst: not found."
        assert f"> - {said}" in warnings(told)
        assert as_object(told)["own_tests"] == {
            "command": ["pytst", "-q"], "compared": False, "why_not": "not run", "detail": said
        }  # fmt: skip
        out = io.StringIO()
        print_report(told, Console(file=out, width=400))
        assert f"note: {said}" in out.getvalue()
    assert f"**Not checked**: {said}" in solved(won(ballot("..", "++"), own_tests=own), "")
    assert "Not checked" not in solved(won(ballot("..", "++")), "")


@pytest.mark.parametrize(
    ("b", "abstention", "words"),
    [
        (
            ballot(""),
            Abstention(cause=NoWinner.NO_CANDIDATE),
            "No attempt produced an edit that applies, so there is nothing to vote on.",
        ),
        (ballot("", ""), Abstention(cause=NoWinner.NO_TEST), "No candidate is credible: no attempt produced a test."),
        (
            ballot("?", "?"),
            Abstention(cause=NoWinner.NOTHING_RAN),
            "No candidate is credible: the only test could not be run.",
        ),
        (
            ballot("??", "??"),
            Abstention(cause=NoWinner.NOTHING_RAN),
            "No candidate is credible: none of the 2 tests could be run.",
        ),
        (
            ballot("??", "??").model_copy(
                update={
                    "executions": (Execution(ending=Ending.UNAVAILABLE, output="x\nno command is known for a.ml.\n"),),
                    "base_executions": (None, 0),
                }
            ),
            Abstention(cause=NoWinner.NOTHING_RAN),
            "No candidate is credible: none of the 2 tests could be run (no command is known for a.ml).",
        ),
        (
            ballot("+", "+"),
            Abstention(cause=NoWinner.NOT_REPRODUCED),
            "No candidate is credible: the only test does not reproduce the bug, since it passes on the base commit.",
        ),
        (
            ballot("+++", "+++"),
            Abstention(cause=NoWinner.NOT_REPRODUCED),
            "No candidate is credible: none of the 3 tests reproduces the bug, since all pass on the base commit.",
        ),
        (
            ballot("+?", "++"),
            Abstention(cause=NoWinner.NOT_REPRODUCED),
            "No candidate is credible: none of the 2 tests reproduces the bug, since 1 passes on the base commit and 1 "
            "could not be run.",
        ),
        (
            ballot("..", "..", ".."),
            Abstention(cause=NoWinner.NOT_CREDIBLE, doubts=((Doubt.NO_VOTE, 2),)),
            "No candidate is credible: both candidates pass no test that fails on the base commit. 2 of 2 tests "
            "reproduce the bug.",
        ),
        (
            ballot(".", "+"),
            Abstention(cause=NoWinner.NOT_CREDIBLE, doubts=((Doubt.DISQUALIFIED, 1),)),
            "No candidate is credible: the only candidate changes what judges it. 1 of 1 test reproduces the bug.",
        ),
        (
            ballot(".+", "..", "..", ".."),
            Abstention(
                cause=NoWinner.NOT_CREDIBLE,
                doubts=((Doubt.OWN_TEST_ONLY, 1), (Doubt.REGRESSIONS, 2)),
            ),
            "No candidate is credible: of 3 candidates, 1 passes no test that fails on the base commit but its own and "
            "2 break tests or examples of the repository. 1 of 2 tests reproduces the bug.",
        ),
    ],
)
def test_why_nobody_is_credible(b: Ballot, abstention: Abstention, words: str) -> None:
    assert reason(nobody(b, abstention)) == words


def test_what_was_missing_and_what_went_wrong() -> None:
    missing = Repeated(text="ModuleNotFoundError: No module named 'pkg._version'", times=2, of=3)
    said = reason(
        nobody(ballot(".", "."), Abstention(cause=NoWinner.NOT_CREDIBLE, doubts=((Doubt.NO_VOTE, 1),), missing=missing))
    )
    assert "2 of 3 tests ended with `ModuleNotFoundError: No module named 'pkg._version'`: what the repository" in said
    setback = Repeated(text="no reply could be used", times=2, of=2)
    said = reason(nobody(ballot(""), Abstention(cause=NoWinner.NO_CANDIDATE, setback=setback)))
    assert said.endswith("2 of 2 attempts ended with: no reply could be used.")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            Fault.IMPORT_FAILS,
            "`import it` fails in the sandbox (why), so tests show little about the candidates:",
        ),
        (Fault.NOT_BUILT, "a file that the repository's build writes is missing. Build it in the checkout first"),
        (Fault.INSTALLED_COPY, "`import it` in the sandbox finds an installed copy (why), not the repository's own"),
        (Fault.NO_INTERPRETER, "it is not in the sandbox, so tests can't be run: name an image"),
        (Fault.TOO_OLD, 'why, so what fails in the sandbox may fail for that alone: name an image as `image = "it"`'),
    ],
)
def test_what_is_wrong_in_the_sandbox(fault: Fault, words: str) -> None:
    assert words in words_of(Obstacle(fault=fault, name="it", detail="why"))


def test_no_image_is_named_where_none_is_known() -> None:
    words = words_of(Obstacle(fault=Fault.TOO_OLD, name="", detail="why"))
    assert "name an image that has a newer one in .troop.toml" in words


def test_a_report_of_an_earlier_version_keeps_its_words_and_numbers() -> None:
    stored = json.loads(won(CLOSE, MODEL, winner=2).model_dump_json())
    verdict = stored["verdict"]
    for field in ("choice", "abstention", "numbered_by_rank"):
        del verdict[field]
    for field in ("executions", "base_executions", "cell_executions"):
        del verdict["ballot"][field]
    del stored["obstacles"]
    verdict["reason"] = (
        "The model chose it among 3 candidates (1, 2, 3) over the best standing, candidate 1 in 2 calls."
    )
    verdict["own_tests"] = {"command": ["pytest"], "base": None, "candidates": [], "note": "could not be run"}
    old = Report.model_validate(stored)
    assert reason(old) == verdict["reason"]
    assert [old.verdict.number(c) for c in range(3)] == [1, 2, 3]
    assert [old.verdict.candidate(n) for n in (0, 1, 3, 4)] == [None, 0, 2, None]
    assert old.verdict.ballot.on_base(0) is None
    assert old.verdict.own_tests is not None
    assert not old.verdict.own_tests.compared


def test_numbers_are_ranks() -> None:
    verdict = won(CLOSE, MODEL, winner=2).verdict
    assert [verdict.number(c) for c in range(3)] == [2, 3, 1]
    assert [verdict.candidate(n) for n in (0, 1, 2, 3, 4)] == [None, 2, 0, 1, None]


def test_counted_and_listed() -> None:
    assert [counted(n, "vote") for n in (0, 1, 1200)] == ["0 votes", "1 vote", "1,200 votes"]
    assert counted(2, "patch", "patches") == "2 patches"
    assert [listed(x) for x in ([1], [1, 2], [1, 2, 3])] == ["1", "1 and 2", "1, 2 and 3"]


def test_the_tally_and_the_commit_message_count_the_own_test_among_all() -> None:
    r = won(ballot("....", "++++", "++..", authors=[[0], [7], [8], [9]]))
    assert tally(r.verdict, r.verdict.standing(0)) == "passes 4 of 4 tests, 1 its own"
    assert "It passes 4 of 4 tests, 1 its own, of those that reproduce the bug." in commit_message(r, 0)
