"""Which bugs are planted: a deterministic list, drawn by seed from what changes an example of a function."""

import ast
import asyncio
import builtins
import doctest
import random
from dataclasses import dataclass
from pathlib import PurePosixPath

from bot.contracts import Sandbox
from bot.evaluation.planting import hidden
from bot.evaluation.planting.mutations import Mutation, functions_with_doctests, mutations
from bot.evaluation.planting.packages import Package
from bot.evaluation.planting.wording import Example, issue_text
from bot.llm.test_script import needed_by
from bot.records import FileChange, SandboxJob, Test
from bot.solver.doctests import docstrings

TRIES = 8  # mutations tried of one function
# Seconds of a processor, so that the list is the same on a busy machine.
OBSERVATION_SECONDS = 10  # of one observation; what computes longer has been made to hang
CHECK_SECONDS = 6  # a function whose check takes longer is left out
TESTS_SECONDS = 3  # the package's own tests are left out of a check that takes longer with them
PATIENCE = 120.0  # seconds by the clock, for what waits without computing
LONGEST = 120  # characters of a result that an issue would quote


@dataclass(frozen=True)
class Bug:
    """One planted bug. `check` is never shown to any model."""

    id: str  # package:path:function:line
    package: str
    path: str
    function: str
    mutation: Mutation
    title: str
    body: str
    check: Test
    with_tests: bool  # whether the package's own tests are part of the check

    def files(self, package: Package) -> dict[str, str]:
        """The checkout with the bug in it."""
        return package.files | {self.path: self.mutation.apply(package.files[self.path])}

    def fix(self, package: Package) -> tuple[FileChange, ...]:
        """What mends it, for checking the check."""
        return (FileChange(path=self.path, text=package.files[self.path]),)


def module_name(path: str) -> str:
    """`a/b.py` -> `a.b`, `a/__init__.py` -> `a`."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


async def plant(
    package: Package, sandbox: Sandbox, number: int, per_module: int, seed: int, wide: int = 4
) -> list[Bug]:
    """Up to `number` bugs of a package, at most `per_module` in one file. `sandbox`: over the original's files.

    The same list for the same seed: functions are tried `wide` at once, but taken in their drawn order.
    """
    rng = random.Random(f"{seed}/{package.name}")
    places = [
        (path, function.name)
        for path, text in sorted(package.files.items())
        if path.endswith(".py")
        for function in functions_with_doctests(text)
    ]
    rng.shuffle(places)
    bugs: list[Bug] = []
    per: dict[str, int] = {}
    while places and len(bugs) < number:
        batch: list[tuple[str, str]] = []
        while places and len(batch) < wide:
            path, name = places.pop(0)
            if per.get(path, 0) < per_module:
                batch.append((path, name))
        found = await asyncio.gather(*(_plant_one(package, sandbox, path, name, seed) for path, name in batch))
        for bug in found:
            if bug is not None and len(bugs) < number and per.get(bug.path, 0) < per_module:
                bugs.append(bug)
                per[bug.path] = per.get(bug.path, 0) + 1
    return bugs


async def _plant_one(package: Package, sandbox: Sandbox, path: str, name: str, seed: int) -> Bug | None:
    text = package.files[path]
    function = next(f for f in functions_with_doctests(text) if f.name == name)
    module, docs = module_name(path), docstrings(text)
    first = await _observe(sandbox, (), module, docs, "1")
    second = await _observe(sandbox, (), module, docs, "2")
    if first is None or second is None:
        return None
    passing = {  # what comes out the same each time
        doc: [i for i, (a, b) in enumerate(zip(first[doc], second[doc], strict=True)) if a[0] and a == b]
        for doc in docs
    }
    if not passing.get(name):
        return None
    rng = random.Random(f"{seed}/{package.name}/{path}/{name}")
    found = mutations(text, function)
    for mutation in rng.sample(found, min(TRIES, len(found))):
        planted = (FileChange(path=path, text=mutation.apply(text)),)
        seen = await _observe(sandbox, planted, module, {name: docs[name]}, "")
        example = _telling(docs[name], name, passing[name], seen[name], rng) if seen else None
        if example is None:
            continue
        made = await _check(package, sandbox, planted, module, docs, passing, name)
        if made is None:
            return None
        title, body = issue_text(name, path, example, rng)
        bug_id = f"{package.name}:{path}:{name}:{mutation.line}"
        return Bug(bug_id, package.name, path, name, mutation, title, body, made[0], made[1])
    return None


async def _observe(
    sandbox: Sandbox, changes: tuple[FileChange, ...], module: str, docs: dict[str, str], which: str
) -> dict[str, list[tuple[bool, str]]] | None:
    """`which` makes a second observation another job."""
    script = hidden.observer(module, docs)
    script = hidden.limited(script.model_copy(update={"text": f"# {which}\n{script.text}"}), OBSERVATION_SECONDS)
    return hidden.observed(await sandbox.run(SandboxJob(changes=changes, test=script, timeout=PATIENCE)))


async def _check(
    package: Package,
    sandbox: Sandbox,
    planted: tuple[FileChange, ...],
    module: str,
    docs: dict[str, str],
    passing: dict[str, list[int]],
    name: str,
) -> tuple[Test, bool] | None:
    """A check that passes on the original and fails on the planted bug; with the package's tests where they serve."""
    for tests, limit in ((package.tests, TESTS_SECONDS), ({}, CHECK_SECONDS)):
        check = hidden.check(module, docs, passing, tests, hidden.selector(name))
        good = await sandbox.run(SandboxJob(test=hidden.limited(check, limit), timeout=PATIENCE))
        if good.passed:
            endless = hidden.limited(check, 4 * limit)
            bad = await sandbox.run(SandboxJob(changes=planted, test=endless, timeout=PATIENCE))
            return None if bad.passed else (check, bool(tests))
    return None


def _telling(
    doc: str, name: str, passing: list[int], seen: list[tuple[bool, str]], rng: random.Random
) -> Example | None:
    """An example that passed on the original and comes out differently now, fit to be told in an issue."""
    examples = doctest.DocTestParser().get_examples(doc)
    if len(seen) != len(examples):
        return None
    fit = []
    for i in passing:
        ok, got = seen[i]
        call, expected, actual = _call(examples[i].source, name), examples[i].want.strip(), got.strip()
        if ok or examples[i].exc_msg or examples[i].options or not call:
            continue
        if not expected or "\n" in expected + call or max(len(expected), len(call)) > LONGEST:
            continue
        raised = _raised(actual)
        if "\n" in actual or len(actual) > LONGEST or " at 0x" in actual or actual == expected:
            continue
        setup = tuple(needed_by(call, [e.source.strip() for e in examples[:i]]))
        if len("\n".join(setup).split("\n")) <= 4:
            fit.append(Example(call, actual or "None", expected, setup, raised))
    if not fit:
        return None
    shortest = min(len(e.setup) for e in fit)
    return rng.choice([e for e in fit if len(e.setup) == shortest])


def _raised(got: str) -> bool:
    kind = getattr(builtins, got.partition(":")[0], None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _call(source: str, name: str) -> str:
    """The expression of an example, without its comment, where it uses the function; nothing for a comparison."""
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except SyntaxError:
        return ""
    uses = any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))
    return (
        (ast.get_source_segment(source.strip(), tree.body) or "")
        if uses and not isinstance(tree.body, ast.Compare)
        else ""
    )
