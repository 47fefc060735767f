"""Whether a test script reached its end, in languages that no runner proves: it runs once more, and ends with a code.

A candidate shares the process of many a script: `exit 0` in what a script loads ends it before its checks, with the
exit code of a success. So a script that passed on a candidate runs again, changed so that its good end is told by a
code drawn by lot (`shell_end.py`, `script_end.py`): with another code, that end was not reached. So do tests for JUnit
and PHPUnit (`class_end.py`). A script for another runner of tests, such as jest, gets a test more, which must fail
(`failing_test.py`). Scripts that can't be changed so are not doubted. Pure.
"""

import secrets
from collections.abc import Mapping

from bot.records import Ending, Execution, SandboxJob, Test
from bot.sandbox import class_end, failing_test, script_command, script_end, shell_end

_SCRIPT = "script"


def doubted(job: SandboxJob, scripts: Mapping[str, tuple[str, ...]]) -> tuple[SandboxJob, int | None] | None:
    """The job that ends with that exit code where the script reaches its end: None for any but 0.

    None where it can't be told so.

    `scripts`: commands of the repository's config by endings, as of `script_command`.
    """
    if job.test is None or job.command or not job.changes:
        return None
    code = secrets.choice(shell_end.CODES)
    command = script_command.script_command(job.test, _SCRIPT, scripts)
    if script_command.provable(script_command.split_environment(command)[1], _SCRIPT):
        return None
    known = command == script_command.script_command(job.test, _SCRIPT, {})
    program = script_command.interpreter(command, _SCRIPT) or (script_command.program(command) if known else "")
    text: str | None = None
    expected: int | None = code
    if program in shell_end.SHELLS:
        text = shell_end.with_end(job.test.text, code)
    elif program:
        ending = script_end.ending_of(program, job.test.path)
        text = script_end.with_end(ending, job.test.text, code, [change.path for change in job.changes])
    elif command:
        ended = class_end.with_end(job.test.path, job.test.text, code, command)
        text, expected = ended or (failing_test.with_failing(job.test.path, job.test.text), None)
    if text is None:
        return None
    return job.model_copy(update={"test": Test(path=job.test.path, text=text)}), expected


def believed(found: Execution, again: Execution, code: int | None) -> Execution:
    """The execution; cut short where the same script did not end with that code the second time."""
    by_go = again.exit_code == 1 and again.output.rstrip().endswith(f"exit status {code}")  # what `go run` makes of it
    if again.ending is Ending.EXITED and (again.exit_code == code or by_go or (code is None and again.exit_code != 0)):
        return found
    return found.model_copy(update={"ending": Ending.CUT_SHORT})
