"""The hidden tests of a repository's task, run on one patch. Names are those of SWE-bench's files.

Sources: SWE-bench's `harness/constants` (how each repository's tests are started) and `harness/log_parsers` (what their
names are); Django's and SymPy's own guides for contributors.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bot.contracts import Sandbox
from bot.errors import EvaluationError
from bot.evaluation.tasks import RepositoryTask
from bot.records import Execution, FileChange, Patch, SandboxJob, Test, by_path
from bot.solver.django_tests import django_runner, dotted

TESTS = "{tests}"
TIMEOUT = 1800.0  # seconds for the hidden tests on one candidate

_END = """

bad = lacking({arguments})
if bad:
    raise SystemExit("\\n".join("does not pass: " + name for name in bad[:50]))
"""
_HERE = Path(__file__).parent
_OF_UNITTEST = re.compile(r"\w+ \((?P<above>\w+(?:\.\w+)+)\)")
_FUNCTION = re.compile(r"test\w*(?:\[.*)?")
_OF_SYMPY = "bin/test"


class Judge:
    """Runs the hidden tests on a patch.

    `command`: argv with `{tests}` in the place of their names; () finds out by these and by `files`, the repository's
    paths. Raises `EvaluationError` where it can't.
    """

    def __init__(
        self,
        task: RepositoryTask,
        command: Sequence[str],
        sandbox: Sandbox,
        hidden: tuple[FileChange, ...],
        files: Sequence[str] = (),
    ) -> None:
        names = (*task.fail_to_pass, *task.pass_to_pass)
        self._sandbox = sandbox
        self._hidden = hidden
        self._command: tuple[str, ...] = ()
        self._script: Test | None = None
        if command:
            at = command.index(TESTS)
            self._command = (*command[:at], *names, *command[at + 1 :])
        else:
            changed = [change.path for change in hidden if change.content is not None]
            self._script = Test(path="hidden_tests.py", text=script(task.id, names, changed, files))

    async def run(self, patch: Patch | None) -> Execution:
        """The hidden tests on the patch; None: on the base commit. The tests' own files win over the patch's."""
        files = {change.path: change for change in (*(patch.changes if patch else ()), *self._hidden)}
        changes = by_path(list(files.values()))
        job = SandboxJob(changes=changes, command=self._command, test=self._script, timeout=TIMEOUT)
        return await self._sandbox.run(job)


def script(task: str, names: Sequence[str], changed: Sequence[str], files: Sequence[str]) -> str:
    """A Python script that fails unless all tests with these names pass. Pure.

    `changed`: the paths that the task's test patch leaves; `files`: the repository's. Raises `EvaluationError`.
    """
    tests = [path for path in changed if path.endswith(".py") and PurePosixPath(path).name.startswith("test")]
    wanted = list(names)
    if any("::" in name for name in names):
        return _script("by_pytest", wanted, sorted({name.split("::")[0] for name in names if "::" in name}))
    if any(map(_OF_UNITTEST.fullmatch, names)):
        argv, folder = django_runner(files) or (("unittest",), "")
        return _script("by_unittest", wanted, [*_options(argv), *_modules(names, tests, argv, folder)], folder)
    if tests and all(map(_FUNCTION.fullmatch, names)):
        if _OF_SYMPY in files:
            return _script("by_log", wanted, [_OF_SYMPY, "-C", "--verbose", *tests])
        return _script("by_pytest", wanted, tests)
    raise EvaluationError(
        f"{task}: how its tests are run can't be told by their names (such as {names[0][:80]!r}): give --test-command "
        "with {tests} in the place of the names"
    )


def _script(kind: str, *arguments: object) -> str:
    text = (_HERE / f"{kind}.py").read_text(encoding="utf-8")
    return text + _END.format(arguments=", ".join(map(ascii, arguments)))


def _options(argv: Sequence[str]) -> list[str]:
    """In one process, which alone is told of each test. A runner of people's own may know no such options."""
    if argv[0] == "runtests.py":
        return list(argv)
    return [*argv, "-v"] if argv[0] == "unittest" else [*argv, "-v", "2", "--parallel", "1"]


def _modules(names: Sequence[str], tests: Sequence[str], argv: Sequence[str], folder: str) -> list[str]:
    """The modules in which the tests are, by their names and by the files that hold them.

    Those of a name that is a docstring's line are told by the files alone.
    """
    found = set()
    for match in filter(None, map(_OF_UNITTEST.fullmatch, names)):
        parts = match["above"].split(".")
        if parts[-1] == match[0].split(" ")[0]:  # since Python 3.11
            parts.pop()
        found.add(".".join(parts[:-1]))
    root = str(PurePosixPath(folder, argv[0]).parent).removeprefix(".")
    return sorted({*filter(None, found), *dotted(tests, root)})
