"""Whether a test script reached its end, in languages that no runner proves: it runs once more, with a failure there.

A candidate shares the process of many a script: `exit 0` in what a script loads ends it before its checks, with the
exit code of a success. So a script that passed on a candidate runs again with a last statement that ends it with a code
drawn by lot: with another code, its end was not reached. Scripts that end themselves are not doubted, since they would
not reach it either. Pure.
"""

import re
import secrets
from collections.abc import Collection
from pathlib import PurePosixPath

from bot.records import Ending, Execution, SandboxJob, Test

# By ending: the last statement, and what tells that a script ends itself or has no end to add to.
_ENDINGS = {
    ".sh": ("exit {}", r"\b(?:exit|exec|trap|return)\b|<<"),
    ".bash": ("exit {}", r"\b(?:exit|exec|trap|return)\b|<<"),
    ".rb": ("exit!({})", r"\b(?:exit|abort|at_exit|autorun)\b|^__END__|^=begin"),
    ".pl": ("exit {};", r"\bexit\b|^__(?:END|DATA)__|^=\w"),
    ".php": ("exit({});", r"\b(?:exit|die|__halt_compiler)\b|\?>"),
    ".lua": ("os.exit({})", r"\bos\.exit\b|^return\b"),
    ".tcl": ("exit {}", r"\bexit\b"),
    ".r": ("quit(status = {})", r"\b(?:quit|q)\("),
    ".jl": ("exit({})", r"\bexit\("),
    ".ts": ("process.exit({});", r"\bexit\b|\bprocess\.exitCode\b"),
}
_GO_MAIN = re.compile(r"^func main\(\)", re.MULTILINE)
_GO_PACKAGE = re.compile(r"^package[ \t]+main\b.*$", re.MULTILINE)
_CODES = range(40, 110)  # which mean nothing to a shell


def doubted(job: SandboxJob, scripts: Collection[str]) -> tuple[SandboxJob, int] | None:
    """The job that ends with that exit code where the script reaches its end; None where it can't be told so.

    `scripts`: endings whose programs the repository's config names; these may not run the script as it is.
    """
    if job.test is None or job.command or not job.changes or job.test.path.lower().endswith(tuple(scripts)):
        return None
    code = secrets.choice(_CODES)
    text = _with_end(PurePosixPath(job.test.path.lower()).suffix, job.test.text, code)
    if text is None:
        return None
    return job.model_copy(update={"test": Test(path=job.test.path, text=text)}), code


def believed(found: Execution, again: Execution, code: int) -> Execution:
    """The execution; cut short where the same script did not end with that code the second time."""
    by_go = again.exit_code == 1 and again.output.rstrip().endswith(f"exit status {code}")  # what `go run` makes of it
    if again.ending is Ending.EXITED and (again.exit_code == code or by_go):
        return found
    return found.model_copy(update={"ending": Ending.CUT_SHORT})


def _with_end(ending: str, text: str, code: int) -> str | None:
    if ending == ".go":
        main, package = _GO_MAIN.search(text), _GO_PACKAGE.search(text)
        if main is None or package is None or "Exit(0)" in text:
            return None
        rest = text[package.end() : main.start()] + "func troopMain()" + text[main.end() :]
        end = f"\nfunc main() {{\n\ttroopMain()\n\ttroopOS.Exit({code})\n}}\n"
        return f'{text[: package.end()]}\n\nimport troopOS "os"\n{rest}{end}'
    statement, ends_itself = _ENDINGS.get(ending, ("", ""))
    if not statement or re.search(ends_itself, text, re.MULTILINE):
        return None
    return f"{text.rstrip()}\n{statement.format(code)}\n"
