"""A count against the same count made again: which cells differ, and whether the same candidate wins. Pure.

What a run's samples ended in, and what the model chose or struck, is taken from the bundle: it can't be computed again
without the model. The matrix, the repository's own tests, disqualifications, votes and standings are.
"""

from collections.abc import Iterator

from bot.records import Ballot, NoWinner, Record, Rule, Standing, Verdict
from bot.solver.ballot import Count, credible

_BY_JUDGEMENT = (NoWinner.DECLINED, NoWinner.UNSURE, NoWinner.UNDECIDED)  # of the model, or the operator
_COUNTED = (Rule.ONLY_CREDIBLE, Rule.TYPICAL, Rule.CLEAR_LEAD, Rule.NO_CHOICE, Rule.NO_ANSWER)


class Difference(Record):
    """One thing that came out otherwise. `claimed` and `found` are in words."""

    what: str  # "T2 on candidate 1", "votes of candidate 1", ...
    claimed: str
    found: str
    is_cell: bool = False


class Recount(Record):
    """The comparison. Candidates by the numbers that people know."""

    cells: int  # that were compared
    differences: tuple[Difference, ...]  # of cells first
    claimed: int | None  # the winner; None: none
    found: int | None
    rule: str = ""  # how the bundle says that the winner was chosen
    same_winner: bool

    @property
    def same(self) -> bool:
        return self.same_winner and not self.differences


def recount(verdict: Verdict, again: Count) -> Recount:
    """Compare what a bundle claims with the matrix, the own tests and the count made again, of equal shape."""
    differences = (*_cells(verdict, again.ballot), *_disqualified(verdict, again.ballot), *_standings(verdict, again))
    found = winner(verdict, again)
    return Recount(
        cells=len(again.ballot.tests) * (1 + bool(again.ballot.reviewed) + len(again.ballot.candidates)),
        differences=differences,
        claimed=None if verdict.winner is None else verdict.number(verdict.winner),
        found=None if found is None else verdict.number(found),
        rule="" if verdict.choice is None else verdict.choice.rule.value,
        same_winner=found == verdict.winner,
    )


def winner(verdict: Verdict, again: Count) -> int | None:
    """Who wins by the count made again.

    Where the model or a person chose, their choice stands if it still may win.
    """
    ballot = again.ballot
    able = credible(again.standings, ballot)
    if verdict.choice is None:
        cause = verdict.abstention.cause if verdict.abstention else None
        return None if cause in _BY_JUDGEMENT or not able else able[0].candidate
    sampled = [standing for standing in able if not ballot.candidates[standing.candidate].parents]
    first = next(iter(sampled or able), None)
    if verdict.choice.rule in _COUNTED:
        return None if first is None else first.candidate
    if verdict.answered is not None:  # then one vote of its own is enough
        test = verdict.answered.test
        able = tuple(s for s in again.standings if _sound(s) and ballot.cells[s.candidate][test])
        first = next(iter(able), None)
    if any(standing.candidate == verdict.winner for standing in able):
        return verdict.winner
    return None if first is None else first.candidate


def _sound(standing: Standing) -> bool:
    return not standing.disqualified and not standing.regressions


def _cells(verdict: Verdict, found: Ballot) -> Iterator[Difference]:
    claimed = verdict.ballot
    rows = [("the base commit", claimed.base, found.base)]
    if claimed.reviewed:
        rows.append(("the reviewed state", claimed.reviewed, found.reviewed))
    for c, row in enumerate(claimed.cells):
        rows.append((f"candidate {verdict.number(c)}", row, found.cells[c]))
    for where, one, other in rows:
        for t, (before, now) in enumerate(zip(one, other, strict=True)):
            if before is not now and t not in (*claimed.unsteady, *found.unsteady):
                yield Difference(what=f"T{t + 1} on {where}", claimed=_WORDS[before], found=_WORDS[now], is_cell=True)


_WORDS = {True: "passes", False: "fails", None: "not run"}


def _disqualified(verdict: Verdict, found: Ballot) -> Iterator[Difference]:
    for c, (one, other) in enumerate(zip(verdict.ballot.candidates, found.candidates, strict=True)):
        if one.disqualified != other.disqualified:
            what = f"disqualification of candidate {verdict.number(c)}"
            yield Difference(what=what, claimed=one.disqualified or "none", found=other.disqualified or "none")
        if _lines(one.patch.diff) != _lines(other.patch.diff):
            what = f"diff of candidate {verdict.number(c)}"
            yield Difference(what=what, claimed="other than its files", found=f"{other.patch.size:,} characters")


def _lines(diff: str) -> list[str]:
    """Without what the files' final state does not tell."""
    return [line for line in diff.split("\n") if not line.startswith("deleted file mode ")]


def _standings(verdict: Verdict, again: Count) -> Iterator[Difference]:
    found = {standing.candidate: standing for standing in again.standings}
    for standing in verdict.standings:
        number, other = verdict.number(standing.candidate), found[standing.candidate]
        for what, one, now in (
            ("votes", standing.votes, other.votes),
            ("own votes", standing.own_votes, other.own_votes),
            ("cluster", standing.cluster, other.cluster),
        ):
            if one != now:
                yield Difference(what=f"{what} of candidate {number}", claimed=str(one), found=str(now))
        if bool(standing.regressions) != bool(other.regressions):  # which ones may depend on what ran before
            what = f"tests or examples of the repository that candidate {number} breaks"
            yield Difference(what=what, claimed=_named(standing.regressions), found=_named(other.regressions))


def _named(tests: tuple[str, ...]) -> str:
    return ", ".join(tests)[:500] or "none"
