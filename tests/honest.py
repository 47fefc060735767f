"""Which tests of real packages lose their proof though nothing is wrong with them.

    python -m tests.honest PACKAGE ... [--folder FOLDER] [--with REQUIREMENT] [--new] [--only WORD] [--suite]

For each package its source distribution is unpacked under `--folder`, with a virtual environment beside it, and its own
tests become scripts as a model would write them: one that calls test functions, and one that gives itself to pytest,
for those that need it. Each runs without a change, and with all of the package's modules as the change of a candidate,
the same text. What passes the first time and not the second time is lost: no fix could win by that test. `--new`: as
if no module had looked at frames before. `--suite`: the package's whole suite instead, compared as the repository's
own tests are.

Needs the network for pip alone. Printed of each package: how many tests ran and were lost, the reasons, and the seconds
that the scripts took without the guard and with it.
"""

import argparse
import ast
import asyncio
import collections
import re
import subprocess
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.evaluation.planting.packages import download
from bot.records import Execution, FileChange, OwnTestsReport, SandboxJob, Test
from bot.sandbox import tree
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from bot.solver.comparison import regressions, told

_TESTS = ("test", "tests", "testing")  # folders
_ASIDE = (*_TESTS, "doc", "docs", "examples", "benchmarks", "bench", "tools", "scripts", "conftest.py", "setup.py")
_TIMEOUT = 300.0  # seconds that a file of tests has
_PLAIN, _PYTEST = "plain", "pytest"
_TRIED = """{text}

for test in ({names},):
    try:
        test()
        print("\\npassed", test.__name__)
    except Exception:
        pass
"""


@dataclass
class Tally:
    """Of one package."""

    ran: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)  # the test and why
    seconds: tuple[float, float] = (0.0, 0.0)  # of what passed, without the guard and with it


def unpacked(package: str, folder: Path) -> Path:
    """The package's source distribution, downloaded where it is not there yet. Raises `EvaluationError`."""
    name = re.sub(r"[-_.]+", "[-_.]", package.partition("==")[0])
    found = _trees(folder, name)
    if not found:
        with tempfile.TemporaryDirectory() as place, tarfile.open(download(package, Path(place))) as archive:
            archive.extractall(folder, filter="data")
        found = _trees(folder, name)
    return found[-1]


def _trees(folder: Path, name: str) -> list[Path]:
    named = re.compile(rf"{name}-\d.*", re.IGNORECASE)
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and named.fullmatch(entry.name))


def prepared(root: Path, package: str, requirements: Sequence[str]) -> None:
    """Give the tree an environment with the package, which brings what it needs, and pytest."""
    if not (root / ".venv").exists():
        venv.create(root / ".venv", with_pip=True)
        pip = [str(root / ".venv/bin/python"), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "pytest", package, *requirements], check=True)


def modules(root: Path) -> tuple[FileChange, ...]:
    """The package's own modules, as a candidate that changes each would have them."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if any(part in _ASIDE or part.startswith((".", "test_")) for part in parts) or path.is_symlink():
            continue
        try:
            found.append(FileChange(path="/".join(parts), text=path.read_bytes().decode() + "\n"))
        except UnicodeDecodeError:
            continue
    return tree.trusted(root, found)


def files_of_tests(root: Path, word: str) -> list[Path]:
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and re.fullmatch(r"test_.*|.*_test|tests?", path.stem)
        and path.parent.name != "site-packages"
        and word in str(path)
    ]


def _functions(text: str) -> list[str]:
    """Tests that need no fixture and no decorator."""
    return [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and not node.decorator_list
        and not (node.args.args or node.args.posonlyargs or node.args.kwonlyargs)
    ]


def script(text: str, form: str, names: Sequence[str] = (), *, fixtures: str = "") -> str:
    """The text as a script that runs the tests of these names. pytest runs all where there are none, and names them.

    `fixtures`: further arguments of pytest's, in Python.
    """
    if form == _PLAIN:
        return f"{text}\n\nfor test in ({''.join(f'{name}, ' for name in names)}):\n    test()\n"
    some = "".join(f", __file__ + '::{name}'" for name in names).removeprefix(", ") or "__file__, '-rp'"
    return (
        f"{text}\n\nif __name__ == '__main__':\n    import sys\n    import pytest\n"
        f"    sys.exit(pytest.main([{some}, '-q', '--tb=no', '-p', 'no:cacheprovider'{fixtures}]))\n"
    )


class Trial:
    """One package's tests, without a change and with one."""

    def __init__(self, bare: ProcessSandbox, guarded: ProcessSandbox, changes: tuple[FileChange, ...]) -> None:
        self._bare, self._guarded, self._changes = bare, guarded, changes
        self.tally = Tally()

    async def _run(self, name: str, text: str, guarded: bool) -> Execution:
        sandbox, changes = (self._guarded, self._changes) if guarded else (self._bare, ())
        return await sandbox.run(SandboxJob(changes=changes, test=Test(path=name, text=text), timeout=_TIMEOUT))

    def _script(self, path: Path, text: str, form: str, names: Sequence[str] = ()) -> str:
        fixtures = ", '-p', 'conftest'" if (path.parent / "conftest.py").exists() else ""
        return script(text, form, names, fixtures=fixtures)

    async def _passing(self, path: Path, text: str) -> list[tuple[str, list[str], float]]:
        """By the form of their script: names of the file's tests that pass without a change, and the seconds taken."""
        plain = _functions(text)
        tried = _TRIED.replace("{text}", text).replace("{names}", ", ".join(plain))
        first = await self._run(path.name, tried if plain else "", False)
        plain = [name for name in plain if f"\npassed {name}\n" in f"\n{first.output}\n"]
        second = await self._run(path.name, self._script(path, text, _PYTEST), False)
        found = re.findall(r"^(PASSED|FAILED) [^\s:]+::(\w+(?:::\w+)*)", second.output, re.M)
        failed = {name for word, name in found if word == "FAILED"}
        others = sorted({name for _, name in found} - failed - set(plain))
        return [(_PLAIN, plain, first.seconds), (_PYTEST, others, second.seconds)]

    async def file(self, path: Path) -> None:
        """Add what the file's tests come to."""
        text = re.sub(r"^from \.(?=\w)", "from ", path.read_text(errors="replace"), flags=re.MULTILINE)
        try:
            passing = await self._passing(path, text)
        except SyntaxError:
            return
        for form, names, seconds in passing:
            if names:
                await self._compare(path, text, form, names, seconds)

    async def _compare(self, path: Path, text: str, form: str, names: list[str], seconds: float) -> None:
        within = await self._run(path.name, self._script(path, text, form, names), True)
        if not within.passed and not (await self._run(path.name, self._script(path, text, form, names), False)).passed:
            return  # they fail together
        self.tally.ran += len(names)
        if within.passed:
            before, after = self.tally.seconds
            self.tally.seconds = (before + seconds, after + within.seconds)
            return
        lost = await self._lost(path, text, form, names) or [(name, f"with others: {_why(within)}") for name in names]
        self.tally.lost += [(f"{path.name} ({form}) {name}", why) for name, why in lost]

    async def _lost(self, path: Path, text: str, form: str, names: list[str]) -> list[tuple[str, str]]:
        """Of tests that are lost together, those that are lost by themselves, and why."""
        if len(names) > 1:
            found = []
            for half in (names[: len(names) // 2], names[len(names) // 2 :]):
                if not (await self._run(path.name, self._script(path, text, form, half), True)).passed:
                    found += await self._lost(path, text, form, half)
            return found
        within = await self._run(path.name, self._script(path, text, form, names), True)
        alone = await self._run(path.name, self._script(path, text, form, names), False)
        return [(names[0], _why(within))] if alone.passed and not within.passed else []


def _why(execution: Execution) -> str:
    return execution.unproven or f"{execution.status}: {execution.tail(1, 200)}"


async def suite(root: Path, changes: tuple[FileChange, ...], arguments: Sequence[str]) -> None:
    """The whole suite, compared as a repository's own tests."""
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), root)
    command = ("python3", "-m", "pytest", "-q", *arguments)
    try:
        base = told(await sandbox.run(SandboxJob(command=command, timeout=_TIMEOUT)))
        after = told(await sandbox.run(SandboxJob(changes=changes, command=command, timeout=_TIMEOUT)))
    finally:
        await sandbox.close()
    report = OwnTestsReport(command=command, base=base, candidates=((0, after),))
    found = regressions(report, 0)
    print(f"{root.name}: {len(base.passed)} tests of the suite pass, {len(found)} reasons to reject")
    for reason in found[:20]:
        print(f"    {reason}")


async def scripts(root: Path, changes: tuple[FileChange, ...], word: str, new: bool) -> Tally:
    """The tests as scripts."""
    files = files_of_tests(root, word)
    places = sorted({str(path.parent.relative_to(root)) for path in files_of_tests(root, "")})
    command = {".py": ("env", f"PYTHONPATH={':'.join(places)}", "python3", "{script}")}
    settings = SandboxSettings(kind="process", concurrency=2)
    bare = await ProcessSandbox.open(settings, root, scripts=command)
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / root.name
        if new:
            tree.copy_tree(root, stripped)
            for change in changes:
                (stripped / change.path).unlink()
        source = stripped if new else root
        guarded = await ProcessSandbox.open(settings, source, scripts=command, venv_of=root)
    trial = Trial(bare, guarded, changes)
    try:
        waiting = iter(files)

        async def work() -> None:
            for path in waiting:
                await trial.file(path)

        await asyncio.gather(*(work() for _ in range(2)))
    finally:
        await bare.close()
        await guarded.close()
    return trial.tally


def shown(name: str, tally: Tally) -> str:
    without, within = tally.seconds
    lines = [f"{name}: {tally.ran} tests, {len(tally.lost)} lost, {without:.0f} s without and {within:.0f} s with"]
    kinds = collections.Counter(why for _, why in tally.lost)
    for why, count in kinds.most_common():
        example = next(test for test, reason in tally.lost if reason == why)
        lines.append(f"    {count} x {why}, e.g. {example}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.honest", description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+", metavar="PACKAGE")
    parser.add_argument("--folder", type=Path, default=Path("var/honest"))
    parser.add_argument("--with", dest="requirements", action="append", default=[], metavar="REQUIREMENT")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--suite", nargs="*", metavar="ARGUMENT")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for package in options.packages:
        root = unpacked(package, options.folder).resolve()
        prepared(root, package, options.requirements)
        changes = modules(root)
        if options.suite is not None:
            asyncio.run(suite(root, changes, options.suite))
        else:
            print(shown(root.name, asyncio.run(scripts(root, changes, options.only, options.new))), flush=True)


if __name__ == "__main__":
    main()
