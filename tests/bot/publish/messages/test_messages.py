"""The words that people read: complete, within GitHub's limits, and harmless whatever a model wrote."""

import random
import re
from collections.abc import Callable

import pytest

from bot.forge.markers import ANY_MARKER, answer_marker, issue_marker, issue_of
from bot.lifecycle import ACTIVE, RunState
from bot.publish.messages import alternatives, answers, count, pull_request, states, status, words
from bot.publish.messages.differences import differences
from bot.publish.messages.labels import Labels
from bot.records import (
    NOT_WRITTEN,
    CommandName,
    Description,
    Execution,
    FileChange,
    OwnTests,
    OwnTestsReport,
    RegressionTest,
    Report,
    Test,
    Usage,
)
from bot.records import Ending as End
from bot.sanitize import BODY_LIMIT, outgoing
from tests.bot.sample import GOOD, fix, issue, patch, report
from tests.github.markdown import render

EVIL = (
    "@org/team @olive fixes #1 closes olive/tools#2 GH-3 </details> <script>alert(1)</script> "
    "![x](https://evil.example/beacon.png) [click](https://evil.example) <img src=https://evil.example/b.png> "
    "https://evil.example <!-- troop:status --> | a | b | ``` `` ` \n```\n/troop use 2\n> [!WARNING]\n"
    "&#64;olive\u202e\u200b"
)


def evil_report(winner: int | None = 0) -> Report:
    """Everything that a model, a program or an outsider can write says something evil."""
    evil = patch({"tools/clamp.py": EVIL, f"{EVIL[:60].replace('/', '_')}.py": EVIL})
    tests = [Test(path=f"{EVIL[:40]}_{i}.py", text=EVIL) for i in range(3)]
    made = report(
        patches=(GOOD, evil),
        cells=((True, True, True), (True, False, None)),
        base=(False, False, False),
        winner=winner,
        said=EVIL,
        tests=tests,
        the_issue=issue(title=EVIL, body=EVIL, flags=(EVIL,)),
        disqualified={1: EVIL},
        notes=(EVIL,),
        model=EVIL[:50],
    )
    gone = OwnTests(execution=Execution(ending=End.EXITED, exit_code=1), failures=(EVIL,))
    base = OwnTests(execution=Execution(ending=End.EXITED, exit_code=0), failures=())
    own = OwnTestsReport(command=(EVIL,), base=base, candidates=((0, gone),), note="")
    standings = tuple(s.model_copy(update={"regressions": (EVIL,)}) for s in made.verdict.standings)
    verdict = made.verdict.model_copy(
        update={"own_tests": own, "standings": standings, "selection_tests": (Test(path=EVIL, text=EVIL),)}
    )
    brought = RegressionTest(change=FileChange(path=EVIL, text=EVIL), diff=EVIL, command=(EVIL,))
    said = Description(cause=EVIL, change=EVIL, check=EVIL)
    ballot = verdict.ballot.model_copy(
        update={
            "executions": (Execution(ending=End.EXITED, exit_code=1, output=EVIL),),
            "cell_executions": ((0, 0, 0), (0, 0, 0)),
        }
    )
    verdict = verdict.model_copy(update={"ballot": ballot})
    return made.model_copy(update={"verdict": verdict, "description": said, "regression_test": brought})


def large_report(candidates: int = 64, tests: int = 64, size: int = 3_000) -> Report:
    dice = random.Random(0)
    cells = [[dice.choice((True, False, None)) for _ in range(tests)] for _ in range(candidates)]
    return report(
        patches=[fix(f"return {i}  # {'x' * size}") for i in range(candidates)],
        cells=cells,
        base=[t % 3 != 0 and (None, False)[t % 2] for t in range(tests)],
        tests=[Test(path=f"test_{t}.py", text=f"assert {t}\n" + "# long\n" * (size // 7)) for t in range(tests)],
        winner=5,
        said="because " * 20_000,
    )


def all_bodies(made: Report, abstained: Report) -> dict[str, str]:
    return {
        "pull request": pull_request.body(made, flagged=("setup.py says how the project is built",)),
        "used": pull_request.body(made, candidate=1, chosen_by="olive"),
        "alternatives": alternatives.alternatives(made, shown=0),
        "all": alternatives.alternatives(made, shown=None),
        "evidence": alternatives.evidence(abstained),
        "solved": status.solved(made, "https://github.example/o/r/pull/2"),
        "abstained": status.abstained(abstained),
        "running": status.running(RunState.MATRIX, 3, 10, EVIL),
        **{state.value: status.ended(state, EVIL, "mallory") for state in (RunState.FAILED, RunState.STOPPED)},
        "refused": status.ended(RunState.REFUSED, "", "mallory"),
        "parked": status.ended(RunState.PARKED, EVIL),
    }


# -- complete ----------------------------------------------------------------------------------------------------


def test_the_pull_request_shows_the_whole_count() -> None:
    body = pull_request.body(report())
    lines = body.split("\n")
    assert lines[:2] == ["<!-- troop:issue=1 -->", "Fixes #1."]
    assert issue_of(body) == 1
    assert "**This is candidate 1 of 3, chosen by vote.**" in lines
    assert any(line.startswith("> It passes all 3 tests that reproduce the bug, one of them") for line in lines)
    assert "| ➜ **1** | **3 of 3, 1 its own** | 1 | 1 | 56 |  |" in lines
    assert "| 3 | 1 of 3 | 1 | 1 | 45 | fails a test of its own attempt |" in lines
    matrix = lines[lines.index("| | T1 | T2 | T3 | T4 |") :]
    assert matrix[2:7] == [
        "| _base commit_ | ✗ | ✗ | ✗ | ✓ |",
        "| _votes_ | yes | yes | yes |  |",
        "| ➜ **1** | (✓) | ✓ | ✓ | · |",
        "| 2 | ✓ | (✓) | ✗ | ✓ |",
        "| 3 | ✓ | ✗ | (✗) | · |",
    ]
    assert "- **Attempts**: 4, of which 3 produced a patch (3 done, 1 no edit)" in lines
    assert "- **Tokens**: 30,000 computed, 90,000 from the cache, 4,567 generated" in lines
    assert "- **Time**: 2 min 10 s, and 5 min 12 s of model time" in lines
    assert "assert clamp(0 - 9, 0, 5) == 0" in body
    assert "assert clamp(3 - 9, 0, 5) == 0" not in body  # passes on the base commit: no vote


def test_a_reviewer_reads_first_what_was_wrong_and_what_the_change_does() -> None:
    said = Description(cause="It clamps twice.", change="It clamps once, @olive.", check="Callers of clamp.")
    made = report().model_copy(update={"description": said})
    lines = pull_request.body(made).split("\n")
    assert lines[3] == "> **What was wrong:** It clamps twice."
    assert "> **To look at:** Callers of clamp." in lines
    assert lines.index("> <sub>These are the model's own words.</sub>") < lines.index(
        "**This is candidate 1 of 3, chosen by vote.**"
    )
    assert "@olive" not in pull_request.body(made)
    assert "What was wrong" not in pull_request.body(made, candidate=1, chosen_by="olive"), "it is of the winner"


def test_the_others_are_told_apart_by_a_test_and_what_it_prints() -> None:
    ran = [Execution(ending=End.EXITED, exit_code=1, output=f"seen\n@t{n}\n\n") for n in range(2)]
    made = report()
    cells = ((None, None, None, None), (None, None, 0, None), (None, 1, None, None))
    ballot = made.verdict.ballot.model_copy(update={"executions": tuple(ran), "cell_executions": cells})
    made = made.model_copy(update={"verdict": made.verdict.model_copy(update={"ballot": ballot})})
    said = differences(made, 0).split("\n")
    assert said == [
        "- **Candidate 2** (1 attempt) fails T3 that this one passes (T3 prints `@t0`).",
        "- **Candidate 3** (1 attempt) fails T2 and 1 other test that this one passes (T2 prints `@t1`).",
    ]
    assert differences(made, 2).split("\n")[0] == (
        "- **Candidate 1** (1 attempt) passes T2 and 1 other test that this one fails (T2 prints `@t1`)."
    )
    assert "How the others behave" in pull_request.body(made)
    alone = report(patches=(GOOD,), cells=((True,),), base=(False,), tests=[Test(path="t.py", text="x")])
    assert differences(alone, 0) == ""


def test_the_regression_test_that_it_brings_is_named() -> None:
    brought = RegressionTest(
        change=FileChange(path="tests/test_clamp.py", text="x\n"),
        diff="+x\n",
        command=("pytest", "tests/test_clamp.py"),
    )
    made = report().model_copy(update={"regression_test": brought})
    said = "It brings a regression test, `tests/test_clamp.py`, which fails on the base commit and passes here"
    assert f"{said} (`pytest tests/test_clamp.py`)." in pull_request.body(made)
    assert "It brings" not in pull_request.body(made, candidate=1, chosen_by="olive")
    assert made.published(0).paths == ("tests/test_clamp.py", "tools/clamp.py")
    assert made.published(1) == made.verdict.ballot.candidates[1].patch


def test_the_tokens_of_each_stage_are_told() -> None:
    assert "By stage" not in pull_request.body(report()), "a report of an earlier version"
    stages = {"context": Usage(prompt_tokens=900, completion_tokens=100), "trajectories": Usage(prompt_tokens=3_000)}
    body = pull_request.body(report().model_copy(update={"usage_by_stage": stages}))
    assert "- **By stage**: context 1,000 (25%), trajectories 3,000 (75%)" in body.split("\n")


def test_it_renders_as_tables_and_folds() -> None:
    html = render(pull_request.body(report()))
    assert html.count("<table>") == 2
    assert html.count("<details>") == html.count("</details>") == 3  # the matrix, the tests, what it cost
    assert "<script" not in html


def test_a_candidate_that_somebody_chose() -> None:
    body = pull_request.body(report(), candidate=1, chosen_by="olive")
    assert "**This is candidate 2 of 3; `olive` chose it.** It passes 2 of the 3 tests that reproduce the bug," in body
    assert "The count chose candidate 1:\n\n> It passes all 3 tests" in body
    assert "| ➜ **2** |" in body
    assert "| ➜ **1** |" not in body


def test_a_warning_stands_before_the_count() -> None:
    made = report(the_issue=issue(flags=("zero-width characters",)), notes=("a bad `.troop.toml`",))
    body = pull_request.body(made, flagged=("setup.py says how it is built",))
    for said in ("`zero-width characters`", "`setup.py says how it is built`", "a bad `.troop.toml`"):
        assert body.index(said) < body.index("### The count")
    assert "[!WARNING]" not in pull_request.body(report())


def test_remarks_tell_why_a_candidate_is_behind() -> None:
    made = report(disqualified={2: "changes conftest.py"})
    base = OwnTests(execution=Execution(ending=End.EXITED, exit_code=0))
    after = {0: base, 1: OwnTests(execution=Execution(ending=End.EXITED, exit_code=1), failures=("a.py::b", "c"))}
    own = OwnTestsReport(command=("pytest",), base=base, candidates=tuple(after.items()))
    standings = tuple(
        s.model_copy(update={"regressions": ("a.py::b", "c"), "mended": ("a.py::d", "e")}) if s.candidate == 1 else s
        for s in made.verdict.standings
    )
    verdict = made.verdict.model_copy(update={"own_tests": own, "standings": standings})
    body = pull_request.body(made.model_copy(update={"verdict": verdict}))
    assert "lost its votes: `changes conftest.py`" in body
    assert "breaks `a.py::b` and 1 more; mends `a.py::d` and 1 more" in body
    assert "the repository's own tests pass" in body


def test_alternatives_fold_every_other_diff() -> None:
    text = alternatives.alternatives(report(), shown=0)
    assert text.startswith("### 2 alternatives")
    assert "`/troop use 2` puts candidate 2" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert "+    return min(max(x, low), high)" in text
    assert "+    return max(low, min(x, high))" not in text


def test_alternatives_of_one() -> None:
    text = alternatives.alternatives(report(patches=(GOOD,), cells=((True,),), base=(False,)), shown=0)
    assert "no alternatives" in text


def test_evidence() -> None:
    text = alternatives.evidence(report(winner=None))
    assert "> No candidate is credible: all 3 candidates pass no test that fails on the base commit." in text
    assert "| _base commit_ | ✗ | ✗ | ✗ | ✓ |" in text
    assert text.count("+    return") == 3
    assert "/troop retry" in text


def test_evidence_of_nothing() -> None:
    text = alternatives.evidence(report(patches=(), cells=(), base=(), winner=None))
    assert "There is no candidate" in text
    assert "use N" not in text


def test_progress() -> None:
    lines = status.running(RunState.MATRIX, 5, 10, seconds=61).split("\n")
    assert lines[0] == "**Troop is working on this issue** · 1 min 1 s"
    assert lines[4] == "✓ Sample tests and fixes<br>"
    assert lines[5] == "➜ **Run every test on every candidate** `██████████░░░░░░░░░░` 5 of 10<br>"
    assert lines[6] == "· Choose among the best<br>"


@pytest.mark.parametrize("state", sorted(RunState))
def test_every_state_has_words_and_a_label(state: RunState) -> None:
    labels = Labels(wanted="fix it")
    assert labels.of(state) in ("", *labels.known)
    if state in ACTIVE:
        assert status.running(state).startswith("**Troop is working on this issue**")
        assert labels.of(state) == "fix it: running"
    elif state in (RunState.SOLVED, RunState.ABSTAINED):
        assert labels.of(state) == {"solved": "fix it: done", "abstained": "fix it: no fix"}[state]
        with pytest.raises(ValueError, match="no end without a count"):
            status.ended(state, "")
    else:
        assert "the reason" in status.ended(state, "the reason", "mallory")


def test_answers_say_what_to_do() -> None:
    made = report()
    assert "candidates 1 to 3" in answers.unknown_candidate(9, made)
    assert "needs a number" in answers.unknown_candidate(None, made)
    assert all(f"`/troop {name.value}" in answers.help_text() for name in set(CommandName) - NOT_WRITTEN)

    assert "still active (running tests on candidates)" in answers.not_counted(RunState.MATRIX)
    told = states.progress(RunState.TRAJECTORIES, 12, 64)
    assert answers.status(RunState.TRAJECTORIES, told, "").startswith("The run is active: sampling fixes (12 of 64). ")
    assert answers.status(RunState.TRAJECTORIES, "", "").startswith("The run is active: sampling fixes. ")
    assert "Commands need write permission" in answers.may_not("mallory")
    assert "passes 2 of 3 tests, 1 its own" in answers.used(1, made, "https://x/pull/2", "c" * 40)


def test_title_and_commit() -> None:
    assert pull_request.title(issue(title="x" * 500)) == "Fix:…"  # it may be a secret
    made = report(the_issue=issue(title="é" * 500))
    assert len(pull_request.title(made.issue)) == pull_request.TITLE_LIMIT
    message = pull_request.commit_message(report(), 1)
    assert message.startswith("Fix: clamp ignores its lower bound\n\nFor issue 1, candidate 2.\n")
    assert "#" not in message


def test_durations() -> None:
    seconds = (0.4, 59.4, 60, 3599, 7500)
    expected = ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 5 min"]
    assert [words.duration(s) for s in seconds] == expected


def test_markers() -> None:
    assert issue_of(f"{issue_marker(12)}\nx") == 12
    assert issue_of(f"quoted: {issue_marker(12)}") is None
    assert answer_marker(1, CommandName.USE) != answer_marker(1, CommandName.HELP)


# -- harmless (attacks 12, 19, 20) -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(all_bodies(report(), report(winner=None))))
def test_nothing_that_a_model_wrote_acts(name: str) -> None:
    body = all_bodies(evil_report(), evil_report(winner=None))[name]
    html = render(body)
    assert '<a class="mention"' not in html
    references = re.findall(r'<a class="reference">(.*?)</a>', html)
    assert references == {"pull request": ["#1"], "used": ["#1"], "solved": ["#2"]}.get(
        name, []
    )  # "Fixes #1." and the like are ours
    assert '<span class="image"' not in html
    links = set(re.findall(r'href="([^"]*)"', html))
    assert links == set()
    assert not re.search(
        r"<(script|img|picture|iframe|style|a |input)", re.sub(r'<a class="(reference|link)"', "", html)
    )
    assert html.count("<details>") == html.count("</details>")
    markers = ANY_MARKER.findall(re.sub(r"(?s)<(code|pre).*?</\1>", "", body.split("\n", 1)[0]))
    assert len(markers) == (name in ("pull request", "used")), "the tracker puts a comment's before it"
    outside_code = re.sub(r"(?s)<(code|pre)\b.*?</\1>", "", html)
    assert "\u202e" not in html
    assert "evil.example" not in re.sub(r"https?:\u200b//evil\.example\S*", "", outside_code)


def test_titles_do_not_act() -> None:
    words = pull_request.title(evil_report().issue)
    assert "\n" not in words
    assert '<a class="' not in render(words)


@pytest.mark.parametrize("secret", ["hunter2hunter2", "-----BEGIN KEY-----\nMIIEabcdefghijklmnop\n-----END KEY-----"])
def test_secrets_are_redacted(secret: str) -> None:
    leaky = fix(f"return {secret!r}")
    made = report(patches=(GOOD, leaky), cells=((True,), (True,)), base=(False,), said=f"it prints {secret}")
    for body in (
        pull_request.body(made),
        alternatives.alternatives(made, shown=0),
        alternatives.evidence(made),
    ):
        sent = outgoing(body, (secret,))
        assert "hunter2" not in sent
        assert "MIIEabcdefghijklmnop" not in sent
        assert "[redacted]" in sent


# -- within the limits (attack 26) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda made: pull_request.body(made),
        lambda made: alternatives.alternatives(made, shown=5),
        lambda made: alternatives.evidence(made),
    ],
    ids=["pull request", "alternatives", "evidence"],
)
@pytest.mark.parametrize("size", [10, 3_000, 100_000])
def test_bodies_fit(build: Callable[[Report], str], size: int) -> None:
    body = outgoing(build(large_report(size=size)), ())
    assert len(body) <= BODY_LIMIT
    html = render(body)
    assert html.count("<details>") == html.count("</details>")
    assert html.count("<pre>") == html.count("</pre>")


def test_a_large_matrix_is_a_picture() -> None:
    text = count.matrix(large_report(size=1), chosen=5)
    rows = [line for line in text.split("\n") if "█" in line or "░" in line][:65]
    assert len(rows) == 65
    assert any(line.lstrip().startswith("-> 1 ") for line in rows)
    assert len({len(line.rstrip("·")) <= 10 + 2 + 64 for line in rows}) == 1
    assert "█ passes" in text


def test_a_larger_matrix_is_cut_and_says_so() -> None:
    made = large_report(candidates=100, tests=120, size=1)
    text = count.matrix(made.model_copy(), chosen=made.verdict.standings[-1].candidate)
    assert "Not shown: 36 candidates and 24 tests." in text
    assert "-> 100 " in text


def test_what_does_not_fit_is_named() -> None:
    text = alternatives.alternatives(large_report(size=3_000), shown=5)
    assert re.search(r"There is no room here for the diffs of \d+, ", text)
    assert 5 < text.count("<details>") < 63


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("use two", "`use` takes the number of one candidate, did you mean `/troop use 2`?"),
        ("use", "for example `/troop use 2`."),
        ("Use 3rd", "did you mean `/troop use 3`?"),
        ("us 4", "did you mean `/troop use 4`?"),
        ("more five", "`more` takes how many attempts are added, did you mean `/troop more 5`?"),
        ("more please", "for example `/troop more 5`."),
        ("use 1 2", "did you mean `/troop use 1`?"),
        ("use 0", "for example `/troop use 2`."),
        ("alternativs", "Did you mean `/troop alternatives`?"),
        ("statsu", "Did you mean `/troop status`?"),
        ("retry!", "Did you mean `/troop retry`?"),
        ("stop now", "`stop` takes nothing more. Did you mean `/troop stop`?"),
        ("dance", "`/troop dance` is no command."),
    ],
)
def test_what_is_no_command_is_said_with_what_may_be_meant(words: str, told: str) -> None:
    text = answers.help_text("troop", words)
    assert text.startswith(f"`/troop {words}` is no command")
    assert told in text
    assert "Nothing was done." in text


def test_what_is_repeated_of_a_comment_is_harmless() -> None:
    text = answers.help_text("troop", "`@everyone` <img src=x> [a](http://evil.example)")
    first = text.split(" is no command", 1)[0]
    assert first.startswith("``")  # code, in which GitHub looks for nothing
