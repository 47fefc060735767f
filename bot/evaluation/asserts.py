"""Tests that a model writes for a function: the question, the assert statements in a reply, and the program that runs
them all on one candidate. Pure.
"""

import ast
import builtins
import re
from collections.abc import Sequence

from bot.evaluation.functions import code_of
from bot.evaluation.tasks import FunctionTask
from bot.patch.formats import of_json
from bot.records import Execution, Message, ModelCall, SandboxJob, Test
from bot.solver.variants import PLAIN, variants

EACH = 1.0  # seconds for one assert statement
TIMEOUT = 120.0  # seconds for all of one candidate
MARK = "OUTCOMES "
ANSWERS = "ANSWERS "
VARIANTS = 100  # of the tests' calls
LONGEST = 2000  # characters of one test

_ASKED = """\
Write tests for the function that is described here, without writing the function itself: five to ten assert \
statements that call `{name}` with concrete arguments and compare with the value that the description demands. Put \
them into one Python code block, each on one line.
```
{prompt}
```
"""
_RUN = """
import hashlib
import json
import signal

SOURCE, TESTS, CALLS = {source!r}, {tests!r}, {calls!r}

{plain}



class TooLong(BaseException):
    pass


def stop(*_):
    raise TooLong


def answer(call, names):
    if len(slow) > 2:
        return ""
    signal.setitimer(signal.ITIMER_PROF, {each})
    try:
        answered = _plain(eval(compile(call, "call", "eval"), dict(names)))
        return hashlib.sha256(answered.encode()).hexdigest()[:12]
    except TooLong:
        slow.append(call)
        return "takes too long"
    except BaseException as error:
        return "raises " + type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def passes(test, names):
    signal.setitimer(signal.ITIMER_REAL, {each})
    try:
        exec(compile(test, "test", "exec"), dict(names))
        return True
    except BaseException:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


signal.signal(signal.SIGALRM, stop)
names = {{"__name__": "reply"}}
signal.setitimer(signal.ITIMER_REAL, 5 * {each})
try:
    exec(compile(SOURCE, "reply.py", "exec"), names)
except BaseException:
    names = {{}}
signal.setitimer(signal.ITIMER_REAL, 0)
outcomes = "".join("01"[passes(test, names)] for test in TESTS)
slow = []
signal.signal(signal.SIGPROF, stop)
print()
print({answers!r} + json.dumps([answer(call, names) for call in CALLS]))
print()
print({mark!r} + outcomes)
"""
_NAMED = frozenset(dir(builtins))


def call(task: FunctionTask, number: int, *, temperature: float, seed: int, max_tokens: int) -> ModelCall:
    """The call for one reply with tests."""
    text = _ASKED.format(name=task.entry_point, prompt=task.prompt.strip())
    return ModelCall(
        key=f"eval/{task.id}/tests/{number}",
        messages=(Message(role="user", content=text),),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed + number,
    )


def begun(task: FunctionTask) -> str:
    """What a base model goes on with, to write tests, as CodeT (arXiv 2207.10397) asks it."""
    return f"{stub(task)}\n# check the correctness of {task.entry_point}\nassert"


def asserts_of(reply: str, task: FunctionTask) -> list[str]:
    """The tests in a reply, each as one statement in a form of its own, so that equal ones are equal texts.

    `assert` statements, and `assertEqual` and the like as such, that call the function and use no name of elsewhere.
    """
    known = _NAMED | {task.entry_point} | _imported(task.prompt)
    found = []
    for tree in _parsed(code_of(reply)):
        for node in ast.walk(tree):
            test = _as_assert(node)
            if test is None or len(ast.unparse(test)) > LONGEST:
                continue
            names = [part for part in ast.walk(test) if isinstance(part, ast.Name)]
            loaded = {name.id for name in names if isinstance(name.ctx, ast.Load)}
            bound = {name.id for name in names if isinstance(name.ctx, ast.Store)}
            bound |= {part.arg for part in ast.walk(test) if isinstance(part, ast.arg)}
            if task.entry_point in loaded and loaded <= known | bound:
                found.append(ast.unparse(test))
    return found


def _parsed(code: str) -> list[ast.Module]:
    """The code as a whole, else those of its lines that are statements by themselves."""
    try:
        return [ast.parse(code)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    trees = []
    for line in code.splitlines():
        try:
            trees.append(ast.parse(line.strip()))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return trees


def _as_assert(node: ast.AST) -> ast.Assert | None:
    """The node as an assert statement without a message; None where it is no test."""
    if isinstance(node, ast.Assert):
        return ast.Assert(test=node.test, msg=None)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    name, arguments = node.func.attr, node.args
    if name == "assertEqual" and len(arguments) >= 2:
        return ast.Assert(test=ast.Compare(arguments[0], [ast.Eq()], [arguments[1]]), msg=None)
    if name == "assertTrue" and arguments:
        return ast.Assert(test=arguments[0], msg=None)
    if name == "assertFalse" and arguments:
        return ast.Assert(test=ast.UnaryOp(ast.Not(), arguments[0]), msg=None)
    return None


def _imported(prompt: str) -> set[str]:
    """Names that the prompt imports."""
    lines = (re.match(r"(?:from\s+\S+\s+)?import\s+(.+)", line) for line in prompt.splitlines())
    return {part.split()[-1] for line in lines if line for part in line[1].split(",")}


def stub(task: FunctionTask) -> str:
    """The function without a body: a test that passes on it tells nothing."""
    return f"{task.prompt.rstrip()}\n    pass\n"


def calls(task: FunctionTask, tests: Sequence[str]) -> list[str]:
    """The calls of the function that the tests make, and others like them."""
    nodes = [node for test in tests for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Call)]
    made = list(dict.fromkeys(ast.unparse(node) for node in nodes if ast.unparse(node.func) == task.entry_point))
    return [*made, *variants(made, VARIANTS)]


def job(task: FunctionTask, code: str, tests: Sequence[str], asked: Sequence[str] = ()) -> SandboxJob:
    """All tests, and the calls of `calls`, on one candidate, in one process."""
    imports = [line for line in task.prompt.splitlines() if re.match(r"(?:from\s+\S+\s+)?import\s", line)]
    text = _RUN.format(
        source="\n".join([*imports, code]),
        tests=list(tests),
        calls=list(asked),
        plain=PLAIN,
        each=EACH,
        answers=ANSWERS,
        mark=MARK,
    )
    return SandboxJob(test=Test(path="votes.py", text=text), timeout=TIMEOUT)


def answers(execution: Execution) -> tuple[str, ...]:
    """To the calls; none where the candidate kept the program from its end."""
    _, mark, rest = execution.output.rpartition(f"\n{ANSWERS}")
    try:
        found = of_json(rest.split("\n", 1)[0]) if execution.passed and mark else []
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def outcomes(execution: Execution, tests: int) -> str:
    """`0` or `1` for each test; all `0` where the candidate kept the program from its end."""
    _, mark, rest = execution.output.rpartition(f"\n{MARK}")
    found = rest.split("\n", 1)[0].strip()
    whole = execution.passed and mark and len(found) == tests and set(found) <= {"0", "1"}
    return found if whole else "0" * tests
