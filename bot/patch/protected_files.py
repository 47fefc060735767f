"""The files that judge a candidate: a candidate that adds or changes one loses its votes."""

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from bot.records import FileChange

# Loaded by the test runner or by the interpreter, in any folder.
_CONFIGURATION = frozenset(
    {
        "conftest.py",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "sitecustomize.py",
        "usercustomize.py",
    }
)
_TEST_NAME = re.compile(
    r"test_.*\.py|.*_tests?\.(py|go|rb|c|cc|cpp|exs|dart|php|sh)|tests?\.py|.*[.-](test|spec)\.[cm]?[jt]sx?"
    r"|.*_spec\.(rb|lua|js|ts)|.*(Test|Tests|Spec)\.(java|kt|scala|groovy|cs|php|swift)|.*\.bats"
)
_TEST_FOLDERS = frozenset({"tests", "__tests__"})  # in any folder
_TOP_TEST_FOLDERS = frozenset({"test", "spec", "t"})  # deeper ones may be product code, such as django/test


def is_configuration(path: str) -> bool:
    """Whether the file configures a test runner or runs when the interpreter starts."""
    name = PurePosixPath(path).name
    return name in _CONFIGURATION or name.endswith(".pth")


def is_test(path: str) -> bool:
    """Whether the path looks like a file of the repository's own tests."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return (
        bool(_TEST_NAME.fullmatch(name))
        or not _TEST_FOLDERS.isdisjoint(folders)
        or (bool(folders) and folders[0] in _TOP_TEST_FOLDERS)
    )


def is_judge(path: str, exists: Callable[[str], bool]) -> bool:
    """Whether a change of the path is never applied: configuration, or a test file that the repository has."""
    return is_configuration(path) or (is_test(path) and exists(path))


def trusted(changes: Sequence[FileChange], exists: Callable[[str], bool]) -> tuple[FileChange, ...]:
    """The changes without those of judges: what a sandbox applies."""
    return tuple(change for change in changes if not is_judge(change.path, exists))


def touched_judges(changes: Sequence[FileChange], exists: Callable[[str], bool]) -> str:
    """Why the candidate is disqualified, such as `changes conftest.py`, or "". `exists`: in the base tree.

    New test files are allowed: a fix may come with its test.
    """
    said = []
    for change in changes:
        if is_judge(change.path, exists):
            verb = "adds" if not exists(change.path) else "deletes" if change.text is None else "changes"
            said.append(f"{verb} {change.path}")
    return ", ".join(said[:3]) + (f" and {len(said) - 3} more" if len(said) > 3 else "")
