"""Why a candidate won, or why none did: the facts of the verdict in sentences, as plain text.

Pull request, comments, console and pages show the same sentences. Neutralise them before they go to GitHub.
"""

from typing import assert_never

from bot.publish.messages.differential import answers
from bot.publish.messages.obstacles import words_of
from bot.publish.messages.own_tests import of_winner
from bot.publish.messages.words import counted, listed, verb
from bot.records import (
    Abstention,
    Ballot,
    Choice,
    Doubt,
    NoWinner,
    Option,
    Repeated,
    Report,
    Rule,
    Standing,
    StopRule,
    Struck,
    Verdict,
)

_QUOTED = 200  # characters of what a test printed


def reason(report: Report) -> str:
    """Why the winner won, or why there is none. Of a report of an earlier version, the words that it stored."""
    verdict = report.verdict
    if verdict.abstention is not None:
        said = [*map(words_of, report.obstacles), _abstained(report, verdict.abstention), stopped(verdict)]
        return " ".join(filter(None, said))
    if verdict.choice is None or verdict.winner is None:
        return verdict.reason
    winner = verdict.standing(verdict.winner)
    said = [
        f"It {passes(verdict, winner)}.",
        _agreement(verdict, winner),
        answers(verdict, winner),
        _overruled(verdict, verdict.choice, winner),
        _chosen(verdict, verdict.choice, winner),
        _selection_tests(verdict, verdict.choice, winner),
        struck(verdict),
        of_winner(verdict),
        _sure(verdict),
        stopped(verdict),
    ]
    return " ".join(part for part in said if part)


def stopped(verdict: Verdict) -> str:
    """By which rule fewer attempts were made; "" where all were."""
    if (found := verdict.stopped) is None:
        return ""
    match found.rule:
        case StopRule.POSTERIOR:
            why = f"the count was {found.value:.0%} sure of the candidate that was first then"
        case StopRule.FIRST_FINISH:
            why = "a test spoke for one"
        case StopRule.DISCOVERY if found.value:
            why = "a test spoke for one and against another"
        case StopRule.DISCOVERY:
            why = "hardly any patch was to be expected that had not been made yet"
        case StopRule.CONSENSUS:
            why = f"{found.value:g} had the same results in the tests"
        case StopRule.SHORT_M:
            why = f"{found.value:g} had ended with a patch"
        case StopRule.NONE:
            why = ""
        case _:
            assert_never(found.rule)
    return f"The rule `{found.rule}` ended the sampling after {found.attempts:,} of {found.of:,} attempts: {why}."


# -- a winner --------------------------------------------------------------------------------------------------------


def passes(verdict: Verdict, standing: Standing) -> str:
    """`passes 2 of the 3 tests that reproduce the bug, one of them written with it`: what follows "it"."""
    ballot = verdict.ballot
    passed, total = ballot.passed(standing.candidate), len(ballot.voting)
    if total == 0:
        return "passes none of the tests that reproduce the bug, since there are none"
    if total == 1:
        which = "the one test that reproduces the bug"
        if not passed:
            return f"does not pass {which}"
    elif passed == total:
        which = f"{'both' if total == 2 else f'all {total:,}'} tests that reproduce the bug"
    else:
        which = f"{passed:,} of the {total:,} tests that reproduce the bug"
    own = standing.own_votes
    if passed == own == 1:
        return f"passes {which}, {'which was' if total == 1 else 'a test'} written with it"
    return f"passes {which}" + (f", {'one' if own == 1 else own} of them written with it" if own else "")


def tally(verdict: Verdict, standing: Standing) -> str:
    """`passes 4 of 4 tests, 1 its own`: of the tests that reproduce the bug, as short as it can be said."""
    total = len(verdict.ballot.voting)
    return f"passes {share(verdict, standing, counted(total, 'test'))}"


def share(verdict: Verdict, standing: Standing, total: str = "") -> str:
    """`4 of 4, 1 its own`: the tally in a table. `total`: other words for how many tests reproduce the bug."""
    own = f", {standing.own_votes:,} its own" if standing.own_votes else ""
    of = total or f"{len(verdict.ballot.voting):,}"
    return f"{verdict.ballot.passed(standing.candidate):,} of {of}{own}"


def _agreement(verdict: Verdict, winner: Standing) -> str:
    """How many attempts have the winner's results in the matrix, and what the repository's own tests make of them."""
    ballot, alike, total = verdict.ballot, winner.cluster, verdict.ballot.attempts
    candidate = ballot.candidates[winner.candidate]
    if candidate.parents:
        numbers = sorted(verdict.number(parent) for parent in candidate.parents)
        of = f"{verb(len(numbers), 'candidate', 'candidates')} {listed(numbers)}"
        return f"The model wrote it in the selection from {of}, and it passes all voting tests that they pass."
    external = "" if candidate.trajectories else " It is an external patch."
    if candidate.sources:
        external = f" It comes {'also ' if candidate.trajectories else ''}from {listed(candidate.sources)}."
    fair = [one for one in ballot.candidates if not one.disqualified]
    mixed = any(one.sources or not (one.trajectories or one.parents) for one in fair)
    made = "attempt or patch from elsewhere" if mixed else "attempt that produced a patch"
    many = "attempts and patches from elsewhere" if mixed else "attempts that produced a patch"
    if ballot.attempts < sum(one.samples for one in ballot.candidates):
        made, many = f"{made} and kept its votes", f"{many} and kept their votes"
    same = "the same results in the vote matrix"
    if total == 1:
        said = f"It is the only {made}." if not external else ""
    elif alike == 1:
        said = f"None of the other {total - 1:,} {many} has {same}."
        said = said if total > 2 else f"The other {made} has other results in the vote matrix."
    elif alike == total:
        said = f"{'Both' if total == 2 else f'All {total:,}'} {many} have {same}."
    else:
        said = f"{alike:,} of {total:,} {many} have {same}."
    return f"{said}{_told_apart(verdict, winner)}{external}".strip()


def _told_apart(verdict: Verdict, winner: Standing) -> str:
    """How many of those that have the winner's results break what is the repository's own, which the matrix has not."""
    ballot = verdict.ballot
    alike = [s for s in verdict.standings if ballot.cells[s.candidate] == ballot.cells[winner.candidate]]
    broken = sum(ballot.candidates[s.candidate].samples for s in alike if s.regressions and not s.disqualified)
    if not broken:
        return ""
    return f" Of these {broken:,} {verb(broken, 'breaks', 'break')} tests or examples of the repository."


def _overruled(verdict: Verdict, choice: Choice, winner: Standing) -> str:
    """Why the candidate with the most votes did not win."""
    if choice.overruled is None:
        return ""
    other = verdict.standing(choice.overruled)
    more = f"Candidate {verdict.number(other.candidate)} has more votes ({other.votes:,} to {winner.votes:,})"
    if winner.score >= other.score:
        return f"{more}, but attempts that agree, and a patch of the usual length, count for more than single tests."
    return f"{more}; the model decided against it."


def _chosen(verdict: Verdict, choice: Choice, winner: Standing) -> str:
    match choice.rule:
        case Rule.ONLY_CREDIBLE:
            return "No other candidate is credible."
        case Rule.TYPICAL:
            return "The other credible candidates have the same results; of their patches it is the most typical."
        case Rule.CLEAR_LEAD:
            return "It is so far ahead that the model was not asked to choose."
        case Rule.MODEL:
            if winner.candidate == choice.front_runner:
                what = f"the model preferred {verdict.number(winner.candidate)}, the front-runner"
            else:
                front = verdict.number(choice.front_runner)
                what = f"the model preferred {verdict.number(winner.candidate)} to the front-runner, {front}"
        case Rule.NO_CHOICE:
            what = f"the model made no choice in {counted(choice.calls, 'call')}, so the front-runner won"
        case Rule.NO_ANSWER:
            error = f" ({choice.error})" if choice.error else ""
            what = f"the model could not be asked{error}, so the front-runner won"
        case Rule.ANSWERED:
            return _answered(verdict)
        case _:
            assert_never(choice.rule)
    votes = {verdict.standing(candidate).votes for candidate in choice.finalists}
    numbers = sorted(verdict.number(candidate) for candidate in choice.finalists)
    which = f"{verb(len(numbers), 'Candidate', 'Candidates')} {listed(numbers)}"
    return f"{which} {'tied on votes' if len(votes) == 1 < len(numbers) else 'led the count'}; {what}."


def _sure(verdict: Verdict) -> str:
    if verdict.confidence is None:
        return ""
    return f"By the count alone, it is right with an estimated probability of {verdict.confidence:.0%}."


def _answered(verdict: Verdict) -> str:
    """Which behaviour a person chose, and by which test it is told apart."""
    answered = verdict.answered
    if answered is None:
        return ""
    parting, place = answered.parting, int(answered.option is Option.B)
    what = f"`{parting.call}` is to give `{parting.results[place]}`" if parting.call else f"{answered.option} is right"
    return f"Two behaviours remained; {answered.by} answered that {what}, so test T{answered.test + 1} decides."


def _selection_tests(verdict: Verdict, choice: Choice, winner: Standing) -> str:
    """How the tests that the model wrote to choose went; only those that fail on the base commit show anything."""
    written = len(verdict.selection_tests)
    telling = [row[1:] for row in choice.passed if row and row[0] is False]
    if not written:
        return ""
    if not telling:
        which = "The test" if written == 1 else f"None of the {written:,} tests"
        return (
            f"{which} that the model wrote to choose {'does not reproduce' if written == 1 else 'reproduces'} the bug."
        )
    compared = choice.compared or choice.finalists
    counts = {c: sum(row[place] is True for row in telling) for place, c in enumerate(compared)}
    others = [f"candidate {verdict.number(c)} passes {n:,}" for c, n in counts.items() if c != winner.candidate]
    more = counted(len(telling), "more test")
    reproduce = verb(len(telling), "reproduces", "reproduce")
    passed = counts.get(winner.candidate, 0)
    said = f"Of {more} that the model wrote and that {reproduce} the bug, it passes {passed:,}"
    return f"{said} ({listed(others)})." if others else f"{said}."


def struck(verdict: Verdict) -> str:
    """Which tests lost their votes in the selection, and why in the model's own words; "" where none did."""
    return " ".join(
        f"The vote of test T{one.test + 1} is struck: {one.reason}."
        if by_answer(verdict, one)
        else f'The vote of test T{one.test + 1} is struck: the model calls the test wrong. In its words: "{one.reason}"'
        for one in verdict.struck
    )


def by_answer(verdict: Verdict, struck: Struck) -> bool:
    """Whether a person's answer contradicts the test, not the model."""
    return verdict.answered is not None and struck.reason == f"{verdict.answered.by} answered otherwise"


# -- no winner -------------------------------------------------------------------------------------------------------


def nobody(verdict: Verdict) -> str:
    """Why there is no pull request, for a heading."""
    if verdict.abstention is not None and verdict.abstention.cause is NoWinner.DECLINED:
        return "the model found that no candidate resolves the issue"
    if verdict.abstention is not None and verdict.abstention.cause is NoWinner.UNSURE:
        return "no candidate is likely enough to be right"
    if verdict.parting is not None:
        return "two behaviours remain, and somebody has to say which is right"
    if verdict.abstention is not None and verdict.abstention.cause is NoWinner.UNDECIDED:
        return "two behaviours are equally credible"
    return "no candidate is credible"


def doubtful(report: Report) -> bool:
    """Whether tests may fail on the base commit for what is wrong in the sandbox, and nothing shows otherwise."""
    why = report.verdict.abstention
    return why is not None and (bool(report.obstacles) or why.missing is not None)


def _abstained(report: Report, abstention: Abstention) -> str:
    verdict = report.verdict
    said = [_why_nobody(report, abstention), *filter(None, [_parting(verdict), struck(verdict)])]
    if abstention.missing is not None:
        said.append(_missing(abstention.missing))
    if abstention.setback is not None:
        found = abstention.setback
        said.append(f"{found.times:,} of {counted(found.of, 'attempt')} ended with: {found.text}.")
    return " ".join(said)


def _parting(verdict: Verdict) -> str:
    """Which two behaviours remain, and where they part; "" where there are no two."""
    parting = verdict.parting
    if parting is None:
        return ""
    one, other = (f"candidate {verdict.number(candidate)}" for candidate in parting.candidates)
    if parting.call:
        a, b = parting.results
        return f"Two behaviours remain: for {parting.call}, {one} gives {a}, {other} gives {b}."
    first, second = (f"T{test + 1}" for test in parting.tests)
    return f"Two behaviours remain: {one} passes test {first} and fails {second}, {other} the other way round."


def before(ballot: Ballot) -> str:
    """Where a test that votes fails: without the change."""
    return "the base commit or the reviewed state" if ballot.reviewed else "the base commit"


_ALL = {1: "it passes", 2: "both pass"}


def _on_base(ballot: Ballot) -> str:
    """What became of tests without the change, none of which votes, and not all of which could not be run."""
    silent = {*ballot.struck, *ballot.unsteady}
    before_change = [ballot.base, ballot.reviewed] if ballot.reviewed else [ballot.base]
    rows = [cells for t, cells in enumerate(zip(*before_change, strict=True)) if t not in silent]
    unknown = sum(None in cells for cells in rows)
    passed, total = len(rows) - unknown, len(ballot.tests)
    where = "both the base commit and the reviewed state" if ballot.reviewed else "the base commit"
    if passed == total:
        return f"{_ALL.get(passed, 'all pass')} on {where}"
    found = [
        (passed, f"{verb(passed, 'passes', 'pass')} on {where}"),
        (unknown, "could not be run"),
        (len(silent - {*ballot.struck}), f"{verb(len(ballot.unsteady), 'fails', 'fail')} only now and then"),
        (len({*ballot.struck}), f"lost {verb(len(ballot.struck), 'its vote', 'their votes')}"),
    ]
    return listed([f"{number:,} {words}" for number, words in found if number])


def _why_nobody(report: Report, abstention: Abstention) -> str:
    verdict = report.verdict
    tests = len(verdict.ballot.tests)
    match abstention.cause:
        case NoWinner.NO_CANDIDATE:
            return "No attempt produced an edit that applies, so there is nothing to vote on."
        case NoWinner.NO_TEST:
            return "No candidate is credible: no attempt produced a test."
        case NoWinner.NOTHING_RAN:
            which = "the only test" if tests == 1 else f"none of the {tests:,} tests"
            ran = (one.tail(1, _QUOTED) for one in map(verdict.ballot.on_base, range(tests)) if one is not None)
            why = next((f" ({said.rstrip('.')})" for said in ran if said), "")
            return f"No candidate is credible: {which} could {'not ' if tests == 1 else ''}be run{why}."
        case NoWinner.NOT_REPRODUCED:
            which = "the only test does not reproduce" if tests == 1 else f"none of the {tests:,} tests reproduces"
            return f"No candidate is credible: {which} the bug, since {_on_base(verdict.ballot)}."
        case NoWinner.DECLINED:
            words = f' In its words: "{abstention.said}"' if abstention.said else ""
            return f"The model was asked to choose among the best, and found that none resolves the issue.{words}"
        case NoWinner.UNSURE:
            sure = f"{abstention.confidence or 0:.0%}"
            return (
                f"By the count the best candidate is right with an estimated probability of {sure}, which is less than "
                "this server asks for (`TROOP_SOLVER_WRONG_AT_MOST`)."
            )
        case NoWinner.UNDECIDED:
            return "Two behaviours are equally credible: each passes tests that the other fails, and nobody chose."
        case NoWinner.NOT_CREDIBLE:
            useful = len(verdict.ballot.voting)
            does = f"{verb(useful, 'reproduces', 'reproduce')} the bug"
            if doubtful(report):
                does = f"{verb(useful, 'fails', 'fail')} on {before(verdict.ballot)}, which need not be for the bug"
            why = _doubts(abstention, len(verdict.standings), before(verdict.ballot))
            return f"No candidate is credible: {why}. {useful:,} of {counted(tests, 'test')} {does}."
        case _:
            assert_never(abstention.cause)


_DOUBTS = {  # for one candidate, and for several
    Doubt.DISQUALIFIED: ("changes what judges it", "change what judges them"),
    Doubt.REGRESSIONS: ("breaks tests or examples of the repository", "break tests or examples of the repository"),
    Doubt.OWN_TEST_ONLY: (
        "passes no test that fails on {0} but its own",
        "pass no test that fails on {0} but their own",
    ),
    Doubt.NO_VOTE: ("passes no test that fails on {0}", "pass no test that fails on {0}"),
}


def _doubts(abstention: Abstention, candidates: int, where: str) -> str:
    words = {doubt: [form.format(where) for form in forms] for doubt, forms in _DOUBTS.items()}
    if len(abstention.doubts) == 1:
        singular, plural = words[abstention.doubts[0][0]]
        if candidates == 1:
            return f"the only candidate {singular}"
        return f"{'both' if candidates == 2 else f'all {candidates:,}'} candidates {plural}"
    each = [f"{times:,} {words[why][times != 1]}" for why, times in abstention.doubts]
    return f"of {candidates:,} candidates, {listed(each)}"


def _missing(missing: Repeated) -> str:
    return (
        f"{missing.times:,} of {counted(missing.of, 'test')} ended with `{missing.text}`: what the repository depends "
        "on, or a file that its build writes, is not in the sandbox. Name an image that holds it, or a `setup` command "
        "in .troop.toml (Docker), or install it where `python3` finds it (processes; a .venv in the checkout is used), "
        "and try again."
    )
