"""Small ballots for tests, written as rows of `+` (passes), `.` (fails) and `?` (could not be run)."""

from bot.records import Ballot, Candidate, FileChange, Patch, Test

_CELLS = {"+": True, ".": False, "?": None}


def patch(text: str, path: str = "a.py") -> Patch:
    """A patch of one file whose size is the text's length."""
    return Patch(
        changes=(FileChange(path=path, text=text),), diff=f"--- a/{path}\n+++ b/{path}\n@@ -0,0 +1 @@\n+{text}\n"
    )


def row(cells: str) -> tuple[bool | None, ...]:
    return tuple(_CELLS[cell] for cell in cells)


def ballot(
    base: str,
    *rows: str,
    trajectories: list[list[int]] | None = None,
    authors: list[list[int]] | None = None,
    sizes: list[int] | None = None,
    disqualified: dict[int, str] | None = None,
) -> Ballot:
    """By default every candidate has a trajectory of its own, and the tests were written by nobody of them."""
    n = len(rows)
    trajectories = [[i] for i in range(n)] if trajectories is None else trajectories
    sizes = [20 + i for i in range(n)] if sizes is None else sizes
    authors = [[1000 + t] for t in range(len(base))] if authors is None else authors
    candidates = tuple(
        Candidate(
            patch=patch(f"{i:0{sizes[i]}d}"),
            trajectories=tuple(trajectories[i]),
            tests=tuple(t for t, who in enumerate(authors) if set(who) & set(trajectories[i])),
            disqualified=(disqualified or {}).get(i, ""),
        )
        for i in range(n)
    )
    return Ballot(
        candidates=candidates,
        tests=tuple(Test(path=f"test_{t}.py", text=f"# {t}\n") for t in range(len(base))),
        base=row(base),
        cells=tuple(row(cells) for cells in rows),
        authors=tuple(tuple(who) for who in authors),
    )
