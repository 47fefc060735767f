"""Three small repositories with one planted bug each, for the demo: files, an issue, and a check no model ever sees.

A case is a folder of `cases/`: `repository/` (what is checked in), `issue.md` (title in the first line) and `check.py`
(run in the repository's root; exit code 0 only where the bug is truly gone).
"""

from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "cases"
COUNT = 3


@dataclass(frozen=True)
class DemoIssue:
    """In a person's words."""

    title: str
    body: str


@dataclass(frozen=True)
class DemoCase:
    """One demo. `files` by POSIX path; `check` is a Python script's text."""

    name: str
    files: dict[str, str]
    issue: DemoIssue
    check: str


def load(number: int) -> DemoCase:
    """Demo `number`, from 1. Raises `ValueError` for a number that there is not."""
    folders = {path.name.partition("-")[0]: path for path in CASES.iterdir() if path.is_dir()}
    if str(number) not in folders:
        raise ValueError(f"there is no demo issue {number}; they are 1 to {COUNT}")
    folder = folders[str(number)]
    root = folder / "repository"
    title, _, body = (folder / "issue.md").read_text().partition("\n")
    return DemoCase(
        name=folder.name.partition("-")[2],
        files={
            path.relative_to(root).as_posix(): path.read_text()
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        },
        issue=DemoIssue(title=title.strip(), body=body.strip() + "\n"),
        check=(folder / "check.py").read_text(),
    )
