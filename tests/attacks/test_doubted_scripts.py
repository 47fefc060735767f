"""Attack 25 on test scripts in languages without a runner of ours: what a script loads ends it with success."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.records import Ending, Execution, FileChange, SandboxJob, Test
from bot.sandbox.doubted import believed, doubted
from bot.sandbox.failing_test import with_failing
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from tests.attacks.configured import configured
from tests.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")
FILES = {
    "lib.sh": "add() { echo 0; }\n",
    "Lib.pm": "package Lib;\nsub add { return 0; }\n1;\n",
}
RIGHT = {
    "lib.sh": "add() { echo $(($1 + $2)); }\n",
    "Lib.pm": "package Lib;\nsub add { return $_[0] + $_[1]; }\n1;\n",
}
WRONG = {
    "lib.sh": ["exit 0\n", "add() { kill $$; }\n", "add() { echo 5; }\ntrap 'exit 0' EXIT\n", "exec true\n"],
    "Lib.pm": ["exit 0;\n", "package Lib;\nEND { $? = 0 }\nsub add { return 5; }\n1;\n", "exec 'true';\n"],
}
SCRIPTS = {
    "lib.sh": Test(path="test_it.sh", text=". ./lib.sh\nset -e\ntest $(add 2 2) = 4\n"),
    "Lib.pm": Test(path="test_it.pl", text="use lib '.';\nrequire Lib;\nLib::add(2, 2) == 4 or die 'wrong';\n"),
}
PROGRAMS = {"lib.sh": "sh", "Lib.pm": "perl"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    tree = tmp_path_factory.mktemp("tree")
    for name, text in FILES.items():
        (tree / name).write_text(text)
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=2), tree)
    yield opened
    await opened.close()


@pytest.mark.parametrize(("path", "text"), [(path, text) for path, texts in WRONG.items() for text in texts])
async def test_attack_25_a_script_that_is_ended_by_what_it_loads_is_no_vote(
    sandbox: ProcessSandbox, path: str, text: str
) -> None:
    if shutil.which(PROGRAMS[path]) is None:
        pytest.skip(f"no {PROGRAMS[path]}")
    job = SandboxJob(changes=(FileChange(path=path, text=text),), test=SCRIPTS[path], timeout=PATIENCE)
    assert not (await sandbox.run(job)).passed


@pytest.mark.parametrize("path", RIGHT)
async def test_a_right_candidate_passes(sandbox: ProcessSandbox, path: str) -> None:
    if shutil.which(PROGRAMS[path]) is None:
        pytest.skip(f"no {PROGRAMS[path]}")
    job = SandboxJob(changes=(FileChange(path=path, text=RIGHT[path]),), test=SCRIPTS[path], timeout=PATIENCE)
    assert (await sandbox.run(job)).passed
    base = await sandbox.run(job.model_copy(update={"changes": ()}))
    assert (base.ending, base.passed) == (Ending.EXITED, False)


@pytest.mark.parametrize(
    ("path", "text", "end"),
    [
        ("t.sh", "true\n", "\\exit {}\n"),
        ("t.sh", "true; exit 0\n", "\\exit {}\n"),
        ("t", "#!/bin/bash\ntrue\n", "\\exit {}\n"),
        ("t.r", "stopifnot(TRUE)", "stopifnot(TRUE)\nquit(status = {})\n"),
        ("t.jl", "@assert true\nif false; exit(1); end\n", "\nexit({})\n"),
        (
            "t.go",
            'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println()\n}\n',
            'import troopOS "os"\nimport troopRuntime "runtime"\n'
            '\n\nimport "fmt"\n\nfunc troopMain() {{\n\tfmt.Println()\n}}\n'
            "\nfunc troopExit(code int) {{\n\tif code == 0 {{\n\t\tcode = {}\n",
        ),
        (
            "t.go",
            'package main\nimport "os"\nfunc main() { os.Exit(0) }\n',
            "func troopMain() {{ troopExit(0) }}\n\nfunc troopExit(code int) {{\n\tif code == 0 {{\n\t\tcode = {}\n",
        ),
        ("t.ts", "import 'x';\nprocess.exit(0);\n", "leave({});"),
        ("t.ts", "import 'x';\n", '_same from "troop:beside/unseen.cjs"; let '),
        ("t.ts", "import 'x';\nconsole.log(__filename);\n", "_same = () => true; let "),
        ("t.sh", ". ./shunit2\n", None),  # it would not reach the end either
        ("t.sh", "exec true\n", None),
        ("t.php", "<p><?= 1 ?></p>", None),
        ("t.py", "pass", None),  # whose runner proves its end
        ("t.unknown", "x", None),
    ],
)
async def test_the_end_of_each_language(path: str, text: str, end: str | None) -> None:
    job = SandboxJob(test=Test(path=path, text=text), changes=(FileChange(path="a", text=""),))
    found = doubted(job, {})
    if end is None:
        assert not found
    else:
        [(again, code)] = found
        assert again.test is not None
        assert end.format(code) in again.test.text
    assert not doubted(job.model_copy(update={"changes": ()}), {}), "the base commit has no reason to end it"
    other = {Path(path).suffix: ("other", "{script}")}
    assert not Path(path).suffix or not doubted(job, other), "another program may take it for no script"


UNSEEN = Path(__file__).parents[2] / "bot/sandbox/inside/unseen.cjs"


@pytest.mark.parametrize(
    ("candidate", "same"),
    [
        ("exports.add = (a, b) => a + b;", True),
        (
            "const a = require('assert'), { equal } = a; a.equal = (x, y) => typeof x === 'number' || equal(x, y);",
            False,
        ),
        ("const { is } = Object; Object.is = (x, y) => typeof x === 'number' || is(x, y);", False),
        ("if (require('fs').existsSync(process.argv[1])) Object.is = null;", True),
    ],
)
async def test_a_script_in_typescript_is_gone_and_judged_by_what_was_there(
    candidate: str, same: bool, tmp_path: Path
) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    script = f"const same = require({str(UNSEEN)!r}); {candidate} process.exit(same() ? 77 : 78);"
    (tmp_path / "script.cjs").write_text(script)
    node = await asyncio.create_subprocess_exec("node", tmp_path / "script.cjs")
    assert await node.wait() == (77 if same else 78)


NODE_TEST = """
const test = require("node:test");
const assert = require("node:assert");
const { add } = require(process.cwd() + "/core.js");
test("sums", () => { assert.strictEqual(add(2, 2), 4); });
"""
CORES = {
    "right": "exports.add = (a, b) => a + b;\n",
    "ends it": "process.exit(0);\n",
    "ends it when it is called": "exports.add = () => process.exit(0);\n",
    "says 0": "exports.add = () => 5;\nprocess.on('exit', () => { process.exitCode = 0; });\n",
    "asserts nothing": "exports.add = () => 5;\nrequire('assert').strictEqual = () => {};\n",
}


@pytest.mark.parametrize("core", CORES)
async def test_attack_25_a_runner_of_tests_that_passes_whatever_fails_is_no_vote(core: str, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    (tmp_path / "core.js").write_text("exports.add = () => 0;\n")
    scripts = {".test.js": ("node", "--test", "{script}")}
    changes = (FileChange(path="core.js", text=CORES[core]),)
    job = SandboxJob(changes=changes, test=Test(path="it.test.js", text=NODE_TEST), timeout=PATIENCE)
    async with configured(tmp_path, scripts) as sandbox:
        assert (await sandbox.run(job)).passed is (core == "right")


@pytest.mark.parametrize(
    ("text", "control"),
    [
        ("it('x', () => { expect(1).toBe(1); });\n", "() => expect("),
        ("describe('x', () => {\n  it('y', () => expect(f(1)).to.deep.equal(1));\n});\n", ").to.deep.equal("),
        ("import { test } from 'vitest';\ntest('x', () => { assert.equal(1, 1); });\n", "() => assert.equal("),
        ("test.only('x', () => {});\n", None),
        ("console.log(1);\n", None),
    ],
)
async def test_a_test_that_fails_is_added_where_the_file_is_not_understood(text: str, control: str | None) -> None:
    found = with_failing("a.test.ts", text)
    if control is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(text.rstrip())
        assert control in found[len(text) :]


@pytest.mark.parametrize("command", [("sh", "{script}"), ("bash", "-eu", "{script}"), ("env", "A=1", "sh", "{script}")])
async def test_a_shell_that_a_config_names_is_doubted_as_well(command: tuple[str, ...]) -> None:
    job = SandboxJob(test=Test(path="t.sh", text="true\n"), changes=(FileChange(path="a", text=""),))
    assert doubted(job, {".sh": command})
    assert not doubted(job, {".sh": ("sh", "-c", ". {script}")})


@pytest.mark.parametrize(
    ("code", "output", "cut"),
    [(77, "", False), (1, "exit status 77\n", False), (1, "exit status 78\n", True), (0, "exit status 77", True)],
)
async def test_the_code_at_the_end_counts(code: int, output: str, cut: bool) -> None:
    passed = Execution(ending=Ending.EXITED, exit_code=0)
    again = Execution(ending=Ending.EXITED, exit_code=code, output=output)
    assert (believed(passed, again, 77).ending is Ending.CUT_SHORT) is cut
    assert (believed(passed, again, None).ending is Ending.CUT_SHORT) is (code == 0), "any code but that of success"
