"""Commands that run a repository's own tests, and what their runners print. Pure."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from bot.records import Ending, Execution, NotCompared

Command = tuple[str, ...]

PYTEST: Command = (
    *("python3", "-m", "pytest", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider"),
    "--continue-on-collection-errors",  # else one file that can't be imported keeps all others from running
)
# Without the options of the configuration, which may need plugins that are not there (`--cov`).
PYTEST_ALONE: Command = (*PYTEST, "-o", "addopts=", "-o", "required_plugins=")
UNITTEST: Command = ("python3", "-m", "unittest", "discover", "-v")
_QUOTED = 200  # characters of what a runner printed

_PYTHON_TEST = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|tests)\.py$")
_MAKE_TEST = re.compile(r"^test\s*:(?!=)", re.MULTILINE)
_NO_TEST_SCRIPT = "no test specified"  # what `npm init` writes

# How runners name a failing test. pytest: `FAILED a.py::b - why` and `ERROR a.py`; unittest: `FAIL: b (a.B.b)`;
# go: `--- FAIL: B`; cargo: `test a::b ... FAILED`; TAP: `not ok 1 - b`.
_FAILURES = (
    re.compile(r"^(?:FAILED|ERROR) (?!\()(\S+?(?:\[.*?\])?)(?= - |$)", re.MULTILINE),
    re.compile(r"^(?:FAIL|ERROR): (\S+ \([^)]*\))", re.MULTILINE),
    re.compile(r"^\s*--- FAIL: (\S+)", re.MULTILINE),
    re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE),
    re.compile(r"^not ok \d+ - (.+?)\s*$", re.MULTILINE),
)


def detect(files: Sequence[str], read: Callable[[str], str | None]) -> tuple[Command, ...]:
    """Commands that may run the repository's tests, the likeliest first, by its files. Pure.

    `files`: its paths; `read`: the text of a file, such as `package.json`.
    """
    names = set(files)
    found: list[Command] = []
    if any(_PYTHON_TEST.search(path) for path in files):
        found += [PYTEST, PYTEST_ALONE, UNITTEST]
    if "Cargo.toml" in names:
        found.append(("cargo", "test", "--offline", "--no-fail-fast"))
    if "go.mod" in names and any(path.endswith("_test.go") for path in files):
        found.append(("go", "test", "./..."))
    if "package.json" in names and _has_test_script(read("package.json") or ""):
        found.append(("npm", "test", "--silent"))
    makefile = next((name for name in ("GNUmakefile", "makefile", "Makefile") if name in names), None)
    if makefile and _MAKE_TEST.search(read(makefile) or ""):
        found.append(("make", "test"))
    if any(PurePosixPath(path).suffix == ".rb" and path.startswith("spec/") for path in files):
        found.append(("rspec",))
    return tuple(found)


def _has_test_script(text: str) -> bool:
    try:
        script = json.loads(text)["scripts"]["test"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(script, str) and _NO_TEST_SCRIPT not in script


def failing(execution: Execution) -> tuple[str, ...] | None:
    """The failing tests that the runner's output names; () where all passed; None where it names none.

    None as well where output was left out or the run did not end by itself: an incomplete list proves nothing.
    """
    if execution.passed:
        return ()
    if execution.ending is not Ending.EXITED or execution.truncated:
        return None
    for pattern in _FAILURES:
        names = dict.fromkeys(pattern.findall(execution.output))
        if names:
            return tuple(names)
    return None


def absence(command: Command, execution: Execution) -> tuple[NotCompared, str] | None:
    """Why nothing was tested, and what the runner printed of it; None where tests ran.

    The runner is not there, refuses its own configuration, or finds no test.
    """
    output = execution.output
    end = execution.tail(1, _QUOTED)
    if execution.ending is Ending.UNAVAILABLE:
        return NotCompared.NOT_RUN, end or execution.status
    if "No module named pytest" in output:
        return NotCompared.NO_PYTEST, end
    if execution.exit_code == 5 and "no tests ran" in output:
        return NotCompared.NOT_RUN, end
    if execution.exit_code == 4 and command[:3] == PYTEST[:3]:  # a usage error, or a conftest.py that can't be imported
        errors_printed = [line.strip() for line in output.splitlines() if re.search(r"error\b", line, re.IGNORECASE)]
        return NotCompared.NOT_RUN, (errors_printed[-1] if errors_printed else end)[:_QUOTED]
    ran = re.search(r"^Ran (\d+) tests?", output, re.MULTILINE)
    errors = re.search(r"^FAILED \(errors=(\d+)(?:, skipped=\d+)?\)", output, re.MULTILINE)
    summary = re.search(r"^=*\s*(\d+ errors? in [\d.]+s.*?)\s*=*$", output, re.MULTILINE)
    if ran and (int(ran[1]) == 0 or (errors and errors[1] == ran[1])):
        return NotCompared.NOT_RUN, f"{ran[0]}, {errors[1]} errors" if errors else ran[0]
    return (NotCompared.NOT_RUN, summary[1]) if summary else None


# -- some files of tests alone -------------------------------------------------------------------------------------

_OF_PYTEST = frozenset(  # options whose value is the next word
    (
        "-k",
        "-m",
        "-p",
        "-c",
        "-o",
        "-W",
        "-n",
        "--rootdir",
        "--confcutdir",
        "--ignore",
        "--maxfail",
        "--import-mode",
        "--tb",
    )
)


def narrowed(command: Command, tests: Mapping[str, str]) -> Command | None:
    """The command for some files of tests alone (text by path); None where it is not known how to run those."""
    first = next((i for i, word in enumerate(command) if "=" not in word and word != "env"), len(command))
    before, words = command[:first], command[first:]
    names = [PurePosixPath(word).name for word in words]
    python = [path for path in tests if path.endswith(".py")]
    at = next((i for i, name in enumerate(names) if name in ("pytest", "py.test")), None)
    if at is not None:
        return (*before, *words[: at + 1], *_options(words[at + 1 :]), *python) if python else None
    if names[1:3] == ["-m", "unittest"]:
        return (*before, *words[:3], "-v", *python) if python else None
    if names[:2] == ["go", "test"]:
        folders = dict.fromkeys(f"./{PurePosixPath(path).parent}" for path in tests if path.endswith("_test.go"))
        return (*before, "go", "test", *folders) if folders else None
    if names[:2] == ["cargo", "test"]:
        whole = [
            PurePosixPath(p).stem for p in tests if PurePosixPath(p).parts[:-1] == ("tests",) and p.endswith(".rs")
        ]
        chosen = [word for stem in whole for word in ("--test", stem)]
        return (*before, "cargo", "test", "--offline", "--no-fail-fast", *chosen) if chosen else None
    if names[:1] == ["rspec"]:
        return (*before, *words[:1], *tests) if all(path.endswith(".rb") for path in tests) else None
    of_node = [path for path, text in tests.items() if "node:test" in text]
    if names[:1] in (["npm"], ["node"]) and of_node:
        return (*before, "node", "--test", "--test-reporter=tap", *of_node)
    return None


def _options(words: Sequence[str]) -> list[str]:
    """The options among the arguments of pytest, without the files and folders that it is to run."""
    kept: list[str] = []
    for i, word in enumerate(words):
        if word == "--tb=line":  # of a few files, a model is to see more of each failure
            kept.append("--tb=short")
        elif word.startswith("-"):
            kept += words[i : i + 2] if word in _OF_PYTEST else [word]
    return kept
