"""Attacks 25 and 31 on test scripts in JavaScript, under a real Node: candidates that end the process, swallow what
fails, wait for ever or replace what a script judges by. `add` is wrong on each of them."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.records import Ending, Execution, FileChange, SandboxJob, Test
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from tests.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")
RIGHT = "exports.add = (a, b) => a + b;\n"
WRONG = "exports.add = (a, b) => 5;\n"
REQUIRE = 'const assert = require("assert");\nconst { add } = require(process.cwd() + "/core.js");\n'
FORMS = {
    "assert": f"{REQUIRE}assert.strictEqual(add(2, 2), 4);\n",
    "promise": f"{REQUIRE}(async () => {{ assert.equal(await add(2, 2), 4); }})();\n",
    "chain": f"{REQUIRE}Promise.resolve(add(2, 2)).then((sum) => assert.equal(sum, 4)).then(() => process.exit(0));\n",
    "exit": f"{REQUIRE}if (add(2, 2) !== 4) process.exit(1);\nprocess.exit(0);\n",
    "exit code": f"{REQUIRE}if (add(2, 2) !== 4) process.exitCode = 1;\n",
    "throw": f"{REQUIRE}if (add(2, 2) !== 4) throw new Error('wrong');\n",
    "called": f"{REQUIRE}const {{ call = (f) => f() }} = require(process.cwd() + '/core.js');\n"
    "call(() => assert.strictEqual(add(2, 2), 4));\n",
    "by a function": f"#!/usr/bin/env node\n{REQUIRE}let n = 0;\n"
    "function check(sum, a, b) { n += 1; assert.strictEqual(add(a, b), sum); }\ncheck(4, 2, 2); check(3, 1, 2);\n",
    "by a function that declares nothing": f"{REQUIRE}count = 0;\n"
    "function check(a, b, sum) { count += 1; assert.equal(add(a, b), sum); }\ncheck(2, 2, 4);\n",
    "includes": f"{REQUIRE}assert.ok([4].includes(add(2, 2)));\n",
    "json": f"{REQUIRE}assert.strictEqual(JSON.stringify(add(2, 2)), '4');\n",
    "begins": f"{REQUIRE}assert.ok(String(add(2, 2)).startsWith('4'));\n",
}
ATTACKS = {
    "asks what its caller was called with": (
        "by a function",
        "exports.add = function add() { const by = add.caller; return by ? by.arguments[0] : 5; };",
    ),
    "exits at import": ("assert", "process.exit(0);"),
    "exits when it is called": ("assert", "exports.add = () => process.exit(0);"),
    "exits later": ("promise", "exports.add = () => new Promise(() => setTimeout(() => process.exit(0), 5));"),
    "exits later by nobody": (
        "promise",
        "exports.add = () => new Promise(() => setTimeout(process.exit.bind(process, 0), 5));",
    ),
    "exits beneath": ("assert", "process.reallyExit(0);"),
    "says that it exits": ("assert", "process.emit('exit', 0); process.reallyExit(0);"),
    "says so from a timer": (
        "promise",
        "exports.add = () => new Promise(() => { setTimeout(process.emit.bind(process, 'exit', 0), 5);\n"
        "setTimeout(process.reallyExit.bind(process, 0), 9); });",
    ),
    "says so from a promise": (
        "promise",
        "exports.add = () => new Promise(() => { Promise.resolve().then(process.emit.bind(process, 'exit', 0))\n"
        ".then(process.reallyExit.bind(process, 0)); });",
    ),
    "exits by code of a string": ("assert", "new Function('process.exit(0)')();"),
    "exits by evaluated code": ("assert", "(0, eval)('process.exit(0)');"),
    "waits for ever": ("promise", "exports.add = () => new Promise(() => {});"),
    "another code at the exit": ("throw", f"{WRONG}process.on('exit', () => {{ process.exitCode = 0; }});"),
    "another code that the script set": (
        "exit code",
        f"{WRONG}process.on('exit', () => {{ process.exitCode = 0; }});",
    ),
    "swallows the exception": ("assert", f"{WRONG}process.on('uncaughtException', () => {{}});"),
    "swallows the rejection": ("promise", f"{WRONG}process.on('unhandledRejection', () => {{}});"),
    "captures the exception": ("assert", f"{WRONG}process.setUncaughtExceptionCaptureCallback(() => {{}});"),
    "asserts nothing": ("assert", f"{WRONG}require('assert').strictEqual = () => {{}};"),
    "asserts nothing, by a definition": (
        "assert",
        f"{WRONG}Object.defineProperty(require('assert'), 'strictEqual', {{ value: () => {{}} }});",
    ),
    "stacks that lie": (
        "assert",
        "Error.prepareStackTrace = () => []; Error.stackTraceLimit = 0; process.exit(0);",
    ),
    "stacks of another class": (
        "assert",
        "class Other extends Error {}\ntry { globalThis.Error = Other; } catch (_) {}\nprocess.exit(0);",
    ),
    "methods that lie": (
        "assert",
        "Array.prototype.some = () => false; Array.prototype.every = () => true; Array.prototype.map = () => [];\n"
        "Array.prototype[Symbol.iterator] = function* () {}; String.prototype.slice = () => process.argv[1];\n"
        "String.prototype.replace = () => process.argv[1]; RegExp.prototype.exec = () => null;\n"
        "Reflect.apply = () => true; process.exit(0);",
    ),
    "looks into the heap": (
        "assert",
        "const { Readable } = require('stream');\nrequire('v8').getHeapSnapshot().destroy(); exports.add = () => 4;",
    ),
    "swallows by a call": ("called", f"{WRONG}exports.call = (f) => {{ try {{ f(); }} catch (_) {{}} }};"),
    "another `includes`": ("includes", f"{WRONG}Array.prototype.includes = () => true;"),
    "another `stringify`": ("json", f"{WRONG}JSON.stringify = () => '4';"),
    "another `startsWith`": (
        "begins",
        f"{WRONG}Object.defineProperty(String.prototype, 'startsWith', {{ value: () => true }});",
    ),
    "guesses": (
        "assert",
        "for (let n = 3; n < 64; n++) try { require('fs').writeSync(n, '\\n' + '0'.repeat(32) + ' 0 1\\n'); } "
        "catch (_) {}\nprocess.exit(0);",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    if shutil.which("node") is None:
        pytest.skip("no node")
    tree = tmp_path_factory.mktemp("tree")
    (tree / "core.js").write_text("exports.add = (a, b) => 0;\n")
    (tree / "tests").mkdir()
    (tree / "tests/golden.txt").write_text("4")
    (tree / "tests/want.json").write_text('{"sum": 4}')
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=2), tree)
    yield opened
    await opened.close()


async def judged(sandbox: ProcessSandbox, core: str, text: str, name: str = "test_it.js") -> Execution:
    changes = (FileChange(path="core.js", text=core),) if core else ()
    return await sandbox.run(SandboxJob(changes=changes, test=Test(path=name, text=text), timeout=PATIENCE))


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_25_a_script_of_node_proves_its_end(attack: str, sandbox: ProcessSandbox) -> None:
    form, core = ATTACKS[attack]
    found = await judged(sandbox, core, FORMS[form])
    assert not found.passed, found


@pytest.mark.parametrize("form", FORMS)
async def test_a_right_candidate_passes_in_each_form(form: str, sandbox: ProcessSandbox) -> None:
    assert (await judged(sandbox, RIGHT, FORMS[form])).passed
    found = await judged(sandbox, WRONG, FORMS[form])
    assert (found.ending, found.exit_code) == (Ending.EXITED, 1), found
    assert not (await judged(sandbox, "", FORMS[form])).passed


HONEST = {
    "test_it.mjs": """
        import assert, { deepStrictEqual } from "node:assert/strict";
        import { readFileSync } from "node:fs";
        import { createRequire } from "node:module";
        const { add } = createRequire(import.meta.url)(process.cwd() + "/core.js");
        assert.equal(await Promise.resolve(add(2, 2)), 4);
        deepStrictEqual([add(1, 1)], [2]);
        assert.throws(() => { throw new TypeError("no"); }, TypeError);
        assert.ok(readFileSync(new URL(import.meta.url)).length > 9);
        """,
    "own.js": """
        const assert = require("assert");
        const { add } = require(process.cwd() + "/core.js");
        let failed = 0;
        function test(name, run) { try { run(); } catch (error) { failed += 1; console.error(name, error); } }
        test("sums", () => assert(add(2, 2) === 4));
        test("throws", () => assert.throws(() => null.x, /null/));
        setTimeout(() => process.exit(failed ? 1 : 0), 5);
        """,
    "node-test.js": """
        const test = require("node:test");
        const assert = require("node:assert");
        const { add } = require(process.cwd() + "/core.js");
        test("sums", async (t) => {
          await t.test("small", () => assert.strictEqual(add(2, 2), 4));
        });
        """,
    "names.js": """
        const path = require("path");
        if (require.main !== module || path.basename(__filename) !== "names.js" || process.argv.length !== 2) throw 1;
        if (process.stdin.read() !== null || new Error("x").stack.split("\\n")[0] !== "Error: x") throw 2;
        """,
}


@pytest.mark.parametrize("name", HONEST)
async def test_honest_scripts_of_node_pass(name: str, sandbox: ProcessSandbox) -> None:
    found = await judged(sandbox, RIGHT, HONEST[name], name)
    assert found.passed, found


async def test_a_candidate_that_tries_a_callback_again_keeps_the_proof(sandbox: ProcessSandbox) -> None:
    """And one that adds a method to what all texts have."""
    again = "exports.again = (f) => { for (;;) { try { return f(); } catch (_) { /* once more */ } } };\n"
    core = f"{RIGHT}{again}String.prototype.shout = function () {{ return this.toUpperCase(); }};\n"
    script = f"{REQUIRE}const {{ again }} = require(process.cwd() + '/core.js');\nlet n = 0;\n"
    script += "again(() => { n += 1; assert.strictEqual(n, 3); });\nassert.strictEqual('a'.shout(), 'A');\n"
    assert (await judged(sandbox, core, script)).passed


CALLS = f"{RIGHT}exports.sum = (a, b, done) => DONE;\n"
CALLED_BACK = f"{REQUIRE}const {{ sum }} = require(process.cwd() + '/core.js');\n"


@pytest.mark.parametrize("done", ["done(null, a + b)", "setTimeout(done, 2, null, a + b)"])
@pytest.mark.parametrize(
    "check", ["assert.equal(found, 4);", "assert.ok(found === 4);", "if (found !== 4) process.exit(1);"]
)
async def test_a_script_may_end_itself_where_the_candidate_calls_it_back(
    done: str, check: str, sandbox: ProcessSandbox
) -> None:
    script = f"{CALLED_BACK}sum(2, 2, (error, found) => {{ {check} process.exit(0); }});\n"
    assert (await judged(sandbox, CALLS.replace("DONE", done), script)).passed
    assert not (await judged(sandbox, CALLS.replace("DONE", done.replace("a + b", "5")), script)).passed


async def test_attack_25_a_candidate_that_calls_back_too_early_proves_nothing(sandbox: ProcessSandbox) -> None:
    script = f"{CALLED_BACK}assert.ok(true);\nsum(1, 1, () => process.exit(0));\nassert.equal(add(2, 2), 4);\n"
    found = await judged(sandbox, f"{WRONG}exports.sum = (a, b, done) => done();\n", script)
    assert not found.passed, found


@pytest.mark.parametrize(
    "mock", ["Math.random = () => 0.5;", "require('node:test').mock.method(Math, 'random', () => 0.5);"]
)
async def test_a_script_may_replace_a_builtin_and_leave_it(mock: str, sandbox: ProcessSandbox) -> None:
    core = "exports.add = () => Math.random();\n"
    script = f"{REQUIRE}{mock}\nassert.equal(add(), 0.5);\n"
    assert (await judged(sandbox, core, script)).passed


@pytest.fixture
def native(tmp_path: Path) -> Path:
    """A tree with a package that has a part in C."""
    if shutil.which("node") is None or shutil.which("gcc") is None:
        pytest.skip("no node, or no C compiler")
    addon = tmp_path / "tree/node_modules/fast/fast.node"
    addon.parent.mkdir(parents=True)
    source = "void *napi_register_module_v1(void *environment, void *exports) { return exports; }"
    compiling = ["gcc", "-x", "c", "-shared", "-fPIC", "-o", str(addon), "-"]
    subprocess.run(compiling, input=source, text=True, check=True)
    (tmp_path / "tree/core.js").write_text("exports.add = () => 0;\n")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("core", "honest"),
    [
        ("require('./node_modules/fast/fast.node');", True),
        ("process.dlopen({ exports: {} }, require.resolve('./node_modules/fast/fast.node'));", False),
        ("require('fs').cpSync('node_modules/fast/fast.node', 'new.node');\nrequire('./new.node');", False),
    ],
)
async def test_a_candidate_may_load_an_addon_that_was_there(core: str, honest: bool, native: Path) -> None:
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), native)
    try:
        assert (await judged(opened, f"{core}\n{RIGHT}", FORMS["assert"])).passed == honest
    finally:
        await opened.close()
