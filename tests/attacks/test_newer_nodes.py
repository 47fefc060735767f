"""Attack 25 on test scripts in JavaScript by what Node 22 to 26 brought: candidates that read memory, skip the test in
which they run, or replace what newer classes of the language say. `add` is wrong on each of these candidates."""

import shutil
import subprocess

import pytest

from bot.sandbox.process import ProcessSandbox
from tests.attacks.test_node_scripts import REQUIRE, RIGHT, WRONG, judged, sandbox

__all__ = ["sandbox"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
IMPORT = (
    'import { createRequire } from "node:module";\n'
    'const { add } = createRequire(import.meta.url)(process.cwd() + "/core.js");\n'
)
TESTS = f'const {{ test }} = require("node:test");\n{REQUIRE}'
CLASS = "const assert = new Assert({ diff: 'full' });\nassert.equal(add(2, 2), 4);\n"
# The first Node that has what the script uses, and the script's name.
FORMS = {
    "assert": (12, "it.js", f"{REQUIRE}assert.strictEqual(add(2, 2), 4);\n"),
    "module": (12, "it.mjs", f'import assert from "node:assert";\n{IMPORT}assert.equal(add(2, 2), 4);\n'),
    "module with a first line of its own": (
        12,
        "it.mjs",
        f'#!/usr/bin/env node\nimport assert from "node:assert";\n{IMPORT}assert.equal(add(2, 2), 4);\n',
    ),
    "named imports": (
        12,
        "it.mjs",
        f'import {{ strictEqual, ok as good }} from "node:assert";\n{IMPORT}good(add);\nstrictEqual(add(2, 2), 4);\n',
    ),
    "its own main": (
        24,
        "it.mjs",
        f'import assert from "node:assert";\n{IMPORT}if (import.meta.main) assert.equal(add(2, 2), 4);\n',
    ),
    "numbers for people": (
        16,
        "it.js",
        f"{REQUIRE}assert.equal(new Intl.NumberFormat('en').format(add(2, 2)), '4');\n",
    ),
    "for await": (
        12,
        "it.js",
        f"{REQUIRE}async function* all() {{ yield add(2, 2); }}\nassert.ok(add);\n"
        "(async () => { for await (const one of all()) assert.equal(one, 4); })();\n",
    ),
    "every of an iterator": (22, "it.js", f"{REQUIRE}assert.ok([add(2, 2)].values().every((one) => one === 4));\n"),
    "map of an iterator": (
        22,
        "it.js",
        f"{REQUIRE}assert.ok(add);\nfor (const one of [2].values().map((n) => add(n, n))) assert.equal(one, 4);\n",
    ),
    "dates": (
        26,
        "it.js",
        f"{REQUIRE}const day = Temporal.PlainDate.from('2024-01-01');\n"
        "assert.ok(day.add({ days: add(2, 2) }).equals('2024-01-05'));\n",
    ),
    "a test": (20, "it.js", f"{TESTS}test('sums', () => {{ assert.strictEqual(add(2, 2), 4); }});\n"),
    "a test found late": (
        20,
        "it.js",
        f"{REQUIRE}const {{ test }} = require('node:test');\n"
        "test('sums', () => { assert.strictEqual(add(2, 2), 4); });\n",
    ),
    "a test's assertions": (
        22,
        "it.js",
        f"{TESTS}assert.ok(add);\ntest('sums', (t) => {{ t.plan(1); t.assert.strictEqual(add(2, 2), 4); }});\n",
    ),
    "assertions of a class": (
        24,
        "it.js",
        'const { Assert } = require("node:assert");\n'
        f'const {{ add }} = require(process.cwd() + "/core.js");\n{CLASS}',
    ),
    "assertions of a class, imported": (24, "it.mjs", f'import {{ Assert }} from "node:assert";\n{IMPORT}{CLASS}'),
    "a database": (
        24,
        "it.js",
        f'const {{ DatabaseSync }} = require("node:sqlite");\n{REQUIRE}const base = new DatabaseSync(":memory:");\n'
        "assert.equal(base.prepare('select ? as sum').get(add(2, 2)).sum, 4);\n",
    ),
    "types": (22, "it.cts", f"{REQUIRE}assert.strictEqual(add(2, 2), 4 as number);\n"),
    "types in modules": (
        22,
        "it.mts",
        'const assert = (await import("node:assert")).default;\n'
        'const { add } = await import(process.cwd() + "/core.js");\n'
        "assert.strictEqual(add(2, 2), 4 as number);\n",
    ),
    "a function with types": (
        22,
        "it.cts",
        f"{REQUIRE}const check = (sum: number): void => {{ assert.strictEqual(sum, 4); }};\n"
        "[2].forEach((a) => check(add(a, 2, check)));\n",
    ),
}
READ = "Number(/add\\(2, 2\\), (\\d)/.exec(require('fs').readFileSync(process.argv[1], 'utf8'))[1])"
NOTHING = "() => ({ done: true })"
CONTEXT = "exports.add = () => {{ require('node:test').getTestContext().{}(); return 5; }};"
ATTACKS = {
    "calls any function": ("assert", f"{RIGHT}require('node:ffi').dlopen(null, {{}});"),
    "opens a library": ("assert", f"{RIGHT}new (process.getBuiltinModule('node:ffi').DynamicLibrary)('libc.so.6');"),
    "reads memory": ("module", f"{RIGHT}const {{ toBuffer }} = require('node:ffi');\ntoBuffer(0n, 0);"),
    "loads a library into a database": (
        "assert",
        f"{RIGHT}const {{ DatabaseSync }} = require('node:sqlite');\n"
        "try { new DatabaseSync(':memory:', { allowExtension: true }).loadExtension('x'); } catch (_) {}",
    ),
    "captures the exception": ("assert", f"{WRONG}process.addUncaughtExceptionCaptureCallback(() => true);"),
    "reads a script that is started": ("its own main", f"exports.add = () => {READ};"),
    "numbers that say 4": (
        "numbers for people",
        f"{WRONG}Object.defineProperty(Intl.NumberFormat.prototype, 'format', {{ value: () => '4' }});",
    ),
    "nothing to wait for": (
        "for await",
        f"{WRONG}Object.getPrototypeOf((async function* () {{}}).prototype).next = async {NOTHING};",
    ),
    "another `every`": (
        "every of an iterator",
        f"{WRONG}Object.getPrototypeOf(Object.getPrototypeOf([].values())).every = () => true;",
    ),
    "nothing to map": (
        "map of an iterator",
        f"{WRONG}Object.getPrototypeOf([].values().map((one) => one)).next = {NOTHING};",
    ),
    "all dates are one": ("dates", f"{WRONG}Temporal.PlainDate.prototype.equals = () => true;"),
    "makes the test a thing to do": ("a test", CONTEXT.format("todo")),
    "skips the test": ("a test", CONTEXT.format("skip")),
    "tests nothing": ("a test found late", f"{WRONG}require('node:test').test = () => {{}};"),
    "registers an assertion": (
        "a test's assertions",
        f"{WRONG}require('node:test').assert.register('strictEqual', () => {{}});",
    ),
    "asserts nothing by a class": (
        "assertions of a class",
        f"{WRONG}require('assert').Assert.prototype.strictEqual = () => {{}};",
    ),
    "asserts nothing by a class that is imported": (
        "assertions of a class, imported",
        f"{WRONG}require('assert').Assert.prototype.strictEqual = () => {{}};",
    ),
    "a database that says 4": (
        "a database",
        f"{WRONG}require('node:sqlite').DatabaseSync.prototype.prepare = () => ({{ get: () => ({{ sum: 4 }}) }});",
    ),
    "reads its caller with types": (
        "types",
        "exports.add = function () { return Number(/add\\(2, 2\\), (\\d)/.exec(exports.add.caller.toString())[1]); };",
    ),
    "reads a script with types": ("types in modules", f"exports.add = () => {READ};"),
    "reads a function with types": (
        "a function with types",
        "exports.add = (a, b, f) => Number(/sum, (\\d)/.exec(String(f))[1]);",
    ),
}


@pytest.fixture(scope="module")
def major() -> int:
    if shutil.which("node") is None:
        pytest.skip("no node")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.removeprefix("v").split(".")[0])


def scripted(form: str, major: int) -> tuple[str, str]:
    """The script's name and text; skips the test where the Node is older than what the script uses."""
    first, name, text = FORMS[form]
    if major < first:
        pytest.skip(f"Node {major} is older than {first}")
    return name, text


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_25_what_newer_nodes_offer_forges_nothing(
    attack: str, sandbox: ProcessSandbox, major: int
) -> None:
    form, core = ATTACKS[attack]
    name, text = scripted(form, major)
    found = await judged(sandbox, core, text, name)
    assert not found.passed, found


@pytest.mark.parametrize("form", FORMS)
async def test_a_right_candidate_passes_in_each_newer_form(form: str, sandbox: ProcessSandbox, major: int) -> None:
    name, text = scripted(form, major)
    found = await judged(sandbox, RIGHT, text, name)
    assert found.passed, found
