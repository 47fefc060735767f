"""Reports made by hand: a small repository, an issue, some candidates and tests, and the count over them."""

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from bot.lifecycle import RunState
from bot.records import (
    Abstention,
    Ballot,
    Candidate,
    Choice,
    ClaimedRun,
    Context,
    Doubt,
    FileChange,
    Issue,
    NoWinner,
    Outcome,
    Patch,
    Repeated,
    Report,
    Rule,
    SourceFile,
    Test,
    Trajectory,
    TrajectoryEnd,
    Usage,
    Verdict,
    by_path,
)
from bot.solver.ballot import count

REPO = "olive/tools"
FILES: dict[str, str] = {
    "tools/clamp.py": "def clamp(x, low, high):\n    return min(x, high)\n",
    "tools/__init__.py": "",
    "README.md": "# Tools\n",
}
LABELLED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def patch(changes: Mapping[str, str | None], files: Mapping[str, str] = FILES) -> Patch:
    """The patch, with its diff in git's form."""
    diff = []
    for path, text in sorted(changes.items()):
        old = files.get(path)
        names = (f"a/{path}" if old is not None else "/dev/null", f"b/{path}" if text is not None else "/dev/null")
        lines = difflib.unified_diff((old or "").splitlines(True), (text or "").splitlines(True), *names)
        diff.append(f"diff --git a/{path} b/{path}\n" + "".join(lines))
    made = [FileChange(path=path, text=text) for path, text in changes.items()]
    return Patch(changes=by_path(made), diff="".join(diff))


def fix(body: str) -> Patch:
    return patch({"tools/clamp.py": f"def clamp(x, low, high):\n    {body}\n"})


GOOD = fix("return max(low, min(x, high))")
OTHER = fix("return min(max(x, low), high)")
WRONG = fix("return max(x, low)")


def issue(**changes: object) -> Issue:
    values: dict[str, object] = {
        "title": "clamp ignores its lower bound",
        "body": "`clamp(-1, 0, 5)` gives -1, it should give 0.",
        "number": 1,
        "author": "reporter",
    }
    return Issue.model_validate(values | changes)


def report(
    patches: Sequence[Patch] = (GOOD, OTHER, WRONG),
    cells: Sequence[Sequence[bool | None]] = (
        (True, True, True, None),
        (True, True, False, True),
        (True, False, False, None),
    ),
    base: Sequence[bool | None] = (False, False, False, True),
    *,
    winner: int | None = 0,
    said: str = "",
    the_issue: Issue | None = None,
    tests: Sequence[Test] = (),
    disqualified: Mapping[int, str] | None = None,
    base_commit: str = "",
    **changes: object,
) -> Report:
    """Candidate i is what trajectory i ended with, and test i its test; further tests are of trajectories without a
    patch. `winner=None` abstains. `said`: what a model or a program said, quoted in the reason."""
    written = tuple(tests) or tuple(
        Test(path=f"test_{t}.py", text=f"from tools.clamp import clamp\nassert clamp({t} - 9, 0, 5) == 0\n")
        for t in range(len(base))
    )
    lost = disqualified or {}
    ballot = Ballot(
        candidates=tuple(
            Candidate(
                patch=made,
                trajectories=(i,),
                tests=(i,) if i < len(written) else (),
                disqualified=lost.get(i, ""),
            )
            for i, made in enumerate(patches)
        ),
        tests=written,
        base=tuple(base),
        cells=tuple(tuple(row) for row in cells),
    )
    standings = sorted(count(ballot), key=lambda standing: standing.candidate != winner)
    finalists = tuple(standing.candidate for standing in standings[:3])
    cause = NoWinner.NOT_CREDIBLE if patches else NoWinner.NO_CANDIDATE
    setback = Repeated(text=said, times=1, of=4) if said else None
    verdict = Verdict(
        outcome=Outcome.SOLVED if winner is not None else Outcome.ABSTAINED,
        winner=winner,
        standings=tuple(standings),
        choice=None
        if winner is None
        else Choice(
            rule=Rule.NO_ANSWER if said else Rule.MODEL, front_runner=finalists[0], finalists=finalists, error=said
        ),
        abstention=Abstention(cause=cause, doubts=((Doubt.NO_VOTE, len(patches)),), setback=setback)
        if winner is None
        else None,
        ballot=ballot,
        numbered_by_rank=True,
    )
    trajectories = tuple(
        Trajectory(
            index=i,
            test=written[i] if i < len(written) else None,
            patch=patches[i] if i < len(patches) else None,
            end=TrajectoryEnd.DONE if i < len(patches) else TrajectoryEnd.NO_EDIT,
            calls=5,
        )
        for i in range(max(len(patches), len(written)))
    )
    source = SourceFile(path="tools/clamp.py", text=FILES["tools/clamp.py"])
    values: dict[str, object] = {
        "issue": the_issue or issue(),
        "verdict": verdict,
        "context": Context(files=(source,), tokens=24, considered=3, relevant=1),
        "trajectories": trajectories,
        "usage": Usage(calls=33, prompt_tokens=120_000, cached_tokens=90_000, completion_tokens=4_567, seconds=312.0),
        "wall_seconds": 130.4,
        "model": "capuchin",
        "base_commit": base_commit,
        "labelled_at": LABELLED_AT,
    }
    return Report.model_validate(values | changes)


def claimed_run(repository: str, number: int = 1, **changes: object) -> ClaimedRun:
    values: dict[str, object] = {
        "id": 7,
        "repository": repository,
        "installation_id": 1,
        "issue": issue(number=number),
        "sender": "olive",
        "labelled_at": LABELLED_AT,
        "state": RunState.PUBLISHING,
        "attempt": 1,
    }
    return ClaimedRun.model_validate(values | changes)


async def alive() -> None:
    """A fence that always holds."""
