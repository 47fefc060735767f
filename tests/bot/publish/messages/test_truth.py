"""What every channel says of any count is true: sentences are found by their form, and computed again."""

import io
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bot.cli.console import print_report
from bot.patch.policy import judge
from bot.publish.messages import alternatives, pull_request, revision, status
from bot.publish.messages.check import check
from bot.publish.messages.own_tests import briefly
from bot.publish.messages.reason import reason
from bot.records import (
    Ballot,
    Candidate,
    Cause,
    Choice,
    Documented,
    Ending,
    Execution,
    Fault,
    Feedback,
    NotCompared,
    Obstacle,
    Option,
    Outcome,
    OwnTests,
    OwnTestsReport,
    Parting,
    Remark,
    Report,
    Revision,
    Rule,
    Struck,
    Verdict,
)
from bot.solver.ballot import abstention, count, credible, one_of_each
from bot.solver.parting import decided
from bot.web.report_page import standalone
from tests.bot.sample import LABELLED_AT, report
from tests.bot.solver.ballots import ballot, patch
from tests.fakes import FAILED, PASSED

CELLS = st.sampled_from(["++++", "++++", "+++.", "++..", "+...", "....", "????", "+?.+", ".+.?"])
BASES = st.sampled_from(["....", "....", "....", "+...", "..+?", "++++", "?+++", "+?.."])
KINDS = st.sampled_from(["one", "one", "three", "elsewhere", "both", "written"])
PATHS = st.sampled_from(["a.py", "a.py", ".github/workflows/a.yml"])
SLOW = Execution(ending=Ending.TIMED_OUT, seconds=60.0)
RARELY = st.sampled_from([False] * 4 + [True])
OLD = Obstacle(fault=Fault.TOO_OLD, name="node:22", detail="package.json asks for Node 22, and 18 is there")
ASKED = Revision(
    pull=2,
    branch="troop/x",
    cause=Cause.REVIEW,
    sources=(1,),
    remarks=(Remark(thread=0, feedback=Feedback(author="ann", body="keep zero")),),
    at=LABELLED_AT,
)


@st.composite
def ballots(draw: st.DrawFn, tests: int) -> Ballot:
    rows = draw(st.lists(CELLS, max_size=4))
    made = ballot(draw(BASES)[:tests], *(row[:tests] for row in rows))
    candidates = [_candidate(draw(KINDS), draw(PATHS), i, draw(RARELY)) for i in range(len(rows))]
    written = tuple(() if draw(st.integers(0, 3)) == 0 else who for who in made.authors)  # () of an earlier run
    made = made.model_copy(update={"candidates": tuple(candidates), "authors": written})
    if draw(RARELY):
        again = ballot(draw(BASES)[:tests])
        made = made.model_copy(update={"reviewed": again.base})
    kept = made.voting
    lost = draw(st.sets(st.sampled_from(kept), max_size=2)) if kept and draw(RARELY) else set()
    shaky = {t for t in lost if draw(st.booleans())}
    return made.model_copy(update={"unsteady": tuple(shaky), "struck": tuple(lost - shaky)})


def _candidate(kind: str, path: str, i: int, disqualified: bool) -> Candidate:
    kind = "one" if i == 0 and kind == "written" else kind
    attempts = {"one": (i,), "three": (10 * i + 10, 10 * i + 11, 10 * i + 12), "both": (i,)}
    return Candidate(
        patch=patch(f"{i:0{20 + i}d}", path),
        trajectories=attempts.get(kind, ()),
        parents=(0,) if kind == "written" else (),
        sources=("fix.diff",) if kind in ("elsewhere", "both") else (),
        disqualified="changes conftest.py" if disqualified and kind != "written" else "",
    )


@st.composite
def reports(draw: st.DrawFn) -> Report:
    b = draw(ballots(draw(st.integers(0, 4))))
    broken = [i for i in range(len(b.candidates)) if draw(RARELY)]
    return reported(b, broken, draw(st.integers(0, 3)), (OLD,) if draw(st.booleans()) else ())


def reported(b: Ballot, broken: Sequence[int] = (), pick: int = 0, obstacles: Sequence[Obstacle] = ()) -> Report:
    """With the verdict that the count gives the ballot, or that a model might, which picks one of several.

    `broken`: the candidates that break something of the repository.
    """
    own = OwnTestsReport(
        not_compared=NotCompared.NO_COMMAND,
        documented=tuple(Documented(candidate=i, broken=("f(1) in README",)) for i in broken),
    )
    standings = count(b, own)
    able = credible(standings, b)
    choice, winner = None, None
    if able:
        rule = Rule.MODEL if len(one_of_each(able, b)) > 1 else Rule.TYPICAL if len(able) > 1 else Rule.ONLY_CREDIBLE
        winner = able[pick % len(able)] if rule is Rule.MODEL else able[0]
        finalists = tuple(s.candidate for s in able[:3]) if rule is Rule.MODEL else ()
        choice = Choice(rule=rule, front_runner=able[0].candidate, finalists=finalists, calls=1)
    verdict = Verdict(
        outcome=Outcome.SOLVED if winner else Outcome.ABSTAINED,
        winner=winner.candidate if winner else None,
        standings=tuple(sorted(standings, key=lambda s: s is not winner)),
        choice=choice,
        abstention=None if winner else abstention(standings, b),
        struck=tuple(Struck(test=t, reason="It is wrong") for t in b.struck),
        ballot=b,
        own_tests=own,
        numbered_by_rank=True,
    )
    changes: dict[str, object] = {"verdict": verdict, "obstacles": tuple(obstacles)}
    if b.reviewed:
        changes |= {"revision": ASKED, "reviewed_commit": "b" * 40}
    return report(base_commit="a" * 40).model_copy(update=changes)


def channels(made: Report) -> dict[str, str]:
    """All that people read of a report, as plain lines."""
    verdict, out = made.verdict, io.StringIO()
    print_report(made, Console(file=out, width=10_000))
    page = re.sub(r"<(?:pre|style)\b.*?</(?:pre|style)>|<[^>]+>", " ", standalone(made, {}), flags=re.DOTALL)
    said = {"reason": reason(made), "console": out.getvalue(), "page": page}
    if made.revision is not None:
        said["revision"] = revision.not_revised(made) if verdict.winner is None else revision.revised(made, "c" * 40)
    if verdict.winner is None:
        return said | {"evidence": alternatives.evidence(made), "status": status.abstained(made)}
    used = verdict.standings[-1].candidate
    return said | {
        "status": status.solved(made, "https://github.com/o/r/pull/2"),
        "body": pull_request.body(made),
        "used": pull_request.body(made, candidate=used, chosen_by="ann"),
        "check": check(made, verdict.winner).summary,
        "alternatives": alternatives.alternatives(made, shown=verdict.winner),
        "commit": pull_request.commit_message(made, used),
    }


# -- the sentences: their form, and whether one is true


def _fair(made: Report) -> list[Candidate]:
    return [one for one in made.verdict.ballot.candidates if not one.disqualified]


def _alike(made: Report) -> list[int]:
    """The fair candidates whose row is the winner's."""
    b, winner = made.verdict.ballot, made.verdict.winner
    assert winner is not None
    return [i for i, one in enumerate(b.candidates) if not one.disqualified and b.cells[i] == b.cells[winner]]


def _samples(candidates: list[Candidate]) -> int:
    return sum(0 if one.parents else len(one.trajectories) + len(one.sources) for one in candidates)


def _kept(made: Report, noun: str) -> bool:
    """Whether what is counted is named as it is."""
    b = made.verdict.ballot
    elsewhere = any(one.sources for one in _fair(made))
    lost = _samples(list(b.candidates)) > _samples(_fair(made))
    return ("elsewhere" in noun) == elsewhere and ("votes" in noun) == lost


def agree(made: Report, found: re.Match[str]) -> bool:
    alike = _samples([made.verdict.ballot.candidates[i] for i in _alike(made)])
    total = _samples(_fair(made))
    said = {"Both": (2, 2)}.get(found[1]) or tuple(int(n) for n in re.findall(r"\d+", found[1])) * 2
    return said[:2] == (alike, total) and _kept(made, found[2])


def differ(made: Report, found: re.Match[str]) -> bool:
    alike = _samples([made.verdict.ballot.candidates[i] for i in _alike(made)])
    return alike == 1 and _samples(_fair(made)) == 1 + int(found[1] or 1) and _kept(made, found[2])


def only(made: Report, found: re.Match[str]) -> bool:
    return _samples(_fair(made)) == 1 and _kept(made, found[1])


def of_these(made: Report, found: re.Match[str]) -> bool:
    broken = {s.candidate for s in made.verdict.standings if s.regressions}
    return _samples([made.verdict.ballot.candidates[i] for i in _alike(made) if i in broken]) == int(found[1])


def produced(made: Report, found: re.Match[str]) -> bool:
    b = made.verdict.ballot
    patches = sum(1 for one in b.candidates if one.trajectories)
    return (int(found[1]), int(found[2])) == (patches, sum(1 for who in b.authors if who))


def fail_before(made: Report, found: re.Match[str]) -> bool:
    b = made.verdict.ballot
    return bool(found[1]) or all(b.base[t] is False for t in b.voting)


def all_pass(made: Report, found: re.Match[str]) -> bool:
    b = made.verdict.ballot
    return all(b.base) and all(b.reviewed) and bool(b.reviewed) == ("reviewed" in found[0])


def reproduces(made: Report, found: re.Match[str]) -> bool:
    """No test is said to show the bug where it may fail for the sandbox alone, and none passes."""
    return not (made.obstacles and made.verdict.winner is None)


def may_be_used(made: Report, found: re.Match[str]) -> bool:
    candidate = made.verdict.candidate(int(found[1]))
    return candidate is not None and not judge(made.verdict.ballot.candidates[candidate].patch).refused


def another_may_be_used(made: Report, found: re.Match[str]) -> bool:
    return any(not judge(one.patch).refused for one in made.verdict.ballot.candidates)


def alone(made: Report, found: re.Match[str]) -> bool:
    return len(made.verdict.ballot.candidates) == 1


def has_runners_up(made: Report, found: re.Match[str]) -> bool:
    return len(made.verdict.ballot.candidates) > 1


def never(made: Report, found: re.Match[str]) -> bool:
    return False


_MANY = r"(attempts(?: that produced a patch)?(?: and patches from elsewhere)?(?: and kept their votes)?)"
SENTENCES: dict[str, Callable[[Report, re.Match[str]], bool]] = {
    rf"(Both|All \d+|\d+ of \d+) {_MANY} have the same results": agree,
    rf"None of the other (\d+) {_MANY} has the same results": differ,
    r"The ()(other attempt[\w ]*) has other results": differ,
    r"It is the only (attempt[\w ]*)\.": only,
    r"Of these (\d+) breaks? tests or examples": of_these,
    r"attempts? produced (\d+) different patch(?:es)? and (\d+) different tests?": produced,
    r"(?:it fails|they fail) on the base commit( or the reviewed state)?, and so may vote": fail_before,
    r"since (?:it passes|both pass|all pass) on (?:the|both) [\w ]+": all_pass,
    r"(?<!none of the )\b\d+ (?:of \d+ )?tests? reproduces? the bug": reproduces,
    r"`/troop use (\d+)`": may_be_used,
    r"`/troop use N` (?:opens|adds)": another_may_be_used,
    r"There are no alternatives": alone,
    r"`/troop alternatives` shows the runners-up, `/troop help`": has_runners_up,
    r"behaves? (?:the same|alike|differently|so)": never,
}


@given(reports())
def test_no_channel_says_what_the_ballot_denies(made: Report) -> None:
    for channel, text in channels(made).items():
        for form, holds in SENTENCES.items():
            for found in re.finditer(form, text):
                assert holds(made, found), f"{channel}: {found[0]}"


SHOWN = [
    reported(ballot("..", "++", "++", "+."), broken=[1]),
    reported(ballot("..", "++", "++")),
    reported(ballot("..", "++", "+.")),
    reported(ballot("..", "++", "+.", ".+")),
    reported(ballot("..", "++")),
    reported(ballot("..", "..")),
    reported(ballot("++", "++")),
]


def test_every_form_is_said_of_some_count() -> None:
    """A sentence that is worded otherwise must not leave its check without anything to look at."""
    texts = [text for made in SHOWN for text in channels(made).values()]
    silent = [form for form in SENTENCES if not any(re.search(form, text) for text in texts)]
    assert [SENTENCES[form] for form in silent] == [never]


def test_patches_that_the_repositorys_own_tests_tell_apart_are_not_said_to_be_alike() -> None:
    said = reason(reported(ballot("..", "++", "++"), broken=[1]))
    assert "Both attempts that produced a patch have the same results in the vote matrix. Of these 1 breaks" in said


def test_an_abstention_begins_with_what_the_sandbox_lacks() -> None:
    made = reported(ballot("..", ".."), obstacles=[OLD])
    why = "package.json asks for Node 22, and 18 is there, so what fails in the sandbox may fail for that alone"
    assert reason(made).startswith(why)
    assert reason(made).endswith("2 of 2 tests fail on the base commit, which need not be for the bug.")
    said = alternatives.evidence(made)
    assert said.count("asks for Node 22") == 1
    assert "2 tests fail on the base commit, and so may vote; that need not be for the bug." in said
    assert "`/troop retry` tries again, once the sandbox has what is missing." in said
    assert standalone(made, {}).count("asks for Node 22") == 1


def test_a_count_of_a_revision_names_the_earlier_tests_and_where_tests_fail() -> None:
    b = ballot("+.", "++").model_copy(update={"reviewed": (False, True), "authors": ((0,), ())})
    said = revision.revised(reported(b), "c" * 40)
    assert "produced 1 different patch and 1 different test; added to them: 1 test of an earlier run." in said
    assert "2 tests reproduce the bug: they fail on the base commit or the reviewed state, and so may vote." in said


def test_who_struck_a_test_and_who_chose_is_said_as_it_was() -> None:
    asked = reported(ballot("..", "+.", ".+"))
    parting = Parting(candidates=(0, 1), tests=(0, 1))
    asked = asked.model_copy(update={"verdict": asked.verdict.model_copy(update={"parting": parting})})
    made = decided(asked, Option.A, "ann")
    body = pull_request.body(made)
    assert "1 test that failed on the base commit lost its vote: a person's answer calls it wrong." in body
    assert "chosen by the answer of `ann`.**" in body
    assert "chosen by a person" in pull_request.commit_message(made, 0)
    assert "chosen by vote" in pull_request.commit_message(reported(ballot("..", "++")), 0)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (OwnTests(execution=PASSED, failures=()), "the repository's own tests pass"),
        (
            OwnTests(execution=PASSED, failures=(), files=("t.py",)),
            "own tests of what it changes pass",
        ),
        (OwnTests(execution=FAILED, failures=("t::a",)), "of the repository's own tests it breaks none that passed"),
        (OwnTests(execution=FAILED), ""),
        (OwnTests(execution=SLOW, failures=()), "did not end in time; those that did and passed before, pass"),
        (OwnTests(execution=Execution(ending=Ending.UNAVAILABLE)), ""),
    ],
)
def test_a_candidate_is_not_said_to_break_nothing_where_nobody_knows(after: OwnTests, words: str) -> None:
    base = OwnTests(execution=FAILED, failures=("t::a",), passed=("t::b",))
    own = OwnTestsReport(command=("pytest",), base=base, candidates=((0, after),))
    made = reported(ballot("..", "++"))
    told = briefly(made.verdict.model_copy(update={"own_tests": own}), 0)
    assert words in told
    assert bool(words) == bool(told)
