"""Whether a test script reached its end, in languages that no runner proves: it runs once more, and ends with a code.

A candidate shares the process of many a script: `exit 0` in what a script loads ends it before its checks, with the
exit code of a success. So a script that passed on a candidate runs again, changed so that its good end is told by a
code drawn by lot (`shell_end.py`, `script_end.py`): with another code, that end was not reached. So do tests for JUnit
and PHPUnit (`class_end.py`) and for jest and its like (`suite_end.py`). A script for another runner of tests gets a
test more, which must fail (`failing_test.py`). Scripts that can't be changed so are not doubted. Pure.
"""

import secrets
from collections.abc import Mapping, Sequence

from bot.records import Ending, Execution, SandboxJob, Test
from bot.sandbox import class_end, failing_test, script_command, script_end, shell_end, suite_end

_SCRIPT = "script"


def doubted(job: SandboxJob, scripts: Mapping[str, tuple[str, ...]]) -> tuple[tuple[SandboxJob, int | None], ...]:
    """Jobs, each with the exit code by which it ends where the script reaches its end; None for any but 0.

    () where it can't be told so. `scripts`: commands of the repository's config by endings, as of `script_command`.
    """
    if job.test is None or job.command or not job.changes:
        return ()
    path = job.test.path
    texts = _texts(job.test, [change.path for change in job.changes], scripts)
    return tuple((job.model_copy(update={"test": Test(path=path, text=text)}), code) for text, code in texts)


def _texts(
    test: Test, changed: Sequence[str], scripts: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, int | None], ...]:
    code = secrets.choice(shell_end.CODES)
    command = script_command.script_command(test, _SCRIPT, scripts)
    if script_command.provable(script_command.split_environment(command)[1], _SCRIPT):
        return ()
    known = command == script_command.script_command(test, _SCRIPT, {})
    program = script_command.interpreter(command, _SCRIPT) or (script_command.program(command) if known else "")
    text: str | None = None
    expected: int | None = code
    if program in shell_end.SHELLS:
        text = shell_end.with_end(test.text, code, bash=program == "bash")
    elif program:
        text = script_end.with_end(script_end.ending_of(program, test.path), test.text, code, changed)
    elif command:
        if ended := suite_end.with_ends(test.path, test.text, code, command):
            return ended
        in_class = class_end.with_end(test.path, test.text, code, command)
        text, expected = in_class or (failing_test.with_failing(test.path, test.text), None)
    return () if text is None else ((text, expected),)


def believed(found: Execution, again: Execution, code: int | None) -> Execution:
    """The execution; cut short where the same script did not end with that code the second time."""
    by_go = again.exit_code == 1 and again.output.rstrip().endswith(f"exit status {code}")  # what `go run` makes of it
    expected = again.exit_code != 0 if code is None else again.exit_code == code or by_go
    if again.ending is Ending.EXITED and expected:
        return found
    return found.model_copy(update={"ending": Ending.CUT_SHORT})
