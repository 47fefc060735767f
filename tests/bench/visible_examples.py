"""The examples in a HumanEval task's docstring: found, run on a reply's code, and told in words. Pure.

They are what a person who writes the function sees; the task's check stays hidden.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bot.evaluation.tasks import FunctionTask
from bot.llm.conversation import shortened
from bot.records import Execution, SandboxJob, Test

EACH = 2.0  # seconds for one example
TIMEOUT = 60.0  # seconds for all of one reply
MARK = "EXAMPLES "
SHOWN = 3  # failing examples that are told of one reply
BEHAVIOURS = 4  # that are told of a wave
_LONG = 160  # characters of a value
_SEPARATOR = re.compile(r"\s*(?:==>|=>|➞|->|==|=|\n\s*)\s*")
# Tasks with an example that HumanEval's own solution fails: a misprint, or a recurrence that reads like an example.
ILL_POSED = frozenset(f"HumanEval/{number}" for number in (47, 116, 130, 148, 158))
_WORDS = {"true": "True", "false": "False", "none": "None"}
_RUN = """
import json
import signal

SOURCE, EXAMPLES = {source!r}, {examples!r}


class TooLong(BaseException):
    pass


def stop(*_):
    raise TooLong("too slow")


def ran(call, value):
    signal.setitimer(signal.ITIMER_REAL, {each})
    try:
        got = eval(call, dict(names))
        return [bool(got == eval(value)), repr(got)[:500]]
    except BaseException as error:
        return [False, (type(error).__name__ + ": " + str(error))[:500]]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


signal.signal(signal.SIGALRM, stop)
names = {{"__name__": "reply"}}
broken = ""
signal.setitimer(signal.ITIMER_REAL, 5 * {each})
try:
    exec(compile(SOURCE, "reply.py", "exec"), names)
except BaseException as error:
    broken = (type(error).__name__ + ": " + str(error))[:500]
signal.setitimer(signal.ITIMER_REAL, 0)
results = [[False, broken] if broken else ran(call, value) for call, value in EXAMPLES]
print()
print({mark!r} + json.dumps(results))
"""


@dataclass(frozen=True)
class Example:
    """A call of the function, and the value that the docstring promises; both are Python expressions."""

    call: str
    value: str


@dataclass(frozen=True)
class Outcome:
    """What one example came to on one reply. `got`: the value's repr, or the exception."""

    passes: bool
    got: str


def examples_of(task: FunctionTask) -> tuple[Example, ...]:
    """The examples of the docstring, each call once, in the forms that HumanEval has."""
    found: dict[str, str] = {}
    text = _docstring(task)
    for match in re.finditer(rf"\b{re.escape(task.entry_point)}\(", text):
        call, end = _call(text, match.start())
        separator = _SEPARATOR.match(text, end)
        if not call or not separator or ("\n" in separator[0] and ">>>" not in _line(text, match.start())):
            continue
        value = _value(text[separator.end() :])
        if value is not None:
            found.setdefault(call, value)
    return tuple(Example(call, value) for call, value in found.items())


def _docstring(task: FunctionTask) -> str:
    """Of the function; all of the prompt where it can't be parsed."""
    try:
        tree = ast.parse(task.prompt + "\n    pass\n")
    except SyntaxError:
        return task.prompt
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == task.entry_point:
            return ast.get_docstring(node, clean=False) or ""
    return ""


def _line(text: str, at: int) -> str:
    return text[text.rfind("\n", 0, at) + 1 :].split("\n", 1)[0]


def _call(text: str, start: int) -> tuple[str, int]:
    """The call that begins there, and where it ends; with constants as arguments alone, else ""."""
    for end in (m.end() for m in re.finditer(r"\)", text[start : start + 2000])):
        call = text[start : start + end]
        try:
            tree = ast.parse(call, mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(tree, ast.Call) and all(_literal(ast.unparse(part)) for part in tree.args):
            return call, start + end
        break
    return "", start


def _value(text: str) -> str | None:
    """The longest literal that the text begins with; of `19 - 5 = 14` what is behind the last sign."""
    line = text.split("\n", 1)[0].split(" # ")[0].strip()
    for part in (line.rpartition(" = ")[2], line, line.rstrip(".,;")):
        part = _WORDS.get(part.strip(), part.strip())
        if part and _literal(part):
            return part
    ends = (m.end() for m in re.finditer(r"[\])}'\"]", text[:600]))
    return next((text[:end].strip() for end in ends if _literal(text[:end].strip())), None)


def _literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def job(task: FunctionTask, code: str, examples: Sequence[Example]) -> SandboxJob:
    """All examples on one reply's code, in one process."""
    imports = [line for line in task.prompt.splitlines() if re.match(r"(?:from\s+\S+\s+)?import\s", line)]
    pairs = [(example.call, example.value) for example in examples]
    text = _RUN.format(source="\n".join([*imports, code]), examples=pairs, each=EACH, mark=MARK)
    return SandboxJob(test=Test(path="examples.py", text=text), timeout=TIMEOUT)


def outcomes(execution: Execution, examples: Sequence[Example]) -> tuple[Outcome, ...]:
    """Of each example; all fail where the reply kept the program from its end."""
    _, mark, rest = execution.output.rpartition(f"\n{MARK}")
    try:
        found = json.loads(rest.split("\n", 1)[0]) if mark and execution.passed else []
    except ValueError:
        found = []
    if len(found) != len(examples):
        return tuple(Outcome(False, "the program ended early") for _ in examples)
    return tuple(Outcome(bool(passes), str(got)) for passes, got in found)


def told(examples: Sequence[Example], found: Sequence[Outcome]) -> str:
    """The failing examples of one reply, one a line."""
    pairs = [(example, outcome) for example, outcome in zip(examples, found, strict=True) if not outcome.passes]
    lines = [
        f"- `{shortened(example.call, _LONG)}` gives {shortened(outcome.got, _LONG)}, and should give "
        f"{shortened(example.value, _LONG)}"
        for example, outcome in pairs[:SHOWN]
    ]
    return "\n".join(lines)


def distilled(examples: Sequence[Example], failed: Sequence[Sequence[Outcome]], attempts: int) -> str:
    """What failed among so many attempts: the behaviours, the commonest first, each with how many attempts have it."""
    behaviours = Counter(tuple(found) for found in failed)
    parts = [
        f"{count} of {attempts} attempts:\n{told(examples, found)}"
        for found, count in behaviours.most_common(BEHAVIOURS)
    ]
    return "\n".join(parts)
