"""The files that judge a candidate: a candidate that adds or changes one loses its votes."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from bot.records import FileChange

# Read by a test runner, or by the interpreter when it starts, in any folder. Whole files: what of a manifest tests
# depend on is not told by its text alone (`addopts`, a plugin's entry point, the script behind `npm test`).
_CONFIGURATION = frozenset(
    [
        "conftest.py",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "noxfile.py",
        "pyproject.toml",
        "sitecustomize.py",
        "usercustomize.py",
        ".coveragerc",
        "package.json",
        ".npmrc",
        ".mocharc.js",
        ".mocharc.cjs",
        ".mocharc.json",
        ".mocharc.yml",
        ".mocharc.yaml",
        "mocha.opts",
        ".nycrc",
        "Makefile",
        "makefile",
        "GNUmakefile",
        "phpunit.xml",
        "phpunit.xml.dist",
        ".rspec",
        "Rakefile",
    ]
)
_CONFIGURATION_NAME = re.compile(
    r"(?:jest|vitest|karma|ava|playwright|cypress|babel)\.(?:config|conf|setup)\.[cm]?[jt]sx?"
)
# What an installer writes: an entry point there loads a plugin into the test runner.
_METADATA_FOLDER = re.compile(r".*\.(?:dist-info|egg-info|egg)")
_LOADED = (".pth", ".pyc", ".pyo", ".so", ".pyd", ".dylib", ".node")  # run, or loaded in the place of what can be read
# Top-level modules that tests import and candidates have no business replacing.
_TAKEN = sys.stdlib_module_names | frozenset(
    [
        "pytest",
        "_pytest",
        "pluggy",
        "iniconfig",
        "py",
        "exceptiongroup",
        "pytest_asyncio",
        "anyio",
        "coverage",
        "pytest_cov",
        "xdist",
        "hypothesis",
        "nose",
        "nose2",
        "mock",
        "setuptools",
        "pkg_resources",
        "pip",
        "packaging",
    ]
)
_IMPORT_ROOTS = ("", "src/", "lib/", "python/")
_TEST_NAME = re.compile(
    r"test_.*\.py|.*_tests?\.(py|go|rb|c|cc|cpp|exs|dart|php|sh)|tests?\.py|.*[.-](test|spec)\.[cm]?[jt]sx?"
    r"|.*_spec\.(rb|lua|js|ts)|.*(Test|Tests|Spec)\.(java|kt|scala|groovy|cs|php|swift)|.*\.bats"
)
_TEST_FOLDERS = frozenset({"tests", "__tests__"})  # in any folder
_TOP_TEST_FOLDERS = frozenset({"test", "spec", "t"})  # deeper ones may be product code, such as django/test


def is_configuration(path: str) -> bool:
    """Whether the file configures a test runner or runs when the interpreter starts."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return (
        name in _CONFIGURATION
        or _CONFIGURATION_NAME.fullmatch(name) is not None
        or name.endswith(_LOADED)
        or any(_METADATA_FOLDER.fullmatch(folder) for folder in folders)
    )


def shadows(path: str) -> bool:
    """Whether a new file of the path would be imported in the place of a standard module, or of a test tool's."""
    for root in _IMPORT_ROOTS:
        module = path.removeprefix(root) if path.startswith(root) else "/"
        name = module.removesuffix("/__init__.py") if module.endswith("/__init__.py") else module.removesuffix(".py")
        if name != module and name in _TAKEN:
            return True
    return False


def is_test(path: str) -> bool:
    """Whether the path looks like a file of the repository's own tests."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return (
        bool(_TEST_NAME.fullmatch(name))
        or not _TEST_FOLDERS.isdisjoint(folders)
        or (bool(folders) and folders[0] in _TOP_TEST_FOLDERS)
    )


def is_judge(path: str, exists: Callable[[str], bool]) -> bool:
    """Whether a change of the path is never applied.

    That is configuration, a test file that the repository has, a new `__init__.py` among tests, which runs before them,
    and a new module that would be imported in the place of another.
    """
    if is_configuration(path):
        return True
    if exists(path):
        return is_test(path)
    return shadows(path) or (is_test(path) and PurePosixPath(path).name == "__init__.py")


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
