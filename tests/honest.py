"""Which tests of real packages lose their proof though nothing is wrong with them.

    python -m tests.honest PACKAGE|npm:NAME|./FOLDER ... [--folder FOLDER] [--with REQUIREMENT] [--new]
                                       [--only WORD] [--suite] [--seconds MOST]

For each package its source distribution is unpacked under `--folder`, with a virtual environment beside it; one that
has no tests in it is tried as the folder of a checkout. Its own tests become scripts as a model would write them: one
that calls test functions, and one that gives itself to pytest, for those that need it. Each runs without a change, and
with all of the package's modules as the change of a candidate, the same text. What passes the first time and not the
second time is lost: no fix could win by that test. `--new`: as if no module had looked at frames before. `--suite`:
the package's whole suite instead, compared as the repository's own tests are.

Of npm's packages (`npm:lodash`; `npm:` alone: all in `honest_npm.js`), which seldom ship their tests, a script calls
some functions.

Needs the network for pip and npm alone. Printed of each file as soon as it is done, then of each package: how many
tests ran and were lost, the reasons, and the seconds that the scripts took without the guard and with it. Files that
have not begun after `--seconds` are left out, and counted.
"""

import argparse
import ast
import asyncio
import collections
import re
import subprocess
import tarfile
import tempfile
import time
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
from tests import honest_npm

_TESTS = ("test", "tests", "testing", "_test", "_tests")  # folders
_ASIDE = (*_TESTS, "doc", "docs", "examples", "benchmarks", "bench", "tools", "scripts", "conftest.py", "setup.py")
_TIMEOUT = 120.0  # seconds that a file of tests has
_MOST_LOST = 6  # of a file's tests that are looked for one by one
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
    untried: int = 0  # files
    said: str = ""  # of a file of which no test passes without a change, by whatever runs it

    def add(self, other: "Tally") -> None:
        self.ran += other.ran
        self.lost += other.lost
        self.seconds = (self.seconds[0] + other.seconds[0], self.seconds[1] + other.seconds[1])


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
        and not (path.stem == "test" and (path.parent / "__init__.py").exists())  # a module that helps to test
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


def _absolute(path: Path, root: Path, text: str) -> str:
    """The text of a file of tests with its relative imports made absolute, since a script is in no package."""
    above = list(path.relative_to(root).parent.parts)
    inside = [at for at in range(len(above)) if (root.joinpath(*above[: at + 1]) / "__init__.py").exists()]

    def named(found: re.Match[str]) -> str:
        dots, name = len(found[2]), found[3]
        package = above[inside[0] : len(above) - dots + 1] if inside else []
        whole = ".".join(filter(None, [*package, name]))
        return f"{found[1]}from {whole} import" if whole else f"{found[1]}import"

    return re.sub(r"^([^\S\n]*)from (\.+)(\w[\w.]*|) import", named, text, flags=re.MULTILINE)


def _without_main(text: str) -> str:
    """The text without what runs it as a program: that would end before pytest begins."""
    lines = text.splitlines(keepends=True)
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)


def _place(folder: Path) -> Path:
    """From where pytest imports what is in the folder: the nearest one that is no package."""
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


class Trial:
    """One package's tests, without a change and with one."""

    def __init__(
        self, root: Path, bare: ProcessSandbox, guarded: ProcessSandbox, changes: tuple[FileChange, ...]
    ) -> None:
        self._root, self._bare, self._guarded, self._changes = root, bare, guarded, changes

    async def _run(self, name: str, text: str, guarded: bool) -> Execution:
        sandbox, changes = (self._guarded, self._changes) if guarded else (self._bare, ())
        return await sandbox.run(SandboxJob(changes=changes, test=Test(path=name, text=text), timeout=_TIMEOUT))

    def _script(self, path: Path, text: str, form: str, names: Sequence[str] = ()) -> str:
        above = [path.parent, *path.parent.parents]
        near = [one for one in above[: above.index(self._root)] if (one / "conftest.py").exists()][:1]
        fixtures = [".".join((*one.relative_to(_place(one)).parts, "conftest")) for one in near]
        return script(text, form, names, fixtures=f", '-p', {fixtures[0]!r}" if fixtures else "")

    async def _passing(self, path: Path, text: str, tally: Tally) -> list[tuple[str, list[str], float]]:
        """By the form of their script: names of the file's tests that pass without a change, and the seconds taken."""
        plain = _functions(text)
        tried = _TRIED.replace("{text}", text).replace("{names}", ", ".join(plain))
        first = await self._run(path.name, tried if plain else "", False)
        plain = [name for name in plain if f"\npassed {name}\n" in f"\n{first.output}\n"]
        second = await self._run(path.name, self._script(path, text, _PYTEST), False)
        found = re.findall(r"^(PASSED|FAILED) [^\s:]+::(\w+(?:::\w+)*)", second.output, re.M)
        failed = {name for word, name in found if word == "FAILED"}
        others = sorted({name for _, name in found} - failed - set(plain))
        tally.said = "" if plain or others else f": {second.status}, {second.tail(3, 300)}"
        return [(_PLAIN, plain, first.seconds), (_PYTEST, others, second.seconds)]

    async def file(self, path: Path) -> Tally:
        """What the file's tests come to."""
        tally = Tally()
        try:
            text = _without_main(_absolute(path, self._root, path.read_text(errors="replace")))
            passing = await self._passing(path, text, tally)
        except SyntaxError:
            return tally
        for form, names, seconds in passing:
            if names:
                await self._compare(tally, path, text, form, names, seconds)
        return tally

    async def _compare(self, tally: Tally, path: Path, text: str, form: str, names: list[str], seconds: float) -> None:
        within = await self._run(path.name, self._script(path, text, form, names), True)
        if not within.passed and not (await self._run(path.name, self._script(path, text, form, names), False)).passed:
            return  # they fail together
        tally.ran += len(names)
        if within.passed:
            tally.seconds = (seconds, within.seconds)
            return
        lost = await self._lost(path, text, form, names) or [(name, f"with others: {_why(within)}") for name in names]
        tally.lost += [(f"{path.name} ({form}) {name}", why) for name, why in lost]

    async def _lost(
        self, path: Path, text: str, form: str, names: list[str], most: int = _MOST_LOST
    ) -> list[tuple[str, str]]:
        """Of tests that are lost together, those that are lost by themselves, and why; once `most` are found, the rest
        of a half is taken to be."""
        within = await self._run(path.name, self._script(path, text, form, names), True)
        if within.passed:
            return []
        if len(names) == 1:
            alone = await self._run(path.name, self._script(path, text, form, names), False)
            return [(names[0], _why(within))] if alone.passed else []
        if most <= 0:
            return [(name, _why(within)) for name in names]
        found: list[tuple[str, str]] = []
        for half in (names[: len(names) // 2], names[len(names) // 2 :]):
            found += await self._lost(path, text, form, half, most - len(found))
        return found


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


async def scripts(root: Path, changes: tuple[FileChange, ...], word: str, new: bool, most: float) -> Tally:
    """The tests as scripts; files that have not begun after `most` seconds are left out."""
    files = files_of_tests(root, word)
    places = sorted({str(_place(path.parent).relative_to(root)) for path in files_of_tests(root, "")})
    command = {".py": ("env", f"PYTHONPATH={':'.join(['.', *places])}", "python3", "{script}")}
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
    trial, tally, end = Trial(root, bare, guarded, changes), Tally(), time.monotonic() + most
    try:
        waiting = iter(files)

        async def work() -> None:
            for path in waiting:
                if time.monotonic() > end:
                    tally.untried += 1
                    continue
                began = time.monotonic()
                found = await trial.file(path)
                tally.add(found)
                took = f"{time.monotonic() - began:.0f} s"
                print(
                    f"    {path.relative_to(root)}: {found.ran} tests, {len(found.lost)} lost, {took}{found.said}",
                    flush=True,
                )

        await asyncio.gather(*(work() for _ in range(2)))
    finally:
        await bare.close()
        await guarded.close()
    return tally


async def of_npm(names: Sequence[str], folder: Path, most: float) -> Tally:
    """What scripts that call packages of npm's come to; those that have not begun after `most` seconds are left out."""
    root = honest_npm.unpacked(names, folder).resolve()
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), root)
    whole, end = Tally(), time.monotonic() + most
    try:
        for name in names:
            if time.monotonic() > end:
                whole.untried += 1
                continue
            test = Test(path="it.js", text=honest_npm.script(name))
            changes = honest_npm.files(root, name)
            bare = await sandbox.run(SandboxJob(test=test, timeout=_TIMEOUT))
            within = await sandbox.run(SandboxJob(changes=changes, test=test, timeout=_TIMEOUT))
            tally = Tally(ran=1, seconds=(bare.seconds, within.seconds)) if bare.passed else Tally()
            tally.lost = [(name, _why(within))] if bare.passed and not within.passed else []
            said = "" if bare.passed else f": {bare.status}, {bare.tail(9, 600)}"
            print(f"    {name}: {len(changes)} files, {tally.ran} ran, {len(tally.lost)} lost{said}", flush=True)
            whole.add(tally)
    finally:
        await sandbox.close()
    return whole


def shown(name: str, tally: Tally) -> str:
    without, within = tally.seconds
    lines = [f"{name}: {tally.ran} tests, {len(tally.lost)} lost, {without:.0f} s without and {within:.0f} s with"]
    lines += [f"    {tally.untried} files were not tried"] if tally.untried else []
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
    parser.add_argument("--seconds", type=float, default=900.0, metavar="MOST")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    named = [
        package.removeprefix(honest_npm.PREFIX) for package in options.packages if package.startswith(honest_npm.PREFIX)
    ]
    if named:
        named = list(honest_npm.CALLS) if named == [""] else named
        print(shown("npm", asyncio.run(of_npm(named, options.folder, options.seconds))), flush=True)
    for package in options.packages:
        if package.startswith(honest_npm.PREFIX):
            continue
        root = (Path(package) if "/" in package else unpacked(package, options.folder)).resolve()
        prepared(root, package, options.requirements)
        changes = modules(root)
        if options.suite is not None:
            asyncio.run(suite(root, changes, options.suite))
        else:
            tally = asyncio.run(scripts(root, changes, options.only, options.new, options.seconds))
            print(shown(root.name, tally), flush=True)


if __name__ == "__main__":
    main()
