"""Planted bugs as tasks in SWE-bench's form, over a repository with a commit for each."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bot.evaluation.planting.bugs import Bug
from bot.evaluation.planting.packages import Package
from bot.patch.diff import file_diff

CHECK = "test_planted.py"  # in the repository's root; its one test runs the bug's hidden check
_TEST = "test_examples"
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    # Dated 1970: the same bugs are the same commits.
    for part, value in (("NAME", "troop"), ("EMAIL", "troop@localhost"), ("DATE", "@0 +0000"))
}


def write_tasks(package: Package, bugs: Sequence[Bug], folder: Path) -> list[str]:
    """Make the repository `folder`, with a commit without a parent for each bug; the lines of the tasks."""
    folder.mkdir(parents=True)
    _git(folder, "init", "--quiet", "--initial-branch=original")
    lines = []
    for number, bug in enumerate(bugs, start=1):
        commit = _commit(folder, bug.files(package), f"planted-{number}")
        lines.append(_line(package, bug, number, commit, folder.name))
    _commit(folder, package.files, "original")
    _git(folder, "reset", "--quiet", "--hard", "original")
    return lines


def _line(package: Package, bug: Bug, number: int, commit: str, repository: str) -> str:
    broken = bug.files(package)[bug.path]
    row = {
        "instance_id": f"{package.name}-{number}",
        "repo": repository,
        "base_commit": commit,
        "problem_statement": f"{bug.title}\n\n{bug.body}",
        "patch": file_diff(bug.path, broken, package.files[bug.path]),
        "test_patch": file_diff(CHECK, None, check_file(bug)),
        "FAIL_TO_PASS": [f"{CHECK}::{_TEST}"],
        "PASS_TO_PASS": [],
        "planted": {"path": bug.path, "function": bug.function, "kind": bug.mutation.kind},
    }
    return json.dumps(row)


def check_file(bug: Bug) -> str:
    """The bug's hidden check as a test of pytest."""
    return (
        f"CHECK = {bug.check.text!r}\n\n\n"
        f"def {_TEST}():\n"
        "    exec(compile(CHECK, 'hidden check', 'exec'), {'__name__': 'hidden_check'})\n"
    )


def _commit(folder: Path, files: dict[str, str], branch: str) -> str:
    """A commit of these files alone, as the branch; its full name."""
    _git(folder, "read-tree", "--empty")
    listing = []
    for path, text in sorted(files.items()):
        blob = _git(folder, "hash-object", "-w", "--stdin", stdin=text)
        listing.append(f"100644 {blob}\t{path}\n")
    _git(folder, "update-index", "--index-info", stdin="".join(listing))
    commit = _git(folder, "commit-tree", _git(folder, "write-tree"), "-m", branch)
    _git(folder, "update-ref", f"refs/heads/{branch}", commit)
    return commit


def _git(folder: Path, *arguments: str, stdin: str = "") -> str:
    argv = ["git", "-c", "core.autocrlf=false", *arguments]
    done = subprocess.run(
        argv, cwd=folder, input=stdin.encode(), env={**os.environ, **_IDENTITY}, capture_output=True, check=True
    )
    return done.stdout.decode().strip()
